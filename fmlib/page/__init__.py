"""What draws: the player, live figures, still pictures and their one style."""

from fmlib.page import plots
from fmlib.page.frames import cell_centres, density_frames, field_frames
from fmlib.page.lab import FlowLab
from fmlib.page.live_figure import LiveFigure
from fmlib.page.panel import Panel
from fmlib.page.player import FlowPlayer
from fmlib.page.plots import COLORS, LiveLoss, bare, cloud, image_grid, panels, show
from fmlib.page.proof import verify

__all__ = [
    "COLORS",
    "FlowLab",
    "FlowPlayer",
    "LiveFigure",
    "LiveLoss",
    "Panel",
    "bare",
    "cell_centres",
    "cloud",
    "density_frames",
    "field_frames",
    "image_grid",
    "panels",
    "plots",
    "show",
    "verify",
]
