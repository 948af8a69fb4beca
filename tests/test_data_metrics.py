"""Data sets and distances: known values, floors, and clear errors."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from scipy.stats import energy_distance as scipy_energy_distance
from sklearn.datasets import make_moons

from fmlib import (
    dequantise,
    eight_gaussians,
    energy_distance,
    estimate,
    frechet_distance,
    load_digits_flow,
    missed_share,
    nearest_distance,
    normalized_path_energy,
    off_support_share,
    path_energy,
    rectified_flow_path,
    sample_checkerboard,
    sample_eight_gaussians,
    sample_moons,
    sampling_floor,
    sliced_w2,
    train_digit_classifier,
    wasserstein2,
)


def test_moons_have_the_moments_of_scikit_learn():
    ours = sample_moons(40_000)
    theirs = 2 * torch.tensor(make_moons(40_000, noise=0.05, random_state=0)[0], dtype=torch.float32)
    standard_error = ours.std(0) / math.sqrt(40_000)
    assert ((ours.mean(0) - theirs.mean(0)).abs() < 4.5 * standard_error).all()
    assert (torch.cov(ours.T) - torch.cov(theirs.T)).abs().max() < 0.05
    assert energy_distance(ours[:3000], theirs[:3000]) < 0.01


def test_moons_are_independent_and_seeded():
    a, b = (sample_moons(100, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(a, b)
    halves = torch.stack([(sample_moons(200)[:, 1] > 0.5).float().mean() for _ in range(50)])
    assert halves.std() > 0.01  # make_moons would give almost the same share each time


def test_digits():
    digits = load_digits_flow()
    assert digits.train.shape == (1437, 64) and digits.test.shape == (360, 64)
    assert digits.train.min() >= -1 and digits.train.max() <= 1
    everything = torch.cat([digits.train, digits.test])
    assert sorted(torch.cat([digits.train_labels, digits.test_labels]).unique().tolist()) == list(range(10))
    levels = ((everything + 1) / 2 * 17 - 0.5).round()
    assert set(levels.unique().tolist()) == set(range(17))
    spread = dequantise(everything)
    assert spread.min() >= -1 and spread.max() <= 1
    assert torch.equal(((spread + 1) / 2 * 17).floor().clamp_max(16), levels)  # no level is lost
    assert torch.equal(load_digits_flow().test, digits.test)
    assert not torch.equal(load_digits_flow(seed=1).test, digits.test)
    assert digits.sample_train(7).shape == (7, 64)


def test_energy_distance_against_scipy_and_a_closed_form():
    a, b = torch.randn(500, 1), torch.randn(400, 1) + 1
    ours = energy_distance(a, b)
    squared = scipy_energy_distance(a[:, 0].numpy(), b[:, 0].numpy()) ** 2  # the biased estimate, square-rooted
    bias = sum(torch.cdist(x, x).mean().item() / (len(x) - 1) for x in (a, b))
    assert ours == pytest.approx(squared - bias, abs=1e-5)
    # E|X - Y| of N(0, 1) and N(m, 1) is known: the distance is 2 E|N(m, 2)| - 2 E|N(0, 2)|.
    m, s = 1.0, math.sqrt(2)
    folded = s * math.sqrt(2 / math.pi) * math.exp(-(m**2) / (2 * s**2)) + m * math.erf(m / (s * math.sqrt(2)))
    exact = 2 * folded - 2 * s * math.sqrt(2 / math.pi)
    result = estimate([energy_distance(torch.randn(800, 1), torch.randn(800, 1) + m) for _ in range(20)])
    assert abs(result.mean - exact) < 4.5 * result.std_error


def test_energy_distance_is_unbiased_at_the_floor():
    floor = sampling_floor(energy_distance, sample_moons, 200, repeats=60)
    assert abs(floor.mean) < 4.5 * floor.std_error
    biased = sampling_floor(
        lambda a, b: energy_distance(a, b) + torch.cdist(a, a).mean().item() / 199 * 2, sample_moons, 200, repeats=60
    )
    assert biased.mean > 4.5 * biased.std_error


def test_wasserstein_of_a_shift_is_the_shift():
    x, shift = torch.randn(300, 3), torch.tensor([3.0, 0.0, 4.0])
    assert wasserstein2(x, x + shift) == pytest.approx(5, rel=1e-5)  # 25 would be the square
    assert wasserstein2(x, x[torch.randperm(300)]) == pytest.approx(0, abs=1e-6)
    assert sliced_w2(x, x + shift) == pytest.approx(5 / math.sqrt(3), rel=0.15)
    assert sliced_w2(x, x[torch.randperm(300)]) == pytest.approx(0, abs=1e-6)


def test_one_dimensional_wasserstein_of_two_gaussians():
    """W2(N(0, 1), N(m, s^2))^2 = m^2 + (s - 1)^2; in one dimension the sliced distance is the exact one."""
    a, b = torch.randn(4000, 1), 2 * torch.randn(4000, 1) + 1
    assert sliced_w2(a, b) == pytest.approx(math.sqrt(2), rel=0.05)
    assert sliced_w2(a[:1000], b[:1000]) == pytest.approx(wasserstein2(a[:1000], b[:1000]), rel=1e-4)


def test_sliced_distance_of_unequal_sizes():
    two, three = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [0.0], [1.0]])
    assert sliced_w2(two, three) == pytest.approx(math.sqrt(1 / 6), rel=1e-12)  # a sixth of the mass moves by 1
    assert sliced_w2(-two, -three) == pytest.approx(math.sqrt(1 / 6), rel=1e-12)
    a, b = torch.randn(100, 2), torch.randn(100, 2)
    assert sliced_w2(a, b.repeat(3, 1)) == pytest.approx(sliced_w2(a, b), rel=1e-12)


def test_distances_keep_their_digits_far_from_the_origin():
    a = torch.randn(50, 2, dtype=torch.float64) + 1e6
    assert wasserstein2(a, a) == 0 and sliced_w2(a, a) == 0
    assert energy_distance(torch.randn(20, 2).half(), torch.randn(20, 2)) < 5


def test_floors_fall_with_the_sample_size():
    floors = [sampling_floor(sliced_w2, sample_moons, n, repeats=10) for n in (100, 1600)]
    assert floors[0].mean / floors[1].mean == pytest.approx(4, rel=0.4)


def test_estimate():
    values = np.arange(10.0)
    result = estimate(values)
    assert result == (4.5, pytest.approx(values.std(ddof=1) / math.sqrt(10)), 10)
    assert str(result) == "4.5000 ± 0.9574"


@pytest.mark.parametrize("metric", [energy_distance, sliced_w2, wasserstein2])
def test_bad_input_is_named(metric):
    good = torch.randn(5, 2)
    with pytest.raises(ValueError, match=r"same dimension, got a \[5, 2\] and b \[5, 3\]"):
        metric(good, torch.randn(5, 3))
    with pytest.raises(ValueError, match=r"a must have shape \[N, d\] with N >= 2, got \[1, 2\]"):
        metric(good[:1], good)
    with pytest.raises(ValueError, match=r"b must have shape \[N, d\] with N >= 2, got \[5\]"):
        metric(good, good[:, 0])
    with pytest.raises(ValueError, match="b must be finite"):
        metric(good, good * float("inf"))
    with pytest.raises(TypeError, match="a must be a torch.Tensor, got ndarray"):
        metric(good.numpy(), good)
    with pytest.raises(ValueError, match="same number of points, got 5 and 4"):
        wasserstein2(good, good[:4])
    with pytest.raises(TypeError, match="n must be an integer"):
        sample_moons(2.5)


def test_checkerboard():
    x = sample_checkerboard(40_000)
    square = ((x + 4) / 2).floor().long()
    assert square.min() == 0 and square.max() == 3 and ((square.sum(1) % 2) == 0).all()
    share = torch.bincount(4 * square[:, 0] + square[:, 1], minlength=16).double() / len(x)
    on = share[share > 0]
    assert len(on) == 8 and (on - 1 / 8).abs().max() < 5 * (0.125 * 0.875 / len(x)) ** 0.5
    floor = sampling_floor(energy_distance, sample_checkerboard, 1000)
    assert abs(floor.mean) < 0.02 < energy_distance(sample_checkerboard(1000), sample_moons(1000))


def test_frechet_distance_against_its_formula():
    """On exact moments: whitened points, so that means and covariances are what they should be."""
    z = torch.randn(500, 3, dtype=torch.float64)
    z = torch.linalg.solve(torch.linalg.cholesky(torch.cov(z.T)), (z - z.mean(0)).T).T
    a, b = 2.0 * z, 0.5 * z + torch.tensor([1.0, 0.0, 2.0])
    assert frechet_distance(a, b) == pytest.approx(5 + 3 * (2.0 - 0.5) ** 2, rel=1e-9)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q
    stretch = z * torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    ca, cb = torch.diag(torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64)), torch.cov((stretch @ turn).T)
    root = scipy.linalg.sqrtm((ca @ cb).numpy()).real.trace()
    expected = (ca.trace() + cb.trace()).item() - 2 * root
    assert frechet_distance(stretch, stretch @ turn) == pytest.approx(expected, rel=1e-6)
    assert expected != pytest.approx((ca.sqrt() - torch.diag(cb).sqrt().diag()).square().sum().item(), rel=0.05)


def test_nearest_distance():
    grid = torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0))
    assert nearest_distance(grid, grid) == 0
    assert nearest_distance(grid + torch.tensor([0.3, 0.4]), grid) == pytest.approx(0.5, rel=1e-6)


def test_path_energy_of_known_flows():
    x0 = torch.randn(400, 2, dtype=torch.float64)
    scale = x0.square().sum(1).mean().item()
    # x_t = e^t x_0 has velocity e^t x_0: energy (e^2 - 1) / 2 |x_0|^2, above the squared way (e - 1)^2.
    assert path_energy(lambda t, x: x, x0) == pytest.approx((math.e**2 - 1) / 2 * scale, rel=1e-3)
    # x_t = (1 + t) x_0 is straight and optimal: W2^2 is |x_0|^2.
    optimal = normalized_path_energy(lambda t, x: x / (1 + t[0]), x0, 2 * x0)
    assert optimal < 1e-3
    growing = normalized_path_energy(lambda t, x: math.log(2) * x, x0, 2 * x0)
    assert growing == pytest.approx(math.log(2) * 3 / 2 - 1, rel=1e-2)


def test_digits_with_labels():
    digits = load_digits_flow()
    x, label = digits.sample_labelled(500)
    assert x.shape == (500, 64) and label.shape == (500,) and x.abs().max() <= 1
    nearest = torch.cdist(x, digits.train).argmin(dim=1)
    assert torch.equal(digits.train_labels[nearest], label)


@pytest.mark.slow
def test_digit_classifier_is_trained_on_real_digits_alone():
    digits = load_digits_flow(seed=torch.initial_seed() % 1000)
    classifier = train_digit_classifier(digits)
    assert classifier.agreement(digits.test, digits.test_labels) >= 0.98
    assert classifier.agreement(digits.test, digits.test_labels.roll(1)) < 0.3
    assert classifier.features(digits.test).shape == (360, 64) and not classifier.training
    upside_down = digits.test.reshape(-1, 8, 8).flip(1).reshape(-1, 64)
    assert classifier.agreement(upside_down, digits.test_labels) < 0.7


def test_a_lost_clump_and_stray_points_are_told_apart():
    """Each measure is the other's wrong twin: where one sees the fault, the other reads what fresh data read."""
    eight, path = eight_gaussians(), rectified_flow_path()
    log_prob = lambda x: eight.log_prob(path, 1.0, x)
    real, fresh = sample_eight_gaussians(8_000), sample_eight_gaussians(8_000)
    lost = fresh[(fresh - torch.tensor([3.0, 0.0])).norm(dim=1) > 1.2]
    stray = fresh.clone()
    stray[:400] += torch.randn(400, 2)
    centres = eight.means.float()
    centre = centres[torch.cdist(fresh, centres).argmin(dim=1)]
    narrow = (fresh + centre) / 2  # each clump drawn together to half its width
    missed = {name: missed_share(x, real) for name, x in (("fresh", fresh), ("lost", lost), ("stray", stray))}
    off = {
        name: off_support_share(x, real, log_prob) for name, x in (("fresh", fresh), ("lost", lost), ("stray", stray))
    }
    assert abs(missed["fresh"].mean - 2**-7) < 5 * 1.4 * missed["fresh"].std_error
    assert missed["lost"].mean == pytest.approx(1 / 8, abs=0.02) and off["lost"].mean < 0.015
    assert off["stray"].mean > 0.025 and missed["stray"].mean < 0.013
    assert missed_share(narrow, real).mean > 0.05 and off_support_share(narrow, real, log_prob).mean < 0.005


