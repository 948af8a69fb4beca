"""The question bank and the claims ledger: two readable files in `texts/`, loaded with checks that name the line."""

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import yaml
from IPython.display import Markdown, display

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
        optional = name in ("next", "derive", "must", "shows", "source", "checked", "proof") and not (
            kind is Question and name == "proof"
        )
        if name not in entry:
            if optional:
                continue
            raise BankError(f"{where}: the field {name!r} is missing")
        value = entry[name]
        if not isinstance(value, spec.type) or (spec.type is int and isinstance(value, bool)):
            raise BankError(f"{where}: {name} must be of type {spec.type.__name__}, got {value!r:.60}")
        if isinstance(value, str):
            entry[name] = value = value.strip()
            if not value and not optional:
                raise BankError(f"{where}: {name} is empty")
    item = kind(**entry)
    if kind is Question:
        if item.level not in LEVELS:
            raise BankError(f"{where}: level must be one of {', '.join(LEVELS)}, got {item.level!r}")
        if item.lesson not in LESSONS:
            raise BankError(f"{where}: lesson must be 0 to 9, got {item.lesson}")
        if bool(item.shows) == item.proof.startswith("source: "):
            raise BankError(f"{where}: shows must name words of the proof, and be left out for a source")
    elif item.verdict not in VERDICTS:
        raise BankError(f"{where}: verdict must be one of {', '.join(VERDICTS)}, got {item.verdict!r}")
    return item


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


def link(proof: str) -> str:
    """The markdown behind a proof: a link to a section of a lesson or to a test, or the source itself."""
    if proof.startswith("source: "):
        return proof.removeprefix("source: ")
    if proof.startswith("tests/"):
        file, _, name = proof.partition("::")
        return f"`{name}` in [{file}](../{file})"
    number, _, heading = proof.partition("#")
    anchor = heading.replace(" ", "-").replace('"', "%22")
    return f"[lesson {number}, {heading}]({LESSONS[int(number)]}.ipynb#{anchor})"


def answer_text(question: Question) -> str:
    """What is on the back of a question's card, as markdown."""
    parts = [f"**In 30 seconds.** {question.answer}"]
    if question.derive:
        parts.append(f"**On the whiteboard.** {question.derive}")
    parts.append(f"**The usual wrong answer.** {question.wrong} *Why it is wrong:* {question.why}")
    parts.append(f"**{'Source' if question.proof.startswith('source: ') else 'Proof'}.** {link(question.proof)}")
    return "\n\n".join(parts)


def card(question: Question) -> str:
    """A question as folded markdown: it opens on a click, and needs no kernel."""
    front = f"<b>{_inline(question.ask)}</b> <i>({question.level})</i>"
    back = answer_text(question)
    if question.next:
        back += "\n\n**Next they ask.** " + " ".join(f"*{questions()[i].ask}*" for i in question.next)
    return f"<details><summary>{front}</summary>\n\n{back}\n\n</details>"


def _inline(text: str) -> str:
    """Markdown's code spans as HTML, for the summary line, where markdown is not read."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", text)


def interview_cards(*ids: str) -> None:
    """Show these questions of the bank, folded."""
    bank = questions()
    for i in ids:
        if i not in bank:
            raise ValueError(f"ids must be ids of the question bank, got {i!r}")
    display(Markdown("\n\n".join(card(bank[i]) for i in ids)))


def cheat_sheet() -> None:
    """Show the sheet: every formula on one page, each line with a link to the section that proves it."""
    display(Markdown((TEXTS / "cheat_sheet.md").read_text(encoding="utf-8")))


def claims_table() -> None:
    """Show the whole ledger, one claim after the other."""
    parts = []
    for c in claims().values():
        source = f" *Source:* {c.source}." if c.source else ""
        unread = "" if c.checked else " *The source was not read for this: check it before you rely on it.*"
        proof = " *Shown in:* " + "; ".join(link(p) for p in c.proof) + "." if c.proof else ""
        parts.append(
            f"**{c.id}** {VERDICTS[c.verdict]} ({c.sections}) The sheet says: {c.says}\n\n"
            f"> {c.correct}{source}{unread}{proof}"
        )
    display(Markdown("\n\n".join(parts)))
