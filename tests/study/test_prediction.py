"""`predict` from Python's side: what it takes, what it sends, and where it keeps what was said."""

import json

import pytest

from fmlib.study import predict
from fmlib.study.results import Results

NUMBER = {"low": 0, "high": 300, "unit": " %"}


@pytest.fixture
def results(tmp_path):
    return Results(tmp_path / "results.json")


def test_a_number_and_a_choice(results):
    number = predict("How far?", 83.0, **NUMBER, because="Far.", results=results)
    meta = number.get_state()["_meta"]
    assert meta["answer"] == 83 and meta["step"] == 3 and meta["because"] == "Far." and "choices" not in meta
    choice = predict("Which?", "b", choices=["a", "b"], results=results)
    assert choice.get_state()["_meta"]["answer"] == 1
    assert choice._repr_mimebundle_()[0]["text/plain"] == "Predict. Which?\n  ( ) a\n  ( ) b"


def test_what_is_said_is_kept_with_the_results_and_comes_back(results, monkeypatch):
    asked = predict("How far?", 83.0, **NUMBER, results=results)
    before = json.dumps(asked.get_state(), default=str)
    asked._hear(asked, {"said": 120}, [])
    assert [(e["question"], e["said"], e["answer"]) for e in results.read()["predictions"]] == [("How far?", 120, 83.0)]
    assert json.dumps(asked.get_state(), default=str) == before  # nothing of it in what a notebook would save
    sent = []
    again = predict("How far?", 80.0, **NUMBER, results=results)
    monkeypatch.setattr(again, "send", sent.append)
    again._hear(again, {"ask": True}, [])
    other = predict("How near?", 80.0, **NUMBER, results=results)
    monkeypatch.setattr(other, "send", sent.append)
    other._hear(other, {"ask": True}, [])
    assert sent == [{"said": 120}]


@pytest.mark.parametrize("said", ["<b>", None, True, float("nan"), float("inf"), [1], {"a": 1}])
def test_what_is_no_number_is_not_kept(results, said):
    predict("How far?", 83.0, **NUMBER, results=results)._hear(None, {"said": said}, [])
    assert "predictions" not in results.read()


def test_a_choice_that_is_gone_is_not_shown(results, monkeypatch):
    predict("Which?", "c", choices=["a", "b", "c"], results=results)._hear(None, {"said": 2}, [])
    fewer = predict("Which?", "b", choices=["a", "b"], results=results)
    monkeypatch.setattr(fewer, "send", lambda message: pytest.fail("sent"))
    fewer._hear(fewer, {"ask": True}, [])


def test_beside_the_answers_of_the_interview(results):
    """The same file holds both, and neither loses the other's."""
    results.note_answer("adaptive", "my answer")
    results.note_prediction("How far?", 1.0, 2.0)
    results.note_answer("adaptive", "another")
    state = results.read()
    assert len(state["log"]) == 2 and len(state["predictions"]) == 1
    results.path.write_text("not JSON")
    assert results.prediction("How far?") is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"question": " ", "answer": 1, "low": 0, "high": 9}, "question must be a sentence"),
        ({"answer": 1}, "low and high must be given for a number, or choices"),
        ({"answer": 12, "low": 0, "high": 9}, "answer must lie between low and high, got 12 and 0 to 9"),
        ({"answer": 4.6, "low": 0, "high": 9}, "must not have the answer in their middle"),
        ({"answer": float("nan"), "low": 0, "high": 9}, "answer must be a finite number"),
        ({"answer": "c", "choices": ["a", "b"]}, "answer must be one of at least two choices, got 'c'"),
        ({"answer": "a", "choices": ["a"]}, "at least two choices"),
        ({"answer": 1, "low": 0, "high": 9, "step": 0}, "step must be"),
    ],
)
def test_bad_input_is_named(results, arguments, words):
    with pytest.raises(ValueError, match=words):
        predict(**{"question": "How far?", **arguments}, results=results)
