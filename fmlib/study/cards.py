"""What is shown of the bank and of the ledger, as markdown: folded cards, the table of claims, the cheat sheet."""

import re

from IPython.display import Markdown, display

from fmlib.study.bank import LESSONS, TEXTS, VERDICTS, Question, claims, questions


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
