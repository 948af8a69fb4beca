"""Answers as learners write them: right ones in other styles and forms, and the known mistakes."""

import functools
import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from fmlib import Pairs, guided, vp_cosine_path
from fmlib.study.exercises import EXERCISES


def answer(name, how):
    """A mistake as a learner's function."""
    return functools.partial(EXERCISES[name].right, **how) if isinstance(how, dict) else how


def right(name, *arguments):
    return EXERCISES[name].right(*arguments)


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


# Right answers as a candidate may write them


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
    "log_density_rate": [
        lambda j: torch.tensor([-sum(m[i, i] for i in range(len(m))) for m in j]),
        lambda j: -torch.einsum("bii->b", j),
        lambda j: -torch.vmap(torch.trace)(j),
        lambda j: [-torch.trace(m) for m in j],
        lambda j: -np.trace(j.numpy(), axis1=1, axis2=2),
        lambda j: -(j * torch.eye(j.shape[-1])).sum((-2, -1)),
        lambda j: -torch.linalg.eigvals(j).sum(1),
        lambda j: tuple(-float(m.diag().sum()) for m in j),
    ],
    "swirl": [
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
    ],
    "cfm_loss": [loop_loss, lerp_loss, rest_loss, jvp_loss, vmap_loss],
    "marginal_field": [loop_field, normal_field, single_field, numpy_field],
    "cosine_path": [
        other_cosine,
        tangent_path,
        numpy_cosine,
        lambda t, x0, x1: (vp_cosine_path().sample_xt(t, x0, x1), vp_cosine_path().target_ut(t, x0, x1)),
        lambda t, x0, x1: torch.stack(other_cosine(t, x0, x1)),
    ],
    "marginal_sample": [hypot_sample, covariance_sample, minus_sample, own_noise],
    "ema": [
        lambda a, w, d: torch.lerp(w, a, d),
        lambda a, w, d: a.add_((1 - d) * (w - a)),
        lambda a, w, d: [d * x + (1 - d) * y for x, y in zip(a, w, strict=True)],
        lambda a, w, d: np.average([a.numpy(), w.numpy()], axis=0, weights=[d, 1 - d]),
        lambda a, w, d: w - d * (w - a),
    ],
    "logit_normal": [
        lambda z, m, s: 1 / (1 + torch.exp(-m - s * z)),
        lambda z, m, s: 1 - torch.sigmoid(-(m + s * z)),
        lambda z, m, s: torch.sigmoid(m - s * z),
        lambda z, m, s: (1 + torch.tanh((m + s * z) / 2)) / 2,
        lambda z, m, s: [1 / (1 + math.exp(-m - s * v)) for v in z.tolist()],
        lambda z, m, s: torch.distributions.SigmoidTransform()(torch.tensor(m) + torch.tensor(s) * z.float()),
    ],
    "heun": [
        lambda f, t, u, x: x + (u - t) / 2 * f(t, x) + (u - t) / 2 * f(u, x + (u - t) * f(t, x)),
        list_heun,
        averaged_heun,
        tensor_heun,
    ],
    "euler_sampler": [other_euler, batch_euler, clock_euler, recursive_euler],
    "eps_to_v": [
        lambda p, t, x, e: (
            (p.d_alpha(t) / p.alpha(t))[:, None] * x
            + (p.d_sigma(t) - p.sigma(t) * p.d_alpha(t) / p.alpha(t))[:, None] * e
        ),
        drift_v,
        loop_v,
        target_v,
    ],
    "x1_to_score": [
        lambda p, t, x, x1: -((x - p.alpha(t)[:, None] * x1) / p.sigma(t)[:, None]) / p.sigma(t)[:, None],
        autograd_score,
        noise_score,
        transposed_score,
    ],
    "sde_step": [
        loop_sde,
        in_place_sde,
        lambda x, v, s, g, dt, z: x + dt * v + 0.5 * dt * g**2 * s + torch.randn(()) * 0 - (g**2 * dt) ** 0.5 * z,
        lambda x, v, s, g, dt, z: torch.normal(x + dt * (v + g * g / 2 * s), 0 * x) + g * torch.tensor(dt).sqrt() * z,
    ],
    "reflow": [
        lambda model, x0, steps: Pairs(x0, other_euler(model, x0, steps)),
        lambda model, x0, steps: [x0.numpy(), batch_euler(model, x0, steps).numpy()],
        lambda model, x0, steps: torch.stack([x0, recursive_euler(model, x0, steps)]),
        lambda model, x0, steps: (x0.float(), clock_euler(model, x0, steps).requires_grad_()),
    ],
    "w2_line": [
        lambda a, b: math.sqrt(
            sum((x - y) ** 2 for x, y in zip(sorted(a.tolist()), sorted(b.tolist()), strict=True)) / len(a)
        ),
        assigned_w2,
        lambda a, b: torch.linalg.norm(a.sort()[0] - b.sort()[0], dim=0, keepdim=True) / len(a) ** 0.5,
        lambda a, b: np.sqrt(np.mean((np.sort(a) - np.sort(b)) ** 2)),
        lambda a, b: F.mse_loss(a.msort(), b.msort()).pow(0.5),
    ],
    "cfg": [
        lambda f, t, x, c, n, s: (1 - s) * f(t, x, torch.full_like(c, n)) + s * f(t, x, c),
        lambda f, t, x, c, n, s: f(t, x, c) + (s - 1) * (f(t, x, c) - f(t, x, n)),
        batched_cfg,
        lambda f, t, x, c, n, s: guided(f, c, s, null_label=n)(t, x),
        lambda f, t, x, c, n, s: f(t, x, n * torch.ones_like(c)).numpy() * (1 - s) + s * f(t, x, c).numpy(),
    ],
    "cfg_std": [
        lambda S, q, s: math.exp((1 - s) * math.log(S) + s * math.log(q)),
        lambda S, q, s: S * (q / S) ** s,
        lambda S, q, s: np.float32(q) ** s / np.float32(S) ** (s - 1),
        lambda S, q, s: torch.lerp(torch.tensor(S).log(), torch.tensor(q).log(), s).exp(),
        lambda S, q, s: torch.tensor([S ** (1 - s) * q**s], requires_grad=True),
    ],
}
