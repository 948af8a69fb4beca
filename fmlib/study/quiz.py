"""The exercises' checkers: they run your function beside the right one, and beside the mistakes that people make.

An exercise asks for one small function. `check(name, function)` calls it with fresh random arguments, so that an
answer that was only fitted to the example is found out. If the values are wrong, they are compared with those of
each known mistake, and of each two of them together; where one fits, the verdict names it. Most mistakes are the
right answer with one keyword changed. For the rest, the verdict tells what differs, where, and by what.
"""

import math
import numbers
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from fmlib.paths import FlowPath, vp_cosine_path, vp_linear_path

DRAWS = 4

Mistake = dict | Callable  # the keywords of the right answer that are changed, or an answer of its own


@dataclass
class Exercise:
    """signature: how the function is called. draw: fresh arguments. right: the answer; keywords make it wrong.

    mistakes:    message -> what somebody does who makes that mistake, or a list of such.
    returns:     names of the returned values, where there are several.
    either_sign: the argument of standard normal numbers whose sign is free: -z is as normal as z.
    any_factor:  multiples of the answer are right too; only 0 is not.
    also_right:  the task itself as a test of (function, gives the same twice), for right answers of another form.
    """

    signature: str
    draw: Callable[[], tuple]
    right: Callable
    mistakes: dict[str, Mistake | list[Mistake]]
    returns: tuple[str, ...] = ("yours",)
    either_sign: str = ""
    any_factor: bool = False
    also_right: Callable[[Callable, bool], bool] = lambda attempt, steady: False

    @property
    def arguments(self) -> list[str]:
        return re.findall(r"\w+", self.signature.partition("(")[2])


@dataclass
class Verdict:
    """state: "empty", "right", "mistake" (recognised), "wrong" (not recognised) or "error"."""

    state: str
    message: str

    def __str__(self) -> str:
        return self.message


@dataclass
class _Trial:
    """One call: the arguments by name, what the learner returned, and what is right."""

    given: dict
    yours: list[Tensor]
    right: list[Tensor]

    def close(self, i: int) -> bool:
        return _close(self.yours[i], self.right[i])


def examine(name: str, attempt: Callable) -> Verdict:
    """Judge an attempt at the exercise `name`; see `EXERCISES` for the names."""
    if name not in EXERCISES:
        raise ValueError(f"name must be one of {', '.join(EXERCISES)}, got {name!r}")
    if not callable(attempt):
        raise TypeError(f"attempt must be a function, got {type(attempt).__name__}")
    exercise = EXERCISES[name]
    trials, steady, half = [], True, False
    for _ in range(DRAWS):
        arguments = exercise.draw()
        given = dict(zip(exercise.arguments, arguments, strict=True))
        right = _read(exercise.right(*_copies(arguments)), exercise)
        try:
            values = [attempt(*_copies(arguments)) for _ in range(2)]
        except Exception as error:  # whatever the learner's code raises is part of the verdict
            return Verdict("error", f"Your function raised {type(error).__name__}: {error}{_hint(error, given)}")
        if values[0] is None or values[0] is ...:
            return Verdict("empty", "Not attempted yet.")
        try:
            yours, again = (_read(value, exercise) for value in values)
        except (TypeError, ValueError, RuntimeError) as error:
            return Verdict("error", f"{exercise.signature} should return {_describe(right)}. Yours returned {error}.")
        steady = steady and all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(yours, again, strict=True))
        half = half or _half_precision(values[0])
        trials.append(_Trial(given, [_as_number(v, w) for v, w in zip(yours, right, strict=True)], right))
    if not steady:
        if exercise.also_right(attempt, steady):
            return Verdict("right", "Correct. (It draws noise of its own, so the distributions were compared.)")
        return Verdict(
            "wrong",
            "Not yet: two calls with the same arguments gave different answers. "
            "Does it draw random numbers of its own, or remember the call before? The arguments are all that it needs.",
        )
    if _fits(exercise, {}, trials):
        return Verdict("right", "Correct.")
    message = _recognised(exercise, trials)
    if message:
        return Verdict("mistake", f"Not yet: {message}")
    if exercise.also_right(attempt, steady):
        return Verdict("right", "Correct.")
    for trial in trials:
        problem = _form(trial)
        if problem:
            return Verdict("error", f"{exercise.signature} should return {_describe(trial.right)}. {problem}")
    return Verdict("wrong", f"Not yet, and not a mistake that I know. {_told(exercise, trials, half)}")


def check(name: str, attempt: Callable) -> None:
    """Print the verdict on an attempt, and the time since `start(name)` if the clock runs."""
    verdict = examine(name, attempt)
    spent = ""
    if verdict.state == "right" and name in _started:
        seconds = time.monotonic() - _started.pop(name)
        spent = f" Time: {int(seconds // 60)} min {seconds % 60:.0f} s."
    print(f"{verdict}{spent}")


_started: dict[str, float] = {}


def start(name: str) -> None:
    """Start the clock for an exercise; `check` stops it when the answer is right."""
    if name not in EXERCISES:
        raise ValueError(f"name must be one of {', '.join(EXERCISES)}, got {name!r}")
    _started[name] = time.monotonic()
    print(f"The clock runs. Write {EXERCISES[name].signature}, then run  check({name!r}, your_function).")


# What was returned


def _copies(arguments: tuple) -> tuple:
    """The arguments anew: an attempt that changes its input in place must not change what others see."""
    return tuple(a.clone() if isinstance(a, Tensor) else a for a in arguments)


def _read(value, exercise: Exercise) -> list[Tensor]:
    """The returned values in double precision, apart from what the learner keeps; an error that says what came."""
    count = len(exercise.returns)
    if count == 1:
        return [_tensor(value)]
    if isinstance(value, (str, dict)) or not hasattr(value, "__len__"):
        raise TypeError(type(value).__name__)
    if isinstance(value, (Tensor, np.ndarray)) and len(value) != count:
        raise ValueError(f"one tensor of shape {list(value.shape)}")
    if len(value) != count:
        raise ValueError(f"{len(value)} values")
    return [_tensor(v) for v in value]


def _tensor(value) -> Tensor:
    """Tensors, arrays, numbers and lists of them as one tensor; a complex number, the root of -1, as nan."""
    if isinstance(value, (list, tuple)):
        parts = [_tensor(v) for v in value]
        if len({p.shape for p in parts}) != 1:
            raise ValueError(f"{len(parts)} values of the shapes {', '.join(str(list(p.shape)) for p in parts)}")
        return torch.stack(parts)
    if not isinstance(value, (Tensor, np.ndarray, np.generic, numbers.Number)):
        raise TypeError(type(value).__name__)
    tensor = value if isinstance(value, Tensor) else torch.from_numpy(np.array(value, dtype=np.complex128))
    if tensor.is_complex():
        tensor = torch.where(tensor.imag.abs() < 1e-9, tensor.real, math.nan)
    return tensor.detach().cpu().to(torch.float64, copy=True)


def _half_precision(value) -> bool:
    values = value if isinstance(value, (list, tuple)) else [value]
    return any("float16" in str(getattr(v, "dtype", "")) for v in values)


def _describe(expected: list[Tensor]) -> str:
    parts = [f"a tensor of shape {list(p.shape)}" if p.dim() else "a number" for p in expected]
    return parts[0] if len(parts) == 1 else "a pair: " + ", ".join(parts)


def _as_number(value: Tensor, right: Tensor) -> Tensor:
    """A shape such as [1] stands for a number; elsewhere shapes stay."""
    return value.reshape(()) if right.dim() == 0 and value.numel() == 1 else value


def _form(trial: _Trial) -> str | None:
    """What is wrong with the shapes, or None."""
    for v, w in zip(trial.yours, trial.right, strict=True):
        if v.shape != w.shape:
            turned = v.T if v.dim() == w.dim() == 2 and v.shape == w.T.shape else v
            advice = " The numbers are right." if v.numel() == w.numel() and _close(turned.reshape(w.shape), w) else ""
            advice += " Is it transposed?" if turned is not v else ""
            return f"Yours returned the shape {list(v.shape)}.{advice}"
    return None


def _hint(error: Exception, given: dict) -> str:
    """Shapes that do not fit are the most frequent error: show them."""
    if not re.search(r"must match|broadcast|shapes? cannot be multiplied|invalid for input of size", str(error)):
        return ""
    shapes = ", ".join(f"{name} {list(a.shape)}" for name, a in given.items() if isinstance(a, Tensor) and a.dim())
    column = " A number for each row must become a column: t[:, None]." if isinstance(given.get("t"), Tensor) else ""
    return f" (Shapes: {shapes}.{column})"


# Comparing


def _close(a: Tensor, b: Tensor) -> bool:
    """Equal up to rounding, also if the learner worked in single precision."""
    return a.shape == b.shape and bool(_agree(a, b).all())


def _agree(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).abs() <= 1e-4 * b.abs() + 1e-5 * max(1.0, float(b.abs().max()))


def _factor(a: Tensor, b: Tensor) -> float:
    """The c for which c b comes nearest to a."""
    return float((a * b).sum() / b.square().sum()) if b.any() else 0.0


def _fits(exercise: Exercise, how: Mistake, trials: list[_Trial]) -> bool:
    """Whether the right answer with these changes, or this other answer, returns what the learner returned."""
    return any(all(_explains(exercise, how, t, sign) for t in trials) for sign in _signs(exercise))


def _signs(exercise: Exercise) -> tuple[int, ...]:
    return (1, -1) if exercise.either_sign else (1,)


def _explains(exercise: Exercise, how: Mistake, trial: _Trial, sign: int) -> bool:
    given = dict(zip(trial.given, _copies(tuple(trial.given.values())), strict=True))
    if exercise.either_sign:
        given[exercise.either_sign] *= sign
    try:
        changed = exercise.right(*given.values(), **how) if isinstance(how, dict) else how(*given.values())
        answer = _read(changed, exercise)
    except (TypeError, ValueError, RuntimeError, IndexError):  # two changes that exclude each other
        return False
    for yours, w in zip(trial.yours, answer, strict=True):
        c = _factor(yours, w) if exercise.any_factor and yours.shape == w.shape else 1.0
        if not _close(yours, (c if abs(c) > 1e-9 else 1.0) * w):
            return False
    return True


def _each(exercise: Exercise) -> Iterator[tuple[str, Mistake]]:
    for message, ways in exercise.mistakes.items():
        for how in ways if isinstance(ways, list) else [ways]:
            yield message, how


def _recognised(exercise: Exercise, trials: list[_Trial]) -> str | None:
    """The message of the mistake that explains every trial, or of two together."""
    for message, how in _each(exercise):
        if _fits(exercise, how, trials):
            return message
    if not any(v.any() for trial in trials for v in trial.yours):
        return None  # nothing at all is explained by any two mistakes that take half away
    changes = [(message, how) for message, how in _each(exercise) if isinstance(how, dict)]
    for (one, how), (other, too) in combinations(changes, 2):
        if one != other and not how.keys() & too.keys() and _fits(exercise, how | too, trials):
            return f"two things at once. First, {one} Second, {other}"
    return None


