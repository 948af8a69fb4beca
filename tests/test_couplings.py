"""Couplings and what they change: transport cost, straightness, training from pairs."""

import itertools

import pytest
import torch

from fmlib import (
    PairBatches,
    SampledPairs,
    VectorFieldMLP,
    eight_gaussians,
    energy_distance,
    minibatch_ot,
    rectified_flow_path,
    reflow_pairs,
    rk4_sampler,
    sample_eight_gaussians,
    sample_moons,
    straightness,
    train_flow_matching,
    transport_cost,
)
from fmlib.batches import Batch

RF = rectified_flow_path()


def field(t, x):
    return eight_gaussians().velocity(RF, t, x)


def test_minibatch_ot_is_optimal():
    """Against all pairings of a small batch."""
    x0, x1 = torch.randn(6, 2), torch.randn(6, 2) + 2
    a, b = minibatch_ot(x0, x1)
    best = min(transport_cost(x0, x1[list(p)]) for p in itertools.permutations(range(6)))
    assert torch.equal(b, x1) and transport_cost(a, b) == pytest.approx(best, rel=1e-6)
    worst = max(transport_cost(x0, x1[list(p)]) for p in itertools.permutations(range(6)))
    assert best < worst  # a cost with its sign flipped would find this one
    assert sorted(a.tolist()) == sorted(x0.tolist())


def test_minibatch_ot_of_images_and_errors():
    x0, x1 = torch.randn(2, 4, 1, 3, 3)
    assert minibatch_ot(x0, x1)[1].shape == x1.shape
    with pytest.raises(ValueError, match=r"same shape, got x0 \[4, 2\] and x1 \[5, 2\]"):
        minibatch_ot(torch.zeros(4, 2), torch.zeros(5, 2))
    with pytest.raises(ValueError, match="same shape"):
        PairBatches(torch.zeros(4, 2), torch.zeros(5, 2))


def test_minibatch_ot_within_classes():
    x0, x1, label = torch.randn(400, 2), torch.randn(400, 2), torch.randint(3, (400,))
    x1[:, 0] += 4 * label
    a, b = minibatch_ot(x0, x1, label)
    assert torch.equal(b, x1) and sorted(a.tolist()) == sorted(x0.tolist())
    for c in range(3):
        rows = label == c
        assert sorted(a[rows].tolist()) == sorted(x0[rows].tolist())
        alone, _ = minibatch_ot(x0[rows], x1[rows])
        assert torch.equal(a[rows], alone)
    assert transport_cost(*minibatch_ot(x0, x1)) < transport_cost(a, b) < transport_cost(x0, x1)
    with pytest.raises(ValueError, match=r"label must be a tensor of shape \[400\], got \[399\]"):
        minibatch_ot(x0, x1, label[1:])


@pytest.mark.slow
def test_sampled_pairs_train_between_two_distributions():
    """From moons to eight Gaussians: the noise need not be normal."""
    torch.manual_seed(0)
    loader = SampledPairs(sample_moons, sample_eight_gaussians, batch=128, total=5)
    assert len(loader) == 5 and all(p.x0.shape == p.x1.shape == (128, 2) for p in loader)
    net = VectorFieldMLP(2, 32)
    _, ema = train_flow_matching(net, loader, RF, 400, log_every=0, coupling=minibatch_ot)
    end = rk4_sampler(ema, sample_moons(1000), steps=20)
    assert energy_distance(end, sample_eight_gaussians(1000)) < 0.1
    assert energy_distance(sample_moons(1000), sample_eight_gaussians(1000)) > 0.5


def test_straightness_of_known_flows():
    x0 = torch.randn(500, 2, dtype=torch.float64)
    assert straightness(lambda t, x: torch.ones_like(x), x0) < 1e-20
    # x_t = e^t x_0: the way is (e - 1) x_0, the velocity e^t x_0; the integral of (e - 1 - e^t)^2 is known.
    e = torch.e
    exact = (e**2 - 1) / 2 - (e - 1) ** 2
    assert straightness(lambda t, x: x, x0) == pytest.approx(exact * x0.square().sum(1).mean().item(), rel=1e-3)


def test_reflow_pairs_keep_the_ends_and_lower_the_cost():
    x0 = torch.randn(2000, 2, dtype=torch.float64)
    pairs = reflow_pairs(field, x0, steps=60)
    assert torch.equal(pairs.x0, x0)
    assert torch.equal(pairs.x1, rk4_sampler(field, x0, steps=60))
    independent = transport_cost(x0, eight_gaussians().sample(2000))
    assert transport_cost(*pairs) < 0.5 * independent


def test_training_from_pairs_uses_their_noise():
    """On pairs x_1 = x_0 + (3, 0) the velocity is constant; with fresh noise it could not be."""
    x0 = torch.randn(2000, 2)
    pairs = PairBatches(x0, x0 + torch.tensor([3.0, 0.0]), batch=128, total=300)
    _, net = train_flow_matching(VectorFieldMLP(2, 32), pairs, RF, total_steps=300, log_every=0)
    x = torch.randn(500, 2)
    assert (net(0.3, x + 0.9 * torch.tensor([1.0, 0.0])) - torch.tensor([3.0, 0.0])).norm(dim=1).median() < 0.2


def test_training_with_a_coupling():
    seen = []

    def coupling(x0, x1):
        seen.append((x0.shape, x1.shape))
        return minibatch_ot(x0, x1)

    batches = [sample_eight_gaussians(64)]
    train_flow_matching(VectorFieldMLP(2, 16), batches, RF, total_steps=3, log_every=0, coupling=coupling)
    assert seen == [((64, 2), (64, 2))] * 3


def test_a_coupling_may_reorder_both_where_nothing_belongs_to_the_data():
    """And the noise that a batch brings is the one that is paired again."""
    x0, x1 = torch.randn(2, 5, 2)
    batch = Batch(x1, x0).coupled(lambda a, b: (a.flip(0), b.roll(1, 0)))
    assert torch.equal(batch.x0, x0.flip(0)) and torch.equal(batch.x1, x1.roll(1, 0))
    with pytest.raises(ValueError, match="coupling must leave x1 in its order"):
        Batch(x1, x0, (torch.arange(5),)).coupled(lambda a, b, label: (a, b.roll(1, 0)))


def test_bad_pairs_are_named():
    with pytest.raises(ValueError, match="x0 must be finite, got NaN"):
        minibatch_ot(torch.full((3, 2), float("nan")), torch.randn(3, 2))
    with pytest.raises(ValueError, match="x1 must be finite, got NaN"):
        minibatch_ot(torch.randn(3, 2), torch.full((3, 2), float("inf")))
    with pytest.raises(ValueError, match="c must be a tensor of 3 rows, one for each pair, got list"):
        PairBatches(torch.randn(3, 2), torch.randn(3, 2), c=[1, 2, 3])
    with pytest.raises(ValueError, match=r"c must be a tensor of 3 rows, one for each pair, got \[2, 1\]"):
        PairBatches(torch.randn(3, 2), torch.randn(3, 2), c=torch.zeros(2, 1))
