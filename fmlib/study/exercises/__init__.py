"""The exercises, one file for each lesson that has some.

A new exercise is one call of `register` in its lesson's file: how the function is called, how its arguments are drawn,
the right answer, and the mistakes. Most mistakes are the right answer with one keyword changed, so the formula stands
above them once, with a keyword for each place where people go wrong.
"""

# In the order of the lessons: it is the order in which a wrong name lists the right ones.
from fmlib.study.exercises import continuity, cfm, paths, training, solvers, conversions, reflow, guidance  # isort: skip
from fmlib.study.exercises.register import EXERCISES, Exercise

__all__ = [
    "EXERCISES",
    "Exercise",
    "cfm",
    "continuity",
    "conversions",
    "guidance",
    "paths",
    "reflow",
    "solvers",
    "training",
]
