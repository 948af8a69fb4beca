"""Time grids: where a sampler puts its steps. A grid is a function steps -> [steps + 1] times from 0 to 1."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fmlib.checks import check_int, check_number

Grid = Callable[[int], Tensor]


def uniform_grid(steps: int) -> Tensor:
    """steps + 1 equally spaced times from 0 to 1."""
    return torch.linspace(0, 1, check_int("steps", steps) + 1, dtype=torch.float64, device="cpu")


def cosine_grid(steps: int) -> Tensor:
    """Times that lie closer together at both ends: (1 - cos(pi s)) / 2."""
    return (1 - torch.cos(math.pi * uniform_grid(steps))) / 2


def shift_grid(shift: float = 3.0) -> Grid:
    """SD3's shifted times, t' = shift t / (1 + (shift - 1) t) in its own time, which runs from data to noise.

    Esser et al. 2024 (arXiv 2403.03206), eq. 23. A shift above 1 spends more steps near the noise (t = 0 here).
    """
    shift = check_number("shift", shift, 0, open_low=True)

    def grid(steps: int) -> Tensor:
        s = 1 - uniform_grid(steps)
        return (1 - shift * s / (1 + (shift - 1) * s)).clamp(0, 1)  # rounding can leave [0, 1] by 2e-16

    return grid


def scheduler_grid(shift: float = 3.0) -> Grid:
    """The times of diffusers' FlowMatchEulerDiscreteScheduler with its defaults, as SD3 is sampled; SD3's shift is 3.

    Its noise levels fall evenly from 1 to that of its thousandth training step, are shifted as in `shift_grid`, and
    then end at 0: so the last step is short. (FLUX's pipeline passes levels of its own: `shift_grid`.)
    """
    shift = check_number("shift", shift, 0, open_low=True)

    def move(s):
        return shift * s / (1 + (shift - 1) * s)

    def grid(steps: int) -> Tensor:
        levels = 1 + (move(1 / 1000) - 1) * torch.linspace(0, 1, check_int("steps", steps), dtype=torch.float64)
        return torch.cat([1 - move(levels), torch.ones(1, dtype=torch.float64)])

    return grid
