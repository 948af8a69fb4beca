"""`predict`: a question before the picture. The reader commits to an answer, and only then sees the right one."""

import math
from collections.abc import Sequence

import anywidget
import traitlets

from fmlib.checks import check_number
from fmlib.page.alive import family, script
from fmlib.study.results import Results


class Prediction(anywidget.AnyWidget):
    """The widget of `predict`. What the reader says is kept with their results, never in the notebook."""

    _esm = script("predict")
    _meta = traitlets.Dict().tag(sync=True)

    def __init__(self, meta: dict, results: Results):
        self._results = results
        with family("Prediction", meta["question"]) as model_id:
            super().__init__(model_id=model_id, _meta={**meta, "name": model_id})
        self.on_msg(self._hear)

    def _hear(self, _widget, content: dict, _buffers) -> None:
        name = self._meta["question"]
        if content.get("ask"):  # a new view: show what was said before
            said = self._results.prediction(name)
            if said is not None and self._fits(said):
                self.send({"said": said})
        elif self._fits(content.get("said")):
            self._results.note_prediction(name, content["said"], self._meta["answer"])

    def _fits(self, said) -> bool:
        if isinstance(said, bool) or not isinstance(said, (int, float)) or not math.isfinite(said):
            return False
        return "choices" not in self._meta or said in range(len(self._meta["choices"]))

    def _repr_mimebundle_(self, **kwargs):
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        choices = "".join(f"\n  ( ) {words}" for words in self._meta.get("choices", ()))
        return {**data, "text/plain": f"Predict. {self._meta['question']}{choices}"}, metadata


def predict(
    question: str,
    answer,
    *,
    low: float | None = None,
    high: float | None = None,
    step: float | None = None,
    unit: str = "",
    choices: Sequence[str] = (),
    because: str = "",
    results: Results | None = None,
) -> Prediction:
    """A question with a slider from low to high, or with choices; the answer shows once the reader has said theirs.

    answer:  the number, or the right one of `choices`. A slider must be able to say it, and must not open on it.
    step:    of the slider; None: a hundredth of its range.
    unit:    what stands behind the number, such as " %".
    because: a sentence that is shown with the answer.
    results: where it is kept; None: `interview_results.json` beside the notebook.

    Works before anything was run, on a page without a kernel, and unanswered. Raises ValueError that names what does
    not fit.
    """
    if not question.strip():
        raise ValueError("question must be a sentence, got an empty string")
    if choices:
        if len(choices) < 2 or answer not in choices:
            raise ValueError(f"answer must be one of at least two choices, got {answer!r} of {list(choices)}")
        meta = {"choices": list(choices), "answer": list(choices).index(answer)}
    else:
        if low is None or high is None:
            raise ValueError("low and high must be given for a number, or choices")
        low, high, answer = (check_number(n, v) for n, v in (("low", low), ("high", high), ("answer", answer)))
        if not low < answer < high:
            raise ValueError(f"answer must lie between low and high, got {answer:.4g} and {low:.4g} to {high:.4g}")
        if abs(answer - (low + high) / 2) < 0.03 * (high - low):
            raise ValueError(
                f"low and high must not have the answer in their middle, where the slider opens: {answer:.4g}"
            )
        step = (high - low) / 100 if step is None else check_number("step", step, 0, open_low=True)
        meta = {"low": low, "high": high, "step": step, "unit": unit, "answer": answer}
    return Prediction({"question": question, "because": because, **meta}, results or Results())
