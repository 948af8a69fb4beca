"""Samplers: solve dx/dt = v(t, x) from noise at t = 0 to data at t = 1.

The solvers differ in one line each, how a step from t to t_next is taken; `integrate` is their common loop.
Orders and their derivation: Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, sections II.1-II.3.

All take (model, x0, steps, t_start, t_end, return_trajectory) and, as keywords, a time grid, grad and conditions:

model:  called as model(t, x, **conditions), t [B], always with the whole batch. Its floating-point output is cast to
        the dtype of the state, so that it may run under `torch.autocast`.
x0:     the state at t_start, [B, ...]. For a path whose noise is not N(0, I) (VE) start from `path.sample_prior`.
        A state in half precision is kept in single between the steps; the model gets t and x in the dtype of x0.
steps:  a whole number >= 1. t_start, t_end: in [0, 1] and different; t_start > t_end runs backwards, to the noise.
grid:   a function steps -> [steps + 1] times from 0 to 1, stretched over the interval between t_start and t_end;
        `uniform_grid` by default. A run backwards meets the times of the run forwards, in reverse.
grad:   False solves without gradients; True keeps the graph of every model call, for gradients with respect to x0,
        conditions or weights.
Every other keyword is a condition, for each call of the model: tensors with B rows, or what else the model takes.
They return the state at t_end, [B, ...]; with return_trajectory all states, [steps + 1, B, ...].
They raise ValueError or TypeError that names the argument, or a model whose output has another shape, another device
or NaN in it at the first step.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torchdiffeq import odeint

from fmlib.checks import (
    at_least_single,
    check_finite,
    check_int,
    check_number,
    check_tensor,
    check_velocity,
    has_double,
)
from fmlib.grids import Grid, uniform_grid
from fmlib.paths import FlowPath


class CountCalls:
    """A model that counts its calls: `nfe`, the number of function evaluations."""

    def __init__(self, model):
        self.model, self.nfe = model, 0

    @property
    def num_classes(self) -> int | None:
        return getattr(self.model, "num_classes", None)

    def __call__(self, t: Tensor, x: Tensor, *label, **conditions) -> Tensor:
        self.nfe += 1
        return self.model(t, x, *label, **conditions)


def _sampler(step: Callable, steps: int) -> Callable[..., Tensor]:
    """The sampler whose formula is step(v, t, t_next, x) -> x at t_next, with the call that all samplers share."""

    def sampler(
        model, x0, steps=steps, t_start=0.0, t_end=1.0, return_trajectory=False, *,
        grid=uniform_grid, grad=False, **conditions,
    ):  # fmt: skip
        return integrate(step, model, x0, steps, t_start, t_end, return_trajectory, grid, grad, conditions)

    sampler.__name__ = sampler.__qualname__ = step.__name__.removesuffix("_step").removeprefix("_") + "_sampler"
    sampler.__doc__ = step.__doc__
    return sampler


# The formulas. The ends of a step are passed as they are on the grid: t + (t_next - t) can miss t_next by a rounding
# error, and leave [0, 1].


def _euler_step(v, t, t_next, x):
    """Euler: global order 1, 1 model call a step."""
    return x + (t_next - t) * v(t, x)


def _midpoint_step(v, t, t_next, x):
    """Explicit midpoint: global order 2, 2 model calls a step."""
    dt = t_next - t
    return x + dt * v(t + dt / 2, x + dt / 2 * v(t, x))


def _heun_step(v, t, t_next, x):
    """Heun (explicit trapezoid): global order 2, 2 model calls a step."""
    v1, dt = v(t, x), t_next - t
    return x + dt / 2 * (v1 + v(t_next, x + dt * v1))


def _rk4_step(v, t, t_next, x):
    """Classical Runge-Kutta: global order 4, 4 model calls a step."""
    dt = t_next - t
    k1 = v(t, x)
    k2 = v(t + dt / 2, x + dt / 2 * k1)
    k3 = v(t + dt / 2, x + dt / 2 * k2)
    k4 = v(t_next, x + dt * k3)
    return x + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


euler_sampler = _sampler(_euler_step, steps=50)
midpoint_sampler = _sampler(_midpoint_step, steps=50)
heun_sampler = _sampler(_heun_step, steps=50)
rk4_sampler = _sampler(_rk4_step, steps=25)


def sde_sampler(
    model, x0, steps=250, t_start=0.0, t_end=1.0, return_trajectory=False, *,
    path: FlowPath, noise: float = 1.0, generator=None, grid=uniform_grid, grad=False, **conditions,
):  # fmt: skip
    """Euler-Maruyama for a family of SDEs with the densities of the ODE: noise = 0 is Euler, 1 the path's own SDE.

    dx = [v + (noise g^2 / 2) score] dt + sqrt(noise) g dW. For any g the densities are the same p_t. Here
    g^2 = 2 (alpha' sigma^2 / alpha - sigma sigma') is the diffusion that has this path (Song et al. 2021, arXiv
    2011.13456). With the score taken from v, the drift's correction is simply noise (v - alpha' x / alpha).

    Where alpha = 0 (rectified flow and VP-cosine at t = 0) g is infinite: that step is taken without noise. Only
    forward, t_start < t_end. 1 model call a step; order 1 in distribution. noise >= 0.
    """
    noise = check_number("noise", noise, 0)
    if t_start > t_end:
        raise ValueError(f"t_start must be below t_end for an SDE, got {t_start} and {t_end}")

    def step(v, t, t_next, x):
        dt, velocity, c = t_next - t, v(t, x), path.at(t)
        # Selected on the device, so that the loop never waits for it.
        amount = torch.where(c.alpha > 0, noise * torch.ones_like(c.alpha), torch.zeros_like(c.alpha))
        rate = c.d_alpha / torch.where(c.alpha > 0, c.alpha, torch.ones_like(c.alpha))
        g_squared = 2 * (rate * c.sigma**2 - c.half_d_sigma_sq)
        drift = velocity + amount * (velocity - rate * x)
        dw = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        return x + dt * drift + (amount * g_squared * dt).clamp_min(0).sqrt() * dw

    return integrate(step, model, x0, steps, t_start, t_end, return_trajectory, grid, grad, conditions)


def dopri5_sampler(
    model, x0, steps=None, t_start=0.0, t_end=1.0, return_trajectory=False, *,
    rtol: float = 1e-5, atol: float = 1e-5, grad=False, **conditions,
) -> Tensor:  # fmt: skip
    """Adaptive Dormand-Prince 5(4), from torchdiffeq. It controls its error; the number of model calls follows.

    steps: None, or the number of equal parts at whose ends return_trajectory reports; it does not change the accuracy.
    rtol, atol: relative and absolute tolerance of a step, measured over the whole batch.
    """
    _check_start(x0)
    parts = 1 if steps is None else check_int("steps", steps)
    _check_ends(t_start, t_end)
    check_number("rtol", rtol, 0, open_low=True), check_number("atol", atol, 0, open_low=True)
    dtype = at_least_single(x0)
    ts = torch.linspace(t_start, t_end, parts + 1, dtype=dtype, device=x0.device)
    v = _Field(model, x0, conditions)
    # torchdiffeq steps past the end and interpolates; `step_t` makes a step end there. The clamp is for rounding only:
    # a model is not defined outside [0, 1]. The clock is in double precision where the device has it.
    options = {"step_t": ts[-1:], "dtype": torch.float64 if has_double(x0.device) else torch.float32}
    with torch.set_grad_enabled(grad):
        v.checked(ts[0], x0.to(dtype))
        states = odeint(
            lambda t, x: v(t.clamp(0, 1), x), x0.to(dtype), ts, rtol=rtol, atol=atol, method="dopri5", options=options
        ).to(x0.dtype)
    return states if return_trajectory else states[-1]


def log_likelihood(
    model, x1: Tensor, steps: int = 100, *, path: FlowPath, probes: int | None = None, generator=None, **conditions
) -> Tensor:
    """log p_1(x1) in nats, shape [B], of the flow of `model`: x1 [B, ...] is carried back to t = 0 by RK4.

    log p_1(x_1) = log p_0(x_0) - integral of div v dt (Chen et al. 2018, arXiv 1806.07366, Theorem 1), with
    p_0 = N(0, prior_std^2 I). probes: None for the exact divergence (d derivatives a call); a number for the mean of
    as many Hutchinson estimates with random signs, drawn once (Grathwohl et al. 2019, arXiv 1810.01367).
    conditions: for each call of the model, as for the samplers. The model must be differentiable in x, and each row of
    its output depend on the same row of x alone. Works under `torch.no_grad` and `torch.inference_mode` too.
    """
    check_tensor("x1", x1)
    shape, d, dtype = x1.shape, x1[0].numel(), at_least_single(x1)
    if probes is None:  # unit vectors: each picks one diagonal entry of the Jacobian
        directions, share = torch.eye(d, dtype=dtype, device=x1.device).reshape(d, 1, *shape[1:]), 1
    else:  # Hutchinson's random signs: each gives the trace on average
        share = check_int("probes", probes)
        directions = torch.randint(0, 2, (share, *shape), generator=generator, device=x1.device) * 2 - 1

    def augmented(t, state):
        with torch.enable_grad():
            x = state[:, :d].reshape(shape).requires_grad_()
            velocity = v(t[0], x)
            if not velocity.requires_grad:
                raise ValueError("model(t, x) must be differentiable in x, got an output without a gradient")
            dots = [(velocity * e).sum() for e in directions]
            rows = [torch.autograd.grad(dot, x, retain_graph=True, materialize_grads=True)[0] for dot in dots]
            divergence = sum((row * e).flatten(1).sum(1) for row, e in zip(rows, directions, strict=True)) / share
        return torch.cat([velocity.detach().reshape(-1, d), divergence.detach()[:, None]], dim=1)

    with torch.inference_mode(False):  # what was made under inference_mode has no gradient, but its copy has
        x1, directions = _without_inference(x1), _without_inference(directions)
        conditions = {k: _without_inference(c) for k, c in conditions.items()}
        v = _Field(model, x1, conditions)
        start = x1.detach().to(dtype).reshape(-1, d)
        start = torch.cat([start, start.new_zeros(len(x1), 1)], dim=1)
        end = rk4_sampler(augmented, start, steps=steps, t_start=1.0, t_end=0.0)
        x0, integral = end[:, :d], -end[:, d]  # integrated from 1 to 0: the sign turns
        std = path.prior_std
        log_p0 = -0.5 * (x0 / std).square().sum(dim=1) - d * math.log(std * math.sqrt(2 * math.pi))
        return (log_p0 - integral).to(x1.dtype)


def _without_inference(value):
    return value.clone() if isinstance(value, Tensor) and value.is_inference() else value


def _check_start(x0) -> None:
    check_finite("x0", check_tensor("x0", x0))


def _check_ends(t_start, t_end) -> None:
    for name, t in (("t_start", t_start), ("t_end", t_end)):
        check_number(name, t, 0, 1)
    if t_start == t_end:
        raise ValueError(f"t_start and t_end must differ, got {t_start} for both")


def _times(grid: Grid, steps: int, t_start: float, t_end: float, like: Tensor) -> Tensor:
    """The times of a run, in the dtype and on the device of `like`, computed in double precision on the CPU."""
    s = grid(steps)
    s = torch.as_tensor(s.detach().cpu() if isinstance(s, Tensor) else s, dtype=torch.float64, device="cpu")
    if s.shape != (steps + 1,) or s[0] != 0 or s[-1] != 1 or not bool((s.diff() > 0).all()):
        raise ValueError(f"grid(steps) must be {steps + 1} increasing times from 0 to 1, got {s.tolist()[:8]}")
    low, high = min(t_start, t_end), max(t_start, t_end)
    ts = low + (high - low) * s
    return (ts if t_start < t_end else ts.flip(0)).to(like.dtype).to(like.device)


class _Field:
    """v(t, x) for a time t [] and a state x [B, ...] in at least single precision, from model(t [B], x, **conditions),
    which gets both in the dtype of x0."""

    def __init__(self, model, x0: Tensor, conditions: dict):
        self.model, self.dtype, self.conditions = model, x0.dtype, conditions

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        return check_velocity(self.model(t.to(self.dtype).expand(x.shape[0]), x.to(self.dtype), **self.conditions), x)

    def checked(self, t: Tensor, x: Tensor) -> Tensor:
        """The same, for the first step: refuses a model that gives NaN or changes its x."""
        with torch.inference_mode(False):  # tensors made under inference_mode do not count their changes
            x = x.clone()
        version, velocity = x._version, self(t, x)
        if x._version != version:
            raise ValueError("model(t, x) must not change x in place")
        if not bool(torch.isfinite(velocity).all()):
            raise ValueError("model(t, x) must return finite values, got NaN or infinity at the first step")
        return velocity


def integrate(
    step: Callable, model, x0, steps, t_start, t_end, return_trajectory, grid, grad=False, conditions=None
) -> Tensor:
    _check_start(x0)
    steps = check_int("steps", steps)
    _check_ends(t_start, t_end)
    v = _Field(model, x0, conditions or {})
    with torch.set_grad_enabled(grad):
        x = x0.to(at_least_single(x0), copy=True)
        ts = _times(grid, steps, t_start, t_end, x)
        states = [x]
        for i in range(steps):
            # Only the first step is checked: looking for NaN waits for the device, which every step would pay.
            x = step(v if i else v.checked, ts[i], ts[i + 1], x)
            if return_trajectory:
                states.append(x)
        return (torch.stack(states) if return_trajectory else x).to(x0.dtype)
