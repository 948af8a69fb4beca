"""Other people's conventions: each is consistent in itself, and one line brings it into ours."""

import dataclasses

import pytest
import torch

from fmlib import (
    CONVENTIONS,
    Convention,
    VectorFieldMLP,
    adapt,
    euler_sampler,
    guided,
    rectified_flow_path,
    sample_moons,
    three_gaussians,
)

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


@EACH
def test_an_adapted_model_takes_what_models_take(name):
    """A label, guidance, keyword conditions: they reach the model as they are, in every convention."""
    convention = dataclasses.replace(CONVENTIONS[name], sigma_min=0.0)
    torch.manual_seed(0)
    net, x0, label = VectorFieldMLP(2, 8, num_classes=3), torch.randn(3, 2), torch.tensor([0, 1, 2])

    def theirs(*arguments, scale=None):
        x, time = arguments[:2] if convention.x_first else arguments[1::-1]
        v = convention.sign * net(convention.time(time / convention.time_scale), x, *arguments[2:])
        return v if scale is None else v * scale[:, None]

    theirs.num_classes = net.num_classes
    expected = euler_sampler(guided(net, label, 2.0), x0, steps=4)
    got = euler_sampler(guided(adapt(theirs, convention), label, 2.0), x0, steps=4)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    scaled = guided(adapt(theirs, convention), label, 2.0)
    assert not torch.allclose(euler_sampler(scaled, x0, steps=4, scale=torch.tensor([1.0, 2.0, 0.5])), expected)


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


def test_only_diffusers_scales_the_time_that_the_network_is_given():
    """FLUX multiplies by 1,000 inside: its network takes t in [0, 1]."""
    scales = {name: c.time_scale for name, c in CONVENTIONS.items()}
    assert {name for name, scale in scales.items() if scale != 1} == {"diffusers"} and scales["diffusers"] == 1000
    assert CONVENTIONS["FLUX"].noise_at == CONVENTIONS["SD3"].noise_at == 1
