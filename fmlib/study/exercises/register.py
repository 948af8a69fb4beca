"""What an exercise is, and the one table of all of them."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

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
        """The names of the function's arguments, in their order."""
        return re.findall(r"\w+", self.signature.partition("(")[2])

    def each_mistake(self) -> Iterator[tuple[str, Mistake]]:
        """(message, one way to make that mistake), for every way."""
        for message, ways in self.mistakes.items():
            for how in ways if isinstance(ways, list) else [ways]:
                yield message, how


EXERCISES: dict[str, Exercise] = {}


def register(name: str, *parts, **options) -> None:
    """Enter an exercise under the name that `check` is called with; parts and options are those of `Exercise`.

    Raises ValueError if the name is taken: the second of two would silently replace the first.
    """
    if name in EXERCISES:
        raise ValueError(f"name must be new, got {name!r}, which is {EXERCISES[name].signature} already")
    EXERCISES[name] = Exercise(*parts, **options)
