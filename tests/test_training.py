"""The loss, the t-samplers, the moving average and the loop."""

import math
import signal

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from fmlib import (
    History,
    MoonDataset,
    SampledBatches,
    SinusoidalTimeEmbed,
    VectorFieldMLP,
    cfm_loss,
    ema_warmup,
    estimate,
    late_t,
    logit_normal_t,
    make_ema,
    moons_mixture,
    rectified_flow_path,
    sample_moons,
    stratified_t,
    train_flow_matching,
    uniform_t,
    update_ema,
)

RF = rectified_flow_path()


def small_net():
    return VectorFieldMLP(2, hidden=16, t_dim=8)


def train(model=None, dataloader=None, steps=5, **kwargs):
    dataloader = MoonDataset(8, 4) if dataloader is None else dataloader
    return train_flow_matching(model or small_net(), dataloader, RF, total_steps=steps, log_every=0, **kwargs)


# --- the loss


def test_loss_is_the_formula(path):
    """Sum over dimensions, mean over the batch, of a known answer; F.mse_loss would give half of it."""
    x1, x0 = torch.randn(2, 1000, 2)
    loss, parts = cfm_loss(lambda t, x: torch.zeros_like(x), path, x1, x0, return_components=True)
    ut = path.target_ut(parts["t"], x0, x1)
    torch.testing.assert_close(loss, ut.square().sum(1).mean())
    torch.testing.assert_close(parts["per_sample"], ut.square().sum(1))
    assert parts["u_norm"] == pytest.approx(math.sqrt(loss.item()), rel=1e-5) and parts["v_pred_norm"] == 0


def test_the_exact_field_sits_at_the_floor():
    moons = moons_mixture()
    _, parts = cfm_loss(lambda t, x: moons.velocity(RF, t, x), RF, sample_moons(8_000), return_components=True)
    t, x1 = stratified_t(8_000), sample_moons(8_000)
    xt = RF.sample_xt(t, torch.randn_like(x1), x1)
    loss, floor = estimate(parts["per_sample"]), estimate(moons.velocity_var(RF, t, xt))
    error = math.hypot(loss.std_error, floor.std_error)
    assert abs(loss.mean - floor.mean) < 4.5 * error
    assert abs(loss.mean / 2 - floor.mean) > 20 * error  # the mean over dimensions


def test_images_and_double_precision():
    loss = cfm_loss(lambda t, x: -x, RF, torch.randn(4, 3, 8, 8, dtype=torch.float64))
    assert loss.dtype == torch.float64 and loss.dim() == 0


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"t_dist": "normal"}, ValueError, "t_dist must be one of uniform, stratified, logitnormal.*got 'normal'"),
        ({"x0": torch.zeros(4, 3)}, ValueError, r"x0 \[4, 3\] and x1 \[4, 2\]"),
        ({"t_dist": lambda n, device: torch.ones(n) * 2}, ValueError, r"t must lie in \[0, 1\]"),
    ],
)
def test_bad_loss_input_is_named(kwargs, error, message):
    with pytest.raises(error, match=message):
        cfm_loss(lambda t, x: x, RF, torch.zeros(4, 2), **kwargs)


def test_model_of_wrong_shape_is_named():
    """Without the check [B] would broadcast against [B, B]-like shapes and train on nonsense."""
    with pytest.raises(ValueError, match=r"must return the shape of x, \[4, 2\], got \[4, 1\]"):
        cfm_loss(lambda t, x: x[:, :1], RF, torch.zeros(4, 2))


# --- how t is drawn


def test_uniform_and_stratified():
    n = 4_096
    strata = stratified_t(n)
    slices = (strata * n).floor().long()
    assert torch.equal(slices.sort().values, torch.arange(n))
    for t in (uniform_t(n), strata):
        assert 0 <= t.min() and t.max() < 1 and abs(t.mean() - 0.5) < 4.5 / math.sqrt(12 * n)
    counts = torch.histc(uniform_t(n), 64, 0, 1)
    assert counts.std() > 4  # independent draws do not fill the bins evenly


def rank_correlation(t):
    return torch.corrcoef(torch.stack([t, torch.arange(len(t)).float()]))[0, 1].abs().item()


def test_stratified_times_do_not_follow_the_order_of_the_batch():
    """A sorted batch must not see its first rows near t = 0 only; the wrong twin, sorted times, correlates fully."""
    n = 4_096
    t = stratified_t(n)
    assert rank_correlation(t) < 4.5 / n**0.5 < 0.99 < rank_correlation(t.sort().values)


def test_late_times_are_half_stratified_half_logit_normal():
    n, normal = 20_001, torch.distributions.Normal(1.0, 1.0)
    limit = 4.5 * 0.5 / math.sqrt(n)

    def apart(t):
        shares = [(s, normal.cdf(torch.logit(torch.tensor(s))).item()) for s in (0.1, 0.5, 0.8)]
        return max(abs((t < s).float().mean().item() - (s + late) / 2) for s, late in shares)

    t = late_t(n)
    assert apart(t) < limit < min(apart(stratified_t(n)), apart(logit_normal_t(1.0)(n)))
    assert rank_correlation(t) < 4.5 / math.sqrt(n)  # in random order, for sorted batches
    assert late_t(1).shape == (1,) and 0 <= t.min() and t.max() < 1


