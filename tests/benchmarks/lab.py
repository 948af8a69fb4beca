"""FlowLab under a hand: pictures a second, script in a picture, hand to picture; beside the same through a kernel.

python tests/benchmarks/lab.py [--seconds S] [--times N] [--only drag|open]

On a bare page and in JupyterLab, from a notebook that nobody has run; and how long JupyterLab takes to open one.
"""

import argparse
import asyncio
import math
import statistics
import sys
import tempfile
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import nbformat
from nbformat.sign import NotebookNotary
from playwright.async_api import async_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "browser"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import render
import test_lab_in_browser
import torch
from lab_server import CHROMIUM, FLAGS, running_lab
from store import store

from fmlib import GaussianMixture, eight_gaussians

COMMON = "controls=['t', 'mixture'], steps=20, solver='midpoint'"
SETTINGS = {
    "8 components, 800 particles": (
        "eight_gaussians()",
        f"layers=['density', 'field', 'particles'], particles=800, {COMMON}",
    ),
    "200 components, 50 trajectories": (
        "GaussianMixture(3 * torch.randn(200, 2, generator=torch.Generator().manual_seed(0)), 0.2)",
        f"layers=['density', 'field', 'trajectories'], particles=50, trajectories=50, {COMMON}",
    ),
}
BEGIN = "import torch\nfrom fmlib import *\nfrom fmlib.page import *\n"
NAIVE = f"""{BEGIN}import io, ipywidgets, matplotlib.pyplot as plt
torch.set_num_threads(1)
path, mixture, L, x0 = rectified_flow_path(), eight_gaussians(), (-2.6, 2.6, -2.6, 2.6), torch.randn(800, 2)
grid = torch.stack(torch.meshgrid(torch.linspace(-2.6, 2.6, 48), torch.linspace(-2.6, 2.6, 48), indexing='xy'), -1)
coarse = torch.stack(torch.meshgrid(torch.linspace(-2.6, 2.6, 14), torch.linspace(-2.6, 2.6, 14), indexing='xy'), -1)
u = lambda t, x: mixture.velocity(path, t, x)
slider = ipywidgets.FloatSlider(min=0.001, max=1, step=0.001, value=0.5)
image = ipywidgets.Image(format='png')

def draw(change=None):
    t = slider.value
    density = mixture.log_prob(path, t, grid.reshape(-1, 2)).exp().reshape(48, 48)
    arrows = u(t, coarse.reshape(-1, 2)).reshape(14, 14, 2)
    x = midpoint_sampler(u, x0, steps=20, t_end=t)
    fig, ax = plt.subplots(figsize=(5.6, 5.6))
    ax.imshow(density.sqrt(), extent=L, origin='lower', cmap='Greys')
    ax.quiver(coarse[..., 0], coarse[..., 1], arrows[..., 0], arrows[..., 1])
    ax.scatter(x[:, 0], x[:, 1], s=3)
    file = io.BytesIO()
    fig.savefig(file, dpi=100)
    plt.close(fig)
    image.value = file.getvalue()

slider.observe(draw, 'value')
draw()
display(slider, image)"""

