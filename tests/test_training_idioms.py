"""Training as people write it: batches with conditions, other dtypes, wrappers, devices, data of any scale."""

import contextlib
import warnings

import pytest
import torch
from device_without_float64 import without_float64
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from fmlib import (
    History,
    MoonDataset,
    Normaliser,
    PairBatches,
    Pairs,
    ResidualMLP,
    SampledBatches,
    SinusoidalTimeEmbed,
    VectorFieldMLP,
    cfm_loss,
    energy_distance,
    estimate,
    frechet_distance,
    heun_sampler,
    load_digits_flow,
    make_ema,
    minibatch_ot,
    nearest_distance,
    normalized_path_energy,
    path_energy,
    rectified_flow_path,
    reflow_pairs,
    sample_checkerboard,
    sample_eight_gaussians,
    sample_moons,
    sampling_floor,
    sliced_w2,
    straightness,
    stratified_t,
    train_digit_classifier,
    train_flow_matching,
    transport_cost,
    update_ema,
    wasserstein2,
)
from fmlib.engine import SmallDiT
from fmlib.training import T_SAMPLERS, bare, endless_batches, hint_at_scale

RF = rectified_flow_path()
LOW = [torch.bfloat16, torch.float16]


def small_net(**kwargs):
    return VectorFieldMLP(2, hidden=16, t_dim=8, **kwargs)


def train(model, dataloader=None, steps=4, **kwargs):
    dataloader = MoonDataset(8, 4) if dataloader is None else dataloader
    return train_flow_matching(model, dataloader, RF, total_steps=steps, log_every=0, **kwargs)


class Spy(nn.Module):
    """A model that takes every condition and remembers what it was called with."""

    def __init__(self):
        super().__init__()
        self.w, self.calls = nn.Parameter(torch.zeros(())), []

    def forward(self, t, x, *args, **named):
        self.calls.append((args, named))
        return self.w * x


# --- batches with conditions

X = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
CLASS, VECTOR, MASK = torch.arange(6) % 3, torch.arange(18.0).reshape(6, 3), torch.arange(6) % 2 == 0


@pytest.mark.parametrize(
    ("batch", "args", "named"),
    [
        (X, (), {}),
        ((X,), (), {}),
        ((X, CLASS), (CLASS,), {}),
        ([X, VECTOR, MASK], (VECTOR, MASK), {}),
        ((Pairs(X, X + 1), VECTOR), (VECTOR,), {}),
        ({"x1": X, "y": VECTOR, "mask": MASK}, (), {"y": VECTOR, "mask": MASK}),
        ({"x1": X, "x0": X + 1, "label": CLASS}, (), {"label": CLASS}),
        ({"x1": X, "text": ["a"] * 6, "w": torch.tensor(0.5)}, (), {"text": ["a"] * 6, "w": torch.tensor(0.5)}),
    ],
    ids=["tensor", "tuple of one", "class", "several", "pairs", "named", "named pairs", "text"],
)  # fmt: skip
def test_every_condition_of_a_batch_reaches_the_model(batch, args, named):
    """A batch (x1, c) was trained on without c, in silence."""
    spy = Spy()
    train(spy, [batch], steps=2)
    assert len(spy.calls) == 2
    for got_args, got_named in spy.calls:
        assert len(got_args) == len(args) and got_named.keys() == named.keys()
        for got, expected in zip([*got_args, *got_named.values()], [*args, *named.values()], strict=True):
            assert torch.equal(got, expected) if isinstance(expected, torch.Tensor) else got == expected


def test_noise_of_a_named_batch_is_used():
    x1, x0, _, _ = next(endless_batches([{"x1": X, "x0": X + 1}]))
    assert torch.equal(x0, X + 1) and torch.equal(x1, X)


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(()))

    def forward(self, t, x):
        return self.w * x


