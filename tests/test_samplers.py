"""Solvers: their orders on an exact field, against scipy, and clear errors."""

import inspect
import math

import numpy as np
import pytest
import torch
from device_without_float64 import without_float64
from scipy.integrate import solve_ivp

from fmlib import (
    CountCalls,
    SampledBatches,
    VectorFieldMLP,
    cosine_grid,
    ddim_sampler,
    dopri5_sampler,
    dpm_solver_sampler,
    edm_grid,
    energy_distance,
    euler_sampler,
    guided,
    heun_sampler,
    log_likelihood,
    midpoint_sampler,
    rectified_flow_path,
    rk4_sampler,
    samplers,
    sampling_floor,
    sde_sampler,
    shift_grid,
    three_gaussians,
    train_flow_matching,
    uniform_grid,
    ve_path,
    vp_cosine_path,
    vp_linear_path,
)

ORDERS = {euler_sampler: 1, midpoint_sampler: 2, heun_sampler: 2, rk4_sampler: 4}
CALLS = {euler_sampler: 1, midpoint_sampler: 2, heun_sampler: 2, rk4_sampler: 4}


def field(path):
    mixture = three_gaussians()
    return lambda t, x: mixture.velocity(path, t, x)


def slope(steps, errors):
    return np.polyfit(np.log(steps), np.log(errors), 1)[0]


STEPS = {euler_sampler: [128, 256, 512], rk4_sampler: [64, 128, 256]}


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ORDERS, ids=lambda s: s.__name__)
def test_global_order(path, sampler):
    v, x0 = field(path), path.prior_std * torch.randn(80, 2, dtype=torch.float64)
    exact = rk4_sampler(v, x0, steps=1500)
    steps = STEPS.get(sampler, [128, 256, 512])
    errors = [(sampler(v, x0, steps=n) - exact).norm(dim=1).median().item() for n in steps]
    assert slope(steps, errors) == pytest.approx(-ORDERS[sampler], abs=0.1)


def test_a_wrong_stage_loses_the_order():
    """Heun with its second slope at the wrong time is only of order 1: the order test can fail."""
    v, x0 = field(rectified_flow_path()), torch.randn(200, 2, dtype=torch.float64)
    exact = rk4_sampler(v, x0, steps=512)
    errors = []
    for n in (32, 64, 128):
        x, dt = x0, 1 / n
        for i in range(n):
            v1 = v(i * dt, x)
            x = x + dt / 2 * (v1 + v(i * dt, x + dt * v1))
        errors.append((x - exact).norm(dim=1).median().item())
    assert slope([32, 64, 128], errors) > -1.3


def test_rk4_agrees_with_scipy(path):
    v, x0 = field(path), path.prior_std * torch.randn(20, 2, dtype=torch.float64)

    def flat(t, y):
        return v(float(t), torch.tensor(y).reshape(20, 2)).numpy().ravel()

    exact = solve_ivp(flat, (0, 1), x0.numpy().ravel(), rtol=1e-10, atol=1e-12, method="DOP853").y[:, -1]
    error = rk4_sampler(v, x0, steps=256) - torch.tensor(exact).reshape(20, 2)
    assert error.norm(dim=1).median() < 1e-6


@pytest.mark.parametrize("sampler", ORDERS, ids=lambda s: s.__name__)
def test_trajectory_calls_and_shapes(sampler):
    calls = []

    def model(t, x):
        calls.append(t.clone())
        assert t.shape == x.shape[:1]
        return -x

    x0 = torch.randn(3, 2, 4, 4)
    before = x0.clone()
    states = sampler(model, x0, steps=7, return_trajectory=True)
    assert states.shape == (8, 3, 2, 4, 4)
    assert torch.equal(states[0], x0) and torch.equal(x0, before)
    assert torch.equal(states[-1], sampler(model, x0, steps=7))
    assert len(calls) == 2 * 7 * CALLS[sampler]
    assert min(c.min() for c in calls) == 0 and max(c.max() for c in calls) <= 1


def test_backwards_is_the_inverse():
    v, x0 = field(rectified_flow_path()), torch.randn(100, 2, dtype=torch.float64)
    x1 = rk4_sampler(v, x0, steps=200)
    assert (rk4_sampler(v, x1, steps=200, t_start=1.0, t_end=0.0) - x0).norm(dim=1).median() < 1e-6


