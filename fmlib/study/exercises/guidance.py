"""Exercises of lesson 08: guidance."""

import math

import torch

from fmlib.study.exercises.draws import class_model, number, points, sizes, times
from fmlib.study.exercises.register import register


def _draw_cfg():
    n, d = sizes()
    return class_model(), times(n), points(n, d), torch.randint(0, 3, (n,)), 3, number(1.5, 4.0)


def _cfg(
    model,
    t,
    x,
    label,
    null,
    s,
    *,
    mix=lambda c, none, s: none + s * (c - none),
    empty=lambda label, null: torch.full_like(label, null),
    scale=lambda s: s,
    when=lambda t: t,
):
    return mix(model(when(t), x, label), model(when(t), x, empty(label, null)), scale(s))


register(
    "cfg",
    "my_cfg(model, t, x, label, null, s)",
    _draw_cfg,
    _cfg,
    {
        "that is Ho & Salimans' formula with w = s. Here s = 1 + w: s = 1 must give the conditional field.": (
            dict(mix=lambda c, none, s: c + s * (c - none))
        ),
        "s - 1 was used for s: s = 1 must give the conditional field, not the one without class.": (
            dict(scale=lambda s: s - 1)
        ),
        "class and no class are swapped.": dict(mix=lambda c, none, s: c + s * (none - c)),
        "that scales the conditional field. Guidance scales the *difference* to the unconditional one.": (
            dict(mix=lambda c, none, s: s * c)
        ),
        "the sign of the difference is flipped: that pushes away from the class.": [
            dict(mix=lambda c, none, s: none - s * (c - none)),
            dict(mix=lambda c, none, s: c - s * (c - none) - (c - none)),
        ],
        "that is the conditional field alone: s has no effect.": dict(mix=lambda c, none, s: c),
        "that is the unconditional field alone: s has no effect.": dict(mix=lambda c, none, s: none),
        "the unconditional field is missing at the front: v_none + s (v_c - v_none).": (
            dict(mix=lambda c, none, s: s * (c - none))
        ),
        "s multiplies the whole conditional field, and nothing is taken away: v_none + s (v_c - v_none).": (
            dict(mix=lambda c, none, s: none + s * c)
        ),
        "s multiplies the unconditional field: v_none + s (v_c - v_none).": [
            dict(mix=lambda c, none, s: c + s * none),
            dict(mix=lambda c, none, s: c - s * none),
        ],
        "that is the difference of the two alone.": dict(mix=lambda c, none, s: c - none),
        "the brackets are missing: s multiplies the difference v_c - v_none.": [
            dict(mix=lambda c, none, s: s * c - none),
        ],
        "the weights do not add up to 1: s v_c + (1 - s) v_none.": [
            dict(mix=lambda c, none, s: s * c + (s - 1) * none),
            dict(mix=lambda c, none, s: (1 + s) * c + (1 - s) * none),
            dict(mix=lambda c, none, s: s * c - (1 + s) * none),
            dict(mix=lambda c, none, s: (1 + s) * c + s * none),
        ],
        "that is the plain mean of the two: s has no effect.": dict(mix=lambda c, none, s: (c + none) / 2),
        "that lies between the two. Guidance with s > 1 goes beyond the conditional field.": [
            dict(mix=lambda c, none, s: (s * c + none) / (s + 1)),
            dict(mix=lambda c, none, s: none + (c - none) / s),
        ],
        "s is squared.": dict(scale=lambda s: s**2),
        "for no class, class 0 was used. That is a class like others; no class is the label `null`.": (
            dict(empty=lambda label, null: torch.zeros_like(label))
        ),
        "for no class, -1 was used. No class is the label `null`.": (
            dict(empty=lambda label, null: torch.full_like(label, -1))
        ),
        "for no class, class 1 was used. No class is the label `null`.": (
            dict(empty=lambda label, null: torch.ones_like(label))
        ),
        "for no class, the label null - 1 was used: that is the last class. No class is `null` itself.": (
            dict(empty=lambda label, null: torch.full_like(label, null - 1))
        ),
        "for no class, the label null + 1 was used. No class is `null` itself.": (
            dict(empty=lambda label, null: torch.full_like(label, null + 1))
        ),
        "the network got 1 - t. Time is reversed.": dict(when=lambda t: 1 - t),
        "the network got 1000 t. Here it takes t itself.": dict(when=lambda t: 1000 * t),
    },
)


def _cfg_std(S, q, s, *, scale=lambda s: s, width=lambda S, q, s: S ** (1 - s) * q**s, of=lambda width: width):
    return of(width(S, q, scale(s)))


register(
    "cfg_std",
    "cfg_std(S, q, s)",
    lambda: (number(0.8, 1.5), number(0.3, 0.7), number(1.5, 4.0)),
    _cfg_std,
    {
        "that is the tilted density's width. CFG does not sample it: integrate d/dt log std.": (
            dict(width=lambda S, q, s: (s / q**2 + (1 - s) / S**2) ** -0.5)
        ),
        "that is the tilted density's precision. CFG does not sample it, and a width is asked.": (
            dict(width=lambda S, q, s: s / q**2 + (1 - s) / S**2)
        ),
        "that is q (q / S)^s, with Ho & Salimans' w = s. Here s = 1 + w: s = 1 must give q.": dict(
            scale=lambda s: 1 + s
        ),
        "s - 1 was used for s: s = 1 must give the class's width q.": dict(scale=lambda s: s - 1),
        "the two are swapped: s = 1 must give the class's width q.": dict(width=lambda S, q, s: q ** (1 - s) * S**s),
        "the widths are mixed linearly. Their *logarithms* are mixed: d/dt log std.": (
            dict(width=lambda S, q, s: (1 - s) * S + s * q)
        ),
        "the variances are mixed linearly. The *logarithms* are mixed: d/dt log std.": (
            dict(width=lambda S, q, s: (1 - s) * S**2 + s * q**2)
        ),
        "the inverse widths are mixed linearly. The *logarithms* are mixed: d/dt log std.": (
            dict(width=lambda S, q, s: 1 / ((1 - s) / S + s / q))
        ),
        "the variance was returned: take the root.": dict(of=lambda width: width**2),
        "a root too many: S^(1 - s) q^s is the width already.": dict(of=lambda width: width**0.5),
        "that is the logarithm of the width: take its exponential.": dict(of=math.log),
        "that is the inverse of the width.": dict(of=lambda width: 1 / width),
        "S is missing: S^(1 - s) q^s.": [
            dict(width=lambda S, q, s: q**s),
            dict(width=lambda S, q, s: (q / S) ** s),
        ],
        "that is the width of the class's density to the power s. Guidance has S in it too.": [
            dict(width=lambda S, q, s: q / s**0.5),
            dict(width=lambda S, q, s: q / s),
        ],
        "the exponents do not add up to 1: S^(1 - s) q^s.": [
            dict(width=lambda S, q, s: S ** (s - 1) * q**s),
            dict(width=lambda S, q, s: S**s * q**s),
            dict(width=lambda S, q, s: S ** (1 + s) * q**s),
        ],
        "that is the class's width: s has no effect.": dict(width=lambda S, q, s: q),
        "that is the width of all data: s has no effect.": dict(width=lambda S, q, s: S),
        "the widths are multiplied: S and q need their exponents 1 - s and s.": dict(width=lambda S, q, s: S * q),
    },
    returns=("the width",),
)