@pytest.mark.parametrize(
    ("model", "batch", "error", "message"),
    [
        (Plain, (X, VECTOR), TypeError, r"so model must take model\(t, x, c1\), got too many.*yield x1 alone"),
        (Plain, {"x1": X, "y": CLASS}, TypeError, r"so model must take model\(t, x, y=...\), got .*'y'"),
        (small_net, (X, CLASS), ValueError, "label must be None: this network was made without num_classes"),
        (Spy, (X, VECTOR[:5]), ValueError, r"c1 \(from the dataloader\) must have 6 rows, one a sample, got 5"),
        (Spy, {"x1": X, "y": VECTOR[:5]}, ValueError, r"y \(from the dataloader\) must have 6 rows"),
        (Spy, {"data": X}, ValueError, r"must yield dicts with the data as 'x1', got the keys \['data'\]"),
        (Spy, {"x1": X, "x0": 1.0}, TypeError, r"must yield tensors x0 \[B, ...\], got float"),
    ],
)
def test_conditions_that_the_model_cannot_take_are_named(model, batch, error, message):
    with pytest.raises(error, match=message):
        train(model(), [batch])


def test_the_loss_passes_conditions_on():
    seen = []

    def model(t, x, *args, **named):
        seen.append((args, named))
        return x

    cfm_loss(model, RF, X)
    cfm_loss(model, RF, X, label=VECTOR)
    cfm_loss(model, RF, X, mask=MASK, y=VECTOR)
    cfm_loss(model, RF, X, label=CLASS, mask=MASK)
    assert seen == [((), {}), ((VECTOR,), {}), ((), {"mask": MASK, "y": VECTOR}), ((CLASS,), {"mask": MASK})]
    with pytest.raises(TypeError, match="t_dits"):  # a misspelt argument is not lost either
        cfm_loss(lambda t, x: x, RF, X, t_dits="uniform")


class Conditional(nn.Module):
    """v(t, x, c) for a vector c."""

    def __init__(self):
        super().__init__()
        self.net = VectorFieldMLP(2, hidden=32, t_dim=8)
        self.c_in = nn.Linear(2, 32)

    def forward(self, t, x, c):
        return self.net.trunk(self.net.condition(t, x) + self.net.x_in(x) + self.c_in(c))


def test_a_vector_as_condition_is_learned():
    """Data at c, up to 0.1: samples asked for c land there. With the conditions of other samples they do not."""
    torch.manual_seed(0)

    def sample(n):
        c = torch.randn(n, 2)
        return c + 0.1 * torch.randn(n, 2), c

    off = {}
    for name, loader in (("right", sample), ("shuffled", lambda n: (sample(n)[0], torch.randn(n, 2)))):
        _, net = train(Conditional(), SampledBatches(loader, 128), steps=300, lr=1e-2)
        c = torch.randn(300, 2)
        off[name] = (heun_sampler(net, torch.randn(300, 2), 10, c=c) - c).norm(dim=1).median()
    assert off["right"] < 0.3 < 1 < off["shuffled"]


@pytest.mark.parametrize(
    ("batch", "nulls", "expected"),
    [
        ((X, VECTOR), -1.0, [-1.0]),
        ((X, VECTOR), torch.tensor([7.0, 8.0, 9.0]), [torch.tensor([7.0, 8.0, 9.0])]),
        ((X, CLASS), 9, [9]),
        ((X, CLASS, VECTOR), (9, -1.0), [9, -1.0]),
        ({"x1": X, "y": VECTOR, "m": MASK}, {"m": False, "y": 0.5}, [0.5, False]),
        ({"x1": X, "y": VECTOR, "kept": CLASS}, {"y": 0.5, "kept": None}, [0.5, CLASS]),
        ({"x1": X, "y": VECTOR, "text": ["a"] * 6}, {"y": 0.5, "text": None}, [0.5, None]),
    ],
)
def test_conditions_of_any_kind_are_dropped(batch, nulls, expected):
    """All of a sample together: with 1 all are gone, with 0 none, in between the same rows of each."""
    for share in (1.0, 0.0):
        spy = Spy()
        train(spy, [batch], steps=2, label_dropout=share, null_conditions=nulls)
        args, named = spy.calls[-1]
        given = [*batch[1:]] if isinstance(batch, tuple) else [c for k, c in batch.items() if k != "x1"]
        for got, null, c in zip([*args, *named.values()], expected, given, strict=True):
            if isinstance(c, list) or share == 0 or null is c:
                assert got is c or torch.equal(got, c)
            else:
                assert torch.equal(got, torch.as_tensor(null, dtype=c.dtype).expand(c.shape))
    spy = Spy()
    train(spy, [(X, CLASS, VECTOR)], steps=30, label_dropout=0.5, null_conditions=(9, -1.0))
    gone = torch.stack([torch.stack([c == 9, (v == -1).all(1)]) for (c, v), _ in spy.calls])
    assert torch.equal(gone[:, 0], gone[:, 1]) and 0.3 < gone.double().mean() < 0.7


