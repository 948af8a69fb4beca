"""Exercises of lesson 01: the continuity equation."""

from collections.abc import Callable

import torch
from torch import Tensor

from fmlib.study.answers import as_tensor
from fmlib.study.exercises.draws import points, sizes
from fmlib.study.exercises.register import register


def _draw_jacobians():
    n, d = sizes()
    return (points(n, d, d),)


def _trace(jacobian: Tensor) -> Tensor:
    return jacobian.diagonal(dim1=1, dim2=2).sum(dim=1)


def _log_density_rate(jacobian, *, sign=-1, divergence=_trace, of=lambda rate: rate):
    return of(sign * divergence(jacobian))


register(
    "log_density_rate",
    "log_density_rate(jacobian)",
    _draw_jacobians,
    _log_density_rate,
    {
        "the sign is flipped. Where particles spread out (positive divergence), the density falls.": dict(sign=1),
        "that is the determinant. The determinant belongs to a finite map; a *rate* needs the trace.": (
            dict(divergence=torch.linalg.det)
        ),
        "that is log |det|. It belongs to a finite map with this Jacobian; for a field's rate take the trace.": (
            dict(divergence=lambda j: torch.linalg.slogdet(j).logabsdet)
        ),
        "that is the sum of all entries. The divergence is the trace: only du_i / dx_i.": (
            dict(divergence=lambda j: j.sum((1, 2)))
        ),
        "that is the mean of the diagonal. The divergence is its sum.": (
            dict(divergence=lambda j: _trace(j) / j.shape[1])
        ),
        "that is the diagonal, not yet summed: the divergence is one number for each particle.": (
            dict(divergence=lambda j: j.diagonal(dim1=1, dim2=2))
        ),
        "a row or a column of the Jacobian was summed. The divergence is the sum along the diagonal.": [
            dict(divergence=lambda j: j.sum(2)),
            dict(divergence=lambda j: j.sum(1)),
        ],
        "diagonal() took its first two dimensions, so it runs through the batch. Name dim1=1, dim2=2.": [
            dict(divergence=lambda j: j.diagonal().sum(1)),
            dict(divergence=lambda j: j.diagonal().sum(0)),
        ],
        "that is the size of the Jacobian (its Frobenius norm), which has no sign. Take the trace.": [
            dict(divergence=lambda j: j.flatten(1).norm(dim=1)),
            dict(divergence=lambda j: j.flatten(1).square().sum(1)),
        ],
        "that is one number for the batch. Each particle has a rate of its own: return [B].": [
            dict(of=lambda rate: rate.mean()),
            dict(of=lambda rate: rate.sum()),
        ],
        "that is a factor of the density. Asked is the rate of its logarithm: no exponential.": dict(of=torch.exp),
    },
)


def _turned(x: Tensor) -> Tensor:
    return torch.stack([-x[:, 1], x[:, 0]], dim=1)


def _keeps_every_density(field: Callable, steady: bool) -> bool:
    """div(p w) / p = score . w + div w vanishes: the task itself, on random mixtures of Gaussians.

    Besides c J score this accepts g J score + J grad g for every function g of x. The derivatives are differences of
    fourth order.
    """
    h, eye = 0.02, torch.eye(2, dtype=torch.float64)
    for _ in range(3):
        x, centres = points(7, 2), 1.5 * points(3, 2)

        def score(x, centres=centres):
            return torch.softmax(-0.5 * torch.cdist(x, centres).square(), dim=1) @ centres - x

        def w(x, score=score):
            return as_tensor(field(x.clone(), score(x)))

        try:
            here = w(x)
            rates = [(8 * (w(x + e) - w(x - e)) - w(x + 2 * e) + w(x - 2 * e)) / (12 * h) for e in h * eye]
        except Exception:  # a field that fails here is judged elsewhere
            return False
        if here.shape != x.shape or here.abs().max() < 1e-6:
            return False
        divergence = torch.stack([rates[i][:, i] for i in range(2)]).sum(0)
        flux = (score(x) * here).sum(1)
        if not ((flux + divergence).abs() <= 1e-3 * here.abs().max()).all():
            return False
    return True


def _swirl(x, score, *, turn=_turned, of=lambda x, score: score):
    return turn(of(x, score))


register(
    "swirl",
    "swirl(x, score)",
    lambda: (points(7, 2), points(7, 2)),
    _swirl,
    {
        "that turns the position x. It is free of divergence, but its flux p J x is not, unless p is round.": (
            dict(of=lambda x, score: x)
        ),
        "that is the score itself, not turned. Its flux is grad p, whose divergence is not zero.": (
            dict(turn=lambda s: s)
        ),
        "that mirrors the score (swaps the coordinates) instead of turning it: one of the two needs a minus.": (
            dict(turn=lambda s: s.flip(1))
        ),
        "that mirrors the score (one minus) instead of turning it: the coordinates change places too.": (
            dict(turn=lambda s: s * torch.tensor([1.0, -1.0]))
        ),
        "that is zero. Nothing added changes nothing; a field is asked that moves the particles.": (
            lambda x, score: torch.zeros_like(x)
        ),
        "that is a constant drift. It is free of divergence, but it moves the whole density along.": [
            lambda x, score: torch.ones_like(x),
            lambda x, score: torch.tensor([1.0, 0.0]).expand(len(x), 2),
            lambda x, score: torch.tensor([0.0, 1.0]).expand(len(x), 2),
        ],
        "the turned score was divided by its length. That factor changes along the level lines of p, so the flux "
        "has a divergence again. Only p itself or a constant may multiply.": (
            dict(of=lambda x, score: score / score.norm(dim=1, keepdim=True))
        ),
        "the turned score is multiplied by a function of x. Its flux is free of divergence only if that function is "
        "constant along the level lines of p.": [
            dict(of=lambda x, score: score * x.norm(dim=1, keepdim=True)),
            dict(of=lambda x, score: score * x.square().sum(1, keepdim=True)),
            dict(of=lambda x, score: score * torch.exp(-x.square().sum(1, keepdim=True) / 2)),
        ],
        "that is the score without its part along x. It runs along circles, not along the level lines of p.": (
            lambda x, score: score - (score * x).sum(1, keepdim=True) / x.square().sum(1, keepdim=True) * x
        ),
        "the score was added. The turned score alone changes nothing; the score itself moves the density.": [
            lambda x, score: score + _turned(score),
            lambda x, score: score - _turned(score),
        ],
        "the two coordinates were stacked as rows. Stack along dim=1: the field is [B, 2].": [
            lambda x, score: _turned(score).T,
            lambda x, score: -_turned(score).T,
        ],
    },
    any_factor=True,
    also_right=_keeps_every_density,
)
