"""The checkers: each accepts other styles of a right answer, names each known mistake, and is not fooled."""

import functools
import itertools
import math
import re
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fmlib import Pairs, guided, vp_cosine_path
from fmlib.study.quiz import (
    _EULER_MISTAKES,
    EXERCISES,
    Exercise,
    _apart,
    _each,
    _fits,
    _read,
    _Trial,
    check,
    examine,
    start,
)


def answer(name, how):
    """A mistake as a learner's function."""
    return functools.partial(EXERCISES[name].right, **how) if isinstance(how, dict) else how


MISTAKES = [(name, message, answer(name, how)) for name in EXERCISES for message, how in _each(EXERCISES[name])]


@pytest.mark.parametrize("name", EXERCISES)
def test_the_answer_is_right_and_nothing_is_nothing(name):
    assert examine(name, EXERCISES[name].right).state == "right"
    for nothing in (None, ...):
        verdict = examine(name, lambda *arguments, nothing=nothing: nothing)
        assert (verdict.state, verdict.message) == ("empty", "Not attempted yet.")


@pytest.mark.parametrize("name, message, wrong", MISTAKES, ids=[f"{n}-{m[:30]}" for n, m, _ in MISTAKES])
def test_each_mistake_is_named(name, message, wrong):
    verdict = examine(name, wrong)
    assert (verdict.state, verdict.message) == ("mistake", f"Not yet: {message}")


# Right answers as a candidate may write them


def styles(*functions):
    return list(functions)


def lerp_loss(model, t, x0, x1):
    xt = torch.lerp(x0, x1, t.unsqueeze(-1))
    return F.mse_loss(model(t, xt), x1 - x0, reduction="sum") / len(t)


def loop_loss(model, t, x0, x1):
    total = 0.0
    for i in range(len(t)):
        xt = x0[i] + t[i] * (x1[i] - x0[i])
        total = total + sum((model(t[i], xt[None])[0] - x1[i] + x0[i]) ** 2)
    return total / len(t)


def rest_loss(model, t, x0, x1):
    """(x_1 - x_t) / (1 - t) is x_1 - x_0 on the line."""
    s = t.view(-1, *[1] * (x0.dim() - 1))
    xt = (1 - s) * x0 + s * x1
    return torch.linalg.norm(model(t[:, None], xt) - (x1 - xt) / (1 - s), dim=-1).pow(2).mean().reshape(1)


def jvp_loss(model, t, x0, x1):
    s = t[:, None]
    xt, ut = torch.autograd.functional.jvp(lambda s: (1 - s) * x0 + s * x1, s, torch.ones_like(s))
    return torch.einsum("bd,bd->", model(t=t, x=xt) - ut, model(t=t, x=xt) - ut) / t.numel()


def vmap_loss(model, t, x0, x1):
    def one(t, x0, x1):
        return (model(t, (1 - t) * x0 + t * x1) - x1 + x0).square().sum()

    return torch.vmap(one)(t, x0, x1).mean().item()


def loop_field(t, x, data):
    rows = []
    for point in x:
        density = torch.tensor([math.exp(-float((point - t * d).square().sum()) / (2 * (1 - t) ** 2)) for d in data])
        rows.append(sum(p / density.sum() * (d - point) / (1 - t) for p, d in zip(density, data, strict=True)))
    return torch.stack(rows)


def normal_field(t, x, data):
    log = torch.distributions.Normal(t * data, 1 - t).log_prob(x[:, None]).sum(-1)
    weight = torch.exp(log - log.logsumexp(1, keepdim=True))
    return torch.einsum("bn,nd->bd", weight, data) / (1 - t) - x / (1 - t)


def single_field(t, x, data):
    t, x, data = torch.tensor(t), x.float(), data.float()
    squared = (x**2).sum(1, keepdim=True) - 2 * t * x @ data.T + t**2 * (data**2).sum(1)
    return (F.softmax(-squared / (2 * (1 - t) ** 2), dim=-1) @ data - x) / (1 - t)


def numpy_field(t, x, data):
    x, data = x.numpy(), data.numpy()
    w = np.exp(-((x[:, None] - t * data) ** 2).sum(-1) / (2 * (1 - t) ** 2))
    return (w @ data / w.sum(1, keepdims=True) - x) / (1 - t)


def tangent_path(t, x0, x1):
    def path(s):
        return torch.sin(torch.pi / 2 * s) * x1 + torch.cos(torch.pi / 2 * s) * x0

    s = t[:, None]
    return torch.autograd.functional.jvp(path, s, torch.ones_like(s))


def other_cosine(t, x0, x1):
    t = t.unsqueeze(1)
    xt = (1 - torch.sin(t * torch.pi / 2) ** 2).sqrt() * x0 + torch.sin(t * torch.pi / 2) * x1
    ut = torch.pi / 2 * (torch.cos(t * torch.pi / 2) * x1 - torch.cos(torch.pi / 2 * (1 - t)) * x0)
    return [xt, ut]