# A picture is a frame in which the lab drew. Its end is a message that the page handles after it has painted; its hand
# is the last movement that was handled before.
WATCH = """lab => {
  const seen = window.seen = { frames: 0, lags: [], ms: [], began: performance.now(), hand: null };
  let moved = null, drawn = lab.dataset.drawn;
  addEventListener("pointermove", (e) => { moved = e.timeStamp; }, true);  // a slider's input event is made later
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => {
    seen.frames += 1;
    if (lab.dataset.drawn !== drawn) {
      drawn = lab.dataset.drawn;
      seen.ms.push(Number(lab.dataset.ms));
      if (moved !== null) seen.lags.push(performance.now() - moved);
      moved = null;
    }
    seen.hand?.();
  };
  const tick = () => { port2.postMessage(0); requestAnimationFrame(tick); };
  requestAnimationFrame(tick);
}"""
# A hand that is never late: it moves between any two frames, within the page. Messages to the browser cannot keep that
# up: each waits for a frame, and what sends them takes the processor from what is measured. Twice to and fro a second.
HANDS = {
    "a component": """(node, seen) => {
      node.setPointerCapture = () => {};  // there is no such pointer
      const { x, y, width, height } = node.getBoundingClientRect();
      const send = (kind, place) => node.dispatchEvent(new PointerEvent(kind, { bubbles: true, buttons: 1,
        clientX: x + width / 2 + 90 * place, clientY: y + height / 2 + 60 * place }));
      send("pointerdown", 0);
      seen.end = () => { send("pointerup", 0); delete node.setPointerCapture; };
      return (place) => send("pointermove", place);
    }""",
    "t": """(node, seen) => {
      const send = (kind, t) => { node.value = t; node.dispatchEvent(new Event(kind, { bubbles: true })); };
      seen.end = () => send("change", 0.5);
      return (place) => send("input", 0.5 + 0.48 * place);
    }""",
}
MOVE = """async (node, [hand, milliseconds]) => {
  const { seen } = window, move = eval(hand)(node, seen);
  Object.assign(seen, { frames: 0, lags: [], ms: [], began: performance.now() });
  seen.hand = () => move(Math.sin(performance.now() * 4 * Math.PI / 1000));
  seen.hand();
  await new Promise((done) => setTimeout(done, milliseconds));
  seen.hand = null;
  const found = { ...seen, end: null, elapsed: performance.now() - seen.began };
  seen.end();
  return found;
}"""
IMAGES = """image => {
  window.seen = { pictures: 0, began: performance.now() };
  image.addEventListener("load", () => { seen.pictures += 1; seen.loaded?.(); });
}"""
# Movements are made in the page here, one in each frame, so that the first that can be answered is not missed.
OPENING = """
const mark = window.mark = {};
HTMLElement.prototype.setPointerCapture = () => {};  // there is no such pointer
const tick = () => {
  const cell = document.querySelector(".jp-Notebook .jp-Cell");
  if (cell?.offsetHeight) mark.notebook ??= performance.now();
  const handle = document.querySelector(".fm-lab[data-drawn] .fm-handle.fm-centre");
  if (handle) {
    const { drawn } = handle.closest(".fm-lab").dataset, { x, y, width, height } = handle.getBoundingClientRect();
    const send = (kind, dx) => handle.dispatchEvent(new PointerEvent(kind, {
      clientX: x + width / 2 + dx, clientY: y + height / 2, bubbles: true, isPrimary: true, buttons: 1 }));
    if (mark.drawn === undefined) send("pointerdown", 0);
    else if (mark.drawn !== drawn) return void (mark.answer = performance.now());
    mark.drawn = drawn;
    send("pointermove", 3);
  }
  requestAnimationFrame(tick);
};
requestAnimationFrame(tick);
"""
IDLE = "() => jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


def stored(cell: str, execute: bool = True):
    """A notebook with this cell, as `make render` would store it."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell, id="cell-000")])
    notebook.metadata["kernelspec"] = render.KERNEL
    if execute:
        render.execute(notebook)
        render.clean(notebook)
    return notebook


@contextmanager
def jupyterlab(notebooks: dict):
    """JupyterLab as the starter starts it, over these notebooks, which it trusts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "notebooks").mkdir()
        (folder / "state" / "fmlib").mkdir(parents=True)
        notary = NotebookNotary(data_dir=str(folder / "state" / "fmlib"))
        for i, notebook in notebooks.items():
            path = folder / "notebooks" / f"{i}.ipynb"
            path.parent.mkdir(exist_ok=True)
            nbformat.write(notebook, path)
            notary.sign(notebook)
        notary.store.close()
        with running_lab(folder) as address:
            yield address