@pytest.mark.slow
def test_a_sorted_batch_trains_as_well_as_a_shuffled_one():
    """All moons with the smaller x first: the times must still be independent of the data."""
    moons, errors = moons_mixture(), {}
    for name, order in (("shuffled", lambda x: x), ("sorted", lambda x: x[x[:, 0].argsort()])):
        torch.manual_seed(0)
        loader = SampledBatches(lambda n, order=order: order(sample_moons(n)), batch=256)
        _, net = train_flow_matching(VectorFieldMLP(2, 64), loader, RF, 400, log_every=0)
        t, x1 = uniform_t(4000), sample_moons(4000)
        xt = RF.sample_xt(t, torch.randn_like(x1), x1)
        errors[name] = (net(t, xt) - moons.velocity(RF, t, xt)).square().sum(1).mean().item()
    assert errors["sorted"] < 1.5 * errors["shuffled"]


def test_logit_normal():
    n = 50_000
    z = torch.logit(logit_normal_t(m=0.7, s=1.3)(n).double())
    assert z.mean().item() == pytest.approx(0.7, abs=4.5 * 1.3 / math.sqrt(n))
    assert z.std().item() == pytest.approx(1.3, rel=0.02)
    with pytest.raises(ValueError, match="s must be a finite number above 0, got 0"):
        logit_normal_t(s=0)


# --- the moving average


def test_ema_warms_up():
    assert ema_warmup(0, 0.9999) == pytest.approx(0.1)
    assert ema_warmup(1_999, 0.9999) < 0.996
    assert ema_warmup(10**7, 0.9999) == 0.9999
    kept = math.prod(ema_warmup(k, 0.9999) for k in range(2_000))
    assert kept < 1e-20 < 0.81 < 0.9999**2_000  # of the initial weights; the fixed decay keeps 82 %


def test_ema_arithmetic_and_buffers():
    class WithBuffer(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))
            self.register_buffer("count", torch.tensor(0))

    model = WithBuffer()
    average = make_ema(model)
    with torch.no_grad():
        model.weight.fill_(3.0)
        model.count.fill_(7)
    update_ema(average, model, decay=0.75)
    assert average.weight.tolist() == [1.5, 1.5] and average.count.item() == 7
    assert not average.weight.requires_grad and model.weight.requires_grad


# --- networks


def test_time_features_resolve_the_unit_interval():
    features = SinusoidalTimeEmbed(128)(torch.linspace(0, 1, 1001))
    assert features.shape == (1001, 128)
    assert (features.max(0).values - features.min(0).values).min() > 0.99
    reference = torch.sin(torch.linspace(0, 1, 1001)[:, None] * 10_000 ** (-torch.arange(64) / 64))
    assert ((reference.max(0).values - reference.min(0).values) > 0.5).sum() < 6


def test_network_shapes_and_errors():
    net = small_net()
    assert net(torch.rand(5), torch.randn(5, 2)).shape == (5, 2)
    torch.testing.assert_close(net(0.5, torch.ones(5, 2)), net(torch.full((5,), 0.5), torch.ones(5, 2)))
    with pytest.raises(ValueError, match=r"x must have shape \[B, 2\], got \[5, 3\]"):
        net(torch.rand(5), torch.randn(5, 3))
    with pytest.raises(ValueError, match=r"t must be a number or have shape \[5\]"):
        net(torch.rand(4), torch.randn(5, 2))
    with pytest.raises(ValueError, match="must be even.*got 7"):
        SinusoidalTimeEmbed(7)


# --- the loop


def test_training_learns_and_returns_usable_models():
    torch.manual_seed(1)
    history = History(snapshot_at=[200])
    model, ema = train(VectorFieldMLP(2, 32), MoonDataset(128, 50), steps=200, callback=history)
    assert len(history.losses) == 200
    assert sum(history.losses[-20:]) < 0.8 * sum(history.losses[:20])
    assert not model.training and not ema.training
    for name, value in ema.state_dict().items():
        assert torch.equal(history.snapshots[200][name], value)


def test_same_seed_same_weights():
    def weights():
        torch.manual_seed(3)
        return train()[0].state_dict()

    for a, b in zip(weights().values(), weights().values(), strict=True):
        assert torch.equal(a, b)


def test_a_dataloader_that_ends_is_restarted():
    loader = DataLoader(TensorDataset(sample_moons(20)), batch_size=8)
    history = History()
    train(dataloader=loader, steps=11, callback=history)
    assert len(history.losses) == 11