# Telling what differs, where no mistake is recognised


def _told(exercise: Exercise, trials: list[_Trial], half: bool) -> str:
    """Which of the values differ, on which input, and by what factor or shift."""
    parts = range(len(exercise.returns))
    wrong = [trial for trial in trials if not all(trial.close(i) for i in parts)]
    said = []
    if len(wrong) < len(trials):
        fine = f"Right for {len(trials) - len(wrong)} of {len(trials)} random inputs only: it must hold for all."
        said.append(f"{fine} Wrong for {_input(wrong[0])}.")
    for i in parts:
        name = exercise.returns[i]
        if all(trial.close(i) for trial in wrong):
            said.append(f"{name} is right.")
        else:
            said.append(f"{name} {_differs(wrong, i, half)}")
    return " ".join(s if s[1] == "_" else s[0].upper() + s[1:] for s in said)  # "x_t" stays small


def _differs(trials: list[_Trial], i: int, half: bool) -> str:
    """ "is 2 times the right value everywhere.", or what else can be said of the i-th value."""
    for trial in trials:
        bad = ~trial.yours[i].isfinite()
        if bad.any():
            return (
                f"is nan or infinite in {int(bad.sum())} of {bad.numel()} numbers for {_input(trial)}: "
                "a division by 0, or the root or logarithm of a negative number?"
            )
    yours, right = [t.yours[i] for t in trials], [t.right[i] for t in trials]
    if not any(v.any() for v in yours):
        return "is zero everywhere."
    more = [v - w for v, w in zip(yours, right, strict=True)]
    off = max(float(m.abs().max() / w.abs().max().clamp_min(1e-9)) for m, w in zip(more, right, strict=True))
    largest = _largest(trials, i)
    if half and off < 0.01:
        return f"is right up to {100 * off:.2g} % only: half precision has 3 digits. {largest}"
    factor = _coefficient(yours, right, trials)
    if factor == "-1":
        return "has the right size and the wrong sign everywhere."
    if factor:
        return f"is {factor} times the right value everywhere."
    shift = _coefficient(more, [torch.ones_like(w) for w in right], trials)
    if shift:
        return f"is {'smaller' if shift[0] == '-' else 'larger'} by {shift.lstrip('-')} everywhere."
    if off < 0.01:
        return f"is right up to {100 * off:.2g} % only (a rounded constant, steps too coarse?). {largest}"
    line = _line(yours, right)
    if line:
        return f"is {line} everywhere."
    for name in trials[0].given:
        inputs = [t.given[name] for t in trials]
        if all(isinstance(a, Tensor) and a.shape == w.shape for a, w in zip(inputs, right, strict=True)):
            amount = _coefficient(more, inputs, trials)
            if amount:
                size = amount.lstrip("-")
                times = "" if size == "1" else f"{size} times "
                return f"is the right value {'minus' if amount[0] == '-' else 'plus'} {times}{name}, everywhere."
            steps = ([v - a for v, a in zip(values, inputs, strict=True)] for values in (yours, right))
            amount = _coefficient(*steps, trials)
            if amount:
                return f"is wrong by a factor in what is added to {name}: that is {amount} times the right value."
    return f"{_pattern(trials, i) or 'differs.'} {largest}"


_CONSTANTS = {"pi": math.pi, "pi/2": math.pi / 2, "2/pi": 2 / math.pi, "1/pi": 1 / math.pi, "sqrt(2)": 2**0.5}
_POWERS = {1: "{}", -1: "1/({})", 2: "({})^2", -2: "1/({})^2", 0.5: "sqrt({})", -0.5: "1/sqrt({})"}


def _coefficient(yours: list[Tensor], base: list[Tensor], trials: list[_Trial]) -> str | None:
    """c, as text, with yours = c base in every trial: a number, or a power of something in the arguments."""
    a, b = (torch.cat([v.reshape(-1) for v in values]) for values in (yours, base))
    if len(a) < 2 or not b.any():
        return None
    c = _factor(a, b)
    if abs(c) > 1e-9 and _close(a, c * b):
        known = next((f"{'-' if c < 0 else ''}{n}" for n, v in _CONSTANTS.items() if abs(abs(c) / v - 1) < 1e-5), None)
        return known or (f"{c:.4g}" if f"{c:.4g}" != "1" or abs(c - 1) < 1e-9 else _apart(c, 1.0)[0])
    quantities = [_quantities(trial.given) for trial in trials]
    for name in quantities[0]:
        for power, text in _POWERS.items():
            for sign in (1, -1):
                if all(
                    _close(v, _spread(sign * q[name] ** power, w) * w)
                    for v, w, q in zip(yours, base, quantities, strict=True)
                ):
                    return f"{'-' if sign < 0 else ''}{text.format(name)}"
    return None


def _line(yours: list[Tensor], right: list[Tensor]) -> str | None:
    """p and q, as text, with yours = p right + q in every trial."""
    a, b = (torch.cat([v.reshape(-1) for v in values]) for values in (yours, right))
    columns = torch.stack([b, torch.ones_like(b)], dim=1)
    p, q = torch.linalg.lstsq(columns, a[:, None]).solution.flatten().tolist()
    if len(a) < 4 or abs(p) < 1e-9 or not _close(a, p * b + q):
        return None
    return f"{p:.4g} times the right value {'plus' if q > 0 else 'minus'} {abs(q):.4g}"


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


def _pattern(trials: list[_Trial], i: int) -> str | None:
    """Signs, rows or columns that are right, or rows and columns in another order."""
    pairs = [(t.yours[i], t.right[i]) for t in trials]
    if all(_close(v.abs(), w.abs()) for v, w in pairs):
        return "has the right sizes, but some signs are wrong."
    if not pairs[0][0].dim():
        return None
    rows = [(v.reshape(len(v), -1), w.reshape(len(w), -1)) for v, w in pairs]
    if all(_close(_in_order(v), _in_order(w)) for v, w in rows):
        return "has the right rows in the wrong order."
    if all(w.shape[1] > 1 and _close(_in_order(v.T), _in_order(w.T)) for v, w in rows):
        return "has the right columns in the wrong order."
    good = [_agree(v, w).all(dim=0) for v, w in rows]
    if all(g.any() for g in good):
        return f"is wrong in the columns {(~good[0]).nonzero().flatten().tolist()}; the others are right."
    good = [_agree(v, w).all(dim=1) for v, w in rows]
    if all(g.any() for g in good):
        return _wrong_rows(trials, good)
    factors = [(v * w).sum(1, keepdim=True) / w.square().sum(1, keepdim=True) for v, w in rows]
    if all(w.shape[1] > 1 and _close(v, f * w) for (v, w), f in zip(rows, factors, strict=True)):
        some = ", ".join(f"{f:.3g}" for f in factors[0].flatten()[:3].tolist())
        return f"is a multiple of the right value in each row, but the factor changes from row to row ({some}, ...)."
    return None


def _wrong_rows(trials: list[_Trial], good: list[Tensor]) -> str:
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


def _largest(trials: list[_Trial], i: int) -> str:
    """The largest difference, with both numbers and the input."""
    trial = max(trials, key=lambda t: float((t.yours[i] - t.right[i]).abs().max()))
    yours, right = trial.yours[i], trial.right[i]
    at = int((yours - right).abs().argmax())
    index = [int(k) for k in np.unravel_index(at, tuple(right.shape))] if right.dim() else []
    place = f" at {index}" if index else ""
    t = trial.given.get("t")
    if index and isinstance(t, Tensor):
        place += f", where t = {float(t[index[0]]):.3g}"
    value, expected = _apart(float(yours.reshape(-1)[at]), float(right.reshape(-1)[at]))
    return f"The largest difference is{place} for {_input(trial)}: right is {expected}, yours {value}."


def _apart(a: float, b: float) -> tuple[str, str]:
    """Two numbers with as many digits as it takes to tell them apart, four at least."""
    for digits in range(4, 18):
        texts = f"{a:.{digits}g}", f"{b:.{digits}g}"
        if texts[0] != texts[1]:
            break
    return texts


def _input(trial: _Trial) -> str:
    said = []
    for name, a in trial.given.items():
        if isinstance(a, Tensor):
            said.append(f"{name} {list(a.shape)}")
        elif isinstance(a, (int, float)):
            said.append(f"{name} = {a:.4g}")
        elif isinstance(a, FlowPath):
            said.append(f"{name} = {a.name}")
    return ", ".join(said)


# The arguments. Sizes differ from draw to draw, and no number in them is special.


def _sizes() -> tuple[int, int]:
    """Rows and columns, never equally many: a row that is used as a column must not fit by chance."""
    d = int(torch.randint(2, 5, ()))
    return d + int(torch.randint(1, 5, ())), d


def _points(*more: int) -> Tensor:
    return torch.randn(*more, dtype=torch.float64)


def _times(n: int, low: float = 0.15, high: float = 0.85) -> Tensor:
    return low + (high - low) * torch.rand(n, dtype=torch.float64)


def _number(low: float, high: float) -> float:
    return low + (high - low) * torch.rand(()).item()


def _column(t: Tensor) -> Tensor:
    return t.reshape(-1, 1)


def _toy_model() -> Callable:
    """A smooth random field (t, x) -> v that depends on everything it is given."""
    a, b = _number(0.5, 1.5), _number(0.3, 1.0)

    def model(t, x):
        if not isinstance(x, Tensor) or (torch.as_tensor(t).numel() not in (1, len(x))):
            got = [f"shape {list(v.shape)}" if isinstance(v, Tensor) else type(v).__name__ for v in (t, x)]
            raise TypeError(f"model(t, x) takes the time first, then a tensor of points; got {got[0]} and {got[1]}")
        t = torch.as_tensor(t, dtype=x.dtype)
        t = t.reshape(-1, 1) if t.dim() else t
        return torch.sin(a * x + 0.3) * (1 + b * t) + 0.2 * x.flip(-1) + t**2

    return model


def _class_model() -> Callable:
    base = _toy_model()

    def model(t, x, label):
        if label is None:
            raise TypeError("model(t, x, label) needs integers as label; the integer `null` means no class")
        label = torch.as_tensor(label)
        label = label.reshape(-1, 1) if label.dim() else label
        return base(t, x) + torch.cos(1.7 * label + x)

    return model


def _draw_pair_on_a_path():
    n, d = _sizes()
    path = vp_linear_path() if torch.rand(()) < 0.5 else vp_cosine_path()
    return path, _times(n), _points(n, d), _points(n, d)


def _coefficients(path: FlowPath, t: Tensor) -> SimpleNamespace:
    return SimpleNamespace(
        a=_column(path.alpha(t)),
        s=_column(path.sigma(t)),
        da=_column(path.d_alpha(t)),
        ds=_column(path.d_sigma(t)),
        t=_column(t),
    )


