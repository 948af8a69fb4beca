"""Exercises of lesson 06: score, noise, data and velocity."""

from functools import partial
from types import SimpleNamespace

from torch import Tensor

from fmlib.paths import FlowPath
from fmlib.study.exercises.draws import batch, number, points, sizes, vp_path
from fmlib.study.exercises.register import register


def _coefficients(path: FlowPath, t: Tensor) -> SimpleNamespace:
    return SimpleNamespace(
        a=path.alpha(t)[:, None],
        s=path.sigma(t)[:, None],
        da=path.d_alpha(t)[:, None],
        ds=path.d_sigma(t)[:, None],
        t=t[:, None],
    )


def _eps_to_v(
    path,
    t,
    xt,
    eps,
    *,
    data=lambda c, xt, eps: (xt - c.s * eps) / c.a,
    da=lambda c: c.da,
    ds=lambda c: c.ds,
    velocity=lambda c, da, ds, x1, xt, eps: da * x1 + ds * eps,
):
    c = _coefficients(path, t)
    return velocity(c, da(c), ds(c), data(c, xt, eps), xt, eps)


register(
    "eps_to_v",
    "eps_to_v(path, t, xt, eps)",
    partial(batch, vp_path),
    _eps_to_v,
    {
        "that is diffusion's v, alpha eps - sigma x_1. The velocity uses the derivatives of both.": [
            dict(velocity=lambda c, da, ds, x1, xt, eps: c.a * eps - c.s * x1),
            dict(velocity=lambda c, da, ds, x1, xt, eps: c.s * x1 - c.a * eps),
        ],
        "that is x_1 - eps: right for the straight line only.": (
            dict(velocity=lambda c, da, ds, x1, xt, eps: x1 - eps)
        ),
        "that is (x_t - eps) / t: right for the straight line only. Here x_t = alpha x_1 + sigma eps.": (
            dict(velocity=lambda c, da, ds, x1, xt, eps: (xt - eps) / c.t)
        ),
        "that is (x_1 - x_t) / (1 - t): right for the straight line only. Differentiate alpha x_1 + sigma eps.": [
            dict(velocity=lambda c, da, ds, x1, xt, eps: (x1 - xt) / (1 - c.t)),
        ],
        "x_1 is that of the straight line, (x_t - (1 - t) eps) / t. Here it is (x_t - sigma eps) / alpha.": (
            dict(data=lambda c, xt, eps: (xt - (1 - c.t) * eps) / c.t)
        ),
        "alpha and sigma are used without their derivatives: that gives back x_t.": (
            dict(da=lambda c: c.a, ds=lambda c: c.s)
        ),
        "alpha is used where its derivative belongs.": dict(da=lambda c: c.a),
        "sigma is used where its derivative belongs.": dict(ds=lambda c: c.s),
        "x_t was used where x_1 = (x_t - sigma eps) / alpha belongs.": dict(data=lambda c, xt, eps: xt),
        "the sign is flipped: that is the velocity of reversed time.": (
            dict(velocity=lambda c, da, ds, x1, xt, eps: -(da * x1 + ds * eps))
        ),
        "the sign of sigma' eps is flipped. sigma' is negative already.": dict(ds=lambda c: -c.ds),
        "the sign of alpha' x_1 is flipped.": dict(da=lambda c: -c.da),
        "x_1 was not divided by alpha.": dict(data=lambda c, xt, eps: xt - c.s * eps),
        "x_1 was multiplied by alpha. Divide.": dict(data=lambda c, xt, eps: (xt - c.s * eps) * c.a),
        "the noise is added to x_t. x_1 is (x_t - sigma eps) / alpha.": dict(
            data=lambda c, xt, eps: (xt + c.s * eps) / c.a
        ),
        "the noise is not scaled by sigma in x_1 = (x_t - sigma eps) / alpha.": dict(
            data=lambda c, xt, eps: (xt - eps) / c.a
        ),
        "only x_t is divided by alpha: brackets round x_t - sigma eps.": dict(
            data=lambda c, xt, eps: xt / c.a - c.s * eps
        ),
        "only the noise is divided by alpha: brackets round x_t - sigma eps.": (
            dict(data=lambda c, xt, eps: xt - c.s * eps / c.a)
        ),
        "alpha and sigma are swapped in x_1 = (x_t - sigma eps) / alpha.": dict(
            data=lambda c, xt, eps: (xt - c.a * eps) / c.s
        ),
        "alpha and sigma were taken for variances: here they multiply as they are, without roots.": (
            dict(data=lambda c, xt, eps: (xt - c.s.sqrt() * eps) / c.a.sqrt())
        ),
        "the derivatives are swapped: alpha' belongs to x_1, sigma' to eps.": (
            dict(da=lambda c: c.ds, ds=lambda c: c.da)
        ),
        "sigma' is missing: the noise fades, and that moves x_t too.": dict(ds=lambda c: 0.0),
        "alpha' x_1 is missing.": dict(da=lambda c: 0.0),
        "that is x_1. The velocity is alpha' x_1 + sigma' eps.": dict(velocity=lambda c, da, ds, x1, xt, eps: x1),
        "that is the score, -eps / sigma. The velocity is alpha' x_1 + sigma' eps.": (
            dict(velocity=lambda c, da, ds, x1, xt, eps: -eps / c.s)
        ),
    },
)


