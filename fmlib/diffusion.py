"""The samplers and the clocks that diffusion models brought.

The samplers are exponential integrators. A velocity is x_1 and x_0 in disguise (`fmlib.conversions`); along the curve
alpha x_1 + sigma x_0 these two may hardly change where the velocity does, so a step follows the curve. Arguments and
errors as in `fmlib.samplers`; `path` is needed, and the model returns velocities, as ever. The clocks are time grids:
the level of the noise, sigma / alpha, falls evenly in some scale of it.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from fmlib.checks import check_number
from fmlib.grids import Grid, uniform_grid
from fmlib.paths import FlowPath
from fmlib.samplers import integrate


def _ends(v, t, x, path: FlowPath) -> tuple[Tensor, Tensor]:
    """The model's data and noise, x_1 and epsilon, at (t, x)."""
    velocity, c = v(t, x), path.at(t)
    determinant = c.alpha * c.d_sigma - c.d_alpha * c.sigma  # never 0, see fmlib.conversions
    x1 = (c.d_sigma * x - c.sigma * velocity) / determinant
    return x1, (c.alpha * velocity - c.d_alpha * x) / determinant


def ddim_sampler(
    model, x0, steps=50, t_start=0.0, t_end=1.0, return_trajectory=False, *,
    path: FlowPath, grid: Grid = uniform_grid, grad=False, **conditions,
):  # fmt: skip
    """DDIM (Song et al. 2020, arXiv 2010.02502, eq. 12 at eta = 0): x_1 and epsilon are held fixed during a step.

    An exponential integrator of order 1: exact for one data point on every path, where Euler is exact only on a
    straight line. On rectified flow it *is* Euler. 1 model call a step.
    """

    def step(v, t, t_next, x):
        x1, epsilon = _ends(v, t, x, path)
        return path.alpha(t_next) * x1 + path.sigma(t_next) * epsilon

    return integrate(step, model, x0, steps, t_start, t_end, return_trajectory, grid, grad, conditions)


def dpm_solver_sampler(
    model, x0, steps=20, t_start=0.0, t_end=1.0, return_trajectory=False, *,
    path: FlowPath, grid: Grid = uniform_grid, grad=False, **conditions,
):  # fmt: skip
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, algorithm 2): DDIM, with x_1 extrapolated by half a step.

    Its clock is the log signal-to-noise ratio lambda = log(alpha / sigma). With h and h_before the last two steps in
    it, x_1 is taken to be x_1 + h / (2 h_before) (x_1 - x_1 before). Order 2 where lambda is finite, at 1 model call a
    step. The first step, and those that begin or end where lambda is infinite (rectified flow at t = 0 and 1), are
    DDIM's: an infinite step cannot be halved.
    """
    before = []  # x_1 and lambda of the step before

    def step(v, t, t_next, x):
        x1, epsilon = _ends(v, t, x, path)
        snr, snr_next = ((path.alpha(s) / path.sigma(s)).log() for s in (t, t_next))
        alpha, sigma = path.alpha(t_next), path.sigma(t_next)
        end = alpha * x1 + sigma * epsilon
        if before:
            x1_before, snr_before = before.pop()
            weight = (alpha - sigma * path.alpha(t) / path.sigma(t)) * (snr_next - snr) / (2 * (snr - snr_before))
            end = end + weight.nan_to_num(0, 0, 0) * (x1 - x1_before)
        before.append((x1, snr))
        return end

    return integrate(step, model, x0, steps, t_start, t_end, return_trajectory, grid, grad, conditions)


def log_snr_grid(path: FlowPath, sigma_min: float = 0.002, sigma_max: float = 80.0) -> Grid:
    """Even steps of lambda = log(alpha / sigma), the clock of DPM-Solver (Lu et al. 2022, arXiv 2206.00927, section 4).

    lambda is infinite at the ends of most paths: sigma / alpha falls from sigma_max to sigma_min, with t = 0 and t = 1
    put in the place of its ends. Arguments and errors as for `edm_grid`.
    """
    return _noise_grid(path, sigma_min, sigma_max, torch.log, torch.exp)


def edm_grid(path: FlowPath, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Grid:
    """EDM's times: sigma / alpha falls as (a + b s)^rho from sigma_max to sigma_min, with t = 0 and t = 1 at the ends.

    Karras et al. 2022 (arXiv 2206.00364), eq. 5, there for sigma(t) = t. Here the time of each noise level is found
    on the given path, whatever its own schedule is. What the path does not have is left out: VE's own noise goes from
    50 to 0.01, and so does its grid. ValueError if nothing is left.
    """
    rho = check_number("rho", rho, 0, open_low=True)
    return _noise_grid(path, sigma_min, sigma_max, lambda s: s ** (1 / rho), lambda u: u**rho)


def _noise_grid(path: FlowPath, sigma_min: float, sigma_max: float, clock: Callable, back: Callable) -> Grid:
    """Even steps of clock(sigma / alpha) from sigma_max to sigma_min; back is the inverse of clock."""
    sigma_min, sigma_max = check_number("sigma_min", sigma_min), check_number("sigma_max", sigma_max)
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
    levels = torch.tensor([min(sigma_max, most), max(sigma_min, least)], dtype=torch.float64)

    def grid(steps: int) -> Tensor:
        s = uniform_grid(steps)
        first, last = clock(levels)
        ratio = back(first + s * (last - first))
        low, high = torch.zeros_like(s), torch.ones_like(s)
        for _ in range(60):  # bisection: sigma / alpha falls with t on every path
            middle = (low + high) / 2
            noisier = path.sigma(middle) > ratio * path.alpha(middle)
            low, high = torch.where(noisier, middle, low), torch.where(noisier, high, middle)
        times = (low + high) / 2
        times[0], times[-1] = 0.0, 1.0
        return times

    return grid