EXERCISES: dict[str, Exercise] = {}

# Lesson 01


def _draw_jacobians():
    n, d = _sizes()
    return (_points(n, d, d),)


def _trace(jacobian: Tensor) -> Tensor:
    return jacobian.diagonal(dim1=1, dim2=2).sum(dim=1)


def _log_density_rate(jacobian, *, sign=-1, divergence=_trace, of=lambda rate: rate):
    return of(sign * divergence(jacobian))


EXERCISES["log_density_rate"] = Exercise(
    "log_density_rate(jacobian)",
    _draw_jacobians,
    _log_density_rate,
    {
        "the sign is flipped. Where particles spread out (positive divergence), the density falls.": dict(sign=1),
        "that is the determinant. The determinant belongs to a finite map; a *rate* needs the trace.": (
            dict(divergence=torch.linalg.det)
        ),
        "that is log |det|. It belongs to a finite map with this Jacobian; for a field's rate take the trace.": (
            dict(divergence=lambda j: torch.linalg.slogdet(j).logabsdet)
        ),
        "that is the sum of all entries. The divergence is the trace: only du_i / dx_i.": (
            dict(divergence=lambda j: j.sum((1, 2)))
        ),
        "that is the mean of the diagonal. The divergence is its sum.": (
            dict(divergence=lambda j: _trace(j) / j.shape[1])
        ),
        "that is the diagonal, not yet summed: the divergence is one number for each particle.": (
            dict(divergence=lambda j: j.diagonal(dim1=1, dim2=2))
        ),
        "a row or a column of the Jacobian was summed. The divergence is the sum along the diagonal.": [
            dict(divergence=lambda j: j.sum(2)),
            dict(divergence=lambda j: j.sum(1)),
        ],
        "diagonal() took its first two dimensions, so it runs through the batch. Name dim1=1, dim2=2.": [
            dict(divergence=lambda j: j.diagonal().sum(1)),
            dict(divergence=lambda j: j.diagonal().sum(0)),
        ],
        "that is the size of the Jacobian (its Frobenius norm), which has no sign. Take the trace.": [
            dict(divergence=lambda j: j.flatten(1).norm(dim=1)),
            dict(divergence=lambda j: j.flatten(1).square().sum(1)),
        ],
        "that is one number for the batch. Each particle has a rate of its own: return [B].": [
            dict(of=lambda rate: rate.mean()),
            dict(of=lambda rate: rate.sum()),
        ],
        "that is a factor of the density. Asked is the rate of its logarithm: no exponential.": dict(of=torch.exp),
    },
)


def _turned(x: Tensor) -> Tensor:
    return torch.stack([-x[:, 1], x[:, 0]], dim=1)


def _keeps_every_density(field: Callable, steady: bool) -> bool:
    """div(p w) / p = score . w + div w vanishes: the task itself, on random mixtures of Gaussians.

    Besides c J score this accepts g J score + J grad g for every function g of x. The derivatives are differences of
    fourth order.
    """
    h = 0.02
    for _ in range(3):
        x, centres = _points(7, 2), 1.5 * _points(3, 2)

        def score(x, centres=centres):
            return torch.softmax(-0.5 * torch.cdist(x, centres).square(), dim=1) @ centres - x

        def w(x, score=score):
            return _tensor(field(x.clone(), score(x)))

        try:
            here = w(x)
            rates = [(8 * (w(x + e) - w(x - e)) - w(x + 2 * e) + w(x - 2 * e)) / (12 * h) for e in h * _eye(2)]
        except Exception:  # a field that fails here is judged elsewhere
            return False
        if here.shape != x.shape or here.abs().max() < 1e-6:
            return False
        divergence = torch.stack([rates[i][:, i] for i in range(2)]).sum(0)
        flux = (score(x) * here).sum(1)
        if not ((flux + divergence).abs() <= 1e-3 * here.abs().max()).all():
            return False
    return True


def _eye(n: int) -> Tensor:
    return torch.eye(n, dtype=torch.float64)


def _swirl(x, score, *, turn=_turned, of=lambda x, score: score):
    return turn(of(x, score))


EXERCISES["swirl"] = Exercise(
    "swirl(x, score)",
    lambda: (_points(7, 2), _points(7, 2)),
    _swirl,
    {
        "that turns the position x. It is free of divergence, but its flux p J x is not, unless p is round.": (
            dict(of=lambda x, score: x)
        ),
        "that is the score itself, not turned. Its flux is grad p, whose divergence is not zero.": (
            dict(turn=lambda s: s)
        ),
        "that mirrors the score (swaps the coordinates) instead of turning it: one of the two needs a minus.": (
            dict(turn=lambda s: s.flip(1))
        ),
        "that mirrors the score (one minus) instead of turning it: the coordinates change places too.": (
            dict(turn=lambda s: s * torch.tensor([1.0, -1.0]))
        ),
        "that is zero. Nothing added changes nothing; a field is asked that moves the particles.": (
            lambda x, score: torch.zeros_like(x)
        ),
        "that is a constant drift. It is free of divergence, but it moves the whole density along.": [
            lambda x, score: torch.ones_like(x),
            lambda x, score: torch.tensor([1.0, 0.0]).expand(len(x), 2),
            lambda x, score: torch.tensor([0.0, 1.0]).expand(len(x), 2),
        ],
        "the turned score was divided by its length. That factor changes along the level lines of p, so the flux "
        "has a divergence again. Only p itself or a constant may multiply.": (
            dict(of=lambda x, score: score / score.norm(dim=1, keepdim=True))
        ),
        "the turned score is multiplied by a function of x. Its flux is free of divergence only if that function is "
        "constant along the level lines of p.": [
            dict(of=lambda x, score: score * x.norm(dim=1, keepdim=True)),
            dict(of=lambda x, score: score * x.square().sum(1, keepdim=True)),
            dict(of=lambda x, score: score * torch.exp(-x.square().sum(1, keepdim=True) / 2)),
        ],
        "that is the score without its part along x. It runs along circles, not along the level lines of p.": (
            lambda x, score: score - (score * x).sum(1, keepdim=True) / x.square().sum(1, keepdim=True) * x
        ),
        "the score was added. The turned score alone changes nothing; the score itself moves the density.": [
            lambda x, score: score + _turned(score),
            lambda x, score: score - _turned(score),
        ],
        "the two coordinates were stacked as rows. Stack along dim=1: the field is [B, 2].": [
            lambda x, score: _turned(score).T,
            lambda x, score: -_turned(score).T,
        ],
    },
    any_factor=True,
    also_right=_keeps_every_density,
)

# Lesson 02


def _draw_loss():
    n, d = _sizes()
    return _toy_model(), _times(n), _points(n, d), _points(n, d)


def _cfm_loss(
    model,
    t,
    x0,
    x1,
    *,
    place=lambda t, x0, x1: (1 - t) * x0 + t * x1,
    when=lambda t: t,
    target=lambda x0, x1, xt: x1 - x0,
    reduce=lambda e: e.square().sum(1).mean(),
):
    xt = (1 - _column(t)) * x0 + _column(t) * x1
    return reduce(model(when(t), place(_column(t), x0, x1)) - target(x0, x1, xt))


EXERCISES["cfm_loss"] = Exercise(
    "my_loss(model, t, x0, x1)",
    _draw_loss,
    _cfm_loss,
    {
        "that is the mean over the dimensions. The norm squared is a *sum* over them: yours is smaller by 1/d.": (
            dict(reduce=lambda e: e.square().mean())
        ),
        "the network got x_1 where x_t was meant. It would see clean data at every t.": (
            dict(place=lambda t, x0, x1: x1)
        ),
        "the network got x_0 where x_t was meant. It would see pure noise at every t.": (
            dict(place=lambda t, x0, x1: x0)
        ),
        "the sign of the target is flipped: it points from data to noise.": dict(target=lambda x0, x1, xt: x0 - x1),
        "x_0 and x_1 are swapped in x_t: at t = 0 yours is data.": dict(place=lambda t, x0, x1: t * x0 + (1 - t) * x1),
        "the network got 1 - t. Time is reversed.": dict(when=lambda t: 1 - t),
        "the network got 1000 t. Diffusion's step numbers have no place here: t itself.": dict(when=lambda t: 1000 * t),
        "the network got t = 0 throughout: hand it the times.": dict(when=lambda t: 0 * t),
        "the noise does not shrink: x_t is (1 - t) x_0 + t x_1.": dict(place=lambda t, x0, x1: x0 + t * x1),
        "the data do not fade: x_t is (1 - t) x_0 + t x_1.": [
            dict(place=lambda t, x0, x1: x1 + (1 - t) * x0),
            dict(place=lambda t, x0, x1: x1 + t * x0),
        ],
        "x_t has square roots of t and 1 - t. Those preserve the variance; the straight line has t and 1 - t.": (
            dict(place=lambda t, x0, x1: (1 - t).sqrt() * x0 + t.sqrt() * x1)
        ),
        "the target is x_1 - x_t. That lacks the factor 1 / (1 - t): the velocity is x_1 - x_0.": (
            dict(target=lambda x0, x1, xt: x1 - xt)
        ),
        "the target is x_t - x_0. That lacks the factor 1 / t: the velocity is x_1 - x_0.": (
            dict(target=lambda x0, x1, xt: xt - x0)
        ),
        "the target is x_1. That trains an x_1-prediction, not a velocity.": dict(target=lambda x0, x1, xt: x1),
        "the target is x_0. That trains a noise prediction, not a velocity.": dict(target=lambda x0, x1, xt: x0),
        "the target is x_t. The network is to give the velocity x_1 - x_0.": dict(target=lambda x0, x1, xt: xt),
        "the target is x_1 + x_0. The velocity is the difference x_1 - x_0.": dict(target=lambda x0, x1, xt: x1 + x0),
        "there is a factor 1/2 too much.": dict(reduce=lambda e: 0.5 * e.square().sum(1).mean()),
        "the square is missing: that is the mean norm.": dict(reduce=lambda e: e.norm(dim=1).mean()),
        "that is the absolute error (L1). The loss has squares.": [
            dict(reduce=lambda e: e.abs().mean()),
            dict(reduce=lambda e: e.abs().sum(1).mean()),
        ],
        "a root was taken of the mean. The loss is the mean of the squares, without a root.": [
            dict(reduce=lambda e: e.square().sum(1).mean().sqrt()),
            dict(reduce=lambda e: e.square().mean().sqrt()),
            dict(reduce=lambda e: e.norm()),
        ],
        "the errors were summed before the square, so they cancel: square first.": [
            dict(reduce=lambda e: e.sum(1).square().mean()),
            dict(reduce=lambda e: e.mean().square()),
            dict(reduce=lambda e: e.mean(0).square().sum()),
        ],
        "the square is missing altogether: positive and negative errors cancel.": [
            dict(reduce=lambda e: e.mean()),
            dict(reduce=lambda e: e.sum(1).mean()),
        ],
        "that is the sum over the batch. The loss is its mean.": dict(reduce=lambda e: e.square().sum()),
        "sum and mean are swapped: sum over the dimensions, mean over the batch.": (
            dict(reduce=lambda e: e.square().sum(0).mean())
        ),
        "that is the loss of each sample. The loss is their mean, one number.": [
            dict(reduce=lambda e: e.square().sum(1)),
            dict(reduce=lambda e: e.square().mean(1)),
        ],
    },
    returns=("the loss",),
)


