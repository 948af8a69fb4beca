"""Turn the lessons' text (notebooks/src/*.py) into executed, clean notebooks (notebooks/*.ipynb).

python tools/render.py [--force] [NAME ...]     NAME: the beginning of a lesson's file name, such as 04; all if none

A notebook whose cells differ from the text that it was rendered from has been edited by someone. It is not
overwritten unless --force is given: copy the edit into the text first.
"""

import argparse
import base64
import hashlib
import html
import io
import os
import sys
import tempfile
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from PIL import Image

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
ASLEEP = "Run this cell to make it move again."
SOURCE_HASH = "source_sha256"


def cells(notebook) -> list[tuple]:
    """What text and notebook must have in common: (type, source, tags) of every cell."""
    return [(c.cell_type, c.source, tuple(c.metadata.get("tags", []))) for c in notebook.cells]


def read_text(path: Path):
    """The notebook that a text describes: no outputs, plain metadata, and cell ids that do not change by chance."""
    notebook = jupytext.read(path)
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for i, cell in enumerate(notebook.cells):
        cell.id = f"cell-{i:03d}"
    return notebook


def execute(notebook, timeout: int = 300, train: str = "stored") -> None:
    """Run all cells in a new kernel; seconds for each cell. train: what fmlib.weights does, the variable TRAIN.

    It runs in an empty folder, so that nothing of its author's, such as the results of an interview, gets into a page.
    The kernel is told the cells' ids, as JupyterLab does: the widgets make their own from them (fmlib.page.alive).
    """
    with tempfile.TemporaryDirectory() as folder:
        where = {"metadata": {"path": folder}}
        client = NotebookClient(
            notebook, timeout=timeout, kernel_name="python3", coalesce_streams=True, resources=where
        )
        client.on_cell_execute = lambda cell, cell_index: client.kc.session.metadata.update(cellId=cell.id)
        client.execute(env={**os.environ, "TRAIN": train})


def clean(notebook) -> None:
    """Drop what differs from run to run: progress bars, what was written to stderr, timings; and the widgets' state.

    Where an output has a widget and a still picture or text, only that is stored: without its state the widget could
    not be shown, and would hide it. In place of the state there are `placeholders`. Labs and predictions alone keep
    theirs: they need no kernel, and are alive before anything was run.
    """
    state = placeholders(notebook) | labs(notebook)
    notebook.metadata.pop("widgets", None)
    if state:  # with all its keys: GitHub shows no notebook whose widgets have no "state"
        notebook.metadata["widgets"] = {WIDGET_STATE: {"state": state, "version_major": 2, "version_minor": 0}}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if not is_progress(o)]
            for output in cell.outputs:
                if {"image/png", "text/markdown"} & output.get("data", {}).keys():
                    output.data.pop(WIDGET_VIEW, None)


def labs(notebook) -> dict:
    """The state of labs and predictions in the outputs, and of their layouts: a few kilobytes and the script."""
    held = notebook.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    shown = {
        output.data[WIDGET_VIEW]["model_id"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if WIDGET_VIEW in output.get("data", {})
    }
    found = {name: held[name] for name in shown if kind_of(held.get(name))}
    share_scripts(found)
    layouts = (model["state"]["layout"].removeprefix("IPY_MODEL_") for model in found.values())
    return dict(sorted((found | {name: held[name] for name in layouts}).items()))


# What stands in a notebook in the place of a script that another of its widgets holds. A widget that is run gets its
# own script from the kernel.
LOADER = """export default { async render(context) {
const other = await context.model.widget_manager.get_model("%s");
const url = URL.createObjectURL(new Blob([other.get("_esm")], { type: "text/javascript" }));
const { default: widget } = await import(url);
return widget.render(context);
} };"""


def share_scripts(models: dict) -> None:
    """Of several widgets of one kind the first, by its id, keeps its script; the others load it from there."""
    first = {}
    for name, model in sorted(models.items()):
        holder = first.setdefault(model["state"]["_esm"], name)
        if holder != name:
            model["state"]["_esm"] = LOADER % holder


def kind_of(model) -> str | None:
    """ "lab" or "predict" for a widget that lives without a kernel, else None."""
    if not model or model.get("model_module") != "anywidget":
        return None
    name = model["state"].get("_anywidget_id", "").rpartition(".")[2]
    return {"FlowLab": "lab", "Prediction": "predict"}.get(name)


def placeholders(notebook) -> dict:
    """For each of fmlib's widgets in the outputs a line of text and its picture, small, under the widget's id.

    A reader runs the cell, saves and comes back. JupyterLab as it comes does not save what the widgets hold, but it
    keeps the state that the file had before; so it finds this under the id, instead of nothing, which is an error.
    """
    state = {}
    for output in (o for cell in notebook.cells for o in cell.get("outputs", [])):
        data = output.get("data", {})
        model_id = data.get(WIDGET_VIEW, {}).get("model_id", "")
        held = notebook.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
        if model_id.startswith("fm-") and not kind_of(held.get(model_id)):
            if "image/png" in data:
                about = output.metadata["image/png"]
                value = _small(data["image/png"], about["alt"], about["width"]) + f"<p><em>{ASLEEP}</em></p>"
            else:
                value = f"<p><em>{html.escape(data['text/plain'])}</em></p>"
            state[model_id] = {
                "model_module": "@jupyter-widgets/controls",
                "model_module_version": "2.0.0",
                "model_name": "HTMLModel",
                "state": {"value": value},
            }
    return state


def _small(png: str, alt: str, width: int) -> str:
    """An img element of at most 600 pixels across: 4 to 40 kB."""
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    picture.thumbnail((600, 10_000), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "webp", quality=40, method=6)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{html.escape(alt)}" width="{width}" style="max-width: 100%" src="data:image/webp;base64,{data}">'


def is_progress(output) -> bool:
    if output.output_type == "stream":
        return output.name == "stderr"
    return output.output_type == "display_data" and not output.data  # a bar that is done (fmlib.progress)


def was_edited(path: Path) -> bool:
    """Whether the notebook's cells are no longer those that were rendered."""
    notebook = nbformat.read(path, as_version=4)
    return notebook.metadata.get(SOURCE_HASH) != source_hash(notebook)


def source_hash(notebook) -> str:
    return hashlib.sha256(repr(cells(notebook)).encode()).hexdigest()


def render(text: Path, force: bool) -> None:
    target = NOTEBOOKS / f"{text.stem}.ipynb"
    if target.exists() and was_edited(target) and not force:
        sys.exit(f"{target.name} was edited since it was rendered. Copy the edit to src/{text.name}, or use --force.")
    notebook = read_text(text)
    start = time.perf_counter()
    execute(notebook)
    clean(notebook)
    notebook.metadata[SOURCE_HASH] = source_hash(notebook)
    nbformat.write(notebook, target)
    from fmlib.jupyter.starter import ship  # here, since it brings torch

    ship(target)  # the starter trusts exactly this file
    print(f"{target.name}: {time.perf_counter() - start:.1f} s, {target.stat().st_size / 1000:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--force", action="store_true", help="overwrite a notebook that was edited")
    options = parser.parse_args()
    texts = [t for t in sorted((NOTEBOOKS / "src").glob("*.py")) if t.name.startswith(tuple(options.names or [""]))]
    if not texts:
        sys.exit(f"no lesson in notebooks/src begins with {' or '.join(options.names)}")
    for text in texts:
        render(text, options.force)


if __name__ == "__main__":
    main()
