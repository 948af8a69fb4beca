"""The player without a browser: what is sent to the page, what is refused, and the redrawn figure."""

import asyncio
import gc
import time

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import traitlets
from ipywidgets.widgets.widget import _instances

from fmlib.page import FlowPlayer, LiveFigure, Panel, density_frames, field_frames
from fmlib.page.alive import WithStill
from fmlib.progress import progress_bar
from fmlib.study import MockInterview

TS = torch.linspace(0, 1, 11)
TRACK = torch.randn(11, 20, 2, generator=torch.Generator().manual_seed(0)).cumsum(dim=0)


def player(panels=None, **kwargs):
    return FlowPlayer(TS, panels or [Panel(TRACK)], alt="points that move", **kwargs)


def unpack(player, panel, entry):
    """Coordinates as the page reads them."""
    meta = player._meta["panels"][panel]
    integers = np.frombuffer(player._data, "<u2", np.prod(entry["shape"]), entry["offset"]).reshape(entry["shape"])
    return np.array(meta["origin"]) + np.array(meta["scale"]) * integers


def test_quantisation_is_below_half_a_pixel():
    far = TRACK.clone()
    far[0] *= 100  # noise of a VE path, far outside of the view
    limits = (-3.0, 3.0, -3.0, 3.0)
    for track in (TRACK, far):
        widget = player([Panel(track), Panel(track)], limits=limits)
        got = unpack(widget, 1, widget._meta["panels"][1]["particles"])
        inside = (track.abs() < 90).all(dim=2).numpy()  # within 16 views
        pixels = np.abs(got - track.numpy())[inside] * 400 / 6
        assert inside.mean() > 0.8 and pixels.max() < 0.5


def test_size_in_bytes():
    track = torch.randn(60, 1000, 2)
    widget = FlowPlayer(torch.linspace(0, 1, 60), [Panel(track), Panel(track)], alt="two panels")
    assert len(widget._data) < 1_000_000


def test_traits_move_and_are_checked():
    by_steps = {n: torch.randn(n + 1, 5, 2) for n in (1, 2, 4)}
    widget = player([Panel(by_steps=by_steps, choice="Euler"), Panel(by_steps=by_steps, choice="Heun")], t=0.25)
    assert (widget.t, widget.steps, widget.selection) == (0.25, 4, "Euler")
    widget.t, widget.steps, widget.selection = 0.5, 2, "Heun"
    slider = ipywidgets.FloatSlider(min=0, max=1)
    ipywidgets.link((widget, "t"), (slider, "value"))
    slider.value = 0.75
    assert widget.t == 0.75
    for name, value in (("t", 1.5), ("steps", 3), ("selection", "RK4")):
        before = getattr(widget, name)
        with pytest.raises(traitlets.TraitError, match=f"{name} must .*got {value!r}"):
            setattr(widget, name, value)
        assert getattr(widget, name) == before


def test_frames_are_where_the_times_say():
    widget = player()
    got = unpack(widget, 0, widget._meta["panels"][0]["particles"])
    assert np.abs(got - TRACK.numpy()).max() < 1e-3 < np.abs(got[::-1] - TRACK.numpy()).max()


def test_field_and_density_frames():
    limits = (0.0, 4.0, 0.0, 2.0)
    field = field_frames(lambda t, x: x * t[:, None], limits, [0.0, 1.0], cells=4)
    assert field.shape == (2, 4, 4, 2)
    assert field[1, 0, 3].tolist() == [3.5, 0.25]  # bottom right
    density = density_frames(lambda t, x: x[:, 1].log(), limits, [0.0, 1.0], cells=4)
    assert density.shape == (2, 4, 4) and density[0, 0, 0] < density[0, 3, 0]
    widget = player([Panel(TRACK, field=field, density=density)], limits=limits)
    meta = widget._meta["panels"][0]
    shade = np.frombuffer(widget._data, np.uint8, 32, meta["density"]["offset"])
    assert shade.max() == 255 and meta["field"]["shape"] == [2, 4, 4, 2]


def test_the_still_is_part_of_the_output():
    by_steps = {n: torch.randn(n + 1, 5, 2) for n in (1, 2, 4, 8, 16, 32, 64)}
    for widget in (player(), player([Panel(TRACK, by_steps=by_steps, trails=3, title="a"), Panel(TRACK, title="b")])):
        data, metadata = widget._repr_mimebundle_()
        assert data["image/png"].startswith(b"\x89PNG") and len(data["image/png"]) < 150_000
        assert metadata["image/png"]["alt"] == "points that move"
        assert "application/vnd.jupyter.widget-view+json" in data
        fig = widget.still()
        assert len(fig.axes) in (5, 10)
        plt.close(fig)


