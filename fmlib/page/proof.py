"""`verify`: a claim, measured, beside its limit and beside a wrong twin that the same measure rejects."""

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from IPython.display import display
from torch import Tensor

from fmlib.metrics import Estimate

ROOM = 2.0  # a wrong twin must miss by this many limits
ERRORS = 5.0  # standard errors, where a limit is not given
HEAD = ("claim", "measured", "should be", "", "the same measure on a wrong twin")

watchers: list[Callable[[str, float, float], None]] = []  # called with each claim, what it read and its limit


class NotVerified(AssertionError):
    """A claim does not hold, or a wrong twin of it does."""


@dataclass(frozen=True)
class _Row:
    claim: str
    measured: str
    should: str
    holds: bool
    twins: tuple[tuple[str, str, bool], ...]  # name, what it reads, whether it is rejected

    @property
    def good(self) -> bool:
        return self.holds and all(rejected for *_, rejected in self.twins)

    def cells(self) -> tuple[str, ...]:
        twins = "; ".join(f"{name}: {reads}{'' if no else ' – NOT rejected'}" for name, reads, no in self.twins)
        return self.claim, self.measured, self.should, "holds" if self.holds else "FAILS", twins


class Table:
    """The rows of one cell, as HTML and as text."""

    def __init__(self, rows: list[_Row]):
        self.rows = rows

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col" style="text-align: left">{h}</th>' for h in HEAD)
        wraps = ("normal", "nowrap", "nowrap", "nowrap", "normal")
        cell = '<td style="text-align: left; white-space: {}">{}</td>'
        rows = "".join(
            "<tr>" + "".join(cell.format(w, html.escape(c)) for w, c in zip(wraps, r.cells(), strict=True)) + "</tr>"
            for r in self.rows
        ).replace(">holds<", ">✓ holds<")
        return f'<table class="fm-claims"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'

    def __repr__(self) -> str:
        lines = []
        for row in self.rows:
            claim, measured, should, holds, twins = row.cells()
            lines.append(f"{holds:5}  {claim}: {measured}, should be {should}; wrong twin {twins}")
        return "\n".join(lines)


def verify(
    claim: str,
    measured,
    exact=None,
    *,
    limit: float | None = None,
    at_most: float | None = None,
    at_least: float | None = None,
    wrong: Mapping[str, object],
) -> None:
    """Show a claim as a row of a table, and raise if it does not hold or if a wrong twin passes.

    claim:    the statement, in words.
    measured: a number, a tensor of any shape, an `Estimate` (mean ± standard error), or a function without arguments
              that gives one.
    exact:    what it should be, a number or a tensor; then what counts is the largest difference, at most `limit`.
              Without a limit an Estimate may be five standard errors off.
    at_most, at_least: in place of exact, a bound for the largest or the smallest value.
    wrong:    wrong twins by name, each like `measured`, on the same draws: at least one. Rejected is one that is off by
              two limits or more, or on the other side of a bound by a factor of two.

    Several calls in one cell are rows of one table below it. Raises NotVerified, an AssertionError, with the row;
    TypeError or ValueError for arguments that do not fit.
    """
    bounds = [exact is not None, at_most is not None, at_least is not None]
    if sum(bounds) != 1:
        raise ValueError(f"{claim!r}: give one of exact, at_most and at_least, got {sum(bounds)}")
    if not wrong:
        raise ValueError(f"{claim!r}: wrong must name at least one wrong twin, got none")
    value = _called(measured)
    if exact is not None:
        limit = _limit(claim, value, limit)
        reads = lambda v: _off(v, exact)  # noqa: E731
        right = _shown(exact) if len(_values(exact)) == 1 else "the exact values"
        should, hold, reject = f"{right} within {limit:.2g}", reads(value) <= limit, lambda v: v >= ROOM * limit
    elif at_most is not None:
        limit, reads = at_most, lambda v: _values(v).max().item()
        should, hold, reject = f"at most {at_most:.4g}", reads(value) <= limit, lambda v: v >= ROOM * limit
    else:
        limit, reads = at_least, lambda v: _values(v).min().item()
        should, hold, reject = f"at least {at_least:.4g}", reads(value) >= limit, lambda v: v <= limit / ROOM
    twins = []
    for name, twin in wrong.items():
        got = _called(twin)
        twins.append((name, _shown(got, exact), bool(reject(reads(got)))))
    row = _Row(claim, _shown(value, exact), should, bool(hold), tuple(twins))
    for watcher in watchers:
        watcher(claim, reads(value), limit)
    _show(row)
    if not row.good:
        raise NotVerified(repr(Table([row])))


def _called(value):
    return value() if callable(value) else value


def _values(value) -> Tensor:
    if isinstance(value, Estimate):
        value = value.mean
    if not isinstance(value, Tensor):
        value = torch.tensor(value, dtype=torch.float64)  # not in single precision
    return value.detach().double().cpu().reshape(-1)


def _off(value, exact) -> float:
    """The largest difference; infinite where something is not a number."""
    gap = (_values(value) - _values(exact)).abs().max().item()
    return gap if gap == gap else float("inf")


def _limit(claim: str, value, limit: float | None) -> float:
    if limit is not None:
        return limit
    if not isinstance(value, Estimate):
        raise ValueError(f"{claim!r}: limit must be given, as measured is no Estimate with an error of its own")
    return ERRORS * value.std_error


def _shown(value, exact=None) -> str:
    """A number, its error; of many numbers the largest difference from what they should be, or their range."""
    if isinstance(value, Estimate):
        digits = 2 if value.std_error == 0 else max(0, 2 - int(f"{value.std_error:e}".split("e")[1]) - 1)
        return f"{value.mean:.{digits}f} ± {value.std_error:.{digits}f}"
    values = _values(value)
    if len(values) == 1:
        return f"{values.item():.4g}"
    if exact is not None:
        return f"{len(values):,} values, off by at most {_off(value, exact):.2g}"
    return f"{len(values):,} values from {values.min().item():.4g} to {values.max().item():.4g}"


_shown_now: dict = {}  # the cell's run that was seen last, its rows, and the handle of its table


def _show(row: _Row) -> None:
    """The row, below those of the same run of the same cell."""
    run = _run()
    if run is None or _shown_now.get("run") != run:
        _shown_now.update(run=run, rows=[row])
        _shown_now["handle"] = display(Table([row]), display_id=True)
        return
    _shown_now["rows"].append(row)
    if _shown_now["handle"] is None:  # outside IPython
        display(Table([row]))
    else:
        _shown_now["handle"].update(Table(_shown_now["rows"]))


def _run():
    from IPython import get_ipython

    shell = get_ipython()
    try:
        return shell.kernel.get_parent()["header"]["msg_id"]
    except (AttributeError, KeyError):
        return None
