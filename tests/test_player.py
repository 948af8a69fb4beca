"""The player without a browser: what is sent to the page, what is refused, and the redrawn figure."""

import asyncio
import time

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import traitlets

from fmlib import FlowPlayer, LiveFigure, Panel, density_frames, field_frames

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
    from fmlib.plots import LiveLoss

    loss = LiveLoss(10, "a curve", window=4)
    for step in range(1, 11):
        loss(step, 1.0, None, None)
    assert len(loss.line.get_xdata()) == 2
    LiveLoss(2, "a curve")(2, 1.0, None, None)  # shorter than its window: nothing to draw yet
    with pytest.raises(ValueError, match="every must be an integer of at least 1, got 0"):
        LiveLoss(10, "a curve", every=0)
    plt.close("all")


def test_bad_live_figures():
    fig, _ = plt.subplots()
    with pytest.raises(TypeError, match="a must be an ipywidgets control, got int"):
        LiveFigure(fig, lambda a: None, alt="x", a=5)
    with pytest.raises(ValueError, match="sliders must hold at least one control"):
        LiveFigure(fig, lambda: None, alt="x")
    plt.close(fig)
