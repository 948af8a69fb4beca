"""The lab in a browser, without a kernel: what the hand and the keys change, what is computed, what is refused."""

import math
import re

import pytest
import torch
from lab_page import CENTRE, ON_A_LINE, TOUR, html, middle, picture, show, value

from fmlib import GaussianMixture, rectified_flow_path, three_gaussians
from fmlib.page import FlowLab
from fmlib.page.lab import as_json


def test_a_component_follows_the_hand_and_python_hears_at_the_end(page):
    show(page)
    before, x, y = picture(page), *middle(page, CENTRE)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y + 30, steps=5)
    assert picture(page) != before and page.evaluate("model.saves") == 0
    page.mouse.up()
    assert page.evaluate("model.saves") == 1
    moved = torch.tensor(value(page, "mixture")["means"][0]) - three_gaussians().means[0]
    limits = value(page, "_meta")["limits"]
    scale = (limits[1] - limits[0]) / page.locator(".fm-lab canvas").bounding_box()["width"]
    assert torch.allclose(moved.double(), torch.tensor([60 * scale, -30 * scale], dtype=torch.float64), atol=0.02)
    page.get_by_role("button", name="undo").click()
    assert value(page, "mixture")["means"] == as_json(three_gaussians())["means"] and picture(page) == before
    assert page.errors == []


def test_the_keys_do_what_the_hand_does(page):
    show(page)
    start = value(page, "mixture")
    page.locator(CENTRE).focus()
    for key in ("ArrowRight", "ArrowUp", "Shift+ArrowLeft", "+", "]"):
        page.keyboard.press(key)
    now = value(page, "mixture")
    assert now["means"][0] == pytest.approx([start["means"][0][0] + 0.09, start["means"][0][1] + 0.1])
    assert now["stds"][0] == pytest.approx(1.1 * start["stds"][0]) and now["weights"][0] > start["weights"][0]
    assert page.locator(CENTRE).get_attribute("aria-label") == "component 1, centre"
    page.keyboard.press("Delete")
    assert len(value(page, "mixture")["means"]) == 2 and page.locator(".fm-handle.fm-centre").count() == 2
    page.get_by_role("button", name="add a component").click()
    assert len(value(page, "mixture")["means"]) == 3
    page.get_by_role("button", name="reset").click()
    assert value(page, "mixture") == start
    page.get_by_role("slider", name="t", exact=True).focus()
    page.keyboard.press("End")
    assert value(page, "t") == 1


def test_the_probe_says_the_velocity_and_the_theorem(page):
    """The field that it names is fmlib's; the mean over the pairs agrees within its error. Wrong twin: another t."""
    show(page, layers=["density", "probe"])
    lab = FlowLab(three_gaussians(), "x")
    for x, y, t in ((0.5, 0.5, 0.5), (-1.0, 0.3, 0.3), (1.2, -0.7, 0.8)):
        page.evaluate("([probe, t]) => { model.tell('probe', probe); model.tell('t', t); }", [[x, y], t])
        page.wait_for_timeout(80)
        words = page.locator(".fm-readout").inner_text()
        mean, field = (torch.tensor([float(n) for n in pair.split(",")]) for pair in re.findall(r"\((.*?)\)", words))
        spread = float(re.search(r"here: ([\d.]+)\.", words)[1])
        exact = lab.mixture.velocity(lab.flow_path, t, torch.tensor([[x, y]], dtype=torch.float64))[0]
        variance = lab.mixture.velocity_var(lab.flow_path, t, torch.tensor([[x, y]], dtype=torch.float64)).item()
        assert torch.allclose(field.double(), exact, atol=0.006)
        assert (mean - exact).norm() < 4 * (variance / 400) ** 0.5 + 0.01
        assert spread == pytest.approx(variance, rel=0.3)
        twin = lab.mixture.velocity(lab.flow_path, t - 0.2, torch.tensor([[x, y]], dtype=torch.float64))[0]
        assert not torch.allclose(field.double(), twin, atol=0.006)


