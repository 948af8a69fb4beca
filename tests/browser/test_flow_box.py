"""The page's engine beyond the closed forms: a box and its walls, what may be added to a field, one step laid open."""

import pytest
import torch
from flow_cases import PATHS, as_json, ask, changed, mixture_2d
from scipy.stats import norm

from fmlib import GaussianMixture, shift_grid

pytestmark = pytest.mark.usefixtures("one_thread")
BOX = [-0.9, 1.1, -0.4, 1.3]

BALANCE = """(flow, { mixture, box, t, paths, added }) => {
  const checked = flow.checkMixture(mixture);
  return paths.map((name) => {
    const path = flow.makePath(name);
    const own = (t, x, out) => flow.velocity(checked, path, t, x, out);
    const field = flow.withAdded(own, added, 0.7, checked, path);
    return [flow.massInBox, flow.massRate].map((f) => f(checked, path, t, box)).concat(
      flow.fluxIntoBox(checked, path, field, t, box));
  });
}"""


def balance(tab, mixture, box, t, added="none", text=None):
    argument = {"mixture": as_json(mixture), "box": box, "t": t, "paths": list(PATHS), "added": added}
    return torch.tensor(ask(tab, BALANCE, argument, *([text] if text else [])), dtype=torch.float64)


def line() -> GaussianMixture:
    return GaussianMixture(torch.tensor([[-1.0], [0.8]], dtype=torch.float64), torch.tensor([0.4, 0.7]).double())


@pytest.mark.parametrize("t", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("d", [1, 2])
def test_what_flows_in_is_what_the_mass_gains(tab, d, t):
    mixture, box = (line(), BOX[:2]) if d == 1 else (mixture_2d(), BOX)
    _, rate, flux = balance(tab, mixture, box, t).T
    assert (rate - flux).abs().max() < 1e-5 * (1 + rate.abs().max()) and rate.abs().max() > 0.01


def test_the_mass_in_the_box_is_that_of_the_normal_distribution(tab):
    mixture, t = mixture_2d(), 0.6
    for (mass, _, _), path in zip(balance(tab, mixture, BOX, t).tolist(), PATHS.values(), strict=True):
        alpha, sigma = (float(f(torch.tensor(t, dtype=torch.float64))) for f in (path().alpha, path().sigma))
        std = (alpha**2 * mixture.stds**2 + sigma**2).sqrt()[:, None].numpy()
        low, high = torch.tensor(BOX, dtype=torch.float64).reshape(2, 2).T.numpy()
        inside = norm.cdf(high, alpha * mixture.means.numpy(), std) - norm.cdf(low, alpha * mixture.means.numpy(), std)
        assert mass == pytest.approx(float((mixture.weights.numpy() * inside.prod(1)).sum()), abs=1e-12)


@pytest.mark.parametrize(
    ("added", "keeps"), [("turned score", True), ("rotation", False), ("constant drift", False), ("score", False)]
)
def test_the_turned_score_alone_keeps_the_balance(tab, added, keeps):
    _, rate, flux = balance(tab, mixture_2d(), BOX, 0.6, added).T
    off = (rate - flux).abs()
    assert (off.max() < 1e-4) if keeps else (off.min() > 1e-2)


def test_wrong_walls_are_seen(tab):
    for old, new in (
        ("const inwards = side % 2 ? -1 : 1;", "const inwards = 1;"),
        ("points[2 * i + 1 - axis] = low + ((high - low) * (i + 0.5)) / n;", "points[2 * i + 1 - axis] = low;"),
    ):
        _, rate, flux = balance(tab, mixture_2d(), BOX, 0.5, text=changed((old, new))).T
        assert (rate - flux).abs().max() > 1e-2


STEP = """(flow, { mixture, solver }) => {
  const path = flow.makePath("rectified_flow");
  const checked = flow.checkMixture(mixture);
  const field = (t, x, out) => flow.velocity(checked, path, t, x, out);
  const { calls, end } = flow.stages(field, Float64Array.of(0.3, -0.2), 0.25, 0.5, { solver, path });
  return { ts: calls.map(({ t }) => t), xs: calls.map(({ x }) => [...x]), ks: calls.map(({ k }) => [...k]),
    end: [...end], calls: flow.CALLS[solver] };
}"""


@pytest.mark.parametrize(("solver", "times"), [
    ("euler", [0.25]), ("midpoint", [0.25, 0.375]), ("heun", [0.25, 0.5]), ("rk4", [0.25, 0.375, 0.375, 0.5]),
    ("ddim", [0.25]),
])  # fmt: skip
def test_the_stages_of_a_step(tab, solver, times):
    """Each k is the field at its place, and RK4's end is their weighted mean. Wrong twin: equal weights."""
    mixture = mixture_2d()
    got = ask(tab, STEP, {"mixture": as_json(mixture), "solver": solver})
    assert got["ts"] == times and got["calls"] == len(times)
    xs, ks = (torch.tensor(got[name], dtype=torch.float64) for name in ("xs", "ks"))
    path = PATHS["rectified_flow"]()
    for t, x, k in zip(times, xs, ks, strict=True):
        assert torch.allclose(mixture.velocity(path, t, x[None])[0], k, atol=1e-9)
    if solver == "rk4":
        end = torch.tensor(got["end"], dtype=torch.float64)
        assert torch.allclose(xs[0] + 0.25 / 6 * (ks[0] + 2 * ks[1] + 2 * ks[2] + ks[3]), end, atol=1e-12)
        assert not torch.allclose(xs[0] + 0.25 * ks.mean(0), end, atol=1e-6)


def test_the_shifted_grid_is_fmlibs(tab):
    body = """(flow, [shift, steps]) => {
      const { ts } = flow.solve((t, x, out) => out.fill(1), Float64Array.of(0), { steps, grid: flow.shiftGrid(shift) });
      return [...ts];
    }"""
    for shift in (0.5, 1, 3, 7):
        ts = torch.tensor(ask(tab, body, [shift, 12]), dtype=torch.float64)
        assert torch.allclose(ts, shift_grid(shift)(12).double(), atol=1e-14)
        assert shift == 1 or not torch.allclose(ts, shift_grid(1 / shift)(12).double(), atol=1e-3)
