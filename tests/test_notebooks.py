"""The stored notebooks are what their text says, executed once from top to bottom, and small."""

import re
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import again  # noqa: E402
import render  # noqa: E402
import seeds  # noqa: E402

TEXTS = sorted((ROOT / "notebooks" / "src").glob("*.py"))
NAMES = [t.stem for t in TEXTS]


def load(name):
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


def code_cells(notebook):
    return [c for c in notebook.cells if c.cell_type == "code" and c.source.strip()]


def test_every_lesson_has_both_forms():
    assert NAMES and sorted(p.stem for p in (ROOT / "notebooks").glob("*.ipynb")) == NAMES


def problems(notebook, text) -> list[str]:
    """What is wrong with a stored notebook, in words."""
    found = []
    if render.cells(notebook) != render.cells(text):
        found.append("its cells differ from notebooks/src: run make render (after copying an edit into the text)")
    code = code_cells(notebook)
    if [c.execution_count for c in code] != list(range(1, len(code) + 1)):
        found.append("it was not executed once from top to bottom")
    for number, cell in enumerate(code, 1):
        tags = cell.metadata.get("tags", [])
        if any(o.output_type == "error" for o in cell.outputs) and "raises-exception" not in tags:
            found.append(f"cell {number} holds an error")
        marked = re.search(r"^# NBVAL_CHECK_OUTPUT$", cell.source, re.MULTILINE) or "nbval-check-output" in tags
        if marked and not cell.outputs:
            found.append(f"cell {number} is marked for output checking and has no stored output")
        for output in cell.outputs:
            if "image/png" in output.get("data", {}) and not output.metadata.get("image/png", {}).get("alt"):
                found.append(f"cell {number} shows a picture without alt text: use fmlib.plots.show")
    if "widgets" in notebook.metadata:
        found.append("it stores widget state")
    return found


@pytest.mark.parametrize("name", NAMES)
def test_notebook_is_what_its_text_says(name):
    text = render.read_text(ROOT / "notebooks" / "src" / f"{name}.py")
    assert problems(load(name), text) == []
    assert (ROOT / "notebooks" / f"{name}.ipynb").stat().st_size < 1_000_000


def test_each_problem_is_found():
    """The wrong twins: one thing broken at a time in a good notebook."""
    name = NAMES[0]
    text = render.read_text(ROOT / "notebooks" / "src" / f"{name}.py")

    def broken(change) -> list[str]:
        notebook = load(name)
        change(notebook, code_cells(notebook))
        return problems(notebook, text)

    def set_source(notebook, code):
        notebook.cells[0].source += "!"

    def swap_counts(notebook, code):
        code[0].execution_count = 2

    def add_error(notebook, code):
        code[1].outputs.append(nbformat.v4.new_output("error", ename="E", evalue="", traceback=[]))

    def drop_marked_output(notebook, code):
        code[0].outputs = []

    def drop_alt(notebook, code):
        picture = next(o for c in code for o in c.outputs if "image/png" in o.get("data", {}))
        picture.metadata = {}

    for change, message in (
        (set_source, "differ"),
        (swap_counts, "not executed once"),
        (add_error, "holds an error"),
        (drop_marked_output, "no stored output"),
        (drop_alt, "without alt text"),
    ):
        found = broken(change)
        assert len(found) == 1 and message in found[0]


def test_an_edited_notebook_is_not_overwritten(tmp_path, monkeypatch):
    notebook = load(NAMES[0])
    notebook.cells[1].source = "my_answer = 42"
    nbformat.write(notebook, tmp_path / f"{NAMES[0]}.ipynb")
    before = (tmp_path / f"{NAMES[0]}.ipynb").read_bytes()
    monkeypatch.setattr(render, "NOTEBOOKS", tmp_path)
    with pytest.raises(SystemExit, match="was edited since it was rendered"):
        render.render(TEXTS[0], force=False)
    assert (tmp_path / f"{NAMES[0]}.ipynb").read_bytes() == before
    assert not render.was_edited(ROOT / "notebooks" / f"{NAMES[0]}.ipynb")


def test_progress_bars_are_dropped():
    bar = nbformat.v4.new_output(
        "display_data",
        {render.WIDGET_VIEW: {}, "text/plain": "rectified_flow:   0%|          | 0/700 [00:00<?, ?it/s]"},
    )
    slider = nbformat.v4.new_output(
        "display_data", {render.WIDGET_VIEW: {}, "text/plain": "VBox(children=(IntSlider()))"}
    )
    noise = nbformat.v4.new_output("stream", name="stderr", text="3%")
    words = nbformat.v4.new_output("stream", name="stdout", text="loss")
    assert [render.is_progress(o) for o in (bar, slider, noise, words)] == [True, False, True, False]


def test_another_number_is_found_and_another_time_is_not():
    """tools/again.py compares what a second run shows."""
    new = nbformat.v4

    def notebook(words, picture):
        outputs = [
            new.new_output("stream", text=f"{words}\n"),
            new.new_output("display_data", data={"text/plain": "a figure", "image/png": picture}),
        ]
        return new.new_notebook(cells=[new.new_code_cell("x", outputs=outputs)])

    stored = notebook("loss 0.1234 in 3.1 s\nspeed: 250 steps a second", "aaaa")
    assert again.differences(stored, notebook("loss 0.1234 in   4 s\nspeed: 1,000 steps a second", "aaaa\n")) == []
    assert len(again.differences(stored, notebook("loss 0.1235 in 3.1 s\nspeed: 250 steps a second", "aaaa"))) == 1
    assert len(again.differences(stored, notebook("loss 0.1234 in 3.1 s\nspeed: 250 steps a second", "aaab"))) == 1
    assert len(again.differences(stored, new.new_notebook(cells=[new.new_code_cell("x")]))) == 4


def test_seeds_are_run_again_where_a_room_behind_the_lesson_changed():
    rooms = seeds.rooms_of("from fmlib import *\nfrom fmlib.digits import dequantise\nsamples = heun_sampler(f, x0)")
    assert {"samplers", "digits", "checks"} <= rooms
    assert not {"training", "guidance", "heun_sampler", "plots"} & rooms
    assert "guidance" in seeds.rooms_of("fmlib.train_flow_matching(net, data, path)")  # training imports it