@pytest.mark.parametrize(
    ("batch", "kwargs", "message"),
    [
        ((X, VECTOR), {"label_dropout": 0.1}, "label_dropout needs a model with classes.*give null_conditions"),
        ((X, VECTOR), {"null_conditions": 0.0}, "label_dropout must be given together with null_conditions, got None"),
        ((X, VECTOR, MASK), {"label_dropout": 0.1, "null_conditions": 0.0}, r"each of \['c1', 'c2'\], got \['c1'\]"),
        ({"x1": X, "y": VECTOR}, {"label_dropout": 0.1, "null_conditions": {"z": 0}}, r"of \['y'\], got \['z'\]"),
        ({"x1": X, "y": CLASS}, {"label_dropout": 0.1, "null_conditions": {"y": None}}, r"got None for all of \['y'\]"),
        (X, {"label_dropout": 0.1, "null_conditions": 0.0}, r"must yield \(x1, label\) when label_dropout is given"),
    ],
)
def test_errors_of_dropping_are_named(batch, kwargs, message):
    with pytest.raises(ValueError, match=message):
        train(Spy(), [batch], **kwargs)


def test_a_network_with_classes_still_needs_null_conditions_for_a_second_condition():
    spy = Spy()
    spy.num_classes = 3
    train(spy, [{"x1": X, "label": CLASS}], label_dropout=1.0)
    assert all((named["label"] == 3).all() for _, named in spy.calls)
    for batch in ((X, CLASS, VECTOR), (X, VECTOR)):
        with pytest.raises(ValueError, match="null_conditions must be given for conditions other than one label"):
            train(spy, [batch], label_dropout=0.1)


# --- couplings


@pytest.mark.parametrize(
    ("batch", "labels"),
    [
        (X, 0), ((X, CLASS), 1), ({"x1": X, "label": CLASS}, 1), ((X, VECTOR), 0), ((X, MASK), 0),
        ((X, VECTOR[:, 0]), 0), ({"x1": X, "y": CLASS}, 0), ((X, CLASS, VECTOR), 1),
    ],
)  # fmt: skip
def test_a_coupling_gets_integer_labels_and_nothing_else(batch, labels):
    seen = []

    def coupling(x0, x1, *label):
        seen.append(label)
        return minibatch_ot(x0, x1, *label)

    train(Spy(), [batch], steps=1, schedule="constant", coupling=coupling)
    assert len(seen[0]) == labels and all(torch.equal(c, CLASS) for c in seen[0])


def test_a_coupling_that_moves_the_data_loses_their_conditions():
    with pytest.raises(ValueError, match="coupling must leave x1 in its order"):
        train(Spy(), [(X, VECTOR)], coupling=lambda x0, x1: (x0, x1.flip(0)))
    train(Spy(), [X], coupling=lambda x0, x1: (x0, x1.flip(0)))  # without conditions nothing is lost


def test_classes_that_are_not_classes():
    with pytest.raises(TypeError, match="label must hold integers, got torch.float32"):
        minibatch_ot(X, X, VECTOR[:, 0])
    with pytest.raises(ValueError, match="x1 must be finite, got NaN"):
        minibatch_ot(X, X * float("nan"))


def test_conditional_pairs():
    """Reflow of a conditional model: c moves everything by c."""
    c = torch.randn(50, 2)
    pairs = reflow_pairs(lambda t, x, c: c + 0 * x, torch.randn(50, 2), 4, c=c)
    torch.testing.assert_close(pairs.x1, pairs.x0 + c)
    batch = next(iter(PairBatches(*pairs, batch=20, c=c)))
    torch.testing.assert_close(batch["x0"] + batch["c"], batch["x1"])
    spy = Spy()
    train(spy, PairBatches(*pairs, batch=20, c=c), steps=2)
    assert spy.calls[0][1]["c"].shape == (20, 2)
    with pytest.raises(ValueError, match=r"c must be a tensor of 50 rows, one for each pair, got \[49, 2\]"):
        PairBatches(*pairs, c=c[1:])
    assert straightness(lambda t, x, c: c + 0 * x, pairs.x0, 4, c=c) < 1e-9
    assert path_energy(lambda t, x, c: c + 0 * x, pairs.x0, 4, c=c) == pytest.approx(c.square().sum(1).mean().item())
    assert normalized_path_energy(lambda t, x, c: c + 0 * x, *pairs, 4, c=0 * c + 1) < 10


