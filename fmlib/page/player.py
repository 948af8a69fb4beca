"""The player: sliders that follow the hand, because the page draws by itself.

`FlowPlayer` sends its arrays to the page once. Moving t, playing, changing the number of steps or the selection and
hovering are then a matter of `static/player.js` alone; Python hears of it when the hand lets go. The same call leaves
a still picture behind, for pages where nothing runs. `LiveFigure` is for what must be computed anew by the kernel.
"""

import asyncio
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import anywidget
import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import torch
import traitlets
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from fmlib.checks import check_int, check_number
from fmlib.page import plots
from fmlib.page.alive import Notice, WithStill, adopt, family
from fmlib.page.plots import COLORS
from fmlib.page.scripts import join

BLEND = LinearSegmentedColormap.from_list("time", [COLORS["noise"], "#4D4D4D", COLORS["data"]])
FAR = 16  # coordinates are kept up to so many view widths away; beyond, they are off the page in any case


@dataclass
class Panel:
    """One picture of a player. Arrays are torch tensors or numpy arrays.

    particles: [F, P, 2], positions at the player's F times; None if by_steps is given.
    by_steps:  {N: [M, P', 2]}, one trajectory for each value N of the second slider, on M equally spaced times from
               the first to the last. With `particles` too, those are drawn behind as the exact solution, in black
               (white on dark), and these in green.
    density:   [G, H, W] >= 0 or [H, W], shade over the limits at G equally spaced times; row 0 is the bottom.
    field:     [G, R, C, 2], arrows on a grid of R x C cells over the limits at G equally spaced times; drawn with
               lengths that grow as the square root of the speed.
    title:     above the picture; also its name for screen readers.
    choice:    the panel is visible while this is the player's selection; None: always.
    trails:    how many particles show their history.
    color:     a role in `plots.COLORS`; None blends from noise to data with time.
    dot:       radius of a particle in pixels.
    """

    particles: Any = None
    by_steps: Mapping[int, Any] | None = None
    density: Any = None
    field: Any = None
    title: str = ""
    choice: str | None = None
    trails: int = 0
    color: str | None = None
    dot: float = 1.6