def test_the_exponential():
    """dx/dt = x multiplies by e over unit time; Euler gives (1 + 1/n)^n exactly."""
    x0 = torch.ones(1, 1, dtype=torch.float64)
    assert euler_sampler(lambda t, x: x, x0, steps=10).item() == pytest.approx(1.1**10, rel=1e-12)
    assert rk4_sampler(lambda t, x: x, x0, steps=100).item() == pytest.approx(math.e, rel=1e-9)


X = torch.zeros(4, 2)


def still(t, x):
    return torch.zeros_like(x)


@pytest.mark.parametrize(
    ("model", "kwargs", "error", "message"),
    [
        (still, {"steps": 0}, ValueError, "steps must be an integer of at least 1, got 0"),
        (still, {"steps": -3}, ValueError, "steps must be an integer of at least 1, got -3"),
        (still, {"steps": 2.5}, TypeError, r"steps must be an integer of at least 1, got 2.5 \(float\)"),
        (still, {"steps": True}, TypeError, "steps must be an integer"),
        (still, {"t_start": -0.1}, ValueError, "t_start must be a finite number of at least 0 and at most 1, got -0.1"),
        (
            still,
            {"t_end": float("nan")},
            ValueError,
            "t_end must be a finite number of at least 0 and at most 1, got nan",
        ),
        (still, {"t_start": 1.0}, ValueError, "t_start and t_end must differ"),
        (lambda t, x: x[:, :1], {}, ValueError, r"must return the shape of x, \[4, 2\], got \[4, 1\]"),
        (lambda t, x: x * float("nan"), {}, ValueError, "must return finite values"),
        (lambda t, x: x.to("meta"), {}, ValueError, "on the device of x, cpu, got meta"),
        (lambda t, x: None, {}, TypeError, "must return a torch.Tensor, got NoneType"),
        (lambda t, x: x.long(), {}, TypeError, "must return floating-point numbers, got torch.int64"),
        (lambda t, x: x + 0j, {}, TypeError, "must return floating-point numbers, got torch.complex64"),
        (lambda t, x: x.neg_(), {}, ValueError, "must not change x in place"),
    ],
)
def test_bad_input_is_named(model, kwargs, error, message):
    for sampler in ORDERS:
        with pytest.raises(error, match=message):
            sampler(model, X, **kwargs)


def test_x0_is_named():
    with pytest.raises(TypeError, match="x0 must be a torch.Tensor, got list"):
        euler_sampler(still, [0.0])
    with pytest.raises(ValueError, match="x0 must be finite"):
        euler_sampler(still, X * float("nan"))


# --- time grids


GRIDS = {
    "uniform": uniform_grid,
    "cosine": cosine_grid,
    "shift": shift_grid(3.0),
    "edm": edm_grid(rectified_flow_path()),
}


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_grids_rise_from_0_to_1(name, steps):
    t = GRIDS[name](steps)
    assert t.shape == (steps + 1,) and t[0] == 0 and t[-1] == 1 and bool((t.diff() > 0).all())


