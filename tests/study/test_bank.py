"""The question bank, the claims ledger and the cheat sheet: size, proofs that show what they say, clear errors."""

import ast
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import nbformat
import pytest
import torch

from fmlib.study.bank import LESSONS, LEVELS, TEXTS, BankError, Claim, Question, claims, load, questions
from fmlib.study.cards import card, interview_cards
from fmlib.study.checker import examine

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {n: ROOT / "notebooks" / "src" / f"{name}.py" for n, name in LESSONS.items()}
BANK = questions()


def sections(lesson: int) -> dict[str, str]:
    """Heading -> text of a lesson's sections."""
    parts = re.split(r"^# ## (.+)$", SOURCES[lesson].read_text("utf-8"), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_bank_covers_what_it_should():
    assert len(BANK) >= 80
    assert all(sum(q.lesson == n for q in BANK.values()) >= 6 for n in LESSONS)
    assert all(sum(q.level == level for q in BANK.values()) >= 10 for level in LEVELS)
    assert all(len(q.answer.split()) <= 100 for q in BANK.values()), "30 seconds are about 90 words"
    musts = " ".join(i for i, q in BANK.items() if q.must)
    for topic in (
        "unique",
        "conversion",
        "rf-stable",
        "reflow-theorem",
        "cfg-formula",
        "logit-normal",
        "orders",
        "convention",
    ):
        assert topic in musts, topic


@cache
def shown(lesson: int) -> dict[str, str]:
    """Heading -> what the code of a lesson's section says: its sources and the text that they printed, no prose."""
    found, heading = {}, ""
    for cell in nbformat.read(ROOT / "notebooks" / f"{LESSONS[lesson]}.ipynb", as_version=4).cells:
        if cell.cell_type == "markdown":
            heading = [heading, *re.findall(r"^## (.+)$", cell.source, flags=re.M)][-1]
            continue
        outputs = [o.get("text", "") or o.get("data", {}).get("text/markdown", "") for o in cell.outputs]
        found[heading] = "\n".join([found.get(heading, ""), cell.source, *outputs])
    return found


def source_of(proof: str) -> str:
    """The text of the test that a proof names, "" if there is none."""
    file, _, name = proof.partition("::")
    text = (ROOT / file).read_text("utf-8") if (ROOT / file).exists() else ""
    found = [n for n in ast.parse(text).body if isinstance(n, ast.FunctionDef) and n.name == name]
    return ast.get_source_segment(text, found[0]) if found else ""


def unproven(q: Question) -> str | None:
    """Why the place that a card names does not show it, or None."""
    if q.proof.startswith("source: "):
        return None if re.search(r"\d{4}|model card|documentation|code", q.proof) else "the source names no paper"
    if q.proof.startswith("tests/"):
        place = source_of(q.proof)
    else:
        lesson, _, heading = q.proof.partition("#")
        place = shown(int(lesson)).get(heading, "")
    if not place:
        return f"{q.proof} does not exist, or runs nothing"
    return None if q.shows in place else f"{q.shows!r} is not in {q.proof}"


@pytest.mark.parametrize("name", BANK)
def test_the_proof_of_a_card_shows_it(name):
    assert unproven(BANK[name]) is None
    assert "<details>" in card(BANK[name]) and BANK[name].ask.split()[0] in card(BANK[name])


def test_a_proof_that_shows_something_else_is_found():
    good = next(q for q in BANK.values() if "#" in q.proof)
    for change, message in (
        ({"shows": "no such words"}, "is not in"),
        ({"proof": f"{good.lesson:02}#No such section"}, "does not exist"),
        ({"proof": "tests/study/test_bank.py::test_that_is_not_there"}, "does not exist"),
        ({"proof": "source: everybody knows", "shows": ""}, "names no paper"),
    ):
        assert message in unproven(replace(good, **change))


@pytest.mark.parametrize(
    "change, message",
    [
        (
            ("level: screen", "level: easy"),
            r"line 2 \(one\): level must be one of screen, on-site, research, got 'easy'",
        ),
        (("ask: A question?", "ask: 3"), r"line 2 \(one\): ask must be of type str, got 3"),
        (("lesson: 1", "lesson: 77"), r"line 2 \(one\): lesson must be one of 0, 1, .*, 8, 10, got 77"),
        (("  why: Because.\n", ""), r"line 2 \(one\): the field 'why' is missing"),
        (("why:", "wy:"), r"line 2 \(one\): unknown field 'wy'"),
        (("  shows: box\n", ""), r"line 2 \(one\): shows must name words of the proof"),
        (
            ("proof: 01#From the box to a point", '"proof": "source: a paper"'),
            r"line 2 \(one\): shows must .* be left out",
        ),
        (("ask: A question?", "ask: a: b"), "line 5: not YAML"),
        (("ask: A question?", 'ask: ""'), r"line 2 \(one\): ask is empty"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_line(tmp_path, change, message):
    entry = (
        "# a comment\n- id: one\n  lesson: 1\n  level: screen\n  ask: A question?\n  answer: An answer.\n"
        "  wrong: Nothing.\n  why: Because.\n  proof: 01#From the box to a point\n  shows: box\n"
    )
    file = tmp_path / "bank.yaml"
    file.write_text(entry, encoding="utf-8")
    assert load(file, Question)[0].id == "one"
    assert change[0] in entry
    file.write_text(entry.replace(*change), encoding="utf-8")
    with pytest.raises(BankError, match=message):
        load(file, Question)


def test_no_object_is_built_from_the_file(tmp_path):
    file = tmp_path / "bank.yaml"
    file.write_text("- !!python/object/apply:os.getcwd []\n", encoding="utf-8")
    with pytest.raises(BankError, match="line 1"):
        load(file, Question)


def test_unknown_card():
    with pytest.raises(ValueError, match="ids must be ids of the question bank, got 'no-such'"):
        interview_cards("no-such")


# --- the claims ledger and the cheat sheet


def unfounded(claim: Claim) -> bool:
    return not claim.proof and not claim.source


def test_every_claim_is_there_and_has_a_proof_or_a_source():
    assert list(claims()) == [f"C{i:02}" for i in range(1, 52)]
    assert [c.id for c in claims().values() if unfounded(c)] == []
    assert sum(bool(c.proof) for c in claims().values()) >= 45
    assert unfounded(Claim("C99", "§0", "says", "wrong", "correct"))  # the wrong twin


@pytest.mark.parametrize("name", claims())
def test_the_proofs_of_a_claim_exist(name):
    for proof in claims()[name].proof:
        if proof.startswith("tests/"):
            file, _, test = proof.partition("::")
            assert re.search(rf"^def {test}\(", (ROOT / file).read_text("utf-8"), flags=re.M), proof
        else:
            lesson, _, heading = proof.partition("#")
            assert heading in sections(int(lesson)), proof


def test_a_mistake_in_the_ledger_is_named_with_its_line(tmp_path):
    entry = "- id: C01\n  sections: §0\n  says: This.\n  verdict: wrong\n  correct: That.\n"
    file = tmp_path / "claims.yaml"
    file.write_text(entry, encoding="utf-8")
    assert load(file, Claim)[0].verdict == "wrong"
    file.write_text(entry.replace("wrong", "false"), encoding="utf-8")
    with pytest.raises(BankError, match=r"line 1 \(C01\): verdict must be of type str, got False"):
        load(file, Claim)
    file.write_text(entry.replace("wrong", "untrue"), encoding="utf-8")
    with pytest.raises(BankError, match="verdict must be one of right, caveat, wrong, misattributed, got 'untrue'"):
        load(file, Claim)
    file.write_text(entry + "  proof: 01#x\n", encoding="utf-8")
    with pytest.raises(BankError, match="proof must be of type list"):
        load(file, Claim)


ON_THE_SHEET = {
    "cfm_loss": "my_loss", "euler_sampler": "my_sampler", "heun": "heun_step", "eps_to_v": "eps_to_v",
    "reflow": "my_reflow", "cfg": "my_cfg", "sde_step": "sde_step",
}  # fmt: skip


def test_the_code_on_the_cheat_sheet_is_right():
    sheet = (TEXTS / "cheat_sheet.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", sheet, flags=re.S)
    assert set(re.findall(r"^def (\w+)", code, flags=re.M)) == set(ON_THE_SHEET.values())
    for spoil, verdict in ((None, "right"), ("x1 - x0", "mistake")):
        scope = {"torch": torch}
        exec(code.replace(spoil, "x0 - x1") if spoil else code, scope)
        assert examine("cfm_loss", scope["my_loss"]).state == verdict
    for exercise, name in ON_THE_SHEET.items():
        exec(code, scope)
        assert examine(exercise, scope[name]).state == "right", exercise