@pytest.mark.parametrize("factor", [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0), (1.0, 0.001)])
def test_points_on_a_line_or_in_one_place_can_be_shown(factor):
    for shift in (0.0, 1e9):
        widget = player([Panel(TRACK * torch.tensor(factor) + shift)])
        fig = widget.still()
        width, height = fig.get_size_inches()
        assert 0.3 < height < 20 and width == 8
        plt.close(fig)


BAD = TRACK.clone()
BAD[3, 4, 1] = float("nan")
FLAT = torch.zeros(5, 5)


@pytest.mark.parametrize(
    ("panel", "error", "message"),
    [
        (Panel(BAD), ValueError, r"panels\[0\].particles must be finite"),
        (Panel(TRACK * float("inf")), ValueError, "must be finite"),
        (Panel(TRACK[:-1]), ValueError, r"must have shape \[11, P, 2\].*got \[10, 20, 2\]"),
        (Panel(TRACK[..., :1]), ValueError, r"got \[11, 20, 1\]"),
        (Panel(TRACK[0]), ValueError, r"must have 3 dimensions, got shape \[20, 2\]"),
        (Panel([TRACK[0].numpy(), TRACK[1, :5].numpy()]), TypeError, "must be an array of numbers, got list"),
        (Panel(), ValueError, "must have particles or by_steps"),
        (Panel(by_steps={1: TRACK[:2], 2: TRACK[:3, :5]}), ValueError, r"by_steps\[2\] must have shape \[M, 20, 2\]"),
        (Panel(by_steps={-1: TRACK}), ValueError, "whole numbers >= 0 as keys, got -1"),
        (Panel(by_steps={1: TRACK[:1]}), ValueError, "M >= 2"),
        (Panel(TRACK, density=FLAT - 1), ValueError, "density must be non-negative, got -1"),
        (Panel(TRACK, field=torch.zeros(2, 3, 3, 3)), ValueError, r"field must have shape \[G, R, C, 2\]"),
        (Panel(TRACK, color="red"), ValueError, "color must be one of noise, data.*got 'red'"),
        (Panel(TRACK, trails=-1), ValueError, "trails must be an integer of at least 0, got -1"),
        (Panel(TRACK, dot=-1), ValueError, "dot must be a finite number above 0, got -1"),
        (Panel(TRACK, title=5), TypeError, "title must be a string, got 5"),
        (Panel(TRACK, density=torch.zeros(0, 3, 3)), ValueError, "density must not be empty"),
        ("panel", TypeError, r"panels\[0\] must be a Panel, got str"),
    ],
)
def test_bad_panels_are_named(panel, error, message):
    with pytest.raises(error, match=message):
        player([panel])


def test_bad_players_are_named():
    with pytest.raises(ValueError, match="ts must hold at least two increasing times"):
        FlowPlayer(TS.flip(0), [Panel(TRACK)], alt="x")
    with pytest.raises(ValueError, match="alt must describe"):
        FlowPlayer(TS, [Panel(TRACK)], alt=" ")
    with pytest.raises(ValueError, match="panels must hold at least one"):
        FlowPlayer(TS, [], alt="x")
    with pytest.raises(ValueError, match="limits must be"):
        player(limits=(1, 0, 0, 1))
    with pytest.raises(ValueError, match="at most 10 times as wide"):
        player(limits=(0, 1, 0, 100))
    with pytest.raises(TypeError, match="panels must be a list of Panel"):
        FlowPlayer(TS, Panel(TRACK), alt="x")
    with pytest.raises(ValueError, match=r"keys of the other panels, \[1, 2\], got \[1\]"):
        player([Panel(by_steps={1: TRACK, 2: TRACK}), Panel(by_steps={1: TRACK})])


# --- figures that the kernel redraws


def live():
    fig, ax = plt.subplots(figsize=(4, 3))
    (line,) = ax.plot([0, 1], [0, 1])
    slider = ipywidgets.FloatSlider(value=1.0, min=0, max=5)
    figure = LiveFigure(fig, lambda scale: line.set_ydata([0, scale]), alt="a line", scale=slider)
    return figure, slider, line


