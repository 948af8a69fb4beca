"""All twelve conversions against the oracle and back again, in both precisions, and at the ends of every path."""

import itertools

import pytest
import torch

import fmlib.conversions as conversions
from fmlib import rectified_flow_path, three_gaussians, vp_cosine_path, vp_linear_path

NAMES = ("velocity", "epsilon", "x1", "score")
DIRECTIONS = list(itertools.permutations(NAMES, 2))


def convert(source, target):
    return getattr(conversions, f"{source}_to_{target}")


def oracle(path, t, xt):
    mixture = three_gaussians()
    return {
        "velocity": mixture.velocity(path, t, xt),
        "epsilon": mixture.posterior_mean_x0(path, t, xt),
        "x1": mixture.posterior_mean_x1(path, t, xt),
        "score": mixture.score(path, t, xt),
    }


def points(path, n=200, low=0.01, high=0.99, dtype=torch.float64):
    t = torch.linspace(low, high, n, dtype=dtype)
    x1 = three_gaussians().sample(n).to(dtype)
    return t, path.sample_xt(t, torch.randn_like(x1), x1)


def relative(a, b):
    return ((a - b).norm(dim=1) / (1e-3 + b.norm(dim=1))).max().item()


@pytest.mark.parametrize(("source", "target"), DIRECTIONS)
def test_conversion_is_the_oracles(path, source, target):
    t, xt = points(path)
    exact = oracle(path, t, xt)
    got = convert(source, target)(path, t, xt, exact[source])
    assert relative(got, exact[target]) < 1e-6
    assert relative(convert(source, target)(path, t, xt, -exact[source]), exact[target]) > 0.1  # a sign flipped
    if path.name != "ve":
        reversed_time = convert(source, target)(path, 1 - t, xt, exact[source])
        assert relative(reversed_time, exact[target]) > 0.1


@pytest.mark.parametrize(("source", "target"), DIRECTIONS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 5e-4)])
def test_round_trip(path, source, target, dtype, tolerance):
    t, xt = points(path, dtype=dtype)
    exact = oracle(path, t.double(), xt.double())[source].to(dtype)
    there = convert(source, target)(path, t, xt, exact)
    back = convert(target, source)(path, t, xt, there)
    # Relative to the largest value: where a quantity is nearly zero only its absolute error can be small.
    error = ((back - exact).norm(dim=1) / (exact.norm(dim=1).max())).max().item()
    assert error < tolerance


def test_v_diff():
    path = vp_cosine_path()
    t, xt = points(path)
    exact = oracle(path, t, xt)
    s = t[:, None]
    v_diff = conversions.velocity_to_v_diff(path, t, xt, exact["velocity"])
    torch.testing.assert_close(v_diff, path.alpha(s) * exact["epsilon"] - path.sigma(s) * exact["x1"])
    torch.testing.assert_close(exact["velocity"], -(torch.pi / 2) * v_diff)
    for other in (rectified_flow_path(), vp_linear_path()):
        t, xt = points(other)
        velocity = oracle(other, t, xt)["velocity"]
        v_diff = conversions.velocity_to_v_diff(other, t, xt, velocity)
        torch.testing.assert_close(conversions.v_diff_to_velocity(other, t, xt, v_diff), velocity)


@pytest.mark.parametrize(("source", "target"), DIRECTIONS)
@pytest.mark.parametrize("t", [0.0, 1.0])
def test_ends_are_finite_or_named(path, source, target, t):
    xt = torch.randn(6, 2, dtype=torch.float64)
    exact = oracle(path, t, xt)
    try:
        got = convert(source, target)(path, t, xt, exact[source])
    except ValueError as error:
        assert f"{target} is not determined by {source} at t = {t:g} on the path {path.name}" in str(error)
    else:
        assert torch.isfinite(got).all()
        if not (path.name == "vp_linear" and t == 1.0):  # there d_sigma is cut off
            torch.testing.assert_close(got, exact[target], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("source", "target"), DIRECTIONS)
def test_half_precision_is_computed_in_single_and_a_value_of_autocast_taken(path, source, target):
    t, xt = points(path, dtype=torch.float32)
    value = oracle(path, t, xt)[source].bfloat16()
    got = convert(source, target)(path, t, xt, value)  # xt in single, the model's answer in half
    assert got.dtype == torch.float32 and torch.equal(got, convert(source, target)(path, t, xt, value.float()))
    half = convert(source, target)(path, t, xt.bfloat16(), value)
    whole = convert(source, target)(path, t, xt.bfloat16().float(), value.float())
    assert half.dtype == torch.bfloat16 and torch.equal(half, whole.bfloat16())
    assert not torch.equal(convert(source, target)(path, t.bfloat16(), xt, value), got)  # t with too few digits


def test_images_and_errors():
    path, x = rectified_flow_path(), torch.randn(3, 1, 8, 8)
    t = torch.tensor([0.2, 0.5, 0.8])
    x1 = conversions.velocity_to_x1(path, t, x, torch.zeros_like(x))
    assert x1.shape == x.shape
    with pytest.raises(ValueError, match=r"same shape, got xt \[3, 1, 8, 8\] and v \[3, 1, 8, 7\]"):
        conversions.velocity_to_x1(path, t, x, x[..., :7])
    with pytest.raises(ValueError, match=r"t must lie in \[0, 1\]"):
        conversions.score_to_epsilon(path, 1.2, x, x)


@pytest.mark.parametrize("name", [n for n in dir(conversions) if "_to_" in n])
def test_the_answer_has_the_dtype_of_the_state(name, path):
    xt, value = torch.randn(2, 4, 3).bfloat16()
    assert getattr(conversions, name)(path, 0.5, xt, value).dtype == torch.bfloat16