def _x1_to_score(
    path,
    t,
    xt,
    x1,
    *,
    centre=lambda c, x1: c.a * x1,
    over=lambda c: c.s**2,
    sign=1,
    score=lambda c, centre, over, xt, x1: (centre - xt) / over,
):
    c = _coefficients(path, t)
    return sign * score(c, centre(c, x1), over(c), xt, x1)


register(
    "x1_to_score",
    "x1_to_score(path, t, xt, x1)",
    partial(batch, vp_path),
    _x1_to_score,
    {
        "the sign is flipped: the score points towards the data.": dict(sign=-1),
        "divided by sigma: that is minus the noise. The score has sigma squared.": dict(over=lambda c: c.s),
        "that is the noise, (x_t - alpha x_1) / sigma. The score is minus the noise over sigma.": (
            dict(over=lambda c: c.s, sign=-1)
        ),
        "the division by sigma squared is missing.": dict(over=lambda c: 1.0),
        "multiplied by sigma squared. Divide.": dict(over=lambda c: c.s**-2),
        "divided by sigma to the fourth. sigma squared is the variance already.": dict(over=lambda c: c.s**4),
        "divided by alpha squared. The noise has the width sigma.": dict(over=lambda c: c.a**2),
        "divided by (1 - t)^2: that is the straight line's sigma. Take path.sigma(t).": dict(
            over=lambda c: (1 - c.t) ** 2
        ),
        "the factor alpha at x_1 is missing: p(x_t given x_1) is centred at alpha x_1.": dict(centre=lambda c, x1: x1),
        "the centre is t x_1: that is the straight line's alpha. Take path.alpha(t).": dict(
            centre=lambda c, x1: c.t * x1
        ),
        "the factor at x_1 is alpha squared. p(x_t given x_1) is centred at alpha x_1.": (
            dict(centre=lambda c, x1: c.a**2 * x1)
        ),
        "alpha and sigma are swapped: p(x_t given x_1) is centred at alpha x_1, with the width sigma.": [
            dict(centre=lambda c, x1: c.s * x1, over=lambda c: c.a**2),
            dict(centre=lambda c, x1: c.s * x1),
        ],
        "a factor 1/2 too much.": dict(over=lambda c: 2 * c.s**2),
        "a factor 2 too much.": dict(over=lambda c: c.s**2 / 2),
        "that is (x_1 - x_t) / (1 - t), the straight line's velocity. The score is (alpha x_1 - x_t) / sigma^2.": (
            dict(score=lambda c, centre, over, xt, x1: (x1 - xt) / (1 - c.t))
        ),
        "that is the velocity. The score is (alpha x_1 - x_t) / sigma^2.": (
            dict(score=lambda c, centre, over, xt, x1: c.da * x1 + c.ds * (xt - c.a * x1) / c.s)
        ),
        "only x_t is divided: brackets round alpha x_1 - x_t.": (
            dict(score=lambda c, centre, over, xt, x1: centre - xt / over)
        ),
        "only x_1 is divided: brackets round alpha x_1 - x_t.": (
            dict(score=lambda c, centre, over, xt, x1: centre / over - xt)
        ),
        "x_1 has no effect: that is the score if all data were at 0.": (
            dict(score=lambda c, centre, over, xt, x1: -xt / over)
        ),
        "that is x_t's own score for a standard normal p_t, -x_t.": dict(score=lambda c, centre, over, xt, x1: -xt),
        "x_t was divided by alpha: the width is then sigma / alpha. Leave x_t as it is.": (
            dict(score=lambda c, centre, over, xt, x1: (x1 - xt / c.a) / over)
        ),
    },
)


