"""Statements of the lessons and cards that no lesson computes: each is computed here, beside a wrong twin."""

import pytest
import torch
from torch import nn

from fmlib import (
    CountCalls,
    EmpiricalDistribution,
    GaussianMixture,
    VectorFieldMLP,
    dequantise,
    dopri5_sampler,
    estimate,
    euler_sampler,
    heun_sampler,
    load_digits_flow,
    log_likelihood,
    minibatch_ot,
    moons_mixture,
    off_support_share,
    rectified_flow_path,
    rk4_sampler,
    sample_moons,
    sliced_w2,
    stratified_t,
    three_gaussians,
    transport_cost,
    ve_path,
    vp_cosine_path,
    vp_linear_path,
    wasserstein2,
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


@pytest.mark.parametrize("c", [10.0, 0.1])
def test_latents_of_another_scale_are_known_at_another_time(c):
    """Data of standard deviation c on the straight line are half known at t = 1 / (1 + c), not at t = 1 / 2."""
    latents = GaussianMixture(torch.zeros(1, 1, dtype=torch.float64), torch.tensor(c))

    def unknown(t):
        x1 = latents.sample(1_000)
        return (latents.posterior_var(RF, t, RF.sample_xt(t, torch.randn_like(x1), x1)) / c**2).mean().item()

    assert abs(unknown(1 / (1 + c)) - 0.5) < 1e-6 and abs(unknown(0.5) - 0.5) > 0.4


def test_a_few_copies_hide_in_a_mean_and_show_in_a_quantile():
    """5 % of near copies among held-out digits: the ratio of mean distances stays near 1, the 1 % quantile does not."""
    torch.manual_seed(0)
    digits = load_digits_flow()
    train, test = dequantise(digits.train), dequantise(digits.test)
    sampled = dequantise(digits.test)
    sampled[:18] = train[:18] + 0.05 * torch.randn(18, 64)
    distances = {name: torch.cdist(x, train).min(dim=1).values for name, x in (("real", test), ("sampled", sampled))}
    copied = {
        "mean": (distances["sampled"].mean() / distances["real"].mean()).item(),
        "1 %": (distances["sampled"].quantile(0.01) / distances["real"].quantile(0.01)).item(),
    }
    assert abs(copied["mean"] - 1) < 0.1 and copied["1 %"] < 0.6


def test_a_density_on_levels_can_be_made_as_high_as_one_likes():
    """Four grey levels. Narrow peaks raise the log density without end; after dequantisation the mean log density is
    a lower bound of the log probability of the levels (Theis et al. 2016, section 3.1), and narrow peaks lose."""
    torch.manual_seed(0)
    shares = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    levels = torch.arange(4, dtype=torch.float64)[:, None]
    entropy = (shares * shares.log()).sum().item()  # the best mean log probability of a level
    raw, spread = {}, {}
    for width in (0.3, 0.1, 0.01):
        peaks = GaussianMixture(levels, torch.tensor(width), shares)
        x = levels[torch.multinomial(shares, 4_000, replacement=True)]
        raw[width] = peaks.log_prob(RF, 1.0, x).mean().item()
        spread[width] = peaks.log_prob(RF, 1.0, x + torch.rand_like(x) - 0.5).mean().item()
    assert raw[0.01] > raw[0.1] > raw[0.3] and raw[0.01] > entropy + 1
    assert max(spread.values()) < entropy and spread[0.01] < spread[0.1] < spread[0.3]


def test_the_floor_of_w2_grows_with_the_dimension():
    """Two samples of 1,000 points of the same Gaussian: a reading means nothing without its floor."""
    floors = {d: wasserstein2(torch.randn(1_000, d), torch.randn(1_000, d)) for d in (2, 8, 64)}
    assert floors[2] < 0.5 and 1 < floors[8] < 3 and floors[64] > 5
    moved = wasserstein2(torch.randn(1_000, 64), torch.randn(1_000, 64) + 0.1)
    assert moved < 1.1 * floors[64]  # another distribution, and the same reading


def test_which_path_is_best_depends_on_the_solver():
    """Three Gaussians: with Euler VP-cosine has the smaller median error, with Heun rectified flow has."""
    mixture, errors = three_gaussians(), {}
    x0 = torch.randn(200, 2, dtype=torch.float64)
    for solver in (euler_sampler, heun_sampler):
        errors[solver.__name__] = {}
        for path in (rectified_flow_path(), vp_cosine_path()):
            v = lambda t, x, path=path: mixture.velocity(path, t, x)
            gap = solver(v, x0, steps=16) - rk4_sampler(v, x0, steps=200)
            errors[solver.__name__][path.name] = gap.norm(dim=1).median().item()
    assert 1.2 * errors["euler_sampler"]["vp_cosine"] < errors["euler_sampler"]["rectified_flow"]
    assert 1.2 * errors["heun_sampler"]["rectified_flow"] < errors["heun_sampler"]["vp_cosine"]


def test_the_size_of_the_target_over_time():
    """E |u_t|^2 a dimension for data and noise of variance 1: even on rectified flow and VP-cosine, on no other."""
    t = torch.tensor([0.001, 0.25, 0.5, 0.75, 0.999], dtype=torch.float64)
    paths = (rectified_flow_path(), vp_cosine_path(), vp_linear_path(), ve_path())
    size = {p.name: p.d_alpha(t) ** 2 + p.d_sigma(t) ** 2 for p in paths}
    for name, s in size.items():
        assert (s.max() / s.min() < 1.001) == (name in ("rectified_flow", "vp_cosine"))
    assert size["rectified_flow"].max() == 2 and size["vp_linear"].max() > 1_000 * size["vp_linear"].min()


def test_a_re_paired_batch_is_far_from_optimal_in_many_dimensions():
    """N(0, I) to itself: the best cost is 0. The cost of a batch's pairs falls fast in the plane, hardly in 64."""
    torch.manual_seed(0)
    cost = {
        (d, n): transport_cost(*minibatch_ot(torch.randn(n, d), torch.randn(n, d))) for d in (2, 64) for n in (64, 512)
    }
    assert cost[2, 512] < 0.4 * cost[2, 64] and cost[2, 512] < 0.2
    assert 80 < cost[64, 512] < 87 and cost[64, 512] > 0.8 * cost[64, 64]
    digits = load_digits_flow().train[:1_000]
    pairs = torch.randn_like(digits), digits
    assert 1.1 < transport_cost(*pairs) / transport_cost(*minibatch_ot(*pairs)) < 1.4


def test_times_1000_the_transformers_features_move():
    """Of 128 features with frequencies from 1 to 1e-4, how many move by more than 0.5 over t in [0, 1]."""
    frequencies = 10_000 ** (-torch.arange(64) / 64)

    def moving(t):
        angle = t[:, None] * frequencies
        features = torch.cat([angle.sin(), angle.cos()], dim=1)
        return int(((features.max(0).values - features.min(0).values) > 0.5).sum())

    t = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    assert (moving(t), moving(1000 * t)) == (5, 101)


def test_the_floor_of_an_exact_fit_of_the_digits_is_a_small_part_of_the_target():
    torch.manual_seed(0)
    digits = EmpiricalDistribution(dequantise(load_digits_flow().train).double())
    x1, t = digits.sample(600), stratified_t(600).double()
    x0 = torch.randn_like(x1)
    xt, ut = RF.sample_xt(t, x0, x1), RF.target_ut(t, x0, x1)
    floor = torch.cat([digits.velocity_var(RF, *part) for part in zip(t.split(100), xt.split(100), strict=True)])
    assert 0.10 < floor.mean() / ut.square().sum(1).mean() < 0.16  # an eighth; on the moons it is a half
