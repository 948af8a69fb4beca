"""Our paths and oracle against facebookresearch's flow_matching, an independent derivation of the same formulas.

Runs where that package is installed: pip install --no-deps flow_matching==1.0.10 (`make bench` does it).
"""

import pytest
import torch

from fmlib import rectified_flow_path, three_gaussians, vp_cosine_path, vp_linear_path

peers = pytest.importorskip("flow_matching.path", reason="flow_matching is not installed; make bench installs it")
schedulers = pytest.importorskip("flow_matching.path.scheduler")

PAIRS = {
    "rectified_flow": (rectified_flow_path, schedulers.CondOTScheduler),
    "vp_cosine": (vp_cosine_path, schedulers.CosineScheduler),
    "vp_linear": (vp_linear_path, schedulers.VPScheduler),
}


@pytest.mark.parametrize("name", PAIRS)
def test_paths_and_oracle_agree(name):
    ours, theirs = PAIRS[name][0](), peers.AffineProbPath(scheduler=PAIRS[name][1]())
    mixture = three_gaussians()
    t = torch.linspace(0.02, 0.98, 500)
    x1 = mixture.sample(500).float()
    x0 = torch.randn_like(x1)
    sample = theirs.sample(x_0=x0, x_1=x1, t=t)
    xt = ours.sample_xt(t, x0, x1)
    torch.testing.assert_close(xt, sample.x_t, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.target_ut(t, x0, x1), sample.dx_t, rtol=1e-5, atol=1e-5)

    # In double precision: their conversions divide differences of nearly equal numbers near both ends.
    t, xt = t.double(), xt.double()
    s = t[:, None]
    velocity = mixture.velocity(ours, t, xt)
    mean_x1, mean_x0 = mixture.posterior_mean_x1(ours, t, xt), mixture.posterior_mean_x0(ours, t, xt)
    for got, expected in (
        (theirs.target_to_velocity(x_1=mean_x1, x_t=xt, t=s), velocity),
        (theirs.epsilon_to_velocity(epsilon=mean_x0, x_t=xt, t=s), velocity),
        (theirs.velocity_to_target(velocity=velocity, x_t=xt, t=s), mean_x1),
        (theirs.velocity_to_epsilon(velocity=velocity, x_t=xt, t=s), mean_x0),
    ):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
        assert (got + expected).abs().max() > 0.1  # a flipped sign would be seen