# --- dtypes


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_loss_under_autocast(dtype):
    if dtype == torch.float16 and torch.__version__ < "2.8":
        pytest.skip("autocast to float16 on a CPU")
    net, x1 = small_net(), sample_moons(200)
    torch.manual_seed(0)
    single = cfm_loss(net, RF, x1)
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype):
        loss = cfm_loss(net, RF, x1)
        assert net(torch.rand(3), torch.randn(3, 2)).dtype == dtype  # the twin: it does compute in half precision
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(single.item(), rel=1e-2)
    loss.backward()
    assert all(p.grad.dtype == torch.float32 for p in net.parameters())


@pytest.mark.parametrize("dtype", LOW)
def test_the_loss_of_low_precision_is_computed_in_float32(dtype):
    x1, x0 = sample_moons(2000).to(dtype), torch.randn(2000, 2).to(dtype)
    loss, parts = cfm_loss(lambda t, x: torch.zeros_like(x), RF, x1, x0, return_components=True)
    right = (x1.double() - x0.double()).square().sum(1).mean().item()
    in_low = (x1 - x0).square().sum(1).mean().item()
    assert loss.dtype == parts["t"].dtype == torch.float32 and parts["t"].max() < 1
    assert abs(loss.item() / right - 1) < 1e-6 < abs(in_low / right - 1)
    seen = []
    cfm_loss(lambda t, x: seen.extend([t.dtype, x.dtype]) or x, RF, x1)
    assert seen == [dtype, dtype]  # the model gets what it takes


def test_an_average_in_low_precision_would_stand_still():
    model = nn.Linear(1, 1, bias=False).bfloat16()
    nn.init.constant_(model.weight, 0.9)
    average, twin = make_ema(model), model.weight.detach().clone()
    nn.init.ones_(model.weight)
    for _ in range(20_000):
        update_ema(average, model, 0.9999)
        twin.lerp_(model.weight.detach(), 1e-4)
    start = torch.tensor(0.9).bfloat16().item()
    assert average.weight.item() == pytest.approx(1 - (1 - start) * 0.9999**20_000, abs=1e-4)
    assert average.weight.dtype == torch.float32 and twin.item() == start
    with pytest.raises(TypeError, match=r"ema_model must be kept in float32 at least, got torch.bfloat16: make_ema"):
        update_ema(nn.Linear(1, 1, bias=False).bfloat16(), model, 0.9)


