"""A lab by keys alone, by touch, for screen readers, without motion, in forced colours and on every kind of screen."""

import io
import re

import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from lab_page import ALONE, CENTRE, ON_A_LINE, TOUR, middle, show, value
from PIL import Image

from fmlib import GaussianMixture

LINE = GaussianMixture(torch.tensor([[-2.0], [0.5], [1.5]]).double(), torch.tensor([0.3, 0.4, 0.1]).double())
IN = {
    1: {"mixture": LINE, "controls": ON_A_LINE, "tour": TOUR},
    2: {"controls": ALONE, "tour": TOUR},
}
FEW = {"layers": ["density", "box", "probe"]}
PHONE = {"viewport": {"width": 375, "height": 700}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
# What a screen reader calls the element with the focus; empty for the page itself.
NAME = """() => { const node = document.activeElement; return node === document.body ? "" :
  node.getAttribute("aria-label") ?? node.labels?.[0]?.firstChild.data ?? node.textContent; }"""
TARGETS = ".fm-lab button, .fm-lab select, .fm-lab input"


@pytest.fixture
def on(browser):
    """A page in a context of its own: on(device_scale_factor=3, …)."""
    contexts = []

    def open_page(**options):
        contexts.append(browser.new_context(**{"viewport": {"width": 1280, "height": 1000}, **options}))
        page = contexts[-1].new_page()
        page.set_default_timeout(60_000)
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        return page

    yield open_page
    for context in contexts:
        context.close()


def tab_to(page, name, back=False):
    for _ in range(60):
        page.keyboard.press("Shift+Tab" if back else "Tab")
        if page.evaluate(NAME) == name:
            return
    raise AssertionError(f"no tab leads to {name}")


def settled(page):
    page.evaluate("async () => { for (let i = 0; i < 3; i++) await new Promise(requestAnimationFrame); }")


# --- keys


@pytest.mark.parametrize("dim", [1, 2])
def test_tab_leads_through_everything_in_the_order_of_the_page(page, dim):
    """From the tour over the handles to the controls, and out again; the picture has no keys. Wrong twin: one that is
    left out."""
    show(page, **IN[dim], **FEW)
    names = []
    while not names or names[-1]:
        page.keyboard.press("Tab")
        names.append(page.evaluate(NAME))
        assert len(names) < 60
    handles = [f"component {k}, {part}" for k in (1, 2, 3) for part in ("centre", "width", "weight")]
    more = [
        "add",
        "predict",
        "class",
        *["data"] * (dim == 2),
        "add a component",
        *["draw"] * (dim == 2),
        "forget the correction",
    ]
    expected = [
        "next", *handles, "box", "box, upper corner", "probe", "▶ play", "t", "training points", "steps",
        "guidance scale", "strength", "noise", "shift", "jump to", "error", "solver", "path", *more,
        "clear trajectories", "leave a ghost", "undo", "reset", "link", "",
    ]  # fmt: skip
    assert names == expected
    reachable = page.locator(TARGETS).count() - page.locator(".fm-lab :disabled").count()
    assert len(names) - 1 == reachable and page.errors == []
    page.locator(CENTRE).evaluate("node => node.tabIndex = -1")
    page.locator(".fm-tour button >> nth=1").focus()
    with pytest.raises(AssertionError):
        tab_to(page, "component 1, centre")


def test_a_run_by_keys_alone(page):
    show(page, **IN[2], **FEW)
    begin = value(page, "mixture")
    tab_to(page, "component 1, centre")
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "Shift+ArrowDown"):
        page.keyboard.press(key)
    (x, y), (now_x, now_y) = begin["means"][0], value(page, "mixture")["means"][0]
    assert (now_x - x, now_y - y) == (pytest.approx(0.2), pytest.approx(-0.11))
    for key, factor in (("+", 1.1), ("-", 1.0), ("-", 1 / 1.1)):
        page.keyboard.press(key)
        assert value(page, "mixture")["stds"][0] == pytest.approx(begin["stds"][0] * factor)
    page.keyboard.press("Delete")
    assert len(value(page, "mixture")["means"]) == 2 and page.evaluate(NAME) == "component 1, centre"
    tab_to(page, "probe")
    probe = value(page, "probe")
    page.keyboard.press("ArrowUp")
    assert value(page, "probe") == [pytest.approx(probe[0]), pytest.approx(probe[1] + 0.1)]
    tab_to(page, "data")
    page.keyboard.type("ring")  # what the hand may draw, the keys choose
    assert len(value(page, "mixture")["means"]) == 40
    tab_to(page, "undo")
    page.keyboard.press("Enter")
    assert len(value(page, "mixture")["means"]) == 2
    tab_to(page, "add a component", back=True)
    page.keyboard.press("Space")
    assert page.evaluate(NAME) == "component 3, centre" and len(value(page, "mixture")["means"]) == 3
    tab_to(page, "next", back=True)
    page.keyboard.press("Enter")
    assert page.get_by_text("Now the probe.").is_visible() and value(page, "layers") == ["probe"]
    tab_to(page, "back", back=True)  # from the end of the tour too
    page.keyboard.press("Enter")
    assert page.get_by_text("Here is the noise.").is_visible() and page.errors == []