def test_one_dimension_is_a_line_over_t(page):
    """Data at the right edge, the probe anywhere between: its arrow is the slope. Wrong twin: another time."""
    mixture = GaussianMixture(torch.tensor([[-2.0], [1.0]], dtype=torch.float64), torch.tensor([0.3, 0.4]).double())
    show(page, mixture=mixture, layers=["density", "probe"], controls=ON_A_LINE)
    x, y = middle(page, CENTRE)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 40, y - 30, steps=4)
    page.mouse.up()
    assert value(page, "mixture")["means"][0][0] > -2 and len(value(page, "mixture")["means"][0]) == 1
    page.get_by_role("button", name="undo").click()
    page.locator(".fm-handle.fm-probe").focus()
    for key in ("ArrowRight", "ArrowUp"):
        page.keyboard.press(key)
    t, probe = value(page, "t"), value(page, "probe")
    assert t == pytest.approx(0.6) and probe == [pytest.approx(0.6)]
    page.wait_for_timeout(80)
    field = float(re.search(r"the field is \(([-\d.]+)\)", page.locator(".fm-readout").inner_text())[1])
    at = lambda t: mixture.velocity(rectified_flow_path(), t, torch.tensor([probe], dtype=torch.float64)).item()
    assert field == pytest.approx(at(t), abs=0.006) and field != pytest.approx(at(t - 0.2), abs=0.006)
    assert page.errors == []


def test_a_click_puts_the_probe_or_launches(page):
    show(page)
    page.locator(".fm-lab canvas").click(position={"x": 300, "y": 200})
    assert value(page, "probe") != [0.5, 0.5]
    show(page, layers=["density", "field"])
    before = picture(page)
    page.locator(".fm-lab canvas").click(position={"x": 300, "y": 200})
    assert len(value(page, "launched")) == 1 and picture(page) != before
    page.get_by_role("button", name="clear trajectories").click()
    assert value(page, "launched") == [] and picture(page) == before


def place_of(page, mean):
    """Where a point of the plane is on the screen."""
    left, right, bottom, top = value(page, "_meta")["limits"]
    box = page.locator(".fm-scene canvas").bounding_box()
    across, down = (mean[0] - left) / (right - left), (top - mean[1]) / (top - bottom)
    return box["x"] + across * box["width"], box["y"] + down * box["height"]


def test_a_crowd_is_grabbed_without_handles(page):
    """The nearest component within reach. Wrong twins: a hand far from all, a click, a hand that draws."""
    angle = torch.arange(16, dtype=torch.float64) * math.tau / 16
    crowd = GaussianMixture(2 * torch.stack([angle.cos(), angle.sin()], 1), 0.1)
    show(page, mixture=crowd, layers=["density", "field"], launched=[])
    assert page.locator(".fm-handle").count() == 0
    begin, before = value(page, "mixture"), picture(page)

    def drag(x, y, dx, dy):
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + dx, y + dy, steps=4)
        page.mouse.up()
        page.wait_for_timeout(50)
        return value(page, "mixture")["means"]

    x, y = place_of(page, begin["means"][4])
    means = drag(x + 8, y - 6, 30, 12)
    left, right, _, _ = value(page, "_meta")["limits"]
    scale = (right - left) / page.locator(".fm-scene canvas").bounding_box()["width"]
    moved = [now - old for now, old in zip(means[4], begin["means"][4], strict=True)]
    assert moved == pytest.approx([30 * scale, -12 * scale], abs=0.01)  # it does not jump to the pointer
    assert [m for k, m in enumerate(means) if k != 4] == [m for k, m in enumerate(begin["means"]) if k != 4]
    assert value(page, "launched") == [] and page.evaluate("model.saves") == 1 and picture(page) != before
    page.get_by_role("button", name="undo").click()
    assert value(page, "mixture")["means"] == begin["means"] and picture(page) == before
    page.mouse.click(x, y)
    assert len(value(page, "launched")) == 1 and value(page, "mixture")["means"] == begin["means"]
    assert drag(*place_of(page, [0, 0]), 30, 12) == begin["means"]  # beyond reach of all
    page.get_by_role("button", name="draw").click()
    drawn = drag(x, y, 60, 0)
    assert len(drawn) < 16 and drawn[0] == pytest.approx(begin["means"][4], abs=0.02) and page.errors == []


