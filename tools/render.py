"""Turn the lessons' text (notebooks/src/*.py) into executed, clean notebooks (notebooks/*.ipynb).

python tools/render.py [--force] [NAME ...]     NAME: the beginning of a lesson's file name, such as 04; all if none

A notebook whose cells differ from the text that it was rendered from has been edited by someone. It is not
overwritten unless --force is given: copy the edit into the text first.
"""

import argparse
import hashlib
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
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


def execute(notebook, timeout: int = 300) -> None:
    """Run all cells in a new kernel, in the folder of the lessons; seconds for each cell."""
    where = {"metadata": {"path": NOTEBOOKS}}
    NotebookClient(notebook, timeout=timeout, kernel_name="python3", coalesce_streams=True, resources=where).execute()


def clean(notebook) -> None:
    """Drop what differs from run to run: progress bars (stderr and tqdm's widgets), widget state, timings.

    Where an output has a widget and a still picture or text, only that is stored: without its state the widget could
    not be shown, and would hide it.
    """
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if not is_progress(o)]
            for output in cell.outputs:
                if {"image/png", "text/markdown"} & output.get("data", {}).keys():
                    output.data.pop(WIDGET_VIEW, None)


def is_progress(output) -> bool:
    if output.output_type == "stream":
        return output.name == "stderr"
    return WIDGET_VIEW in output.get("data", {}) and "?it/s]" in output.data.get("text/plain", "")


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
    from fmlib.starter import ship  # here, since it brings torch

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