class FlowPlayer(WithStill, anywidget.AnyWidget):
    """Particles moving along t, over densities and arrows, in one or several linked panels.

    ts:      [F], increasing: the times of `Panel.particles` and the ends of the slider.
    panels:  a list of `Panel`. All `by_steps` must have the same keys.
    alt:     what the player shows, in words.
    limits:  (left, right, bottom, top) of every panel; None: around all particles.
    label, steps_label, choice_label: names of the three controls.

    Traits in step with Python: `t`, `steps` (a key of by_steps), `selection` (a choice); observe or link them, or
    set them. They are sent to Python when a movement ends, not during it.

    Raises ValueError or TypeError, naming the array, for shapes that do not fit and for NaN or infinity; setting a
    trait to a value that it cannot have raises traitlets.TraitError.
    """

    _esm = join("player")
    _data = traitlets.Bytes().tag(sync=True)
    _meta = traitlets.Dict().tag(sync=True)
    t = traitlets.CFloat().tag(sync=True)
    steps = traitlets.Int().tag(sync=True)
    selection = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        ts,
        panels: Sequence[Panel],
        alt: str,
        limits: tuple[float, float, float, float] | None = None,
        *,
        t: float | None = None,
        steps: int | None = None,
        selection: str | None = None,
        label: str = "t",
        steps_label: str = "steps",
        choice_label: str = "show",
    ):
        ts = _array("ts", ts, 1)
        if len(ts) < 2 or not bool((np.diff(ts) > 0).all()):
            raise ValueError(f"ts must hold at least two increasing times, got {ts.tolist()[:8]}")
        if isinstance(panels, Panel):
            raise TypeError("panels must be a list of Panel, got a single Panel")
        if not panels:
            raise ValueError("panels must hold at least one Panel, got an empty list")
        if not alt.strip():
            raise ValueError("alt must describe the player in words, got an empty string")
        checked = [_checked(panel, f"panels[{i}]", len(ts)) for i, panel in enumerate(panels)]
        values = sorted({n for panel in checked for n in panel.by_steps})
        for i, panel in enumerate(checked):
            if panel.by_steps and sorted(panel.by_steps) != values:
                raise ValueError(
                    f"panels[{i}].by_steps must have the keys of the other panels, {values}, "
                    f"got {sorted(panel.by_steps)}"
                )
        limits = _limits(limits, checked)
        packed = [_pack(panel, limits) for panel in checked]
        data = bytearray()
        for meta, arrays in packed:
            for entry, array in arrays:
                data.extend(bytes(-len(data) % 8))  # the page reads 16-bit views, which need an even start
                entry["offset"] = len(data)
                data.extend(array.tobytes())
            meta["limits"] = list(limits)

        choices = list(dict.fromkeys(panel.choice for panel in checked if panel.choice))
        self._choices, self._step_values, self._ts = choices, values, ts
        self._panels, self._limits, self._alt, self._label = checked, limits, alt, label
        self._steps_label = steps_label
        self._still = None
        with family(type(self).__name__, alt) as model_id:
            super().__init__(
                model_id=model_id,
                _data=bytes(data),
                _meta={
                    "ts": ts.tolist(),
                    "panels": [meta for meta, _ in packed],
                    "alt": alt,
                    "label": label,
                    "steps_label": steps_label,
                    "choice_label": choice_label,
                    "choices": choices,
                    "step_values": values,
                },
                t=float(ts[-1] if t is None else t),
                steps=(values[-1] if values else 0) if steps is None else steps,
                selection=(choices[0] if choices else "") if selection is None else selection,
            )

    @traitlets.validate("t")
    def _check_t(self, proposal):
        first, last = float(self._ts[0]), float(self._ts[-1])
        if not first <= proposal["value"] <= last:
            raise traitlets.TraitError(f"t must lie in [{first:g}, {last:g}], got {proposal['value']}")
        return proposal["value"]

    @traitlets.validate("steps")
    def _check_steps(self, proposal):
        if self._step_values and proposal["value"] not in self._step_values:
            raise traitlets.TraitError(f"steps must be one of {self._step_values}, got {proposal['value']}")
        return proposal["value"]

    @traitlets.validate("selection")
    def _check_selection(self, proposal):
        if self._choices and proposal["value"] not in self._choices:
            raise traitlets.TraitError(f"selection must be one of {self._choices}, got {proposal['value']!r}")
        return proposal["value"]

    def still(self) -> Figure:
        """The player as a printed page: a row for each panel, five times across, or the values of the second slider."""
        over_steps = bool(self._step_values)
        columns = _spread(self._step_values, 5) if over_steps else np.linspace(self._ts[0], self._ts[-1], 5)
        left, right, bottom, top = self._limits
        width = plots.WIDTH / len(columns)
        height = width * (top - bottom) / (right - left)
        several = len(self._panels) > 1
        fig, axes = plt.subplots(
            len(self._panels),
            len(columns),
            figsize=(plots.WIDTH, len(self._panels) * (height + 0.25 * several) + 0.35),
            squeeze=False,
        )
        for row, panel in zip(axes, self._panels, strict=True):
            for ax, column in zip(row, columns, strict=True):
                t = self._ts[-1] if over_steps else column
                _draw_still(ax, panel, self._ts, t, column if over_steps else None, self._limits)
                plots.bare(ax, self._limits)
                ax.set_aspect("equal")
            name = " · ".join(n for n in (panel.choice, panel.title) if n)
            if several and name:
                row[0].text(0, 1.02, name, transform=row[0].transAxes, fontsize=9, fontweight="bold", va="bottom")
        for ax, column in zip(axes[0], columns, strict=True):
            text = f"{self._steps_label} {column}" if over_steps else f"{self._label} = {column:.3g}"
            ax.set_title(text, fontsize=9, pad=16 if several else 4)
        return fig

    def _still_bundle(self):
        if self._still is None:
            fig = self.still()
            self._still = plots.png(fig)
            plt.close(fig)
        data = {"image/png": self._still, "text/plain": self._alt}
        return data, {"image/png": {"alt": self._alt, "width": int(100 * plots.WIDTH)}}


