"""Exercises of lesson 04: training a flow."""

import math

import torch
from torch import Tensor

from fmlib.study.exercises.draws import number, points
from fmlib.study.exercises.register import register


def _ema(average, weight, decay, *, old=lambda d: d, new=lambda d: 1 - d):
    return old(decay) * average + new(decay) * weight


register(
    "ema",
    "ema(average, weight, decay)",
    lambda: (points(5), points(5), number(0.7, 0.99)),
    _ema,
    {
        "the two are swapped: with decay near 1 yours follows the new weight at once.": (
            dict(old=lambda d: 1 - d, new=lambda d: d)
        ),
        "the weights do not add up to 1.": [
            dict(new=lambda d: 1),
            dict(old=lambda d: 1),
            dict(new=lambda d: d),
            dict(old=lambda d: 1, new=lambda d: d),
            dict(old=lambda d: 1 - d),
            dict(old=lambda d: 1, new=lambda d: 1),
        ],
        "that ignores the decay: it is the plain mean of the two.": dict(old=lambda d: 0.5, new=lambda d: 0.5),
        "the average moves away from the weight: the sign of the step is flipped.": (
            dict(old=lambda d: 2 - d, new=lambda d: d - 1)
        ),
        "the new weight is subtracted. The average moves towards it.": dict(new=lambda d: d - 1),
        "that is the step only. Add it to the old average.": [
            dict(old=lambda d: d - 1),
            dict(old=lambda d: 1 - d, new=lambda d: d - 1),
        ],
        "the average does not move: the weight has no effect.": dict(old=lambda d: 1, new=lambda d: 0),
        "that is the new weight alone: nothing is averaged.": dict(old=lambda d: 0, new=lambda d: 1),
        "the new weight's share is missing: add (1 - decay) weight.": dict(new=lambda d: 0),
        "the old average's share is missing: add decay average.": dict(old=lambda d: 0),
        "the decay is squared: one step multiplies by it once.": dict(old=lambda d: d**2, new=lambda d: 1 - d**2),
        "the decay's root was taken: one step multiplies by it once.": (
            dict(old=lambda d: d**0.5, new=lambda d: 1 - d**0.5)
        ),
        "divided by 1 - decay: Adam's correction of the start has no place in a single step.": (
            dict(old=lambda d: d / (1 - d), new=lambda d: 1)
        ),
    },
)


def _logit_normal(
    z, m, s, *, location=lambda m, s: m, scale=lambda s: s, squash=torch.sigmoid, logit=lambda z, m, s: m + s * z
):
    return squash(logit(z, location(m, s), scale(s)))


register(
    "logit_normal",
    "logit_normal(z, m, s)",
    lambda: (points(6), number(0.3, 1.0), number(0.5, 2.0)),
    _logit_normal,
    {
        "the sigmoid is missing: t leaves (0, 1).": dict(squash=lambda y: y),
        "the sign of m is flipped. That is SD3's time, where data is at t = 0.": dict(location=lambda m, s: -m),
        "s multiplies m too. m is the centre: m + s z.": dict(location=lambda m, s: s * m),
        "s was used as a variance. It is the standard deviation of the logit.": dict(scale=lambda s: s**0.5),
        "s is squared. It is the standard deviation of the logit: s z.": dict(scale=lambda s: s**2),
        "s is missing.": dict(scale=lambda s: 1.0),
        "divided by s. It is the scale: s z.": dict(scale=lambda s: 1 / s),
        "m is missing.": dict(location=lambda m, s: 0.0),
        "that standardises: (z - m) / s. z is standard already; give it location and scale, m + s z.": (
            dict(logit=lambda z, m, s: (z - m) / s)
        ),
        "m and s are swapped: m is the location, s the scale.": dict(logit=lambda z, m, s: s + m * z),
        "location and scale come after the sigmoid. They belong inside: it is the logit of t that is normal.": (
            lambda z, m, s: m + s * torch.sigmoid(z)
        ),
        "the sigmoid ends too early: m + s z as a whole goes into it.": [
            lambda z, m, s: torch.sigmoid(m) + s * z if isinstance(m, Tensor) else 1 / (1 + math.exp(-m)) + s * z,
            lambda z, m, s: m + torch.sigmoid(s * z),
            lambda z, m, s: s * torch.sigmoid(m + z),
        ],
        "that is log-normal: positive, but not below 1. EDM draws its sigma so; t needs the sigmoid.": (
            dict(squash=torch.exp)
        ),
        "that is the logarithm of the sigmoid.": dict(squash=torch.nn.functional.logsigmoid),
        "that is the normal distribution function (probit-normal). Logit-normal has the sigmoid.": (
            dict(squash=torch.special.ndtr)
        ),
        "that is tanh, which lies in (-1, 1). The sigmoid lies in (0, 1).": [
            dict(squash=torch.tanh),
            dict(squash=lambda y: torch.tanh(y / 2)),
        ],
        "the softmax makes the times of a batch depend on each other. Each needs a sigmoid of its own.": (
            dict(squash=lambda y: torch.softmax(y, dim=0))
        ),
        "the values are cut off at 0 and 1 (clamped). The sigmoid brings them in smoothly.": (
            dict(squash=lambda y: y.clamp(0, 1))
        ),
    },
    either_sign="z",
)
