"""A lab in a notebook that nobody has run: alive in JupyterLab, its still hidden, and no word to a kernel meanwhile."""

import importlib.util
import sys
from pathlib import Path

import nbformat
import pytest
from lab_server import running_lab
from nbformat.sign import NotebookNotary

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import render  # noqa: E402

CELL = (
    "from fmlib import *\nfrom fmlib.page import *\n"
    "lab = FlowLab(three_gaussians(), 'three clumps', layers=['density', 'field', 'particles', 'probe'])\nlab"
)


@pytest.fixture(scope="module")
def notebook():
    """As `make render` would store it."""
    made = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(CELL), nbformat.v4.new_code_cell("lab.t, lab.mixture.means")]
    )
    made.metadata["kernelspec"] = render.KERNEL
    for i, cell in enumerate(made.cells):
        cell.id = f"cell-{i:03d}"
    render.execute(made)
    render.clean(made)
    return made


def test_what_is_stored_is_the_lab_and_its_still(notebook):
    state = notebook.metadata.widgets[render.WIDGET_STATE].state
    assert sorted(model.model_name for model in state.values()) == ["AnyModel", "LayoutModel"]
    still, lab = notebook.cells[0].outputs
    assert still.metadata["image/png"]["alt"] == "three clumps" and render.WIDGET_VIEW not in still.data
    assert render.WIDGET_VIEW in lab.data and "image/png" not in lab.data
    assert len(nbformat.writes(notebook)) < 200_000  # the script of the labs, once, and a picture


def test_it_is_alive_before_anything_was_run(page, notebook, tmp_path):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    nbformat.write(notebook, folder / "lab.ipynb")
    with running_lab(tmp_path) as address:
        NotebookNotary(data_dir=str(tmp_path / "state" / "fmlib")).sign(notebook)  # the starter does so for ours
        page.goto(address.format("lab"))
        page.wait_for_selector(".fm-lab[data-drawn] canvas")
        still = page.locator(".jp-OutputArea-output img")
        assert still.count() == 1 and not still.is_visible()
        page.wait_for_function(
            "() => jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'", polling=200
        )
        page.evaluate(  # JupyterLab's debugger asks on a channel of its own, when it likes
            """() => { window.sent = []; const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
              kernel.anyMessage.connect((_, { direction, msg }) => {
                if (direction === "send" && msg.channel === "shell") window.sent.push(msg.header.msg_type);
              }); }"""
        )
        box = page.locator(".fm-handle.fm-centre").first.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        drawn = int(page.locator(".fm-lab").get_attribute("data-drawn"))
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 80, y + 40, steps=10)
        page.wait_for_timeout(100)
        assert int(page.locator(".fm-lab").get_attribute("data-drawn")) > drawn and page.evaluate("window.sent") == []
        page.mouse.up()
        page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestKernelInfo()")
        assert page.evaluate("window.sent").pop() == "kernel_info_request"  # the twin: what is sent is counted
        assert page.errors == []


def test_it_is_alive_on_a_static_page(page, tmp_path):
    spec = importlib.util.spec_from_file_location("lab_site", ROOT / "tools" / "site.py")
    site = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(site)
    text = tmp_path / "00_mine.py"
    text.write_text(f"# %% [markdown]\n# # 00 · Mine\n\n# %%\n{CELL}\n", encoding="utf-8")
    (tmp_path / "page.html").write_text(site.lesson_page(text, ["00_mine"]), encoding="utf-8")
    page.goto((tmp_path / "page.html").as_uri())
    page.wait_for_selector(".fm-lab[data-drawn] canvas")
    assert page.locator("img[alt='three clumps']").count() == 0  # within noscript alone
    before = page.evaluate("() => document.querySelector('.fm-lab canvas').toDataURL()")
    page.get_by_role("slider", name="t", exact=True).fill("0.9")
    page.wait_for_timeout(100)
    assert page.evaluate("() => document.querySelector('.fm-lab canvas').toDataURL()") != before
    assert page.errors == []
