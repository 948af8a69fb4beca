"""The still picture of a player, for paper and for pages where nothing runs."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from fmlib.page import plots
from fmlib.page.panel import Panel
from fmlib.page.plots import COLORS

BLEND = LinearSegmentedColormap.from_list("time", [COLORS["noise"], "#4D4D4D", COLORS["data"]])


def draw_still(panels: list[Panel], ts, limits, label: str, step_values: list[int], steps_label: str) -> Figure:
    """A row for each panel; five times across or, where there is a second slider, up to five of its values."""
    over_steps = bool(step_values)
    columns = _spread(step_values, 5) if over_steps else np.linspace(ts[0], ts[-1], 5)
    left, right, bottom, top = limits
    width = plots.WIDTH / len(columns)
    height = width * (top - bottom) / (right - left)
    several = len(panels) > 1
    fig, axes = plt.subplots(
        len(panels),
        len(columns),
        figsize=(plots.WIDTH, len(panels) * (height + 0.25 * several) + 0.35),
        squeeze=False,
    )
    for row, panel in zip(axes, panels, strict=True):
        for ax, column in zip(row, columns, strict=True):
            t = ts[-1] if over_steps else column
            _draw_panel(ax, panel, ts, t, column if over_steps else None, limits)
            plots.bare(ax, limits)
            ax.set_aspect("equal")
        name = " · ".join(n for n in (panel.choice, panel.title) if n)
        if several and name:
            row[0].text(0, 1.02, name, transform=row[0].transAxes, fontsize=9, fontweight="bold", va="bottom")
    for ax, column in zip(axes[0], columns, strict=True):
        text = f"{steps_label} {column}" if over_steps else f"{label} = {column:.3g}"
        ax.set_title(text, fontsize=9, pad=16 if several else 4)
    return fig


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


def _draw_panel(ax, panel: Panel, ts: np.ndarray, t: float, steps: int | None, limits) -> None:
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
            _trails(ax, panel.particles, ts, t, panel.trails, COLORS["exact"], 0.6)
            trail = COLORS["model"]
    else:
        track, times = panel.particles, ts
    _trails(ax, track, times, t, panel.trails, trail, 0.6)
    here = _at(track, times, t)
    color = COLORS[panel.color] if panel.color else BLEND(progress)
    ax.scatter(here[:, 0], here[:, 1], s=2.5, color=[color], linewidths=0, alpha=0.8)


def _trails(ax, track, times, t, trails, color, width) -> None:
    passed = np.concatenate([track[times < t], _at(track, times, t)[None]])
    ax.plot(passed[:, :trails, 0], passed[:, :trails, 1], color=color, linewidth=width, alpha=0.7)