def test_the_list_of_data_names_what_is_there(page):
    """Else what stands in the list could not be chosen again: a list tells of no choice that changes nothing."""
    show(page, **IN[2], **FEW)
    data = page.get_by_label("data")
    shown = lambda: (settled(page), data.input_value())[1]
    assert shown() == "this one"
    data.select_option("ring")
    ring = value(page, "mixture")
    assert shown() == "ring"
    page.evaluate("mixture => model.tell('mixture', mixture)", {**ring, "stds": [0.2] * 40})
    assert shown() == ""
    data.select_option("ring")
    assert value(page, "mixture") == ring
    page.get_by_role("button", name="reset").click()
    assert shown() == "this one"


# --- screen readers, motion, colours


@pytest.mark.parametrize("dim", [1, 2])
def test_a_movement_is_spoken_when_it_has_ended(page, dim):
    show(page, **IN[dim], **FEW)
    spoken = lambda: (settled(page), page.locator(".fm-spoken").text_content())[1]
    read = lambda: page.locator(".fm-readout").text_content()
    before, (x, y) = spoken(), middle(page, CENTRE)
    page.mouse.move(x, y)
    page.mouse.down()
    said = set()
    for step in range(1, 4):
        page.mouse.move(x - 20 * step, y - 20 * step)
        assert spoken() == before  # not one word a frame
        said.add(read())
    assert len(said) == 3  # the wrong twin: the readout changed with each
    page.mouse.up()
    assert spoken() == read() != before
    now = spoken()
    page.get_by_role("slider", name="t", exact=True).focus()
    page.keyboard.press("PageUp")
    assert spoken() == read() != now


def test_with_reduced_motion_play_makes_few_pictures(page):
    def pictures() -> int:
        show(page, **IN[2], layers=["density"], t=0.0)
        settled(page)
        before = int(page.evaluate("document.querySelector('.fm-lab').dataset.drawn"))
        page.get_by_role("button", name="play").click()
        page.wait_for_function("() => model.values.t === 1")
        settled(page)
        return int(page.evaluate("document.querySelector('.fm-lab').dataset.drawn")) - before

    page.emulate_media(reduced_motion="reduce")
    assert 4 <= pictures() <= 9
    page.emulate_media(reduced_motion="no-preference")
    assert pictures() > 9  # the wrong twin: each frame


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_forced_colours_leave_handles_and_buttons(page, theme):
    page.emulate_media(forced_colors="active", color_scheme=theme)
    show(page, **IN[2], **FEW)

    def around(selector):
        x, y = middle(page, selector)
        return page.screenshot(clip={"x": x - 14, "y": y - 14, "width": 28, "height": 28})

    kinds = [f".fm-handle.fm-{kind} >> nth=0" for kind in ("centre", "width", "weight", "probe", "box", "corner")]
    seen = {kind: around(kind) for kind in kinds}
    hidden = page.add_style_tag(content=".fm-handle::before { display: none; }")
    assert all(around(kind) != picture for kind, picture in seen.items())
    hidden.evaluate("node => node.remove()")
    assert all(around(kind) == picture for kind, picture in seen.items())  # the wrong twin: two of the same are equal
    draw = page.get_by_role("button", name="draw")
    edge = "node => [getComputedStyle(node).borderTopColor, getComputedStyle(document.body).backgroundColor]"
    border, ground = draw.evaluate(edge)
    assert border != ground
    before = looks(draw)
    draw.evaluate("node => node.click()")
    assert np.abs(looks(draw) - before).max() > 50  # whether it is pressed is seen
    draw.evaluate("node => node.click()")
    assert np.abs(looks(draw) - before).max() <= 2  # a button between two pixels is not painted the same twice


