"""Other people's conventions: each is consistent in itself, and one line brings it into ours."""

import dataclasses

import pytest
import torch

from fmlib import CONVENTIONS, Convention, adapt, euler_sampler, rectified_flow_path, sample_moons, three_gaussians

PATH = rectified_flow_path()
EACH = pytest.mark.parametrize("name", CONVENTIONS)


def draw(n=50):
    data = sample_moons(n).double()
    return torch.rand(n, dtype=torch.float64), torch.randn_like(data), data


@EACH
def test_the_target_is_the_derivative_in_its_own_time(name):
    convention = CONVENTIONS[name]
    s, noise, data = draw()
    _, derivative = torch.autograd.functional.jvp(
        lambda s: convention.interpolate(s, noise, data), s, torch.ones_like(s)
    )
    assert torch.allclose(convention.target(noise, data), derivative, atol=1e-12)


@EACH
def test_translated_it_is_ours(name):
    convention = CONVENTIONS[name]
    t, noise, data = draw()
    tolerance = 1e-12 + 5 * convention.sigma_min
    xt = convention.interpolate(convention.time(t), noise, data)
    assert (xt - PATH.sample_xt(t, noise, data)).abs().max() < tolerance
    ut = convention.sign * convention.target(noise, data)
    assert (ut - PATH.target_ut(t, noise, data)).abs().max() < tolerance


@EACH
def test_an_adapted_model_samples_as_the_original(name):
    """The exact field, written in their convention as their network would be, then adapted back."""
    convention = dataclasses.replace(CONVENTIONS[name], sigma_min=0.0)
    mixture = three_gaussians()

    def exact(t, x):
        return mixture.velocity(PATH, t, x)

    def theirs(*arguments):
        x, time = arguments if convention.x_first else arguments[::-1]
        return convention.sign * exact(convention.time(time / convention.time_scale), x)

    x0 = torch.randn(64, 2, dtype=torch.float64)
    expected = euler_sampler(exact, x0, steps=20)
    assert torch.allclose(euler_sampler(adapt(theirs, convention), x0, steps=20), expected, atol=1e-9)
    if convention.noise_at:  # the wrong twin: the time is flipped, the sign is not
        wrong = euler_sampler(lambda t, x: -adapt(theirs, convention)(t, x), x0, steps=20)
        assert (wrong - expected).norm(dim=1).median() > 1


def test_formulas_use_its_own_letters():
    assert CONVENTIONS["SD3"].formulas() == (r"$(1-t)\,x_0 + t\,\epsilon$", r"$\epsilon - x_0$")
    assert CONVENTIONS["Lipman et al. 2023"].formulas()[0] == r"$(1-(1-\sigma_{\min})t)\,x_0 + t\,x_1$"


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="convention must be one of these lessons, .*, got 'sdxl'"):
        adapt(lambda t, x: x, "sdxl")
    own = Convention("mine", 1, "n", "d", "here")
    with pytest.raises(ValueError, match="must return the shape of x"):
        adapt(lambda t, x: x[:, :1], own)(0.5, torch.zeros(3, 2))
    with pytest.raises(ValueError, match="t must lie in"):
        own.interpolate(torch.tensor([2.0]), torch.zeros(1, 2), torch.zeros(1, 2))
