"""The stored notebooks are what their text says, executed once from top to bottom, and small."""

import copy
import re
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
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
                found.append(f"cell {number} shows a picture without alt text: use fmlib.page.plots.show")
    if "widgets" in notebook.metadata:
        state = notebook.metadata["widgets"].get(render.WIDGET_STATE, {}).get("state")
        if state is None:
            found.append("its widget state has no key `state`: GitHub would not show it")
        labs = {name for name, model in (state or {}).items() if render.kind_of(model)}
        layouts = {state[name].state.layout.removeprefix("IPY_MODEL_") for name in labs}
        for name, model in (state or {}).items():
            small = model.model_name == "HTMLModel" and len(model.state.value) <= 80_000
            if not name.startswith("fm-") or not (small or name in labs or name in layouts):
                found.append(f"it stores the state of a widget, {model.model_name}, not only placeholders and labs")
        for cell in code:
            views = [
                o.data[render.WIDGET_VIEW]["model_id"] for o in cell.outputs if render.WIDGET_VIEW in o.get("data", {})
            ]
            if not labs.issuperset(views):
                found.append("an output asks for a widget, which hides the picture beside it")
    return found


@pytest.mark.parametrize("name", NAMES)
def test_notebook_is_what_its_text_says(name):
    text = render.read_text(ROOT / "notebooks" / "src" / f"{name}.py")
    assert problems(load(name), text) == []
    assert (ROOT / "notebooks" / f"{name}.ipynb").stat().st_size < 1_000_000


