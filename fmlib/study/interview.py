"""The mock interview: it asks, waits for your answer, shows the card, and brings back sooner what you missed.

When a question comes back is decided by FSRS, an open model of forgetting, in the `fsrs` package.
"""

import html
import json
from datetime import UTC, datetime
from pathlib import Path

import ipywidgets as widgets
from filelock import FileLock, Timeout
from fsrs import Card, Rating, Scheduler
from IPython.display import Markdown

from fmlib.files import set_aside, write_atomically
from fmlib.page.alive import AnswerBox, Notice, WithStill, family
from fmlib.study.bank import LESSONS, LEVELS, Question, answer_text, questions

FORMAT = "fmlib.study.interview 1"
RATINGS = {"Missed": Rating.Again, "Hard": Rating.Hard, "Good": Rating.Good, "Easy": Rating.Easy}
ALL = "all"  # an ipywidgets menu whose value is None looks empty
SLEEPING = (
    "The interview asks here when the notebook runs: run this cell. Without a kernel, use the folded cards below."
)
SCHEDULER = Scheduler(enable_fuzzing=False)  # no random days: the same ratings give the same dates


class ResultsError(ValueError):
    """A results file that cannot be used; the message says why."""


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
            return {"format": FORMAT, "cards": {}, "log": []}
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


def choose(state: dict, topic: int | None = None, level: str | None = None, last: str = "", now=None) -> Question:
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
    return (
        LESSONS[number][:2] + " · " + LESSONS[number][3:].replace("_", " ").replace("cfm", "CFM").replace("ode", "ODE")
    )


def when(due: datetime, now: datetime | None = None) -> str:
    """A date in the future as "in 10 minutes", "in 3 days"."""
    seconds = max((due - _now(now)).total_seconds(), 0)
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= 0.95 * size:
            count = round(seconds / size)
            return f"in {count} {unit}{'s' if count > 1 else ''}"
    return "in less than a minute"


