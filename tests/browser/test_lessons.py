"""The lessons as pages without a kernel: every lab, tour and prediction is used once, and the central drag of each
lesson gives the number that its text states."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LESSONS = sorted(text.stem for text in (ROOT / "notebooks" / "src").glob("0*.py"))
pictures = "lab => [...lab.querySelectorAll('canvas')].map(c => c.toDataURL()).join()"


@pytest.fixture(scope="module")
def pages(tools_site, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    for name in LESSONS:
        text = ROOT / "notebooks" / "src" / f"{name}.py"
        (folder / f"{name}.html").write_text(tools_site.lesson_page(text, LESSONS), encoding="utf-8")
    return folder


def open_page(page, pages, name, width=1440):
    page.set_viewport_size({"width": width, "height": 900})
    page.context.set_offline(True)
    page.goto((pages / f"{name}.html").as_uri())
    page.wait_for_selector(".fm-lab[data-drawn]")


def settle(page):
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def in_source(name: str, call: str) -> int:
    text = (ROOT / "notebooks" / "src" / f"{name}.py").read_text("utf-8")
    return len(re.findall(rf"^(?:\w+ = )?{call}\(", text, re.MULTILINE))


@pytest.mark.parametrize("name", LESSONS)
def test_every_lab_and_tour_moves(page, pages, name):
    open_page(page, pages, name)
    labs = page.locator(".fm-lab[data-drawn]")
    assert labs.count() == in_source(name, "FlowLab") >= 1
    for lab in labs.all():
        lab.scroll_into_view_if_needed()
        settle(page)
        before = lab.evaluate(pictures)
        forward, sliders = lab.get_by_role("button", name="next"), lab.get_by_role("slider")
        if forward.count() and forward.is_enabled():
            forward.click()
        elif sliders.count():
            low, high = (sliders.first.get_attribute(end) for end in ("min", "max"))
            sliders.first.fill(low if sliders.first.input_value() != low else high)
        else:
            lab.locator(".fm-handle").first.press("ArrowUp")
        settle(page)
        assert lab.evaluate(pictures) != before
        lab.get_by_role("button", name="undo").click()
    assert page.locator(".fm-refused", has_text=re.compile(r"\w")).count() == 0 and page.errors == []


@pytest.mark.parametrize("name", LESSONS)
def test_every_prediction_answers_once_it_is_answered(page, pages, name):
    open_page(page, pages, name)
    asked = page.locator(".fm-predict")
    assert asked.count() == in_source(name, "predict") >= 2
    for question in asked.all():
        assert question.locator(".fm-told").inner_text() == ""
        radios = question.get_by_role("radio")
        if radios.count():
            radios.first.check()
        question.get_by_role("button", name="I say so").click()
        assert len(question.locator(".fm-told").inner_text()) > 40
    assert page.errors == []


def readout(page) -> str:
    settle(page)
    return page.locator(".fm-lab .fm-readout").first.inner_text()


def stop(page, number: int) -> str:
    """What the first lab says at this stop of its tour."""
    lab = page.locator(".fm-lab").first
    back, forward = (lab.get_by_role("button", name=name) for name in ("back", "next"))
    while back.is_enabled():
        back.click()
    for _ in range(number):
        forward.click()
    return readout(page)


def numbers(text: str) -> list[float]:
    return [float(n) for n in re.findall(r"-?\d+\.\d+", text)]


def test_what_the_box_gains_is_what_flows_in_until_a_drift_is_added(page, pages):
    open_page(page, pages, "01_continuity_equation")
    for t in ("0.1", "0.5", "0.9"):
        page.locator(".fm-lab").first.get_by_role("slider", name="t", exact=True).fill(t)
        gains, flux = numbers(readout(page))[-2:]
        assert gains == pytest.approx(flux, abs=2e-3) and "differ" not in readout(page)
    gains, flux = numbers(stop(page, 2))[-2:]  # the wrong twin
    assert abs(gains - flux) > 0.05 and "They differ" in readout(page)


def test_at_the_end_the_pairs_vary_by_two(page, pages):
    """Lesson 02 says: near t = 1 what is unknown is the noise, variance 1 in each dimension. Wrong twin: t = 0.3."""
    open_page(page, pages, "02_cfm_theorem")
    variance = {}
    for t in ("0.3", "0.98"):
        page.locator(".fm-lab").first.get_by_role("slider", name="t", exact=True).fill(t)
        variance[t] = numbers(re.search(r"removes here: (.*)", readout(page))[0])[0]
    assert variance["0.98"] == pytest.approx(2, abs=0.6) and variance["0.3"] > 3


def test_matched_paths_are_one_flow(page, pages):
    """Lesson 03: with matched ratios VP cosine stands on rectified flow; at the same t it does not."""
    open_page(page, pages, "03_paths")
    apart = numbers(stop(page, 0))[0]
    assert apart > 0.02 and numbers(stop(page, 1))[0] == 0


def test_a_step_of_a_higher_order_lands_nearer(page, pages):
    """Lesson 05, the tour of its first lab: Euler, midpoint, Heun, RK4 from the same dot."""
    open_page(page, pages, "05_ode_solvers")
    errors = [numbers(readout_of_stop)[-1] for readout_of_stop in (stop(page, k) for k in range(4))]
    assert errors[0] > 2 * max(errors[1:]) and errors[3] == min(errors)


def test_midpoint_wins_with_eight_calls_and_rk4_with_thirty_two(page, pages):
    open_page(page, pages, "05_ode_solvers")
    lab = page.locator(".fm-lab").nth(1)
    lab.scroll_into_view_if_needed()
    settle(page)
    same = re.compile(r"(euler|midpoint|heun|rk4) ([\d.]+)")
    few = dict(same.findall(lab.locator(".fm-readout").inner_text()))
    lab.get_by_role("button", name="next").click()
    settle(page)
    many = dict(same.findall(lab.locator(".fm-readout").inner_text()))
    few, many = ({name: float(value.rstrip(".")) for name, value in found.items()} for found in (few, many))
    assert max(few["midpoint"], few["heun"]) < min(few["rk4"], few["euler"]) and many["rk4"] == min(many.values())


def test_an_error_of_the_noise_grows_by_one_over_t(page, pages):
    """Lesson 06: on rectified flow an error of 0.1 in the noise is 0.1 / t in the velocity."""
    open_page(page, pages, "06_conversions")
    stop(page, 1)
    for t in ("0.2", "0.5"):
        page.locator(".fm-lab").first.get_by_role("slider", name="t", exact=True).fill(t)
        said = readout(page)
        found = float(re.search(r"([\d.]+) in (?:u|v|the velocity)", said)[1])
        assert found == pytest.approx(0.1 / float(t), abs=6e-3), said


def test_one_euler_step_lands_on_the_mean_of_the_data(page, pages):
    """Lesson 07: from t = 0 to 1; the mean of the eight clumps is 0. Wrong twin: where the flow leads."""
    open_page(page, pages, "07_reflow")
    flow, euler = numbers(readout(page))[2:4], numbers(readout(page))[4:6]
    assert max(map(abs, euler)) < 0.011 and max(map(abs, flow)) > 1


def test_guidance_and_the_tilted_density_have_other_widths(page, pages):
    """Lesson 08: q = 0.5 in S = 1 at scale 3: 0.125 and 0.32."""
    open_page(page, pages, "08_guidance")
    lab = page.locator(".fm-lab").nth(1)
    lab.scroll_into_view_if_needed()
    settle(page)
    made, tilted = numbers(re.search(r"end with width (.*)", lab.locator(".fm-readout").inner_text())[0])[:2]
    assert made == pytest.approx(0.125, abs=0.01) and tilted == pytest.approx(0.316, abs=0.01)


@pytest.mark.parametrize("name", LESSONS)
def test_a_phone_shows_the_whole_lab(page, pages, name):
    open_page(page, pages, name, width=375)
    ends = "() => [...document.querySelectorAll('.fm-lab, .fm-predict')].map(e => e.getBoundingClientRect().right)"
    widest = max(page.evaluate(ends))
    assert widest <= 376 and page.errors == []