class Sample(NamedTuple):
    xt: object
    ut: object


def numpy_cosine(t, x0, x1):
    a = np.pi / 2 * t.numpy()[:, None]
    x0, x1 = x0.numpy(), x1.numpy()
    return Sample(np.sin(a) * x1 + np.cos(a) * x0, np.pi / 2 * (np.cos(a) * x1 - np.sin(a) * x0))


def tensors(path, t):
    return path.alpha(torch.tensor(t)), path.sigma(torch.tensor(t))


def hypot_sample(path, t, mean, std, z):
    a, s = tensors(path, t)
    return a * mean + torch.hypot(a * std, s) * z


def own_noise(path, t, mean, std, z):
    a, s = tensors(path, t)
    return a * (mean + std * torch.randn_like(z)) + s * z


def covariance_sample(path, t, mean, std, z):
    a, s = tensors(path, t)
    covariance = (a**2 * std**2 + s**2) * torch.eye(len(mean))
    return a * mean + z @ torch.linalg.cholesky(covariance).double().T


def minus_sample(path, t, mean, std, z):
    a, s = path.alpha(torch.full_like(z[:, :1], t)), path.sigma(torch.full_like(z[:, :1], t))
    return a * mean - ((a * std) ** 2 + s.square()) ** 0.5 * z


def other_euler(model, x0, steps):
    ts = torch.linspace(0, 1, steps + 1, dtype=x0.dtype)
    x = x0.clone()
    for t, dt in zip(ts, ts.diff(), strict=False):
        x += dt * model(t, x)
    return x


def batch_euler(model, x0, steps):
    x = x0
    for t in np.linspace(0, 1, steps, endpoint=False):
        x = x + model(torch.full((len(x),), t, dtype=x.dtype), x) / steps
    return x


def clock_euler(model, x0, steps):
    x, t, dt = x0.float(), 0.0, 1 / steps
    while t < 1 - dt / 2:
        x, t = x + dt * model(t, x), t + dt
    return x


def recursive_euler(model, x0, steps, i=0):
    return x0 if i == steps else recursive_euler(model, x0 + model(i / steps, x0) / steps, steps, i + 1)


def list_heun(f, t, u, x):
    k = f(t, x)
    return (0.5 * (x + (x + (u - t) * k) + (u - t) * f(u, x + (u - t) * k))).tolist()


def averaged_heun(f, t, u, x):
    end = x + (u - t) * f(t, x)
    return x + (u - t) * torch.stack([f(t, x), f(u, end)]).mean(0)


def tensor_heun(f, t, u, x):
    t, u = torch.tensor(t), torch.tensor(u)
    v = f(t.expand(len(x)), x)
    return torch.add(x, 0.5 * (u - t) * (v + f(u.expand(len(x)), x + (u - t) * v)))


def columns(path, t):
    return [f(t)[:, None] for f in (path.alpha, path.sigma, path.d_alpha, path.d_sigma)]


def drift_v(path, t, xt, eps):
    """v = f x - g^2 / (2 sigma) eps' of the SDE: f = alpha' / alpha, g^2 = 2 (f sigma^2 - sigma' sigma)."""
    a, s, da, ds = columns(path, t)
    f = da / a
    return f * xt - (f * s**2 - ds * s) * eps / s


def loop_v(path, t, xt, eps):
    rows = []
    for i in range(len(t)):
        x1 = (xt[i] - path.sigma(t[i]) * eps[i]) / path.alpha(t[i])
        rows.append(path.d_alpha(t[i]) * x1 + path.d_sigma(t[i]) * eps[i])
    return rows


def target_v(path, t, xt, eps):
    a, s, *_ = columns(path, t)
    return path.target_ut(t, eps, (xt - s * eps) / a)


def autograd_score(path, t, xt, x1):
    a, s, *_ = columns(path, t)
    xt = xt.requires_grad_()
    log = torch.distributions.Normal(a * x1, s).log_prob(xt).sum()
    return torch.autograd.grad(log, xt)[0]


def noise_score(path, t, xt, x1):
    a, s, *_ = columns(path, t)
    return -(xt - a * x1) / s / s


def transposed_score(path, t, xt, x1):
    return ((path.alpha(t) * x1.T - xt.T) / path.sigma(t).square()).T


def loop_sde(x, v, s, g, dt, z):
    rows = [x[i] + v[i] * dt + s[i] * g * g * dt / 2 + math.sqrt(g * g * dt) * z[i] for i in range(len(x))]
    return torch.stack(rows)


def in_place_sde(x, v, score, g, dt, z):
    x += (v + score * g**2 / 2) * dt
    return x.sub_(g * np.sqrt(dt) * z)


def assigned_w2(a, b):
    from scipy.optimize import linear_sum_assignment

    cost = (a[:, None] - b[None]).square().numpy()
    return np.sqrt(cost[linear_sum_assignment(cost)].mean())