@pytest.mark.parametrize("dtype", [*LOW, torch.float32, torch.float64])
def test_an_average_takes_what_its_model_takes(dtype):
    class WithStatistics(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.norm = small_net(num_classes=3), nn.BatchNorm1d(2)

        def forward(self, t, x, label, shift=None):
            return self.norm(self.net(t, x, label)) + shift

    model = WithStatistics().to(dtype)
    average = make_ema(model)
    update_ema(average, model, 0.5)
    inputs = torch.rand(6).to(dtype), X.to(dtype), CLASS
    mine, its = average(*inputs, shift=X.to(dtype)), model.eval()(*inputs, shift=X.to(dtype))
    assert its.dtype == dtype and mine.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(mine.to(dtype), its, rtol=0.05, atol=0.05)
    assert all(p.dtype == mine.dtype for p in average.parameters())
    assert average.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize("dtype", [*LOW, torch.float64])
@pytest.mark.parametrize("data", [torch.float32, torch.float64])
def test_models_of_every_dtype_train(dtype, data):
    torch.manual_seed(0)
    history = History()
    loader = SampledBatches(lambda n: sample_moons(n).to(data), 128)
    model, average = train(VectorFieldMLP(2, 32).to(dtype), loader, steps=120, callback=history)
    assert sum(history.losses[-20:]) < 0.8 * sum(history.losses[:20])
    assert all(p.dtype == dtype for p in model.parameters())
    assert all(p.dtype == torch.promote_types(dtype, torch.float32) for p in average.parameters())
    samples = heun_sampler(model, torch.randn(100, 2, dtype=dtype), 10)
    assert samples.dtype == dtype and samples.isfinite().all()
    assert heun_sampler(average, torch.randn(100, 2, dtype=dtype), 10).dtype == dtype


def test_double_precision_batches_train_a_single_precision_model():
    """As numpy gives them."""
    model, _ = train(small_net(), DataLoader(TensorDataset(torch.randn(20, 2).double()), 10))
    assert next(model.parameters()).dtype == torch.float32


def test_conditions_come_in_the_dtype_of_the_model():
    spy = Spy().bfloat16()
    train(spy, [(X, VECTOR.double(), CLASS, MASK)])
    assert [c.dtype for c in spy.calls[0][0]] == [torch.bfloat16, torch.long, torch.bool]


def test_small_steps_of_low_precision_weights_are_kept():
    """At 1 bfloat16 has steps of 1/128 downwards 1/256: a hundred steps of 1e-4 are lost one by one, kept together."""

    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones((), dtype=torch.bfloat16))

        def forward(self, t, x):
            return self.w * x

    model, _ = train(Scale(), MoonDataset(64), steps=100, lr=1e-4, schedule="constant")
    assert 0.98 < model.w.item() < 1  # AdamW moves by about lr a step
    twin = torch.ones((), dtype=torch.bfloat16)
    for _ in range(100):
        twin -= 1e-4
    assert twin.item() == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)])
def test_training_inside_autograd_modes_and_autocast(mode, dtype):
    """Under autocast every step saw the first weights, which torch keeps in half precision until the block ends."""
    torch.manual_seed(0)
    history = History()
    net = VectorFieldMLP(2, 32).to(dtype)
    before = torch.is_grad_enabled()
    with mode():
        model, average = train(net, MoonDataset(128), steps=100, callback=history)
        heun_sampler(average, torch.randn(5, 2), 3)
        heun_sampler(model, torch.randn(5, 2, dtype=dtype), 3)
    assert sum(history.losses[-20:]) < 0.8 * sum(history.losses[:20]) and torch.is_grad_enabled() is before
    assert all(p.dtype == dtype for p in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("mode", [torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)])
def test_the_judge_of_digits_trains_in_every_mode(mode):
    """It agrees with the one that was trained outside; under autocast the untrained one stayed."""
    digits, agreements = load_digits_flow(), []
    for inside in (contextlib.nullcontext, mode):
        torch.manual_seed(0)
        with inside():
            judge = train_digit_classifier(digits, 60)
        agreements.append(judge.agreement(digits.test, digits.test_labels))
    assert agreements[1] == pytest.approx(agreements[0], abs=0.1) and agreements[0] > 0.5


def test_a_model_made_under_inference_mode_is_named():
    with torch.inference_mode():
        net = small_net()
    with pytest.raises(ValueError, match="model must be made outside torch.inference_mode"):
        train(net)


def test_time_features_keep_their_precision():
    """In bfloat16 the angle 100 t is off by up to a quarter of a radian; so is a frequency that was rounded."""
    single, low = SinusoidalTimeEmbed(64), SinusoidalTimeEmbed(64).bfloat16()
    assert low.freqs.dtype == torch.float32 and torch.equal(single.freqs, low.freqs)
    t = torch.rand(500).bfloat16()
    right = single(t.float())
    assert low(t).dtype == torch.bfloat16 and (low(t).float() - right).abs().max() < 2**-8
    angle = t[:, None] * single.freqs.bfloat16()
    assert (torch.cat([angle.cos(), angle.sin()], -1).float() - right).abs().max() > 0.1


def test_networks_under_autocast_take_half_precision_and_refuse_it_otherwise():
    for net in (small_net(), ResidualMLP(2, 8, t_dim=8), SmallDiT(side=2, patch=1, channels=1, hidden=8, t_dim=8)):
        t, x = torch.rand(4).bfloat16(), torch.randn(4, net.dim).bfloat16()
        with torch.autocast("cpu", torch.bfloat16):
            assert net(t, x).shape == x.shape
        with pytest.raises(TypeError, match="x must have the dtype of the network, torch.float32, got torch.bfloat16"):
            net(t, x)


