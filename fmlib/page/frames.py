"""Frames for a player's panels: a density and a field on a grid, at each of several times."""

import torch


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