def looks(button) -> np.ndarray:
    """Its pixels without the focus, from 0 to 255."""
    button.evaluate("node => node.blur()")
    return np.asarray(Image.open(io.BytesIO(button.screenshot())).convert("RGB")).astype(int)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("dim", [1, 2])
def test_no_rule_of_accessibility_is_broken(page, dim, theme):
    """With all layers and controls, a ghost and a message of refusal."""
    page.emulate_media(color_scheme=theme)
    show(page, **IN[dim], ghost={"path": "ve"})
    page.evaluate("model.tell('t', 7)")
    broken = lambda: [
        (v["id"], v["nodes"][0]["html"][:80])
        for v in Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    ]
    assert page.locator(".fm-refused").is_visible() and broken() == []
    page.locator(CENTRE).evaluate("node => { node.removeAttribute('aria-label'); node.removeAttribute('title'); }")
    assert [rule for rule, _ in broken()] == ["button-name"]


# --- touch


def touches(page):
    """touch("Start" or "Move", (x, y), …) and touch("End"), as fingers do on a screen."""
    cdp = page.context.new_cdp_session(page)

    def touch(kind, *points):
        points = [{"x": x, "y": y, "id": k} for k, (x, y) in enumerate(points)]
        cdp.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})

    return touch


@pytest.mark.parametrize("dim", [1, 2])
def test_touch_does_what_a_mouse_does(on, dim):
    page = on(**PHONE)
    show(page, **IN[dim], **FEW)
    touch = touches(page)
    page.locator(".fm-scene").scroll_into_view_if_needed()
    box = page.locator(".fm-scene canvas").bounding_box()
    probe = value(page, "probe")
    page.touchscreen.tap(box["x"] + 0.3 * box["width"], box["y"] + 0.15 * box["height"])
    assert value(page, "probe") != probe
    begin, (x, y) = value(page, "mixture"), middle(page, CENTRE)
    scrolled = page.evaluate("scrollY")
    touch("Start", (x, y))
    for step in range(1, 6):
        touch("Move", (x - 4 * step, y - 8 * step))
    assert page.evaluate("scrollY") == scrolled  # a handle is not what scrolls
    touch("End")
    left, right, bottom, top = value(page, "_meta")["limits"]
    moved = [now - old for now, old in zip(value(page, "mixture")["means"][0], begin["means"][0], strict=True)]
    across, up = -20 * (right - left) / box["width"], 40 * (top - bottom) / box["height"]
    assert moved == pytest.approx([across, up] if dim == 2 else [up], abs=0.02)
    assert page.errors == []


