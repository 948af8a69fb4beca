"""Our samplers and grids against the flow schedulers of diffusers, step by step on the same exact field.

Runs where that package is installed: pip install diffusers==0.42.0 (`make bench` does it). Nothing is downloaded.
"""

import pytest
import torch

from fmlib import dpm_solver_sampler, euler_sampler, rectified_flow_path, scheduler_grid, shift_grid, three_gaussians

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed; make bench installs it")
PATH, MIXTURE = rectified_flow_path(), three_gaussians()
SHIFTS, STEPS = (1.0, 3.0, 6.0), (1, 4, 20, 28)


def field(t, x):
    return MIXTURE.velocity(PATH, t, x).float()


def theirs(scheduler, steps, x):
    """What a pipeline does: their time runs from data to noise, so the velocity turns."""
    scheduler.set_timesteps(steps)
    for level, step in zip(scheduler.sigmas, scheduler.timesteps, strict=False):
        x = scheduler.step(-field(1 - level.expand(len(x)), x), step, x, return_dict=False)[0]
    return x, 1 - scheduler.sigmas.double()


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("steps", STEPS)
def test_euler_on_the_schedulers_default_times(shift, steps):
    x0 = torch.randn(64, 2)
    expected, times = theirs(diffusers.FlowMatchEulerDiscreteScheduler(shift=shift), steps, x0)
    torch.testing.assert_close(scheduler_grid(shift)(steps), times, rtol=0, atol=1e-6)
    ends = {grid: euler_sampler(field, x0, steps=steps, grid=grid(shift)) for grid in (scheduler_grid, shift_grid)}
    torch.testing.assert_close(ends[scheduler_grid], expected, rtol=0, atol=1e-5)
    if steps > 1:  # the wrong twin: SD3's shift on uniform levels is not what the scheduler does
        assert (ends[shift_grid] - expected).abs().max() > 1e-4


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("steps", [5, 10, 20])
def test_dpm_solver_on_flow_times(shift, steps):
    scheduler = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift, final_sigmas_type="zero"
    )
    x0 = torch.randn(64, 2)
    expected, times = theirs(scheduler, steps, x0)
    first = times[0].item()  # it begins just after the noise
    grid = lambda _: (times - first) / (1 - first)
    ours = dpm_solver_sampler(field, x0, steps=steps, t_start=first, grid=grid, path=PATH)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
    assert (euler_sampler(field, x0, steps=steps, t_start=first, grid=grid) - expected).abs().max() > 1e-3
