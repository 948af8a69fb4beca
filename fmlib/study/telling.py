"""What a verdict says of an answer that is no known mistake: its form, or what differs, where, and by what."""

import math
import re

import numpy as np
import torch
from torch import Tensor

from fmlib.paths import FlowPath
from fmlib.study.answers import Trial, agree, close, nearest_factor

# What was returned, and what should have been


def describe(expected: list[Tensor]) -> str:
    """The form of the right values, to follow "should return"."""
    parts = [f"a tensor of shape {list(p.shape)}" if p.dim() else "a number" for p in expected]
    return parts[0] if len(parts) == 1 else "a pair: " + ", ".join(parts)


def wrong_shape(trial: Trial) -> str | None:
    """What is wrong with the shapes, or None."""
    for v, w in zip(trial.yours, trial.right, strict=True):
        if v.shape != w.shape:
            turned = v.T if v.dim() == w.dim() == 2 and v.shape == w.T.shape else v
            advice = " The numbers are right." if v.numel() == w.numel() and close(turned.reshape(w.shape), w) else ""
            advice += " Is it transposed?" if turned is not v else ""
            return f"Yours returned the shape {list(v.shape)}.{advice}"
    return None


def hint(error: Exception, given: dict) -> str:
    """Shapes that do not fit are the most frequent error: show them."""
    if not re.search(r"must match|broadcast|shapes? cannot be multiplied|invalid for input of size", str(error)):
        return ""
    shapes = ", ".join(f"{name} {list(a.shape)}" for name, a in given.items() if isinstance(a, Tensor) and a.dim())
    column = " A number for each row must become a column: t[:, None]." if isinstance(given.get("t"), Tensor) else ""
    return f" (Shapes: {shapes}.{column})"


# What differs


def told(trials: list[Trial], names: tuple[str, ...]) -> str:
    """Which of the values, called `names`, differ, on which input, and by what factor or shift."""
    parts = range(len(names))
    wrong = [trial for trial in trials if not all(trial.close(i) for i in parts)]
    said = []
    if len(wrong) < len(trials):
        fine = f"Right for {len(trials) - len(wrong)} of {len(trials)} random inputs only: it must hold for all."
        said.append(f"{fine} Wrong for {_input(wrong[0])}.")
    for i, name in enumerate(names):
        if all(trial.close(i) for trial in wrong):
            said.append(f"{name} is right.")
        else:
            said.append(f"{name} {_differs(wrong, i)}")
    return " ".join(s if s[1] == "_" else s[0].upper() + s[1:] for s in said)  # "x_t" stays small


def _differs(trials: list[Trial], i: int) -> str:
    """ "is 2 times the right value everywhere.", or the simplest else that holds for the i-th value."""
    nothing = _no_number(trials, i)
    if nothing:
        return nothing
    yours, right = [t.yours[i] for t in trials], [t.right[i] for t in trials]
    more = [v - w for v, w in zip(yours, right, strict=True)]
    off = max(float(m.abs().max() / w.abs().max().clamp_min(1e-9)) for m, w in zip(more, right, strict=True))
    nearly = f"is right up to {100 * off:.2g} % only"
    if off < 0.01 and any(t.half for t in trials):
        return f"{nearly}: half precision has 3 digits. {_largest(trials, i)}"
    simple = _multiple(yours, right, trials) or _shift(more, right, trials)
    if simple:
        return simple
    if off < 0.01:
        return f"{nearly} (a rounded constant, steps too coarse?). {_largest(trials, i)}"
    formula = _line(yours, right) or _with_an_input(yours, right, trials)
    return formula or f"{_pattern(trials, i) or 'differs.'} {_largest(trials, i)}"


def _no_number(trials: list[Trial], i: int) -> str | None:
    """Where the values are not finite, or all zero."""
    for trial in trials:
        bad = ~trial.yours[i].isfinite()
        if bad.any():
            return (
                f"is nan or infinite in {int(bad.sum())} of {bad.numel()} numbers for {_input(trial)}: "
                "a division by 0, or the root or logarithm of a negative number?"
            )
    return None if any(t.yours[i].any() for t in trials) else "is zero everywhere."


def _multiple(yours: list[Tensor], right: list[Tensor], trials: list[Trial]) -> str | None:
    factor = _coefficient(yours, right, trials)
    if factor == "-1":
        return "has the right size and the wrong sign everywhere."
    return factor and f"is {factor} times the right value everywhere."