def _draw_field():
    n, d = _sizes()
    return _number(0.2, 0.7), _points(n, d), _points(n + 2, d)


def _marginal_field(
    t,
    x,
    data,
    *,
    centre=lambda t: t,
    width=lambda t: 1 - t,
    power=2,
    half=0.5,
    distance=lambda e: e.square().sum(2),
    weights=torch.softmax,
    dim=1,
    finish=lambda mean, x, t: (mean - x) / (1 - t),
):
    exponent = -half * distance(x[:, None] - centre(t) * data) / width(t) ** power
    return finish(weights(exponent, dim=dim) @ data, x, t)


EXERCISES["marginal_field"] = Exercise(
    "marginal_field(t, x, data)",
    _draw_field,
    _marginal_field,
    {
        "the weights use the standard deviation 1 - t where its square, the variance, belongs.": dict(power=1),
        "the weights have no variance: divide the squared distance by 2 (1 - t)^2.": dict(power=0),
        "the weights multiply by the variance where they should divide by it: mind the brackets of 2 (1 - t)^2.": (
            dict(power=-2)
        ),
        "the weights use the variance t^2. Around t x_1 it is the noise that spreads, by (1 - t)^2.": (
            dict(width=lambda t: t)
        ),
        "the factor 1/2 in the exponent of the Gaussian is missing.": dict(half=1.0),
        "the 2 is squared as well: the exponent has 2 (1 - t)^2, not (2 (1 - t))^2.": dict(half=0.25),
        "the sign of the exponent is flipped: yours gives far points the most weight.": dict(half=-0.5),
        "the distance is not squared in the exponent.": dict(distance=lambda e: e.norm(dim=2)),
        "the squared distance is a mean over the dimensions. It is their sum.": (
            dict(distance=lambda e: e.square().mean(2))
        ),
        "the Gaussians are centred at x_1. At time t they are centred at t x_1.": dict(centre=lambda t: 1.0),
        "the Gaussians are centred at (1 - t) x_1. At time t they are centred at t x_1.": dict(centre=lambda t: 1 - t),
        "time is reversed in the weights: x_t is normal around t x_1 with variance (1 - t)^2.": (
            dict(centre=lambda t: 1 - t, width=lambda t: t)
        ),
        "the softmax runs over the points x. For each x the weights of the *data* add up to 1: dim=1 of [B, N].": (
            dict(dim=0)
        ),
        "the weights are not normalised: for each x divide them by their sum over the data.": (
            dict(weights=lambda z, dim: z.exp())
        ),
        "that is the plain mean over the data. Points that could have come here weigh more: use the posterior.": (
            dict(weights=lambda z, dim: torch.full_like(z, 1 / z.shape[1]))
        ),
        "that takes the nearest data point alone. All of them count, each with its posterior weight.": (
            dict(weights=lambda z, dim: (z == z.amax(dim, keepdim=True)).double())
        ),
        "that is E[x_1 given x_t]. The velocity is (that - x) / (1 - t).": dict(finish=lambda mean, x, t: mean),
        "the division by 1 - t is missing.": dict(finish=lambda mean, x, t: mean - x),
        "divided by t. The time that is left is 1 - t.": dict(finish=lambda mean, x, t: (mean - x) / t),
        "multiplied by 1 - t. Divide by the time that is left.": dict(finish=lambda mean, x, t: (mean - x) * (1 - t)),
        "only x is divided by 1 - t: brackets round the difference.": dict(
            finish=lambda mean, x, t: mean - x / (1 - t)
        ),
        "only E[x_1 given x_t] is divided by 1 - t: subtract x first.": (
            dict(finish=lambda mean, x, t: mean / (1 - t) - x)
        ),
        "the sign is flipped: yours leads away from the data.": dict(finish=lambda mean, x, t: (x - mean) / (1 - t)),
    },
)

# Lesson 03


def _draw_path():
    n, d = _sizes()
    return _times(n), _points(n, d), _points(n, d)


def _cosine_path(
    t,
    x0,
    x1,
    *,
    angle=lambda t: math.pi / 2 * t,
    alpha=torch.sin,
    sigma=torch.cos,
    rate=math.pi / 2,
    d_alpha=torch.cos,
    d_sigma=lambda a: -torch.sin(a),
    target=lambda ut, xt, x0, x1: ut,
    pair=lambda xt, ut: (xt, ut),
):
    a = angle(_column(t))
    xt = alpha(a) * x1 + sigma(a) * x0
    return pair(xt, target(rate * (d_alpha(a) * x1 + d_sigma(a) * x0), xt, x0, x1))


def _nichol(t: Tensor) -> Tensor:
    return math.pi / 2 * (1 - (1 - t + 0.008) / 1.008)


EXERCISES["cosine_path"] = Exercise(
    "cosine_path(t, x0, x1)",
    _draw_path,
    _cosine_path,
    {
        "time is reversed: yours has data at t = 0.": dict(angle=lambda t: math.pi / 2 * (1 - t)),
        "time is reversed: yours has data at t = 0 (sine and cosine are swapped).": [
            dict(alpha=torch.cos, sigma=torch.sin, d_alpha=lambda a: -torch.sin(a), d_sigma=torch.cos),
            dict(alpha=torch.cos, sigma=torch.sin),
        ],
        "x_t is right. In u_t the chain rule's factor pi/2 is missing.": dict(rate=1.0),
        "x_t is right. In u_t the factor is pi; the chain rule gives pi/2.": dict(rate=math.pi),
        "x_t is right. u_t is divided by pi/2; the chain rule multiplies.": dict(rate=2 / math.pi),
        "the angle is pi t. It must reach pi/2 at t = 1, where the path is the data.": [
            dict(angle=lambda t: math.pi * t, rate=math.pi),
            dict(angle=lambda t: math.pi * t),
            dict(angle=lambda t: math.pi * t, rate=1.0),
        ],
        "the angle is t. It must reach pi/2 at t = 1, where the path is the data.": [
            dict(angle=lambda t: t, rate=1.0),
            dict(angle=lambda t: t),
        ],
        "the angle is in degrees: torch's sine takes radians, pi/2 t.": [
            dict(angle=lambda t: 90 * t),
            dict(angle=lambda t: 90 * t, rate=90.0),
        ],
        "sine and cosine are squared in x_t. The squares add up to 1 (they are the variances); x_t takes them as "
        "they are.": [
            dict(alpha=lambda a: a.sin() ** 2, sigma=lambda a: a.cos() ** 2),
            dict(
                alpha=lambda a: a.sin() ** 2,
                sigma=lambda a: a.cos() ** 2,
                d_alpha=lambda a: (2 * a).sin(),
                d_sigma=lambda a: -(2 * a).sin(),
            ),
        ],
        "x_t is the straight line's, (1 - t) x_0 + t x_1.": [
            dict(alpha=lambda a: a / (math.pi / 2), sigma=lambda a: 1 - a / (math.pi / 2)),
        ],
        "that is the straight line, x_t and u_t. The factors of the VP-cosine path are a sine and a cosine.": (
            lambda t, x0, x1: ((1 - _column(t)) * x0 + _column(t) * x1, x1 - x0)
        ),
        "the noise has the factor 1 - sin. It is the cosine, so that the squares add up to 1.": [
            dict(sigma=lambda a: 1 - a.sin()),
            dict(sigma=lambda a: 1 - a.sin(), d_sigma=lambda a: -a.cos()),
        ],
        "that is Nichol & Dhariwal's schedule with its offset 0.008. Here the path has none.": [
            dict(angle=_nichol, rate=math.pi / 2 / 1.008),
            dict(angle=_nichol),
        ],
        "x_t is right. In u_t the sign of sigma' is wrong: the noise fades, so sigma' < 0.": dict(d_sigma=torch.sin),
        "x_t is right. In u_t the sign of alpha' is wrong: the data grow, so alpha' > 0.": (
            dict(d_alpha=lambda a: -torch.cos(a))
        ),
        "x_t is right. The sign of u_t is flipped: yours runs from data to noise.": dict(rate=-math.pi / 2),
        "x_t is right. In u_t sine and cosine are not differentiated.": (dict(d_alpha=torch.sin, d_sigma=torch.cos)),
        "x_t is right. In u_t the derivatives are swapped: alpha' belongs to x_1, sigma' to x_0.": (
            dict(d_alpha=lambda a: -torch.sin(a), d_sigma=torch.cos)
        ),
        "x_t is right. u_t is that of the straight line, x_1 - x_0.": dict(target=lambda ut, xt, x0, x1: x1 - x0),
        "x_t is right. u_t is x_1 - x_t: derive alpha x_1 + sigma x_0 in t.": (
            dict(target=lambda ut, xt, x0, x1: x1 - xt)
        ),
        "x_t is right. u_t is x_0: that is the target of a noise prediction.": dict(target=lambda ut, xt, x0, x1: x0),
        "x_t is right. u_t is x_1: that is the target of a data prediction.": dict(target=lambda ut, xt, x0, x1: x1),
        "the pair is swapped: x_t comes first, then u_t.": dict(pair=lambda xt, ut: (ut, xt)),
    },
    returns=("x_t", "u_t"),
)


def _draw_marginal():
    n, d = _sizes()
    return vp_cosine_path(), _number(0.2, 0.8), _points(d), _number(0.3, 2.0), _points(n, d)


def _marginal_sample(
    path,
    t,
    mean,
    std,
    z,
    *,
    centre=lambda a, s, mean: a * mean,
    spread=lambda a, s, std: (a**2 * std**2 + s**2).sqrt(),
    place=lambda centre, spread, z, a: centre + spread * z,
):
    t = torch.tensor(t, dtype=torch.float64)
    a, s = path.alpha(t), path.sigma(t)
    return place(centre(a, s, mean), spread(a, s, std), z, a)


def _samples_the_marginal(attempt: Callable, steady: bool) -> bool:
    """Mean, covariance and fourth moments of many samples, for answers that draw noise of their own.

    The tolerances are six standard errors: too coarse for an answer that uses z alone, which is compared exactly.
    """
    if steady:
        return False
    n = 40_000
    for _ in range(5):
        path, t, mean, std, z = _draw_marginal()
        z = _points(n, len(mean))
        try:
            x = _tensor(attempt(path, t, mean.clone(), std, z))
        except Exception:  # a function that fails here is judged elsewhere
            return False
        if x.shape != z.shape:
            return False
        time = torch.tensor(t, dtype=torch.float64)
        a, s = path.alpha(time), path.sigma(time)
        e = (x - a * mean) / (a**2 * std**2 + s**2).sqrt()
        moments = [(e.mean(0), 0.0, 1.0), (e.T @ e / n, _eye(len(mean)), 2**0.5), (e.pow(4).mean(0), 3.0, 96**0.5)]
        if not all(((got - right).abs() < 6 * scale / n**0.5).all() for got, right, scale in moments):
            return False
    return True


