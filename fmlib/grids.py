"""Time grids: where a sampler puts its steps. A grid is a function steps -> [steps + 1] times from 0 to 1."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fmlib.checks import check_int, check_number
from fmlib.paths import FlowPath

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


def edm_grid(path: FlowPath, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Grid:
    """EDM's times: sigma / alpha falls as (a + b s)^rho from sigma_max to sigma_min, with t = 0 and t = 1 at the ends.

    Karras et al. 2022 (arXiv 2206.00364), eq. 5, there for sigma(t) = t. Here the time of each noise level is found
    on the given path, whatever its own schedule is. What the path does not have is left out: VE's own noise goes from
    50 to 0.01, and so does its grid. ValueError if nothing is left.
    """
    sigma_min, sigma_max = check_number("sigma_min", sigma_min), check_number("sigma_max", sigma_max)
    rho = check_number("rho", rho, 0, open_low=True)
    if not 0 < sigma_min < sigma_max:
        raise ValueError(
            f"sigma_min and sigma_max must satisfy 0 < sigma_min < sigma_max, got {sigma_min}, {sigma_max}"
        )
    ends = uniform_grid(1)
    most, least = (path.sigma(ends) / path.alpha(ends)).tolist()
    if not max(sigma_min, least) < min(sigma_max, most):
        raise ValueError(
            f"sigma_min and sigma_max must overlap with the path {path.name}, whose sigma / alpha falls from {most:g} "
            f"to {least:g}, got {sigma_min} and {sigma_max}"
        )
    sigma_min, sigma_max = max(sigma_min, least), min(sigma_max, most)

    def grid(steps: int) -> Tensor:
        s = uniform_grid(steps)
        ratio = (sigma_max ** (1 / rho) + s * (sigma_min ** (1 / rho) - sigma_max ** (1 / rho))) ** rho
        low, high = torch.zeros_like(s), torch.ones_like(s)
        for _ in range(60):  # bisection: sigma / alpha falls with t on every path
            middle = (low + high) / 2
            noisier = path.sigma(middle) > ratio * path.alpha(middle)
            low, high = torch.where(noisier, middle, low), torch.where(noisier, high, middle)
        times = (low + high) / 2
        times[0], times[-1] = 0.0, 1.0
        return times

    return grid
