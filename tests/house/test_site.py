"""The static pages without a browser: whose results are in them, what their words and formulas become."""

import importlib.util
import json
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import render  # noqa: E402

spec = importlib.util.spec_from_file_location("fmlib_site", ROOT / "tools" / "site.py")  # `site` is Python's own
site = importlib.util.module_from_spec(spec)
spec.loader.exec_module(site)

SECRET = "a secret thought"


@pytest.fixture
def with_results(tmp_path, monkeypatch):
    """A lesson like the mock interview, in a folder that its author has used: one card was answered."""
    from fmlib.study.bank import questions
    from fmlib.study.interview import Results

    folder = tmp_path / "notebooks"
    (folder / "src").mkdir(parents=True)
    results = Results(folder / "interview_results.json")
    card = next(iter(questions()))
    results.note_answer(card, SECRET)
    results.rate(card, "Good")
    lesson = folder / "src" / "10_mine.py"
    lesson.write_text(
        "# %% [markdown]\n# # 10 · Mine\n\n# %%\nfrom fmlib.study import *\ninterview = MockInterview()\ninterview\n\n"
        "# %%\ninterview.progress()\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(render, "NOTEBOOKS", folder)
    monkeypatch.chdir(folder)
    return lesson


@pytest.mark.slow
def test_nobodys_results_are_published(with_results):
    """The wrong twin, the same cells run where the results lie, shows them."""
    page = site.lesson_page(with_results, [with_results.stem])
    assert "Nothing answered yet" in page and "1 questions answered" not in page and SECRET not in page
    notebook = render.read_text(with_results)
    render.execute(notebook)
    assert "Nothing answered yet" in json.dumps(notebook) and SECRET not in json.dumps(notebook)
    render.NotebookClient(
        notebook, kernel_name="python3", resources={"metadata": {"path": with_results.parents[1]}}
    ).execute()
    assert "1 questions answered" in json.dumps(notebook)


def small_page(*cells) -> str:
    font, body = site.to_html(nbformat.v4.new_notebook(cells=cells))
    return site.page("A page", f"{font}<main>{body}</main>")


def test_a_header_without_words_is_none():
    """axe: empty-table-header."""
    page = small_page(nbformat.v4.new_markdown_cell("# A page\n\n| | b |\n|---|---|\n| x | y |"))
    assert page.count("<th>") == 1 and "<th></th>" not in page and "<td></td>" in page


def test_pictures_keep_their_words():
    output = nbformat.v4.new_output("display_data", {"image/png": "aaaa"}, metadata={"image/png": {"alt": "two moons"}})
    page = small_page(nbformat.v4.new_code_cell("show()", outputs=[output]))
    assert 'alt="two moons"' in page


def test_code_has_contrast_in_both_themes():
    """Every colour of the two styles, and of the page, on the page's two backgrounds. Wrong twin: pygments' default."""
    assert contrast_faults("xcode", "f5f5f5") == contrast_faults("monokai", "232323") == []
    assert contrast_faults("default", "f5f5f5") and contrast_faults("xcode", "232323")


def contrast_faults(style: str, background: str) -> list[str]:
    """Tokens whose colour has a contrast below 4.5 : 1 (WCAG 2.1, 1.4.3)."""
    from pygments.styles import get_style_by_name

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    def contrast(a: str, b: str) -> float:
        low, high = sorted((luminance(a), luminance(b)))
        return (high + 0.05) / (low + 0.05)

    tokens = [(name, t) for name, t in get_style_by_name(style) if t["color"] and "Generic" not in str(name)]
    return [str(name) for name, t in tokens if contrast(t["color"], t["bgcolor"] or background) < 4.5]