EXERCISES["marginal_sample"] = Exercise(
    "marginal_sample(path, t, mean, std, z)",
    _draw_marginal,
    _marginal_sample,
    {
        "the variance was used as a standard deviation: a square root is missing.": (
            dict(spread=lambda a, s, std: a**2 * std**2 + s**2)
        ),
        "standard deviations do not add. Variances do.": dict(spread=lambda a, s, std: a * std + s),
        "under the root alpha, std and sigma are all squared: variances add.": [
            dict(spread=lambda a, s, std: (a * std + s).sqrt()),
            dict(spread=lambda a, s, std: (a * std**2 + s).sqrt()),
            dict(spread=lambda a, s, std: (a * std**2 + s**2).sqrt()),
            dict(spread=lambda a, s, std: (a**2 * std**2 + s).sqrt()),
            dict(spread=lambda a, s, std: (a**2 * std + s**2).sqrt()),
            dict(spread=lambda a, s, std: (a**2 * std + s).sqrt()),
            dict(spread=lambda a, s, std: (a * std + s**2).sqrt()),
        ],
        "the data's own width is missing: yours is the path of a single point.": dict(spread=lambda a, s, std: s),
        "the noise is missing in the width: yours scales the data, nothing else.": [
            dict(spread=lambda a, s, std: a * std),
            dict(spread=lambda a, s, std: std),
        ],
        "the data's width is not scaled by alpha.": dict(spread=lambda a, s, std: (std**2 + s**2).sqrt()),
        "alpha and sigma are swapped in the width: alpha scales the data, sigma the noise.": (
            dict(spread=lambda a, s, std: (s**2 * std**2 + a**2).sqrt())
        ),
        "std scales the noise too. It belongs to the data: alpha^2 std^2 + sigma^2.": [
            dict(spread=lambda a, s, std: (a + s) * std),
        ],
        "the variances are averaged. Those of a sum add up.": (
            dict(spread=lambda a, s, std: ((a**2 * std**2 + s**2) / 2).sqrt())
        ),
        "the width is 1: the data's width and the noise's are both to be scaled.": (
            dict(spread=lambda a, s, std: torch.ones_like(a))
        ),
        "the mean is not scaled by alpha.": dict(centre=lambda a, s, mean: mean),
        "the mean is scaled by sigma. The data carry alpha.": dict(centre=lambda a, s, mean: s * mean),
        "the mean is scaled by alpha squared. Means scale with alpha, variances with its square.": (
            dict(centre=lambda a, s, mean: a**2 * mean)
        ),
        "the mean is missing: p_t is centred at alpha mean.": dict(centre=lambda a, s, mean: 0 * mean),
        "alpha multiplies the noise as well. It belongs to the data alone.": (
            dict(centre=lambda a, s, mean: mean, place=lambda centre, spread, z, a: a * (centre + spread * z))
        ),
    },
    either_sign="z",
    also_right=_samples_the_marginal,
)

# Lesson 04


def _ema(average, weight, decay, *, old=lambda d: d, new=lambda d: 1 - d):
    return old(decay) * average + new(decay) * weight


EXERCISES["ema"] = Exercise(
    "ema(average, weight, decay)",
    lambda: (_points(5), _points(5), _number(0.7, 0.99)),
    _ema,
    {
        "the two are swapped: with decay near 1 yours follows the new weight at once.": (
            dict(old=lambda d: 1 - d, new=lambda d: d)
        ),
        "the weights do not add up to 1.": [
            dict(new=lambda d: 1),
            dict(old=lambda d: 1),
            dict(new=lambda d: d),
            dict(old=lambda d: 1, new=lambda d: d),
            dict(old=lambda d: 1 - d),
            dict(old=lambda d: 1, new=lambda d: 1),
        ],
        "that ignores the decay: it is the plain mean of the two.": dict(old=lambda d: 0.5, new=lambda d: 0.5),
        "the average moves away from the weight: the sign of the step is flipped.": (
            dict(old=lambda d: 2 - d, new=lambda d: d - 1)
        ),
        "the new weight is subtracted. The average moves towards it.": dict(new=lambda d: d - 1),
        "that is the step only. Add it to the old average.": [
            dict(old=lambda d: d - 1),
            dict(old=lambda d: 1 - d, new=lambda d: d - 1),
        ],
        "the average does not move: the weight has no effect.": dict(old=lambda d: 1, new=lambda d: 0),
        "that is the new weight alone: nothing is averaged.": dict(old=lambda d: 0, new=lambda d: 1),
        "the new weight's share is missing: add (1 - decay) weight.": dict(new=lambda d: 0),
        "the old average's share is missing: add decay average.": dict(old=lambda d: 0),
        "the decay is squared: one step multiplies by it once.": dict(old=lambda d: d**2, new=lambda d: 1 - d**2),
        "the decay's root was taken: one step multiplies by it once.": (
            dict(old=lambda d: d**0.5, new=lambda d: 1 - d**0.5)
        ),
        "divided by 1 - decay: Adam's correction of the start has no place in a single step.": (
            dict(old=lambda d: d / (1 - d), new=lambda d: 1)
        ),
    },
)


def _logit_normal(
    z, m, s, *, location=lambda m, s: m, scale=lambda s: s, squash=torch.sigmoid, logit=lambda z, m, s: m + s * z
):
    return squash(logit(z, location(m, s), scale(s)))


EXERCISES["logit_normal"] = Exercise(
    "logit_normal(z, m, s)",
    lambda: (_points(6), _number(0.3, 1.0), _number(0.5, 2.0)),
    _logit_normal,
    {
        "the sigmoid is missing: t leaves (0, 1).": dict(squash=lambda y: y),
        "the sign of m is flipped. That is SD3's time, where data is at t = 0.": dict(location=lambda m, s: -m),
        "s multiplies m too. m is the centre: m + s z.": dict(location=lambda m, s: s * m),
        "s was used as a variance. It is the standard deviation of the logit.": dict(scale=lambda s: s**0.5),
        "s is squared. It is the standard deviation of the logit: s z.": dict(scale=lambda s: s**2),
        "s is missing.": dict(scale=lambda s: 1.0),
        "divided by s. It is the scale: s z.": dict(scale=lambda s: 1 / s),
        "m is missing.": dict(location=lambda m, s: 0.0),
        "that standardises: (z - m) / s. z is standard already; give it location and scale, m + s z.": (
            dict(logit=lambda z, m, s: (z - m) / s)
        ),
        "m and s are swapped: m is the location, s the scale.": dict(logit=lambda z, m, s: s + m * z),
        "location and scale come after the sigmoid. They belong inside: it is the logit of t that is normal.": (
            lambda z, m, s: m + s * torch.sigmoid(z)
        ),
        "the sigmoid ends too early: m + s z as a whole goes into it.": [
            lambda z, m, s: torch.sigmoid(m) + s * z if isinstance(m, Tensor) else 1 / (1 + math.exp(-m)) + s * z,
            lambda z, m, s: m + torch.sigmoid(s * z),
            lambda z, m, s: s * torch.sigmoid(m + z),
        ],
        "that is log-normal: positive, but not below 1. EDM draws its sigma so; t needs the sigmoid.": (
            dict(squash=torch.exp)
        ),
        "that is the logarithm of the sigmoid.": dict(squash=torch.nn.functional.logsigmoid),
        "that is the normal distribution function (probit-normal). Logit-normal has the sigmoid.": (
            dict(squash=torch.special.ndtr)
        ),
        "that is tanh, which lies in (-1, 1). The sigmoid lies in (0, 1).": [
            dict(squash=torch.tanh),
            dict(squash=lambda y: torch.tanh(y / 2)),
        ],
        "the softmax makes the times of a batch depend on each other. Each needs a sigmoid of its own.": (
            dict(squash=lambda y: torch.softmax(y, dim=0))
        ),
        "the values are cut off at 0 and 1 (clamped). The sigmoid brings them in smoothly.": (
            dict(squash=lambda y: y.clamp(0, 1))
        ),
    },
    either_sign="z",
)

# Lesson 05


def _draw_step():
    n, d = _sizes()
    t = _number(0.1, 0.6)
    return _toy_model(), t, t + _number(0.1, 0.3), _points(n, d)


def _heun_step(
    model,
    t,
    t_next,
    x,
    *,
    size=lambda t, u: u - t,
    first_time=lambda t, u: t,
    second_time=lambda t, u: u,
    predict=lambda x, v, dt: x + dt * v,
    combine=lambda x, v1, v2, dt: x + dt * (v1 + v2) / 2,
):
    dt = size(t, t_next)
    v1 = model(first_time(t, t_next), x)
    return combine(x, v1, model(second_time(t, t_next), predict(x, v1, dt)), dt)


def _runge_kutta(model, t, t_next, x):
    dt = t_next - t
    k1 = model(t, x)
    k2 = model(t + dt / 2, x + dt / 2 * k1)
    k3 = model(t + dt / 2, x + dt / 2 * k2)
    return x + dt / 6 * (k1 + 2 * k2 + 2 * k3 + model(t_next, x + dt * k3))


