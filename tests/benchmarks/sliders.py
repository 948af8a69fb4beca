"""The player beside the usual way, `interact` that rebuilds a figure: the same picture, in one JupyterLab.

python tests/benchmarks/sliders.py [--seconds S]

While a slider is dragged the page counts new pictures, and the time from each movement to the next new picture.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import nbformat
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "browser"))
from lab_server import CHROMIUM, FLAGS, running_lab
from store import store

SETUP = """
import torch, matplotlib.pyplot as plt, ipywidgets
from fmlib import *
from fmlib.page import *
torch.set_num_threads(1)
path, moons, L = rectified_flow_path(), moons_mixture(), (-3.3, 5.1, -3.0, 3.3)
v = lambda t, x: moons.velocity(path, t, x)
states = rk4_sampler(v, torch.randn(2000, 2), steps=40, return_trajectory=True)
times = torch.linspace(0, 1, 41)
density = density_frames(lambda t, x: moons.log_prob(path, t, x), L, times)
field = field_frames(v, L, times, cells=20)
"""
PLAYER = "FlowPlayer(times, [Panel(states, density=density, field=field)], alt='player', limits=L, t=0.0)"
NAIVE = """
def draw(t=0.0):
    i = round(40 * t)
    fig, ax = plt.subplots(figsize=(5.6, 4.2))
    ax.imshow(density[i].sqrt(), extent=L, origin='lower', cmap='Greys')
    x = torch.linspace(L[0], L[1], 20); y = torch.linspace(L[2], L[3], 20)
    ax.quiver(x, y, field[i, ..., 0], field[i, ..., 1])
    ax.scatter(states[i, :, 0], states[i, :, 1], s=3)
    plt.show()
ipywidgets.interact(draw, t=ipywidgets.FloatSlider(min=0, max=1, step=0.001, value=0.0));
"""
WATCH = """root => {
  window.seen = { pictures: 0, lags: [], moved: null };
  window.addEventListener('pointermove', () => { window.seen.moved ??= performance.now(); }, true);
  const picture = () => {
    window.seen.pictures += 1;
    if (window.seen.moved !== null) window.seen.lags.push(performance.now() - window.seen.moved);
    window.seen.moved = null;
  };
  new MutationObserver((changes) => {
    const drawn = changes.some(c => c.attributeName === 'data-drawn'
      || [...c.addedNodes].some(n => n.nodeName === 'IMG' || n.querySelector?.('img')));
    const image = root.querySelector('img')?.src.slice(-2000);  // a redraw may change the page more than once
    if (drawn && (!image || image !== window.seen.image)) picture();
    window.seen.image = image;
  }).observe(root, { attributes: true, attributeFilter: ['data-drawn'], childList: true, subtree: true });
}"""


def measure(browser, address: str, seconds: float) -> tuple[float, float]:
    """Pictures a second, and the 95th percentile of the lag in milliseconds."""
    page = browser.new_context(viewport={"width": 1280, "height": 1000}).new_page()
    page.set_default_timeout(90_000)
    page.goto(address)
    page.wait_for_function("() => jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'")
    page.evaluate("() => { jupyterapp.commands.execute('notebook:run-all-cells'); }")
    page.wait_for_selector(".fm-player canvas, .jp-OutputArea img")
    page.wait_for_timeout(1500)
    if page.locator(".fm-player").count():
        root, handle = page.locator(".fm-player"), page.locator(".fm-player input[type=range]").first
        box = handle.bounding_box()
    else:
        root, handle = page.locator(".jp-OutputArea").last, page.locator(".noUi-connects, .slider-container").first
        box = page.locator(".noUi-target").first.bounding_box()
    root.evaluate(WATCH)
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 1, y)
    page.mouse.down()
    page.evaluate("() => { window.seen.pictures = 0; window.seen.lags = []; window.started = performance.now(); }")
    i = 0
    while page.evaluate("() => performance.now() - window.started") < 1000 * seconds:
        i += 1
        page.mouse.move(box["x"] + (0.02 + 0.96 * abs((i * 3) % 200 - 100) / 100) * box["width"], y)
    seen = page.evaluate("() => ({ ...window.seen, elapsed: performance.now() - window.started })")
    page.mouse.up()
    page.context.close()
    lags = sorted(seen["lags"])
    if not lags:
        raise RuntimeError(f"no new picture in {seconds} s of dragging at {address}")
    p95 = statistics.quantiles(lags, n=20)[-1] if len(lags) > 1 else lags[0]
    return 1000 * seen["pictures"] / seen["elapsed"], p95


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0)
    seconds = parser.parse_args().seconds
    if CHROMIUM is None:
        sys.exit("no Chromium found: install it, or set CHROMIUM to its path")
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        (folder / "notebooks").mkdir()
        for kind, code in (("player", PLAYER), ("naive", NAIVE)):
            notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in (SETUP, code)])
            notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
            nbformat.write(notebook, folder / "notebooks" / f"{kind}.ipynb")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        print(f"2,000 particles, 20 x 20 arrows, a density; {seconds:g} s of dragging in JupyterLab, two cores\n")
        print("| slider | pictures a second | movement to picture, p95 |\n|---|---|---|")
        with running_lab(folder) as address:
            rows = {}
            for kind in ("player", "naive"):
                rate, lag = measure(browser, address.format(kind), seconds)
                rows[kind] = {"rate": rate, "lag": lag}
                print(f"| {kind} | {rate:.1f} | {lag:.0f} ms |", flush=True)
        store("sliders", rows)
        browser.close()


if __name__ == "__main__":
    main()
