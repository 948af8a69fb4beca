"""The player in a real browser: in JupyterLab, and on a static page with the network off."""

import hashlib
import os
import re
import time
from pathlib import Path

import pytest

MADE = "a_player"  # a lesson that is made for these tests, with one player
DRAG_SECONDS = float(os.environ.get("DRAG_SECONDS", 8))


def pixels(player) -> str:
    """A hash of what all canvases of a player show."""
    data = player.evaluate("p => [...p.querySelectorAll('canvas')].map(c => c.toDataURL()).join()")
    return hashlib.sha256(data.encode()).hexdigest()


def drag(page, slider, fractions, release=True):
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    height = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + fractions[0] * box["width"], height)
    page.mouse.down()
    for fraction in fractions:
        page.mouse.move(box["x"] + fraction * box["width"], height)
    if release:
        page.mouse.up()


def settle(page):
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def check_sliders(page, player):
    """Drag each slider to both sides: the pixels change, and the last frame is the slider's."""
    sliders = player.locator("input[type=range]")
    for i in range(sliders.count()):
        seen = []
        for end in (0.1, 0.9):
            drag(page, sliders.nth(i), [0.5, 0.3, end])
            settle(page)
            seen.append(pixels(player))
        assert seen[0] != seen[1], f"slider {i} changed nothing"
    t, drawn = float(sliders.nth(0).input_value()), float(player.get_attribute("data-t"))
    assert t == pytest.approx(drawn, abs=2e-3) and t > 0.8
    if sliders.count() > 1:
        shown = sliders.nth(1).get_attribute("aria-valuetext")
        assert shown.endswith(player.get_attribute("data-steps"))


CANVAS_KEYS = (
    ("Home", 0), ("End", 1), ("ArrowLeft", 0.98), ("ArrowDown", 0.88), ("ArrowRight", 0.9),
    ("Shift+ArrowLeft", 0.898), ("Shift+ArrowDown", 0.888), ("Shift+ArrowRight", 0.89), ("Shift+ArrowUp", 0.9),
)  # fmt: skip
SLIDER_KEYS = (
    ("Home", 0), ("ArrowRight", 0.02), ("ArrowUp", 0.04), ("Shift+ArrowRight", 0.042), ("Shift+ArrowDown", 0.04),
    ("ArrowLeft", 0.02), ("PageUp", 0.12), ("PageDown", 0.02), ("End", 1), ("PageDown", 0.9),
)  # fmt: skip


def press_and_read(page, player, presses):
    """One key moves t by 1/50, with Shift by 1/500. (The browser's own step on the slider is 1/1000.)"""
    for key, expected in presses:
        page.keyboard.press(key)
        settle(page)
        assert float(player.get_attribute("data-t")) == pytest.approx(expected, abs=1e-6), key


def check_keys(page, player):
    player.locator("canvas").first.focus()
    press_and_read(page, player, CANVAS_KEYS)
    cells = page.locator(".jp-Notebook .jp-mod-selected").count()
    player.locator("input[type=range]").first.focus()
    press_and_read(page, player, SLIDER_KEYS)
    assert page.locator(".jp-Notebook .jp-mod-selected").count() == cells  # Shift+ArrowDown selects cells in JupyterLab
    player.locator("canvas").first.focus()
    assert "t = 0.90" in player.locator("[role=status]").inner_text()
    page.keyboard.press(" ")
    page.wait_for_function("p => Number(p.dataset.t) > 0.95", arg=player.element_handle(), timeout=5000)
    outline = player.locator("canvas").first.evaluate("c => getComputedStyle(c).outlineStyle")
    assert outline == "solid"


def check_hover(page, player):
    player.locator("input[type=range]").first.fill("1")
    settle(page)
    before, box = pixels(player), player.locator("canvas").first.bounding_box()
    status = player.locator("[role=status]")
    for i in range(400):
        page.mouse.move(box["x"] + (i * 37 % 100) / 100 * box["width"], box["y"] + (i * 17 % 90) / 100 * box["height"])
        if "particle" in status.inner_text():
            break
    assert "x₀" in status.inner_text() and "x₁" in status.inner_text()
    settle(page)
    assert pixels(player) != before


def open_and_run(page, lab, name):
    """Open a notebook and run it to its end."""
    page.goto(lab.format(name))
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    wait_for_kernel(page)
    run_all(page)


def wait_for_kernel(page):
    page.wait_for_function(
        "() => jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'", polling=200
    )


def run_all(page):
    page.evaluate("() => { jupyterapp.commands.execute('notebook:run-all-cells'); }")
    page.wait_for_timeout(500)
    assert kernel_says(page, "print('after the last cell')") == "after the last cell"  # it queues behind the cells
    page.wait_for_selector(".fm-player canvas")
    settle(page)