@pytest.mark.parametrize(
    ("dataloader", "error", "message"),
    [
        ([], ValueError, "dataloader is empty"),
        (
            lambda: (sample_moons(4) for _ in range(3)),
            ValueError,
            "exhausted after 3 batches and cannot be started again",
        ),
        (["text"], TypeError, "dataloader must yield tensors.*got str"),
        ([torch.zeros(3, 2, dtype=torch.long)], TypeError, "x1.*must hold floating-point numbers"),
    ],
)
def test_bad_dataloaders_are_named(dataloader, error, message):
    loader = dataloader() if callable(dataloader) else dataloader  # a generator is used up by one test
    with pytest.raises(error, match=message):
        train(dataloader=loader)


def test_nan_stops_with_the_step_and_returns_nothing():
    batches = [sample_moons(8), sample_moons(8), torch.full((8, 2), float("nan"))]
    model = small_net()
    with pytest.raises(FloatingPointError, match="the loss became nan at step 3 of 5"):
        train(model, batches)
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_interrupting_returns_both_models():
    def interrupt(step, loss, model, ema_model):
        if step == 3:
            raise KeyboardInterrupt

    model, ema = train(callback=interrupt)
    x = torch.randn(4, 2)
    assert torch.isfinite(model(0.5, x)).all() and torch.isfinite(ema(0.5, x)).all()
    assert not model.training


def test_an_interrupt_waits_for_the_end_of_the_step(monkeypatch):
    """Without the wait the model would be a step ahead of its EMA: with ema_decay = 0 they must be equal."""
    step = torch.optim.AdamW.step
    calls = []

    def interrupted(self, *args, **kwargs):
        calls.append(1)
        result = step(self, *args, **kwargs)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", interrupted)
    before = signal.getsignal(signal.SIGINT)
    model, ema = train(steps=10, ema_decay=0.0, schedule="constant")
    assert len(calls) == 3 and torch.is_grad_enabled() and signal.getsignal(signal.SIGINT) is before
    for weight, average in zip(model.parameters(), ema.parameters(), strict=True):
        assert torch.equal(weight, average)


def test_weights_that_break_at_the_last_step_are_not_returned():
    class Fragile(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(2))

        def forward(self, t, x):
            return x * self.w.square().sum().sqrt()  # its gradient at 0 is NaN, the loss is not

    with pytest.raises(FloatingPointError, match="the weights of the model are not finite after step 1 of 1"):
        train(Fragile(), steps=1, schedule="constant")


def test_a_callback_may_call_eval():
    class Watch(VectorFieldMLP):
        modes: list = []

        def forward(self, t, x):
            self.modes.append(self.training)
            return super().forward(t, x)

    train(Watch(2, hidden=16, t_dim=8), callback=lambda step, loss, model, ema_model: model.eval())
    assert all(Watch.modes)


def test_times_never_reach_the_ends():
    assert all(stratified_t(65_536).max() < 1 for _ in range(50))
    t = logit_normal_t(0.0, 30.0)(10_000)
    assert t.min() > 0 and t.max() < 1


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"total_steps": 0}, ValueError, "total_steps must be an integer of at least 1, got 0"),
        ({"total_steps": 1.5}, TypeError, "total_steps must be an integer"),
        ({"ema_decay": 1.0}, ValueError, "ema_decay must be below 1"),
        ({"lr": 0.0}, ValueError, "lr must be a finite number above 0, got 0.0"),
        ({"schedule": "cosine"}, ValueError, "schedule must be 'onecycle' or 'constant', got 'cosine'"),
        ({"t_dist": "beta"}, ValueError, "t_dist must be one of"),
        ({"t_dist": ["uniform"]}, ValueError, "t_dist must be one of"),
        ({"t_dist": lambda n, device: 0.5}, ValueError, r"t_dist must draw a floating-point tensor of shape \[8\]"),
        ({"grad_clip": -1.0}, ValueError, "grad_clip must be a finite number above 0, got -1.0"),
        ({"grad_clip": 0}, ValueError, "grad_clip must be a finite number above 0, got 0"),
        ({"weight_decay": float("inf")}, ValueError, "weight_decay must be a finite number of at least 0, got inf"),
        ({"lr": "1e-3"}, TypeError, "lr must be a finite number above 0, got '1e-3'"),
        ({"total_steps": 1}, ValueError, "total_steps must be at least 2 for the schedule 'onecycle'"),
        ({"model": nn.Identity()}, ValueError, "model must have parameters to train"),
        ({"model": lambda t, x: x}, TypeError, "model must be a torch.nn.Module, got function"),
        ({"path": "rf"}, TypeError, "path must be a FlowPath.*got str"),
        ({"dataloader": 5}, TypeError, "dataloader must be an iterable of batches.*got int"),
        ({"dataloader": torch.zeros(3, 4, 2)}, TypeError, "dataloader must be an iterable of batches.*got Tensor"),
    ],
)
def test_bad_training_arguments_are_named(kwargs, error, message):
    with pytest.raises(error, match=message):
        defaults = {"model": small_net(), "dataloader": MoonDataset(8, 4), "path": RF, "log_every": 0}
        train_flow_matching(**{**defaults, **kwargs})


def test_sampled_batches():
    batches = list(SampledBatches(sample_moons, batch=5, total=3))
    assert [b.shape for b in batches] == [(5, 2)] * 3
    assert not torch.equal(batches[0], batches[1])
