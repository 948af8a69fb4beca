"""Exercises of lesson 02: the CFM theorem."""

import torch

from fmlib.study.exercises.draws import batch, number, points, sizes, toy_model
from fmlib.study.exercises.register import register


def _cfm_loss(
    model,
    t,
    x0,
    x1,
    *,
    place=lambda t, x0, x1: (1 - t) * x0 + t * x1,
    when=lambda t: t,
    target=lambda x0, x1, xt: x1 - x0,
    reduce=lambda e: e.square().sum(1).mean(),
):
    xt = (1 - t[:, None]) * x0 + t[:, None] * x1
    return reduce(model(when(t), place(t[:, None], x0, x1)) - target(x0, x1, xt))


register(
    "cfm_loss",
    "my_loss(model, t, x0, x1)",
    lambda: batch(toy_model),
    _cfm_loss,
    {
        "that is the mean over the dimensions. The norm squared is a *sum* over them: yours is smaller by 1/d.": (
            dict(reduce=lambda e: e.square().mean())
        ),
        "the network got x_1 where x_t was meant. It would see clean data at every t.": (
            dict(place=lambda t, x0, x1: x1)
        ),
        "the network got x_0 where x_t was meant. It would see pure noise at every t.": (
            dict(place=lambda t, x0, x1: x0)
        ),
        "the sign of the target is flipped: it points from data to noise.": dict(target=lambda x0, x1, xt: x0 - x1),
        "x_0 and x_1 are swapped in x_t: at t = 0 yours is data.": dict(place=lambda t, x0, x1: t * x0 + (1 - t) * x1),
        "the network got 1 - t. Time is reversed.": dict(when=lambda t: 1 - t),
        "the network got 1000 t. Diffusion's step numbers have no place here: t itself.": dict(when=lambda t: 1000 * t),
        "the network got t = 0 throughout: hand it the times.": dict(when=lambda t: 0 * t),
        "the noise does not shrink: x_t is (1 - t) x_0 + t x_1.": dict(place=lambda t, x0, x1: x0 + t * x1),
        "the data do not fade: x_t is (1 - t) x_0 + t x_1.": [
            dict(place=lambda t, x0, x1: x1 + (1 - t) * x0),
            dict(place=lambda t, x0, x1: x1 + t * x0),
        ],
        "x_t has square roots of t and 1 - t. Those preserve the variance; the straight line has t and 1 - t.": (
            dict(place=lambda t, x0, x1: (1 - t).sqrt() * x0 + t.sqrt() * x1)
        ),
        "the target is x_1 - x_t. That lacks the factor 1 / (1 - t): the velocity is x_1 - x_0.": (
            dict(target=lambda x0, x1, xt: x1 - xt)
        ),
        "the target is x_t - x_0. That lacks the factor 1 / t: the velocity is x_1 - x_0.": (
            dict(target=lambda x0, x1, xt: xt - x0)
        ),
        "the target is x_1. That trains an x_1-prediction, not a velocity.": dict(target=lambda x0, x1, xt: x1),
        "the target is x_0. That trains a noise prediction, not a velocity.": dict(target=lambda x0, x1, xt: x0),
        "the target is x_t. The network is to give the velocity x_1 - x_0.": dict(target=lambda x0, x1, xt: xt),
        "the target is x_1 + x_0. The velocity is the difference x_1 - x_0.": dict(target=lambda x0, x1, xt: x1 + x0),
        "there is a factor 1/2 too much.": dict(reduce=lambda e: 0.5 * e.square().sum(1).mean()),
        "the square is missing: that is the mean norm.": dict(reduce=lambda e: e.norm(dim=1).mean()),
        "that is the absolute error (L1). The loss has squares.": [
            dict(reduce=lambda e: e.abs().mean()),
            dict(reduce=lambda e: e.abs().sum(1).mean()),
        ],
        "a root was taken of the mean. The loss is the mean of the squares, without a root.": [
            dict(reduce=lambda e: e.square().sum(1).mean().sqrt()),
            dict(reduce=lambda e: e.square().mean().sqrt()),
            dict(reduce=lambda e: e.norm()),
        ],
        "the errors were summed before the square, so they cancel: square first.": [
            dict(reduce=lambda e: e.sum(1).square().mean()),
            dict(reduce=lambda e: e.mean().square()),
            dict(reduce=lambda e: e.mean(0).square().sum()),
        ],
        "the square is missing altogether: positive and negative errors cancel.": [
            dict(reduce=lambda e: e.mean()),
            dict(reduce=lambda e: e.sum(1).mean()),
        ],
        "that is the sum over the batch. The loss is its mean.": dict(reduce=lambda e: e.square().sum()),
        "sum and mean are swapped: sum over the dimensions, mean over the batch.": (
            dict(reduce=lambda e: e.square().sum(0).mean())
        ),
        "that is the loss of each sample. The loss is their mean, one number.": [
            dict(reduce=lambda e: e.square().sum(1)),
            dict(reduce=lambda e: e.square().mean(1)),
        ],
    },
    returns=("the loss",),
)