EXERCISES["heun"] = Exercise(
    "heun_step(model, t, t_next, x)",
    _draw_step,
    _heun_step,
    {
        "that is an Euler step: one call, at the start.": dict(combine=lambda x, v1, v2, dt: x + dt * v1),
        "only the second slope counts. Heun averages both.": dict(combine=lambda x, v1, v2, dt: x + dt * v2),
        "the second slope is taken at t. It belongs to t_next.": dict(second_time=lambda t, u: t),
        "the first slope is taken at t_next. It belongs to t.": dict(first_time=lambda t, u: u),
        "the times of the two slopes are swapped: t first, then t_next.": (
            dict(first_time=lambda t, u: u, second_time=lambda t, u: t)
        ),
        "the second slope is taken half a step on. Heun takes it at t_next.": (
            dict(second_time=lambda t, u: (t + u) / 2, predict=lambda x, v, dt: x + dt / 2 * v)
        ),
        "the second slope's time is (t + t_next) / 2. Heun takes it at t_next.": (
            dict(second_time=lambda t, u: (t + u) / 2)
        ),
        "the second slope is taken at x. It belongs to the Euler step's end.": dict(predict=lambda x, v, dt: x),
        "the second slope is taken after half an Euler step. It belongs to the end of a whole one.": (
            dict(predict=lambda x, v, dt: x + dt / 2 * v)
        ),
        "the Euler step that finds the second place lacks its dt.": dict(predict=lambda x, v, dt: x + v),
        "the second slope is taken at dt v. The Euler step starts at x: x + dt v.": dict(
            predict=lambda x, v, dt: dt * v
        ),
        "the second slope is taken behind x: the Euler step has the wrong sign.": dict(
            predict=lambda x, v, dt: x - dt * v
        ),
        "the factor 1/2 is missing: that goes twice as far.": dict(combine=lambda x, v1, v2, dt: x + dt * (v1 + v2)),
        "there is a factor 1/2 too much: v1 + v2 is halved once.": (
            dict(combine=lambda x, v1, v2, dt: x + dt * (v1 + v2) / 4)
        ),
        "the step goes backwards: the sign of dt is flipped.": [
            dict(combine=lambda x, v1, v2, dt: x - dt * (v1 + v2) / 2),
            dict(size=lambda t, u: t - u),
        ],
        '"x +" is missing: that is the step alone, not where it ends.': (
            dict(combine=lambda x, v1, v2, dt: dt * (v1 + v2) / 2)
        ),
        "that is the mean slope. The step is x + dt times that.": dict(combine=lambda x, v1, v2, dt: (v1 + v2) / 2),
        "dt is missing at the end: x + dt (v1 + v2) / 2.": dict(combine=lambda x, v1, v2, dt: x + (v1 + v2) / 2),
        "dt is t_next. It is t_next - t.": dict(size=lambda t, u: u),
        "the slopes are subtracted. Their mean is (v1 + v2) / 2.": (
            dict(combine=lambda x, v1, v2, dt: x + dt * (v1 - v2) / 2)
        ),
        "only one of the slopes is halved: brackets round v1 + v2.": [
            dict(combine=lambda x, v1, v2, dt: x + dt * v1 + dt * v2 / 2),
            dict(combine=lambda x, v1, v2, dt: x + dt * v1 / 2 + dt * v2),
            dict(combine=lambda x, v1, v2, dt: x + dt * v1 + v2 / 2),
            dict(combine=lambda x, v1, v2, dt: x + dt * v1 / 2 + v2),
        ],
        "the mean slope is added to the Euler step's end. It starts at x again.": (
            dict(combine=lambda x, v1, v2, dt: x + dt * v1 + dt * (v1 + v2) / 2)
        ),
        "that is the midpoint method. It is of second order too, but Heun averages the slopes at both ends.": (
            lambda model, t, t_next, x: x + (t_next - t) * model((t + t_next) / 2, x + (t_next - t) / 2 * model(t, x))
        ),
        "that is Ralston's method (two thirds of a step, weights 1/4 and 3/4). It is of second order too, but not "
        "Heun's.": (
            dict(
                second_time=lambda t, u: t + 2 / 3 * (u - t),
                predict=lambda x, v, dt: x + 2 / 3 * dt * v,
                combine=lambda x, v1, v2, dt: x + dt * (v1 + 3 * v2) / 4,
            )
        ),
        "that is RK4, with four calls. Heun has two.": _runge_kutta,
    },
)


def _draw_sampler():
    n, d = _sizes()
    return _toy_model(), _points(n, d), int(torch.randint(5, 12, ()))


def _euler_sampler(
    model,
    x0,
    steps,
    *,
    when=lambda i, n: i / n,
    size=lambda n: 1 / n,
    start=0,
    count=lambda n: n,
    move=lambda x, v, dt, x0: x + dt * v,
    place=lambda x, x0: x,
    end=lambda x, x0, n: x,
):
    x = x0
    for i in range(start, count(steps)):
        x = move(x, model(when(i, steps), place(x, x0)), size(steps), x0)
    return end(x, x0, steps)


_EULER_MISTAKES: dict[str, Mistake | list[Mistake]] = {  # reflow shares them
    "time is reversed: yours starts at t = 1.": [
        dict(when=lambda i, n: 1 - i / n),
        dict(when=lambda i, n: 1 - (i + 1) / n),
    ],
    "time is reversed: yours calls the model at 1 - t, and steps backwards.": [
        dict(when=lambda i, n: 1 - i / n, size=lambda n: -1 / n),
        dict(when=lambda i, n: 1 - (i + 1) / n, size=lambda n: -1 / n),
    ],
    "the steps go backwards: from noise to data the velocity is added.": dict(size=lambda n: -1 / n),
    "each slope is taken at the *end* time of its step. Euler uses the start.": dict(when=lambda i, n: (i + 1) / n),
    "each slope is taken at the middle of its step. Euler uses the start.": dict(when=lambda i, n: (i + 0.5) / n),
    "one step is missing: linspace(0, 1, steps) has steps - 1 gaps.": (
        dict(when=lambda i, n: i / (n - 1), size=lambda n: 1 / (n - 1), count=lambda n: n - 1)
    ),
    "the times are those of linspace(0, 1, steps), whose gaps are not 1 / steps.": dict(when=lambda i, n: i / (n - 1)),
    "one step too many: linspace(0, 1, steps + 1) has steps + 1 times, but the last is the end. Leave it out.": [
        dict(count=lambda n: n + 1),
        dict(when=lambda i, n: i / (n + 1), size=lambda n: 1 / (n + 1), count=lambda n: n + 1),
    ],
    "the step at t = 0 is missing: range(steps) starts at 0.": dict(start=1),
    "the last step is missing: range(steps) ends at steps - 1 already.": dict(count=lambda n: n - 1),
    "dt is 1 / (steps + 1). steps steps of dt are to give 1.": [
        dict(when=lambda i, n: i / (n + 1), size=lambda n: 1 / (n + 1)),
        dict(size=lambda n: 1 / (n + 1)),
    ],
    "dt is 1 / (steps - 1). steps steps of dt are to give 1.": [
        dict(when=lambda i, n: i / (n - 1), size=lambda n: 1 / (n - 1)),
        dict(size=lambda n: 1 / (n - 1)),
    ],
    "the step size is missing or 1: dt = 1 / steps.": dict(size=lambda n: 1.0),
    "the time stands still: the model is called at t = 0 each time.": dict(when=lambda i, n: 0.0),
    "the time stands still: the model is called at t = 1 each time.": dict(when=lambda i, n: 1.0),
    "the model got the number of the step. It needs the time, i / steps.": [
        dict(when=lambda i, n: float(i)),
        dict(when=lambda i, n: float(i + 1)),
    ],
    "the model is called at x_0 each time. Call it where the step before ended.": dict(place=lambda x, x0: x0),
    "each step starts at x_0 again, so that only the last one counts.": dict(move=lambda x, v, dt, x0: x0 + dt * v),
    "each step forgets where it started: x + dt v, not dt v.": dict(move=lambda x, v, dt, x0: dt * v),
    "that is one big step. Take `steps` small ones.": (
        dict(move=lambda x, v, dt, x0: x0 + v, place=lambda x, x0: x0, when=lambda i, n: 0.0)
    ),
    "that is the displacement. The end is x_0 plus that.": dict(end=lambda x, x0, n: x - x0),
    "that is the start: no step was kept (x + ... must be assigned to x).": dict(end=lambda x, x0, n: x0),
    "the end is divided by the number of steps: the steps add up, they are not averaged.": (
        dict(end=lambda x, x0, n: x / n)
    ),
}


def _with_steps(step: Callable) -> Callable:
    def sampler(model, x0, steps):
        x = x0
        for i in range(steps):
            x = step(model, i / steps, (i + 1) / steps, x)
        return x

    return sampler


def _trajectory(first: int) -> Callable:
    def sampler(model, x0, steps):
        xs = [x0]
        for i in range(steps):
            xs.append(xs[-1] + model(i / steps, xs[-1]) / steps)
        return torch.stack(xs[first:])

    return sampler


EXERCISES["euler_sampler"] = Exercise(
    "my_sampler(model, x0, steps)",
    _draw_sampler,
    _euler_sampler,
    _EULER_MISTAKES
    | {
        "those are all places on the trajectory. Asked is the last one.": [_trajectory(0), _trajectory(1)],
        "those are Heun steps. Euler has one call in each.": _with_steps(_heun_step),
        "those are midpoint steps. Euler has one call in each.": _with_steps(
            lambda model, t, u, x: x + (u - t) * model((t + u) / 2, x + (u - t) / 2 * model(t, x))
        ),
    },
)

# Lesson 06


def _eps_to_v(
    path,
    t,
    xt,
    eps,
    *,
    data=lambda c, xt, eps: (xt - c.s * eps) / c.a,
    da=lambda c: c.da,
    ds=lambda c: c.ds,
    velocity=lambda c, da, ds, x1, xt, eps: da * x1 + ds * eps,
):
    c = _coefficients(path, t)
    return velocity(c, da(c), ds(c), data(c, xt, eps), xt, eps)


EXERCISES["eps_to_v"] = Exercise(
    "eps_to_v(path, t, xt, eps)",
    _draw_pair_on_a_path,
    _eps_to_v,
    {
        "that is diffusion's v, alpha eps - sigma x_1. The velocity uses the derivatives of both.": [
            dict(velocity=lambda c, da, ds, x1, xt, eps: c.a * eps - c.s * x1),
            dict(velocity=lambda c, da, ds, x1, xt, eps: c.s * x1 - c.a * eps),
        ],
        "that is x_1 - eps: right for the straight line only.": (
            dict(velocity=lambda c, da, ds, x1, xt, eps: x1 - eps)
        ),
        "that is (x_t - eps) / t: right for the straight line only. Here x_t = alpha x_1 + sigma eps.": (
            dict(velocity=lambda c, da, ds, x1, xt, eps: (xt - eps) / c.t)
        ),
        "that is (x_1 - x_t) / (1 - t): right for the straight line only. Differentiate alpha x_1 + sigma eps.": [
            dict(velocity=lambda c, da, ds, x1, xt, eps: (x1 - xt) / (1 - c.t)),
        ],
        "x_1 is that of the straight line, (x_t - (1 - t) eps) / t. Here it is (x_t - sigma eps) / alpha.": (
            dict(data=lambda c, xt, eps: (xt - (1 - c.t) * eps) / c.t)
        ),
        "alpha and sigma are used without their derivatives: that gives back x_t.": (
            dict(da=lambda c: c.a, ds=lambda c: c.s)
        ),
        "alpha is used where its derivative belongs.": dict(da=lambda c: c.a),
        "sigma is used where its derivative belongs.": dict(ds=lambda c: c.s),
        "x_t was used where x_1 = (x_t - sigma eps) / alpha belongs.": dict(data=lambda c, xt, eps: xt),
        "the sign is flipped: that is the velocity of reversed time.": (
            dict(velocity=lambda c, da, ds, x1, xt, eps: -(da * x1 + ds * eps))
        ),
        "the sign of sigma' eps is flipped. sigma' is negative already.": dict(ds=lambda c: -c.ds),
        "the sign of alpha' x_1 is flipped.": dict(da=lambda c: -c.da),
        "x_1 was not divided by alpha.": dict(data=lambda c, xt, eps: xt - c.s * eps),
        "x_1 was multiplied by alpha. Divide.": dict(data=lambda c, xt, eps: (xt - c.s * eps) * c.a),
        "the noise is added to x_t. x_1 is (x_t - sigma eps) / alpha.": dict(
            data=lambda c, xt, eps: (xt + c.s * eps) / c.a
        ),
        "the noise is not scaled by sigma in x_1 = (x_t - sigma eps) / alpha.": dict(
            data=lambda c, xt, eps: (xt - eps) / c.a
        ),
        "only x_t is divided by alpha: brackets round x_t - sigma eps.": dict(
            data=lambda c, xt, eps: xt / c.a - c.s * eps
        ),
        "only the noise is divided by alpha: brackets round x_t - sigma eps.": (
            dict(data=lambda c, xt, eps: xt - c.s * eps / c.a)
        ),
        "alpha and sigma are swapped in x_1 = (x_t - sigma eps) / alpha.": dict(
            data=lambda c, xt, eps: (xt - c.a * eps) / c.s
        ),
        "alpha and sigma were taken for variances: here they multiply as they are, without roots.": (
            dict(data=lambda c, xt, eps: (xt - c.s.sqrt() * eps) / c.a.sqrt())
        ),
        "the derivatives are swapped: alpha' belongs to x_1, sigma' to eps.": (
            dict(da=lambda c: c.ds, ds=lambda c: c.da)
        ),
        "sigma' is missing: the noise fades, and that moves x_t too.": dict(ds=lambda c: 0.0),
        "alpha' x_1 is missing.": dict(da=lambda c: 0.0),
        "that is x_1. The velocity is alpha' x_1 + sigma' eps.": dict(velocity=lambda c, da, ds, x1, xt, eps: x1),
        "that is the score, -eps / sigma. The velocity is alpha' x_1 + sigma' eps.": (
            dict(velocity=lambda c, da, ds, x1, xt, eps: -eps / c.s)
        ),
    },
)