class MockInterview(WithStill, widgets.VBox):
    """Ask by topic and level; reveal only after an answer; keep the results in `path`, a JSON file.

    Showing it reads that file and changes nothing; your first answer writes it.
    """

    def __init__(self, path: str | Path = "interview_results.json"):
        self.results = Results(path)
        self.question: Question | None = None
        with family(type(self).__name__, SLEEPING) as model_id:
            self._build(model_id)
        self.ask()

    def _build(self, model_id: str) -> None:
        topics = [("all topics", ALL), *((topic_name(n), n) for n in sorted({q.lesson for q in questions().values()}))]
        self.topic = widgets.Dropdown(options=topics, description="topic", layout={"width": "270px"})
        self.level = widgets.Dropdown(
            options=[("all levels", ALL), *((level, level) for level in LEVELS)],
            description="level",
            layout={"width": "230px"},
        )
        self.status = widgets.Label()
        self.front = widgets.Output()
        self.text = AnswerBox(
            self.reveal,
            placeholder="A few words. Or say it aloud, then write 'said'. Ctrl+Enter shows the answer.",
            layout={"width": "98%"},
        )
        self.reveal_button = widgets.Button(description="Show the answer", button_style="primary")
        self.skip_button = widgets.Button(description="Another question")
        self.back = widgets.Output()
        self.rate_label = widgets.Label("How was yours?")
        self.rate_buttons = {name: widgets.Button(description=name, layout={"width": "90px"}) for name in RATINGS}
        self.message = widgets.HTML()
        # Built once, shown as many as there are: widgets that come and go would pile up in the notebook.
        self._follow = [
            widgets.Button(layout={"width": "98%"}) for _ in range(max(len(q.next) for q in questions().values()))
        ]
        self._another = widgets.Button(description="Another question", button_style="primary")
        self.follow_ups = widgets.VBox()
        self.rating_row = widgets.HBox([self.rate_label, *self.rate_buttons.values()])

        self.topic.observe(lambda _: self.ask(), "value")
        self.level.observe(lambda _: self.ask(), "value")
        self.reveal_button.on_click(lambda _: self.reveal())
        self.skip_button.on_click(lambda _: self.ask())
        self._another.on_click(lambda _: self.ask())
        for name, button in self.rate_buttons.items():
            button.on_click(lambda _, name=name: self.rate(name))
        for i, button in enumerate(self._follow):
            button.on_click(lambda _, i=i: self.ask(self.question.next[i]))
        super().__init__(
            [
                widgets.HBox([self.topic, self.level, self.status]),
                self.front,
                self.text,
                widgets.HBox([self.reveal_button, self.skip_button]),
                self.back,
                self.rating_row,
                self.message,
                self.follow_ups,
                Notice(),
            ],
            layout={"padding": "4px 0 12px 0"},
            model_id=model_id,
        )

    def ask(self, name: str | None = None) -> None:
        """Put a question: the one named, or the one that is due."""
        state, warning = self._state()
        last = self.question.id if self.question else ""
        try:
            self.question = questions()[name] if name else choose(state, *self._wishes(), last)
        except ValueError:
            self._say(warning, "The bank has no question of this level on this topic. Choose another.")
            return
        q = self.question
        must = ", learn it first" if q.must else ""
        self.front.outputs = _markdown(f"### {q.ask}\n\n*{topic_name(q.lesson)} · {q.level}{must}*")
        self.text.value, self.text.disabled, self.reveal_button.disabled = "", False, False
        self.back.outputs = ()
        self.rating_row.layout.display = "none"
        self.follow_ups.children = ()
        note = ""
        if q.id in state["cards"] and not name:
            due = Card.from_dict(state["cards"][q.id]).due
            if due > _now(None):
                note = f"Nothing is due here, and nothing is new. This one would come back {when(due)}."
            else:
                note = "You have answered this one before; it is due again."
        self._say(warning, note)
        self._count(state)

    def _wishes(self) -> list:
        """The chosen topic and level, None for all."""
        return [None if box.value == ALL else box.value for box in (self.topic, self.level)]

    def reveal(self) -> None:
        """Show the card's back, once something was answered; the answer is kept."""
        if not self.text.value.strip():
            self._say(None, "Answer first: write a few words, or say it aloud and write 'said'. Then look.")
            return
        warnings = self._store(self.results.note_answer, self.question.id, self.text.value.strip())
        if warnings is None:
            return
        self._say(*warnings)
        self.text.disabled = self.reveal_button.disabled = True
        self.back.outputs = _markdown(answer_text(self.question))
        self.rating_row.layout.display = ""
        for button in self.rate_buttons.values():
            button.disabled = False

    def rate(self, rating: str) -> None:
        """Keep the rating, say when the question comes back, and offer what an interviewer would ask next."""
        warnings = self._store(self.results.rate, self.question.id, rating)
        if warnings is None:
            return
        for button in self.rate_buttons.values():
            button.disabled = True
        state, _ = self._state()
        due = Card.from_dict(state["cards"][self.question.id]).due
        self._say(*warnings, f"{rating}. This question comes back {when(due)}.")
        for name, button in zip(self.question.next, self._follow, strict=False):
            button.description = f"They follow up: {_plain(questions()[name].ask)}"
        self.follow_ups.children = [*self._follow[: len(self.question.next)], self._another]
        self._count(state)

    def progress(self) -> Markdown:
        """The table of your results by lesson."""
        state, warning = self._state()
        answered = len(state["cards"])
        head = f"{answered} questions answered so far." if answered else "Nothing answered yet."
        return Markdown(f"{warning or ''}\n\n{head}\n\n{progress_table(state)}")

    def _state(self) -> tuple[dict, str | None]:
        try:
            return self.results.read(), None
        except ResultsError as error:
            name = self.results.path.name
            empty = {"format": FORMAT, "cards": {}, "log": []}
            return empty, f"{name} cannot be used: {error}. Your next answer begins a new file and keeps this one."
        except OSError as error:
            return {"format": FORMAT, "cards": {}, "log": []}, f"The results cannot be read: {error}."

    def _store(self, change, *arguments) -> list[str | None] | None:
        """What to tell the reader after a change, or None if it could not be kept."""
        try:
            return [change(*arguments)]
        except OSError as error:
            self._say(f"Your answer could not be kept: {error}. It is still in the box; try again.")
            return None

    def _say(self, *texts: str | None) -> None:
        self.message.value = "<br>".join(html.escape(text) for text in texts if text)

    def _count(self, state: dict) -> None:
        known = [Card.from_dict(card) for name, card in state["cards"].items() if name in questions()]
        due = sum(card.due <= _now(None) for card in known)
        self.status.value = f"{len(known)} of {len(questions())} answered, {due} due now"

    def _still_bundle(self):
        return {"text/markdown": f"*{SLEEPING}*", "text/plain": "The mock interview: run this cell."}, {}


def _markdown(text: str) -> tuple:
    """An output that JupyterLab renders as markdown with formulas."""
    data = {"text/markdown": text, "text/plain": text}
    return ({"output_type": "display_data", "data": data, "metadata": {}},)


def _plain(text: str) -> str:
    """A question for a button, where neither markdown nor formulas are read."""
    text = text.replace("`", "")
    return text.replace("\\epsilon", "ε").replace("$", "").replace("\\", "")
