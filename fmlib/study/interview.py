"""The mock interview: it asks, waits for your answer, shows the card, and brings back sooner what you missed."""

import html
from datetime import UTC, datetime
from pathlib import Path

import ipywidgets as widgets
from fsrs import Card
from IPython.display import Markdown

from fmlib.page.alive import AnswerBox, Notice, WithStill, family
from fmlib.study.bank import LEVELS, Question, questions
from fmlib.study.cards import answer_text
from fmlib.study.results import (
    RATINGS,
    SCHEDULER,
    Results,
    ResultsError,
    choose,
    no_results,
    progress_table,
    topic_name,
    when,
)

# The lesson on the interview takes its parts from here, so that a reader needs to know one room only.
__all__ = ["RATINGS", "SCHEDULER", "MockInterview", "Results", "choose", "progress_table", "topic_name", "when"]

ALL = "all"  # an ipywidgets menu whose value is None looks empty
SLEEPING = (
    "The interview asks here when the notebook runs: run this cell. Without a kernel, use the folded cards below."
)


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

        self._listen()
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

    def _listen(self) -> None:
        self.topic.observe(lambda _: self.ask(), "value")
        self.level.observe(lambda _: self.ask(), "value")
        self.reveal_button.on_click(lambda _: self.reveal())
        self.skip_button.on_click(lambda _: self.ask())
        self._another.on_click(lambda _: self.ask())
        for name, button in self.rate_buttons.items():
            button.on_click(lambda _, name=name: self.rate(name))
        for i, button in enumerate(self._follow):
            button.on_click(lambda _, i=i: self.ask(self.question.next[i]))

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
            if due > datetime.now(UTC):
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
        """The results, and what to tell the reader if they cannot be read."""
        try:
            return self.results.read(), None
        except ResultsError as error:
            name = self.results.path.name
            warning = f"{name} cannot be used: {error}. Your next answer begins a new file and keeps this one."
        except OSError as error:
            warning = f"The results cannot be read: {error}."
        return no_results(), warning

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
        due = sum(card.due <= datetime.now(UTC) for card in known)
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