def _x1_to_score(
    path,
    t,
    xt,
    x1,
    *,
    centre=lambda c, x1: c.a * x1,
    over=lambda c: c.s**2,
    sign=1,
    score=lambda c, centre, over, xt, x1: (centre - xt) / over,
):
    c = _coefficients(path, t)
    return sign * score(c, centre(c, x1), over(c), xt, x1)


EXERCISES["x1_to_score"] = Exercise(
    "x1_to_score(path, t, xt, x1)",
    _draw_pair_on_a_path,
    _x1_to_score,
    {
        "the sign is flipped: the score points towards the data.": dict(sign=-1),
        "divided by sigma: that is minus the noise. The score has sigma squared.": dict(over=lambda c: c.s),
        "that is the noise, (x_t - alpha x_1) / sigma. The score is minus the noise over sigma.": (
            dict(over=lambda c: c.s, sign=-1)
        ),
        "the division by sigma squared is missing.": dict(over=lambda c: 1.0),
        "multiplied by sigma squared. Divide.": dict(over=lambda c: c.s**-2),
        "divided by sigma to the fourth. sigma squared is the variance already.": dict(over=lambda c: c.s**4),
        "divided by alpha squared. The noise has the width sigma.": dict(over=lambda c: c.a**2),
        "divided by (1 - t)^2: that is the straight line's sigma. Take path.sigma(t).": dict(
            over=lambda c: (1 - c.t) ** 2
        ),
        "the factor alpha at x_1 is missing: p(x_t given x_1) is centred at alpha x_1.": dict(centre=lambda c, x1: x1),
        "the centre is t x_1: that is the straight line's alpha. Take path.alpha(t).": dict(
            centre=lambda c, x1: c.t * x1
        ),
        "the factor at x_1 is alpha squared. p(x_t given x_1) is centred at alpha x_1.": (
            dict(centre=lambda c, x1: c.a**2 * x1)
        ),
        "alpha and sigma are swapped: p(x_t given x_1) is centred at alpha x_1, with the width sigma.": [
            dict(centre=lambda c, x1: c.s * x1, over=lambda c: c.a**2),
            dict(centre=lambda c, x1: c.s * x1),
        ],
        "a factor 1/2 too much.": dict(over=lambda c: 2 * c.s**2),
        "a factor 2 too much.": dict(over=lambda c: c.s**2 / 2),
        "that is (x_1 - x_t) / (1 - t), the straight line's velocity. The score is (alpha x_1 - x_t) / sigma^2.": (
            dict(score=lambda c, centre, over, xt, x1: (x1 - xt) / (1 - c.t))
        ),
        "that is the velocity. The score is (alpha x_1 - x_t) / sigma^2.": (
            dict(score=lambda c, centre, over, xt, x1: c.da * x1 + c.ds * (xt - c.a * x1) / c.s)
        ),
        "only x_t is divided: brackets round alpha x_1 - x_t.": (
            dict(score=lambda c, centre, over, xt, x1: centre - xt / over)
        ),
        "only x_1 is divided: brackets round alpha x_1 - x_t.": (
            dict(score=lambda c, centre, over, xt, x1: centre / over - xt)
        ),
        "x_1 has no effect: that is the score if all data were at 0.": (
            dict(score=lambda c, centre, over, xt, x1: -xt / over)
        ),
        "that is x_t's own score for a standard normal p_t, -x_t.": dict(score=lambda c, centre, over, xt, x1: -xt),
        "x_t was divided by alpha: the width is then sigma / alpha. Leave x_t as it is.": (
            dict(score=lambda c, centre, over, xt, x1: (x1 - xt / c.a) / over)
        ),
    },
)


def _draw_sde():
    n, d = _sizes()
    return _points(n, d), _points(n, d), _points(n, d), _number(0.3, 1.5), _number(0.01, 0.1), _points(n, d)


def _sde_step(
    x,
    v,
    score,
    g,
    dt,
    z,
    *,
    keep=1.0,
    flow=lambda v, dt: v * dt,
    correction=lambda g: g**2 / 2,
    during=lambda dt: dt,
    spread=lambda g, dt: g * dt**0.5,
):
    return keep * x + flow(v, dt) + correction(g) * score * during(dt) + spread(g, dt) * z


EXERCISES["sde_step"] = Exercise(
    "sde_step(x, v, score, g, dt, z)",
    _draw_sde,
    _sde_step,
    {
        "noise without its correction: add g^2/2 times the score to the drift, else p_t spreads.": (
            dict(correction=lambda g: 0.0)
        ),
        "the factor 1/2 at g^2 score is missing. (Without it, it is the reverse-time drift f - g^2 s.)": (
            dict(correction=lambda g: g**2)
        ),
        "the correction has g where g^2 belongs: g^2/2 times the score.": [
            dict(correction=lambda g: g / 2),
            dict(correction=lambda g: g),
        ],
        "the score is added without g^2/2.": [dict(correction=lambda g: 1.0), dict(correction=lambda g: 0.5)],
        "the correction has (g/2)^2. It is g^2/2.": dict(correction=lambda g: g**2 / 4),
        "the correction has no dt. It is part of the drift: (v + g^2/2 score) dt.": dict(during=lambda dt: 1.0),
        "the correction has sqrt(dt). It is part of the drift: (v + g^2/2 score) dt.": dict(during=lambda dt: dt**0.5),
        "the noise has dt where sqrt(dt) belongs: it would vanish for small steps.": dict(spread=lambda g, dt: g * dt),
        "the noise has no dt: it is g sqrt(dt) z. Yours is as large in a small step as in a large one.": [
            dict(spread=lambda g, dt: g),
            dict(spread=lambda g, dt: 1.0),
        ],
        "the sign of the correction is flipped.": dict(correction=lambda g: -(g**2) / 2),
        "that is the reverse-time SDE's drift, v - g^2 score. v is the flow's velocity: add g^2/2 score.": (
            dict(correction=lambda g: -(g**2))
        ),
        "g is missing at z (or used twice elsewhere): the noise is g sqrt(dt) z.": dict(spread=lambda g, dt: dt**0.5),
        "the noise is added twice: its standard deviation is g sqrt(dt), once.": (
            dict(spread=lambda g, dt: 2 * g * dt**0.5)
        ),
        "g^2 multiplies z. The noise has standard deviation g sqrt(dt).": dict(spread=lambda g, dt: g**2 * dt**0.5),
        "the root covers g too. The noise has standard deviation g sqrt(dt).": (
            dict(spread=lambda g, dt: (g * dt) ** 0.5)
        ),
        "the noise has a factor sqrt(2). That belongs to Langevin steps; here it is g sqrt(dt).": (
            dict(spread=lambda g, dt: g * (2 * dt) ** 0.5)
        ),
        "the noise is halved: its standard deviation is g sqrt(dt).": dict(spread=lambda g, dt: g * dt**0.5 / 2),
        "the noise is missing. With the correction and no noise, p_t shrinks towards its peaks.": (
            dict(spread=lambda g, dt: 0.0)
        ),
        "that is the flow's Euler step: noise and its correction are missing.": (
            dict(spread=lambda g, dt: 0.0, correction=lambda g: 0.0)
        ),
        "v is missing: the correction keeps p_t as it is, the flow moves it.": dict(flow=lambda v, dt: 0.0),
        "v has no dt: (v + g^2/2 score) dt.": dict(flow=lambda v, dt: v),
        "the sign of v is flipped: yours runs from data to noise.": dict(flow=lambda v, dt: -v * dt),
        '"x +" is missing: that is the step alone, not where it ends.': dict(keep=0.0),
    },
    either_sign="z",
)

# Lesson 07


def _draw_reflow():
    n, d = _sizes()
    return _toy_model(), _points(n, d), int(torch.randint(4, 9, ()))


def _reflow(model, x0, steps, *, pair=lambda x0, x1: (x0, x1), **changes):
    return pair(x0, _euler_sampler(model, x0, steps, **changes))


EXERCISES["reflow"] = Exercise(
    "my_reflow(model, x0, steps)",
    _draw_reflow,
    _reflow,
    {
        "the pair is swapped: noise comes first, (x_0, x_1).": dict(pair=lambda x0, x1: (x1, x0)),
        "the pairing is broken: row i of x_1 must come from row i of x_0.": [
            dict(pair=lambda x0, x1: (x0, x1.flip(0))),
            dict(pair=lambda x0, x1: (x0, x1.roll(1, 0))),
            dict(pair=lambda x0, x1: (x0.sort(0).values, x1.sort(0).values)),
        ],
        "both are the end. Keep x_0 as it was (did you change it in place?).": dict(pair=lambda x0, x1: (x1, x1)),
        "the second is the velocity x_1 - x_0. Return the end; training takes the difference.": (
            dict(pair=lambda x0, x1: (x0, x1 - x0))
        ),
        "the second is x_0 too: no step was kept (x + ... must be assigned to x).": dict(pair=lambda x0, x1: (x0, x0)),
        "the second is the middle between noise and end. Return the end.": dict(
            pair=lambda x0, x1: (x0, (x0 + x1) / 2)
        ),
    }
    | {
        f"x_0 is right; x_1 is not: {message}": how
        for message, how in _EULER_MISTAKES.items()
        if "displacement" not in message and "the start:" not in message
    },
    returns=("x_0", "x_1"),
)