def batched_cfg(f, t, x, c, n, s):
    both = f(torch.cat([t, t]), torch.cat([x, x]), torch.cat([torch.full_like(c, n), c]))
    none, some = both.chunk(2)
    return torch.lerp(none, some, s)


TURN = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)

STYLES = {
    "log_density_rate": styles(
        lambda j: torch.tensor([-sum(m[i, i] for i in range(len(m))) for m in j]),
        lambda j: -torch.einsum("bii->b", j),
        lambda j: -torch.vmap(torch.trace)(j),
        lambda j: [-torch.trace(m) for m in j],
        lambda j: -np.trace(j.numpy(), axis1=1, axis2=2),
        lambda j: -(j * torch.eye(j.shape[-1])).sum((-2, -1)),
        lambda j: -torch.linalg.eigvals(j).sum(1),
        lambda j: tuple(-float(m.diag().sum()) for m in j),
    ),
    "swirl": styles(
        lambda x, s: s @ TURN,
        lambda x, s: 2 * s @ TURN.T,
        lambda x, s: 0.5 * torch.stack((s[:, 1], -s[:, 0]), -1),
        lambda x, s: -3 * torch.cat([-s[:, 1:], s[:, :1]], dim=1).float(),
        lambda x, s: np.pi * np.stack([-s[:, 1], s[:, 0]], axis=1),
        lambda x, s: [[-float(b), float(a)] for a, b in s],
        lambda x, s: 7 * s.flip(1) * torch.tensor([1, -1]),
        # grad of g p, turned, over p, for g = |x|^2 / 2 and g = sin x_1 x_2
        lambda x, s: s @ TURN.T * x.square().sum(1, keepdim=True) / 2 + x @ TURN.T,
        lambda x, s: (
            s @ TURN.T * torch.sin(x.prod(1, keepdim=True)) + torch.cos(x.prod(1, keepdim=True)) * x.flip(1) @ TURN.T
        ),
    ),
    "cfm_loss": styles(loop_loss, lerp_loss, rest_loss, jvp_loss, vmap_loss),
    "marginal_field": styles(loop_field, normal_field, single_field, numpy_field),
    "cosine_path": styles(
        other_cosine,
        tangent_path,
        numpy_cosine,
        lambda t, x0, x1: (vp_cosine_path().sample_xt(t, x0, x1), vp_cosine_path().target_ut(t, x0, x1)),
        lambda t, x0, x1: torch.stack(other_cosine(t, x0, x1)),
    ),
    "marginal_sample": styles(hypot_sample, covariance_sample, minus_sample, own_noise),
    "ema": styles(
        lambda a, w, d: torch.lerp(w, a, d),
        lambda a, w, d: a.add_((1 - d) * (w - a)),
        lambda a, w, d: [d * x + (1 - d) * y for x, y in zip(a, w, strict=True)],
        lambda a, w, d: np.average([a.numpy(), w.numpy()], axis=0, weights=[d, 1 - d]),
        lambda a, w, d: w - d * (w - a),
    ),
    "logit_normal": styles(
        lambda z, m, s: 1 / (1 + torch.exp(-m - s * z)),
        lambda z, m, s: 1 - torch.sigmoid(-(m + s * z)),
        lambda z, m, s: torch.sigmoid(m - s * z),
        lambda z, m, s: (1 + torch.tanh((m + s * z) / 2)) / 2,
        lambda z, m, s: [1 / (1 + math.exp(-m - s * v)) for v in z.tolist()],
        lambda z, m, s: torch.distributions.SigmoidTransform()(torch.tensor(m) + torch.tensor(s) * z.float()),
    ),
    "heun": styles(
        lambda f, t, u, x: x + (u - t) / 2 * f(t, x) + (u - t) / 2 * f(u, x + (u - t) * f(t, x)),
        list_heun,
        averaged_heun,
        tensor_heun,
    ),
    "euler_sampler": styles(other_euler, batch_euler, clock_euler, recursive_euler),
    "eps_to_v": styles(
        lambda p, t, x, e: (
            (p.d_alpha(t) / p.alpha(t))[:, None] * x
            + (p.d_sigma(t) - p.sigma(t) * p.d_alpha(t) / p.alpha(t))[:, None] * e
        ),
        drift_v,
        loop_v,
        target_v,
    ),
    "x1_to_score": styles(
        lambda p, t, x, x1: -((x - p.alpha(t)[:, None] * x1) / p.sigma(t)[:, None]) / p.sigma(t)[:, None],
        autograd_score,
        noise_score,
        transposed_score,
    ),
    "sde_step": styles(
        loop_sde,
        in_place_sde,
        lambda x, v, s, g, dt, z: x + dt * v + 0.5 * dt * g**2 * s + torch.randn(()) * 0 - (g**2 * dt) ** 0.5 * z,
        lambda x, v, s, g, dt, z: torch.normal(x + dt * (v + g * g / 2 * s), 0 * x) + g * torch.tensor(dt).sqrt() * z,
    ),
    "reflow": styles(
        lambda model, x0, steps: Pairs(x0, other_euler(model, x0, steps)),
        lambda model, x0, steps: [x0.numpy(), batch_euler(model, x0, steps).numpy()],
        lambda model, x0, steps: torch.stack([x0, recursive_euler(model, x0, steps)]),
        lambda model, x0, steps: (x0.float(), clock_euler(model, x0, steps).requires_grad_()),
    ),
    "w2_line": styles(
        lambda a, b: math.sqrt(
            sum((x - y) ** 2 for x, y in zip(sorted(a.tolist()), sorted(b.tolist()), strict=True)) / len(a)
        ),
        assigned_w2,
        lambda a, b: torch.linalg.norm(a.sort()[0] - b.sort()[0], dim=0, keepdim=True) / len(a) ** 0.5,
        lambda a, b: np.sqrt(np.mean((np.sort(a) - np.sort(b)) ** 2)),
        lambda a, b: F.mse_loss(a.msort(), b.msort()).pow(0.5),
    ),
    "cfg": styles(
        lambda f, t, x, c, n, s: (1 - s) * f(t, x, torch.full_like(c, n)) + s * f(t, x, c),
        lambda f, t, x, c, n, s: f(t, x, c) + (s - 1) * (f(t, x, c) - f(t, x, n)),
        batched_cfg,
        lambda f, t, x, c, n, s: guided(f, c, s, null_label=n)(t, x),
        lambda f, t, x, c, n, s: f(t, x, n * torch.ones_like(c)).numpy() * (1 - s) + s * f(t, x, c).numpy(),
    ),
    "cfg_std": styles(
        lambda S, q, s: math.exp((1 - s) * math.log(S) + s * math.log(q)),
        lambda S, q, s: S * (q / S) ** s,
        lambda S, q, s: np.float32(q) ** s / np.float32(S) ** (s - 1),
        lambda S, q, s: torch.lerp(torch.tensor(S).log(), torch.tensor(q).log(), s).exp(),
        lambda S, q, s: torch.tensor([S ** (1 - s) * q**s], requires_grad=True),
    ),
}
ALL_STYLES = [(name, k) for name, functions in STYLES.items() for k in range(len(functions))]