@pytest.mark.parametrize("dim", [1, 2])
def test_two_fingers_widen_the_component_between_them(on, dim):
    """And leave the page as large as it was. Wrong twin: fingers that keep their distance."""
    page = on(**PHONE)
    show(page, **IN[dim], layers=["density"])
    touch = touches(page)
    page.locator(".fm-scene").scroll_into_view_if_needed()
    begin, (x, y) = value(page, "mixture"), middle(page, CENTRE)
    side = -1 if dim == 1 else 1  # in one dimension the data stand at the right edge

    def pinch(apart):
        fingers = lambda gap: [
            (x - gap / 2 + 40 * (side - 1), y - gap / 2),
            (x + gap / 2 + 40 * (side - 1), y + gap / 2),
        ]
        touch("Start", fingers(40)[0])
        touch("Start", *fingers(40))
        for step in range(1, 9):
            touch("Move", *fingers(40 + (apart - 40) * step / 8))
        touch("End")
        settled(page)
        return value(page, "mixture")["stds"]

    assert pinch(40) == pytest.approx(begin["stds"])
    wide = pinch(80)
    assert wide[0] == pytest.approx(2 * begin["stds"][0], rel=0.05) and wide[1:] == pytest.approx(begin["stds"][1:])
    assert page.evaluate("visualViewport.scale") == 1 and page.errors == []


def test_a_finger_still_scrolls_the_page(on):
    """Beside the lab, on its words, and on the picture where no handle is: no reader is caught."""
    page = on(**PHONE)
    show(page, **IN[2], **FEW)
    touch = touches(page)
    box = page.locator(".fm-scene canvas").bounding_box()
    empty = (box["x"] + 0.5 * box["width"], box["y"] + 0.95 * box["height"])

    def scrolled_by_a_swipe(x, y) -> float:
        page.evaluate("scrollTo(0, 0)")
        touch("Start", (x, y))
        for step in range(1, 11):
            touch("Move", (x, y - 20 * step))
            settled(page)
        touch("End")
        settled(page)
        return page.evaluate("scrollY")

    for x, y in ((4, 400), (150, 620), empty):
        assert scrolled_by_a_swipe(x, y) > 100, (x, y)
    page.get_by_role("button", name="draw").evaluate("node => node.click()")
    assert scrolled_by_a_swipe(*empty) == 0  # the wrong twin: who draws does not scroll
    assert page.evaluate("model.saves") > 0


def test_a_finger_takes_one_of_a_crowd_and_scrolls_beside_it(on):
    page = on(**PHONE)
    angle = torch.arange(16).double() * torch.pi / 8
    crowd = GaussianMixture(2 * torch.stack([angle.cos(), angle.sin()], 1), 0.1)
    show(page, mixture=crowd, layers=["density"], controls=ALONE, tour=TOUR)
    touch, begin = touches(page), value(page, "mixture")["means"]
    left, right, _, _ = value(page, "_meta")["limits"]

    def swipe(across) -> float:
        page.evaluate("scrollTo(0, 0)")
        box = page.locator(".fm-scene canvas").bounding_box()
        x, y = box["x"] + box["width"] * (across - left) / (right - left), box["y"] + box["height"] / 2
        touch("Start", (x, y))
        for step in range(1, 11):
            touch("Move", (x, y - 10 * step))
            settled(page)
        touch("End")
        settled(page)
        return page.evaluate("scrollY")

    assert swipe(0) > 50 and value(page, "mixture")["means"] == begin  # no component is near
    assert swipe(2) == 0 and value(page, "mixture")["means"][0][1] > 1
    assert value(page, "mixture")["means"][1:] == begin[1:] and page.errors == []


@pytest.mark.parametrize("width", [320, 375, 820])
@pytest.mark.parametrize("dim", [1, 2])
def test_small_screens_hold_all_of_it_in_large_enough_parts(on, dim, width):
    """24 px for what is touched (WCAG 2.2, target size), and nothing beside the page (reflow)."""
    page = on(**{**PHONE, "viewport": {"width": width, "height": 700}})
    show(page, **IN[dim], **FEW)
    low = "nodes => nodes.filter((n) => n.getBoundingClientRect().height < 24).map((n) => n.outerHTML.slice(0, 90))"
    assert page.locator(TARGETS).evaluate_all(low) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator(".fm-lab input >> nth=0").evaluate("node => { node.style.minHeight = 0; node.style.height = '12px'; }")
    assert len(page.locator(TARGETS).evaluate_all(low)) == 1


# --- screens

DRAWN = """window.drawn = []; for (const name of ["moveTo", "lineTo"]) {
  const before = CanvasRenderingContext2D.prototype[name];
  CanvasRenderingContext2D.prototype[name] = function (x, y) { drawn.push([x, y]); before.call(this, x, y); };
}"""