def test_measures_of_low_precision_points():
    x0, x1 = torch.randn(4000, 2).bfloat16(), torch.randn(4000, 2).bfloat16() + 2
    right = transport_cost(x0.double(), x1.double())
    in_low = (x1 - x0).square().sum(1).mean().item()
    assert abs(transport_cost(x0, x1) / right - 1) < 1e-5 < abs(in_low / right - 1)
    flow = lambda t, x: x
    assert path_energy(flow, x0) == pytest.approx(path_energy(flow, x0.double()), rel=2e-2)
    assert straightness(flow, x0) == pytest.approx(straightness(flow, x0.double()), rel=2e-2)
    with torch.autocast("cpu", torch.bfloat16):
        assert path_energy(small_net(), torch.randn(20, 2)) > 0


def test_the_judge_of_digits_takes_every_dtype():
    digits = load_digits_flow()
    judge = train_digit_classifier(digits, 5)
    for dtype in (torch.bfloat16, torch.float64):
        assert judge.agreement(digits.test.to(dtype), digits.test_labels) == pytest.approx(
            judge.agreement(digits.test, digits.test_labels), abs=0.02
        )
    with pytest.raises(ValueError, match=r"x must have shape \[B, 64\], got \[3, 8, 8\]"):
        judge.features(torch.zeros(3, 8, 8))


# --- a device without double precision


def test_the_stand_in_refuses_double_precision():
    with without_float64() as device:
        x = torch.randn(3, 2, device=device)
        assert x.device == device
        for wrong in (lambda: x.double(), lambda: torch.rand(3, dtype=torch.float64, device=device)):
            with pytest.raises(TypeError, match="float64"):
                wrong()
        with pytest.raises(RuntimeError, match="same device"):
            x + torch.randn(3, 2)


def test_times_are_drawn_where_there_is_no_double_precision():
    torch.manual_seed(5)
    right = stratified_t(100)
    torch.manual_seed(5)
    with without_float64() as device:
        t = stratified_t(100, device)
        assert t.device == device and torch.equal(t.cpu(), right)


METRICS = [energy_distance, sliced_w2, wasserstein2, transport_cost, frechet_distance, nearest_distance]


@pytest.mark.parametrize("metric", METRICS)
def test_metrics_where_there_is_no_double_precision(metric):
    a, b = torch.randn(40, 2), torch.randn(40, 2) + 1
    with without_float64() as device:
        assert metric(a.to(device), b.to(device)) == metric(a, b)


def test_the_rest_of_training_where_there_is_no_double_precision():
    x0, x1, label = torch.randn(30, 2), torch.randn(30, 2), torch.randint(3, (30,))
    right = [minibatch_ot(x0, x1)[0], minibatch_ot(x0, x1, label)[0]]
    flow = lambda t, x: -x
    mean, std_error, n = estimate(x1[:, 0])
    with without_float64() as device:
        a, b, c = (x.to(device) for x in (x0, x1, label))
        for got, expected in zip([minibatch_ot(a, b)[0], minibatch_ot(a, b, c)[0]], right, strict=True):
            assert got.device == device and torch.equal(got.cpu(), expected)
        assert estimate(b[:, 0]) == (mean, std_error, n)
        assert straightness(flow, a, 5) == pytest.approx(straightness(flow, x0, 5), rel=1e-5)
        assert normalized_path_energy(flow, a, b, 5) == pytest.approx(normalized_path_energy(flow, x0, x1, 5), rel=1e-5)
        normaliser = Normaliser.fit(b)
        torch.testing.assert_close(normaliser.normalise(b).cpu(), Normaliser.fit(x1).normalise(x1))
        x = next(endless_batches([x1.double()], device, torch.float32)).x1  # cast before it moves
        assert x.device == device and torch.equal(x.cpu(), x1)
        with torch.device(device):
            nets = [small_net(num_classes=3), ResidualMLP(2, 8, t_dim=8), SmallDiT(side=2, patch=1, hidden=8, t_dim=8)]
        for net in nets:
            net.to(device)
            assert cfm_loss(net, RF, torch.randn(5, net.dim, device=device), t_dist="stratified").isfinite()


# --- wrappers


