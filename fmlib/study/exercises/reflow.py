"""Exercises of lesson 07: reflow."""

from functools import partial

import torch
from torch import Tensor

from fmlib.study.exercises.draws import points, walk
from fmlib.study.exercises.register import register
from fmlib.study.exercises.solvers import EULER_MISTAKES, euler_sampler


def _reflow(model, x0, steps, *, pair=lambda x0, x1: (x0, x1), **changes):
    return pair(x0, euler_sampler(model, x0, steps, **changes))


register(
    "reflow",
    "my_reflow(model, x0, steps)",
    partial(walk, 4, 9),
    _reflow,
    {
        "the pair is swapped: noise comes first, (x_0, x_1).": dict(pair=lambda x0, x1: (x1, x0)),
        "the pairing is broken: row i of x_1 must come from row i of x_0.": [
            dict(pair=lambda x0, x1: (x0, x1.flip(0))),
            dict(pair=lambda x0, x1: (x0, x1.roll(1, 0))),
            dict(pair=lambda x0, x1: (x0.sort(0).values, x1.sort(0).values)),
        ],
        "both are the end. Keep x_0 as it was (did you change it in place?).": dict(pair=lambda x0, x1: (x1, x1)),
        "the second is the velocity x_1 - x_0. Return the end; training takes the difference.": (
            dict(pair=lambda x0, x1: (x0, x1 - x0))
        ),
        "the second is x_0 too: no step was kept (x + ... must be assigned to x).": dict(pair=lambda x0, x1: (x0, x0)),
        "the second is the middle between noise and end. Return the end.": dict(
            pair=lambda x0, x1: (x0, (x0 + x1) / 2)
        ),
    }
    | {
        f"x_0 is right; x_1 is not: {message}": how
        for message, how in EULER_MISTAKES.items()
        if "displacement" not in message and "the start:" not in message
    },
    returns=("x_0", "x_1"),
)


def _draw_line():
    n = int(torch.randint(5, 9, ()))  # of so many, hardly ever all are in order by chance
    return points(n), 0.5 + 2 * points(n)


def _ascending(a: Tensor) -> Tensor:
    return a.sort().values


def _w2_line(a, b, *, order_a=_ascending, order_b=_ascending, cost=torch.square, gather=torch.mean, root=torch.sqrt):
    return root(gather(cost(order_a(a) - order_b(b))))


register(
    "w2_line",
    "w2(a, b)",
    _draw_line,
    _w2_line,
    {
        "that is W2 squared. The distance is its root (POT's `ot.emd2` gives the square too).": dict(root=lambda m: m),
        "the points are paired as they come. On a line the best pairing is by rank: sort both.": (
            dict(order_a=lambda a: a, order_b=lambda b: b)
        ),
        "only one of the two is sorted. The best pairing is by rank: sort both.": [
            dict(order_a=lambda a: a),
            dict(order_b=lambda b: b),
        ],
        "those are the places in the order (argsort). The sorted *values* are paired.": (
            dict(order_a=lambda a: a.argsort().double(), order_b=lambda b: b.argsort().double())
        ),
        "that is W1: the mean distance, without squares.": dict(cost=torch.abs, root=lambda m: m),
        "the root of each square was taken before the mean: first the mean, then the root.": (
            dict(cost=torch.abs, root=torch.sqrt)
        ),
        "the sum instead of the mean: it grows with the number of points.": dict(gather=torch.sum),
        "the sum of the squares: neither mean nor root.": dict(gather=torch.sum, root=lambda m: m),
        "divided by N after the root: the mean goes inside.": (
            lambda a, b: (_ascending(a) - _ascending(b)).norm() / len(a)
        ),
        "divided by N - 1. It is the mean over all N pairs.": dict(gather=lambda c: c.sum() / (len(c) - 1)),
        "that is the largest distance of a pair. W2 takes the mean of the squares.": dict(gather=torch.max),
        "that is the median. W2 takes the mean of the squares.": dict(gather=torch.median),
        "one of the two is sorted the other way round: that is the worst pairing.": (
            dict(order_b=lambda b: b.sort(descending=True).values)
        ),
        "that is the distance of the means only. Two sets may share a mean and differ.": [
            lambda a, b: (a.mean() - b.mean()).abs(),
            lambda a, b: b.mean() - a.mean(),
            lambda a, b: a.mean() - b.mean(),
        ],
        "that is the formula for two Gaussians, from means and widths. The sets are not Gaussian.": [
            lambda a, b: ((a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2).sqrt(),
            lambda a, b: ((a.mean() - b.mean()) ** 2 + (a.std(correction=0) - b.std(correction=0)) ** 2).sqrt(),
        ],
        "that averages over all N x N pairs. Each point has one partner: sort both.": [
            lambda a, b: (a[:, None] - b).square().mean().sqrt(),
            lambda a, b: (a[:, None] - b).abs().mean(),
        ],
        "each point takes its nearest partner, and some are taken twice. A pairing uses each once.": [
            lambda a, b: (a[:, None] - b).square().min(1).values.mean().sqrt(),
            lambda a, b: (a[:, None] - b).square().min(0).values.mean().sqrt(),
        ],
    },
    returns=("the distance",),
)