def _draw_line():
    n = int(torch.randint(5, 9, ()))  # of so many, hardly ever all are in order by chance
    return _points(n), 0.5 + 2 * _points(n)


def _ascending(a: Tensor) -> Tensor:
    return a.sort().values


def _w2_line(a, b, *, order_a=_ascending, order_b=_ascending, cost=torch.square, gather=torch.mean, root=torch.sqrt):
    return root(gather(cost(order_a(a) - order_b(b))))


EXERCISES["w2_line"] = Exercise(
    "w2(a, b)",
    _draw_line,
    _w2_line,
    {
        "that is W2 squared. The distance is its root (POT's `ot.emd2` gives the square too).": dict(root=lambda m: m),
        "the points are paired as they come. On a line the best pairing is by rank: sort both.": (
            dict(order_a=lambda a: a, order_b=lambda b: b)
        ),
        "only one of the two is sorted. The best pairing is by rank: sort both.": [
            dict(order_a=lambda a: a),
            dict(order_b=lambda b: b),
        ],
        "those are the places in the order (argsort). The sorted *values* are paired.": (
            dict(order_a=lambda a: a.argsort().double(), order_b=lambda b: b.argsort().double())
        ),
        "that is W1: the mean distance, without squares.": dict(cost=torch.abs, root=lambda m: m),
        "the root of each square was taken before the mean: first the mean, then the root.": (
            dict(cost=torch.abs, root=torch.sqrt)
        ),
        "the sum instead of the mean: it grows with the number of points.": dict(gather=torch.sum),
        "the sum of the squares: neither mean nor root.": dict(gather=torch.sum, root=lambda m: m),
        "divided by N after the root: the mean goes inside.": (
            lambda a, b: (_ascending(a) - _ascending(b)).norm() / len(a)
        ),
        "divided by N - 1. It is the mean over all N pairs.": dict(gather=lambda c: c.sum() / (len(c) - 1)),
        "that is the largest distance of a pair. W2 takes the mean of the squares.": dict(gather=torch.max),
        "that is the median. W2 takes the mean of the squares.": dict(gather=torch.median),
        "one of the two is sorted the other way round: that is the worst pairing.": (
            dict(order_b=lambda b: b.sort(descending=True).values)
        ),
        "that is the distance of the means only. Two sets may share a mean and differ.": [
            lambda a, b: (a.mean() - b.mean()).abs(),
            lambda a, b: b.mean() - a.mean(),
            lambda a, b: a.mean() - b.mean(),
        ],
        "that is the formula for two Gaussians, from means and widths. The sets are not Gaussian.": [
            lambda a, b: ((a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2).sqrt(),
            lambda a, b: ((a.mean() - b.mean()) ** 2 + (a.std(correction=0) - b.std(correction=0)) ** 2).sqrt(),
        ],
        "that averages over all N x N pairs. Each point has one partner: sort both.": [
            lambda a, b: (a[:, None] - b).square().mean().sqrt(),
            lambda a, b: (a[:, None] - b).abs().mean(),
        ],
        "each point takes its nearest partner, and some are taken twice. A pairing uses each once.": [
            lambda a, b: (a[:, None] - b).square().min(1).values.mean().sqrt(),
            lambda a, b: (a[:, None] - b).square().min(0).values.mean().sqrt(),
        ],
    },
    returns=("the distance",),
)

# Lesson 08


def _draw_cfg():
    n, d = _sizes()
    return _class_model(), _times(n), _points(n, d), torch.randint(0, 3, (n,)), 3, _number(1.5, 4.0)


def _cfg(
    model,
    t,
    x,
    label,
    null,
    s,
    *,
    mix=lambda c, none, s: none + s * (c - none),
    empty=lambda label, null: torch.full_like(label, null),
    scale=lambda s: s,
    when=lambda t: t,
):
    return mix(model(when(t), x, label), model(when(t), x, empty(label, null)), scale(s))


EXERCISES["cfg"] = Exercise(
    "my_cfg(model, t, x, label, null, s)",
    _draw_cfg,
    _cfg,
    {
        "that is Ho & Salimans' formula with w = s. Here s = 1 + w: s = 1 must give the conditional field.": (
            dict(mix=lambda c, none, s: c + s * (c - none))
        ),
        "s - 1 was used for s: s = 1 must give the conditional field, not the one without class.": (
            dict(scale=lambda s: s - 1)
        ),
        "class and no class are swapped.": dict(mix=lambda c, none, s: c + s * (none - c)),
        "that scales the conditional field. Guidance scales the *difference* to the unconditional one.": (
            dict(mix=lambda c, none, s: s * c)
        ),
        "the sign of the difference is flipped: that pushes away from the class.": [
            dict(mix=lambda c, none, s: none - s * (c - none)),
            dict(mix=lambda c, none, s: c - s * (c - none) - (c - none)),
        ],
        "that is the conditional field alone: s has no effect.": dict(mix=lambda c, none, s: c),
        "that is the unconditional field alone: s has no effect.": dict(mix=lambda c, none, s: none),
        "the unconditional field is missing at the front: v_none + s (v_c - v_none).": (
            dict(mix=lambda c, none, s: s * (c - none))
        ),
        "s multiplies the whole conditional field, and nothing is taken away: v_none + s (v_c - v_none).": (
            dict(mix=lambda c, none, s: none + s * c)
        ),
        "s multiplies the unconditional field: v_none + s (v_c - v_none).": [
            dict(mix=lambda c, none, s: c + s * none),
            dict(mix=lambda c, none, s: c - s * none),
        ],
        "that is the difference of the two alone.": dict(mix=lambda c, none, s: c - none),
        "the brackets are missing: s multiplies the difference v_c - v_none.": [
            dict(mix=lambda c, none, s: s * c - none),
        ],
        "the weights do not add up to 1: s v_c + (1 - s) v_none.": [
            dict(mix=lambda c, none, s: s * c + (s - 1) * none),
            dict(mix=lambda c, none, s: (1 + s) * c + (1 - s) * none),
            dict(mix=lambda c, none, s: s * c - (1 + s) * none),
            dict(mix=lambda c, none, s: (1 + s) * c + s * none),
        ],
        "that is the plain mean of the two: s has no effect.": dict(mix=lambda c, none, s: (c + none) / 2),
        "that lies between the two. Guidance with s > 1 goes beyond the conditional field.": [
            dict(mix=lambda c, none, s: (s * c + none) / (s + 1)),
            dict(mix=lambda c, none, s: none + (c - none) / s),
        ],
        "s is squared.": dict(scale=lambda s: s**2),
        "for no class, class 0 was used. That is a class like others; no class is the label `null`.": (
            dict(empty=lambda label, null: torch.zeros_like(label))
        ),
        "for no class, -1 was used. No class is the label `null`.": (
            dict(empty=lambda label, null: torch.full_like(label, -1))
        ),
        "for no class, class 1 was used. No class is the label `null`.": (
            dict(empty=lambda label, null: torch.ones_like(label))
        ),
        "for no class, the label null - 1 was used: that is the last class. No class is `null` itself.": (
            dict(empty=lambda label, null: torch.full_like(label, null - 1))
        ),
        "for no class, the label null + 1 was used. No class is `null` itself.": (
            dict(empty=lambda label, null: torch.full_like(label, null + 1))
        ),
        "the network got 1 - t. Time is reversed.": dict(when=lambda t: 1 - t),
        "the network got 1000 t. Here it takes t itself.": dict(when=lambda t: 1000 * t),
    },
)


def _cfg_std(S, q, s, *, scale=lambda s: s, width=lambda S, q, s: S ** (1 - s) * q**s, of=lambda width: width):
    return of(width(S, q, scale(s)))


EXERCISES["cfg_std"] = Exercise(
    "cfg_std(S, q, s)",
    lambda: (_number(0.8, 1.5), _number(0.3, 0.7), _number(1.5, 4.0)),
    _cfg_std,
    {
        "that is the tilted density's width. CFG does not sample it: integrate d/dt log std.": (
            dict(width=lambda S, q, s: (s / q**2 + (1 - s) / S**2) ** -0.5)
        ),
        "that is the tilted density's precision. CFG does not sample it, and a width is asked.": (
            dict(width=lambda S, q, s: s / q**2 + (1 - s) / S**2)
        ),
        "that is q (q / S)^s, with Ho & Salimans' w = s. Here s = 1 + w: s = 1 must give q.": dict(
            scale=lambda s: 1 + s
        ),
        "s - 1 was used for s: s = 1 must give the class's width q.": dict(scale=lambda s: s - 1),
        "the two are swapped: s = 1 must give the class's width q.": dict(width=lambda S, q, s: q ** (1 - s) * S**s),
        "the widths are mixed linearly. Their *logarithms* are mixed: d/dt log std.": (
            dict(width=lambda S, q, s: (1 - s) * S + s * q)
        ),
        "the variances are mixed linearly. The *logarithms* are mixed: d/dt log std.": (
            dict(width=lambda S, q, s: (1 - s) * S**2 + s * q**2)
        ),
        "the inverse widths are mixed linearly. The *logarithms* are mixed: d/dt log std.": (
            dict(width=lambda S, q, s: 1 / ((1 - s) / S + s / q))
        ),
        "the variance was returned: take the root.": dict(of=lambda width: width**2),
        "a root too many: S^(1 - s) q^s is the width already.": dict(of=lambda width: width**0.5),
        "that is the logarithm of the width: take its exponential.": dict(of=math.log),
        "that is the inverse of the width.": dict(of=lambda width: 1 / width),
        "S is missing: S^(1 - s) q^s.": [
            dict(width=lambda S, q, s: q**s),
            dict(width=lambda S, q, s: (q / S) ** s),
        ],
        "that is the width of the class's density to the power s. Guidance has S in it too.": [
            dict(width=lambda S, q, s: q / s**0.5),
            dict(width=lambda S, q, s: q / s),
        ],
        "the exponents do not add up to 1: S^(1 - s) q^s.": [
            dict(width=lambda S, q, s: S ** (s - 1) * q**s),
            dict(width=lambda S, q, s: S**s * q**s),
            dict(width=lambda S, q, s: S ** (1 + s) * q**s),
        ],
        "that is the class's width: s has no effect.": dict(width=lambda S, q, s: q),
        "that is the width of all data: s has no effect.": dict(width=lambda S, q, s: S),
        "the widths are multiplied: S and q need their exponents 1 - s and s.": dict(width=lambda S, q, s: S * q),
    },
    returns=("the width",),
)