class LiveFigure(WithStill, ipywidgets.VBox):
    """A matplotlib figure that sliders redraw: artists are updated, never rebuilt.

    fig:    a figure that holds all its artists; its layout is fixed here.
    update: called as update(**{name: value}); it changes the artists, and draws nothing.
    sliders: one ipywidgets control for each keyword of `update`, shown below the figure. It is opened anew here:
            show it elsewhere, or link it in the page, afterwards.

    Several changes that arrive before the picture is drawn make one picture. Without a running event loop (a plain
    script) each change draws at once. `flush()` draws what is waiting, now: call it in a cell that moves a slider
    and then looks.
    """

    def __init__(self, fig: Figure, update: Callable[..., None], alt: str, **sliders: ipywidgets.ValueWidget):
        if not sliders:
            raise ValueError("sliders must hold at least one control, got none")
        if not alt.strip():
            raise ValueError("alt must describe the figure in words, got an empty string")
        for name, slider in sliders.items():
            if not isinstance(slider, ipywidgets.ValueWidget):
                raise TypeError(f"{name} must be an ipywidgets control, got {type(slider).__name__}")
            if not slider.description:
                slider.description = name  # screen readers read it
            slider.style.description_width = "initial"  # else long names are cut off
            slider.layout.width = "420px"
        self.fig, self._update, self.sliders = fig, update, sliders
        self._waiting = False
        self.pictures = 0  # how often it was drawn
        plt.close(fig)  # the figure lives on here; pyplot must not show it a second time
        fig.set_dpi(100)
        plots.pixels(fig)
        fig.set_layout_engine("none")  # laying out anew costs more than drawing
        self._alt = alt
        with family(type(self).__name__, alt) as model_id:
            self.image = ipywidgets.Image(format="jpeg", width=int(100 * fig.get_figwidth()))
            self.image.layout.object_fit = "contain"
            self._message = Notice()
            for slider in sliders.values():
                adopt(slider)
                slider.observe(self._changed, names="value")
            super().__init__([self.image, *sliders.values(), self._message], model_id=model_id)
        self._draw()

    def _changed(self, _change) -> None:
        if self._waiting:
            return
        self._waiting = True
        try:
            asyncio.get_running_loop().call_soon(self._flush_and_say)
        except RuntimeError:
            self.flush()

    def flush(self) -> None:
        """Draw now if a change is waiting."""
        if self._waiting:
            self._waiting = False
            self._draw()

    def _flush_and_say(self) -> None:
        """Nobody waits for a scheduled redraw: show its error under the figure instead of losing it in a log."""
        try:
            self.flush()
            self._message.value = ""
        except Exception as error:
            self._message.value = f"{type(error).__name__}: {error}"

    def _draw(self) -> None:
        self._update(**{name: slider.value for name, slider in self.sliders.items()})
        buffer = io.BytesIO()
        plots.pixels(self.fig).save(buffer, "jpeg", quality=85)
        self.image.value = buffer.getvalue()
        self.pictures += 1

    def close(self) -> None:
        """Nor do its sliders draw it any more."""
        if self.comm is not None:
            for slider in self.sliders.values():
                slider.unobserve(self._changed, names="value")
        super().close()

    def _still_bundle(self):
        still = {"image/png": plots.png(self.fig), "text/plain": self._alt}
        self.fig.set_dpi(100)
        return still, {"image/png": {"alt": self._alt, "width": int(100 * self.fig.get_figwidth())}}


def density_frames(log_prob, limits, ts, cells: int = 48) -> torch.Tensor:
    """exp(log_prob(t, x)) on a grid of cells x cells over the limits, for each of ts: [len(ts), cells, cells]."""
    frames = [log_prob(t, cell_centres(limits, cells)).exp() for t in torch.as_tensor(ts).tolist()]
    return torch.stack(frames).reshape(-1, cells, cells)


def field_frames(velocity, limits, ts, cells: int = 14) -> torch.Tensor:
    """velocity(t, x) on a grid of cells x cells over the limits, for each of ts: [len(ts), cells, cells, 2]."""
    x = cell_centres(limits, cells)
    with torch.no_grad():
        frames = [velocity(torch.full((len(x),), t), x) for t in torch.as_tensor(ts).tolist()]
    return torch.stack(frames).reshape(-1, cells, cells, 2)


def cell_centres(limits, cells: int) -> torch.Tensor:
    """Centres of the cells, [cells * cells, 2], row by row from the bottom."""
    left, right, bottom, top = limits
    part = (torch.arange(cells) + 0.5) / cells
    y, x = torch.meshgrid(bottom + (top - bottom) * part, left + (right - left) * part, indexing="ij")
    return torch.stack([x.ravel(), y.ravel()], dim=1)


def _array(name: str, value, dims: int) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    try:
        array = np.array(value, dtype=np.float64)  # a copy: a later change of the original must not reach the still
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} must be an array of numbers, got {type(value).__name__} ({error})") from error
    if array.ndim != dims:
        raise ValueError(f"{name} must have {dims} dimensions, got shape {list(array.shape)}")
    if not array.size:
        raise ValueError(f"{name} must not be empty, got shape {list(array.shape)}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity in it")
    return array


