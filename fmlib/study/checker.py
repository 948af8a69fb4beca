"""The exercises' checkers: they run your function beside the right one, and beside the mistakes that people make.

An exercise asks for one small function. `check(name, function)` calls it with fresh random arguments, so that an
answer that was only fitted to the example is found out. If the values are wrong, they are compared with those of
each known mistake, and of each two of them together; where one fits, the verdict names it. Most mistakes are the
right answer with one keyword changed. For the rest, the verdict tells what differs, where, and by what.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import torch

from fmlib.study.answers import Trial, as_number, close, copies, half_precision, nearest_factor, read
from fmlib.study.exercises import EXERCISES, Exercise
from fmlib.study.exercises.register import Mistake
from fmlib.study.telling import describe, hint, told, wrong_shape

DRAWS = 4
_started: dict[str, float] = {}  # exercise -> when its clock was started, in seconds of time.monotonic


@dataclass
class Verdict:
    """state: "empty", "right", "mistake" (recognised), "wrong" (not recognised) or "error"."""

    state: str
    message: str

    def __str__(self) -> str:
        return self.message


def examine(name: str, attempt: Callable) -> Verdict:
    """Judge an attempt at the exercise `name`; see `EXERCISES` for the names."""
    exercise = _named(name)
    if not callable(attempt):
        raise TypeError(f"attempt must be a function, got {type(attempt).__name__}")
    trials = []
    for _ in range(DRAWS):
        trial = _try(exercise, attempt)
        if isinstance(trial, Verdict):
            return trial
        trials.append(trial)
    return _judge(exercise, attempt, trials)


def check(name: str, attempt: Callable) -> None:
    """Print the verdict on an attempt, and the time since `start(name)` if the clock runs."""
    verdict = examine(name, attempt)
    spent = ""
    if verdict.state == "right" and name in _started:
        seconds = time.monotonic() - _started.pop(name)
        spent = f" Time: {int(seconds // 60)} min {seconds % 60:.0f} s."
    print(f"{verdict}{spent}")


def start(name: str) -> None:
    """Start the clock for an exercise; `check` stops it when the answer is right."""
    exercise = _named(name)
    _started[name] = time.monotonic()
    print(f"The clock runs. Write {exercise.signature}, then run  check({name!r}, your_function).")


def _named(name: str) -> Exercise:
    if name not in EXERCISES:
        raise ValueError(f"name must be one of {', '.join(EXERCISES)}, got {name!r}")
    return EXERCISES[name]


def _try(exercise: Exercise, attempt: Callable) -> Trial | Verdict:
    """Call the attempt twice with the same fresh arguments; a verdict at once if it returned nothing to compare."""
    arguments = exercise.draw()
    given = dict(zip(exercise.arguments, arguments, strict=True))
    count = len(exercise.returns)
    right = read(exercise.right(*copies(arguments)), count)
    try:
        values = [attempt(*copies(arguments)) for _ in range(2)]
    except Exception as error:  # whatever the learner's code raises is part of the verdict
        return Verdict("error", f"Your function raised {type(error).__name__}: {error}{hint(error, given)}")
    if values[0] is None or values[0] is ...:
        return Verdict("empty", "Not attempted yet.")
    try:
        yours, again = (read(value, count) for value in values)
    except (TypeError, ValueError, RuntimeError) as error:
        return Verdict("error", f"{exercise.signature} should return {describe(right)}. Yours returned {error}.")
    return Trial(
        given,
        [as_number(v, w) for v, w in zip(yours, right, strict=True)],
        right,
        steady=all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(yours, again, strict=True)),
        half=half_precision(values[0]),
    )


def _judge(exercise: Exercise, attempt: Callable, trials: list[Trial]) -> Verdict:
    if not all(trial.steady for trial in trials):
        if exercise.also_right(attempt, False):
            return Verdict("right", "Correct. (It draws noise of its own, so the distributions were compared.)")
        return Verdict(
            "wrong",
            "Not yet: two calls with the same arguments gave different answers. "
            "Does it draw random numbers of its own, or remember the call before? The arguments are all that it needs.",
        )
    if fits(exercise, {}, trials):
        return Verdict("right", "Correct.")
    message = _recognised(exercise, trials)
    if message:
        return Verdict("mistake", f"Not yet: {message}")
    if exercise.also_right(attempt, True):
        return Verdict("right", "Correct.")
    for trial in trials:
        problem = wrong_shape(trial)
        if problem:
            return Verdict("error", f"{exercise.signature} should return {describe(trial.right)}. {problem}")
    return Verdict("wrong", f"Not yet, and not a mistake that I know. {told(trials, exercise.returns)}")


def _recognised(exercise: Exercise, trials: list[Trial]) -> str | None:
    """The message of the mistake that explains every trial, or of two together."""
    for message, how in exercise.each_mistake():
        if fits(exercise, how, trials):
            return message
    if not any(v.any() for trial in trials for v in trial.yours):
        return None  # nothing at all is explained by any two mistakes that take half away
    changes = [(message, how) for message, how in exercise.each_mistake() if isinstance(how, dict)]
    for (one, how), (other, too) in combinations(changes, 2):
        if one != other and not how.keys() & too.keys() and fits(exercise, how | too, trials):
            return f"two things at once. First, {one} Second, {other}"
    return None


def fits(exercise: Exercise, how: Mistake, trials: list[Trial]) -> bool:
    """Whether the right answer with these changes, or this other answer, returns what the learner returned."""
    signs = (1, -1) if exercise.either_sign else (1,)
    return any(all(_explains(exercise, how, t, sign) for t in trials) for sign in signs)


def _explains(exercise: Exercise, how: Mistake, trial: Trial, sign: int) -> bool:
    given = dict(zip(trial.given, copies(tuple(trial.given.values())), strict=True))
    if exercise.either_sign:
        given[exercise.either_sign] *= sign
    try:
        changed = exercise.right(*given.values(), **how) if isinstance(how, dict) else how(*given.values())
        answer = read(changed, len(exercise.returns))
    except (TypeError, ValueError, RuntimeError, IndexError):  # two changes that exclude each other
        return False
    for yours, w in zip(trial.yours, answer, strict=True):
        c = nearest_factor(yours, w) if exercise.any_factor and yours.shape == w.shape else 1.0
        if not close(yours, (c if abs(c) > 1e-9 else 1.0) * w):
            return False
    return True
