"""Our exact W2 and minibatch OT against POT, and against the plan that torchcfm samples its pairs from.

Runs where they are installed (`make bench` does it).
"""

import pytest
import torch

from fmlib import minibatch_ot, sample_eight_gaussians, sample_moons, transport_cost, wasserstein2

ot = pytest.importorskip("ot", reason="POT is not installed; make bench installs it")
transport = pytest.importorskip("torchcfm.optimal_transport", reason="torchcfm is not installed; make bench does it")


@pytest.mark.parametrize("n", [16, 200])
def test_wasserstein2_and_plan_agree(n):
    a, b = sample_moons(n).double(), sample_eight_gaussians(n).double()
    squared = ot.emd2([], [], ot.dist(a.numpy(), b.numpy()))  # POT's default cost is squared: this is W2^2
    assert wasserstein2(a, b) == pytest.approx(squared**0.5, rel=1e-9)
    assert wasserstein2(a, b) != pytest.approx(squared, rel=0.05)

    x0, x1 = minibatch_ot(a, b)
    assert transport_cost(x0, x1) == pytest.approx(squared, rel=1e-9)
    plan = torch.as_tensor(transport.OTPlanSampler(method="exact").get_map(a, b))
    partner = plan.argmax(dim=0)  # the plan of two sets of equal size is a permutation, divided by n
    assert torch.equal(a[partner], x0) and torch.allclose(plan.max(dim=0).values, torch.tensor(1 / n).double())
