"""Properties that hold for every shape, dtype and time, found by hypothesis; and errors that name their argument."""

import inspect
import re

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fmlib
from fmlib import (
    CountCalls,
    EmpiricalDistribution,
    FlowPath,
    GaussianMixture,
    PairBatches,
    SampledBatches,
    SampledPairs,
    VectorFieldMLP,
    adapt,
    cfm_loss,
    cosine_grid,
    ddim_sampler,
    dopri5_sampler,
    dpm_solver_sampler,
    drop_labels,
    edm_grid,
    energy_distance,
    euler_sampler,
    guided,
    heun_sampler,
    log_likelihood,
    logit_normal_t,
    midpoint_sampler,
    minibatch_ot,
    rectified_flow_path,
    reflow_pairs,
    rk4_sampler,
    scheduler_grid,
    sde_sampler,
    shift_grid,
    sliced_w2,
    stratified_t,
    three_gaussians,
    train_flow_matching,
    transport_cost,
    uniform_grid,
    uniform_t,
    ve_path,
    vp_cosine_path,
    vp_linear_path,
    wasserstein2,
)
from fmlib.learner import Learner

RF = rectified_flow_path()
PATHS = (RF, vp_cosine_path(), vp_linear_path(), ve_path(0.1, 5.0))
SAMPLERS = (euler_sampler, midpoint_sampler, heun_sampler, rk4_sampler)
MIX = three_gaussians()
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)

dtypes = st.sampled_from([torch.float32, torch.float64])
shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)  # [B, ...], B alone included
times = st.floats(0.05, 0.95)
seeds = st.integers(0, 10_000)


def randn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# --- shapes, dtypes, broadcasting


@quick
@given(shapes, dtypes, times, seeds, st.sampled_from(PATHS))
def test_a_path_keeps_shape_and_dtype_and_broadcasts_its_time(shape, dtype, t, seed, path):
    x0, x1 = randn(*shape, seed=seed, dtype=dtype), randn(*shape, seed=seed + 1, dtype=dtype)
    one = path.sample_xt(t, x0, x1)
    each = path.sample_xt(torch.full(shape[:1], t, dtype=dtype), x0, x1)
    assert one.shape == shape and one.dtype == dtype and torch.equal(one, each)
    own = torch.linspace(0.1, 0.9, shape[0], dtype=dtype)
    whole = path.target_ut(own, x0, x1)
    rows = torch.cat([path.target_ut(own[i], x0[i : i + 1], x1[i : i + 1]) for i in range(shape[0])])
    torch.testing.assert_close(whole, rows)
    if shape[0] > 1:  # the wrong twin: the times in another order give another target, unless it is constant in t
        other = path.target_ut(own.flip(0), x0, x1)
        assert path is RF or not torch.allclose(whole, other)


@quick
@given(shapes, times, seeds, st.sampled_from(PATHS))
def test_every_conversion_comes_back(shape, t, seed, path):
    names = ("velocity", "epsilon", "x1", "score")
    xt, value = randn(*shape, seed=seed, dtype=torch.float64), randn(*shape, seed=seed + 1, dtype=torch.float64)
    for a in names:
        for b in names:
            if a != b:
                there = getattr(fmlib, f"{a}_to_{b}")(path, t, xt, value)
                back = getattr(fmlib, f"{b}_to_{a}")(path, t, xt, there)
                torch.testing.assert_close(back, value, rtol=1e-6, atol=1e-6)
                assert there.shape == xt.shape and not torch.allclose(there, value)
    v_diff = fmlib.velocity_to_v_diff(path, t, xt, value)
    torch.testing.assert_close(fmlib.v_diff_to_velocity(path, t, xt, v_diff), value, rtol=1e-6, atol=1e-6)


@quick
@given(shapes, dtypes, st.integers(1, 5), seeds, st.sampled_from(SAMPLERS))
def test_samplers_solve_a_linear_field_at_their_grid(shape, dtype, steps, seed, sampler):
    """dx/dt = a x with a number a: every solver multiplies by its stability polynomial of a h, for every shape."""
    a, h = 0.7, 1 / steps
    x0 = randn(*shape, seed=seed, dtype=dtype)
    states = sampler(lambda t, x: a * x, x0, steps=steps, return_trajectory=True)
    z = a * h
    order_2 = 1 + z + z**2 / 2
    factor = {euler_sampler: 1 + z, rk4_sampler: order_2 + z**3 / 6 + z**4 / 24}.get(sampler, order_2)
    assert states.shape == (steps + 1, *shape) and states.dtype == dtype
    torch.testing.assert_close(states[-1], factor**steps * x0, rtol=1e-4, atol=1e-5)
    back = sampler(lambda t, x: a * x, x0, steps=steps, t_start=1.0, t_end=0.0)
    assert not torch.allclose(back, states[-1])


