"""The oracle against autograd of its own density, Monte Carlo, and numerical quadrature."""

import math

import pytest
import torch

from fmlib import (
    EmpiricalDistribution,
    GaussianMixture,
    euler_sampler,
    moons_mixture,
    rectified_flow_path,
    sample_moons,
    three_gaussians,
    vp_linear_path,
)


def points(path, mixture, t, n):
    x1 = mixture.sample(n)
    return path.sample_xt(t, torch.randn_like(x1), x1)


def test_score_is_the_gradient_of_log_prob(path):
    mixture = three_gaussians()
    for t in (0.0, 0.3, 0.8, 1.0):
        x = points(path, mixture, t, 50).requires_grad_()
        gradient = torch.autograd.grad(mixture.log_prob(path, t, x).sum(), x)[0]
        torch.testing.assert_close(mixture.score(path, t, x), gradient, rtol=1e-9, atol=1e-9)


def test_continuity_equation(path):
    """d p / dt + div(p u) = 0, divided by p; and the wrong twin with the sign of u flipped."""
    mixture = three_gaussians()
    t = torch.rand(200, dtype=torch.float64) * 0.98 + 0.01
    x = points(path, mixture, t, 200).requires_grad_()
    t = t.requires_grad_()
    dlogp_dt, score = torch.autograd.grad(mixture.log_prob(path, t, x).sum(), (t, x))
    u = mixture.velocity(path, t, x)
    divergence = sum(torch.autograd.grad(u[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(2))
    transport = divergence + (u * score).sum(dim=1)
    assert ((dlogp_dt + transport).abs() / (1 + dlogp_dt.abs())).max() < 1e-10
    assert ((dlogp_dt - transport).abs() / (1 + dlogp_dt.abs())).max() > 0.1


def test_posteriors_against_monte_carlo(path):
    """Regress the true x_1, x_0 and u_t on a few fixed features of (t, x): the residuals must be uncorrelated."""
    mixture, n = three_gaussians(), 40_000
    x1 = mixture.sample(n)
    x0 = torch.randn_like(x1)
    t = torch.rand(n, dtype=torch.float64) * 0.98 + 0.01
    xt = path.sample_xt(t, x0, x1)
    scale = xt.norm(dim=1) / (1 + path.sigma(t))
    features = (torch.ones(n), torch.cos(scale), torch.tanh(xt[:, 0]))
    for name, truth, spread in (
        ("posterior_mean_x1", x1, mixture.posterior_var(path, t, xt)),
        ("posterior_mean_x0", x0, None),
        ("velocity", path.target_ut(t, x0, x1), mixture.velocity_var(path, t, xt)),
    ):
        residual = truth - getattr(mixture, name)(path, t, xt)
        unit = residual / (1e-9 + path.d_sigma(t).abs()[:, None] + 1) if name == "velocity" else residual
        for f in features:
            product = f[:, None] * unit
            z = product.mean(0) / (product.std(0) / math.sqrt(n))
            assert z.abs().max() < 4.5, name
        if spread is not None:
            weight = 1 / (1 + path.d_sigma(t).abs()) ** 2
            gap = weight * (residual.square().sum(1) - spread)
            assert abs(gap.mean() / (gap.std() / math.sqrt(n))) < 4.5, name
            wrong = weight * (residual.square().mean(1) - spread)  # the mean over dimensions for the sum
            assert abs(wrong.mean() / (wrong.std() / math.sqrt(n))) > 20, name


def test_identities_between_the_quantities(path):
    mixture = three_gaussians()
    t = torch.rand(100, dtype=torch.float64)
    x = points(path, mixture, t, 100)
    s = t[:, None]
    x0, x1 = mixture.posterior_mean_x0(path, t, x), mixture.posterior_mean_x1(path, t, x)
    torch.testing.assert_close(path.alpha(s) * x1 + path.sigma(s) * x0, x)
    torch.testing.assert_close(path.d_alpha(s) * x1 + path.d_sigma(s) * x0, mixture.velocity(path, t, x))
    torch.testing.assert_close(x0, -path.sigma(s) * mixture.score(path, t, x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_at_both_ends_and_far_away(path, dtype):
    mixture = three_gaussians()
    x = torch.tensor([[0.0, 0.0], [1e3, -1e3]], dtype=dtype)
    for t in (0.0, 1.0):
        for name in ("log_prob", "score", "velocity", "posterior_mean_x1", "posterior_mean_x0", "posterior_var"):
            value = getattr(mixture, name)(path, t, x)
            assert value.dtype == dtype and torch.isfinite(value).all(), name


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(path, half):
    """Exactly the rounded answer of float32, close to the data too, where half precision has no digits left for t."""
    mixture, t = three_gaussians(), torch.linspace(0.9, 0.9995, 50)
    x = points(path, mixture, t.double(), 50).to(half)
    for name in ("log_prob", "score", "velocity", "posterior_mean_x1", "posterior_mean_x0", "posterior_var"):
        method = getattr(mixture, name)
        got = method(path, t, x)
        assert got.dtype == half and torch.equal(got, method(path, t, x.float()).to(half))
    if path.name != "ve":  # the wrong twin: t itself in half precision
        assert not torch.equal(mixture.posterior_var(path, t.to(half), x), mixture.posterior_var(path, t, x))
    own = GaussianMixture(torch.zeros(2, 2, dtype=half), [0.1, 0.2], [0.1, 0.9])
    assert own.sample(5).dtype == half and own.weights.tolist() == pytest.approx([0.1, 0.9], rel=1e-6)
    assert EmpiricalDistribution(torch.randn(3000, 2).to(half)).weights.sum().item() == pytest.approx(1, rel=1e-5)


def test_density_integrates_to_one_in_one_dimension(path):
    mixture = GaussianMixture(torch.tensor([[-1.0], [2.0]], dtype=torch.float64), torch.tensor([0.3, 0.7]))
    half = 10 * (1 + path.prior_std)
    x = torch.linspace(-half, half, 200_001, dtype=torch.float64)[:, None]
    for t in (0.0, 0.5, 1.0):
        p = mixture.log_prob(path, t, x).exp()
        assert torch.trapezoid(p, x[:, 0]).item() == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dim", [1, 2, 16])
def test_score_and_velocity_in_any_dimension(path, dim, dtype):
    """Against autograd of log p (score), and against x_t's own bookkeeping (velocity), t from 0 to 1 inclusive."""
    mixture = GaussianMixture(torch.randn(4, dim, dtype=torch.float64), torch.tensor([0.3, 0.5, 0.7, 1.0]))
    tolerance = 1e-9 if dtype == torch.float64 else 2e-4
    t = torch.linspace(0, 1, 41, dtype=dtype)
    x1 = mixture.sample(41).to(dtype)
    x = path.sample_xt(t, torch.randn_like(x1), x1).requires_grad_()
    score = mixture.score(path, t, x)
    gradient = torch.autograd.grad(mixture.log_prob(path, t, x).sum(), x)[0]
    scale = 1 + gradient.abs().max()
    assert (score - gradient).abs().max() < tolerance * scale
    assert (score + gradient).abs().max() > 1000 * tolerance * scale  # the sign flipped
    if path.name == "vp_linear":
        t = t.clamp(max=0.999)  # d_sigma itself is cut off at 1 - 1e-5
    s = t[:, None]
    mean = path.d_alpha(s) * mixture.posterior_mean_x1(path, t, x) + path.d_sigma(s) * mixture.posterior_mean_x0(
        path, t, x
    )
    velocity = mixture.velocity(path, t, x)
    scale = 1 + mean.abs().max()
    assert (velocity - mean).abs().max() < tolerance * scale
    reversed_time = mixture.velocity(path, 1 - t, x)
    assert (reversed_time - mean).abs().max() > 1000 * tolerance * scale


def test_velocity_by_quadrature_in_one_dimension(path):
    """E[alpha' x_1 + sigma' x_0 given x_t = x] by integrating over x_1."""
    mixture = GaussianMixture(torch.tensor([[-1.0], [2.0]], dtype=torch.float64), torch.tensor([0.3, 0.7]))
    x1 = torch.linspace(-8, 10, 400_001, dtype=torch.float64)
    prior = sum(w * torch.exp(-0.5 * ((x1 - m) / s) ** 2) / s for w, m, s in ((0.5, -1.0, 0.3), (0.5, 2.0, 0.7)))
    for t in (0.1, 0.5, 0.9):
        time = torch.tensor(t, dtype=torch.float64)
        alpha, sigma = path.alpha(time), path.sigma(time)
        for x in (-0.7, 1.3):
            weight = prior * torch.exp(-0.5 * ((x - alpha * x1) / sigma) ** 2)
            target = path.d_alpha(time) * x1 + path.d_sigma(time) * (x - alpha * x1) / sigma
            mean = torch.trapezoid(weight * target, x1) / torch.trapezoid(weight, x1)
            variance = torch.trapezoid(weight * (target - mean) ** 2, x1) / torch.trapezoid(weight, x1)
            point = torch.tensor([[x]], dtype=torch.float64)
            assert mixture.velocity(path, t, point).item() == pytest.approx(mean.item(), rel=1e-6, abs=1e-6)
            assert mixture.velocity_var(path, t, point).item() == pytest.approx(variance.item(), rel=1e-5)


def test_velocity_is_finite_and_right_at_the_end_of_vp_linear():
    """sigma sigma' has a limit where sigma' has none: at t = 1 the velocity is alpha' x + (sigma sigma')(-score)."""
    mixture, path = three_gaussians(), vp_linear_path()
    x = mixture.sample(50)
    at_end, close = mixture.velocity(path, 1.0, x), mixture.velocity(path, 1 - 1e-7, x)
    torch.testing.assert_close(at_end, close, rtol=1e-4, atol=1e-4)
    expected = 0.05 * x + 0.05 * mixture.score(path, 1.0, x)
    torch.testing.assert_close(at_end, expected)
    dropped = 0.05 * x  # the product taken as 0 because sigma is 0
    assert (at_end - dropped).abs().max() > 0.05


def test_empirical_distribution_is_the_limit_of_narrow_gaussians(path):
    data = torch.randn(30, 2, dtype=torch.float64)
    exact, narrow = EmpiricalDistribution(data), GaussianMixture(data, torch.tensor(1e-5))
    t = torch.rand(40, dtype=torch.float64) * 0.8
    x = points(path, exact, t, 40)
    for name in ("log_prob", "score", "velocity", "posterior_mean_x1", "posterior_mean_x0"):
        torch.testing.assert_close(
            getattr(exact, name)(path, t, x), getattr(narrow, name)(path, t, x), rtol=1e-4, atol=1e-4
        )
    assert (exact.sample(10)[:, None] == data).all(dim=2).any(dim=1).all()


def test_empirical_flow_memorises():
    data = torch.randn(64, 2, dtype=torch.float64)
    exact, rf = EmpiricalDistribution(data), rectified_flow_path()
    samples = euler_sampler(lambda t, x: exact.velocity(rf, t, x), torch.randn(200, 2, dtype=torch.float64), steps=200)
    assert torch.cdist(samples, data).min(dim=1).values.max() < 1e-6
    fresh = torch.randn(200, 2, dtype=torch.float64)
    assert torch.cdist(fresh, data).min(dim=1).values.median() > 1e-2


def test_empirical_errors():
    exact = EmpiricalDistribution(torch.randn(5, 2))
    with pytest.raises(ValueError, match="t must be below 1 on the path rectified_flow"):
        exact.velocity(rectified_flow_path(), 1.0, torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"data must have shape \[N, d\], got \[5\]"):
        EmpiricalDistribution(torch.zeros(5))


def test_moons_mixture_is_the_density_of_the_moons():
    rf = rectified_flow_path()
    x = sample_moons(300).double()
    fine = moons_mixture(400)
    assert (moons_mixture().log_prob(rf, 1.0, x) - fine.log_prob(rf, 1.0, x)).abs().max() < 1e-4
    sample, other = moons_mixture().sample(20_000), sample_moons(20_000).double()
    standard_error = other.std(0) / math.sqrt(10_000)
    assert ((sample.mean(0) - other.mean(0)).abs() < 4.5 * standard_error).all()


def test_bad_input_is_named():
    means = torch.zeros(3, 2)
    with pytest.raises(ValueError, match=r"means must have shape \[K, d\], got \[3\]"):
        GaussianMixture(torch.zeros(3), torch.ones(3))
    with pytest.raises(ValueError, match="stds must be positive"):
        GaussianMixture(means, torch.tensor([1.0, 0.0, 1.0]))
    with pytest.raises(ValueError, match=r"weights must have shape \[3\], one a component, got \[2\]"):
        GaussianMixture(means, torch.ones(3), torch.ones(2))
    with pytest.raises(ValueError, match="weights must be non-negative"):
        GaussianMixture(means, torch.ones(3), torch.tensor([1.0, -1.0, 1.0]))
    with pytest.raises(ValueError, match=r"x must have shape \[B, 2\], got \[5, 3\]"):
        GaussianMixture(means, torch.ones(3)).score(rectified_flow_path(), 0.5, torch.zeros(5, 3))


def test_a_data_set_in_half_precision_keeps_its_weights_in_single():
    data = EmpiricalDistribution(torch.randn(7, 2).bfloat16())
    assert data.stds.dtype == data.weights.dtype == torch.float32 and data.means.dtype == torch.bfloat16
    assert float(data.weights.sum()) == pytest.approx(1, abs=1e-6)