def _draw_sde():
    n, d = sizes()
    return points(n, d), points(n, d), points(n, d), number(0.3, 1.5), number(0.01, 0.1), points(n, d)


def _sde_step(
    x,
    v,
    score,
    g,
    dt,
    z,
    *,
    keep=1.0,
    flow=lambda v, dt: v * dt,
    correction=lambda g: g**2 / 2,
    during=lambda dt: dt,
    spread=lambda g, dt: g * dt**0.5,
):
    return keep * x + flow(v, dt) + correction(g) * score * during(dt) + spread(g, dt) * z


register(
    "sde_step",
    "sde_step(x, v, score, g, dt, z)",
    _draw_sde,
    _sde_step,
    {
        "noise without its correction: add g^2/2 times the score to the drift, else p_t spreads.": (
            dict(correction=lambda g: 0.0)
        ),
        "the factor 1/2 at g^2 score is missing. (Without it, it is the reverse-time drift f - g^2 s.)": (
            dict(correction=lambda g: g**2)
        ),
        "the correction has g where g^2 belongs: g^2/2 times the score.": [
            dict(correction=lambda g: g / 2),
            dict(correction=lambda g: g),
        ],
        "the score is added without g^2/2.": [dict(correction=lambda g: 1.0), dict(correction=lambda g: 0.5)],
        "the correction has (g/2)^2. It is g^2/2.": dict(correction=lambda g: g**2 / 4),
        "the correction has no dt. It is part of the drift: (v + g^2/2 score) dt.": dict(during=lambda dt: 1.0),
        "the correction has sqrt(dt). It is part of the drift: (v + g^2/2 score) dt.": dict(during=lambda dt: dt**0.5),
        "the noise has dt where sqrt(dt) belongs: it would vanish for small steps.": dict(spread=lambda g, dt: g * dt),
        "the noise has no dt: it is g sqrt(dt) z. Yours is as large in a small step as in a large one.": [
            dict(spread=lambda g, dt: g),
            dict(spread=lambda g, dt: 1.0),
        ],
        "the sign of the correction is flipped.": dict(correction=lambda g: -(g**2) / 2),
        "that is the reverse-time SDE's drift, v - g^2 score. v is the flow's velocity: add g^2/2 score.": (
            dict(correction=lambda g: -(g**2))
        ),
        "g is missing at z (or used twice elsewhere): the noise is g sqrt(dt) z.": dict(spread=lambda g, dt: dt**0.5),
        "the noise is added twice: its standard deviation is g sqrt(dt), once.": (
            dict(spread=lambda g, dt: 2 * g * dt**0.5)
        ),
        "g^2 multiplies z. The noise has standard deviation g sqrt(dt).": dict(spread=lambda g, dt: g**2 * dt**0.5),
        "the root covers g too. The noise has standard deviation g sqrt(dt).": (
            dict(spread=lambda g, dt: (g * dt) ** 0.5)
        ),
        "the noise has a factor sqrt(2). That belongs to Langevin steps; here it is g sqrt(dt).": (
            dict(spread=lambda g, dt: g * (2 * dt) ** 0.5)
        ),
        "the noise is halved: its standard deviation is g sqrt(dt).": dict(spread=lambda g, dt: g * dt**0.5 / 2),
        "the noise is missing. With the correction and no noise, p_t shrinks towards its peaks.": (
            dict(spread=lambda g, dt: 0.0)
        ),
        "that is the flow's Euler step: noise and its correction are missing.": (
            dict(spread=lambda g, dt: 0.0, correction=lambda g: 0.0)
        ),
        "v is missing: the correction keeps p_t as it is, the flow moves it.": dict(flow=lambda v, dt: 0.0),
        "v has no dt: (v + g^2/2 score) dt.": dict(flow=lambda v, dt: v),
        "the sign of v is flipped: yours runs from data to noise.": dict(flow=lambda v, dt: -v * dt),
        '"x +" is missing: that is the step alone, not where it ends.': dict(keep=0.0),
    },
    either_sign="z",
)
