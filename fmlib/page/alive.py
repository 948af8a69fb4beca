"""Widgets that outlive their kernel, and leave nothing in a notebook that does not belong there.

A notebook that was run, saved and opened again finds its widgets by their ids. Random ids are found nowhere ("model not
found"), and those of every run would pile up in the file. So everything that is built inside `family` has an id that
the same cell gets again, in this kernel and in the next. `WithStill` puts a picture or words beside the view, for
pages without widgets; `AnswerBox` keeps what a reader types out of the file.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import anywidget
import ipywidgets
import traitlets
from IPython import get_ipython

from fmlib.page.scripts import join, script

__all__ = ["AnswerBox", "Notice", "WithStill", "adopt", "family", "script"]

_built: dict[str, list[ipywidgets.Widget]] = {}  # by the id of the family
_calls: dict[str, tuple[str, Counter]] = {}  # by cell: the run of it that was seen last, and its calls


def _request() -> tuple[str, str]:
    """The id of the cell that is running, and of this run of it; "" where the front end does not tell."""
    try:
        message = get_ipython().kernel.get_parent()
    except AttributeError:  # no kernel, or no IPython at all
        return "", ""
    cell = message.get("metadata", {}).get("cellId", "")
    return cell, message["header"]["msg_id"] if cell else ""


def _fixed_id(kind: str, alt: str) -> str:
    """The same for the same call in the same cell, run again or in a new kernel; another for every other call.

    Calls with the same words are told apart by their order: within a run of the cell or, where the front end does
    not tell cells apart, within the kernel's life.
    """
    cell, run = _request()
    if cell not in _calls or _calls[cell][0] != run:
        _calls[cell] = run, Counter()
    words = "\n".join((cell, kind, alt))
    calls = _calls[cell][1]
    calls[words] += 1
    return f"fm-{hashlib.sha256(words.encode()).hexdigest()[:16]}-{calls[words]}"


@contextmanager
def family(kind: str, alt: str) -> Iterator[str]:
    """Ids that stay, for all widgets built inside: yields the head's id, to be passed on as its `model_id`.

    What the last run of the same cell built under these ids is closed first: two models with one id would disturb
    each other, and the old ones would be saved with the notebook.
    """
    head = _fixed_id(kind, alt)
    for widget in _built.pop(head, []):
        widget.close()
    members = _built[head] = []

    def name(widget: ipywidgets.Widget) -> None:
        if widget._model_id is None:
            widget._model_id = f"{head}-{len(members)}"
        members.append(widget)

    before = ipywidgets.Widget._widget_construction_callback
    ipywidgets.Widget.on_widget_constructed(name)
    try:
        yield head
    finally:
        ipywidgets.Widget.on_widget_constructed(before)


def adopt(widget: ipywidgets.DOMWidget) -> None:
    """Inside `family`: a control that was built outside is opened anew, under an id of the family.

    One that another family has adopted, and that is open, stays as it is: two figures can share a slider.
    """
    if widget.comm is not None and widget.model_id.startswith("fm-"):
        return
    for part in (widget.layout, getattr(widget, "style", None), widget):
        if isinstance(part, ipywidgets.Widget):
            part.close()
            vars(part).pop("_repr_mimebundle_", None)  # closing has hidden the method
            part._model_id = None
            ipywidgets.Widget._call_widget_constructed(part)
            part.open()


class WithStill:
    """Mixed into a widget: `_still_bundle` says what stands beside its view, for pages where no widget runs."""

    def _still_bundle(self) -> tuple[dict, dict]:
        """(data, metadata) by MIME type."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **kwargs):
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})  # ipywidgets returns data alone
        if not data:
            return bundle
        still, about = self._still_bundle()
        return {**data, **still}, {**metadata, **about}


class Notice(anywidget.AnyWidget):
    """A line that says so when no kernel answers, as in a notebook that was opened again; and otherwise `value`."""

    _esm = join("notice")
    value = traitlets.Unicode().tag(sync=True)
    asleep = traitlets.Unicode("The kernel does not answer. Run this cell, or wait until it is free.").tag(sync=True)

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.on_msg(lambda *_: self.send({"awake": True}))


class AnswerBox(anywidget.AnyWidget):
    """A text box whose text no notebook keeps: it lives in the page and here, in `value`, but in no saved trait.

    on_submit: called without arguments when the reader presses Ctrl+Enter.
    """

    _esm = join("answer")
    label = traitlets.Unicode("Your answer").tag(sync=True)
    placeholder = traitlets.Unicode().tag(sync=True)
    disabled = traitlets.Bool(False).tag(sync=True)
    value = traitlets.Unicode()  # not synced: what is synced is saved

    def __init__(self, on_submit=lambda: None, **kwargs):
        self._on_submit, self._hearing = on_submit, False
        super().__init__(**kwargs)
        self.on_msg(self._hear)

    def _hear(self, _widget, content: dict, _buffers) -> None:
        if isinstance(content.get("text"), str):
            self._hearing = True
            try:
                self.value = content["text"]
            finally:
                self._hearing = False
        if content.get("ask"):  # a new view: show it what there is
            self.send({"text": self.value})
        if content.get("submit"):
            self._on_submit()

    @traitlets.observe("value")
    def _tell(self, _change) -> None:
        if not self._hearing:
            self.send({"text": self.value})
