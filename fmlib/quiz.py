"""The exercises' checkers: they run your function beside the right one, and beside the mistakes that people make.

An exercise asks for one small function. `check(name, function)` calls it with fresh random arguments, so that an
answer that was only fitted to the example is found out. If the values are wrong, they are compared with those of
each known mistake; where one fits, the verdict names it. A mistake counts only if it differs from the right answer.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import torch
from torch import Tensor

from fmlib.paths import FlowPath, vp_cosine_path, vp_linear_path

DRAWS = 4


@dataclass
class Exercise:
    """signature: how the function is called. draw: fresh arguments. right: the answer.

    mistakes: message -> the answer of somebody who makes that mistake, or a list of such answers.
    also_right: other answers that solve the task (a rotation may turn either way).
    """

    signature: str
    draw: Callable[[], tuple]
    right: Callable
    mistakes: dict[str, Callable | list[Callable]]
    also_right: list[Callable] = field(default_factory=list)


@dataclass
class Verdict:
    """state: "empty", "right", "mistake" (recognised), "wrong" (not recognised) or "error"."""

    state: str
    message: str

    def __str__(self) -> str:
        return self.message


def examine(name: str, attempt: Callable) -> Verdict:
    """Judge an attempt at the exercise `name`; see `EXERCISES` for the names."""
    if name not in EXERCISES:
        raise ValueError(f"name must be one of {', '.join(EXERCISES)}, got {name!r}")
    if not callable(attempt):
        raise TypeError(f"attempt must be a function, got {type(attempt).__name__}")
    exercise = EXERCISES[name]
    cases, got = [], []
    for _ in range(DRAWS):
        arguments = exercise.draw()
        try:
            value = attempt(*_copies(arguments))
        except Exception as error:  # whatever the learner's code raises is part of the verdict
            return Verdict("error", f"Your function raised {type(error).__name__}: {error}")
        if value is None:
            return Verdict("empty", "Not attempted yet.")
        expected = exercise.right(*_copies(arguments))
        problem = _form(value, expected)
        if problem:
            return Verdict("error", f"{exercise.signature} should return {_describe(expected)}. {problem}")
        cases.append(arguments)
        got.append(value)

    def fits(answer: Callable) -> list[bool]:
        return [_same(value, answer(*_copies(case))) for case, value in zip(cases, got, strict=True)]

    right = fits(exercise.right)
    if all(right) or any(all(fits(other)) for other in exercise.also_right):
        return Verdict("right", "Correct.")
    for message, wrong in exercise.mistakes.items():
        if any(all(fits(answer)) for answer in (wrong if isinstance(wrong, list) else [wrong])):
            return Verdict("mistake", f"Not yet: {message}")
    if any(right):
        return Verdict("wrong", f"Right for {sum(right)} of {DRAWS} random inputs only: it must hold for all.")
    value, expected = (_flat(v)[0] for v in (got[0], exercise.right(*_copies(cases[0]))))
    return Verdict(
        "wrong", f"Not yet, and not a mistake that I know. First number: expected {expected:.4g}, got {value:.4g}."
    )


def check(name: str, attempt: Callable) -> None:
    """Print the verdict on an attempt, and the time since `start(name)` if the clock runs."""
    verdict = examine(name, attempt)
    spent = ""
    if verdict.state == "right" and name in _started:
        seconds = time.monotonic() - _started.pop(name)
        spent = f" Time: {int(seconds // 60)} min {seconds % 60:.0f} s."
    print(f"{verdict}{spent}")


_started: dict[str, float] = {}


def start(name: str) -> None:
    """Start the clock for an exercise; `check` stops it when the answer is right."""
    if name not in EXERCISES:
        raise ValueError(f"name must be one of {', '.join(EXERCISES)}, got {name!r}")
    _started[name] = time.monotonic()
    print(f"The clock runs. Write {EXERCISES[name].signature}, then run  check({name!r}, your_function).")


def _copies(arguments: tuple) -> tuple:
    """The arguments anew: an attempt that changes its input in place must not change what others see."""
    return tuple(a.clone() if isinstance(a, Tensor) else a for a in arguments)


def _parts(value) -> tuple:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def _describe(value) -> str:
    parts = [
        f"a tensor of shape {list(p.shape)}" if isinstance(p, Tensor) and p.dim() else "a number" for p in _parts(value)
    ]
    return parts[0] if len(parts) == 1 else "a pair: " + ", ".join(parts)


def _form(value, expected) -> str | None:
    """What is wrong with the form of a value, or None."""
    values, wanted = _parts(value), _parts(expected)
    if len(values) != len(wanted):
        return f"Yours returned {len(values)} values."
    for v, w in zip(values, wanted, strict=True):
        shape = list(w.shape) if isinstance(w, Tensor) else []
        try:
            given = list(torch.as_tensor(v).shape)
        except (TypeError, ValueError, RuntimeError):
            return f"Yours returned {type(v).__name__}."
        if given != shape:
            return f"Yours returned the shape {given}."
    return None


def _flat(value) -> Tensor:
    return torch.cat([torch.as_tensor(v, dtype=torch.float64).detach().reshape(-1) for v in _parts(value)])


def _same(value, expected) -> bool:
    """Equal up to rounding, also if the learner worked in single precision."""
    a, b = _flat(value), _flat(expected)
    return len(a) == len(b) and torch.allclose(a, b, rtol=1e-4, atol=1e-5)


# The arguments. Sizes differ from draw to draw, and no number in them is special.


def _sizes() -> tuple[int, int]:
    return int(torch.randint(3, 9, ())), int(torch.randint(2, 5, ()))


def _points(*more: int) -> Tensor:
    return torch.randn(*more, dtype=torch.float64)


def _times(n: int, low: float = 0.15, high: float = 0.85) -> Tensor:
    return low + (high - low) * torch.rand(n, dtype=torch.float64)


def _number(low: float, high: float) -> float:
    return low + (high - low) * torch.rand(()).item()


def _column(t: Tensor) -> Tensor:
    return t.reshape(-1, 1)


def _toy_model() -> Callable:
    """A smooth random field (t, x) -> v that depends on everything it is given."""
    a, b = _number(0.5, 1.5), _number(0.3, 1.0)

    def model(t, x):
        t = torch.as_tensor(t, dtype=x.dtype)
        t = t.reshape(-1, 1) if t.dim() else t
        return torch.sin(a * x + 0.3) * (1 + b * t) + 0.2 * x.flip(-1) + t**2

    return model


def _class_model() -> Callable:
    base = _toy_model()

    def model(t, x, label):
        label = torch.as_tensor(label)
        label = label.reshape(-1, 1) if label.dim() else label
        return base(t, x) + torch.cos(1.7 * label + x)

    return model


def _draw_pair_on_a_path():
    n, d = _sizes()
    path = vp_linear_path() if torch.rand(()) < 0.5 else vp_cosine_path()
    return path, _times(n), _points(n, d), _points(n, d)


def _coefficients(path: FlowPath, t: Tensor) -> SimpleNamespace:
    return SimpleNamespace(
        a=_column(path.alpha(t)), s=_column(path.sigma(t)), da=_column(path.d_alpha(t)), ds=_column(path.d_sigma(t))
    )


# Lesson 01


def _draw_jacobians():
    n, d = _sizes()
    return (_points(n, d, d),)


def _trace(jacobian: Tensor) -> Tensor:
    return jacobian.diagonal(dim1=1, dim2=2).sum(dim=1)


def _turned(x: Tensor) -> Tensor:
    return torch.stack([-x[:, 1], x[:, 0]], dim=1)


# Lesson 02


def _draw_loss():
    n, d = _sizes()
    return _toy_model(), _times(n), _points(n, d), _points(n, d)


def _loss(target=lambda x0, x1, xt: x1 - x0, reduce=lambda e: e.square().sum(1).mean(), when=lambda t: t, place=None):
    def loss(model, t, x0, x1):
        xt = (1 - _column(t)) * x0 + _column(t) * x1
        at = xt if place is None else place(t, x0, x1)
        return reduce(model(when(t), at) - target(x0, x1, xt))

    return loss


def _draw_field():
    n, d = _sizes()
    return _number(0.2, 0.7), _points(n, d), _points(n + 2, d)


def _posterior_field(power=2.0, half=0.5, centre=lambda t: t, weights=torch.softmax):
    def velocity(t, x, data):
        squared = torch.cdist(x, centre(t) * data).square()
        mean = weights(-half * squared / (1 - t) ** power, dim=1) @ data
        return (mean - x) / (1 - t)

    return velocity


# Lesson 03


def _draw_path():
    n, d = _sizes()
    return _times(n), _points(n, d), _points(n, d)


def _cosine_path(alpha=torch.sin, sigma=torch.cos, d_alpha=None, d_sigma=None):
    def path(t, x0, x1):
        angle = math.pi / 2 * _column(t)
        da = math.pi / 2 * torch.cos(angle) if d_alpha is None else d_alpha(angle)
        ds = -math.pi / 2 * torch.sin(angle) if d_sigma is None else d_sigma(angle)
        return alpha(angle) * x1 + sigma(angle) * x0, da * x1 + ds * x0

    return path


def _draw_marginal():
    n, d = _sizes()
    return vp_cosine_path(), _number(0.2, 0.8), _points(d), _number(0.3, 2.0), _points(n, d)


def _marginal(spread):
    def sample(path, t, mean, std, z):
        t = torch.tensor(t, dtype=torch.float64)
        return path.alpha(t) * mean + spread(path.alpha(t), path.sigma(t), std) * z

    return sample


# Lesson 05


def _draw_step():
    n, d = _sizes()
    t = _number(0.1, 0.6)
    return _toy_model(), t, t + _number(0.1, 0.3), _points(n, d)


def _heun(second_time=lambda t, t_next: t_next, second_place=lambda x, e: e, weight=0.5, sign=1.0):
    def step(model, t, t_next, x):
        dt = t_next - t
        v = model(t, x)
        return x + sign * weight * dt * (v + model(second_time(t, t_next), second_place(x, x + dt * v)))

    return step


def _draw_sampler():
    n, d = _sizes()
    return _toy_model(), _points(n, d), int(torch.randint(5, 12, ()))


def _euler(when=lambda i, n: i / n, size=lambda n: 1 / n, count=lambda n: n):
    def sampler(model, x0, steps):
        x = x0
        for i in range(count(steps)):
            x = x + size(steps) * model(when(i, steps), x)
        return x

    return sampler


# Lesson 06


def _eps_to_v(formula):
    def convert(path, t, xt, eps):
        c = _coefficients(path, t)
        return formula(c, (xt - c.s * eps) / c.a, xt, eps)

    return convert


def _x1_to_score(formula):
    def convert(path, t, xt, x1):
        return formula(_coefficients(path, t), xt, x1)

    return convert


def _draw_sde():
    n, d = _sizes()
    return _points(n, d), _points(n, d), _points(n, d), _number(0.3, 1.5), _number(0.01, 0.1), _points(n, d)


# Lesson 07


def _draw_reflow():
    n, d = _sizes()
    return _toy_model(), _points(n, d), int(torch.randint(4, 9, ()))


def _draw_line():
    n, _ = _sizes()
    return _points(n), 0.5 + 2 * _points(n)


# Lesson 08


def _draw_cfg():
    n, d = _sizes()
    return _class_model(), _times(n), _points(n, d), torch.randint(0, 3, (n,)), 3, _number(1.5, 4.0)


def _cfg(formula):
    def guided(model, t, x, label, null, s):
        return formula(model(t, x, label), model(t, x, torch.full_like(label, null)), s)

    return guided


EXERCISES: dict[str, Exercise] = {
    # 01
    "log_density_rate": Exercise(
        "log_density_rate(jacobian)",
        _draw_jacobians,
        lambda j: -_trace(j),
        {
            "the sign is flipped. Where particles spread out (positive divergence), the density falls.": _trace,
            "that is the determinant. The determinant belongs to a finite map; a *rate* needs the trace.": lambda j: (
                -torch.linalg.det(j)
            ),
            "that is the sum of all entries. The divergence is the trace: only du_i / dx_i.": lambda j: -j.sum((1, 2)),
            "that is the mean of the diagonal. The divergence is its sum.": lambda j: -_trace(j) / j.shape[1],
        },
    ),
    "swirl": Exercise(
        "swirl(x, score)",
        lambda: (_points(7, 2), _points(7, 2)),
        lambda x, score: _turned(score),
        {
            "that turns the position x. It is free of divergence, but its flux p J x is not, unless p is round.": [
                lambda x, score: _turned(x),
                lambda x, score: -_turned(x),
            ],
            "that is the score itself, not turned. Its flux is grad p, whose divergence is not zero.": (
                lambda x, score: score
            ),
            "that mirrors the score (swaps the coordinates) instead of turning it: one of the two needs a minus.": (
                lambda x, score: score.flip(1)
            ),
        },
        also_right=[lambda x, score: -_turned(score)],
    ),
    # 02
    "cfm_loss": Exercise(
        "my_loss(model, t, x0, x1)",
        _draw_loss,
        _loss(),
        {
            "that is the mean over the dimensions. The norm squared is a *sum* over them: yours is smaller by 1/d.": (
                _loss(reduce=lambda e: e.square().mean())
            ),
            "the network got x_1 where x_t was meant. It would see clean data at every t.": _loss(
                place=lambda t, x0, x1: x1
            ),
            "the sign of the target is flipped: it points from data to noise.": _loss(
                target=lambda x0, x1, xt: x0 - x1
            ),
            "x_0 and x_1 are swapped in x_t: at t = 0 yours is data.": _loss(
                place=lambda t, x0, x1: _column(t) * x0 + (1 - _column(t)) * x1
            ),
            "the network got 1 - t. Time is reversed.": _loss(when=lambda t: 1 - t),
            "the target is x_1 - x_t. That lacks the factor 1 / (1 - t): the velocity is x_1 - x_0.": _loss(
                target=lambda x0, x1, xt: x1 - xt
            ),
            "the target is x_1. That trains an x_1-prediction, not a velocity.": _loss(target=lambda x0, x1, xt: x1),
            "there is a factor 1/2 too much.": _loss(reduce=lambda e: 0.5 * e.square().sum(1).mean()),
            "the square is missing: that is the mean norm.": _loss(reduce=lambda e: e.norm(dim=1).mean()),
            "that is the sum over the batch. The loss is its mean.": _loss(reduce=lambda e: e.square().sum()),
        },
    ),
    "marginal_field": Exercise(
        "marginal_field(t, x, data)",
        _draw_field,
        _posterior_field(),
        {
            "the weights use the standard deviation 1 - t where its square, the variance, belongs.": _posterior_field(
                power=1.0
            ),
            "the factor 1/2 in the exponent of the Gaussian is missing.": _posterior_field(half=1.0),
            "the Gaussians are centred at x_1. At time t they are centred at t x_1.": _posterior_field(
                centre=lambda t: 1.0
            ),
            "that is the plain mean over the data. Points that could have come here weigh more: use the posterior.": (
                _posterior_field(weights=lambda z, dim: torch.full_like(z, 1 / z.shape[1]))
            ),
            "that is E[x_1 given x_t]. The velocity is (that - x) / (1 - t).": lambda t, x, data: (
                _posterior_field()(t, x, data) * (1 - t) + x
            ),
        },
    ),
    # 03
    "cosine_path": Exercise(
        "cosine_path(t, x0, x1)",
        _draw_path,
        _cosine_path(),
        {
            "time is reversed: yours has data at t = 0.": lambda t, x0, x1: _cosine_path()(1 - t, x0, x1),
            "time is reversed: yours has data at t = 0 (sine and cosine are swapped).": lambda t, x0, x1: (
                _cosine_path()(t, x1, x0)
            ),
            "x_t is right. In u_t the chain rule's factor pi/2 is missing.": _cosine_path(
                d_alpha=torch.cos, d_sigma=lambda a: -torch.sin(a)
            ),
            "x_t is right. In u_t the sign of sigma' is wrong: the noise fades, so sigma' < 0.": _cosine_path(
                d_sigma=lambda a: math.pi / 2 * torch.sin(a)
            ),
            "x_t is right. u_t is that of the straight line, x_1 - x_0.": _cosine_path(
                d_alpha=lambda a: 1.0, d_sigma=lambda a: -1.0
            ),
        },
    ),
    "marginal_sample": Exercise(
        "marginal_sample(path, t, mean, std, z)",
        _draw_marginal,
        _marginal(lambda a, s, std: (a**2 * std**2 + s**2).sqrt()),
        {
            "the variance was used as a standard deviation: a square root is missing.": _marginal(
                lambda a, s, std: a**2 * std**2 + s**2
            ),
            "standard deviations do not add. Variances do.": _marginal(lambda a, s, std: a * std + s),
            "the data's own width is missing: yours is the path of a single point.": _marginal(lambda a, s, std: s),
            "the data's width is not scaled by alpha.": _marginal(lambda a, s, std: (std**2 + s**2).sqrt()),
        },
    ),
    # 04
    "ema": Exercise(
        "ema(average, weight, decay)",
        lambda: (_points(5), _points(5), _number(0.7, 0.99)),
        lambda average, weight, decay: decay * average + (1 - decay) * weight,
        {
            "the two are swapped: with decay near 1 yours follows the new weight at once.": lambda a, w, d: (
                d * w + (1 - d) * a
            ),
            "the weights do not add up to 1.": lambda a, w, d: d * a + w,
            "that ignores the decay: it is the plain mean of the two.": lambda a, w, d: (a + w) / 2,
        },
    ),
    "logit_normal": Exercise(
        "logit_normal(z, m, s)",
        lambda: (_points(6), _number(0.3, 1.0), _number(0.5, 2.0)),
        lambda z, m, s: torch.sigmoid(m + s * z),
        {
            "the sigmoid is missing: t leaves (0, 1).": lambda z, m, s: m + s * z,
            "the sign of m is flipped. That is SD3's time, where data is at t = 0.": lambda z, m, s: torch.sigmoid(
                -m + s * z
            ),
            "s multiplies m too. m is the centre: m + s z.": lambda z, m, s: torch.sigmoid(s * (m + z)),
            "s was used as a variance. It is the standard deviation of the logit.": lambda z, m, s: torch.sigmoid(
                m + s**0.5 * z
            ),
        },
    ),
    # 05
    "heun": Exercise(
        "heun_step(model, t, t_next, x)",
        _draw_step,
        _heun(),
        {
            "that is an Euler step: one call, at the start.": lambda model, t, t_next, x: (
                x + (t_next - t) * model(t, x)
            ),
            "the second slope is taken at t. It belongs to t_next.": _heun(second_time=lambda t, t_next: t),
            "the second slope is taken at x. It belongs to the Euler step's end.": _heun(second_place=lambda x, e: x),
            "the factor 1/2 is missing: that goes twice as far.": _heun(weight=1.0),
            "the step goes backwards: the sign of dt is flipped.": _heun(sign=-1.0),
            "that is the midpoint method. It is of second order too, but Heun averages the slopes at both ends.": (
                lambda model, t, t_next, x: (
                    x + (t_next - t) * model((t + t_next) / 2, x + (t_next - t) / 2 * model(t, x))
                )
            ),
        },
    ),
    "euler_sampler": Exercise(
        "my_sampler(model, x0, steps)",
        _draw_sampler,
        _euler(),
        {
            "time is reversed: yours starts at t = 1.": _euler(when=lambda i, n: 1 - i / n),
            "time is reversed: yours calls the model at 1 - t, and steps backwards.": _euler(
                when=lambda i, n: 1 - i / n, size=lambda n: -1 / n
            ),
            "each slope is taken at the *end* time of its step. Euler uses the start.": _euler(
                when=lambda i, n: (i + 1) / n
            ),
            "one step is missing: linspace(0, 1, steps) has steps - 1 gaps.": _euler(
                when=lambda i, n: i / (n - 1), size=lambda n: 1 / (n - 1), count=lambda n: n - 1
            ),
            "the times are those of linspace(0, 1, steps), whose gaps are not 1 / steps.": _euler(
                when=lambda i, n: i / (n - 1)
            ),
            "the step size is missing or 1: dt = 1 / steps.": _euler(size=lambda n: 1.0),
        },
    ),
    # 06
    "eps_to_v": Exercise(
        "eps_to_v(path, t, xt, eps)",
        _draw_pair_on_a_path,
        _eps_to_v(lambda c, x1, xt, eps: c.da * x1 + c.ds * eps),
        {
            "that is diffusion's v, alpha eps - sigma x_1. The velocity uses the derivatives of both.": _eps_to_v(
                lambda c, x1, xt, eps: c.a * eps - c.s * x1
            ),
            "that is x_1 - eps: right for the straight line only.": _eps_to_v(lambda c, x1, xt, eps: x1 - eps),
            "alpha and sigma are used without their derivatives: that gives back x_t.": _eps_to_v(
                lambda c, x1, xt, eps: c.a * x1 + c.s * eps
            ),
            "x_t was used where x_1 = (x_t - sigma eps) / alpha belongs.": _eps_to_v(
                lambda c, x1, xt, eps: c.da * xt + c.ds * eps
            ),
            "the sign is flipped: that is the velocity of reversed time.": _eps_to_v(
                lambda c, x1, xt, eps: -(c.da * x1 + c.ds * eps)
            ),
            "x_1 was not divided by alpha.": _eps_to_v(lambda c, x1, xt, eps: c.da * (xt - c.s * eps) + c.ds * eps),
        },
    ),
    "x1_to_score": Exercise(
        "x1_to_score(path, t, xt, x1)",
        _draw_pair_on_a_path,
        _x1_to_score(lambda c, xt, x1: (c.a * x1 - xt) / c.s**2),
        {
            "the sign is flipped: the score points towards the data.": _x1_to_score(
                lambda c, xt, x1: (xt - c.a * x1) / c.s**2
            ),
            "divided by sigma: that is minus the noise. The score has sigma squared.": _x1_to_score(
                lambda c, xt, x1: (c.a * x1 - xt) / c.s
            ),
            "the factor alpha at x_1 is missing: p(x_t given x_1) is centred at alpha x_1.": _x1_to_score(
                lambda c, xt, x1: (x1 - xt) / c.s**2
            ),
            "a factor 1/2 too much.": _x1_to_score(lambda c, xt, x1: 0.5 * (c.a * x1 - xt) / c.s**2),
        },
    ),
    "sde_step": Exercise(
        "sde_step(x, v, score, g, dt, z)",
        _draw_sde,
        lambda x, v, score, g, dt, z: x + (v + 0.5 * g**2 * score) * dt + g * dt**0.5 * z,
        {
            "noise without its correction: add g^2/2 times the score to the drift, else p_t spreads.": (
                lambda x, v, score, g, dt, z: x + v * dt + g * dt**0.5 * z
            ),
            "the factor 1/2 at g^2 score is missing. (Without it, it is the reverse-time drift f - g^2 s.)": (
                lambda x, v, score, g, dt, z: x + (v + g**2 * score) * dt + g * dt**0.5 * z
            ),
            "the noise has dt where sqrt(dt) belongs: it would vanish for small steps.": (
                lambda x, v, score, g, dt, z: x + (v + 0.5 * g**2 * score) * dt + g * dt * z
            ),
            "the sign of the correction is flipped.": lambda x, v, score, g, dt, z: (
                x + (v - 0.5 * g**2 * score) * dt + g * dt**0.5 * z
            ),
            "g is missing at z (or used twice elsewhere): the noise is g sqrt(dt) z.": lambda x, v, score, g, dt, z: (
                x + (v + 0.5 * g**2 * score) * dt + dt**0.5 * z
            ),
            "the noise is added twice: its standard deviation is g sqrt(dt), once.": lambda x, v, score, g, dt, z: (
                x + (v + 0.5 * g**2 * score) * dt + 2 * g * dt**0.5 * z
            ),
            "g^2 multiplies z. The noise has standard deviation g sqrt(dt).": lambda x, v, score, g, dt, z: (
                x + (v + 0.5 * g**2 * score) * dt + g**2 * dt**0.5 * z
            ),
        },
    ),
    # 07
    "reflow": Exercise(
        "my_reflow(model, x0, steps)",
        _draw_reflow,
        lambda model, x0, steps: (x0, _euler()(model, x0, steps)),
        {
            "the pair is swapped: noise comes first, (x_0, x_1).": lambda model, x0, steps: (
                _euler()(model, x0, steps),
                x0,
            ),
            "that is one big step: the ends of the *flow* are needed, with `steps` steps.": lambda model, x0, steps: (
                x0,
                x0 + model(0.0, x0),
            ),
            "the pairing is broken: row i of x_1 must come from row i of x_0.": lambda model, x0, steps: (
                x0,
                _euler()(model, x0, steps).flip(0),
            ),
            "time is reversed: the flow runs from t = 0 to t = 1.": lambda model, x0, steps: (
                x0,
                _euler(when=lambda i, n: 1 - i / n)(model, x0, steps),
            ),
            "both are the end. Keep x_0 as it was (did you change it in place?).": lambda model, x0, steps: (
                _euler()(model, x0, steps),
                _euler()(model, x0, steps),
            ),
        },
    ),
    "w2_line": Exercise(
        "w2(a, b)",
        _draw_line,
        lambda a, b: (a.sort().values - b.sort().values).square().mean().sqrt(),
        {
            "that is W2 squared. The distance is its root (POT's `ot.emd2` gives the square too).": lambda a, b: (
                (a.sort().values - b.sort().values).square().mean()
            ),
            "the points are paired as they come. On a line the best pairing is by rank: sort both.": lambda a, b: (
                (a - b).square().mean().sqrt()
            ),
            "that is W1: the mean distance, without squares.": lambda a, b: (
                (a.sort().values - b.sort().values).abs().mean()
            ),
            "the sum instead of the mean: it grows with the number of points.": lambda a, b: (
                (a.sort().values - b.sort().values).square().sum().sqrt()
            ),
            "one of the two is sorted the other way round: that is the worst pairing.": lambda a, b: (
                (a.sort().values - b.sort(descending=True).values).square().mean().sqrt()
            ),
        },
    ),
    # 08
    "cfg": Exercise(
        "my_cfg(model, t, x, label, null, s)",
        _draw_cfg,
        _cfg(lambda c, none, s: none + s * (c - none)),
        {
            "that is Ho & Salimans' formula with w = s. Here s = 1 + w: s = 1 must give the conditional field.": _cfg(
                lambda c, none, s: c + s * (c - none)
            ),
            "class and no class are swapped.": _cfg(lambda c, none, s: c + s * (none - c)),
            "that scales the conditional field. Guidance scales the *difference* to the unconditional one.": _cfg(
                lambda c, none, s: s * c
            ),
            "the sign of the difference is flipped: that pushes away from the class.": _cfg(
                lambda c, none, s: none - s * (c - none)
            ),
            "that is the conditional field alone: s has no effect.": _cfg(lambda c, none, s: c),
            "the unconditional field is missing at the front: v_none + s (v_c - v_none).": _cfg(
                lambda c, none, s: s * (c - none)
            ),
        },
    ),
    "cfg_std": Exercise(
        "cfg_std(S, q, s)",
        lambda: (_number(0.8, 1.5), _number(0.3, 0.7), _number(1.5, 4.0)),
        lambda S, q, s: S ** (1 - s) * q**s,
        {
            "that is the tilted density's width. CFG does not sample it: integrate d/dt log std.": lambda S, q, s: (
                (s / q**2 + (1 - s) / S**2) ** -0.5
            ),
            "the two are swapped: s = 1 must give the class's width q.": lambda S, q, s: q ** (1 - s) * S**s,
            "the widths are mixed linearly. Their *logarithms* are mixed: d/dt log std.": lambda S, q, s: (
                (1 - s) * S + s * q
            ),
            "the variance was returned: take the root.": lambda S, q, s: (S ** (1 - s) * q**s) ** 2,
        },
    ),
}