def kernel_says(page, code) -> str:
    """Run code in the lesson's kernel and return what it prints."""
    page.evaluate(
        """code => {
          const future = jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute({ code });
          window.said = '';
          window.replied = false;
          future.onIOPub = m => { if (m.header.msg_type === 'stream') window.said += m.content.text; };
          future.done.then(() => { window.replied = true; });
        }""",
        code,
    )
    page.wait_for_function("() => window.replied", polling=100, timeout=90_000)
    return page.evaluate("() => window.said").strip()


def test_python_hears_of_the_player_and_moves_it(page, lab):
    open_and_run(page, lab, MADE)
    player = page.locator(".fm-player").first
    check_sliders(page, player)
    t, steps = player.get_attribute("data-t"), player.get_attribute("data-steps")
    assert kernel_says(page, "print(player.t, player.steps)") == f"{t} {steps}"
    kernel_says(page, "player.t = 0.25; player.steps = 16")
    page.wait_for_function("p => p.dataset.t === '0.25' && p.dataset.steps === '16'", arg=player.element_handle())
    assert page.errors == []


def test_a_player_survives_rough_handling(page, lab, record_property):
    """Long dragging, a second view, closing and reopening, a restarted kernel: no error, no growing memory."""
    open_and_run(page, lab, MADE)
    player = page.locator(".fm-player").first
    check_sliders(page, player)  # the clicks also select the cell, which "create-output-view" needs
    check_keys(page, player)
    check_hover(page, player)

    def memory() -> float:
        page.request_gc()
        return page.evaluate("() => performance.memory.usedJSHeapSize / 1e6")

    slider = player.locator("input[type=range]").first
    used = []
    for _ in range(3):
        end = time.monotonic() + DRAG_SECONDS / 3
        while time.monotonic() < end:
            drag(page, slider, [abs((i * 7) % 200 - 100) / 100 for i in range(60)])
        used.append(memory())
    record_property("megabytes_after_each_third_of_the_drag", used)
    print(f"heap in MB after each third of {DRAG_SECONDS:g} s of dragging: {[round(u, 1) for u in used]}")
    assert used[2] < used[1] + 20

    # A second view of the same model follows the first one.
    page.evaluate("async () => { await jupyterapp.commands.execute('notebook:create-output-view'); }")
    page.wait_for_function("() => document.querySelectorAll('.fm-player').length === 2")
    drag(page, page.locator(".fm-player").last.locator("input[type=range]").first, [0.5, 0.2])
    page.wait_for_function(
        """() => { const t = [...document.querySelectorAll('.fm-player')].map(p => p.dataset.t);
                   return t[0] === t[1] && Number(t[0]) < 0.4; }"""
    )

    # Close and reopen with the kernel alive: the player comes back and moves.
    page.evaluate("async () => { await jupyterapp.commands.execute('docmanager:save'); }")
    page.evaluate("async () => { await jupyterapp.commands.execute('application:close-all'); }")
    page.wait_for_function("() => document.querySelectorAll('.fm-player').length === 0", timeout=20_000)
    page.evaluate("path => jupyterapp.commands.execute('docmanager:open', { path })", f"{MADE}.ipynb")
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_selector(".fm-player canvas")
    check_sliders(page, page.locator(".fm-player").first)

    # Restart the kernel under the open page: the drawing needs no kernel, so it still moves.
    page.evaluate("async () => { await jupyterapp.shell.currentWidget.sessionContext.restartKernel(); }")
    wait_for_kernel(page)
    check_sliders(page, page.locator(".fm-player").first)
    run_all(page)
    check_sliders(page, page.locator(".fm-player").first)
    assert page.errors == []