def _shift(more: list[Tensor], right: list[Tensor], trials: list[Trial]) -> str | None:
    shift = _coefficient(more, [torch.ones_like(w) for w in right], trials)
    return shift and f"is {'smaller' if shift[0] == '-' else 'larger'} by {shift.lstrip('-')} everywhere."


def _with_an_input(yours: list[Tensor], right: list[Tensor], trials: list[Trial]) -> str | None:
    """A multiple of an argument was added, or what is added to an argument has a wrong factor."""
    more = [v - w for v, w in zip(yours, right, strict=True)]
    for name in trials[0].given:
        inputs = [t.given[name] for t in trials]
        if not all(isinstance(a, Tensor) and a.shape == w.shape for a, w in zip(inputs, right, strict=True)):
            continue
        amount = _coefficient(more, inputs, trials)
        if amount:
            size = amount.lstrip("-")
            times = "" if size == "1" else f"{size} times "
            return f"is the right value {'minus' if amount[0] == '-' else 'plus'} {times}{name}, everywhere."
        steps = ([v - a for v, a in zip(values, inputs, strict=True)] for values in (yours, right))
        amount = _coefficient(*steps, trials)
        if amount:
            return f"is wrong by a factor in what is added to {name}: that is {amount} times the right value."
    return None


_CONSTANTS = {"pi": math.pi, "pi/2": math.pi / 2, "2/pi": 2 / math.pi, "1/pi": 1 / math.pi, "sqrt(2)": 2**0.5}
_POWERS = {1: "{}", -1: "1/({})", 2: "({})^2", -2: "1/({})^2", 0.5: "sqrt({})", -0.5: "1/sqrt({})"}


def _coefficient(yours: list[Tensor], base: list[Tensor], trials: list[Trial]) -> str | None:
    """c, as text, with yours = c base in every trial: a number, or a power of something in the arguments."""
    a, b = (torch.cat([v.reshape(-1) for v in values]) for values in (yours, base))
    if len(a) < 2 or not b.any():
        return None
    c = nearest_factor(a, b)
    if abs(c) > 1e-9 and close(a, c * b):
        known = next((f"{'-' if c < 0 else ''}{n}" for n, v in _CONSTANTS.items() if abs(abs(c) / v - 1) < 1e-5), None)
        return known or (f"{c:.4g}" if f"{c:.4g}" != "1" or abs(c - 1) < 1e-9 else apart(c, 1.0)[0])
    quantities = [_quantities(trial.given) for trial in trials]
    for name in quantities[0]:
        for power, text in _POWERS.items():
            for sign in (1, -1):
                if all(
                    close(v, _spread(sign * q[name] ** power, w) * w)
                    for v, w, q in zip(yours, base, quantities, strict=True)
                ):
                    return f"{'-' if sign < 0 else ''}{text.format(name)}"
    return None


def _line(yours: list[Tensor], right: list[Tensor]) -> str | None:
    """yours = p right + q in every trial."""
    a, b = (torch.cat([v.reshape(-1) for v in values]) for values in (yours, right))
    columns = torch.stack([b, torch.ones_like(b)], dim=1)
    p, q = torch.linalg.lstsq(columns, a[:, None]).solution.flatten().tolist()
    if len(a) < 4 or abs(p) < 1e-9 or not close(a, p * b + q):
        return None
    return f"is {p:.4g} times the right value {'plus' if q > 0 else 'minus'} {abs(q):.4g} everywhere."


def _spread(factor: Tensor, value: Tensor) -> Tensor:
    """One factor for all numbers, or one for each row."""
    if not factor.dim():
        return factor
    return factor.reshape(-1, *([1] * (value.dim() - 1))) if value.dim() else torch.tensor(0.0)


def _quantities(given: dict) -> dict[str, Tensor]:
    """What a wrong factor is often made of: numbers among the arguments, times, coefficients, sizes."""
    found = {n: torch.tensor(float(a), dtype=torch.float64) for n, a in given.items() if isinstance(a, (int, float))}
    if "t" in given:
        found["t"] = torch.as_tensor(given["t"], dtype=torch.float64)
        found["1 - t"] = 1 - found["t"]
    if "t_next" in given:
        found["t_next - t"] = found["t_next"] - found["t"]
    if "path" in given:
        for name in ("alpha", "sigma", "d_alpha", "d_sigma"):
            found[name] = getattr(given["path"], name)(found["t"])
    sizes = next((list(a.shape) for a in reversed(given.values()) if isinstance(a, Tensor) and a.dim()), [])
    names = ("the number of points",) if len(sizes) == 1 else ("the number of rows", "the number of columns")
    return found | {n: torch.tensor(float(k), dtype=torch.float64) for n, k in zip(names, sizes, strict=False)}


