"""Exercises of lesson 05: ODE solvers."""

from collections.abc import Callable
from functools import partial

import torch

from fmlib.study.exercises.draws import number, points, sizes, toy_model, walk
from fmlib.study.exercises.register import Mistake, register


def _draw_step():
    n, d = sizes()
    t = number(0.1, 0.6)
    return toy_model(), t, t + number(0.1, 0.3), points(n, d)


def _heun_step(
    model,
    t,
    t_next,
    x,
    *,
    size=lambda t, u: u - t,
    first_time=lambda t, u: t,
    second_time=lambda t, u: u,
    predict=lambda x, v, dt: x + dt * v,
    combine=lambda x, v1, v2, dt: x + dt * (v1 + v2) / 2,
):
    dt = size(t, t_next)
    v1 = model(first_time(t, t_next), x)
    return combine(x, v1, model(second_time(t, t_next), predict(x, v1, dt)), dt)


def _midpoint_step(model, t, t_next, x):
    return x + (t_next - t) * model((t + t_next) / 2, x + (t_next - t) / 2 * model(t, x))


def _runge_kutta(model, t, t_next, x):
    dt = t_next - t
    k1 = model(t, x)
    k2 = model(t + dt / 2, x + dt / 2 * k1)
    k3 = model(t + dt / 2, x + dt / 2 * k2)
    return x + dt / 6 * (k1 + 2 * k2 + 2 * k3 + model(t_next, x + dt * k3))


register(
    "heun",
    "heun_step(model, t, t_next, x)",
    _draw_step,
    _heun_step,
    {
        "that is an Euler step: one call, at the start.": dict(combine=lambda x, v1, v2, dt: x + dt * v1),
        "only the second slope counts. Heun averages both.": dict(combine=lambda x, v1, v2, dt: x + dt * v2),
        "the second slope is taken at t. It belongs to t_next.": dict(second_time=lambda t, u: t),
        "the first slope is taken at t_next. It belongs to t.": dict(first_time=lambda t, u: u),
        "the times of the two slopes are swapped: t first, then t_next.": (
            dict(first_time=lambda t, u: u, second_time=lambda t, u: t)
        ),
        "the second slope is taken half a step on. Heun takes it at t_next.": (
            dict(second_time=lambda t, u: (t + u) / 2, predict=lambda x, v, dt: x + dt / 2 * v)
        ),
        "the second slope's time is (t + t_next) / 2. Heun takes it at t_next.": (
            dict(second_time=lambda t, u: (t + u) / 2)
        ),
        "the second slope is taken at x. It belongs to the Euler step's end.": dict(predict=lambda x, v, dt: x),
        "the second slope is taken after half an Euler step. It belongs to the end of a whole one.": (
            dict(predict=lambda x, v, dt: x + dt / 2 * v)
        ),
        "the Euler step that finds the second place lacks its dt.": dict(predict=lambda x, v, dt: x + v),
        "the second slope is taken at dt v. The Euler step starts at x: x + dt v.": dict(
            predict=lambda x, v, dt: dt * v
        ),
        "the second slope is taken behind x: the Euler step has the wrong sign.": dict(
            predict=lambda x, v, dt: x - dt * v
        ),
        "the factor 1/2 is missing: that goes twice as far.": dict(combine=lambda x, v1, v2, dt: x + dt * (v1 + v2)),
        "there is a factor 1/2 too much: v1 + v2 is halved once.": (
            dict(combine=lambda x, v1, v2, dt: x + dt * (v1 + v2) / 4)
        ),
        "the step goes backwards: the sign of dt is flipped.": [
            dict(combine=lambda x, v1, v2, dt: x - dt * (v1 + v2) / 2),
            dict(size=lambda t, u: t - u),
        ],
        '"x +" is missing: that is the step alone, not where it ends.': (
            dict(combine=lambda x, v1, v2, dt: dt * (v1 + v2) / 2)
        ),
        "that is the mean slope. The step is x + dt times that.": dict(combine=lambda x, v1, v2, dt: (v1 + v2) / 2),
        "dt is missing at the end: x + dt (v1 + v2) / 2.": dict(combine=lambda x, v1, v2, dt: x + (v1 + v2) / 2),
        "dt is t_next. It is t_next - t.": dict(size=lambda t, u: u),
        "the slopes are subtracted. Their mean is (v1 + v2) / 2.": (
            dict(combine=lambda x, v1, v2, dt: x + dt * (v1 - v2) / 2)
        ),
        "only one of the slopes is halved: brackets round v1 + v2.": [
            dict(combine=lambda x, v1, v2, dt: x + dt * v1 + dt * v2 / 2),
            dict(combine=lambda x, v1, v2, dt: x + dt * v1 / 2 + dt * v2),
            dict(combine=lambda x, v1, v2, dt: x + dt * v1 + v2 / 2),
            dict(combine=lambda x, v1, v2, dt: x + dt * v1 / 2 + v2),
        ],
        "the mean slope is added to the Euler step's end. It starts at x again.": (
            dict(combine=lambda x, v1, v2, dt: x + dt * v1 + dt * (v1 + v2) / 2)
        ),
        "that is the midpoint method. It is of second order too, but Heun averages the slopes at both ends.": (
            _midpoint_step
        ),
        "that is Ralston's method (two thirds of a step, weights 1/4 and 3/4). It is of second order too, but not "
        "Heun's.": (
            dict(
                second_time=lambda t, u: t + 2 / 3 * (u - t),
                predict=lambda x, v, dt: x + 2 / 3 * dt * v,
                combine=lambda x, v1, v2, dt: x + dt * (v1 + 3 * v2) / 4,
            )
        ),
        "that is RK4, with four calls. Heun has two.": _runge_kutta,
    },
)