def test_the_controls_and_the_tour(page):
    show(page, tour=TOUR)
    page.get_by_label("path").select_option("ve")
    page.get_by_label("solver").select_option("ddim")
    page.get_by_role("slider", name="steps").fill("0")
    assert (value(page, "path"), value(page, "solver"), value(page, "steps")) == ("ve", "ddim", 1)
    page.get_by_role("button", name="next").click()
    assert page.get_by_text("Now the probe.").is_visible()
    assert value(page, "layers") == ["probe"] and value(page, "t") == 0.5
    page.get_by_role("button", name="back").click()
    assert value(page, "t") == 0 and page.get_by_text("Here is the noise.").is_visible()
    assert page.errors == []


@pytest.mark.parametrize("path", ["rectified_flow", "vp_cosine", "vp_linear", "ve"])
@pytest.mark.parametrize("t", [0, 1])
def test_both_ends_of_every_path_are_drawn(page, path, t):
    show(page, path=path, t=t, noise=1.0)
    assert page.errors == [] and "NaN" not in page.locator(".fm-readout").inner_text()


def test_a_damaged_state_is_refused_with_a_message(page):
    show(page)
    good = value(page, "mixture")
    for bad, words in (
        ({"means": [[0, None]], "stds": [1], "weights": [1]}, "means"),
        ({"means": [[0, 0]], "stds": [-1], "weights": [1]}, "stds"),
        ({"means": [[0, 0]] * 2001, "stds": 1, "weights": [1] * 2001}, "2000"),
        ("<img src=x onerror=alert(1)>", "mixture"),
    ):
        page.evaluate("bad => model.tell('mixture', bad)", bad)
        assert words in page.locator(".fm-refused").inner_text()
        page.evaluate("good => model.tell('mixture', good)", good)
    assert page.locator(".fm-handle.fm-centre").count() == 3 and page.errors == []


def test_a_link_leads_to_a_state_and_a_hostile_one_nowhere(page):
    text = html()
    show(page, text=text)
    name = value(page, "_meta")["name"]
    for state, words in (
        ("%7B%22t%22%3A7%7D", "holds no state of this lab: t must be a finite number from 0 to 1, got 7"),
        ("%7Bnonsense", "holds no state of this lab"),
        ("%5B1%5D", "holds no state of this lab: state must be an object"),
        ("%7B%22mixture%22%3A%22%3Cimg%20src%3Dx%3E%22%7D", "holds no state of this lab: mixture must be"),
    ):
        page.goto("about:blank")
        show(page, f"#lab-{name}={state}", text=text, layers=["density"])
        assert page.evaluate("document.querySelector('.fm-lab').dataset.t") == "0.5"
        assert words in page.locator(".fm-refused").inner_text()
    page.goto("about:blank")
    show(page, f"#lab-{name}=%7B%22t%22%3A0.25%7D", text=text)
    page.wait_for_function("() => document.querySelector('.fm-lab').dataset.t === '0.25'")
    assert page.errors == [] and page.locator("img").count() == 0


def test_what_is_not_on_the_page_is_not_drawn(page):
    """JupyterLab builds a view before it shows it, and takes cells that are far away out of the page: no colours can be
    read there. The lab is built aside, and drawn when it comes."""
    text = html().replace('el: document.getElementById("here")', 'el: (window.aside = document.createElement("div"))')
    page.route("http://lab.test/", lambda route: route.fulfill(body=text, content_type="text/html"))
    page.goto("http://lab.test/")
    page.wait_for_function("() => window.close_lab")
    page.wait_for_timeout(200)
    assert page.errors == [] and page.evaluate("!aside.firstElementChild.dataset.drawn")
    page.evaluate("document.getElementById('here').append(aside)")
    page.wait_for_selector(".fm-lab[data-drawn]")
    assert page.errors == []


def test_a_narrow_window_and_the_end(page):
    page.set_viewport_size({"width": 375, "height": 700})
    show(page, tour=TOUR)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    page.evaluate("close_lab()")
    assert page.locator(".fm-lab").count() == 0 and page.errors == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_rule_of_accessibility_is_broken(page, theme):
    from axe_playwright_python.sync_playwright import Axe

    page.emulate_media(color_scheme=theme)
    show(page, tour=TOUR)
    found = Axe().run(page).response["violations"]
    assert [(v["id"], [n["html"][:80] for n in v["nodes"]]) for v in found] == []