@quick
@given(seeds, st.integers(2, 6), st.integers(1, 3))
def test_distances_are_distances(seed, n, d):
    a, b = randn(n, d, seed=seed, dtype=torch.float64), randn(n, d, seed=seed + 1, dtype=torch.float64) + 1
    c = randn(n, d, seed=seed + 2, dtype=torch.float64)
    assert wasserstein2(a, a) == pytest.approx(0, abs=1e-9) and sliced_w2(a, a) == pytest.approx(0, abs=1e-9)
    assert wasserstein2(a, b) == pytest.approx(wasserstein2(b, a))
    assert wasserstein2(a, b) <= wasserstein2(a, c) + wasserstein2(c, b) + 1e-9
    assert sliced_w2(a, b) <= wasserstein2(a, b) + 1e-9  # a projection moves no point farther
    assert (
        wasserstein2(a, b) == pytest.approx(wasserstein2(a + 3, b + 3)) == pytest.approx(wasserstein2(5 * a, 5 * b) / 5)
    )
    assert energy_distance(a, b) == pytest.approx(energy_distance(b, a))
    x0, x1 = minibatch_ot(a, b)
    assert transport_cost(x0, x1) <= transport_cost(a, b) + 1e-9
    assert torch.equal(x0.sort(0).values, a.sort(0).values) and torch.equal(x1, b)


@quick
@given(st.integers(1, 60), st.floats(0.2, 5), st.floats(-1, 1), st.floats(0.2, 2))
def test_times_and_grids(n, shift, m, s):
    for draw in (uniform_t, stratified_t, logit_normal_t(m, s)):
        t = draw(n)
        assert t.shape == (n,) and t.dtype == torch.float32 and bool(((t > -1e-9) & (t < 1)).all())
    within = stratified_t(n).double().sort().values * n - torch.arange(n)
    assert bool(((within > -1e-4) & (within < 1 + 1e-4)).all())
    for grid in (uniform_grid, cosine_grid, shift_grid(shift), edm_grid(RF)):
        g = torch.as_tensor(grid(n))
        assert g.shape == (n + 1,) and g[0] == 0 and g[-1] == 1 and bool((g.diff() > 0).all())
    middle = shift_grid(shift)(2)[1].item()
    assert (middle < 0.5) == (shift > 1) or middle == pytest.approx(0.5)  # above 1: nearer to the noise


@quick
@given(seeds, times, st.floats(-3, 3))
def test_guidance_is_linear_in_its_scale(seed, t, scale):
    v = {0: 1.0, 1: -2.0, 3: 0.5}

    def model(t, x, label):
        return x * torch.tensor([v[int(c)] for c in label], dtype=x.dtype)[:, None]

    x = randn(4, 2, seed=seed)
    for label in (0, 1):
        out = guided(model, label, scale, null_label=3)(t, x)
        torch.testing.assert_close(out, x * (v[3] + scale * (v[label] - v[3])), rtol=1e-4, atol=1e-5)


# --- errors: each begins with the name of its argument, and says what came

X = torch.zeros(3, 2)
TEXT, INTS = "text", torch.zeros(3, 2, dtype=torch.long)
field = lambda t, x: x
labelled = lambda t, x, c: x
net = VectorFieldMLP(2, 8, t_dim=4)
fit = lambda **kw: train_flow_matching(
    kw.pop("model", net), kw.pop("dataloader", [X]), kw.pop("path", RF), kw.pop("total_steps", 2), log_every=kw.pop("log_every", 0), **kw
)  # fmt: skip