def _draw_field():
    n, d = sizes()
    return number(0.2, 0.7), points(n, d), points(n + 2, d)


def _marginal_field(
    t,
    x,
    data,
    *,
    centre=lambda t: t,
    width=lambda t: 1 - t,
    power=2,
    half=0.5,
    distance=lambda e: e.square().sum(2),
    weights=torch.softmax,
    dim=1,
    finish=lambda mean, x, t: (mean - x) / (1 - t),
):
    exponent = -half * distance(x[:, None] - centre(t) * data) / width(t) ** power
    return finish(weights(exponent, dim=dim) @ data, x, t)


register(
    "marginal_field",
    "marginal_field(t, x, data)",
    _draw_field,
    _marginal_field,
    {
        "the weights use the standard deviation 1 - t where its square, the variance, belongs.": dict(power=1),
        "the weights have no variance: divide the squared distance by 2 (1 - t)^2.": dict(power=0),
        "the weights multiply by the variance where they should divide by it: mind the brackets of 2 (1 - t)^2.": (
            dict(power=-2)
        ),
        "the weights use the variance t^2. Around t x_1 it is the noise that spreads, by (1 - t)^2.": (
            dict(width=lambda t: t)
        ),
        "the factor 1/2 in the exponent of the Gaussian is missing.": dict(half=1.0),
        "the 2 is squared as well: the exponent has 2 (1 - t)^2, not (2 (1 - t))^2.": dict(half=0.25),
        "the sign of the exponent is flipped: yours gives far points the most weight.": dict(half=-0.5),
        "the distance is not squared in the exponent.": dict(distance=lambda e: e.norm(dim=2)),
        "the squared distance is a mean over the dimensions. It is their sum.": (
            dict(distance=lambda e: e.square().mean(2))
        ),
        "the Gaussians are centred at x_1. At time t they are centred at t x_1.": dict(centre=lambda t: 1.0),
        "the Gaussians are centred at (1 - t) x_1. At time t they are centred at t x_1.": dict(centre=lambda t: 1 - t),
        "time is reversed in the weights: x_t is normal around t x_1 with variance (1 - t)^2.": (
            dict(centre=lambda t: 1 - t, width=lambda t: t)
        ),
        "the softmax runs over the points x. For each x the weights of the *data* add up to 1: dim=1 of [B, N].": (
            dict(dim=0)
        ),
        "the weights are not normalised: for each x divide them by their sum over the data.": (
            dict(weights=lambda z, dim: z.exp())
        ),
        "that is the plain mean over the data. Points that could have come here weigh more: use the posterior.": (
            dict(weights=lambda z, dim: torch.full_like(z, 1 / z.shape[1]))
        ),
        "that takes the nearest data point alone. All of them count, each with its posterior weight.": (
            dict(weights=lambda z, dim: (z == z.amax(dim, keepdim=True)).double())
        ),
        "that is E[x_1 given x_t]. The velocity is (that - x) / (1 - t).": dict(finish=lambda mean, x, t: mean),
        "the division by 1 - t is missing.": dict(finish=lambda mean, x, t: mean - x),
        "divided by t. The time that is left is 1 - t.": dict(finish=lambda mean, x, t: (mean - x) / t),
        "multiplied by 1 - t. Divide by the time that is left.": dict(finish=lambda mean, x, t: (mean - x) * (1 - t)),
        "only x is divided by 1 - t: brackets round the difference.": dict(
            finish=lambda mean, x, t: mean - x / (1 - t)
        ),
        "only E[x_1 given x_t] is divided by 1 - t: subtract x first.": (
            dict(finish=lambda mean, x, t: mean / (1 - t) - x)
        ),
        "the sign is flipped: yours leads away from the data.": dict(finish=lambda mean, x, t: (x - mean) / (1 - t)),
    },
)
