"""Paths: derivatives against autograd, boundaries, the quick reference's formulas, and clear errors."""

import math

import pytest
import torch

from fmlib import (
    FlowPath,
    euler_sampler,
    rectified_flow_path,
    three_gaussians,
    ve_path,
    vp_cosine_path,
    vp_linear_path,
)


def derivative(f, t):
    t = t.clone().requires_grad_()
    return torch.autograd.grad(f(t).sum(), t)[0]


def relative_error(a, b):
    return ((a - b).abs() / (1 + b.abs())).max().item()


def test_derivatives_agree_with_autograd(path):
    t = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    assert relative_error(path.d_alpha(t), derivative(lambda s: path.alpha(s) + 0 * s, t)) < 1e-10
    assert relative_error(path.d_sigma(t), derivative(path.sigma, t)) < 1e-10
    assert relative_error(path.half_d_sigma_sq(t), derivative(lambda s: path.sigma(s) ** 2 / 2, t)) < 1e-10
    # The wrong twin: a sign flipped is far outside the tolerance.
    assert relative_error(-path.d_sigma(t), derivative(path.sigma, t)) > 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("make", "at_noise", "at_data"),
    [
        (rectified_flow_path, (0, 1), (1, 0)),
        (vp_cosine_path, (0, 1), (1, 0)),
        (vp_linear_path, (math.exp(-0.5 * 10.05), math.sqrt(1 - math.exp(-10.05))), (1, 0)),
        (ve_path, (1, 50), (1, 0.01)),
    ],
)
def test_boundaries(make, at_noise, at_data, dtype):
    path = make()
    for t, expected in ((0.0, at_noise), (1.0, at_data)):
        t = torch.tensor(t, dtype=dtype)
        got = (path.alpha(t).item(), path.sigma(t).item())
        assert got == pytest.approx(expected, rel=1e-5, abs=0)
    assert path.prior_std == pytest.approx(at_noise[1])


def test_everything_is_finite_at_both_ends(path):
    x0, x1 = torch.randn(2, 5, 3)
    for t in (0.0, 1.0):
        assert torch.isfinite(path.sample_xt(t, x0, x1)).all()
        assert torch.isfinite(path.target_ut(t, x0, x1)).all()


def test_variance_preserving_paths_preserve_variance():
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    for path in (vp_cosine_path(), vp_linear_path()):
        assert (path.alpha(t) ** 2 + path.sigma(t) ** 2 - 1).abs().max() < 1e-14


def test_vp_linear_is_the_vp_sde():
    """d/dtau of alpha and sigma^2 as the SDE dx = -beta x / 2 dtau + sqrt(beta) dW has them, at tau = 1 - t."""
    path, tau = vp_linear_path(), torch.linspace(0.01, 1, 100, dtype=torch.float64)
    beta = 0.1 + 19.9 * tau
    t = 1 - tau
    assert relative_error(-path.d_alpha(t), -0.5 * beta * path.alpha(t)) < 1e-12
    variance_rate = -2 * path.half_d_sigma_sq(t)
    assert relative_error(variance_rate, beta * (1 - path.sigma(t) ** 2)) < 1e-12
    assert relative_error(variance_rate, 0.5 * beta * (1 - path.sigma(t) ** 2)) > 0.1  # a factor 1/2 dropped


