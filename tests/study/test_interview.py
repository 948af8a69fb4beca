"""The mock interview: what it asks, what it keeps, and that nothing of a reader's is ever lost."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ipywidgets import Textarea, Widget
from ipywidgets.widgets.widget import _instances

from fmlib.study.bank import LESSONS, LEVELS, questions
from fmlib.study.interview import MockInterview
from fmlib.study.results import FORMAT, Results, ResultsError, choose, progress_table, when

NOW = datetime(2030, 1, 1, tzinfo=UTC)
FIRST, SECOND = list(questions())[:2]


@pytest.fixture
def results(tmp_path):
    return Results(tmp_path / "results.json")


def names(folder):
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith(".lock"))


def words(output) -> str:
    return " ".join(o["data"]["text/markdown"] for o in output.outputs)


# --- what is asked


def test_what_was_missed_comes_back_sooner(results):
    """The wrong twin, a missed question that waits as long as a good one, would fail here."""
    for day in (0, 1, 4):
        results.rate(FIRST, "Missed", NOW + timedelta(days=day))
        results.rate(SECOND, "Good", NOW + timedelta(days=day))
    missed, good = results.card(FIRST).due, results.card(SECOND).due
    assert missed < NOW + timedelta(days=4, hours=1) and good > NOW + timedelta(days=8)
    state = results.read()
    assert choose(state, now=NOW + timedelta(days=5)).id == FIRST
    assert choose(state, now=NOW + timedelta(days=400)).id == FIRST  # both due: the one that waits longest
    assert choose(state, now=NOW + timedelta(days=400), last=FIRST).id == SECOND


def test_new_questions_come_before_those_that_are_not_due(results):
    results.rate(FIRST, "Easy", NOW)
    new = choose(results.read(), now=NOW)
    assert new.id != FIRST and new.must
    for q in questions().values():
        results.rate(q.id, "Easy", NOW + timedelta(minutes=q.id == FIRST))
    assert choose(results.read(), now=NOW).id != FIRST


def test_topic_and_level_are_kept(results):
    state = results.read()
    for lesson in LESSONS:
        assert choose(state, topic=lesson).lesson == lesson
    assert choose(state, level="research").level == "research"
    with pytest.raises(ValueError, match="topic must be a lesson, one of 0, .*, 8, 10, or None, got 9"):
        choose(state, topic=9)
    with pytest.raises(ValueError, match="level must be one of screen, on-site, research, or None, got 'easy'"):
        choose(state, level="easy")


def test_unknown_names_are_refused(results):
    with pytest.raises(ValueError, match="name must be an id of the question bank, got 'no-such'"):
        results.rate("no-such", "Good")
    with pytest.raises(ValueError, match="rating must be one of Missed, Hard, Good, Easy, got 'Fine'"):
        results.rate(FIRST, "Fine")
    assert not results.path.exists()


@pytest.mark.parametrize(
    "seconds, said",
    [(30, "in less than a minute"), (60, "in 1 minute"), (600, "in 10 minutes"), (7200, "in 2 hours"),
     (86400 * 3, "in 3 days"), (-5, "in less than a minute")],
)  # fmt: skip
def test_when(seconds, said):
    assert when(NOW + timedelta(seconds=seconds), NOW) == said


# --- what is kept


def test_answers_survive_a_restart(results):
    results.note_answer(FIRST, "the mean of the velocities – E[x₁ − x₀ | x]", NOW)
    results.rate(FIRST, "Good", NOW)
    state = Results(results.path).read()
    assert [(e["id"], e["answer"][:8], e["rating"]) for e in state["log"]] == [(FIRST, "the mean", "Good")]
    assert Results(results.path).card(FIRST).due == results.card(FIRST).due > NOW


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "not JSON"),
        (b'{"format": "fmlib.study.interview 1", "cards": {', "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b'{"shopping": ["bread"]}', "not marked"),
        (b"[1, 2]", "not marked"),
        (b'{"format": "fmlib.study.interview 2", "cards": {}, "log": []}', "not marked"),
        (b'{"format": "fmlib.study.interview 1", "cards": {"a": {"due": "never"}}, "log": []}', "damaged"),
        (b'{"format": "fmlib.study.interview 1", "cards": {}, "log": [{"id": "a", "rating": "Super"}]}', "damaged"),
        (b'{"format": "fmlib.study.interview 1"}', "damaged"),
    ],
)
def test_a_file_that_cannot_be_used_is_kept_aside(results, content, reason):
    results.path.write_bytes(content)
    with pytest.raises(ResultsError, match=reason):
        results.read()
    shown = MockInterview(results.path)
    assert "cannot be used" in shown.message.value and names(results.path.parent) == ["results.json"]
    warning = results.rate(FIRST, "Good", NOW)
    assert "kept as results.json.aside-1" in warning
    assert (results.path.parent / "results.json.aside-1").read_bytes() == content
    assert list(results.read()["cards"]) == [FIRST]
    results.path.write_bytes(b"again")
    results.rate(SECOND, "Good", NOW)
    assert names(results.path.parent) == ["results.json", "results.json.aside-1", "results.json.aside-2"]


@pytest.mark.slow
def test_two_notebooks_at_once(results):
    """Two processes write 30 answers each into one file; none is lost, as would happen without the lock."""
    code = (
        "import sys; from fmlib.study.results import Results\n"
        "r = Results(sys.argv[1])\n"
        "for i in range(30): r.note_answer(sys.argv[2], f'{i}')\n"
    )
    runs = [subprocess.Popen([sys.executable, "-c", code, results.path, name]) for name in (FIRST, SECOND)]
    assert [run.wait(timeout=120) for run in runs] == [0, 0]
    log = results.read()["log"]
    assert len(log) == 60 and {e["id"] for e in log} == {FIRST, SECOND}
    assert names(results.path.parent) == ["results.json"]


def test_a_write_that_fails_keeps_the_old_file_and_says_so(results, monkeypatch):
    results.rate(FIRST, "Good", NOW)
    before = results.path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    widget = MockInterview(results.path)
    widget.text.value = "my answer"
    widget.reveal()
    assert "could not be kept" in widget.message.value and "No space left" in widget.message.value
    assert widget.text.value == "my answer" and not widget.back.outputs
    assert results.path.read_bytes() == before and names(results.path.parent) == ["results.json"]


def test_a_file_held_by_another_program(results, monkeypatch):
    monkeypatch.setattr(results._lock, "timeout", 0.05)
    other = Results(results.path)
    with other._lock, pytest.raises(OSError, match="results.json is held by another program"):
        results.rate(FIRST, "Good", NOW)
    assert not results.path.exists()


# --- the widget


def test_it_reveals_only_after_an_answer(results):
    widget = MockInterview(results.path)
    q = widget.question
    assert q.ask in words(widget.front) and not widget.back.outputs
    widget.reveal()
    assert "Answer first" in widget.message.value and not widget.back.outputs and not results.path.exists()
    widget.text.value = "I would say <b>this</b>"
    widget.reveal_button.click()
    assert q.answer in words(widget.back) and q.wrong in words(widget.back)
    assert results.read()["log"][-1]["answer"] == "I would say <b>this</b>"
    widget.rate_buttons["Missed"].click()
    assert "comes back in 1 minute" in widget.message.value
    assert f"1 of {len(questions())} answered" in widget.status.value
    assert len(widget.follow_ups.children) == len(q.next) + 1
    assert results.read()["log"][-1]["rating"] == "Missed" and all(b.disabled for b in widget.rate_buttons.values())


def test_it_follows_up(results):
    widget = MockInterview(results.path)
    widget.ask("what-is-fm")
    widget.text.value = "said"
    widget.reveal()
    widget.rate("Good")
    widget.follow_ups.children[0].click()
    assert widget.question.id == questions()["what-is-fm"].next[0]
    assert not widget.back.outputs and widget.text.value == "" and not widget.text.disabled


def test_it_asks_by_topic_and_level(results):
    widget = MockInterview(results.path)
    assert (widget.topic.label, widget.level.label) == ("all topics", "all levels")  # with None as value: empty
    widget.topic.value = 3
    widget.topic.label = "all topics"
    assert widget.topic.index == 0 and widget._wishes() == [None, None]
    widget.topic.value, widget.level.value = 5, "on-site"
    assert (widget.question.lesson, widget.question.level) == (5, "on-site")
    seen = {widget.question.id}
    widget.skip_button.click()
    assert widget.question.id not in seen
    empty = next(
        ((t, lv) for t in LESSONS for lv in LEVELS
         if not any(q.lesson == t and q.level == lv for q in questions().values())),
        None,
    )  # fmt: skip
    if empty:
        widget.topic.value, widget.level.value = empty
        assert "no question of this level on this topic" in widget.message.value


def test_showing_it_writes_nothing(results):
    widget = MockInterview(results.path)
    assert "Nothing answered yet" in widget.progress().data and names(results.path.parent) == []
    data, _ = widget._repr_mimebundle_()
    assert "run this cell" in data["text/markdown"]  # what is left where no kernel runs
    assert "application/vnd.jupyter.widget-view+json" in data


def test_what_is_typed_is_in_no_synced_trait(results):
    """Synced traits are what a notebook saves. The wrong twin is a Textarea, which keeps its text there."""

    def saved(*boxes) -> str:
        return json.dumps(Widget.get_manager_state(widgets=boxes), default=str)

    widget = MockInterview(results.path)
    widget.text._hear(widget.text, {"text": "a secret thought"}, [])  # as the page sends it
    assert widget.text.value == "a secret thought"
    mine = [w for name, w in _instances.items() if name.startswith(widget.model_id)]
    assert len(mine) > 40 and "a secret thought" not in saved(*mine)
    assert "a secret thought" in saved(Textarea(value="a secret thought"))
    widget.reveal()
    assert results.read()["log"][-1]["answer"] == "a secret thought"
    assert "a secret thought" not in saved(*mine)


def test_the_page_shows_what_python_knows(results):
    """A new view asks for the text; an answer from the page is not sent back to it, where it would jump."""
    widget = MockInterview(results.path)
    sent = []
    widget.text.send = lambda content, buffers=None: sent.append(content)
    widget.text._hear(widget.text, {"text": "half a sent"}, [])
    assert sent == []
    widget.text._hear(widget.text, {"ask": True}, [])
    assert sent == [{"text": "half a sent"}]
    widget.text._hear(widget.text, {"text": "half a sentence", "submit": True}, [])
    assert results.read()["log"][-1]["answer"] == "half a sentence" and widget.text.disabled
    widget.ask()
    assert sent[-1] == {"text": ""} and not widget.text.disabled


def test_a_round_builds_no_new_widgets(results):
    """Buttons that came and went would pile up in a saved notebook, with every question."""
    widget = MockInterview(results.path)
    before = len(_instances)
    for name in ("what-is-fm", "what-is-fm", FIRST, SECOND):
        widget.ask(name)
        widget.text.value = "said"
        widget.reveal()
        widget.rate("Good")
        assert len(widget.follow_ups.children) == len(questions()[name].next) + 1
    assert len(_instances) == before


def test_progress(results):
    results.rate(FIRST, "Missed", NOW)
    results.rate(FIRST, "Good", NOW + timedelta(hours=1))
    row = next(r for r in progress_table(results.read(), NOW).splitlines() if r.startswith("| 00"))
    assert [c.strip() for c in row.split("|")[3:-1]] == ["1", "0", "0", "0", "1", "0"]
    assert json.loads(results.path.read_text("utf-8"))["format"] == FORMAT


def test_the_stored_lesson_holds_no_ones_results():
    stored = (Path(__file__).resolve().parents[2] / "notebooks" / "mock_interview.ipynb").read_text("utf-8")
    assert "Nothing answered yet." in stored and "questions answered so far" not in stored
