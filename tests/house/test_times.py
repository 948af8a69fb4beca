"""README and lesson heads say the times that their text and the stored measurements give."""

import shutil
import sys
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import times  # noqa: E402


def test_every_time_is_the_computed_one():
    """If this fails: python tools/times.py --write, then make render."""
    wanted = times.wanted(ROOT)
    assert len(wanted) > 10
    assert [path.name for path, text in wanted.items() if path.read_text("utf-8") != text] == []


def test_the_formula():
    """By hand: 204 words, 2 formulas in a line and one of its own, a prediction, 20 lines of code; nothing folded."""
    prose = "word " * 196 + "[a link](to/a long/place.md) $x_t$ \\$ $$\\dot x = v$$ and **Predict, then run.** $1$"
    folded = "<details><summary>Hint</summary>\n\n" + "no word " * 99 + "$x$ </details>"
    hidden = new_code_cell("x = 1\n" * 50, metadata={"tags": ["hide-input"]})
    cards = new_code_cell(
        'interview_cards(\n    "a-card", "another",\n    "third")\ncheck("ema", ema)\ncheck("swirl", mine)'
    )
    code = new_code_cell("y = 2\n\n" * 15)
    notebook = new_notebook(cells=[new_markdown_cell(prose), new_markdown_cell(folded), hidden, code, cards])
    got = times.measure(notebook, run=19.6)
    words = 196 + 2 + 2 + 1 + 3  # "word", "a link", two formulas, "and", "Predict, then run."
    assert got.read == pytest.approx(words * 0.3 + 2 * 3 + 30 + 60 + 20 * 3)
    assert (got.exercises, got.cards, got.run_seconds) == (2, 3, 20)
    assert got.head() == "*Time:* 5 minutes to read, about 20 seconds to run; 15 more for 2 exercises and 3 cards."


def copy(folder):
    shutil.copytree(ROOT / "notebooks" / "src", folder / "notebooks" / "src")
    (folder / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "benchmarks.json", folder / "docs")
    shutil.copy(ROOT / "README.md", folder)
    return folder


def test_writing_is_complete_and_idempotent(tmp_path, capsys):
    root = copy(tmp_path)
    assert times.main(["--write", "--root", str(root)]) == 0
    assert times.main(["--root", str(root)]) == 0 and "0 of the files" in capsys.readouterr().out
    lesson = root / "notebooks" / "src" / "05_ode_solvers.py"
    text = lesson.read_text("utf-8")
    lesson.write_text(text.replace(" minutes to read", " hours to read"), encoding="utf-8")  # the wrong twin
    assert times.main(["--root", str(root)]) == 1 and "05_ode_solvers" in capsys.readouterr().out
    readme = root / "README.md"
    lesson.write_text(text, encoding="utf-8")
    readme.write_text(readme.read_text("utf-8").replace(" min | ", "1 min | ", 1), encoding="utf-8")
    assert times.main(["--root", str(root)]) == 1
    lesson.write_text(text + text, encoding="utf-8")
    with pytest.raises(ValueError, match="must say its time once"):
        times.main(["--root", str(root)])


@pytest.mark.parametrize(
    "seconds, said", [(1.2, "a second"), (4.0, "4 seconds"), (61, "about a minute"), (69, "about 70 seconds")]
)
def test_words_for_the_run_time(seconds, said):
    assert times.Times(0, seconds, 0, 0).run_words() == said