def test_live_figure_updates_its_artists():
    figure, slider, line = live()
    before, artists = figure.image.value, len(figure.fig.axes[0].get_children())
    slider.value = 0.5
    assert line.get_ydata()[1] == 0.5 and figure.image.value != before
    assert len(figure.fig.axes[0].get_children()) == artists
    assert slider.description == "scale"
    data, metadata = figure._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG") and metadata["image/png"]["alt"] == "a line"


def test_many_changes_make_one_picture():
    async def drag():
        figure, slider, _ = live()
        drawn = figure.pictures
        for value in np.linspace(0, 5, 50):
            slider.value = value
        await asyncio.sleep(0.05)
        return figure.pictures - drawn

    assert asyncio.run(drag()) == 1


def test_flush_draws_what_waits():
    async def move():
        figure, slider, line = live()
        slider.value = 3.0
        assert line.get_ydata()[1] == 1.0
        figure.flush()
        return line.get_ydata()[1]

    assert asyncio.run(move()) == 3.0


def test_a_redraw_is_fast():
    """100 ms is the aim; the limit here is wide, as a test machine may be busy."""
    _, slider, _ = live()
    start = time.perf_counter()
    for value in np.linspace(0, 5, 10):
        slider.value = value
    assert (time.perf_counter() - start) / 10 < 0.5


def test_an_error_in_a_scheduled_redraw_is_shown():
    async def move():
        fig, _ = plt.subplots()
        slider = ipywidgets.FloatSlider(value=1.0)

        def update(a):
            if a > 2:
                raise RuntimeError("too large")

        figure = LiveFigure(fig, update, alt="x", a=slider)
        slider.value = 3.0
        await asyncio.sleep(0.05)
        return figure._message.value

    assert asyncio.run(move()) == "RuntimeError: too large"


def test_the_live_loss_waits_for_its_first_window():
    from fmlib.page.plots import LiveLoss

    loss = LiveLoss(10, "a curve", window=4)
    for step in range(1, 11):
        loss(step, 1.0, None, None)
    assert len(loss.line.get_xdata()) == 2
    LiveLoss(2, "a curve")(2, 1.0, None, None)  # shorter than its window: nothing to draw yet
    with pytest.raises(ValueError, match="every must be an integer of at least 1, got 0"):
        LiveLoss(10, "a curve", every=0)
    plt.close("all")


# --- widgets that outlive their kernel


class Cells:
    """A front end that tells which cell runs, as JupyterLab does."""

    def __init__(self, monkeypatch):
        self.monkeypatch, self.runs = monkeypatch, 0

    def run(self, cell):
        self.runs += 1
        request = (cell, f"run {self.runs}")
        self.monkeypatch.setattr("fmlib.page.alive._request", lambda: request)

    def new_kernel(self):
        for name in ("_built", "_calls"):
            self.monkeypatch.setattr(f"fmlib.page.alive.{name}", {})


@pytest.fixture
def cells(monkeypatch):
    return Cells(monkeypatch)


def ids() -> set[str]:
    return set(_instances)


@pytest.mark.parametrize("build", [player, lambda: live()[0], MockInterview], ids=["player", "live", "interview"])
def test_a_cell_that_runs_again_has_the_same_ids_and_leaves_nothing_behind(cells, build, tmp_path, monkeypatch):
    """The wrong twin, ipywidgets' own ids, are new ones in every run, and the old models stay."""
    monkeypatch.chdir(tmp_path)
    cells.run("cell-1")
    before = ids()
    first = build()
    built = ids() - before
    assert len(built) > 1 and all(name.startswith(first.model_id) for name in built)
    cells.run("cell-1")
    second = build()
    assert second.model_id in built and ids() - before == built
    assert first.comm is None and second.comm is not None
    first.close()
    del first  # late, as the garbage collector may be
    gc.collect()
    assert second.comm is not None and ids() - before == built
    cells.new_kernel()
    cells.run("cell-1")
    assert build().model_id == second.model_id
    wrong = [ipywidgets.VBox([ipywidgets.Label()]) for _ in range(2)]
    assert wrong[0].model_id != wrong[1].model_id and len(ids() - before) > len(built)


