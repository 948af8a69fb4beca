"""The question bank and the claims ledger: two readable files in `texts/`, loaded with checks that name the line."""

from dataclasses import MISSING, dataclass, field
from functools import cache
from pathlib import Path

import yaml

TEXTS = Path(__file__).parent / "texts"
LEVELS = ("screen", "on-site", "research")
VERDICTS = {"right": "✓", "caveat": "◐", "wrong": "✗", "misattributed": "M"}
LESSONS = {
    0: "00_quick_reference",
    1: "01_continuity_equation",
    2: "02_cfm_theorem",
    3: "03_paths",
    4: "04_training",
    5: "05_ode_solvers",
    6: "06_conversions",
    7: "07_reflow",
    8: "08_guidance",
    10: "10_production",
}


class BankError(ValueError):
    """A text file that does not follow its schema; the message names file, line and field."""


@dataclass
class Question:
    """id, lesson (0-9), level (LEVELS), ask; answer: what to say in 30 seconds; derive: for the whiteboard, or "".

    wrong, why: the usual wrong answer, and why it is wrong. next: ids of the questions that follow up.
    proof: "NN#heading", the section of a lesson that runs it, or "tests/file.py::test"; or "source: ..." for facts that
    only papers can show. shows: words in that section's code or output, or in that test, that are about this question;
    none for a source. must: learn it first.
    """

    id: str
    lesson: int
    level: str
    ask: str
    answer: str
    wrong: str
    why: str
    proof: str
    next: list = field(default_factory=list)
    derive: str = ""
    must: bool = False
    shows: str = ""

    def problem(self) -> str | None:
        """What does not go together, or None."""
        if self.level not in LEVELS:
            return f"level must be one of {', '.join(LEVELS)}, got {self.level!r}"
        if self.lesson not in LESSONS:
            return f"lesson must be one of {', '.join(map(str, LESSONS))}, got {self.lesson}"
        if bool(self.shows) == self.proof.startswith("source: "):
            return "shows must name words of the proof, and be left out for a source"
        return None


@dataclass
class Claim:
    """One statement of the interview sheet. sections: where; says; verdict (VERDICTS); correct: what holds.

    source: paper and place, "" if the proof is enough; checked: False if the source was not read.
    proof: list of "NN#heading" or "tests/file.py::test".
    """

    id: str
    sections: str
    says: str
    verdict: str
    correct: str
    source: str = ""
    checked: bool = True
    proof: list = field(default_factory=list)

    def problem(self) -> str | None:
        """What does not go together, or None."""
        if self.verdict not in VERDICTS:
            return f"verdict must be one of {', '.join(VERDICTS)}, got {self.verdict!r}"
        return None


class _LineLoader(yaml.SafeLoader):
    """Keeps the line at which each entry begins."""


def _with_line(loader, node):
    return {**loader.construct_mapping(node, deep=True), "__line__": node.start_mark.line + 1}


_LineLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _with_line)


def load(path: Path, kind: type) -> list:
    """Read a list of Question or Claim from a YAML file. Raises BankError with the line of a mistake."""
    path = Path(path)
    try:
        entries = yaml.load(path.read_text(encoding="utf-8"), _LineLoader)  # a SafeLoader: it builds plain data only
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else "?"
        raise BankError(f"{path.name}, line {line}: not YAML ({getattr(error, 'problem', error)})") from error
    if not isinstance(entries, list):
        raise BankError(f"{path.name}, line 1: expected a list of entries, got {type(entries).__name__}")
    return [_entry(path.name, entry, kind) for entry in entries]


def _entry(file: str, entry, kind: type):
    if not isinstance(entry, dict):
        raise BankError(f"{file}: expected entries with fields, got {entry!r:.60}")
    line = entry.pop("__line__")
    where = f"{file}, line {line} ({entry.get('id', 'no id')})"
    fields = kind.__dataclass_fields__
    for name in entry:
        if name not in fields:
            raise BankError(f"{where}: unknown field {name!r}, expected some of {', '.join(fields)}")
    for name, spec in fields.items():
        optional = (spec.default, spec.default_factory) != (MISSING, MISSING)
        if name in entry:
            entry[name] = _value(where, name, entry[name], spec.type, optional)
        elif not optional:
            raise BankError(f"{where}: the field {name!r} is missing")
    item = kind(**entry)
    problem = item.problem()
    if problem:
        raise BankError(f"{where}: {problem}")
    return item


def _value(where: str, name: str, value, kind: type, optional: bool):
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise BankError(f"{where}: {name} must be of type {kind.__name__}, got {value!r:.60}")
    if not isinstance(value, str):
        return value
    value = value.strip()
    if not value and not optional:
        raise BankError(f"{where}: {name} is empty")
    return value


@cache
def questions() -> dict[str, Question]:
    """The question bank, by id."""
    bank = {q.id: q for q in _unique(load(TEXTS / "questions.yaml", Question))}
    for q in bank.values():
        for follow_up in q.next:
            if follow_up not in bank:
                raise BankError(f"questions.yaml ({q.id}): next names an unknown question, {follow_up!r}")
    return bank


@cache
def claims() -> dict[str, Claim]:
    """The claims ledger, by id."""
    return {c.id: c for c in _unique(load(TEXTS / "claims.yaml", Claim))}


def _unique(items: list) -> list:
    seen = set()
    for item in items:
        if item.id in seen:
            raise BankError(f"the id {item.id!r} is used twice")
        seen.add(item.id)
    return items
