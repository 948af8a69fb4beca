"""Samplers: solve dx/dt = v(t, x) from noise at t = 0 to data at t = 1.

The fixed-step solvers differ in one line each, how a step of size dt is taken; `_integrate` is their common loop.
Orders and their derivation: Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, sections II.1-II.3.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fmlib.checks import check_int, check_tensor


def _euler_step(v, t, x, dt):
    return x + dt * v(t, x)


def _midpoint_step(v, t, x, dt):
    return x + dt * v(t + dt / 2, x + dt / 2 * v(t, x))


def _heun_step(v, t, x, dt):
    v1 = v(t, x)
    v2 = v(t + dt, x + dt * v1)
    return x + dt / 2 * (v1 + v2)


def _rk4_step(v, t, x, dt):
    k1 = v(t, x)
    k2 = v(t + dt / 2, x + dt / 2 * k1)
    k3 = v(t + dt / 2, x + dt / 2 * k2)
    k4 = v(t + dt, x + dt * k3)
    return x + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def euler_sampler(model, x0: Tensor, steps=50, t_start=0.0, t_end=1.0, return_trajectory=False) -> Tensor:
    """Euler: global order 1, 1 model call a step. See `rk4_sampler` for the arguments."""
    return _integrate(_euler_step, model, x0, steps, t_start, t_end, return_trajectory)


def midpoint_sampler(model, x0: Tensor, steps=50, t_start=0.0, t_end=1.0, return_trajectory=False) -> Tensor:
    """Explicit midpoint: global order 2, 2 model calls a step. See `rk4_sampler` for the arguments."""
    return _integrate(_midpoint_step, model, x0, steps, t_start, t_end, return_trajectory)


def heun_sampler(model, x0: Tensor, steps=50, t_start=0.0, t_end=1.0, return_trajectory=False) -> Tensor:
    """Heun (explicit trapezoid): global order 2, 2 model calls a step. See `rk4_sampler` for the arguments."""
    return _integrate(_heun_step, model, x0, steps, t_start, t_end, return_trajectory)


def rk4_sampler(model, x0: Tensor, steps=25, t_start=0.0, t_end=1.0, return_trajectory=False) -> Tensor:
    """Classical Runge-Kutta: global order 4, 4 model calls a step.

    model: called as model(t, x), t [B]; it runs without gradients.
    x0: the state at t_start, [B, ...]. For a path whose noise is not N(0, I) (VE) start from `path.sample_prior`.
    steps: a whole number >= 1, on a uniform grid. t_start, t_end: in [0, 1] and different; t_start > t_end runs
    backwards, from data to noise.
    Returns the state at t_end, [B, ...]; with return_trajectory all states, [steps + 1, B, ...].
    Raises ValueError or TypeError that names the argument, or a model whose output has another shape, another
    device or NaN in it at the first step.
    """
    return _integrate(_rk4_step, model, x0, steps, t_start, t_end, return_trajectory)


@torch.no_grad()
def _integrate(step: Callable, model, x0, steps, t_start, t_end, return_trajectory) -> Tensor:
    check_tensor("x0", x0)
    steps = check_int("steps", steps)
    for name, t in (("t_start", t_start), ("t_end", t_end)):
        if not (isinstance(t, (int, float)) and math.isfinite(t) and 0 <= t <= 1):
            raise ValueError(f"{name} must be a number in [0, 1], got {t!r}")
    if t_start == t_end:
        raise ValueError(f"t_start and t_end must differ, got {t_start} for both")

    def v(t, x):
        return model(t.expand(x.shape[0]), x)

    def first_v(t, x):
        return _check_model_output(v(t, x), x)

    ts = torch.linspace(t_start, t_end, steps + 1, dtype=x0.dtype, device=x0.device)
    x = x0.clone()
    states = [x]
    for i in range(steps):
        # Only the first step is checked: looking for NaN waits for the device, which every step would pay.
        x = step(v if i else first_v, ts[i], x, ts[i + 1] - ts[i])
        if return_trajectory:
            states.append(x)
    return torch.stack(states) if return_trajectory else x


def _check_model_output(v, x: Tensor) -> Tensor:
    if not isinstance(v, Tensor):
        raise TypeError(f"model(t, x) must return a torch.Tensor, got {type(v).__name__}")
    if v.shape != x.shape:
        raise ValueError(f"model(t, x) must return the shape of x, {list(x.shape)}, got {list(v.shape)}")
    if v.device != x.device:
        raise ValueError(f"model(t, x) must return a tensor on the device of x, {x.device}, got {v.device}")
    if not bool(torch.isfinite(v).all()):
        raise ValueError("model(t, x) must return finite values, got NaN or infinity at the first step")
    return v