def test_missed_share_by_hand():
    real = torch.tensor([[0.0], [1.0], [2.0], [10.0]])  # balls of 1, 1, 1 and 8 around them, to their nearest others
    assert missed_share(torch.tensor([[0.5], [0.6]]), real, 1)[0] == 0.25 + 0.25  # 2 and 10 have no sample near
    assert missed_share(torch.tensor([[2.0], [2.0]]), real, 1)[0] == 0.25
    assert missed_share(real.repeat(2, 1), real.repeat(2, 1), 1)[0] == 0  # a ball of radius 0 around a double holds it
    share = missed_share(real, real, 3)
    assert share == (0, pytest.approx(math.sqrt(1 / 6 * 5 / 6 / 4)), 4)
    with pytest.raises(ValueError, match=r"real must hold more than 7 points \(neighbours\), got 4"):
        missed_share(real, real)
    with pytest.raises(ValueError, match="neighbours must be an integer of at least 1, got 0"):
        missed_share(real, real, 0)


def test_missed_share_reads_a_power_of_a_half_on_fresh_data():
    """2^-k at equal numbers; with twice as many samples as real points 3^-k: of the points around, a third is real."""
    for k in (1, 3):
        for samples, base in ((2_000, 2), (4_000, 3)):
            read = [missed_share(sample_moons(samples), sample_moons(2_000), k) for _ in range(10)]
            shares = estimate([share.mean for share in read])
            assert abs(shares.mean - base**-k) < 5 * shares.std_error
            assert shares.std_error * math.sqrt(10) < 3 * read[0].std_error
