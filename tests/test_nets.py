"""`FourierMLP`: the linear velocity behind which its network sits, its random waves; and what old checkpoints hold."""

import pytest
import torch

from fmlib import (
    FourierMLP,
    GaussianMixture,
    VectorFieldMLP,
    cfm_loss,
    eight_gaussians,
    heun_sampler,
    late_t,
    make_ema,
    missed_share,
    moons_mixture,
    off_support_share,
    rectified_flow_path,
    sample_eight_gaussians,
    sample_moons,
    sampling_floor,
    sliced_w2,
    train_flow_matching,
)
from fmlib.batches import SampledBatches

RF = rectified_flow_path()
STD = 1.7


def linear(path, std=STD, dim=2, **kwargs):
    """The network with F = 0."""
    net = FourierMLP(dim, path, std, hidden=8, waves=4, t_dim=8, **kwargs).double()
    torch.nn.init.zeros_(net.trunk[-1].weight), torch.nn.init.zeros_(net.trunk[-1].bias)
    return net


def test_without_its_network_it_is_the_exact_field_of_a_gaussian(path):
    data = GaussianMixture(torch.zeros(1, 2, dtype=torch.float64), torch.tensor(STD, dtype=torch.float64))
    t, x = torch.linspace(0, 1, 50, dtype=torch.float64), 3 * torch.randn(50, 2, dtype=torch.float64)
    right = data.velocity(path, t, x)
    torch.testing.assert_close(linear(path)(t, x), right, rtol=1e-6, atol=1e-6)
    assert (linear(path, 1.2 * STD)(t, x) - right).abs().max() > 1e-2  # the wrong twin: another spread


def test_what_its_network_has_to_learn_is_of_size_one(path):
    """c(t) is the standard deviation of u_t that the linear part leaves, at every t; wrong where data_std is."""

    def left(std, n=20_000):
        net = linear(path, std)
        torch.nn.init.ones_(net.trunk[-1].bias)  # F = 1
        ratios = []
        for time in (0.1, 0.5, 0.9):
            t, x0, x1 = torch.full((n,), time).double(), torch.randn(n, 2).double(), STD * torch.randn(n, 2).double()
            xt, ut = path.sample_xt(t, x0, x1), path.target_ut(t, x0, x1)
            with torch.no_grad():
                rest, scale = ut - linear(path, std)(t, xt), net(t, xt) - linear(path, std)(t, xt)
            ratios.append((rest.square().mean().sqrt() / scale.mean()).item())
        return ratios

    assert left(STD) == pytest.approx([1, 1, 1], rel=0.03)
    assert max(abs(r - 1) for r in left(2 * STD)) > 0.1


def test_its_waves_follow_the_seed_and_are_kept():
    def made(seed):
        torch.manual_seed(seed)
        return FourierMLP(2, RF, 1.4, waves=500, frequency=3.0)

    net = made(0)
    assert torch.equal(net.waves.w, made(0).waves.w) and not torch.equal(net.waves.w, made(1).waves.w)
    assert net.waves.w.std().item() == pytest.approx(3.0, rel=0.1)
    assert "waves.w" in net.state_dict() and "waves.w" not in dict(net.named_parameters())
    assert torch.equal(make_ema(net).waves.w, net.waves.w)
    assert torch.equal(made(0).bfloat16().waves.w, net.waves.w)  # rounded frequencies would be others
    other = made(1)
    other.load_state_dict(net.state_dict())
    x = torch.randn(5, 2)
    assert torch.equal(other(0.3, x), net(0.3, x))


def test_how_it_is_called():
    net, x = FourierMLP(2, RF, 1.4, num_classes=3), torch.randn(4, 2)
    t = torch.full((4,), 0.25)
    for time in (0.25, torch.tensor(0.25), t):
        torch.testing.assert_close(net(time, x), net(t, x))
    assert not torch.equal(net(t, x, 0), net(t, x, 1)) and torch.equal(net(t, x), net(t, x, 3))
    assert net(t[:1], x[:1]).shape == (1, 2)
    assert "path=rectified_flow, data_std=1.4" in repr(net)
    with pytest.raises(ValueError, match="data_std must be a finite number above 0, got 0"):
        FourierMLP(2, RF, 0)
    with pytest.raises(ValueError, match="waves must be an integer of at least 1, got 0"):
        FourierMLP(2, RF, 1.0, waves=0)
    with pytest.raises(ValueError, match="frequency must be a finite number of at least 0, got -1"):
        FourierMLP(2, RF, 1.0, frequency=-1)
    with pytest.raises(ValueError, match=r"t must lie in \[0, 1\]"):
        net(1.5, x)


def test_it_trains_on_every_path(path):
    net, x1 = FourierMLP(2, path, 1.4), sample_moons(64)
    before = cfm_loss(net, path, x1).item()
    train_flow_matching(net, [x1], path, 2, log_every=0)
    assert before > 0 and cfm_loss(net, path, x1).isfinite()


def test_old_checkpoints_fit():
    """The names of the first edition's network."""
    names = "x_in.weight x_in.bias t_in.1.weight t_in.1.bias".split()
    names += [f"trunk.{i}.{part}" for i in (1, 3, 5) for part in ("weight", "bias")]
    assert list(VectorFieldMLP(2, 8, t_dim=8).state_dict()) == names


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sample", "mixture", "std"),
    [(sample_moons, moons_mixture, 1.4), (sample_eight_gaussians, eight_gaussians, 2.1)],
    ids=["moons", "eight Gaussians"],
)
def test_the_recipe_draws_edges_that_a_plain_network_blurs(sample, mixture, std):
    """2,000 x 512: near the floor, few strays, nothing lost. The plain network is near the floor too, and strays."""
    n, log_prob = 10_000, lambda x: mixture().log_prob(RF, 1.0, x)
    real, floor = sample(n), sampling_floor(sliced_w2, sample, n).mean

    def measured(net, lr, t_dist="stratified"):
        _, net = train_flow_matching(net, SampledBatches(sample, 512), RF, 2_000, lr, t_dist=t_dist, log_every=0)
        x = heun_sampler(net, torch.randn(n, 2), steps=50)
        return sliced_w2(x, sample(n)) / floor, off_support_share(x, real, log_prob).mean, missed_share(x, real).mean

    distance, strays, missed = measured(FourierMLP(2, RF, std), 1e-2, late_t)
    assert distance < 3.5 and strays < 0.03 and missed < 0.02
    plain, plain_strays, _ = measured(VectorFieldMLP(2, 128), 5e-3)
    assert plain < 3.5 and plain_strays > 0.036