def _checked(panel: Panel, name: str, frames: int) -> Panel:
    """A copy of the panel with numpy arrays of checked shapes; by_steps is a dict, perhaps an empty one."""
    if not isinstance(panel, Panel):
        raise TypeError(f"{name} must be a Panel, got {type(panel).__name__}")
    if panel.particles is None and not panel.by_steps:
        raise ValueError(f"{name} must have particles or by_steps, got neither")
    particles = density = field = None
    if panel.particles is not None:
        particles = _array(f"{name}.particles", panel.particles, 3)
        if len(particles) != frames or particles.shape[1] < 1 or particles.shape[2] != 2:
            raise ValueError(
                f"{name}.particles must have shape [{frames}, P, 2] (one frame for each of ts), "
                f"got {list(particles.shape)}"
            )
    by_steps = {}
    for n, track in (panel.by_steps or {}).items():
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 0:
            raise ValueError(f"{name}.by_steps must have whole numbers >= 0 as keys, got {n!r}")
        by_steps[int(n)] = track = _array(f"{name}.by_steps[{n}]", track, 3)
        number = next(iter(by_steps.values())).shape[1]
        if len(track) < 2 or track.shape[1] != number or track.shape[2] != 2:
            raise ValueError(
                f"{name}.by_steps[{n}] must have shape [M, {number}, 2] with M >= 2 (the same particles for every "
                f"key), got {list(track.shape)}"
            )
    if panel.density is not None:
        raw = panel.density
        density = _array(f"{name}.density", raw, 2)[None] if np.ndim(raw) == 2 else _array(f"{name}.density", raw, 3)
        if density.min() < 0:
            raise ValueError(f"{name}.density must be non-negative, got {density.min():.3g}")
    if panel.field is not None:
        field = _array(f"{name}.field", panel.field, 4)
        if field.shape[3] != 2:
            raise ValueError(f"{name}.field must have shape [G, R, C, 2], got {list(field.shape)}")
        field = _arrows(field)
    check_int(f"{name}.trails", panel.trails, minimum=0)
    check_number(f"{name}.dot", panel.dot, 0, open_low=True)
    for what in ("title", "choice"):
        text = getattr(panel, what)
        if not (isinstance(text, str) or (text is None and what == "choice")):
            raise TypeError(f"{name}.{what} must be a string, got {text!r}")
    if panel.color is not None and (not isinstance(panel.color, str) or panel.color not in COLORS):
        raise ValueError(f"{name}.color must be one of {', '.join(COLORS)}, got {panel.color!r}")
    return Panel(particles, by_steps, density, field, panel.title, panel.choice, panel.trails, panel.color, panel.dot)


def _arrows(field: np.ndarray) -> np.ndarray:
    """Arrows of length at most 1: the square root of the speed, relative to its 95th percentile.

    Speeds differ by orders of magnitude over t; drawn in proportion, all but a few arrows would vanish.
    """
    speed = np.linalg.norm(field, axis=-1, keepdims=True)
    length = np.sqrt(speed / max(float(np.quantile(speed, 0.95)), 1e-12)).clip(max=1)
    return field * length / np.maximum(speed, 1e-12)


def _limits(limits, panels: list[Panel]) -> tuple[float, float, float, float]:
    if limits is None:
        points = np.concatenate([a.reshape(-1, 2) for p in panels for a in _tracks(p)])
        low, high = points.min(axis=0), points.max(axis=0)
        # Points on a line or in one place still get a view that can be looked at.
        smallest = max(0.2 * (high - low).max(), 1e-6 * max(1.0, np.abs(points).max()))
        centre, half = (low + high) / 2, 0.55 * np.maximum(high - low, smallest)
        limits = (centre[0] - half[0], centre[0] + half[0], centre[1] - half[1], centre[1] + half[1])
    limits = tuple(_array("limits", limits, 1).tolist())
    if len(limits) != 4 or limits[0] >= limits[1] or limits[2] >= limits[3]:
        raise ValueError(f"limits must be (left, right, bottom, top) with left < right, bottom < top, got {limits}")
    shape = (limits[1] - limits[0]) / (limits[3] - limits[2])
    if not 0.1 <= shape <= 10:
        raise ValueError(f"limits must be at most 10 times as wide as high, or as high as wide, got {limits}")
    return limits


def _tracks(panel: Panel) -> list[np.ndarray]:
    return ([] if panel.particles is None else [panel.particles]) + list(panel.by_steps.values())