NUMBER, INT = "must be a finite number", "must be an integer of at least"
BAD = [
    *[
        (lambda f=getattr(fmlib, f"{a}_to_{b}"): f(RF, 0.5, X, TEXT), TypeError, f"{'v' if a == 'velocity' else a} must be a torch.Tensor, got str")
        for a in ("velocity", "epsilon", "x1", "score")
        for b in ("velocity", "epsilon", "x1", "score")
        if a != b
    ],
    (lambda: fmlib.velocity_to_v_diff(RF, 0.5, X, TEXT), TypeError, "v must be a torch.Tensor, got str"),
    (lambda: fmlib.v_diff_to_velocity(RF, 0.5, X, TEXT), TypeError, "v_diff must be a torch.Tensor, got str"),
    (lambda: fmlib.velocity_to_x1(RF, 0.5, TEXT, X), TypeError, "xt must be a torch.Tensor, got str"),
    (lambda: fmlib.velocity_to_x1(RF, 2.0, X, X), ValueError, "t must lie in .0, 1., got values from 2 to 2"),
    (lambda: RF.sample_prior(0, 2), ValueError, f"shape {INT} 1, got 0"),
    (lambda: RF.sample_xt(0.5, TEXT, X), TypeError, "x0 must be a torch.Tensor, got str"),
    (lambda: vp_linear_path(TEXT), TypeError, f"beta_min {NUMBER}, got 'text'"),
    (lambda: vp_linear_path(0.1, TEXT), TypeError, f"beta_max {NUMBER}, got 'text'"),
    (lambda: vp_linear_path(0.0), ValueError, "beta_min and beta_max must satisfy 0 < beta_min <= beta_max, got 0.0"),
    (lambda: ve_path(TEXT), TypeError, f"sigma_min {NUMBER}, got 'text'"),
    (lambda: ve_path(0.1, TEXT), TypeError, f"sigma_max {NUMBER}, got 'text'"),
    (lambda: EmpiricalDistribution(TEXT), TypeError, "data must be a torch.Tensor, got str"),
    (lambda: EmpiricalDistribution(X / 0), ValueError, "data must be finite, got NaN or infinity in it"),
    (lambda: EmpiricalDistribution(X[0]), ValueError, r"data must have shape \[N, d\], got \[2\]"),
    (lambda: GaussianMixture(TEXT, torch.tensor(1.0)), TypeError, "means must be a torch.Tensor, got str"),
    (lambda: MIX.sample(0), ValueError, f"n {INT} 1, got 0"),
    (lambda: MIX.velocity(RF, 0.5, TEXT), TypeError, "x must be a torch.Tensor, got str"),
    (lambda: drop_labels(TEXT, 0.1, 3), (TypeError, ValueError), "label must be .*, got str$"),
    (lambda: drop_labels(torch.tensor(3), 0.1, 3), TypeError, r"label must be .*, got torch.int64 \[\]"),
    (lambda: drop_labels(torch.zeros(3).long(), 1.5, 3), ValueError, f"probability {NUMBER} of at least 0 and at most 1, got 1.5"),
    (lambda: drop_labels(torch.zeros(3).long(), 0.1, -1), ValueError, f"null_label {INT} 0, got -1"),
    (lambda: guided(labelled, 0, 1.0), ValueError, "null_label must be given for a model without num_classes, got None"),
    (lambda: guided(labelled, 0, TEXT, null_label=3), TypeError, f"guidance_scale {NUMBER}, got 'text'"),
    (lambda: guided(labelled, 0, 1.0, null_label=TEXT), TypeError, f"null_label {INT} 0, got 'text'"),
    (lambda: guided(labelled, 0, 1.0, null_label=3, interval=3), ValueError, "interval must be a pair .*, got 3"),
    (lambda: guided(labelled, 0, 1.0, null_label=3, interval=(0.5, 2)), ValueError, f"interval end {NUMBER} of at least 0"),
    (lambda: guided(labelled, 0, 1.0, null_label=3, interval=(-1, 1)), ValueError, f"interval start {NUMBER} of at least 0"),
    (lambda: guided(labelled, 0, 1.0, null_label=3, interval=(0.6, 0.5)), ValueError, "interval must have start <= end, got .0.6, 0.5."),
    (lambda: guided(labelled, 0, 1.0, null_label=3)(0.5, TEXT), TypeError, "x must be a torch.Tensor, got str"),
    (lambda: guided(VectorFieldMLP(2, 8, num_classes=3), 7, 1.0)(0.5, X), ValueError, "label must lie in 0 ... 2 .or 3 for no class., got values from 7"),
    (lambda: PairBatches(TEXT, X), TypeError, "x0 must be a torch.Tensor, got str"),
    (lambda: PairBatches(X, X, batch=0), ValueError, f"batch {INT} 1, got 0"),
    (lambda: PairBatches(X, X, total=0), ValueError, f"total {INT} 1, got 0"),
    (lambda: SampledPairs(None, None, batch=0), ValueError, f"batch {INT} 1, got 0"),
    (lambda: SampledPairs(None, None, total=0), ValueError, f"total {INT} 1, got 0"),
    (lambda: SampledBatches(None, batch=0), ValueError, f"batch {INT} 1, got 0"),
    (lambda: minibatch_ot(X, TEXT), TypeError, "x1 must be a torch.Tensor, got str"),
    (lambda: minibatch_ot(X, X, TEXT), ValueError, r"label must be a tensor of shape \[3\], got str"),
    (lambda: minibatch_ot(X, X, X), ValueError, r"label must be a tensor of shape \[3\], got \[3, 2\]"),
    (lambda: reflow_pairs(field, X, steps=0), ValueError, f"steps {INT} 1, got 0"),
    (lambda: shift_grid(0.0), ValueError, f"shift {NUMBER} above 0, got 0.0"),
    (lambda: edm_grid(RF, TEXT), TypeError, f"sigma_min {NUMBER}, got 'text'"),
    (lambda: edm_grid(RF, 0.1, TEXT), TypeError, f"sigma_max {NUMBER}, got 'text'"),
    (lambda: edm_grid(RF, 0.1, 1.0, 0.0), ValueError, f"rho {NUMBER} above 0, got 0.0"),
    (lambda: edm_grid(RF, 1.0, 0.1), ValueError, "sigma_min and sigma_max must satisfy 0 < sigma_min < sigma_max, got 1.0, 0.1"),
    (lambda: uniform_grid(0), ValueError, f"steps {INT} 1, got 0"),
    *[(lambda s=s: s(field, TEXT), TypeError, "x0 must be a torch.Tensor, got str") for s in SAMPLERS],
    (lambda: euler_sampler(field, X, steps=1.5), TypeError, f"steps {INT} 1, got 1.5"),
    (lambda: euler_sampler(field, X / 0), ValueError, "x0 must be finite, got NaN or infinity in it"),
    (lambda: euler_sampler(field, X, t_start=-1), ValueError, f"t_start {NUMBER} of at least 0 and at most 1, got -1"),
    (lambda: euler_sampler(field, X, t_end=2), ValueError, f"t_end {NUMBER} of at least 0 and at most 1, got 2"),
    (lambda: euler_sampler(field, X, t_end=0), ValueError, "t_start and t_end must differ, got 0.0 for both"),
    (lambda: euler_sampler(field, X, grid=lambda n: torch.zeros(n + 1)), ValueError, r"grid\(steps\) must be 51 increasing times from 0 to 1, got \[0"),
    (lambda: euler_sampler(lambda t, x: x / 0, X + 1), ValueError, r"model\(t, x\) must return finite values, got NaN or infinity at the first"),
    (lambda: euler_sampler(lambda t, x: x.mul_(2), X + 1), ValueError, r"model\(t, x\) must not change x in place"),
    (lambda: ddim_sampler(field, X, steps=0, path=RF), ValueError, f"steps {INT} 1, got 0"),
    (lambda: sde_sampler(field, X, path=RF, noise=-1), ValueError, f"noise {NUMBER} of at least 0, got -1"),
    (lambda: sde_sampler(field, X, path=RF, t_start=0.5, t_end=0.5), ValueError, "t_start and t_end must differ, got 0.5 for both"),
    (lambda: sde_sampler(field, X, path=RF, t_start=1, t_end=0), ValueError, "t_start must be below t_end for an SDE, got 1 and 0"),
    (lambda: dopri5_sampler(field, TEXT), TypeError, "x0 must be a torch.Tensor, got str"),
    (lambda: dopri5_sampler(field, X, steps=0), ValueError, f"steps {INT} 1, got 0"),
    (lambda: dopri5_sampler(field, X, rtol=0), ValueError, f"rtol {NUMBER} above 0, got 0"),
    (lambda: dopri5_sampler(field, X, atol=0), ValueError, f"atol {NUMBER} above 0, got 0"),
    (lambda: log_likelihood(field, TEXT, path=RF), TypeError, "x1 must be a torch.Tensor, got str"),
    (lambda: log_likelihood(field, X, path=RF, probes=0), ValueError, f"probes {INT} 1, got 0"),
    (lambda: logit_normal_t(TEXT), TypeError, f"m {NUMBER}, got 'text'"),
    (lambda: logit_normal_t(0.0, 0.0), ValueError, f"s {NUMBER} above 0, got 0.0"),
    (lambda: cfm_loss(net, RF, TEXT), TypeError, "x1 must be a torch.Tensor, got str"),
    (lambda: cfm_loss(net, RF, X, INTS), TypeError, "x0 must hold floating-point numbers, got torch.int64"),
    (lambda: cfm_loss(net, RF, X, t_dist="beta"), ValueError, "t_dist must be one of uniform, stratified, logitnormal or a function .*, got 'beta'"),
    (lambda: cfm_loss(net, RF, X, t_dist=lambda n, device: 3), ValueError, r"t_dist must draw a floating-point tensor of shape \[3\], got 3"),
    (lambda: fit(model=TEXT), TypeError, "model must be a torch.nn.Module, got str"),
    (lambda: fit(path=TEXT), TypeError, "path must be a FlowPath, such as rectified_flow_path.., got str"),
    (lambda: fit(total_steps=0), ValueError, f"total_steps {INT} 1, got 0"),
    (lambda: fit(log_every=-1), ValueError, f"log_every {INT} 0, got -1"),
    (lambda: fit(lr=0.0), ValueError, f"lr {NUMBER} above 0, got 0.0"),
    (lambda: fit(weight_decay=-1), ValueError, f"weight_decay {NUMBER} of at least 0, got -1"),
    (lambda: fit(ema_decay=1.5), ValueError, f"ema_decay {NUMBER} of at least 0 and at most 1, got 1.5"),
    (lambda: fit(ema_decay=1), ValueError, "ema_decay must be below 1: the average would never move, got 1"),
    (lambda: fit(grad_clip=0), ValueError, f"grad_clip {NUMBER} above 0, got 0"),
    (lambda: fit(schedule="cosine"), ValueError, "schedule must be 'onecycle' or 'constant', got 'cosine'"),
    (lambda: fit(total_steps=1), ValueError, "total_steps must be at least 2 for the schedule 'onecycle', got 1: use schedule='constant'"),
    (lambda: fit(label_dropout=0.1), ValueError, "label_dropout needs a model with classes .an attribute num_classes., got one without"),
    (lambda: fit(model=VectorFieldMLP(2, 8, t_dim=4, num_classes=2)), ValueError, "label_dropout must be given for a model with 2 classes, got None; 0.1 is usual"),
    (lambda: fit(model=VectorFieldMLP(2, 8, t_dim=4, num_classes=2), label_dropout=2.0), ValueError, f"label_dropout {NUMBER} of at least 0 and at most 1, got 2.0"),
    (lambda: fit(model=VectorFieldMLP(2, 8, t_dim=4, num_classes=2), label_dropout=0.1), ValueError, r"dataloader must yield \(x1, label\) when label_dropout is given, got no label"),
    (lambda: fit(model=VectorFieldMLP(2, 8, t_dim=4).requires_grad_(False)), ValueError, "model must have parameters to train, got none that require a gradient"),
    (lambda: fit(dataloader=[]), ValueError, "dataloader is empty: it yielded no batch, expected batches x1 .B, ..."),
    (lambda: fit(dataloader=[X / 0]), FloatingPointError, "the loss became (nan|inf) at step 1 of 2: training stopped"),
    (lambda: fit(coupling=lambda x0, x1, label: (x0, -x1), dataloader=[(X + 1, torch.zeros(3).long())], label_dropout=0.1, model=VectorFieldMLP(2, 8, t_dim=4, num_classes=2)), ValueError, "coupling must leave x1 in its order and re-order x0, because the labels belong to x1"),
    (lambda: adapt(field, "SD4"), ValueError, "convention must be one of these lessons, .*, got 'SD4'"),
]  # fmt: skip