def test_formulas_of_the_quick_reference():
    t, (x0, x1) = torch.rand(7), torch.randn(2, 7, 4)
    s = t[:, None]
    rf, vp, ve = rectified_flow_path(), vp_cosine_path(), ve_path(0.02, 30.0)
    half_pi = math.pi / 2
    sigma = 0.02 * (30.0 / 0.02) ** (1 - s)
    expected = {
        rf: ((1 - s) * x0 + s * x1, x1 - x0),
        vp: (
            torch.cos(half_pi * s) * x0 + torch.sin(half_pi * s) * x1,
            -half_pi * torch.sin(half_pi * s) * x0 + half_pi * torch.cos(half_pi * s) * x1,
        ),
        ve: (x1 + sigma * x0, -math.log(30.0 / 0.02) * sigma * x0),
    }
    for path, (xt, ut) in expected.items():
        torch.testing.assert_close(path.sample_xt(t, x0, x1), xt, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(path.target_ut(t, x0, x1), ut, rtol=1e-5, atol=1e-5)


def test_ve_starts_from_its_prior():
    path = ve_path(sigma_max=50.0)
    assert path.sample_prior(20_000, 1).std().item() == pytest.approx(50, rel=0.05)
    x0 = torch.randn(20_000, 1)
    # In training the path scales the noise itself; scaling x_0 as well would give 2,500.
    assert path.sample_xt(0.0, x0, torch.zeros_like(x0)).std().item() == pytest.approx(50, rel=0.05)


def test_any_shape_and_scalar_t(path):
    x0, x1 = torch.randn(2, 4, 3, 8, 8)
    t = torch.full((4,), 0.3)
    assert torch.equal(path.sample_xt(0.3, x0, x1), path.sample_xt(t, x0, x1))
    assert path.target_ut(t, x0, x1).shape == x0.shape


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(path, half):
    (x0, x1), t = torch.randn(2, 50, 3).to(half), torch.linspace(0.9, 0.9995, 50)
    for method in (path.sample_xt, path.target_ut):
        got = method(t, x0, x1)
        assert got.dtype == half and torch.equal(got, method(t, x0.float(), x1.float()).to(half))
    assert not torch.equal(path.sample_xt(t.to(half), x0, x1), path.sample_xt(t, x0, x1))  # t with too few digits


X = torch.zeros(4, 2)


@pytest.mark.parametrize(
    ("t", "x0", "x1", "error", "message"),
    [
        (torch.full((4,), 1.5), X, X, ValueError, r"t must lie in \[0, 1\], got values from 1.5"),
        (-0.1, X, X, ValueError, r"t must lie in \[0, 1\], got values from -0.1"),
        (float("nan"), X, X, ValueError, r"t must lie in \[0, 1\], got values from nan"),
        (torch.zeros(3), X, X, ValueError, r"t must be a number or have shape \[4\].*got \[3\]"),
        (torch.zeros(4, 1), X, X, ValueError, r"t must be a number or have shape \[4\].*got \[4, 1\]"),
        (torch.zeros(4, device="meta"), X, X, ValueError, "t must be on the device of x, got t on meta and x on cpu"),
        (torch.zeros(4, dtype=torch.long), X, X, TypeError, "t must hold floating-point numbers, got torch.int64"),
        ("0.5", X, X, TypeError, "t must be a torch.Tensor or a number, got str"),
        (0.5, torch.zeros(4, 3), X, ValueError, r"x0 \[4, 3\] and x1 \[4, 2\]"),
        (0.5, torch.zeros(5, 2), X, ValueError, r"x0 \[5, 2\] and x1 \[4, 2\]"),
        (0.5, X.double(), X, TypeError, "same dtype, got x0 torch.float64 and x1 torch.float32"),
        (0.5, X.to("meta"), X, ValueError, "same device, got x0 meta and x1 cpu"),
        (0.5, [0.0], X, TypeError, "x0 must be a torch.Tensor, got list"),
        (0.5, X.long(), X, TypeError, "x0 must hold floating-point numbers"),
        (0.5, torch.zeros(0, 2), torch.zeros(0, 2), ValueError, r"x0 must have shape \[B, ...\] with B >= 1"),
    ],
)
def test_bad_input_is_named(t, x0, x1, error, message):
    for method in (rectified_flow_path().sample_xt, rectified_flow_path().target_ut):
        with pytest.raises(error, match=message):
            method(t, x0, x1)


@pytest.mark.parametrize("limits", [(1.0, 1.0), (2.0, 1.0), (0.0, 1.0), (-1.0, 1.0), (float("nan"), 1.0)])
def test_bad_path_limits(limits):
    with pytest.raises(ValueError, match=f"sigma_min.*got {limits[0]}"):
        ve_path(*limits)
    with pytest.raises(ValueError, match="beta_min and beta_max"):
        vp_linear_path(beta_min=3.0, beta_max=2.0)


def test_a_path_is_two_functions(path):
    """The derivatives that are not given follow. The wrong twin is given a derivative that is not its own."""
    mine = FlowPath("mine", path.alpha, path.sigma)
    t = torch.linspace(0.01, 0.98, 30, dtype=torch.float64)
    for own, shipped in zip(mine.at(t), path.at(t), strict=True):
        torch.testing.assert_close(own, shipped, rtol=1e-9, atol=1e-9)
    x0, x1 = torch.randn(2, 30, 3, dtype=torch.float64)
    torch.testing.assert_close(mine.target_ut(t, x0, x1), path.target_ut(t, x0, x1))
    wrong = FlowPath("wrong", path.alpha, path.sigma, d_sigma=lambda t: -path.d_sigma(t))
    assert not torch.allclose(wrong.at(t).half_d_sigma_sq, path.at(t).half_d_sigma_sq)


def test_all_coefficients_at_once(path):
    t = torch.rand(2, 4)
    for name, value in path.at(t)._asdict().items():
        assert torch.equal(value, getattr(path, name)(t)) and value.shape == t.shape


def test_a_path_of_two_functions_goes_through_a_sampler():
    """A sampler expands one time to the batch; the derivatives that a path works out by itself must take that."""
    known = vp_cosine_path()
    mine = FlowPath("mine", known.alpha, known.sigma)
    x, mixture = torch.randn(7, 2, dtype=torch.float64), three_gaussians()
    ends = [euler_sampler(lambda t, x, p=p: mixture.velocity(p, t, x), x, steps=5) for p in (mine, known)]
    torch.testing.assert_close(*ends)