def test_only_a_rerun_closes_a_player(cells):
    """The same words in another cell, twice in one cell, or from a front end that does not tell: all stay alive."""
    cells.run("cell-1")
    first = player()
    cells.run("cell-2")
    twice = [player(), player()]
    cells.monkeypatch.setattr("fmlib.page.alive._request", lambda: ("", ""))
    unknown = [player(), player()]
    everyone = [first, *twice, *unknown]
    names = [p.model_id for p in everyone]
    assert len(set(names)) == 5 and all(p.comm is not None for p in everyone)
    cells.run("cell-2")
    again = [player(), player()]
    assert [p.model_id for p in again] == names[1:3]
    assert [p.comm is None for p in everyone] == [False, True, True, False, False]


def test_two_figures_can_share_a_slider(cells):
    cells.run("cell-1")
    slider = ipywidgets.FloatSlider(value=1.0)
    drawn = []
    figures = []
    for name in ("a", "b"):
        fig, _ = plt.subplots()
        figures.append(LiveFigure(fig, lambda scale, name=name: drawn.append(name), alt=name, scale=slider))
    assert all(f.children[1] is slider for f in figures) and slider.comm is not None
    slider.value = 0.5
    assert drawn[2:] == ["a", "b"]
    figures[0].close()
    slider.value = 0.6
    assert drawn[4:] == ["b"]  # a figure that was closed is not drawn in secret


def test_the_bundle_keeps_what_the_widget_says_about_itself():
    """anywidget returns (data, metadata), which Colab needs; ipywidgets returns data alone."""

    class Both:
        def _repr_mimebundle_(self, **kwargs):
            return {"view": 1, "text/plain": "x"}, {"view": {"colab": "custom"}}

    class Alone(Both):
        def _repr_mimebundle_(self, **kwargs):
            return {"view": 1}

    class Closed(Both):
        def _repr_mimebundle_(self, **kwargs):
            return None

    def bundle(base):
        class Widget(WithStill, base):
            def _still_bundle(self):
                return {"image/png": b"still", "text/plain": "words"}, {"image/png": {"alt": "words"}}

        return Widget()._repr_mimebundle_()

    about = {"image/png": {"alt": "words"}}
    data = {"view": 1, "image/png": b"still", "text/plain": "words"}
    assert bundle(Both) == (data, {"view": {"colab": "custom"}, **about})
    assert bundle(Alone) == (data, about)
    assert bundle(Closed) is None


def test_colab_is_told_where_the_widget_manager_is(monkeypatch):
    """Without this metadata Colab shows nothing."""
    monkeypatch.setattr("anywidget._util.get_repr_metadata", lambda: {"widget-view": {"colab": "here"}})
    _, metadata = player()._repr_mimebundle_()
    assert metadata["widget-view"] == {"colab": "here"} and "image/png" in metadata


@pytest.mark.parametrize("leave", [False, True])
def test_a_progress_bar_that_is_done_leaves_no_widget(monkeypatch, leave):
    """tqdm's own bar in a notebook is a widget; saved and opened again, it would be an error."""
    shown = []

    class Handle:
        def update(self, data, raw):
            shown.append(data)

    def display(data, raw, display_id):
        shown.append(data)
        return Handle()

    monkeypatch.setattr("IPython.get_ipython", lambda: type("Shell", (), {"kernel": None})())
    monkeypatch.setattr("IPython.display.display", display)
    before = ids()
    with progress_bar(total=3, desc="moons", leave=leave, mininterval=0) as progress:
        for _ in range(3):
            progress.update()
    assert all(set(data) <= {"text/plain"} for data in shown) and "3/3" in shown[-2]["text/plain"]
    assert shown[-1] == ({"text/plain": shown[-1]["text/plain"]} if leave else {}) and ids() == before
    shown.clear()
    with progress_bar(total=3, disable=True) as progress:
        progress.update()
    assert shown == []


def test_elsewhere_the_progress_bar_is_tqdms_own(capsys):
    with progress_bar(total=3, desc="moons", mininterval=0) as progress:
        progress.update(3)
    assert "moons: 100%" in capsys.readouterr().err


def test_bad_live_figures():
    fig, _ = plt.subplots()
    with pytest.raises(TypeError, match="a must be an ipywidgets control, got int"):
        LiveFigure(fig, lambda a: None, alt="x", a=5)
    with pytest.raises(ValueError, match="sliders must hold at least one control"):
        LiveFigure(fig, lambda: None, alt="x")
    plt.close(fig)