IDS = [f"{i}-{re.sub(r'[^a-z0-9]+', '-', b[2][:30])}" for i, b in enumerate(BAD)]  # names that a command line takes


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=IDS)
def test_errors_begin_with_the_argument(call, error, message):
    with pytest.raises(error, match=f"^{message}"):
        call()


# --- small exact facts that slower tests would only see statistically


def test_defaults_are_the_documented_ones():
    def default(function, name):
        return inspect.signature(function).parameters[name].default

    steps = {
        euler_sampler: 50, midpoint_sampler: 50, heun_sampler: 50, rk4_sampler: 25, ddim_sampler: 50, sde_sampler: 250,
        dpm_solver_sampler: 20,
        dopri5_sampler: None, log_likelihood: 100, reflow_pairs: 50,
    }  # fmt: skip
    assert {f: default(f, "steps") for f in steps} == steps
    for f in (*SAMPLERS, ddim_sampler, dpm_solver_sampler, sde_sampler):
        assert default(f, "grad") is False
    learning = {"weight_decay": 0.0, "grad_clip": 1.0, "schedule": "onecycle", "ema_decay": 0.9999}
    assert {name: default(Learner, name) for name in learning} == learning
    for f in (*SAMPLERS, ddim_sampler, dpm_solver_sampler, sde_sampler, dopri5_sampler):
        assert (default(f, "t_start"), default(f, "t_end"), default(f, "return_trajectory")) == (0.0, 1.0, False)
    assert (default(dopri5_sampler, "rtol"), default(dopri5_sampler, "atol")) == (1e-5, 1e-5)
    assert default(sde_sampler, "noise") == 1.0 and default(shift_grid, "shift") == 3.0 == default(
        scheduler_grid, "shift"
    )
    assert (default(logit_normal_t, "m"), default(logit_normal_t, "s")) == (0.0, 1.0)
    edm = {"sigma_min": 0.002, "sigma_max": 80.0, "rho": 7.0}
    assert {name: default(edm_grid, name) for name in edm} == edm
    for loader, batch in ((PairBatches, 256), (SampledPairs, 256), (SampledBatches, 512)):
        assert (default(loader, "batch"), default(loader, "total")) == (batch, 1000)
    assert (default(vp_linear_path, "beta_min"), default(vp_linear_path, "beta_max")) == (0.1, 20.0)
    assert (default(ve_path, "sigma_min"), default(ve_path, "sigma_max")) == (0.01, 50.0)


