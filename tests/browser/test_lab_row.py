"""A row of paths in one lab: what each of them shows, and that all are one at the same signal-to-noise ratio."""

import json
import math
import re

import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from flow_cases import PATHS, ask
from lab_page import CENTRE, TOUR, html, middle, show, value

from fmlib import three_gaussians
from fmlib.page.lab import IN_A_ROW, as_json

pytestmark = pytest.mark.usefixtures("one_thread")
ROW = list(PATHS)
NAMES = ["rectified flow", "VP cosine", "VP linear", "VE"]
OPTIONS = {
    "row": ROW, "layers": IN_A_ROW["layers"], "controls": IN_A_ROW["controls"], "particles": 100, "trajectories": 10,
}  # fmt: skip
T = torch.tensor([0.05, 0.3, 0.5, 0.8, 0.99], dtype=torch.float64)


def settled(page):
    page.evaluate("async () => { for (let i = 0; i < 3; i++) await new Promise(requestAnimationFrame); }")


def pictures(page) -> list[str]:
    settled(page)
    return page.evaluate("() => [...document.querySelectorAll('.fm-scene canvas')].map((c) => c.toDataURL())")


def times(page) -> list[float]:
    settled(page)
    labels = page.locator("figcaption").all_inner_texts()
    assert [label.split(", t = ")[0] for label in labels] == NAMES
    return [float(label.split(", t = ")[1]) for label in labels]


def distances(page) -> list[float]:
    """What the readout says: how far the second to last path's particles are from those of the first."""
    settled(page)
    return [float(n) for n in re.findall(r"(\d\.\d+) \(", page.locator(".fm-readout").inner_text())]


def ratio(name, t) -> torch.Tensor:
    path, t = PATHS[name](), torch.as_tensor(t, dtype=torch.float64)
    return path.alpha(t) / path.sigma(t)


# --- the mathematics


@pytest.mark.parametrize("name", ROW)
def test_a_normalised_path_is_that_of_fmlib_divided(tab, name):
    """Its coefficients, and its derivatives by differences. Wrong twin: the path as it is."""
    body = """(flow, [name, ts]) => [flow.normalised(flow.makePath(name)), flow.makePath(name)].map((path) =>
      ["alpha", "sigma", "dAlpha", "dSigma", "halfDSigmaSq"].map((part) => ts.map((t) => path[part](t))))"""
    got, twin = (torch.tensor(part).double() for part in ask(tab, body, [name, T.tolist()]))
    path = PATHS[name]()
    of = lambda t: torch.stack([path.alpha(t), path.sigma(t)]) / torch.hypot(path.alpha(t), path.sigma(t))
    slopes = (of(T + 1e-6) - of(T - 1e-6)) / 2e-6
    want = torch.cat([of(T), slopes, of(T)[1:] * slopes[1:]])
    assert torch.allclose(got, want, rtol=1e-5, atol=1e-8)
    assert torch.allclose(twin, want, rtol=1e-5, atol=1e-8) == name.startswith("vp")


@pytest.mark.parametrize("name", ROW)
@pytest.mark.parametrize("t", [0.02, 0.3, 0.6, 0.97])
def test_the_time_of_a_ratio(tab, name, t):
    """alpha / sigma there is rectified flow's at t, or the nearest that the path has. Wrong twin: the same t."""
    body = "(flow, [name, angle]) => flow.timeAt(flow.makePath(name), angle)"
    want = ratio("rectified_flow", t)
    found = ask(tab, body, [name, math.atan(want)])
    ends = [ratio(name, end).item() for end in (0, 1)]
    assert 0 <= found <= 1 and ratio(name, found).item() == pytest.approx(min(max(want.item(), ends[0]), ends[1]))
    if name != "rectified_flow":
        assert ratio(name, t).item() != pytest.approx(want.item(), rel=1e-2)


# --- the pictures


def test_at_one_ratio_all_clouds_are_one(page):
    """The number falls to 0.00. Wrong twin: the same time for all."""
    show(page, **OPTIONS, t=0.35)
    button = page.get_by_role("button", name="match the signal-to-noise ratio")
    assert times(page) == [0.35] * 4 and button.get_attribute("aria-pressed") == "false"
    apart, before = distances(page), pictures(page)
    assert apart[0] > 0.02 and min(apart[1:]) > 0.05
    button.click()
    found = times(page)
    for name, t in zip(ROW[1:], found[1:], strict=True):
        assert ratio(name, t).item() == pytest.approx(ratio(ROW[0], 0.35).item(), rel=0.07)  # t to two digits
    cosine, linear, ve = distances(page)
    assert value(page, "matched") is True and button.get_attribute("aria-pressed") == "true"
    assert cosine == 0 and linear <= 0.01 and ve <= 0.02
    after = pictures(page)
    assert after[0] == before[0] and all(a != b for a, b in zip(after[1:], before[1:], strict=True))
    page.get_by_role("button", name="undo").click()
    assert value(page, "matched") is False and distances(page) == apart and page.errors == []