def test_each_problem_is_found():
    """The wrong twins: one thing broken at a time in a good notebook, one without labs."""
    name = next(name for name in NAMES if name.startswith("10"))

    text = None

    def broken(change) -> list[str]:
        nonlocal text
        notebook, text = load(name), render.read_text(ROOT / "notebooks" / "src" / f"{name}.py")
        change(notebook, code_cells(notebook))
        return problems(notebook, text)

    def set_source(notebook, code):
        notebook.cells[0].source += "!"

    def swap_counts(notebook, code):
        code[0].execution_count = 2

    def add_error(notebook, code):
        code[1].outputs.append(nbformat.v4.new_output("error", ename="E", evalue="", traceback=[]))

    def drop_marked_output(notebook, code):
        for cell in (code[0], code_cells(text)[0]):
            cell.metadata["tags"] = ["nbval-check-output"]
        code[0].outputs = []

    def drop_alt(notebook, code):
        picture = next(o for c in code for o in c.outputs if "image/png" in o.get("data", {}))
        picture.metadata = {}

    def store_state(notebook, code):
        model = {"model_name": "SliderModel", "state": {"value": 0.5}}
        put_state(notebook, {"state": {"fm-1": model}})

    def forget_the_key(notebook, code):
        put_state(notebook, {})

    def store_view(notebook, code):
        put_state(notebook, {"state": {}})
        code[0].outputs.append(nbformat.v4.new_output("display_data", {render.WIDGET_VIEW: {"model_id": "fm-1"}}))

    def put_state(notebook, state):
        notebook.metadata["widgets"] = nbformat.from_dict({render.WIDGET_STATE: state})

    for change, message in (
        (store_state, "not only placeholders and labs"),
        (forget_the_key, "no key `state`"),
        (store_view, "asks for a widget"),
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
    bar = nbformat.v4.new_output("display_data", {})
    slider = nbformat.v4.new_output(
        "display_data", {render.WIDGET_VIEW: {}, "text/plain": "VBox(children=(IntSlider()))"}
    )
    noise = nbformat.v4.new_output("stream", name="stderr", text="3%")
    words = nbformat.v4.new_output("stream", name="stdout", text="loss")
    assert [render.is_progress(o) for o in (bar, slider, noise, words)] == [True, False, True, False]


def small_lesson():
    """A lesson with a player of five points, a progress bar, and the folder it runs in."""
    sources = (
        "import torch; from fmlib import *; from fmlib.page import *; from fmlib.progress import progress_bar",
        "player = FlowPlayer([0.0, 1.0], [Panel(torch.randn(2, 5, 2))], alt='five points')\nplayer",
        "with progress_bar(range(3), leave=False) as steps:\n    for _ in steps: pass\nprint('trained')",
        "import os; print(os.listdir())",
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    for i, cell in enumerate(notebook.cells):
        cell.id = f"cell-{i:03d}"
    return notebook


@pytest.fixture(scope="module")
def executed():
    notebook = small_lesson()
    render.execute(notebook)
    raw = copy.deepcopy(notebook)
    render.clean(notebook)
    return raw, notebook


@pytest.mark.slow
def test_a_rendered_lesson_has_its_picture_and_a_placeholder(executed):
    raw, notebook = executed
    (output,) = notebook.cells[1].outputs
    assert output.metadata["image/png"]["alt"] == "five points" and render.WIDGET_VIEW not in output.data
    stored = notebook.metadata["widgets"][render.WIDGET_STATE]
    (view,) = (o.data[render.WIDGET_VIEW] for o in raw.cells[1].outputs)
    assert set(stored) == {"state", "version_major", "version_minor"} and list(stored["state"]) == [view["model_id"]]
    value = stored["state"][view["model_id"]]["state"]["value"]
    assert render.ASLEEP in value and 'alt="five points"' in value and "image/webp" in value
    assert [o.output_type for o in notebook.cells[2].outputs] == ["stream"]  # the bar is gone
    again = small_lesson()
    again.cells[1].source += "  # edited by its reader"
    render.execute(again)
    render.clean(again)
    assert list(again.metadata["widgets"][render.WIDGET_STATE]["state"]) == [view["model_id"]]


@pytest.mark.slow
def test_a_lesson_is_executed_in_an_empty_folder(executed):
    """Nothing of its author's gets into a page: their interview results lie in notebooks/."""
    assert executed[1].cells[3].outputs[0].text.strip() == "[]"


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
    assert {"engine", "engine.loop", "learner"} <= seeds.rooms_of("from fmlib.engine import TrainConfig")
    assert seeds.rooms_of("from fmlib.page import *\nfrom fmlib.study import *") == set()


SEEDS_PAGE = "| lesson | seeds that pass |\n|---|---|\n| {} | 20 of 20 | – | – |\n| 99_gone | 1 of 1 | – | – |\n"


def test_a_run_of_one_lesson_keeps_the_rows_of_the_others():
    one, other = NAMES[:2]
    row = f"| {other} | 20 of 20 | – | – |"
    run = {one: {"runs": {"1000": {"error": None, "nearest": {"a < b": [1.5, 2.0, 3.0]}}}}}
    lines = seeds.table(run, SEEDS_PAGE.format(other)).splitlines()
    assert lines[2:] == [f"| {one} | 1 of 1 | `a < b` | 1.50 |", row]  # and a lesson that is gone is not kept
    assert row not in seeds.table(run)  # the wrong twin: without the page it would be lost
    run[other] = {"runs": {"1000": {"error": "AssertionError", "nearest": {}}}}
    assert f"| {other} | 0 of 1 | – | – |" in seeds.table(run, SEEDS_PAGE.format(other))


@pytest.mark.parametrize("elsewhere", [True, False])
def test_only_the_file_in_docs_writes_the_page(tmp_path, monkeypatch, elsewhere):
    out, page = tmp_path / "seeds.json", tmp_path / "seeds.md"
    monkeypatch.setattr(seeds, "OUT", out)
    monkeypatch.setattr(seeds, "PAGE", page)
    page.write_text("as it was", encoding="utf-8")
    named = ["--out", str(tmp_path / "mine.json")] if elsewhere else ["--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["seeds.py", "--seeds", "0", *named, NAMES[0]])
    assert seeds.main() == 0
    assert (page.read_text("utf-8") == "as it was") == elsewhere


@pytest.mark.slow
def test_other_seeds_are_trained_anew(tmp_path, monkeypatch):
    """Stored weights would pass with any seed; by default a lesson takes them."""
    lesson = tmp_path / "04_mine.py"
    lesson.write_text("# %%\nimport os\nassert os.environ['TRAIN'] == '1'\n", encoding="utf-8")
    monkeypatch.setenv("TRAIN", "stored")
    assert seeds.run(lesson, 1000)["error"] is None
    with pytest.raises(Exception, match="AssertionError"):
        render.execute(render.read_text(lesson))
