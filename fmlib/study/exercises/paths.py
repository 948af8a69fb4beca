"""Exercises of lesson 03: the paths."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fmlib.paths import FlowPath, vp_cosine_path
from fmlib.study.answers import as_tensor
from fmlib.study.exercises.draws import batch, number, points, sizes
from fmlib.study.exercises.register import register


def _cosine_path(
    t,
    x0,
    x1,
    *,
    angle=lambda t: math.pi / 2 * t,
    alpha=torch.sin,
    sigma=torch.cos,
    rate=math.pi / 2,
    d_alpha=torch.cos,
    d_sigma=lambda a: -torch.sin(a),
    target=lambda ut, xt, x0, x1: ut,
    pair=lambda xt, ut: (xt, ut),
):
    a = angle(t[:, None])
    xt = alpha(a) * x1 + sigma(a) * x0
    return pair(xt, target(rate * (d_alpha(a) * x1 + d_sigma(a) * x0), xt, x0, x1))


def _nichol(t: Tensor) -> Tensor:
    return math.pi / 2 * (1 - (1 - t + 0.008) / 1.008)


register(
    "cosine_path",
    "cosine_path(t, x0, x1)",
    batch,
    _cosine_path,
    {
        "time is reversed: yours has data at t = 0.": dict(angle=lambda t: math.pi / 2 * (1 - t)),
        "time is reversed: yours has data at t = 0 (sine and cosine are swapped).": [
            dict(alpha=torch.cos, sigma=torch.sin, d_alpha=lambda a: -torch.sin(a), d_sigma=torch.cos),
            dict(alpha=torch.cos, sigma=torch.sin),
        ],
        "x_t is right. In u_t the chain rule's factor pi/2 is missing.": dict(rate=1.0),
        "x_t is right. In u_t the factor is pi; the chain rule gives pi/2.": dict(rate=math.pi),
        "x_t is right. u_t is divided by pi/2; the chain rule multiplies.": dict(rate=2 / math.pi),
        "the angle is pi t. It must reach pi/2 at t = 1, where the path is the data.": [
            dict(angle=lambda t: math.pi * t, rate=math.pi),
            dict(angle=lambda t: math.pi * t),
            dict(angle=lambda t: math.pi * t, rate=1.0),
        ],
        "the angle is t. It must reach pi/2 at t = 1, where the path is the data.": [
            dict(angle=lambda t: t, rate=1.0),
            dict(angle=lambda t: t),
        ],
        "the angle is in degrees: torch's sine takes radians, pi/2 t.": [
            dict(angle=lambda t: 90 * t),
            dict(angle=lambda t: 90 * t, rate=90.0),
        ],
        "sine and cosine are squared in x_t. The squares add up to 1 (they are the variances); x_t takes them as "
        "they are.": [
            dict(alpha=lambda a: a.sin() ** 2, sigma=lambda a: a.cos() ** 2),
            dict(
                alpha=lambda a: a.sin() ** 2,
                sigma=lambda a: a.cos() ** 2,
                d_alpha=lambda a: (2 * a).sin(),
                d_sigma=lambda a: -(2 * a).sin(),
            ),
        ],
        "x_t is the straight line's, (1 - t) x_0 + t x_1.": [
            dict(alpha=lambda a: a / (math.pi / 2), sigma=lambda a: 1 - a / (math.pi / 2)),
        ],
        "that is the straight line, x_t and u_t. The factors of the VP-cosine path are a sine and a cosine.": (
            lambda t, x0, x1: ((1 - t[:, None]) * x0 + t[:, None] * x1, x1 - x0)
        ),
        "the noise has the factor 1 - sin. It is the cosine, so that the squares add up to 1.": [
            dict(sigma=lambda a: 1 - a.sin()),
            dict(sigma=lambda a: 1 - a.sin(), d_sigma=lambda a: -a.cos()),
        ],
        "that is Nichol & Dhariwal's schedule with its offset 0.008. Here the path has none.": [
            dict(angle=_nichol, rate=math.pi / 2 / 1.008),
            dict(angle=_nichol),
        ],
        "x_t is right. In u_t the sign of sigma' is wrong: the noise fades, so sigma' < 0.": dict(d_sigma=torch.sin),
        "x_t is right. In u_t the sign of alpha' is wrong: the data grow, so alpha' > 0.": (
            dict(d_alpha=lambda a: -torch.cos(a))
        ),
        "x_t is right. The sign of u_t is flipped: yours runs from data to noise.": dict(rate=-math.pi / 2),
        "x_t is right. In u_t sine and cosine are not differentiated.": (dict(d_alpha=torch.sin, d_sigma=torch.cos)),
        "x_t is right. In u_t the derivatives are swapped: alpha' belongs to x_1, sigma' to x_0.": (
            dict(d_alpha=lambda a: -torch.sin(a), d_sigma=torch.cos)
        ),
        "x_t is right. u_t is that of the straight line, x_1 - x_0.": dict(target=lambda ut, xt, x0, x1: x1 - x0),
        "x_t is right. u_t is x_1 - x_t: derive alpha x_1 + sigma x_0 in t.": (
            dict(target=lambda ut, xt, x0, x1: x1 - xt)
        ),
        "x_t is right. u_t is x_0: that is the target of a noise prediction.": dict(target=lambda ut, xt, x0, x1: x0),
        "x_t is right. u_t is x_1: that is the target of a data prediction.": dict(target=lambda ut, xt, x0, x1: x1),
        "the pair is swapped: x_t comes first, then u_t.": dict(pair=lambda xt, ut: (ut, xt)),
    },
    returns=("x_t", "u_t"),
)


def _draw_marginal():
    n, d = sizes()
    return vp_cosine_path(), number(0.2, 0.8), points(d), number(0.3, 2.0), points(n, d)


def _coefficients(path: FlowPath, t: float) -> tuple[Tensor, Tensor]:
    time = torch.tensor(t, dtype=torch.float64)
    return path.alpha(time), path.sigma(time)


def _width(a: Tensor, s: Tensor, std: float) -> Tensor:
    return (a**2 * std**2 + s**2).sqrt()


def _marginal_sample(
    path,
    t,
    mean,
    std,
    z,
    *,
    centre=lambda a, s, mean: a * mean,
    spread=_width,
    place=lambda centre, spread, z, a: centre + spread * z,
):
    a, s = _coefficients(path, t)
    return place(centre(a, s, mean), spread(a, s, std), z, a)


def _samples_the_marginal(attempt: Callable, steady: bool) -> bool:
    """Mean, covariance and fourth moments of many samples, for answers that draw noise of their own.

    The tolerances are six standard errors: too coarse for an answer that uses z alone, which is compared exactly.
    """
    if steady:
        return False
    n = 40_000
    for _ in range(5):
        path, t, mean, std, z = _draw_marginal()
        z = points(n, len(mean))
        try:
            x = as_tensor(attempt(path, t, mean.clone(), std, z))
        except Exception:  # a function that fails here is judged elsewhere
            return False
        if x.shape != z.shape:
            return False
        a, s = _coefficients(path, t)
        e = (x - a * mean) / _width(a, s, std)
        eye = torch.eye(len(mean), dtype=torch.float64)
        moments = [(e.mean(0), 0.0, 1.0), (e.T @ e / n, eye, 2**0.5), (e.pow(4).mean(0), 3.0, 96**0.5)]
        if not all(((got - right).abs() < 6 * scale / n**0.5).all() for got, right, scale in moments):
            return False
    return True


register(
    "marginal_sample",
    "marginal_sample(path, t, mean, std, z)",
    _draw_marginal,
    _marginal_sample,
    {
        "the variance was used as a standard deviation: a square root is missing.": (
            dict(spread=lambda a, s, std: a**2 * std**2 + s**2)
        ),
        "standard deviations do not add. Variances do.": dict(spread=lambda a, s, std: a * std + s),
        "under the root alpha, std and sigma are all squared: variances add.": [
            dict(spread=lambda a, s, std: (a * std + s).sqrt()),
            dict(spread=lambda a, s, std: (a * std**2 + s).sqrt()),
            dict(spread=lambda a, s, std: (a * std**2 + s**2).sqrt()),
            dict(spread=lambda a, s, std: (a**2 * std**2 + s).sqrt()),
            dict(spread=lambda a, s, std: (a**2 * std + s**2).sqrt()),
            dict(spread=lambda a, s, std: (a**2 * std + s).sqrt()),
            dict(spread=lambda a, s, std: (a * std + s**2).sqrt()),
        ],
        "the data's own width is missing: yours is the path of a single point.": dict(spread=lambda a, s, std: s),
        "the noise is missing in the width: yours scales the data, nothing else.": [
            dict(spread=lambda a, s, std: a * std),
            dict(spread=lambda a, s, std: std),
        ],
        "the data's width is not scaled by alpha.": dict(spread=lambda a, s, std: (std**2 + s**2).sqrt()),
        "alpha and sigma are swapped in the width: alpha scales the data, sigma the noise.": (
            dict(spread=lambda a, s, std: (s**2 * std**2 + a**2).sqrt())
        ),
        "std scales the noise too. It belongs to the data: alpha^2 std^2 + sigma^2.": [
            dict(spread=lambda a, s, std: (a + s) * std),
        ],
        "the variances are averaged. Those of a sum add up.": (
            dict(spread=lambda a, s, std: ((a**2 * std**2 + s**2) / 2).sqrt())
        ),
        "the width is 1: the data's width and the noise's are both to be scaled.": (
            dict(spread=lambda a, s, std: torch.ones_like(a))
        ),
        "the mean is not scaled by alpha.": dict(centre=lambda a, s, mean: mean),
        "the mean is scaled by sigma. The data carry alpha.": dict(centre=lambda a, s, mean: s * mean),
        "the mean is scaled by alpha squared. Means scale with alpha, variances with its square.": (
            dict(centre=lambda a, s, mean: a**2 * mean)
        ),
        "the mean is missing: p_t is centred at alpha mean.": dict(centre=lambda a, s, mean: 0 * mean),
        "alpha multiplies the noise as well. It belongs to the data alone.": (
            dict(centre=lambda a, s, mean: mean, place=lambda centre, spread, z, a: a * (centre + spread * z))
        ),
    },
    either_sign="z",
    also_right=_samples_the_marginal,
)