@pytest.mark.parametrize(
    ("sampler", "exact"), [(midpoint_sampler, 1), (heun_sampler, 1), (rk4_sampler, 3), (euler_sampler, 0)]
)
def test_solvers_integrate_powers_of_t_exactly_up_to_their_order(sampler, exact):
    """dx/dt = t^p, in unequal steps: the times at which a solver asks decide up to which p it is exact."""
    x0 = torch.zeros(1, dtype=torch.float64)
    for p in range(5):
        end = sampler(lambda t, x, p=p: t**p + 0 * x, x0, steps=3, grid=cosine_grid).item()
        assert (abs(end - 1 / (p + 1)) < 1e-12) == (p <= exact)


@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("path", [RF, ve_path(0.1, 5.0)])
def test_log_likelihood_of_a_linear_flow(d, path):
    """dx/dt = c + A x moves N(0, s^2 I) to a Gaussian with mean m and factor M = exp(A); A diagonal."""
    a = torch.linspace(-0.8, 0.5, d, dtype=torch.float64)
    c = 0.3

    def model(t, x):
        return c + x * a

    x1 = randn(6, d, seed=3, dtype=torch.float64)
    growth, drift = a.exp(), c * torch.expm1(a) / a
    std = path.prior_std * growth
    expected = torch.distributions.Normal(drift, std).log_prob(x1).sum(1)
    exact = log_likelihood(model, x1, steps=40, path=path)
    torch.testing.assert_close(exact, expected, rtol=1e-7, atol=1e-7)
    # signs times a diagonal matrix times signs is its trace: Hutchinson's estimate has no scatter here
    for probes in (1, 4):
        torch.testing.assert_close(log_likelihood(model, x1, steps=40, path=path, probes=probes), expected)
    images = log_likelihood(
        lambda t, x: (c + x.flatten(1) * a).reshape(x.shape), x1.reshape(6, d, 1), steps=40, path=path
    )
    torch.testing.assert_close(images, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.slow
def test_hutchinson_is_unbiased_where_it_scatters():
    A = torch.tensor([[0.4, 0.9], [-0.3, 0.2]], dtype=torch.float64)
    model = lambda t, x: x @ A.T
    x1 = randn(1, 2, seed=5, dtype=torch.float64)
    exact = log_likelihood(model, x1, path=RF)
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack(
        [log_likelihood(model, x1, path=RF, steps=10, probes=8, generator=generator) for _ in range(40)]
    )
    again = log_likelihood(model, x1, path=RF, steps=10, probes=8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(draws[0], again)
    assert (draws.mean() - exact).abs() < 4.5 * draws.std() / 40**0.5 < 0.3 and draws.std() > 1e-3


def test_one_step_of_the_sde_is_its_formula():
    x, v = randn(5, 2, seed=1, dtype=torch.float64), 0.7
    for path, noise in ((RF, 0.5), (vp_cosine_path(), 1.0)):
        got = sde_sampler(
            lambda t, x: v * x, x, steps=1, t_start=0.5, t_end=0.75, path=path, noise=noise,
            generator=torch.Generator().manual_seed(9),
        )  # fmt: skip
        t = torch.tensor(0.5, dtype=torch.float64)
        z = torch.randn(x.shape, generator=torch.Generator().manual_seed(9), dtype=x.dtype)
        rate = path.d_alpha(t) / path.alpha(t)
        g2 = 2 * (rate * path.sigma(t) ** 2 - path.sigma(t) * path.d_sigma(t))
        expected = x + 0.25 * (v * x + noise * (v * x - rate * x)) + (noise * g2 * 0.25).sqrt() * z
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-13)
        start = sde_sampler(lambda t, x: v * x, x, steps=1, path=path, noise=noise)
        torch.testing.assert_close(start, x + v * x)  # at t = 0, where alpha = 0: without noise
    ends = sde_sampler(lambda t, x: x, x, steps=3, path=RF, return_trajectory=True)
    assert ends.shape == (4, 5, 2) and ddim_sampler(
        lambda t, x: x, x, steps=3, path=RF, return_trajectory=True
    ).shape == (4, 5, 2)


def test_random_draws_follow_their_generator_dtype_and_formula():
    a, b = (
        ve_path().sample_prior(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(4)) for _ in range(2)
    )
    assert torch.equal(a, b) and a.dtype == torch.float64 and a.shape == (3, 2)
    torch.testing.assert_close(
        a, 50 * torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    )
    torch.manual_seed(6)
    t = logit_normal_t(0.3, 0.8)(50)
    torch.manual_seed(6)
    torch.testing.assert_close(t, torch.sigmoid(0.3 + 0.8 * torch.randn(50)))
    wide = logit_normal_t(0.0, 500.0)(2000)
    assert wide.min() == 2**-24 and wide.max() == 1 - 2**-24


def test_counting_pairing_and_snapshots():
    calls = CountCalls(lambda t, x: x)
    assert calls.nfe == 0
    for sampler, per_step in zip(SAMPLERS, (1, 2, 2, 4), strict=True):
        before = calls.nfe
        sampler(calls, X + 1, steps=3)
        assert calls.nfe - before == 3 * per_step
    pairs = list(SampledPairs(lambda n: torch.zeros(n, 2), lambda n: torch.ones(n, 2), batch=3, total=2))
    assert (
        len(pairs) == 2 and torch.equal(pairs[0].x0, torch.zeros(3, 2)) and torch.equal(pairs[1].x1, torch.ones(3, 2))
    )
    seen = []

    def coupling(x0, x1, label):
        seen.append(label)
        return x0, x1

    labels = torch.tensor([0, 1, 1])
    history = fmlib.History(snapshot_at=[1])
    fit(
        model=VectorFieldMLP(2, 8, t_dim=4, num_classes=2),
        dataloader=[(X + 1, labels)],
        label_dropout=0.0,
        coupling=coupling,
        callback=history,
    )
    assert all(torch.equal(label, labels) for label in seen) and len(seen) == 2
    _, ema = fit(model=VectorFieldMLP(2, 8, t_dim=4), total_steps=3, callback=(history := fmlib.History([1])))
    assert any(not torch.equal(v, ema.state_dict()[k]) for k, v in history.snapshots[1].items())  # a copy, not a view


def test_a_path_without_a_flow_is_named():
    """alpha = sigma: the 2 x 2 system has no solution, and the message says of what."""
    t = lambda t: t + 1.0
    path = FlowPath(name="flat", alpha=t, sigma=t, d_alpha=torch.ones_like, d_sigma=torch.ones_like, half_d_sigma_sq=t)
    times = torch.tensor([0.5, 0.25, 0.75])
    for convert, what in ((fmlib.velocity_to_x1, "x1"), (fmlib.velocity_to_epsilon, "epsilon")):
        message = (
            f"^{what} is not determined by velocity at t = 0.5 on the path flat: there alpha = 1.5 and sigma = 1.5$"
        )
        with pytest.raises(ValueError, match=message):
            convert(path, times, X, X)


def test_grids_end_exactly():
    for n in (1, 2, 7):
        g = edm_grid(RF, 0.5, 2.0)(n)
        assert g[0] == 0 and g[-1] == 1
    with pytest.raises(ValueError, match="sigma_min and sigma_max"):
        edm_grid(RF, 0.0, 1.0)
    with pytest.raises(ValueError, match="sigma_min and sigma_max"):
        edm_grid(RF, 1.0, 1.0)


def test_defaults_when_nothing_is_said():
    lengths = {euler_sampler: 50, midpoint_sampler: 50, heun_sampler: 50, rk4_sampler: 25}
    for sampler, steps in lengths.items():
        assert len(sampler(field, X, return_trajectory=True)) == steps + 1
    assert len(ddim_sampler(field, X, path=RF, return_trajectory=True)) == 51
    assert len(sde_sampler(field, X, path=RF, return_trajectory=True)) == 251
    a, b = (
        sde_sampler(field, X, steps=2, path=RF, generator=torch.Generator().manual_seed(0), **kw)
        for kw in ({}, {"noise": 1.0})
    )
    assert torch.equal(a, b)
    torch.manual_seed(0)
    t = logit_normal_t()(20)
    torch.manual_seed(0)
    assert torch.equal(t, torch.sigmoid(torch.randn(20)))
    assert torch.equal(shift_grid()(5), shift_grid(3.0)(5))
    assert not torch.equal(shift_grid()(5), shift_grid(4.0)(5))
    for loader in (PairBatches(X, X), SampledPairs(lambda n: torch.zeros(n, 1), lambda n: torch.ones(n, 1))):
        assert len(loader) == 1000 and len(next(iter(loader)).x0) == 256
    calls = CountCalls(field)
    reflow_pairs(calls, X)
    assert calls.nfe == 50 * 4


def test_draws_are_on_the_device_that_was_asked_for():
    """torch's "meta" device stands in for a GPU: it has shapes and no numbers."""
    assert RF.sample_prior(3, 2, device="meta").device.type == "meta"
    for draw in (uniform_t, stratified_t, logit_normal_t()):
        assert draw(4, device="meta").device.type == "meta"
    meta = torch.zeros(4, 2, device="meta")
    assert next(iter(PairBatches(meta, meta, batch=2))).x0.device.type == "meta"
    assert drop_labels(torch.zeros(4, device="meta").long(), 0.5, 3).device.type == "meta"


def test_a_mixture_is_sampled_by_its_formula():
    two = GaussianMixture(
        torch.tensor([[-1.0, 0.0], [2.0, 1.0]]).double(),
        torch.tensor([0.1, 0.5]).double(),
        torch.tensor([0.3, 0.7]).double(),
    )
    got = two.sample(50, generator=torch.Generator().manual_seed(8))
    generator = torch.Generator().manual_seed(8)
    k = torch.multinomial(two.weights, 50, replacement=True, generator=generator)
    noise = torch.randn(50, 2, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(got, two.means[k] + two.stds[k, None] * noise, rtol=1e-12, atol=0)


def test_names_of_the_paths_and_the_edges_of_their_arguments():
    makers = {
        "rectified_flow": rectified_flow_path,
        "vp_cosine": vp_cosine_path,
        "vp_linear": vp_linear_path,
        "ve": ve_path,
    }
    assert [make().name for make in makers.values()] == list(makers)
    constant = vp_linear_path(1.0, 1.0)  # beta may stand still
    t = torch.tensor([0.25], dtype=torch.float64)
    torch.testing.assert_close(constant.alpha(t), (-(1 - t) / 2).exp())


def test_what_is_made_inside_is_where_the_arguments_are():
    """With "meta" as torch's default device, a tensor that forgets its device has no numbers and meets none."""
    x = X + 1
    with torch.device("meta"):
        mixture = GaussianMixture(torch.zeros(2, 2, device="cpu"), [1.0, 2.0], [0.5, 0.5])
        assert {v.device.type for v in (mixture.means, mixture.stds, mixture.weights, mixture.sample(3))} == {"cpu"}
        pairs = next(iter(PairBatches(x, x, batch=2)))
        assert (pairs.x0.device.type, pairs.x1.device.type) == ("cpu", "cpu")
        start = torch.zeros(2, 2, device="cpu")
        for t_dist in ("uniform", "stratified", "logitnormal"):
            seen = []
            model = lambda t, x, seen=seen: seen.append(t.device.type) or x
            cfm_loss(model, RF, start, start, t_dist=t_dist)
            assert seen == ["cpu"]
    with pytest.raises((RuntimeError, NotImplementedError)), torch.device("meta"):
        (x + torch.zeros(3, 2)).sum().item()  # what a forgotten device would do


def test_the_mixture_takes_the_dtype_of_its_means_and_names_what_it_refuses():
    means = torch.tensor([[0.0, 1.0], [2.0, 3.0]], dtype=torch.float64)
    mixture = GaussianMixture(means, [0.1, 0.2], [0.1, 0.9])
    assert torch.equal(mixture.stds, torch.tensor([0.1, 0.2], dtype=torch.float64))  # 0.1 in 64 bits, not in 32
    assert torch.equal(mixture.weights, torch.tensor([0.1, 0.9], dtype=torch.float64))
    only = GaussianMixture(means, 0.1, [0.0, 2.0])  # a weight of zero is allowed
    assert only.weights.tolist() == [0, 1] and only.sample(20)[:, 1].min() > 2
    for arguments, message in (
        ((means, [1.0, 1.0, 1.0]), r"stds must be a number or have shape \[2\], one a component, got \[3\]"),
        ((means / 0, [1.0, 1.0]), "means must be finite, got NaN or infinity in it"),
        ((means, [1.0, 1.0], [0.0, 0.0]), r"weights must be non-negative with a positive sum, got \[0.0, 0.0\]"),
    ):
        with pytest.raises(ValueError, match=f"^{message}$"):
            GaussianMixture(*arguments)


def test_guidance_computes_no_more_than_it_needs_and_keeps_the_dtype():
    rows = []

    def model(t, x, label):
        rows.append(len(x))
        return x * (1 + label[:, None]) + t[:, None]

    x, times = X.double() + 1, torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    none, cond = x * 4 + times[:, None], x * 2 + times[:, None]
    for scale, interval, expected_rows, inside in (
        (1.0, (0.0, 1.0), 3, [0, 0, 0]),
        (0.0, (0.0, 1.0), 3, [1, 1, 1]),
        (0.0, (0.2, 0.5), 6, [1, 1, 0]),  # both ends belong to the interval
        (1.1, (0.2, 0.5), 6, [1, 1, 0]),
        (1.1, (0.6, 0.7), 3, [0, 0, 0]),
    ):
        rows.clear()
        got = guided(model, 1, scale, interval=interval, null_label=3)(times, x)
        s = torch.tensor([scale if i else 1.0 for i in inside], dtype=torch.float64)[:, None]
        torch.testing.assert_close(got, none + s * (cond - none), rtol=1e-14, atol=1e-14)
        assert rows == [expected_rows]
    message = "^interval start must be a finite number of at least 0 and at most 1, got 1.5$"
    with pytest.raises(ValueError, match=message):
        guided(model, 1, 2.0, interval=(1.5, 1.0), null_label=3)


def test_the_likelihood_follows_the_time_and_the_number_of_steps():
    """dx/dt = t x: the flow stretches by exp(1/2), and RK4 calls the model four times a step."""
    x1 = randn(4, 1, seed=2, dtype=torch.float64)
    for steps in (1, 30, None):
        model = CountCalls(lambda t, x: t[:, None] * x)
        got = log_likelihood(model, x1, path=RF, **({} if steps is None else {"steps": steps}))
        assert model.nfe == 4 * (steps or 100)
    expected = torch.distributions.Normal(0.0, torch.tensor(0.5, dtype=torch.float64).exp()).log_prob(x1[:, 0])
    torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-7)


def test_times_have_the_dtype_of_the_data_and_stay_below_one(monkeypatch):
    seen = []

    def model(t, x):
        seen.append(t.dtype)
        return x

    cfm_loss(model, RF, X.double() + 1)
    assert seen == [torch.float64]
    for wrong in (lambda n, device: torch.zeros(n).long(), lambda n, device: torch.zeros(n, 1)):
        with pytest.raises(ValueError, match="^t_dist must draw a floating-point tensor of shape"):
            cfm_loss(model, RF, X + 1, t_dist=wrong)
    torch.manual_seed(3)
    t = stratified_t(7)
    torch.manual_seed(3)
    u = torch.rand(7, dtype=torch.float64)
    assert torch.equal(t, ((torch.randperm(7) + u) / 7).float())
    monkeypatch.setattr(torch, "rand", lambda n, **kw: torch.full((n,), 1 - 2**-53, dtype=torch.float64))
    assert stratified_t(7).max() == 1 - 2**-24  # the largest number below 1 in 32 bits


def test_every_draw_names_the_device_of_the_data(monkeypatch):
    """A second device is not at hand: what the draws are asked for is looked at instead."""
    asked = []

    def spy(name):
        draw = getattr(torch, name)

        def call(*args, **kwargs):
            asked.append((name, kwargs.get("device")))
            return draw(*args, **kwargs)

        monkeypatch.setattr(torch, name, call)

    for name in ("randn", "randint"):
        spy(name)
    x = X + 1
    sde_sampler(field, x, steps=1, path=RF)
    log_likelihood(lambda t, x: 2 * x, x, steps=1, path=RF, probes=1)
    next(iter(PairBatches(x, x, batch=2)))
    MIX.sample(2)
    assert asked == [("randn", x.device), ("randint", x.device), ("randint", x.device), ("randn", x.device)]
    torch.randn(3)
    assert asked[-1] == ("randn", None)  # what a forgotten device looks like


def test_no_label_is_lost_at_probability_zero_and_all_at_one(monkeypatch):
    label = torch.arange(4)
    for edge in (0.0, 1 - 2**-24):  # the smallest and the largest number that torch.rand gives
        monkeypatch.setattr(torch, "rand", lambda n, device, edge=edge: torch.full((n,), edge))
        assert drop_labels(label, 0.0, 9).tolist() == [0, 1, 2, 3]
        assert drop_labels(label, 1.0, 9).tolist() == [9] * 4