def test_the_distances_are_those_of_the_particles(tab):
    """The readout's mean against the particles themselves, whose ends are the data's: solved finely enough."""
    from fmlib.page.scripts import join

    body = """(flow, [mixture, row]) => row.map((path) => {
      const scene = new flow.Scene([-3, 3, -3, 3], { particles: 50, trajectories: 20, pairs: 5 }, true);
      const state = { mixture, points: 0, t: 0.5, path, steps: %d, solver: "rk4", shift: 1, noise: 0, condition: [],
        guidance_scale: 1, added: "none", strength: 0, layers: [] };
      scene.set(state);
      return [...scene.cloud().states.at(-1)]; })"""
    given = [as_json(three_gaussians()), ROW]
    coarse, fine = (torch.tensor(ask(tab, body % steps, given, join("lab_scene"))).double() for steps in (40, 400))
    assert (coarse - fine).abs().max() < 2e-3 and (fine - fine[0]).abs().max() < 0.2
    assert (fine[1] - fine[0]).abs().max() < 1e-6


@pytest.mark.parametrize("t", [0.0, 1.0])
@pytest.mark.parametrize("matched", [False, True])
@pytest.mark.parametrize("points", [0, 5])
def test_both_ends_are_drawn(page, t, matched, points):
    show(page, **OPTIONS, t=t, matched=matched, points=points)
    assert len(set(pictures(page))) >= 2 and max(distances(page)) < 0.12 and page.errors == []
    assert ("5 training points: " in page.locator(".fm-readout").inner_text()) == (points == 5)
    assert all(0 <= at <= 1 for at in times(page))


def test_the_hand_on_the_first_moves_all(page):
    show(page, **OPTIONS, t=0.8)
    assert page.locator(".fm-handle.fm-centre").count() == 3
    assert page.locator("figure >> nth=0").locator(".fm-handle.fm-centre").count() == 3
    before, x, y = pictures(page), *middle(page, CENTRE)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 25, y - 10, steps=4)
    during = pictures(page)
    page.mouse.up()
    assert all(a != b for a, b in zip(during, before, strict=True))
    assert value(page, "mixture")["means"][0][0] > three_gaussians().means[0, 0]
    page.get_by_role("button", name="undo").click()
    assert pictures(page) == before
    page.get_by_role("slider", name="t", exact=True).focus()
    page.keyboard.press("Home")
    assert times(page) == [0, 0, 0, 0] and value(page, "t") == 0
    page.get_by_role("button", name="reset").click()
    assert pictures(page) == before and page.errors == []


def test_a_link_leads_back_to_the_row(page):
    text = html(**OPTIONS, t=0.3)
    show(page, text=text)
    page.get_by_role("button", name="match").click()
    said = distances(page), times(page)
    page.get_by_role("button", name="link").click()
    fragment = page.evaluate("location.hash")
    for end, same in ((fragment, True), ("", False)):
        page.goto("about:blank")
        show(page, end, text=text)
        assert ((distances(page), times(page)) == said) is same


# --- for everyone


@pytest.mark.parametrize(("width", "per_line"), [(375, 2), (1000, 4)])
def test_the_row_wraps_on_a_narrow_screen(page, width, per_line):
    page.set_viewport_size({"width": width, "height": 800})
    show(page, **OPTIONS)
    boxes = [page.locator("figure").nth(i).bounding_box() for i in range(4)]
    assert len({round(box["y"]) for box in boxes}) == 4 // per_line
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert max(b["width"] for b in boxes) - min(b["width"] for b in boxes) < 2 and boxes[0]["width"] > 150


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_each_picture_has_its_name(page, theme):
    page.emulate_media(color_scheme=theme)
    show(page, **OPTIONS, tour=TOUR[:1])
    names = [page.get_by_role("img").nth(i).get_attribute("aria-label") for i in range(4)]
    assert [name.split(",")[0] for name in names] == NAMES and all("divided by" in name for name in names)
    assert page.locator(".fm-lab [tabindex='0']").count() == 0
    found = Axe().run(page).response["violations"]
    assert [(v["id"], [n["html"][:80] for n in v["nodes"]]) for v in found] == []


def test_a_damaged_row_is_refused(page):
    meta = json.loads(json.dumps(value_of_meta()))
    for row, words in ((["edm"], "row must be one of rectified_flow"), ("ve", "must be lists")):
        show_anyway(page, {"_meta": {**meta, "row": row}})
        assert words in page.locator(".fm-refused").inner_text() and page.locator(".fm-lab").count() == 0


def value_of_meta() -> dict:
    from fmlib.page import FlowLab

    return FlowLab(three_gaussians(), "three clumps", row=ROW, controls=["t", "match"]).get_state()["_meta"]


def show_anyway(page, stored):
    text = html(stored=stored, **OPTIONS)
    page.unroute_all()
    page.route("http://lab.test/", lambda route: route.fulfill(body=text, content_type="text/html"))
    page.goto("http://lab.test/")
    page.wait_for_selector(".fm-refused")