def test_grids_are_the_published_ones():
    s = torch.linspace(1, 0, 11, dtype=torch.float64)  # SD3's own time falls from 1 (noise) to 0
    torch.testing.assert_close(shift_grid(3.0)(10), 1 - 3 * s / (1 + 2 * s))
    t = edm_grid(rectified_flow_path())(18)[1:-1]
    ramp = torch.linspace(0, 1, 19, dtype=torch.float64)[1:-1]
    expected = (80 ** (1 / 7) + ramp * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    torch.testing.assert_close((1 - t) / t, expected, rtol=1e-9, atol=0)
    with pytest.raises(ValueError, match="shift must be a finite number above 0, got 0"):
        shift_grid(0)
    with pytest.raises(ValueError, match=r"grid\(steps\) must be 5 increasing times"):
        euler_sampler(still, X, steps=4, grid=lambda n: torch.linspace(1, 0, n + 1))


@pytest.mark.parametrize("name", GRIDS)
def test_order_holds_on_every_grid(name):
    v, x0 = field(rectified_flow_path()), torch.randn(100, 2, dtype=torch.float64)
    exact = rk4_sampler(v, x0, steps=512)
    errors = [
        (heun_sampler(v, x0, steps=n, grid=GRIDS[name]) - exact).norm(dim=1).median().item() for n in (64, 128, 256)
    ]
    assert slope([64, 128, 256], errors) == pytest.approx(-2, abs=0.35)


@pytest.mark.parametrize("steps", [3, 10, 25, 49, 77, 250])
def test_single_precision_never_leaves_the_unit_interval(steps):
    seen = []

    def model(t, x):
        seen.append((t.min().item(), t.max().item()))
        return -x

    for sampler in ORDERS:
        sampler(model, torch.randn(2, 2), steps=steps, grid=cosine_grid)
        sampler(model, torch.randn(2, 2), steps=steps, t_start=1.0, t_end=0.0)
    assert min(a for a, _ in seen) >= 0 and max(b for _, b in seen) <= 1


# --- the SDE, the adaptive solver, likelihood


def test_sde_without_noise_is_euler(path):
    x0 = path.prior_std * torch.randn(50, 2, dtype=torch.float64)
    torch.testing.assert_close(
        sde_sampler(field(path), x0, steps=20, path=path, noise=0.0), euler_sampler(field(path), x0, steps=20)
    )


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.3, 1.0])
@pytest.mark.parametrize("make", [rectified_flow_path, vp_cosine_path, vp_linear_path])
def test_sde_has_the_densities_of_the_ode(make, noise):
    path, mixture = make(), three_gaussians()
    x = sde_sampler(field(path), torch.randn(3000, 2, dtype=torch.float64), steps=400, path=path, noise=noise)
    floor = sampling_floor(energy_distance, mixture.sample, 3000, repeats=12)
    real = mixture.sample(3000)
    limit = 5 * floor.std_error * 12**0.5 + 0.003  # the scatter of one reading, and the bias of 400 steps
    assert abs(energy_distance(x, real)) < limit

    def uncorrected(t, x):  # noise without its drift: the score's part is taken out of the velocity again
        rate = (path.d_alpha(t) / path.alpha(t).clamp_min(0.02))[:, None]
        return (field(path)(t, x) + noise * rate * x) / (1 + noise)

    wrong = sde_sampler(uncorrected, torch.randn(3000, 2, dtype=torch.float64), steps=400, path=path, noise=noise)
    assert abs(energy_distance(wrong, real)) > 2 * limit


def test_dopri5_agrees_and_its_tolerance_counts():
    v, x0 = field(rectified_flow_path()), torch.randn(100, 2, dtype=torch.float64)
    exact = rk4_sampler(v, x0, steps=512)
    calls, errors = [], []
    for tolerance in (1e-3, 1e-6, 1e-9):
        counter = CountCalls(v)
        errors.append((dopri5_sampler(counter, x0, rtol=tolerance, atol=tolerance) - exact).norm(dim=1).median().item())
        calls.append(counter.nfe)
    assert calls[0] < calls[1] < calls[2] and errors[0] > errors[1] > errors[2] and errors[1] < 1e-3
    states = dopri5_sampler(v, x0, steps=4, return_trajectory=True)
    assert states.shape == (5, 100, 2) and torch.equal(states[0], x0)
    with pytest.raises(ValueError, match="rtol must be a finite number above 0, got 0"):
        dopri5_sampler(v, x0, rtol=0)
    with pytest.raises(ValueError, match="noise must be a finite number of at least 0, got -1"):
        sde_sampler(v, x0, path=rectified_flow_path(), noise=-1)


def test_log_likelihood_is_the_oracles():
    rf, mixture = rectified_flow_path(), three_gaussians()
    x1 = mixture.sample(100)
    truth = mixture.log_prob(rf, 1.0, x1)
    error = (log_likelihood(field(rf), x1, path=rf) - truth).abs()
    assert error.median() < 1e-6 and error.max() < 1e-4
    noisy = torch.stack([log_likelihood(field(rf), x1, steps=40, path=rf, probes=4) for _ in range(10)])
    gap = (noisy - truth).mean(dim=1)
    assert abs(gap.mean()) < 4.5 * gap.std() / 10**0.5 and noisy.std(0).mean() > 0.05


def test_images_go_through_every_sampler():
    rf, x = rectified_flow_path(), torch.randn(2, 1, 3, 3)
    model = lambda t, x: -x
    for sampler in (ddim_sampler, dpm_solver_sampler, sde_sampler):
        assert sampler(model, x, steps=3, path=rf).shape == x.shape
    assert dopri5_sampler(model, x).shape == x.shape
    assert log_likelihood(model, x, steps=5, path=rf).shape == (2,)