def test_wrappers_are_seen_through():
    net = small_net()
    assert bare(net) is net and bare(nn.DataParallel(net)) is net
    assert make_ema(nn.DataParallel(net)).state_dict().keys() == net.state_dict().keys()


@pytest.mark.slow
def test_a_compiled_model_trains():
    """With its own names in the average, and with its number of classes; without `bare` they start with _orig_mod."""
    net = small_net(num_classes=3)
    compiled = torch.compile(net, backend="eager")
    assert next(iter(compiled.state_dict())).startswith("_orig_mod.")
    for wrapped in (compiled, nn.DataParallel(net)):
        with pytest.raises(ValueError, match="label_dropout must be given for a model with 3 classes"):
            train(wrapped, [(X, CLASS)])
    torch.manual_seed(0)
    model, average = train(compiled, [(X, CLASS)], steps=20, label_dropout=0.1, ema_decay=0.0)
    assert model is compiled and not net.training
    small_net(num_classes=3).load_state_dict(average.state_dict())
    assert all(torch.equal(a, w) for a, w in zip(average.parameters(), net.parameters(), strict=True))
    assert heun_sampler(model, torch.randn(4, 2), 3, label=CLASS[:4]).isfinite().all()
    with pytest.raises(TypeError, match=r"model must take model\(t, x, c1\)"):
        train(torch.compile(Plain(), backend="eager"), [(X, VECTOR)])


# --- every default with every default


@pytest.mark.parametrize("t_dist", T_SAMPLERS)
def test_every_network_trains_on_every_path(path, t_dist):
    """A loss that is not finite would have stopped it."""
    for net, dim in ((VectorFieldMLP(2), 2), (ResidualMLP(2), 2), (SmallDiT(), 64)):
        history = History()
        train_flow_matching(net, [torch.randn(4, dim)], path, 2, log_every=0, t_dist=t_dist, callback=history)
        assert len(history.losses) == 2 and min(history.losses) > 0


# --- data of any scale


def test_a_normaliser_by_hand():
    x = torch.tensor([[1.0, 10.0, 5.0], [3.0, 30.0, 5.0]])
    one, each = Normaliser.fit(x), Normaliser.fit(x, per_coordinate=True)
    assert one.mean.tolist() == [2, 20, 5] and each.scale.tolist() == [1, 10, 1]  # what stands still keeps 1
    torch.testing.assert_close(one.scale, torch.full((3,), ((1 + 100 + 0) / 3) ** 0.5))
    assert each.normalise(x).tolist() == [[-1, -1, 0], [1, 1, 0]]
    for normaliser in (one, each, Normaliser(torch.zeros(3), 2)):
        torch.testing.assert_close(normaliser.restore(normaliser.normalise(x)), x)
    images = torch.randn(50, 3, 4, 4) * 7 + 100
    z = Normaliser.fit(images).normalise(images)
    assert z.mean(0).abs().max() < 1e-4 and z.var(0, correction=0).mean().item() == pytest.approx(1, rel=1e-4)
    # log p(x) = log p(z) - sum(log scale), for a normal distribution
    data = torch.distributions.Normal(one.mean, one.scale)
    torch.testing.assert_close(
        data.log_prob(x).sum(1),
        torch.distributions.Normal(0, 1).log_prob(one.normalise(x)).sum(1) - one.scale.log().sum(),
    )


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Normaliser(torch.zeros(2), 0.0), ValueError, "scale must be finite and above 0"),
        (lambda: Normaliser(torch.zeros(2), torch.ones(3)), ValueError, r"scale \[3\] must broadcast to mean, \[2\]"),
        (lambda: Normaliser(0.0), TypeError, "mean must be a tensor of finite floating-point numbers, got 0.0"),
        (lambda: Normaliser.fit(X[:1]), ValueError, r"data must be finite, of shape \[N, ...\] with N >= 2, got \[1"),
        (lambda: Normaliser.fit(X * float("inf")), ValueError, "data must be finite"),
        (lambda: Normaliser.fit(X).restore(VECTOR), ValueError, r"z must have shape \[B, 2\], got \[6, 3\]"),
        (lambda: Normaliser.fit(X).normalise(5), TypeError, "x must be a torch.Tensor, got int"),
    ],
)
def test_errors_of_a_normaliser_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_normaliser_is_a_part_of_the_model():
    """In its state, in its average, on its device; and not rounded when the model is."""
    net = small_net()
    net.normaliser = Normaliser(torch.tensor([1001.0, -3.0]), 7.0)
    _, average = train(net, SampledBatches(lambda n: torch.randn(n, 2) * 7 + torch.tensor([1001.0, -3.0]), 16))
    again = small_net()
    again.normaliser = Normaliser(torch.zeros(2))
    again.load_state_dict(average.state_dict())
    assert again.normaliser.mean.tolist() == [1001, -3] and again.normaliser.scale.tolist() == [7, 7]
    for low in (net.bfloat16(), net.half()):
        assert low.normaliser.mean.tolist() == [1001, -3] != torch.tensor([1001.0, -3.0]).bfloat16().tolist()
    assert make_ema(net).normaliser.mean.tolist() == [1001, -3]


