"""DDIM, DPM-Solver++ and the clocks of diffusion: their orders, their exact cases, what they are at the ends."""

import math

import pytest
import torch

from fmlib import (
    GaussianMixture,
    ddim_sampler,
    dpm_solver_sampler,
    edm_grid,
    euler_sampler,
    log_snr_grid,
    rectified_flow_path,
    rk4_sampler,
    scheduler_grid,
    shift_grid,
    three_gaussians,
    ve_path,
    vp_cosine_path,
    vp_linear_path,
)

PATHS = (rectified_flow_path(), vp_cosine_path(), vp_linear_path(), ve_path())
RF = PATHS[0]
MIXTURE = three_gaussians()
EVERY = pytest.mark.parametrize("path", PATHS, ids=[p.name for p in PATHS])
INSIDE = {"t_start": 0.05, "t_end": 0.95}  # lambda is infinite at the ends


def field(path):
    return lambda t, x: MIXTURE.velocity(path, t, x)


def order(sampler, path, x, exact, steps=(48, 96, 192)):
    """The slope of the median error between the first and the last number of steps."""
    few, many = ((sampler(n) - exact).norm(dim=1).median().item() for n in (steps[0], steps[-1]))
    return math.log(few / many, steps[-1] / steps[0])


@EVERY
def test_dpm_solver_is_of_order_two(path):
    x1 = MIXTURE.sample(400)
    x, v = path.sample_xt(0.05, torch.randn_like(x1), x1), field(path)
    exact = rk4_sampler(v, x, steps=700, **INSIDE)
    slope = lambda solver: order(lambda n: solver(v, x, steps=n, path=path, **INSIDE), path, x, exact)
    assert abs(slope(dpm_solver_sampler) - 2) < 0.25
    assert abs(slope(ddim_sampler) - 1) < 0.15  # the wrong twin: without what came before


@EVERY
def test_both_are_exact_for_one_data_point(path):
    point = GaussianMixture(torch.tensor([[2.0, -1.0]], dtype=torch.float64), torch.tensor([1e-6]))
    x0, data = torch.randn(50, 2, dtype=torch.float64), point.means.expand(50, 2)
    v = lambda t, x: point.velocity(path, t, x)
    start, expected = (path.sample_xt(t, x0, data) for t in (0.0, 0.9))
    for sampler in (ddim_sampler, dpm_solver_sampler):
        assert (sampler(v, start, steps=3, t_end=0.9, path=path) - expected).abs().max() < 1e-4
    euler = (euler_sampler(v, start, steps=3, t_end=0.9) - expected).abs().max()
    assert euler > 0.01 or path is RF


def test_ddim_on_rectified_flow_is_euler():
    x0 = torch.randn(50, 2, dtype=torch.float64)
    torch.testing.assert_close(ddim_sampler(field(RF), x0, steps=7, path=RF), euler_sampler(field(RF), x0, steps=7))


def test_where_lambda_is_infinite_dpm_solver_is_ddim():
    x0, v = torch.randn(50, 2, dtype=torch.float64), field(RF)
    two = [sampler(v, x0, steps=2, path=RF) for sampler in (dpm_solver_sampler, ddim_sampler)]  # 0 to 1/2, 1/2 to 1
    torch.testing.assert_close(*two)
    four = [sampler(v, x0, steps=4, path=RF) for sampler in (dpm_solver_sampler, ddim_sampler)]
    assert torch.isfinite(four[0]).all() and (four[0] - four[1]).abs().max() > 0.05


@EVERY
def test_runs_do_not_remember_each_other(path):
    x0, v = path.prior_std * torch.randn(20, 2, dtype=torch.float64), field(path)
    once = dpm_solver_sampler(v, x0, steps=6, path=path)
    dpm_solver_sampler(v, 2 * x0, steps=3, path=path)
    torch.testing.assert_close(dpm_solver_sampler(v, x0, steps=6, path=path), once)


@EVERY
def test_the_log_snr_grid_takes_even_steps_of_lambda(path):
    times = log_snr_grid(path)(12)
    steps = (path.alpha(times) / path.sigma(times)).log()[1:-1].diff()  # the ends are put at 0 and 1
    assert times[0] == 0 and times[-1] == 1 and (steps / steps.mean() - 1).abs().max() < 1e-6
    steps = (path.alpha(times := edm_grid(path)(12)) / path.sigma(times)).log()[1:-1].diff()
    assert (steps / steps.mean() - 1).abs().max() > 0.1  # the wrong twin


def test_scheduler_grid_is_what_diffusers_does():
    """20 levels of FlowMatchEulerDiscreteScheduler(shift=3.0): tests/benchmarks compares with the package itself."""
    level = lambda s: 3 * s / (1 + 2 * s)
    times = scheduler_grid(3.0)(20)
    assert times[0] == 0 and times[-1] == 1 and len(times) == 21
    assert times[-2].item() == pytest.approx(1 - level(level(1 / 1000)), abs=1e-12)
    assert (times - shift_grid(3.0)(20)).abs().max() > 0.05
    assert scheduler_grid(1.0)(1).tolist() == [0, 1]
    for bad in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="shift"):
            scheduler_grid(bad)


def test_a_path_that_has_none_of_the_levels_is_refused():
    with pytest.raises(ValueError, match="overlap with the path ve"):
        log_snr_grid(ve_path(), 1e-4, 1e-3)