@asynccontextmanager
async def new_page(browser):
    context = await browser.new_context(viewport={"width": 1280, "height": 1000})
    page = await context.new_page()
    page.set_default_timeout(90_000)
    yield page
    await context.close()


async def drag_lab(page, which: str, seconds: float) -> dict:
    """Rate and script with the hand in the page; the lag with the browser's mouse, one movement at a time. A crowd of
    components has no handles: there the hand takes the one nearest to the middle of the picture."""
    lab = page.locator(".fm-lab").first
    await lab.scroll_into_view_if_needed()
    await page.wait_for_timeout(1500)
    node = page.get_by_role("slider", name="t", exact=True).first
    if which == "a component":
        handle = page.locator(".fm-handle.fm-centre")
        node = handle.first if await handle.count() else lab.locator("canvas")
    await lab.evaluate(WATCH)
    await node.evaluate(MOVE, [HANDS[which], 700])  # the first frames compile the script
    moved = await node.evaluate(MOVE, [HANDS[which], 1000 * seconds])
    await node.scroll_into_view_if_needed()
    await page.wait_for_timeout(300)
    box = await node.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    await page.mouse.move(x, y)
    await page.mouse.down()
    await page.evaluate("() => { seen.lags = []; }")
    for i in range(100):  # as slow as a hand that looks: the pauses fall anywhere in a frame
        await page.mouse.move(x + 60 * math.sin(i / 8), y + (40 * math.sin(i / 8) if which == "a component" else 0))
        await page.wait_for_timeout(23)
    lags = await page.evaluate("() => seen.lags")
    await page.mouse.up()
    if len(moved["ms"]) < 20 or len(lags) < 50:
        raise RuntimeError(f"{len(moved['ms'])} pictures in {seconds:g} s, {len(lags)} of 100 movements of {which}")
    return {
        "rate": 1000 * len(moved["ms"]) / moved["elapsed"],
        "frames": 1000 * moved["frames"] / moved["elapsed"],
        "script": statistics.median(moved["ms"]),
        "script p95": p95(moved["ms"]),
        "lag": statistics.median(lags),
        "lag p95": p95(lags),
    }


async def drag_naive(page, seconds: float) -> dict:
    """The lag is from one movement to the picture that it makes, with nothing else under way."""
    await page.wait_for_function(IDLE)
    await page.evaluate("() => { jupyterapp.commands.execute('notebook:run-all-cells'); }")
    image, handle = page.locator(".jp-OutputArea img").last, page.locator(".noUi-handle").first
    await image.wait_for()
    await page.wait_for_timeout(1500)
    width = (await page.locator(".noUi-target").first.bounding_box())["width"]
    await image.evaluate(IMAGES)
    box = await handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    await page.mouse.move(x, y)
    await page.mouse.down()
    await image.evaluate("() => { Object.assign(seen, { pictures: 0, began: performance.now() }); }")
    i = 0
    while await page.evaluate("() => performance.now() - seen.began") < 1000 * seconds:
        i += 1
        await page.mouse.move(x + 0.45 * width * math.sin(i / 10), y)
    rate = await page.evaluate("() => 1000 * seen.pictures / (performance.now() - seen.began)")
    await page.wait_for_timeout(1500)  # what is still on its way arrives
    lags = []
    for i in range(20):
        begun = await page.evaluate_handle(
            """() => {
              const once = { capture: true, once: true };
              const moved = new Promise((done) => addEventListener("pointermove", done, once));
              const loaded = new Promise((done) => { seen.loaded = done; });
              return { lag: moved.then(({ timeStamp }) => loaded.then(() => performance.now() - timeStamp)) }; }"""
        )
        await page.mouse.move(x + (i % 2 + 1) * 20, y)
        lags.append(await begun.evaluate("({ lag }) => lag"))
        await page.wait_for_timeout(100)
    await page.mouse.up()
    return {"rate": rate, "lag": statistics.median(lags), "lag p95": p95(lags)}


