"""What a reader answered in the mock interview, kept on disk, and what of it is due.

When a question comes back is decided by FSRS, an open model of forgetting, in the `fsrs` package.
"""

import json
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout
from fsrs import Card, Rating, Scheduler

from fmlib.files import set_aside, write_atomically
from fmlib.study.bank import LESSONS, LEVELS, Question, questions

FORMAT = "fmlib.study.interview 1"
RATINGS = {"Missed": Rating.Again, "Hard": Rating.Hard, "Good": Rating.Good, "Easy": Rating.Easy}
SCHEDULER = Scheduler(enable_fuzzing=False)  # no random days: the same ratings give the same dates


class ResultsError(ValueError):
    """A results file that cannot be used; the message says why."""


def no_results() -> dict:
    """The state of a file that was never written."""
    return {"format": FORMAT, "cards": {}, "log": []}


class Results:
    """What a reader answered, in a JSON file: for each question its FSRS card, and the log of all answers.

    Reading changes nothing. Every change reads the file anew under a lock and replaces it in one step, so two notebooks
    can share it. A file that cannot be used is renamed, never overwritten, and a new one begun.
    """

    def __init__(self, path: str | Path = "interview_results.json"):
        self.path = Path(path).resolve()  # a later change of folder must not begin a second file
        self._lock = FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=10)

    def read(self) -> dict:
        """{"format", "cards": {id: card}, "log": [{"id", "at", "answer", "rating"}]}. Raises ResultsError."""
        try:
            state = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return no_results()
        except (ValueError, RecursionError) as error:
            raise ResultsError(f"it is not JSON ({error})") from error
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise ResultsError(f"it is not marked as {FORMAT!r}")
        try:
            for card in state["cards"].values():
                Card.from_dict(card)
            for entry in state["log"]:
                if not isinstance(entry["id"], str) or entry["rating"] not in (None, *RATINGS):
                    raise ValueError(f"an answer with {entry!r:.80}")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ResultsError(f"an entry is damaged ({error!r:.100})") from error
        return state

    def card(self, name: str) -> Card | None:
        """The FSRS card of a question, or None if it was never rated. Raises ResultsError."""
        card = self.read()["cards"].get(name)
        return card and Card.from_dict(card)

    def note_answer(self, name: str, answer: str, now: datetime | None = None) -> str | None:
        """Keep the text of an answer, before it is rated. Returns a warning if the old file had to be set aside."""

        def add(state):
            state["log"].append({"id": name, "at": _now(now).isoformat(), "answer": answer, "rating": None})

        return self._change(add)

    def note_prediction(self, question: str, said: float, answer: float, now: datetime | None = None) -> str | None:
        """Keep what was predicted, and what was right. Returns a warning if the old file had to be set aside."""

        def add(state):
            entry = {"question": question, "at": _now(now).isoformat(), "said": said, "answer": answer}
            state.setdefault("predictions", []).append(entry)

        return self._change(add)

    def prediction(self, question: str) -> float | None:
        """What was said last to this question, or None; also where the file cannot be read."""
        try:
            entries = self.read().get("predictions", [])
            return next((e["said"] for e in reversed(entries) if e["question"] == question), None)
        except (ResultsError, OSError, KeyError, TypeError, AttributeError):
            return None

    def rate(self, name: str, rating: str, now: datetime | None = None) -> str | None:
        """Rate the last answer to a question, and let FSRS choose when it comes back. Returns a warning, or None."""
        if name not in questions():
            raise ValueError(f"name must be an id of the question bank, got {name!r}")
        if rating not in RATINGS:
            raise ValueError(f"rating must be one of {', '.join(RATINGS)}, got {rating!r}")

        def add(state):
            old = state["cards"].get(name)
            card, _ = SCHEDULER.review_card(Card.from_dict(old) if old else Card(), RATINGS[rating], _now(now))
            state["cards"][name] = card.to_dict()
            open_answers = (e for e in reversed(state["log"]) if e["id"] == name and e["rating"] is None)
            entry = next(open_answers, None)
            if entry is None:
                state["log"].append(entry := {"id": name, "at": _now(now).isoformat(), "answer": ""})
            entry["rating"] = rating

        return self._change(add)

    def _change(self, change) -> str | None:
        """Raises OSError if the file cannot be written or another notebook holds it for more than ten seconds."""
        warning = None
        try:
            with self._lock:
                try:
                    state = self.read()
                except ResultsError as error:
                    aside = set_aside(self.path)
                    warning = f"{self.path.name} could not be used: {error}. It is kept as {aside.name}."
                    state = self.read()
                change(state)
                write_atomically(json.dumps(state, indent=1, ensure_ascii=False).encode(), self.path)
        except Timeout as error:
            raise OSError(f"{self.path.name} is held by another program") from error
        return warning


def _now(now: datetime | None) -> datetime:
    return now or datetime.now(UTC)


def choose(
    state: dict, topic: int | None = None, level: str | None = None, last: str = "", now: datetime | None = None
) -> Question:
    """The question to ask now: what is due, longest first; then new ones, what to learn first; then the next due.

    state: of `Results.read`. topic: a lesson's number; None for all. last: the id that was asked before; it is not
    asked again while there is another.
    """
    if topic is not None and topic not in LESSONS:
        raise ValueError(f"topic must be a lesson, one of {', '.join(map(str, LESSONS))}, or None, got {topic!r}")
    if level is not None and level not in LEVELS:
        raise ValueError(f"level must be one of {', '.join(LEVELS)}, or None, got {level!r}")
    bank = questions().values()
    chosen = [q for q in bank if topic in (None, q.lesson) and level in (None, q.level)]
    if not chosen:
        raise ValueError(f"no question in the bank has topic {topic} and level {level!r}")
    due = {q.id: Card.from_dict(state["cards"][q.id]).due for q in chosen if q.id in state["cards"]}
    now = _now(now)

    def order(q: Question):
        if q.id not in due:
            return q.id == last, 1, not q.must, 0.0
        waits = (due[q.id] - now).total_seconds()
        return q.id == last, 0 if waits <= 0 else 2, False, waits

    return min(chosen, key=order)


def progress_table(state: dict, now: datetime | None = None) -> str:
    """Each lesson's questions: how many were answered, how many are due, and the last ratings, as markdown."""
    now = _now(now)
    last = {entry["id"]: entry["rating"] for entry in state["log"] if entry["rating"]}
    rows = ["| lesson | questions | answered | due now | " + " | ".join(RATINGS) + " |", "|---" * 8 + "|"]
    for number in LESSONS:
        ids = [q.id for q in questions().values() if q.lesson == number]
        cards = [Card.from_dict(state["cards"][i]) for i in ids if i in state["cards"]]
        ratings = [sum(last.get(i) == rating for i in ids) for rating in RATINGS]
        cells = [topic_name(number), len(ids), len(cards), sum(c.due <= now for c in cards), *ratings]
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(rows)


def topic_name(number: int) -> str:
    """A lesson as "05 · ODE solvers"."""
    name = LESSONS[number][3:].replace("_", " ").replace("cfm", "CFM").replace("ode", "ODE")
    return f"{LESSONS[number][:2]} · {name}"


def when(due: datetime, now: datetime | None = None) -> str:
    """A date in the future as "in 10 minutes", "in 3 days"."""
    seconds = max((due - _now(now)).total_seconds(), 0)
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= 0.95 * size:
            count = round(seconds / size)
            return f"in {count} {unit}{'s' if count > 1 else ''}"
    return "in less than a minute"