@pytest.mark.parametrize(
    "screen",
    [
        {}, {"device_scale_factor": 2}, {"device_scale_factor": 3}, {"device_scale_factor": 1.25},
        {"viewport": {"width": 3840, "height": 2160}}, PHONE,
    ],
)  # fmt: skip
@pytest.mark.parametrize("dim", [1, 2])
def test_handles_sit_where_the_picture_has_them(on, dim, screen):
    """One canvas pixel for each of the screen; a handle's middle is where its thing is drawn, within 1.5 CSS pixels."""
    page = on(**screen)
    page.add_init_script(DRAWN)
    show(page, **IN[dim], layers=["box", "jump"])
    page.evaluate("() => { drawn.length = 0; model.tell('until', 0.9); }")
    settled(page)
    ratio = screen.get("device_scale_factor", 1)
    box = page.locator(".fm-scene canvas").bounding_box()
    size = page.evaluate("() => { const c = document.querySelector('.fm-scene canvas'); return [c.width, c.height]; }")
    assert size == [pytest.approx(box["width"] * ratio, abs=ratio), pytest.approx(box["height"] * ratio, abs=ratio)]
    drawn = torch.tensor(page.evaluate("drawn")).double() / ratio + torch.tensor([box["x"], box["y"]])
    off = lambda spot: (drawn - torch.tensor(spot).double()).norm(dim=1).min().item()
    for name in ("probe", "corner"):
        x, y = middle(page, f".fm-handle.fm-{name}")
        assert off((x, y)) < 1.5, name
    assert off((box["x"] + 3, box["y"] + 3)) > 20  # the wrong twin: nothing is drawn there
    left, right, bottom, top = value(page, "_meta")["limits"]
    for k, mean in enumerate(value(page, "mixture")["means"]):
        at_x, at_y = mean if dim == 2 else (1, mean[0])
        spot = ((at_x - left) / (right - left) * box["width"], (top - at_y) / (top - bottom) * box["height"])
        x, y = middle(page, f".fm-handle.fm-centre >> nth={k}")
        assert (x - box["x"], y - box["y"]) == (pytest.approx(spot[0], abs=1.5), pytest.approx(spot[1], abs=1.5))


OVERLAPS = """nodes => { const parts = nodes.map((node) => [node, node.getBoundingClientRect()]);
  const cut = parts.filter(([n, r]) => r.right > innerWidth || r.left < 0 || n.scrollWidth > n.clientWidth + 2);
  const meet = ([, a], [, b]) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1
    && b.top < a.bottom - 1;
  const both = parts.flatMap((p, i) => parts.slice(i + 1).filter((q) => meet(p, q)).map(([q]) => [p, [q]]));
  return [...cut, ...both.map(([p]) => p)].map(([node]) => node.outerHTML.slice(0, 90)); }"""
LARGER = """factor => { const all = [...document.querySelectorAll("body, body *")];
  const sizes = all.map((node) => parseFloat(getComputedStyle(node).fontSize));
  all.forEach((node, i) => (node.style.fontSize = `${factor * sizes[i]}px`)); }"""


@pytest.mark.parametrize("width", [640, 1280])
def test_text_of_twice_the_size_cuts_nothing_off(page, width):
    page.set_viewport_size({"width": width, "height": 1000})
    show(page, **IN[2], **FEW)
    controls = page.locator(
        ".fm-row button, .fm-row select, .fm-row input, .fm-row output, .fm-tour button, .fm-tour p"
    )
    assert controls.evaluate_all(OVERLAPS) == []
    page.evaluate(LARGER, 2)
    assert re.match("26px", page.get_by_role("button", name="undo").evaluate("n => getComputedStyle(n).fontSize"))
    assert controls.evaluate_all(OVERLAPS) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("button", name="undo").evaluate("node => { node.style.marginRight = '-40px'; }")
    assert controls.evaluate_all(OVERLAPS) != []  # the wrong twin: two that meet
