"""Every link in the lessons, the cards, the claims and the cheat sheet leads to a section that exists."""

import re
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
from nbconvert import HTMLExporter

from fmlib.study.bank import TEXTS, claims, questions
from fmlib.study.cards import card, link

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(p.stem for p in (ROOT / "notebooks").glob("*.ipynb"))


def markdown(name: str) -> list[str]:
    """The texts of a stored notebook: its markdown cells, and what its cells show as markdown."""
    cells = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells
    shown = [
        o["data"]["text/markdown"] for c in cells for o in c.get("outputs", []) if "text/markdown" in o.get("data", {})
    ]
    return [c.source for c in cells if c.cell_type == "markdown"] + shown


@pytest.fixture(scope="module")
def pages() -> dict[str, set[str]]:
    """Each lesson's ids, as nbconvert makes them of the headings; JupyterLab makes the same."""
    ids = {}
    for name in NAMES:
        headings = [line for text in markdown(name) for line in text.splitlines() if re.match(r"#+ ", line)]
        cells = [nbformat.v4.new_markdown_cell(line) for line in headings]
        page = HTMLExporter(template_name="basic").from_notebook_node(nbformat.v4.new_notebook(cells=cells))[0]
        ids[name] = {unquote(unescape(i)) for i in re.findall(r'<h\d id="(.*?)">', page)}
    return ids


def broken(text: str, here: str, pages: dict[str, set[str]]) -> list[str]:
    """The links of a text that lead nowhere. here: the lesson that it stands in."""
    found = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:", target):
            continue
        file, _, anchor = target.partition("#")
        name = Path(file).stem if file else here
        if file and not file.endswith(".ipynb"):
            if not (ROOT / "notebooks" / file).exists():
                found.append(target)
        elif name not in pages or (anchor and unquote(anchor) not in pages[name]):
            found.append(target)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_links_of_a_lesson(name, pages):
    assert [wrong for text in markdown(name) for wrong in broken(text, name, pages)] == []


def test_links_of_sheet_cards_claims_and_readme(pages):
    sheet = (TEXTS / "cheat_sheet.md").read_text(encoding="utf-8")
    assert len(re.findall(r"\]\(", sheet)) > 50
    texts = [sheet, *map(card, questions().values()), *(link(p) for c in claims().values() for p in c.proof)]
    assert [wrong for text in texts for wrong in broken(text, "00_quick_reference", pages)] == []
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\(((?!https?:)[^)]+)\)", readme)
    assert targets and all((ROOT / t).exists() for t in targets)


@pytest.mark.parametrize(
    "text",
    [
        "[a](00_quick_reference.ipynb#No-such-heading)",
        "[a](77_nothing.ipynb)",
        "[a](../tests/no_such.py)",
        "[a](#nothing)",
    ],
)
def test_a_broken_link_is_found(text, pages):
    assert broken(text, "00_quick_reference", pages)
    assert not broken("[a](00_quick_reference.ipynb#The-convention)", "01_continuity_equation", pages)