@pytest.fixture(scope="module")
def site(tools_site, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    text = Path(__file__).parent / f"{MADE}.py"
    (folder / f"{MADE}.html").write_text(tools_site.lesson_page(text, [MADE]), encoding="utf-8")
    (folder / "cheat_sheet.html").write_text(tools_site.sheet_page(), encoding="utf-8")
    return folder


def test_static_page_with_the_network_off(browser, site, page):
    page.context.set_offline(True)
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto((site / f"{MADE}.html").as_uri())
    player = page.locator(".fm-player").first
    page.wait_for_selector(".fm-player[data-drawn]")
    check_sliders(page, player)
    check_keys(page, player)
    check_hover(page, player)
    assert page.locator("math").count() == 1 and "$" not in page.locator("main p").first.inner_text()
    assert page.errors == [] and all(url.startswith("file:") for url in requests)
    assert (site / f"{MADE}.html").stat().st_size < 3_000_000


@pytest.mark.parametrize("paper", ["A4", "Letter"])
def test_cheat_sheet_prints_on_two_pages(site, page, paper):
    page.goto((site / "cheat_sheet.html").as_uri())
    pages = len(re.findall(rb"/Type\s*/Page\b", page.pdf(format=paper)))
    assert pages == 2 and page.errors == []
    assert page.locator("math").count() > 100 and page.locator("a[href]").count() > 50
    page.add_style_tag(content="@media print { body { font-size: 20px !important; } }")  # the wrong twin
    assert len(re.findall(rb"/Type\s*/Page\b", page.pdf(format=paper))) > 2


def test_reduced_motion_and_dark_theme(browser, site):
    context = browser.new_context(reduced_motion="reduce", color_scheme="dark", offline=True)
    page = context.new_page()
    page.goto((site / f"{MADE}.html").as_uri())
    page.wait_for_selector(".fm-player[data-drawn]")
    player = page.locator(".fm-player").first
    player.locator("canvas").first.focus()
    page.keyboard.press("Home")
    settle(page)
    drawn = int(player.get_attribute("data-drawn"))
    player.locator("button").click()
    page.wait_for_timeout(2000)
    assert int(player.get_attribute("data-drawn")) - drawn <= 6  # a few stills, not sixty frames a second
    assert float(player.get_attribute("data-t")) > 0
    red = int(player.evaluate("p => getComputedStyle(p).color").split("(")[1].split(",")[0])
    assert red > 200  # light ink
    context.close()


def test_a_slider_that_needs_the_kernel(page, lab, record_property):
    """Guidance, solved anew at each key: the picture changes, and the time it takes is printed."""
    page.goto(lab.format("a_slider"))
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    wait_for_kernel(page)
    page.evaluate("async () => { await jupyterapp.commands.execute('notebook:run-all-cells'); }")
    picture = page.locator(".widget-image").first
    picture.wait_for()
    handle = page.locator(".widget-slider .noUi-handle").first
    assert kernel_says(page, "print('ready')") == "ready"
    handle.scroll_into_view_if_needed()
    handle.focus()
    milliseconds = []
    for key in ["ArrowRight"] * 12 + ["ArrowLeft"] * 12:
        before = picture.get_attribute("src")
        start = time.monotonic()
        page.keyboard.press(key)
        page.wait_for_function("old => document.querySelector('.widget-image').src !== old", arg=before, polling="raf")
        milliseconds.append(1000 * (time.monotonic() - start))
    milliseconds.sort()
    record_property("milliseconds_from_key_to_picture", milliseconds)
    print(f"kernel's slider, key to picture: median {milliseconds[12]:.0f} ms, slowest {milliseconds[-1]:.0f} ms")
    box = handle.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 60, box["y"], steps=20)
    page.mouse.up()
    page.wait_for_function("() => Number(document.querySelector('.widget-slider .widget-readout').innerText) > 4")
    assert page.errors == []


def test_mock_interview_in_jupyterlab(page, lab):
    """Answer, reveal, rate; the answer outlives a restart of the kernel, and another question comes next."""
    page.goto(lab.format("mock_interview"))
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    wait_for_kernel(page)
    page.evaluate("async () => { await jupyterapp.commands.execute('notebook:run-cell-and-select-next'); }")
    page.evaluate("async () => { await jupyterapp.commands.execute('notebook:run-cell-and-select-next'); }")
    question = page.locator(".widget-output h3, .jupyter-widgets-output-area h3").first
    question.wait_for()
    asked = question.inner_text()
    page.get_by_role("button", name="Show the answer").click()
    page.get_by_text("Answer first").wait_for()  # nothing was said yet
    page.locator(".fm-answer textarea").fill("a field, learned by regression")
    page.get_by_role("button", name="Show the answer").click()
    page.get_by_text("The usual wrong answer.").first.wait_for()
    page.get_by_role("button", name="Good").click()
    page.get_by_text("This question comes back in 10 minutes").wait_for()
    page.evaluate("async () => { await jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart(); }")
    page.wait_for_timeout(500)
    wait_for_kernel(page)
    kept = (
        "import json; log = json.load(open('interview_results.json'))['log']; print(log[0]['answer'], log[0]['rating'])"
    )
    assert kernel_says(page, kept) == "a field, learned by regression Good"
    page.evaluate("async () => { await jupyterapp.commands.execute('notebook:run-all-cells'); }")
    page.get_by_text("1 of").first.wait_for()
    assert question.inner_text() != asked
