"""Statements of the lessons and cards that no lesson computes: each is computed here, beside a wrong twin."""

import pytest
import torch
from torch import nn

from fmlib import (
    CountCalls,
    EmpiricalDistribution,
    VectorFieldMLP,
    dopri5_sampler,
    estimate,
    heun_sampler,
    log_likelihood,
    moons_mixture,
    off_support_share,
    rectified_flow_path,
    sample_moons,
    sliced_w2,
    stratified_t,
    three_gaussians,
)

RF = rectified_flow_path()


def test_stray_points_are_seen_where_a_distance_is_not_moved():
    """3 % of points between the moons: sliced W2 stays near its floor, the share off the support is three times 1 %."""
    moons = moons_mixture()
    log_prob = lambda x: moons.log_prob(RF, 1.0, x)
    real, fresh = sample_moons(6_000), sample_moons(6_000)
    stray = fresh.clone()
    stray[:180] += 0.7 * torch.randn(180, 2)
    share = {name: off_support_share(x, real, log_prob) for name, x in (("fresh", fresh), ("stray", stray))}
    assert abs(share["fresh"].mean - 0.01) < 5 * 1.42 * share["fresh"].std_error  # both thresholds and share are drawn
    assert share["stray"].mean > 2.5 * share["fresh"].mean
    assert sliced_w2(stray, real) < 3 * max(sliced_w2(fresh, real), 0.015)
    none = off_support_share(real[:50], real, lambda x: torch.zeros(len(x)))
    assert none.mean == 0 and 0 < none.std_error < 0.03
    with pytest.raises(ValueError, match="quantile must be a finite number above 0 and at most 1, got 0"):
        off_support_share(real, fresh, log_prob, 0)


def test_one_hard_sample_among_many_easy_ones_is_averaged_away():
    """dopri5's error is a root mean square over the batch. Alone the hard sample is right; the wrong claim is that it
    sets the pace for all."""

    def waves(t, x):  # x = (position, rate): the position ends at sin(rate)
        return torch.stack([x[:, 1] * torch.cos(x[:, 1] * t), torch.zeros_like(t)], dim=1)

    def solve(rates):
        model = CountCalls(waves)
        x0 = torch.stack([torch.zeros_like(rates), rates], dim=1)
        end = dopri5_sampler(model, x0, rtol=1e-5, atol=1e-5)
        return model.nfe, (end[0, 0] - rates[0].sin()).abs().item()

    hard = torch.tensor([60.0], dtype=torch.float64)
    alone, error_alone = solve(hard)
    among, error_among = solve(torch.cat([hard, torch.ones(9_999, dtype=torch.float64)]))
    assert among < 0.5 * alone and error_among > 20 * error_alone and error_alone < 1e-4


def turned(x):
    return torch.stack([-x[:, 1], x[:, 0]], dim=1)


def test_the_likelihood_does_not_see_a_swirl_that_keeps_the_densities():
    mixture = three_gaussians()
    fields = {
        "u": lambda t, x: mixture.velocity(RF, t, x),
        "u + turned score": lambda t, x: mixture.velocity(RF, t, x) + turned(mixture.score(RF, t, x)),
        "u + turned x": lambda t, x: mixture.velocity(RF, t, x) + turned(x),  # divergence-free, and wrong
    }
    x = mixture.sample(40)
    exact = mixture.log_prob(RF, 1.0, x)
    error = {name: (log_likelihood(v, x, steps=150, path=RF) - exact).abs().max() for name, v in fields.items()}
    assert max(error["u"], error["u + turned score"]) < 2e-4 and error["u + turned x"] > 0.5


def test_memorising_leaves_a_loss_and_being_fed_the_data_leaves_d():
    """Neither makes the CFM loss zero; only a set of one point does."""
    torch.manual_seed(0)
    floors = {}
    for n in (1, 10, 1_000):
        data = EmpiricalDistribution(sample_moons(n))
        x1, t = data.sample(4_000), stratified_t(4_000)
        xt = RF.sample_xt(t, torch.randn_like(x1), x1)
        parts = zip(t.split(1_000), xt.split(1_000), strict=True)
        floors[n] = estimate(torch.cat([data.velocity_var(RF, *part) for part in parts])).mean
    assert floors[1] < 1e-6 and 1.5 < floors[10] < 0.9 * floors[1_000]
    x1 = torch.randn(20_000, 64)
    x0 = torch.randn_like(x1)
    fed = estimate((x1 - RF.target_ut(0.5, x0, x1)).square().sum(1))
    assert abs(fed.mean - 64) < 5 * fed.std_error


@pytest.mark.slow
def test_a_narrow_network_stays_on_a_sheet_if_it_predicts_the_data():
    """Moons on a plane in 128 dimensions, hidden layers of 32, the same velocity loss for three outputs. How far the
    samples lie off the plane; Li & He 2025 (arXiv 2511.13720), figure 2, has the experiment at 512."""
    d, off = 128, {}
    torch.manual_seed(0)
    plane = torch.linalg.qr(torch.randn(d, 2))[0]
    for output in ("x1", "velocity", "epsilon"):
        torch.manual_seed(1)
        net = VectorFieldMLP(d, 32)
        optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=500)

        def v(t, x, net=net, output=output):
            out, s = net(t, x), t[:, None]
            if output == "x1":
                return (out - x) / (1 - s).clamp_min(0.05)
            return out if output == "velocity" else (x - out) / s.clamp_min(0.05)

        for _ in range(500):
            x1, t = sample_moons(256) @ plane.T, stratified_t(256)
            x0 = torch.randn_like(x1)
            loss = (v(t, RF.sample_xt(t, x0, x1)) - RF.target_ut(t, x0, x1)).square().sum(1).mean() / d
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        x = heun_sampler(v, torch.randn(300, d), steps=30)
        off[output] = (x - x @ plane @ plane.T).norm(dim=1).mean().item()
    print("distance off the plane", off)
    assert 5 * off["x1"] < off["velocity"] < off["epsilon"] / 3