@pytest.mark.slow
def test_ode_and_sde_of_one_trained_model_agree():
    path, mixture = rectified_flow_path(), three_gaussians()
    batches = SampledBatches(lambda n: mixture.sample(n).float(), batch=256, total=800)
    _, net = train_flow_matching(VectorFieldMLP(2, 64), batches, path, total_steps=800, log_every=0)
    floor = sampling_floor(energy_distance, mixture.sample, 3000, repeats=12)
    ode = rk4_sampler(net, torch.randn(3000, 2), steps=40)
    sde = sde_sampler(net, torch.randn(3000, 2), steps=400, path=path, noise=1.0)
    assert abs(energy_distance(ode, sde)) < 5 * floor.scatter + 0.003
    untrained = rk4_sampler(VectorFieldMLP(2, 64), torch.randn(3000, 2), steps=40)
    assert energy_distance(untrained, sde) > 0.1


# --- what users of such libraries run into


RF = rectified_flow_path()
EVERY = {
    **{s.__name__: s for s in ORDERS},
    "ddim": lambda *a, **kw: ddim_sampler(*a, path=RF, **kw),
    "dpm_solver": lambda *a, **kw: dpm_solver_sampler(*a, path=RF, **kw),
    "sde": lambda *a, **kw: sde_sampler(*a, path=RF, generator=torch.Generator().manual_seed(0), **kw),
    "dopri5": dopri5_sampler,
    "likelihood": lambda *a, **kw: log_likelihood(*a, path=RF, **kw),
}
EACH = pytest.mark.parametrize("sampler", EVERY.values(), ids=EVERY)


@EACH
def test_a_model_sees_the_whole_batch_always(sampler):
    """A closure over B rows, a BatchNorm in both modes, labels under guidance: no probe with part of the batch."""
    x0, rows, seen = torch.randn(3, 2), torch.tensor([[0.5], [1.0], [2.0]]), set()

    def closure(t, x):
        seen.add((len(t), len(x)))
        return -rows * x

    whole = sampler(closure, x0, steps=5)
    assert seen == {(3, 3)}
    # The wrong twin: the rows in another order are other conditions.
    assert not torch.allclose(whole, sampler(lambda t, x: -rows.flip(0) * x, x0, steps=5))
    net = VectorFieldMLP(2, 8, num_classes=3)
    field = guided(net, torch.tensor([0, 1, 2]), 2.0)
    assert sampler(field, x0, steps=3).shape == whole.shape
    norm = torch.nn.BatchNorm1d(2)
    for mode in (True, False):
        norm.train(mode)
        assert bool(sampler(lambda t, x: norm(x), x0, steps=3).isfinite().all())


@EACH
def test_conditions_reach_every_call(sampler):
    seen = []

    def model(t, x, scale, mask=None, note=None):
        seen.append((scale is SCALE, mask is MASK, note))
        return scale[:, None] * x * (1 if mask is None else mask)

    SCALE, MASK = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([[1.0, 0.0]])
    x0 = torch.randn(3, 2)
    got = sampler(model, x0, steps=4, scale=SCALE, mask=MASK, note="as it is")
    assert set(seen) == {(True, True, "as it is")}
    torch.testing.assert_close(got, sampler(lambda t, x: SCALE[:, None] * x * MASK, x0, steps=4))
    assert not torch.allclose(got, sampler(model, x0, steps=4, scale=SCALE))  # a condition that got lost
    with pytest.raises(TypeError, match="unexpected keyword argument 'mas'"):
        sampler(model, x0, steps=4, scale=SCALE, mas=MASK)
    assert CountCalls(model)(torch.zeros(3), x0, scale=SCALE).shape == x0.shape