def _pattern(trials: list[Trial], i: int) -> str | None:
    """Signs, rows or columns that are right, or rows and columns in another order."""
    pairs = [(t.yours[i], t.right[i]) for t in trials]
    if all(close(v.abs(), w.abs()) for v, w in pairs):
        return "has the right sizes, but some signs are wrong."
    if not pairs[0][0].dim():
        return None
    rows = [(v.reshape(len(v), -1), w.reshape(len(w), -1)) for v, w in pairs]
    if all(close(_in_order(v), _in_order(w)) for v, w in rows):
        return "has the right rows in the wrong order."
    if all(w.shape[1] > 1 and close(_in_order(v.T), _in_order(w.T)) for v, w in rows):
        return "has the right columns in the wrong order."
    good = [agree(v, w).all(dim=0) for v, w in rows]
    if all(g.any() for g in good):
        return f"is wrong in the columns {(~good[0]).nonzero().flatten().tolist()}; the others are right."
    good = [agree(v, w).all(dim=1) for v, w in rows]
    if all(g.any() for g in good):
        return _wrong_rows(trials, good)
    factors = [(v * w).sum(1, keepdim=True) / w.square().sum(1, keepdim=True) for v, w in rows]
    if all(w.shape[1] > 1 and close(v, f * w) for (v, w), f in zip(rows, factors, strict=True)):
        some = ", ".join(f"{f:.3g}" for f in factors[0].flatten()[:3].tolist())
        return f"is a multiple of the right value in each row, but the factor changes from row to row ({some}, ...)."
    return None


def _wrong_rows(trials: list[Trial], good: list[Tensor]) -> str:
    """The last row, the first, or those of early or late times; else how many."""
    for text, others in (("last", slice(None, -1)), ("first", slice(1, None))):
        if all(g[others].all() for g in good):
            return f"is wrong in the {text} row only."
    times = [trial.given.get("t") for trial in trials]
    if all(isinstance(t, Tensor) and t.dim() for t in times):
        fine = torch.cat([t[g] for t, g in zip(times, good, strict=True)])
        bad = torch.cat([t[~g] for t, g in zip(times, good, strict=True)])
        for low, high, text in ((fine, bad, "above"), (bad, fine, "below")):
            if low.max() < high.min():
                return f"is wrong where t is {text} about {float(low.max() + high.min()) / 2:.2g} only."
    return f"is right in {int(good[0].sum())} of {len(good[0])} rows, for {_input(trials[0])}."


def _in_order(rows: Tensor) -> Tensor:
    """The rows sorted, by their first numbers."""
    return rows[sorted(range(len(rows)), key=lambda k: [round(v, 3) for v in rows[k].tolist()])]


def _largest(trials: list[Trial], i: int) -> str:
    """The largest difference, with both numbers and the input."""
    trial = max(trials, key=lambda t: float((t.yours[i] - t.right[i]).abs().max()))
    yours, right = trial.yours[i], trial.right[i]
    at = int((yours - right).abs().argmax())
    index = [int(k) for k in np.unravel_index(at, tuple(right.shape))] if right.dim() else []
    place = f" at {index}" if index else ""
    t = trial.given.get("t")
    if index and isinstance(t, Tensor):
        place += f", where t = {float(t[index[0]]):.3g}"
    value, expected = apart(float(yours.reshape(-1)[at]), float(right.reshape(-1)[at]))
    return f"The largest difference is{place} for {_input(trial)}: right is {expected}, yours {value}."


def apart(a: float, b: float) -> tuple[str, str]:
    """Two numbers with as many digits as it takes to tell them apart, four at least."""
    for digits in range(4, 18):
        texts = f"{a:.{digits}g}", f"{b:.{digits}g}"
        if texts[0] != texts[1]:
            break
    return texts


def _input(trial: Trial) -> str:
    """The arguments, tensors by their shape."""
    said = []
    for name, a in trial.given.items():
        if isinstance(a, Tensor):
            said.append(f"{name} {list(a.shape)}")
        elif isinstance(a, (int, float)):
            said.append(f"{name} = {a:.4g}")
        elif isinstance(a, FlowPath):
            said.append(f"{name} = {a.name}")
    return ", ".join(said)