def euler_sampler(
    model,
    x0,
    steps,
    *,
    when=lambda i, n: i / n,
    size=lambda n: 1 / n,
    start=0,
    count=lambda n: n,
    move=lambda x, v, dt, x0: x + dt * v,
    place=lambda x, x0: x,
    end=lambda x, x0, n: x,
):
    x = x0
    for i in range(start, count(steps)):
        x = move(x, model(when(i, steps), place(x, x0)), size(steps), x0)
    return end(x, x0, steps)


EULER_MISTAKES: dict[str, Mistake | list[Mistake]] = {  # reflow shares them
    "time is reversed: yours starts at t = 1.": [
        dict(when=lambda i, n: 1 - i / n),
        dict(when=lambda i, n: 1 - (i + 1) / n),
    ],
    "time is reversed: yours calls the model at 1 - t, and steps backwards.": [
        dict(when=lambda i, n: 1 - i / n, size=lambda n: -1 / n),
        dict(when=lambda i, n: 1 - (i + 1) / n, size=lambda n: -1 / n),
    ],
    "the steps go backwards: from noise to data the velocity is added.": dict(size=lambda n: -1 / n),
    "each slope is taken at the *end* time of its step. Euler uses the start.": dict(when=lambda i, n: (i + 1) / n),
    "each slope is taken at the middle of its step. Euler uses the start.": dict(when=lambda i, n: (i + 0.5) / n),
    "one step is missing: linspace(0, 1, steps) has steps - 1 gaps.": (
        dict(when=lambda i, n: i / (n - 1), size=lambda n: 1 / (n - 1), count=lambda n: n - 1)
    ),
    "the times are those of linspace(0, 1, steps), whose gaps are not 1 / steps.": dict(when=lambda i, n: i / (n - 1)),
    "one step too many: linspace(0, 1, steps + 1) has steps + 1 times, but the last is the end. Leave it out.": [
        dict(count=lambda n: n + 1),
        dict(when=lambda i, n: i / (n + 1), size=lambda n: 1 / (n + 1), count=lambda n: n + 1),
    ],
    "the step at t = 0 is missing: range(steps) starts at 0.": dict(start=1),
    "the last step is missing: range(steps) ends at steps - 1 already.": dict(count=lambda n: n - 1),
    "dt is 1 / (steps + 1). steps steps of dt are to give 1.": [
        dict(when=lambda i, n: i / (n + 1), size=lambda n: 1 / (n + 1)),
        dict(size=lambda n: 1 / (n + 1)),
    ],
    "dt is 1 / (steps - 1). steps steps of dt are to give 1.": [
        dict(when=lambda i, n: i / (n - 1), size=lambda n: 1 / (n - 1)),
        dict(size=lambda n: 1 / (n - 1)),
    ],
    "the step size is missing or 1: dt = 1 / steps.": dict(size=lambda n: 1.0),
    "the time stands still: the model is called at t = 0 each time.": dict(when=lambda i, n: 0.0),
    "the time stands still: the model is called at t = 1 each time.": dict(when=lambda i, n: 1.0),
    "the model got the number of the step. It needs the time, i / steps.": [
        dict(when=lambda i, n: float(i)),
        dict(when=lambda i, n: float(i + 1)),
    ],
    "the model is called at x_0 each time. Call it where the step before ended.": dict(place=lambda x, x0: x0),
    "each step starts at x_0 again, so that only the last one counts.": dict(move=lambda x, v, dt, x0: x0 + dt * v),
    "each step forgets where it started: x + dt v, not dt v.": dict(move=lambda x, v, dt, x0: dt * v),
    "that is one big step. Take `steps` small ones.": (
        dict(move=lambda x, v, dt, x0: x0 + v, place=lambda x, x0: x0, when=lambda i, n: 0.0)
    ),
    "that is the displacement. The end is x_0 plus that.": dict(end=lambda x, x0, n: x - x0),
    "that is the start: no step was kept (x + ... must be assigned to x).": dict(end=lambda x, x0, n: x0),
    "the end is divided by the number of steps: the steps add up, they are not averaged.": (
        dict(end=lambda x, x0, n: x / n)
    ),
}


def _with_steps(step: Callable) -> Callable:
    def sampler(model, x0, steps):
        x = x0
        for i in range(steps):
            x = step(model, i / steps, (i + 1) / steps, x)
        return x

    return sampler


def _trajectory(first: int) -> Callable:
    def sampler(model, x0, steps):
        xs = [x0]
        for i in range(steps):
            xs.append(xs[-1] + model(i / steps, xs[-1]) / steps)
        return torch.stack(xs[first:])

    return sampler


register(
    "euler_sampler",
    "my_sampler(model, x0, steps)",
    partial(walk, 5, 12),
    euler_sampler,
    EULER_MISTAKES
    | {
        "those are all places on the trajectory. Asked is the last one.": [_trajectory(0), _trajectory(1)],
        "those are Heun steps. Euler has one call in each.": _with_steps(_heun_step),
        "those are midpoint steps. Euler has one call in each.": _with_steps(_midpoint_step),
    },
)
