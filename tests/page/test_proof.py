"""`verify`: what holds, what fails, which wrong twins are rejected, and what is shown of it."""

import pytest
import torch

from fmlib.metrics import Estimate, estimate
from fmlib.page import verify as verify_function
from fmlib.page.proof import NotVerified, Table, verify, watchers

GRID = torch.linspace(0, 1, 11)


def test_it_is_exported():
    assert verify_function is verify


@pytest.mark.parametrize(
    "arguments",
    [
        {"measured": 1.0, "exact": 1.0, "limit": 0.1, "wrong": {"twice": 2.0}},
        {"measured": GRID + 1e-7, "exact": GRID, "limit": 1e-6, "wrong": {"moved": GRID + 1}},
        {"measured": Estimate(1.02, 0.01, 100), "exact": 1.0, "wrong": {"minus": Estimate(-1.0, 0.01, 100)}},
        {"measured": lambda: 0.02, "at_most": 0.03, "wrong": {"many": lambda: 0.06}},
        {"measured": GRID + 3, "at_least": 2.0, "wrong": {"few": 1.0}},
    ],
)
def test_what_holds(arguments):
    assert verify("a claim", **arguments) is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"measured": 1.2, "exact": 1.0, "limit": 0.1, "wrong": {"twice": 2.0}}, "FAILS  a claim: 1.2"),
        ({"measured": GRID, "exact": GRID + 1, "limit": 0.1, "wrong": {"x": 9.0}}, "off by at most 1"),
        ({"measured": float("nan"), "exact": 1.0, "limit": 0.1, "wrong": {"twice": 2.0}}, "FAILS"),
        ({"measured": Estimate(1.06, 0.01, 100), "exact": 1.0, "wrong": {"x": 9.0}}, "FAILS"),
        ({"measured": 0.04, "at_most": 0.03, "wrong": {"many": 1.0}}, "at most 0.03"),
        ({"measured": 1.0, "at_least": 2.0, "wrong": {"few": 0.0}}, "at least 2"),
        # holds, but the same measure lets a wrong twin pass: off by less than two limits
        ({"measured": 1.0, "exact": 1.0, "limit": 0.1, "wrong": {"near": 1.19}}, "near: 1.19 – NOT rejected"),
        ({"measured": 0.02, "at_most": 0.03, "wrong": {"some": 0.05}}, "some: 0.05 – NOT rejected"),
        ({"measured": 3.0, "at_least": 2.0, "wrong": {"some": 1.5}}, "NOT rejected"),
    ],
)
def test_what_fails_raises_with_its_row(arguments, words, capsys):
    with pytest.raises(NotVerified, match=words):
        verify("a claim", **arguments)
    assert words in capsys.readouterr().out  # and the row is shown before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"measured": 1.0, "wrong": {"x": 2.0}}, "give one of exact, at_most and at_least, got 0"),
        ({"measured": 1.0, "exact": 1.0, "at_most": 2.0, "wrong": {"x": 2.0}}, "got 2"),
        ({"measured": 1.0, "exact": 1.0, "limit": 0.1, "wrong": {}}, "at least one wrong twin"),
        ({"measured": 1.0, "exact": 1.0, "wrong": {"x": 2.0}}, "limit must be given"),
    ],
)
def test_bad_input_is_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        verify("a claim", **arguments)


def test_the_room_is_told():
    seen = []
    watchers.append(lambda *row: seen.append(row))
    try:
        verify("a claim", 1.05, 1.0, limit=0.1, wrong={"x": 2.0})
        verify("another", Estimate(1.0, 0.01, 9), 1.0, wrong={"x": 2.0})
    finally:
        watchers.pop()
    assert seen == [("a claim", pytest.approx(0.05), 0.1), ("another", 0.0, pytest.approx(0.05))]


def test_what_is_shown():
    torch.manual_seed(0)
    rows = []
    import fmlib.page.proof as room

    shown = room._show
    room._show = rows.append
    try:
        verify("1 < 2 & true", estimate(torch.randn(1000) + 1), 1.0, wrong={"zero": 0.0})
    finally:
        room._show = shown
    table = Table(rows)
    text = table._repr_html_()
    assert "1 &lt; 2 &amp; true" in text and "✓ holds" in text and 'scope="col"' in text and "±" in text
    assert repr(table).startswith("holds") and "wrong twin zero: 0" in repr(table)


def test_rows_of_one_cell_are_one_table():
    """In a notebook: two calls in a cell, one table of two rows; the next cell begins a new one."""
    import nbformat
    from nbclient import NotebookClient

    two = "verify('a', 1.0, 1.0, limit=.1, wrong={'x': 2.0})\nverify('b', 1.0, 1.0, limit=.1, wrong={'x': 2.0})"
    cells = ["from fmlib.page.proof import verify", two, two.splitlines()[0]]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, kernel_name="python3").execute()
    outputs = [[o["data"]["text/html"].count("<tr>") for o in cell.outputs] for cell in notebook.cells[1:]]
    assert outputs == [[3], [2]]  # with the head