def test_training_normalises_its_batches():
    """The same losses as on data that were normalised before; other losses without."""
    normaliser = Normaliser(torch.tensor([100.0, 50.0]), torch.tensor([20.0, 10.0]))
    losses = {}
    for name, data, given in (
        ("inside", lambda n: normaliser.restore(torch.randn(n, 2)), normaliser),
        ("before", lambda n: normaliser.normalise(normaliser.restore(torch.randn(n, 2))), None),
    ):
        torch.manual_seed(0)
        net, history = small_net(), History()
        if given is not None:
            net.normaliser = given
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            train(net, SampledBatches(data, 32), callback=history)
        losses[name] = history.losses
    assert losses["inside"] == losses["before"]
    net = small_net()
    net.normaliser = normaliser
    with pytest.raises(ValueError, match="normaliser does not go with noise from the dataloader"):
        train(net, [Pairs(X, X)])


@pytest.mark.slow
def test_far_data_reach_the_floor_through_a_normaliser():
    """Moons x 1000 + 100 as plain moons; without the normaliser the same training ends many floors away."""
    n, floors = 8000, {}
    far = lambda n: 1000 * sample_moons(n) + 100
    for name, data in (("plain", sample_moons), ("normalised", far), ("far", far)):
        torch.manual_seed(0)
        net = VectorFieldMLP(2, 64)
        if name == "normalised":
            net.normaliser = Normaliser.fit(data(5000))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if name == "far" else "error")
            _, average = train(net, SampledBatches(data, 256), steps=1000)
        samples = heun_sampler(average, torch.randn(n, 2), 25)
        samples = average.normaliser.restore(samples) if name == "normalised" else samples
        floors[name] = sliced_w2(samples, data(n)) / sampling_floor(sliced_w2, data, n, 4).mean
    assert max(floors["normalised"], floors["plain"]) < 4 < 10 < floors["far"], floors


def test_only_data_far_from_unit_scale_give_a_hint():
    """The limits, in what the default training of 2,000 steps reaches on moons: x 0.3 2.9 floors, x 3 1.7, + 3 1.8;
    but x 0.1 9, x 0.03 14, x 10 3.7, + 10 5.8, and 1.5 on plain moons."""
    digits = load_digits_flow()
    near = [sample_moons, sample_eight_gaussians, sample_checkerboard, digits.sample_train, lambda n: torch.randn(n, 9)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for sample in near:
            hint_at_scale(sample(256))
        hint_at_scale(torch.randn(1, 2))
        hint_at_scale(torch.rand(64, 3, 8, 8))  # pixels in [0, 1]
        hint_at_scale(torch.zeros(4, 2))
        for s, m in ((0.3, 0), (3, 0), (1, 3)):
            hint_at_scale(s * sample_moons(256) + m)
    for s, m in ((0.1, 0), (10, 0), (1, 10), (1, -100), (1000, 0)):
        with pytest.warns(UserWarning, match="far from unit scale .first batch: mean .*Normaliser.fit"):
            hint_at_scale(s * sample_moons(256) + m)


def test_the_hint_comes_once_and_names_the_remedy():
    with pytest.warns(UserWarning, match="model.normaliser = fmlib.Normaliser.fit.data.") as caught:
        train(small_net(), SampledBatches(lambda n: 1000 * sample_moons(n), 16))
    assert len(caught) == 1 and caught[0].filename == __file__