@EACH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_an_output_in_another_precision_is_cast(sampler, dtype):
    x0 = torch.randn(3, 2)
    got = sampler(lambda t, x: -x.to(dtype), x0, steps=4)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, sampler(lambda t, x: -x, x0, steps=4), rtol=0.02, atol=0.02)
    net = VectorFieldMLP(2, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert net(torch.zeros(3), x0).dtype == torch.bfloat16 and sampler(net, x0, steps=4).dtype == torch.float32


@EACH
def test_inference_mode_and_no_grad(sampler):
    net, x0 = VectorFieldMLP(2, 8), torch.randn(3, 2)
    plain = sampler(net, x0, steps=4)
    with torch.no_grad():
        assert torch.equal(sampler(net, x0, steps=4), plain)
    with torch.inference_mode():
        assert torch.equal(sampler(net, x0.clone(), steps=4), plain)
        with pytest.raises(ValueError, match="must not change x in place|must be differentiable"):
            sampler(lambda t, x: x.detach().mul_(0.5), x0.clone(), steps=4)


def test_a_likelihood_without_a_gradient_is_named():
    with pytest.raises(ValueError, match="must be differentiable in x, got an output without a gradient"):
        log_likelihood(lambda t, x: x.detach(), torch.zeros(3, 2), path=RF)
    # A field of t alone moves everything and stretches nothing: its divergence is 0.
    shift = torch.nn.Parameter(torch.ones(2))
    got = log_likelihood(lambda t, x: shift.expand_as(x), torch.ones(3, 2), path=RF)
    torch.testing.assert_close(got, torch.full((3,), -math.log(2 * math.pi)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_does_not_pile_up(dtype):
    """The error of 50 and of 400 steps is that of the model's rounding; a state in half loses ever more."""
    mixture, torch_x0 = three_gaussians(), torch.randn(300, 2).to(dtype)
    seen = set()

    def model(t, x):
        seen.add((t.dtype, x.dtype))
        return mixture.velocity(RF, t, x)

    exact = lambda t, x: mixture.velocity(RF, t, x)
    for steps in (50, 400):
        truth = euler_sampler(exact, torch_x0.double(), steps=steps)
        got = euler_sampler(model, torch_x0, steps=steps)
        assert got.dtype == dtype and seen == {(dtype, dtype)}
        error = (got.double() - truth).norm(dim=1).median()
        rounding = (truth.to(dtype).double() - truth).norm(dim=1).median()
        assert error < 8 * rounding
    x = torch_x0  # the wrong twin: the state itself in half precision
    for i in range(400):
        x = x + model(torch.tensor(i / 400, dtype=dtype).expand(300), x) / 400
    assert (x.double() - truth).norm(dim=1).median() > 2 * error


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.2, 0.7)])
def test_a_run_backwards_meets_the_same_times(name, low, high):
    def times(t_start, t_end):
        seen = []
        euler_sampler(lambda t, x: seen.append(t[0].item()) or x, X.double(), 6, t_start, t_end, grid=GRIDS[name])
        return [*seen, t_end]

    forwards, backwards = times(low, high), times(high, low)
    assert backwards == forwards[::-1] and forwards[0] == low and forwards[-1] == high
    mirrored = [low + high - t for t in forwards]  # the wrong twin: what a shifted grid was
    assert (name in ("uniform", "cosine")) == (pytest.approx(mirrored[::-1]) == forwards)


def test_edm_keeps_to_the_noise_that_the_path_has():
    path = ve_path()
    t = edm_grid(path)(18)
    ramp = torch.linspace(0, 1, 19, dtype=torch.float64)
    torch.testing.assert_close(path.sigma(t), (50 ** (1 / 7) + ramp * (0.01 ** (1 / 7) - 50 ** (1 / 7))) ** 7)
    wider = ve_path(0.001, 100.0)  # a path that has all of EDM's noise keeps EDM's numbers
    assert wider.sigma(edm_grid(wider)(18))[1] < 80
    with pytest.raises(ValueError, match="must overlap with the path ve, whose sigma / alpha falls from 5 to 0.1, got"):
        edm_grid(ve_path(0.1, 5.0), 0.001, 0.05)


@pytest.mark.parametrize("sampler", [*ORDERS, dopri5_sampler], ids=lambda s: s.__name__)
def test_gradients_through_a_sampler(sampler):
    """dx/dt = a x: the end is exp(a) x0, its derivative in a the same, in x0 exp(a)."""
    a, x0 = torch.tensor(0.5, dtype=torch.float64, requires_grad=True), torch.ones(2, 1, dtype=torch.float64)
    x0.requires_grad_()
    end = sampler(lambda t, x, a: a * x, x0, steps=400, grad=True, a=a)
    of_a, of_x0 = torch.autograd.grad(end.sum(), (a, x0))
    rate = {"rtol": 2e-3, "atol": 1e-6}
    torch.testing.assert_close(of_a, 2 * a.detach().exp(), **rate)
    torch.testing.assert_close(of_x0, a.detach().exp().expand(2, 1), **rate)
    assert not sampler(lambda t, x: a * x, x0, steps=4).requires_grad  # as ever, unless it is asked for


def test_without_double_precision_on_the_device():
    x0 = torch.randn(4, 2)
    plain = {n: s(lambda t, x: -x, x0, steps=4) for n, s in EVERY.items() if n != "sde"}
    with without_float64() as device:
        for n, expected in plain.items():
            torch.testing.assert_close(EVERY[n](lambda t, x: -x, x0.to(device), steps=4).cpu(), expected)
        with pytest.raises(TypeError, match="float64"):  # what a clock in double precision would do
            torch.linspace(0, 1, 5, dtype=torch.float64).to(device)