async def dragging(browser, seconds: float) -> dict:
    rows = {}
    cells = {str(i): f"{BEGIN}lab = FlowLab({m}, 'a lab', {o})\nlab" for i, (m, o) in enumerate(SETTINGS.values())}
    notebooks = {name: stored(cell) for name, cell in cells.items()} | {"naive": stored(NAIVE, execute=False)}
    with jupyterlab(notebooks) as address:
        for i, (name, (mixture, options)) in enumerate(SETTINGS.items()):
            names = {"torch": torch, "GaussianMixture": GaussianMixture, "eight_gaussians": eight_gaussians}
            text = eval(f"html({mixture}, {options})", {"html": test_lab_in_browser.html, **names})
            for where in ("a page", "JupyterLab"):
                for which in ("a component", "t"):
                    async with new_page(browser) as page:
                        if where == "a page":
                            await page.set_content(text)
                        else:
                            await page.goto(address.format(i))
                        await page.wait_for_selector(".fm-lab[data-drawn]")
                        row = rows[f"{name}; {where}; {which}"] = await drag_lab(page, which, seconds)
                        said = {k: round(v, 1) for k, v in row.items()}
                        print(f"{name}; {where}; {which}: {said}", flush=True)
        async with new_page(browser) as page:
            await page.goto(address.format("naive"))
            row = rows["8 components, 800 particles; through a kernel; t"] = await drag_naive(page, seconds)
            print(f"naive: { {k: round(v, 1) for k, v in row.items()} }", flush=True)
    return rows


async def opened(page, address: str) -> float:
    """Milliseconds from the first cell of the notebook to the lab's answer to a hand."""
    await page.add_init_script(OPENING)
    await page.goto(address)
    await page.wait_for_function("() => window.mark.answer")
    await page.wait_for_function(IDLE)
    return await page.evaluate("() => mark.answer - mark.notebook")


async def ran(page) -> float:
    """Milliseconds in which its one cell runs: torch, fmlib, a lab with its still."""
    return await page.evaluate(
        """async () => {
          const began = performance.now();
          await jupyterapp.commands.execute("notebook:run-all-cells");
          return performance.now() - began;
        }"""
    )


async def opening(browser, times: int) -> dict:
    """Each time a new server: its first notebook, one that a kernel waits for, one in a folder where none does."""
    rows = {name: {"open": [], "run": []} for name in ("first notebook", "a kernel waits", "no kernel waits")}
    notebook = stored(f"{BEGIN}lab = FlowLab(three_gaussians(), 'a lab')\nlab")
    # In the first notebook the reader reads before running; where none waits it makes no difference.
    plan = {"first notebook": ("0", 0, 15), "no kernel waits": ("elsewhere/1", 0, 1), "a kernel waits": ("2", 25, 1)}
    for _ in range(times):
        with jupyterlab({name: notebook for name, *_ in plan.values()}) as address:
            for row, (name, before, after) in plan.items():
                async with new_page(browser) as page:
                    await asyncio.sleep(before)
                    rows[row]["open"].append(await opened(page, address.format(name)))
                    await asyncio.sleep(after)
                    rows[row]["run"].append(await ran(page))
                    print(row, {k: round(v[-1]) for k, v in rows[row].items()}, flush=True)
    return {name: {k: statistics.median(v) for k, v in row.items()} for name, row in rows.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--times", type=int, default=3, help="how often a server is started")
    parser.add_argument("--only", choices=("drag", "open"))
    options = parser.parse_args()
    if CHROMIUM is None:
        sys.exit("no Chromium found: install it, or set CHROMIUM to its path")

    async def run():
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            if options.only != "open":
                store("lab", await dragging(browser, options.seconds))
            if options.only != "drag":
                store("opening", await opening(browser, options.times))
            await browser.close()

    asyncio.run(run())


if __name__ == "__main__":
    main()
