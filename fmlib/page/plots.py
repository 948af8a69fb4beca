"""Everything that draws still pictures: one palette with fixed roles, one way to show a figure.

Figures are stored as PNG with a palette (tens of kilobytes), at twice the shown size for high-density screens, on
an opaque white card so that they read the same on a light and on a dark page, and with alt text.
"""

import io
import math

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image, display
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from PIL import Image as PillowImage
from torch import Tensor

from fmlib.checks import check_int
from fmlib.training import History

# Okabe & Ito's colour-blind-safe palette. A colour means the same thing in every lesson.
COLORS = {
    "noise": "#0072B2",  # blue: x_0
    "data": "#E69F00",  # orange: x_1
    "path": "#999999",  # grey: x_t, between the two
    "model": "#009E73",  # green: what a network learned
    "exact": "#000000",  # black: closed forms
    "wrong": "#D55E00",  # vermilion: the wrong twin
    "other": "#CC79A7",  # purple: a second variant
    "third": "#56B4E9",  # sky blue: a third variant
}
WIDTH = 8.0  # inches of a full-width figure; an inch is shown as 100 pixels


def use_style() -> None:
    """Set the lessons' matplotlib style. Call it once, in a lesson's first code cell."""
    plt.rcParams.update(
        {
            "figure.dpi": 100,
            "figure.constrained_layout.use": True,
            "figure.facecolor": "white",
            "axes.facecolor": "white",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 11,
            "axes.labelsize": 10,
            "font.size": 10,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
        }
    )


def png(fig: Figure, dpi: int = 200) -> bytes:
    """The figure as PNG bytes: so many pixels an inch, reduced to a palette of 128 colours."""
    fig.set_dpi(dpi)
    picture = pixels(fig)
    buffer = io.BytesIO()
    picture.quantize(128, dither=PillowImage.Dither.NONE).save(buffer, "png", optimize=True)
    return buffer.getvalue()


def pixels(fig: Figure) -> PillowImage.Image:
    """The figure, drawn at its own resolution. It need not belong to pyplot any more."""
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    return PillowImage.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def show(fig: Figure, alt: str) -> None:
    """Display a figure in the notebook and close it. alt: what it shows, in words, for those who do not see it."""
    display(_image(fig, alt))
    plt.close(fig)


def panels(columns: int, height: float, width: float = WIDTH, **kwargs) -> tuple[Figure, np.ndarray]:
    """A row of panels, and its axes as an array (also for one column). Sizes in inches."""
    fig, axes = plt.subplots(1, columns, figsize=(width, height), squeeze=False, **kwargs)
    return fig, axes[0]


def cloud(ax: Axes, x: Tensor, role: str, size: float = 3, alpha: float = 0.5, **kwargs):
    """Scatter points x [N, 2] in the colour of their role, on equal axes. Returns matplotlib's collection."""
    x = x.detach().cpu().numpy()
    ax.set_aspect("equal")
    return ax.scatter(x[:, 0], x[:, 1], s=size, alpha=alpha, color=COLORS[role], linewidths=0, **kwargs)


def bare(ax: Axes, limits: tuple[float, float, float, float] | None = None) -> None:
    """Hide ticks and frame of a panel whose coordinates carry no unit; limits = (left, right, bottom, top)."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
    if limits is not None:
        ax.set_xlim(*limits[:2])
        ax.set_ylim(*limits[2:])


def plain_log(axis: Axis, ticks: list[float]) -> None:
    """Label a logarithmic axis at these values, written as plain numbers."""
    axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_minor_formatter(NullFormatter())


def image_grid(ax: Axes, x: Tensor, columns: int = 10, side: int = 8) -> None:
    """Draw vectors x [N, side * side] in [-1, 1] as one sheet of small grey images, dark ink on white."""
    rows = math.ceil(len(x) / columns)
    sheet = np.full((rows * (side + 1) + 1, columns * (side + 1) + 1), -1.0)
    for i, image in enumerate(x.detach().cpu().reshape(-1, side, side).numpy()):
        top, left = (i // columns) * (side + 1) + 1, (i % columns) * (side + 1) + 1
        sheet[top : top + side, left : left + side] = image
    ax.imshow(sheet, cmap="gray_r", vmin=-1, vmax=1, interpolation="nearest")
    bare(ax)


def smoothed(values, window: int) -> np.ndarray:
    """Means of consecutive windows: a noisy curve at a readable resolution."""
    values = np.asarray(values, dtype=float)
    whole = len(values) // window * window
    return values[:whole].reshape(-1, window).mean(axis=1)


class LiveLoss(History):
    """A callback for `train_flow_matching`: a `History` that also draws the loss while the training runs.

    total_steps: the length of the x axis. floor: the loss of a perfect model, drawn as a line; None leaves it out.
    every: steps between two redraws, each point being the mean of `window` steps.
    """

    def __init__(self, total_steps: int, alt: str, floor: float | None = None, snapshot_at=(), every=200, window=20):
        super().__init__(snapshot_at)
        if not alt.strip():
            raise ValueError("alt must describe the figure in words, got an empty string")
        self.alt, self.total_steps = alt, check_int("total_steps", total_steps)
        self.every, self.window = check_int("every", every), check_int("window", window)
        self.fig, (ax,) = panels(1, 2.6)
        (self.line,) = ax.plot([], [], color=COLORS["model"])
        self.ax = ax
        ax.set(xlim=(0, total_steps), xlabel="step", ylabel=f"CFM loss (mean of {window})")
        if floor is not None:
            ax.axhline(floor, color=COLORS["exact"], linewidth=1.2)
            ax.text(total_steps, floor, "a perfect model ", ha="right", va="bottom", color=COLORS["exact"])
        self.handle = None

    def __call__(self, step, loss, model, ema_model) -> None:
        super().__call__(step, loss, model, ema_model)
        if len(self.losses) >= self.window and (step % self.every == 0 or step == self.total_steps):
            means = smoothed(self.losses, self.window)
            self.line.set_data((np.arange(len(means)) + 0.5) * self.window, means)
            self.ax.set_ylim(0, 1.1 * means.max())
            picture = _image(self.fig, self.alt)
            if self.handle is None:
                self.handle = display(picture, display_id=True)
            else:
                self.handle.update(picture)
        if step == self.total_steps:
            plt.close(self.fig)


def _image(fig: Figure, alt: str) -> Image:
    if not alt.strip():
        raise ValueError("alt must describe the figure in words, got an empty string")
    return Image(data=png(fig), format="png", width=int(fig.get_figwidth() * 100), alt=alt)