def test_every_exercise_has_four_styles_of_right_answers():
    assert STYLES.keys() == EXERCISES.keys()
    assert min(map(len, STYLES.values())) >= 4


@pytest.mark.parametrize("name, k", ALL_STYLES)
def test_another_style_is_accepted(name, k):
    for _ in range(2):
        verdict = examine(name, STYLES[name][k])
        assert verdict.state == "right", verdict.message


def returned(name, change):
    """The right answer, each returned value changed."""

    def attempt(*arguments):
        value = EXERCISES[name].right(*arguments)
        return tuple(map(change, value)) if isinstance(value, tuple) else change(value)

    return attempt


FORMS = {
    "float32": lambda v: torch.as_tensor(v).float(),
    "numpy": lambda v: torch.as_tensor(v).numpy(),
    "list": lambda v: torch.as_tensor(v).tolist(),
    "list of tensors with a gradient": lambda v: (
        [w.requires_grad_() for w in torch.as_tensor(v)] if torch.as_tensor(v).dim() else v
    ),
    "requires_grad": lambda v: torch.as_tensor(v).requires_grad_(),
    "one number in a list": lambda v: v if torch.as_tensor(v).dim() else [torch.as_tensor(v)],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", EXERCISES)
def test_the_form_of_the_numbers_does_not_matter(name, form):
    verdict = examine(name, returned(name, FORMS[form]))
    assert verdict.state == "right", verdict.message


@pytest.mark.parametrize(
    "name", ["log_density_rate", "cfm_loss", "cosine_path", "marginal_sample", "reflow", "cfg_std"]
)
def test_half_precision_is_told(name):
    verdict = examine(name, returned(name, lambda v: (torch.as_tensor(v) * 1.003).half()))
    assert verdict.state == "wrong" and "half precision has 3 digits" in verdict.message, verdict.message


def test_bfloat16_inside_is_told():
    verdict = examine("heun", lambda f, t, u, x: EXERCISES["heun"].right(f, t, u, x.bfloat16()))
    assert "half precision has 3 digits" in verdict.message


@pytest.mark.slow
@pytest.mark.parametrize("name", EXERCISES)
def test_no_right_answer_is_refused_over_200_seeds(name):
    for seed in range(200):
        torch.manual_seed(seed)
        k = seed % len(STYLES[name])
        assert examine(name, STYLES[name][k]).state == "right", (seed, k)


def false_accusations(exercise, seeds):
    """Mistakes that the right answer makes, or that an earlier message takes, in one draw of each seed."""
    found = set()
    for seed in range(seeds):
        torch.manual_seed(seed)
        trials = []
        for _ in range(2):
            arguments = exercise.draw()
            right = _read(exercise.right(*arguments), exercise)
            trials.append(_Trial(dict(zip(exercise.arguments, arguments, strict=True)), right, right))
        found |= {message for message, how in _each(exercise) if _fits(exercise, how, trials)}
    return found


@pytest.mark.parametrize("name", EXERCISES)
def test_no_mistake_is_the_right_answer(name):
    assert false_accusations(EXERCISES[name], 4) == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", EXERCISES)
def test_no_mistake_is_the_right_answer_over_200_seeds(name):
    assert false_accusations(EXERCISES[name], 200) == set()


def test_a_mistake_that_is_none_is_found():
    ema = EXERCISES["ema"]
    spoilt = Exercise(ema.signature, ema.draw, ema.right, {"none": lambda a, w, d: w + d * (a - w)})
    assert false_accusations(spoilt, 2) == {"none"}


# Mistakes as a candidate writes them, apart from the checker's own keywords


def heun_without_x(model, t, t_next, x):
    dt = t_next - t
    v1 = model(t, x)
    return dt * (v1 + model(t_next, x + dt * v1)) / 2


def one_step_more(model, x0, steps):
    x = x0
    for t in torch.linspace(0, 1, steps + 1):
        x = x + model(t, x) / steps
    return x


def marginal_with(weights):
    return lambda t, x, data: (weights(torch.cdist(x, t * data), t) @ data - x) / (1 - t)


def cosine_with(angle, rate):
    def path(t, x0, x1):
        a = angle * t[:, None]
        return a.sin() * x1 + a.cos() * x0, rate * (a.cos() * x1 - a.sin() * x0)

    return path


def sample_with(width):
    def sample(path, t, mean, std, z):
        a, s = tensors(path, t)
        return a * mean + width(a, s, std) * z

    return sample


def step_with(drift, noise):
    return lambda x, v, score, g, dt, z: x + drift(v, score, g, dt) + noise(g, dt) * z


FIELD_TEST = [  # the candidates' answers that were told nothing useful
    ("cosine_path", cosine_with(math.pi, math.pi), "the angle is pi t"),
    ("cosine_path", cosine_with(math.pi, math.pi / 2), "the angle is pi t"),
    ("cosine_path", cosine_with(math.pi / 2, math.pi), "the factor is pi; the chain rule gives pi/2"),
    ("marginal_field", marginal_with(lambda r, t: torch.softmax(-(r**2) / (2 * (1 - t) ** 2), 0)), "softmax runs over"),
    ("marginal_field", marginal_with(lambda r, t: torch.softmax(-(r**2) / (2 * t**2), 1)), "the variance t^2"),
    ("log_density_rate", lambda j: -torch.linalg.slogdet(j)[1], "log |det|"),
    ("log_density_rate", lambda j: torch.slogdet(j).logabsdet, "two things at once. First, the sign is flipped."),
    ("marginal_sample", sample_with(lambda a, s, std: (a * std**2 + s).sqrt()), "all squared"),
    ("marginal_sample", sample_with(lambda a, s, std: (a * std**2 + s**2).sqrt()), "all squared"),
    ("marginal_sample", sample_with(lambda a, s, std: -((a**2 * std**2 + s).sqrt())), "all squared"),
    ("logit_normal", lambda z, m, s: torch.sigmoid((z - m) / s), "(z - m) / s"),
    ("logit_normal", lambda z, m, s: torch.sigmoid(-(m + s * z)), "SD3"),
    ("eps_to_v", lambda path, t, xt, eps: (xt - eps) / t[:, None], "(x_t - eps) / t: right for the straight line"),
    ("x1_to_score", lambda path, t, xt, x1: (x1 - xt) / (1 - t[:, None]), "(x_1 - x_t) / (1 - t), the straight line's"),
    (
        "eps_to_v",
        lambda path, t, xt, eps: ((xt - columns(path, t)[1] * eps) / columns(path, t)[0] - xt) / (1 - t[:, None]),
        "(x_1 - x_t) / (1 - t): right for the straight line",
    ),
    ("sde_step", step_with(lambda v, s, g, dt: (v + g * s) * dt, lambda g, dt: g * dt**0.5), "g where g^2 belongs"),
    ("sde_step", step_with(lambda v, s, g, dt: (v + g / 2 * s) * dt, lambda g, dt: g * dt**0.5), "g where g^2 belongs"),
    ("sde_step", step_with(lambda v, s, g, dt: (v + g**2 / 2 * s) * dt, lambda g, dt: g), "the noise has no dt"),
    ("sde_step", step_with(lambda v, s, g, dt: (v + g**2 / 2 * s) * dt, lambda g, dt: -g), "the noise has no dt"),
    ("sde_step", step_with(lambda v, s, g, dt: v * dt + g**2 / 2 * s, lambda g, dt: g * dt**0.5), "has no dt"),
    (
        "cfg",
        lambda f, t, x, c, n, s: (1 - s) * f(t, x, torch.zeros_like(c)) + s * f(t, x, c),
        "class 0 was used",
    ),
    ("cfg_std", lambda S, q, s: q * (q / S) ** s, "q (q / S)^s"),
    ("heun", heun_without_x, '"x +" is missing'),
    ("euler_sampler", one_step_more, "one step too many: linspace(0, 1, steps + 1)"),
    (
        "reflow",
        lambda model, x0, steps: (x0, one_step_more(model, x0, steps)),
        "x_0 is right; x_1 is not: one step too",
    ),
]


@pytest.mark.parametrize("name, attempt, words", FIELD_TEST)
def test_the_mistakes_of_the_field_test_are_named(name, attempt, words):
    verdict = examine(name, attempt)
    assert verdict.state == "mistake" and words in verdict.message, verdict.message


def test_on_the_line_x1_minus_xt_over_the_time_left_is_right():
    """The same quotient is a mistake on another path, and without the division."""
    assert examine("cfm_loss", rest_loss).state == "right"
    assert (
        "lacks the factor 1 / (1 - t)"
        in examine("cfm_loss", answer("cfm_loss", dict(target=lambda x0, x1, xt: x1 - xt))).message
    )


def test_two_mistakes_at_once():
    def both(model, t, x0, x1):
        xt = t[:, None] * x0 + (1 - t[:, None]) * x1
        return F.mse_loss(model(t, xt), x1 - x0)

    message = examine("cfm_loss", both).message
    assert "First, that is the mean over the dimensions." in message and "Second, x_0 and x_1 are swapped" in message


# Wrong answers that nobody foresaw


def right(name, *arguments):
    return EXERCISES[name].right(*arguments)


def column_shift(v):
    v = v.clone()
    v[:, -1] += 1.0
    return v


def last_row(v):
    v = v.clone()
    v[-1] = v[-1] * 1.5 + 2
    return v


def late(t, v):
    return torch.where(t[:, None] > 0.5, v + torch.linspace(1, 2, v.shape[1]), v)


TOLD = [
    (
        "ema",
        lambda a, w, d: a + 0.3,
        r"differs\. The largest difference is at \[\d\] for average \[5\], weight \[5\], decay",
    ),
    ("ema", lambda a, w, d: 2 * right("ema", a, w, d), r"Yours is 2 times the right value everywhere"),
    ("ema", lambda a, w, d: -right("ema", a, w, d), r"the wrong sign everywhere"),
    ("ema", lambda a, w, d: 0 * a, r"is zero everywhere"),
    ("ema", lambda a, w, d: right("ema", a, w, d) - 0.25, r"is smaller by 0\.25 everywhere"),
    ("ema", lambda a, w, d: right("ema", a, w, d) + 0.125, r"is larger by 0\.125 everywhere"),
    ("ema", lambda a, w, d: 3 * right("ema", a, w, d) - 1, r"is 3 times the right value minus 1 everywhere"),
    ("ema", lambda a, w, d: right("ema", a, w, d) * d, r"is decay times the right value"),
    ("ema", lambda a, w, d: right("ema", a, w, d) + 2 * w, r"is the right value plus 2 times weight"),
    ("ema", lambda a, w, d: right("ema", a, w, d) - a, r"is the right value minus average|step only"),
    ("ema", lambda a, w, d: right("ema", a, w, d) / 0, r"nan or infinite in 5 of 5 numbers for average"),
    ("ema", lambda a, w, d: torch.log(right("ema", a, w, d)), r"nan or infinite in \d of 5 numbers"),
    ("ema", lambda a, w, d: right("ema", a, w, d).abs(), r"some signs are wrong"),
    ("ema", lambda a, w, d: right("ema", a, w, d).flip(0), r"right rows in the wrong order"),
    ("ema", lambda a, w, d: last_row(right("ema", a, w, d)), r"wrong in the last row only"),
    ("cfm_loss", lambda m, t, a, b: right("cfm_loss", m, t, a, b) * 1.7, r"The loss is 1\.7 times the right value"),
    ("cfm_loss", lambda m, t, a, b: right("cfm_loss", m, t, a, b) * len(a) ** 2, r"is \(the number of rows\)\^2 times"),
    ("cosine_path", lambda t, a, b: (right("cosine_path", t, a, b)[0], 2 * a), r"x_t is right\. u_t differs"),
    (
        "cosine_path",
        lambda t, a, b: (right("cosine_path", t, a, b)[0] * 3, right("cosine_path", t, a, b)[1]),
        r"know\. x_t is 3 times the right value everywhere\. u_t is right",
    ),
    (
        "cosine_path",
        lambda t, a, b: (right("cosine_path", t, a, b)[0], right("cosine_path", t, a, b)[1] * math.pi),
        r"x_t is right\. u_t is pi times the right value",
    ),
    (
        "cosine_path",
        lambda t, a, b: (right("cosine_path", t, a, b)[0], late(t, right("cosine_path", t, a, b)[1])),
        r"u_t is wrong where t is above about 0\.[45]",
    ),
    (
        "reflow",
        lambda m, x, n: (x, right("reflow", m, x, n)[1] * 1.3),
        r"x_0 is right\. x_1 is 1\.3 times the right value everywhere",
    ),
    ("reflow", lambda m, x, n: (x + 1, right("reflow", m, x, n)[1]), r"x_0 is larger by 1 everywhere\. x_1 is right"),
    ("eps_to_v", lambda p, *a: right("eps_to_v", p, *a) * p.sigma(a[0])[:, None], r"is sigma times the right value"),
    ("eps_to_v", lambda p, *a: right("eps_to_v", p, *a) / (1 - a[0][:, None]), r"is 1/\(1 - t\) times the right value"),
    ("heun", lambda f, t, u, x: right("heun", f, t, u, x) * (u - t), r"is t_next - t times the right value"),
    ("heun", lambda f, t, u, x: right("heun", f, t, u, x) + x, r"is the right value plus x, everywhere"),
    (
        "heun",
        lambda f, t, u, x: x + 0.3 * (right("heun", f, t, u, x) - x),
        r"in what is added to x: that is 0\.3 times",
    ),
    ("sde_step", lambda x, *a: x + a[2] * (right("sde_step", x, *a) - x), r"in what is added to x: that is g times"),
    ("heun", lambda f, t, u, x: column_shift(right("heun", f, t, u, x)), r"is wrong in the columns \[\d\]"),
    ("heun", lambda f, t, u, x: right("heun", f, t, u, x).flip(1), r"right columns in the wrong order"),
    ("swirl", lambda x, s: s.norm(dim=1)[:, None] * right("swirl", x, s), r"factor changes from row to row"),
    ("cfg_std", lambda S, q, s: right("cfg_std", S, q, s) * s, r"The width is s times the right value"),
    ("cfg_std", lambda S, q, s: right("cfg_std", S, q, s) * (1 + 0.001 * s), r"is right up to 0\.\d+ % only"),
    ("cfg_std", lambda S, q, s: ((1 - s) * S**2 + s * q**2 - 99) ** 0.5, r"nan or infinite in 1 of 1 numbers for S = "),
    ("w2_line", lambda a, b: right("w2_line", a, b) * 2, r"The distance is 2 times"),
]


@pytest.mark.parametrize("name, attempt, words", TOLD, ids=[f"{n}-{w[:30]}" for n, _, w in TOLD])
def test_an_unforeseen_answer_is_told_what_differs_where_and_by_what(name, attempt, words):
    verdict = examine(name, attempt)
    assert re.search(words, verdict.message), verdict.message


@pytest.mark.parametrize("name", [n for n in EXERCISES if n != "swirl"])
@pytest.mark.parametrize("off", [3e-4, 0.3])
def test_two_numbers_that_differ_are_printed_differently(name, off):
    """`reflow` said "expected 0.4622, got 0.4622"."""
    wave = lambda v: (
        torch.as_tensor(v)
        * (1 + off * torch.cos(torch.arange(torch.as_tensor(v).numel()).reshape(torch.as_tensor(v).shape)))
        + off**1.5 * torch.randn((), generator=torch.Generator().manual_seed(1))
    )
    message = examine(name, returned(name, wave)).message
    for expected, got in re.findall(r"right is (\S+), yours (\S+)\.(?:\s|$)", message):
        assert expected != got
    assert not re.search(r"\b1 times|by 0 ", message)
    assert "right is" in message or "times the right" in message, message


def test_reflow_names_the_value_that_differs():
    def late_noise(model, x0, steps):
        x0, x1 = EXERCISES["reflow"].right(model, x0, steps)
        return x0, x1 + 0.01 * torch.sin(3 * x0)

    message = examine("reflow", late_noise).message
    found = re.search(r"x_0 is right\. x_1 .*right is (\S+), yours (\S+)\.$", message)
    assert found and found[1] != found[2], message


FAST = ("log_density_rate", "swirl", "ema", "w2_line", "cfg_std")  # the others have many pairs of mistakes to try


def test_numbers_are_told_apart():
    assert _apart(0.4622, 0.46221) == ("0.4622", "0.46221")
    assert _apart(1.0, 2.0) == ("1", "2")
    a, b = _apart(1.0, 1.0 + 1e-15)
    assert a != b


@pytest.mark.parametrize("name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in EXERCISES])
def test_equal_functions_get_equal_verdicts(name):
    """The mistakes, and an unforeseen answer, in other forms."""
    known = next(answer(name, how) for _, how in _each(EXERCISES[name]))
    unknown = returned(name, lambda v: torch.as_tensor(v).abs().sqrt() + 2)
    for wrong in (known, unknown):
        said = set()
        for form in (FORMS["numpy"], FORMS["list"]):

            def attempt(*arguments, wrong=wrong, form=form):
                value = wrong(*arguments)
                return tuple(map(form, value)) if isinstance(value, tuple) else form(value)

            torch.manual_seed(3)
            said.add(str(examine(name, attempt)))
        assert len(said) == 1, said


def test_an_answer_that_changes_is_told_so():
    calls = itertools.count()
    for attempt in (
        lambda a, w, d: right("ema", a, w, d) + torch.randn(5),
        lambda a, w, d: right("ema", a, w, d) + next(calls),
    ):
        verdict = examine("ema", attempt)
        assert verdict.state == "wrong" and "two calls with the same arguments" in verdict.message
    wrong_noise = lambda path, t, mean, std, z: own_noise(path, t, mean, 1.1 * std + 0.1, z)
    assert "two calls with the same arguments" in examine("marginal_sample", wrong_noise).message
    uniform = lambda path, t, mean, std, z: own_noise(path, t, mean, std, torch.rand_like(z).sub(0.5).mul(12**0.5))
    assert "two calls with the same arguments" in examine("marginal_sample", uniform).message


def test_a_swirl_that_moves_the_density_is_refused():
    """Multiples are right; what is no field of the kind is not, whatever its size."""
    for wrong in (
        lambda x, s: 1e-3 * s,
        lambda x, s: 5 * x.flip(1),
        lambda x, s: s @ TURN + 0.1 * x,
        lambda x, s: x * s,
    ):
        assert examine("swirl", wrong).state != "right"


@pytest.mark.parametrize("name", EXERCISES)
def test_a_hard_coded_answer_is_refused(name):
    """It gives the right value for one call, then the same value again and again."""
    remembered = []

    def hard_coded(*arguments):
        if not remembered:
            remembered.append(EXERCISES[name].right(*arguments))
        return remembered[0]

    verdict = examine(name, hard_coded)
    assert verdict.state in ("wrong", "error"), verdict.message
    assert "random inputs only" in verdict.message or "shape" in verdict.message


def test_shapes_and_errors_are_explained():
    said = lambda name, attempt: examine(name, attempt).message
    assert "should return a tensor of shape [5]. Yours returned the shape []." in said("ema", lambda *a: 1.0)
    assert re.search(
        r"shape \[\d, 1\]\. The numbers are right\.",
        said("log_density_rate", lambda j: right("log_density_rate", j)[:, None]),
    )
    assert re.search(
        r"shape \[\d, \d\]\. The numbers are right\. Is it transposed\?", said("heun", lambda *a: right("heun", *a).T)
    )
    assert "Yours returned str" in said("ema", lambda *a: "no")
    assert "Yours returned dict" in said("reflow", lambda *a: {"x0": 1})
    assert re.search(r"a pair: .* Yours returned one tensor of shape", said("reflow", lambda model, x0, steps: x0))
    assert "Yours returned 3 values" in said("reflow", lambda model, x0, steps: (x0, x0, x0))
    assert "Yours returned 2 values of the shapes [5], []" in said("ema", lambda a, w, d: (a, d))
    message = said(
        "cfm_loss", lambda model, t, x0, x1: (model(t, (1 - t) * x0 + t * x1) - x1 + x0).square().sum(1).mean()
    )
    assert re.search(r"raised RuntimeError.*Shapes: t \[\d\], x0 \[\d, \d\].*t\[:, None\]", message), message
    assert "takes the time first" in said("heun", lambda model, t, u, x: model(x, t))
    assert "null" in said("cfg", lambda f, t, x, c, n, s: f(t, x, None))


def test_other_verdicts(capsys):
    assert examine("ema", lambda a, w, d: a + 0.3).state == "wrong"
    assert "not a mistake that I know" in examine("ema", lambda a, w, d: a + 0.3).message
    verdict = examine("ema", lambda a, w, d: 1 / 0)
    assert (verdict.state, verdict.message) == ("error", "Your function raised ZeroDivisionError: division by zero")
    with pytest.raises(ValueError, match="name must be one of"):
        examine("emma", lambda *a: None)
    with pytest.raises(TypeError, match="attempt must be a function, got int"):
        examine("ema", 3)
    start("ema")
    check("ema", lambda a, w, d: w)
    check("ema", EXERCISES["ema"].right)
    check("ema", EXERCISES["ema"].right)
    lines = capsys.readouterr().out.splitlines()
    assert "The clock runs" in lines[0] and lines[2].startswith("Correct. Time: 0 min") and lines[3] == "Correct."


def test_an_attempt_that_changes_its_input_judges_only_itself():
    def in_place(a, w, d):
        a.mul_(d)
        return a + (1 - d) * w

    assert examine("ema", in_place).state == "right"


def test_a_mistake_must_fit_all_draws(monkeypatch):
    """A checker with a wrong answer key would call the right answer wrong: the wrong twin of all of the above."""
    ema = EXERCISES["ema"]
    swapped = Exercise(ema.signature, ema.draw, lambda a, w, d: d * w + (1 - d) * a, {})
    monkeypatch.setitem(EXERCISES, "ema", swapped)
    assert examine("ema", ema.right).state == "wrong"


def test_reflow_knows_the_samplers_mistakes():
    known = " ".join(EXERCISES["reflow"].mistakes)
    assert sum(message in known for message in _EULER_MISTAKES) >= 20
    assert all(len(exercise.mistakes) >= 11 for exercise in EXERCISES.values())
