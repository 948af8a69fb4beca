"""The oracle against autograd of its own density, Monte Carlo, and numerical quadrature."""

import math

import pytest
import torch

from fmlib import GaussianMixture, moons_mixture, rectified_flow_path, sample_moons


def mixture_a(dtype=torch.float64):
    angle = torch.tensor([90.0, 210.0, 330.0], dtype=dtype) * math.pi / 180
    means = 2 * torch.stack([angle.cos(), angle.sin()], dim=1)
    return GaussianMixture(means, torch.tensor([0.35, 0.5, 0.25]), torch.tensor([0.5, 0.3, 0.2]))


def points(path, mixture, t, n):
    x1 = mixture.sample(n)
    return path.sample_xt(t, torch.randn_like(x1), x1)


def test_score_is_the_gradient_of_log_prob(path):
    mixture = mixture_a()
    for t in (0.0, 0.3, 0.8, 1.0):
        x = points(path, mixture, t, 50).requires_grad_()
        gradient = torch.autograd.grad(mixture.log_prob(path, t, x).sum(), x)[0]
        torch.testing.assert_close(mixture.score(path, t, x), gradient, rtol=1e-9, atol=1e-9)


def test_continuity_equation(path):
    """d p / dt + div(p u) = 0, divided by p; and the wrong twin with the sign of u flipped."""
    mixture = mixture_a()
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
    mixture, n = mixture_a(), 40_000
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
    mixture = mixture_a()
    t = torch.rand(100, dtype=torch.float64)
    x = points(path, mixture, t, 100)
    s = t[:, None]
    x0, x1 = mixture.posterior_mean_x0(path, t, x), mixture.posterior_mean_x1(path, t, x)
    torch.testing.assert_close(path.alpha(s) * x1 + path.sigma(s) * x0, x)
    torch.testing.assert_close(path.d_alpha(s) * x1 + path.d_sigma(s) * x0, mixture.velocity(path, t, x))
    torch.testing.assert_close(x0, -path.sigma(s) * mixture.score(path, t, x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_at_both_ends_and_far_away(path, dtype):
    mixture = mixture_a()
    x = torch.tensor([[0.0, 0.0], [1e3, -1e3]], dtype=dtype)
    for t in (0.0, 1.0):
        for name in ("log_prob", "score", "velocity", "posterior_mean_x1", "posterior_mean_x0", "posterior_var"):
            value = getattr(mixture, name)(path, t, x)
            assert value.dtype == dtype and torch.isfinite(value).all(), name


def test_density_integrates_to_one_in_one_dimension(path):
    mixture = GaussianMixture(torch.tensor([[-1.0], [2.0]], dtype=torch.float64), torch.tensor([0.3, 0.7]))
    half = 10 * (1 + path.prior_std)
    x = torch.linspace(-half, half, 200_001, dtype=torch.float64)[:, None]
    for t in (0.0, 0.5, 1.0):
        p = mixture.log_prob(path, t, x).exp()
        assert torch.trapezoid(p, x[:, 0]).item() == pytest.approx(1, abs=1e-8)


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