def test_a_counted_model_takes_a_label_by_place():
    model = CountCalls(lambda t, x, label: x * label[:, None])
    x = torch.randn(3, 2)
    assert torch.equal(model(torch.zeros(3), x, torch.tensor([1, 2, 3])), x * torch.tensor([[1.0], [2.0], [3.0]]))


@pytest.mark.parametrize(
    ("low", "high", "message"), [(1.0, 1.0, "sigma_min < sigma_max, got 1.0, 1.0"), (50.0, 90.0, "must overlap")]
)
def test_an_empty_range_of_noise_is_refused(low, high, message):
    with pytest.raises(ValueError, match=message):
        edm_grid(ve_path(sigma_max=50.0), sigma_min=low, sigma_max=high)


def test_likelihood_of_one_sample_and_its_message():
    path, mixture = rectified_flow_path(), three_gaussians()
    x1 = torch.tensor([[0.3, 1.9]])
    model = lambda t, x: mixture.velocity(path, t, x)
    exact = mixture.log_prob(path, 1.0, x1)
    assert torch.allclose(log_likelihood(model, x1, steps=60, path=path), exact, atol=1e-3)
    one = [
        log_likelihood(model, x1, steps=9, path=path, probes=2, generator=torch.Generator().manual_seed(s))
        for s in (1, 1, 2)
    ]
    assert torch.equal(one[0], one[1]) and not torch.equal(one[0], one[2])
    with pytest.raises(
        ValueError, match=r"^model\(t, x\) must be differentiable in x, got an output without a gradient$"
    ):
        log_likelihood(lambda t, x: torch.zeros_like(x).detach(), x1, path=path)


def test_a_sampler_has_the_name_and_the_words_of_its_formula():
    said = {"euler": "order 1", "midpoint": "Explicit midpoint", "heun": "trapezoid", "rk4": "Runge-Kutta"}
    for sampler in ORDERS:
        name = sampler.__name__.removesuffix("_sampler")
        assert sampler.__name__ == sampler.__qualname__ == f"{name}_sampler" and said[name] in sampler.__doc__


def test_the_adaptive_solver_in_half_precision_and_with_its_own_tolerance():
    """Relative and absolute tolerance both count, the default is 1e-5, and the model is never asked outside [0, 1]."""
    times = []

    def v(t, x):
        times.append(t[0].item())
        return 50 * torch.cos(20 * t)[:, None] * x

    x0 = torch.ones(2, 1, dtype=torch.float64)
    exact = math.exp(50 / 20 * math.sin(20))
    off = lambda **options: (dopri5_sampler(v, x0, **options) - exact).abs().max().item()
    fine, coarse = off(), off(rtol=1e-2, atol=1e-2)
    assert fine < 0.01 < coarse and off(rtol=1e-2) > 3 * fine and off(atol=1e-1, rtol=1e-12) > fine
    assert 0 <= min(times) and max(times) <= 1
    half = dopri5_sampler(lambda t, x: -x, torch.ones(3, 2).bfloat16())
    assert half.dtype == torch.bfloat16 and half.float().mean().item() == pytest.approx(math.exp(-1), abs=2e-3)


@pytest.mark.parametrize("public", ORDERS, ids=lambda s: s.__name__)
def test_a_sampler_is_made_of_its_formula(public):
    """Made anew it has the name, the signature and the numbers of the one that came with the import: each argument
    is passed on. Wrong twin: another formula."""
    step = getattr(samplers, f"_{public.__name__.removesuffix('_sampler')}_step")
    made = samplers._sampler(step, inspect.signature(public).parameters["steps"].default)
    assert (made.__name__, made.__qualname__, made.__doc__) == (public.__name__, public.__qualname__, step.__doc__)
    assert inspect.signature(made) == inspect.signature(public)

    x0 = torch.randn(5, 2, dtype=torch.float64)
    field = lambda t, x, turn=0.5: turn * torch.stack([-x[:, 1], x[:, 0]], 1) + t[:, None]
    backwards = lambda sampler: sampler(field, x0, 7, 1.0, 0.25, True, grid=cosine_grid, turn=2.0)
    for call in (lambda sampler: sampler(field, x0), backwards):
        torch.testing.assert_close(call(made), call(public), rtol=0, atol=0)
    other = heun_sampler if public is not heun_sampler else euler_sampler
    assert not torch.equal(made(field, x0), other(field, x0, steps=25))
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    for grad in (True, False):
        assert made(lambda t, x: scale * x, x0, grad=grad).requires_grad == grad