def _pack(panel: Panel, limits) -> tuple[dict, list[tuple[dict, np.ndarray]]]:
    """The panel's description and its arrays as integers: 16 bits a coordinate, 8 a shade or an arrow.

    A coordinate is origin + scale * integer. In a view of 400 pixels the rounding error is below 0.1 pixels even if
    particles are as far away as FAR allows.
    """
    size = np.array([limits[1] - limits[0], limits[3] - limits[2]])
    corner = np.array([limits[0], limits[2]])
    nearest, farthest = corner - FAR * size, corner + (1 + FAR) * size
    points = np.concatenate([a.reshape(-1, 2) for a in _tracks(panel)]).clip(nearest, farthest)
    origin = points.min(axis=0)
    scale = np.maximum(points.max(axis=0) - origin, 1e-12) / 65535

    arrays = []

    def entry(array: np.ndarray, **more) -> dict:
        description = {"shape": list(array.shape), **more}
        arrays.append((description, array))
        return description

    def coordinates(track: np.ndarray, **more) -> dict:
        integers = np.rint((track.clip(nearest, farthest) - origin) / scale)
        return entry(integers.clip(0, 65535).astype("<u2"), **more)

    meta = {
        "title": panel.title,
        "choice": panel.choice,
        "trails": panel.trails,
        "color": panel.color and COLORS[panel.color],
        "dot": panel.dot,
        "origin": origin.tolist(),
        "scale": scale.tolist(),
        "by_steps": [coordinates(track, steps=n) for n, track in sorted(panel.by_steps.items())],
        "particles": None if panel.particles is None else coordinates(panel.particles),
    }
    if panel.density is not None:
        # The square root shows thin regions too; each frame has its own scale, as p_t changes by orders of magnitude.
        shade = np.sqrt(panel.density / np.maximum(panel.density.max(axis=(1, 2), keepdims=True), 1e-300))
        meta["density"] = entry(np.rint(255 * shade).astype(np.uint8))
    if panel.field is not None:
        meta["field"] = entry(np.rint(127 * panel.field).astype(np.int8), longest=127)
    return meta, arrays


def _spread(values: list[int], count: int) -> list[int]:
    """At most `count` of the values, spread evenly, with the first and the last."""
    if len(values) <= count:
        return values
    return [values[round(i * (len(values) - 1) / (count - 1))] for i in range(count)]


def _at(track: np.ndarray, times: np.ndarray, t: float) -> np.ndarray:
    """Positions [P, 2] at time t, linear between frames."""
    i = int(np.clip(np.searchsorted(times, t, side="right") - 1, 0, len(times) - 2))
    w = (t - times[i]) / (times[i + 1] - times[i])
    return (1 - w) * track[i] + w * track[i + 1]


def _draw_still(ax, panel: Panel, ts: np.ndarray, t: float, steps: int | None, limits) -> None:
    progress = (t - ts[0]) / (ts[-1] - ts[0])

    def frame(array):
        return array[round(progress * (len(array) - 1))]

    if panel.density is not None:
        ax.imshow(np.sqrt(frame(panel.density)), extent=limits, origin="lower", cmap="Greys", vmin=0, alpha=0.45)
    if panel.field is not None:
        rows, columns = panel.field.shape[1:3]
        x = limits[0] + (np.arange(columns) + 0.5) * (limits[1] - limits[0]) / columns
        y = limits[2] + (np.arange(rows) + 0.5) * (limits[3] - limits[2]) / rows
        u = frame(panel.field)
        ax.quiver(x, y, u[..., 0], u[..., 1], color=COLORS["path"], scale=columns, width=0.006, pivot="mid")
    trail = COLORS["exact"]
    if panel.by_steps:
        track = panel.by_steps[steps]
        times = np.linspace(ts[0], ts[-1], len(track))
        if panel.particles is not None:
            _still_trails(ax, panel.particles, ts, t, panel.trails, COLORS["exact"], 0.6)
            trail = COLORS["model"]
    else:
        track, times = panel.particles, ts
    _still_trails(ax, track, times, t, panel.trails, trail, 0.6)
    here = _at(track, times, t)
    color = COLORS[panel.color] if panel.color else BLEND(progress)
    ax.scatter(here[:, 0], here[:, 1], s=2.5, color=[color], linewidths=0, alpha=0.8)


def _still_trails(ax, track, times, t, trails, color, width) -> None:
    passed = np.concatenate([track[times < t], _at(track, times, t)[None]])
    ax.plot(passed[:, :trails, 0], passed[:, :trails, 1], color=color, linewidth=width, alpha=0.7)
