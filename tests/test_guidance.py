"""Guidance: labels in networks and training, the guided field against its closed form, and clear errors."""

import math

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from fmlib import (
    GaussianMixture,
    ResidualMLP,
    SampledBatches,
    VectorFieldMLP,
    cfm_loss,
    drop_labels,
    euler_sampler,
    guided,
    minibatch_ot,
    rectified_flow_path,
    rk4_sampler,
    train_flow_matching,
)

RF = rectified_flow_path()
NETS = [lambda k: VectorFieldMLP(2, 32, num_classes=k), lambda k: ResidualMLP(2, 32, blocks=2, num_classes=k)]


FIELD = lambda t, x, label: x


def gaussian_model(mean, std, mean_all, std_all, d=2):
    """model(t, x, label) of two exact fields: class 0, and 1 for "no class"."""
    one, whole = (
        GaussianMixture(torch.full((1, d), m, dtype=torch.float64), torch.tensor(s))
        for m, s in ((mean, std), (mean_all, std_all))
    )

    def model(t, x, label):
        return torch.where((label == 0)[:, None], one.velocity(RF, t, x), whole.velocity(RF, t, x))

    return model


@pytest.mark.parametrize("scale", [1.0, 2.0, 3.0, -0.5])
def test_guided_gaussian_against_its_closed_form(scale):
    """CFG between N(0, q^2) and N(0, S^2) ends at std S^(1-s) q^s; the tilted density has another one."""
    q, whole = 0.5, 1.0
    model = gaussian_model(0.0, q, 0.0, whole)
    x0 = torch.randn(4, 2, dtype=torch.float64)
    end = rk4_sampler(guided(model, 0, scale, null_label=1), x0, steps=200)
    expected = whole ** (1 - scale) * q**scale
    torch.testing.assert_close(end, expected * x0, rtol=1e-4, atol=1e-6)
    tilted = (scale / q**2 + (1 - scale) / whole**2) ** -0.5
    if scale != 1:
        assert abs(tilted / expected - 1) > 0.02
    if scale > 1:  # the wrong twin: the scale counted as Ho & Salimans' w
        wrong = rk4_sampler(guided(model, 0, 1 + scale, null_label=1), x0, steps=200)
        assert not torch.allclose(wrong, expected * x0, rtol=0.02)


def test_equal_variances_agree_with_the_tilted_density():
    """With one variance for both, the tilted density is a Gaussian at mu + (s - 1)(mu - mu_all), and CFG reaches it."""
    x0 = torch.randn(5, 2, dtype=torch.float64)
    end = rk4_sampler(guided(gaussian_model(0.6, 0.7, 0.1, 0.7), 0, 3.0, null_label=1), x0, steps=200)
    torch.testing.assert_close(end, 0.7 * x0 + 0.6 + 2 * 0.5, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", NETS)
def test_networks_take_a_class(make):
    torch.manual_seed(0)
    net, x, t = make(3), torch.randn(5, 2), torch.rand(5)
    label = torch.tensor([0, 1, 2, 3, 0])
    out = net(t, x, label)
    assert out.shape == x.shape
    torch.testing.assert_close(net(t, x), net(t, x, 3))  # no label means "no class"
    torch.testing.assert_close(out[3], net(t, x)[3])
    assert not torch.allclose(out[0], net(t, x)[0])
    for bad, message in ((4, "label must lie in 0 ... 2"), (torch.tensor([0, 1, 2, 0]), r"shape \[5\]"), (-1, "label")):
        with pytest.raises(ValueError, match=message):
            net(t, x, bad)
    with pytest.raises(TypeError, match="label must hold integers"):
        net(t, x, torch.zeros(5))
    with pytest.raises(ValueError, match="without num_classes"):
        make(None)(t, x, label)


@pytest.mark.parametrize("make", NETS)
def test_two_calls_as_one_batch(make):
    torch.manual_seed(0)
    net, x = make(3), torch.randn(5, 2)
    calls = []
    net.register_forward_hook(lambda *_: calls.append(1))
    label = torch.tensor([0, 1, 2, 0, 1])
    with torch.no_grad():
        v = guided(net, label, 2.5)(torch.tensor(0.3), x)
        assert len(calls) == 1
        v_c, v_none = net(torch.full((5,), 0.3), x, label), net(torch.full((5,), 0.3), x)
    torch.testing.assert_close(v, v_none + 2.5 * (v_c - v_none))
    assert not torch.allclose(v, v_c + 2.5 * (v_c - v_none))  # the formula for w = 2.5
    with torch.no_grad():
        torch.testing.assert_close(guided(net, label, 1.0)(0.3, x), v_c)
        torch.testing.assert_close(guided(net, label, 0.0)(0.3, x), v_none)


def test_interval():
    model = gaussian_model(1.0, 0.5, 0.0, 1.0)
    x = torch.randn(4, 2, dtype=torch.float64)
    t = torch.tensor([0.1, 0.4, 0.6, 0.9], dtype=torch.float64)
    inside = guided(model, 0, 4.0, interval=(0.3, 0.7), null_label=1)(t, x)
    full, plain = (guided(model, 0, s, null_label=1)(t, x) for s in (4.0, 1.0))
    torch.testing.assert_close(inside, torch.stack([plain[0], full[1], full[2], plain[3]]))
    torch.testing.assert_close(guided(model, 0, 4.0, interval=(0.5, 0.5), null_label=1)(t, x), plain)


def test_drop_labels():
    torch.manual_seed(0)
    label = torch.randint(3, (20_000,))
    dropped = drop_labels(label, 0.1, 3)
    share = (dropped == 3).double().mean().item()
    assert abs(share - 0.1) < 5 * math.sqrt(0.09 / 20_000)
    assert torch.equal(dropped[dropped != 3], label[dropped != 3]) and label.max() == 2
    assert torch.equal(drop_labels(label, 0, 3), label) and (drop_labels(label, 1.0, 3) == 3).all()


def test_drop_labels_of_any_kind():
    """A vector, a mask, several at once: the row goes as a whole, and all conditions of a sample together."""
    n = 400
    conditions = {
        "text": torch.randn(n, 3),
        "mask": torch.ones(n, 2, 2, dtype=torch.bool),
        "tags": torch.randint(5, (n, 2)),
        "size": torch.randn(n),
    }
    nulls = {"text": torch.tensor([7.0, 8.0, 9.0]), "mask": False, "tags": 5, "size": None}
    dropped = drop_labels(conditions, 0.3, nulls)
    gone = (dropped["text"] == nulls["text"]).all(1)
    assert 0.15 < gone.double().mean() < 0.45
    assert torch.equal((dropped["tags"] == 5).all(1), gone) and torch.equal(~dropped["mask"].flatten(1).any(1), gone)
    assert torch.equal(dropped["size"], conditions["size"])
    for name, c in conditions.items():
        assert dropped[name].dtype == c.dtype and torch.equal(dropped[name][~gone], c[~gone])
    apart = [drop_labels(c, 0.3, nulls[k]) for k, c in conditions.items() if k in ("text", "tags")]
    assert not torch.equal(apart[0][:, 0] == 7, apart[1][:, 0] == 5)  # the wrong twin: each dropped on its own
    assert (drop_labels(torch.randn(4, 3), 1.0, 0.5) == 0.5).all()


@pytest.mark.parametrize(
    "label, null, error, message",
    [
        (torch.arange(3), 1.5, TypeError, "null_label must be an integer of at least 0, got 1.5"),
        (torch.arange(3), torch.tensor(1.5), TypeError, "kind of numbers of its condition, torch.int64, got torch.fl"),
        (torch.zeros(3, 2), torch.zeros(3), ValueError, r"broadcast to its condition \[3, 2\], got \[3\]"),
        (torch.zeros(3).bool(), 3, TypeError, "null_label must be True or False for a mask, got 3"),
        (torch.zeros(3), torch.zeros(3, device="meta"), ValueError, "on the device of its condition, cpu, got meta"),
        (torch.tensor(3), 3, TypeError, r"label must be a tensor of shape \[B, ...\], got torch.int64 \[\]"),
        ({"a": torch.zeros(3)}, 3, ValueError, r"dict with the keys of label, \['a'\], got 3"),
        ({"a": torch.zeros(3)}, {"b": 3}, ValueError, r"dict with the keys of label, \['a'\], got \['b'\]"),
        ({"a": torch.zeros(3)}, {"a": "x"}, TypeError, "null_label of a must be a finite number, got 'x'"),
        ({"a": torch.zeros(3), "b": torch.zeros(2)}, {"a": 0, "b": 0}, ValueError, "one number of rows, got {'a': 3"),
    ],
)
def test_drop_labels_names_what_does_not_fit(label, null, error, message):
    with pytest.raises(error, match=message):
        drop_labels(label, 0.5, null)


def two_clumps(n):
    label = torch.randint(2, (n,))
    return 0.3 * torch.randn(n, 2) + (2.0 * label - 1)[:, None], label


def test_training_with_classes():
    """Each class ends at its own place, no class at both; a net trained on shuffled labels knows no class."""
    ends = {}
    for name, sample in (
        ("right", two_clumps),
        ("shuffled", lambda n: (two_clumps(n)[0], torch.randint(2, (n,)))),
    ):
        torch.manual_seed(0)
        net = VectorFieldMLP(2, 32, num_classes=2)
        loader = SampledBatches(sample, 128, 50)
        _, ema = train_flow_matching(net, loader, RF, 300, log_every=0, label_dropout=0.2)
        x0 = torch.randn(400, 2)
        ends[name] = [euler_sampler(guided(ema, c, 1.0), x0, steps=20).mean(0) for c in (0, 1, 2)]
    low, high, both = ends["right"]
    assert (low + 1).abs().max() < 0.15 and (high - 1).abs().max() < 0.15 and both.abs().max() < 0.25
    assert (ends["shuffled"][0] - ends["shuffled"][1]).abs().max() < 0.3


def test_labels_reach_the_model_and_stay_with_their_data():
    x1, label = two_clumps(64)
    seen = []

    class Spy(VectorFieldMLP):
        def forward(self, t, x, label=None):
            seen.append(label)
            return super().forward(t, x, label)

    batches = DataLoader(TensorDataset(x1, label), batch_size=64)
    net = Spy(2, 8, num_classes=2)
    train_flow_matching(net, batches, RF, 2, log_every=0, label_dropout=0.0, coupling=minibatch_ot)
    assert torch.equal(seen[0], label)
    with pytest.raises(ValueError, match="coupling must leave x1 in its order"):
        train_flow_matching(
            Spy(2, 8, num_classes=2),
            batches,
            RF,
            2,
            log_every=0,
            label_dropout=0.0,
            coupling=lambda x0, x1, label: (x0, x1.flip(0)),
        )
    loss, parts = cfm_loss(net, RF, x1, label=label, return_components=True)
    assert loss.shape == () and parts["per_sample"].shape == (64,)


def affine(t, x, label=None, **conditions):
    """A field that shows what it was given: x + label + every condition, each summed over its own dimensions."""
    given = ([] if label is None else [label]) + list(conditions.values())
    return x + sum(c.to(x.dtype).reshape(len(x), -1).sum(1, keepdim=True) for c in given) + t[:, None]


def test_guidance_with_conditions_of_any_kind():
    """Vector label, tokens, a mask that both fields see: against two separate calls."""
    x, t = torch.randn(4, 2), torch.rand(4)
    text, tags, mask = torch.randn(4, 3), torch.randint(1, 9, (4, 2)), torch.rand(4, 2) < 0.5
    empty = torch.tensor([1.0, 2.0, 3.0])
    field = guided(
        affine,
        text,
        3.0,
        null_label=empty,
        conditions={"tags": tags, "mask": mask},
        null_conditions={"tags": 0, "mask": None},
    )
    v_c = affine(t, x, text, tags=tags, mask=mask)
    v_none = affine(t, x, empty.expand(4, 3), tags=0 * tags, mask=mask)
    torch.testing.assert_close(field(t, x), v_none + 3 * (v_c - v_none))
    lost = affine(t, x, empty.expand(4, 3), tags=0 * tags, mask=mask & False)  # the wrong twin: the mask dropped too
    assert not torch.allclose(field(t, x), lost + 3 * (v_c - lost))
    only = guided(affine, guidance_scale=3.0, conditions={"tags": tags}, null_conditions={"tags": 0})
    torch.testing.assert_close(only(t, x), affine(t, x) + 3 * (affine(t, x, tags=tags) - affine(t, x)))
    # Conditions that a sampler hands on reach both fields, doubled with the batch.
    state = euler_sampler(guided(affine, text, 3.0, null_label=empty), x, steps=1, tags=tags)
    at_0 = torch.zeros(4)
    v_c, v_none = affine(at_0, x, text, tags=tags), affine(at_0, x, empty.expand(4, 3), tags=tags)
    torch.testing.assert_close(state, x + v_none + 3 * (v_c - v_none))


def test_scale_per_sample_schedule_and_negative_class():
    torch.manual_seed(0)
    net, x, t = VectorFieldMLP(2, 16, num_classes=3), torch.randn(4, 2), torch.tensor([0.1, 0.4, 0.6, 0.9])
    label = torch.tensor([0, 1, 2, 1])
    with torch.no_grad():
        v = {c: net(t, x, c) for c in (0, 1, 2, 3)}
        v_c = net(t, x, label)
        scale = torch.tensor([0.0, 1.0, 2.0, 7.5])
        got = guided(net, label, scale)(t, x)
        torch.testing.assert_close(got, v[3] + scale[:, None] * (v_c - v[3]))
        for i, s in enumerate(scale.tolist()):  # each row as if it were alone
            torch.testing.assert_close(got[i : i + 1], guided(net, label[i : i + 1], s)(t[i : i + 1], x[i : i + 1]))
        assert not torch.allclose(got, guided(net, label, scale.flip(0))(t, x))
        torch.testing.assert_close(
            guided(net, label, lambda t: 1 + 4 * t)(t, x), v[3] + (1 + 4 * t)[:, None] * (v_c - v[3])
        )
        torch.testing.assert_close(guided(net, label, lambda t: 2.0)(t, x), guided(net, label, 2.0)(t, x))
        # A negative class, for all or for each: the field moves away from it.
        torch.testing.assert_close(guided(net, 1, 3.0, null_label=2)(t, x), v[2] + 3 * (v[1] - v[2]))
        away = torch.tensor([1, 0, 3, 2])
        torch.testing.assert_close(
            guided(net, label, 3.0, null_label=away)(t, x), net(t, x, away) + 3 * (v_c - net(t, x, away))
        )
    # A model that says nothing of its classes may have its "no class" at 0.
    torch.testing.assert_close(guided(affine, 5, 2.0, null_label=0)(t, x), x + t[:, None] + 10)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (
            {"guidance_scale": torch.ones(3)},
            ValueError,
            r"guidance_scale must be a number or have shape \[4\], got \[3\]",
        ),
        ({"guidance_scale": torch.ones(4, 1)}, ValueError, r"guidance_scale must be .* shape \[B\], got torch.float32"),
        ({"guidance_scale": torch.ones(4) / 0}, ValueError, "guidance_scale must be finite"),
        ({"guidance_scale": None}, TypeError, "guidance_scale must be a finite number, got None"),
        ({"guidance_scale": lambda t: "3"}, TypeError, r"guidance_scale\(t\) must be a finite number, got '3'"),
        ({"guidance_scale": lambda t: t[:2]}, ValueError, r"guidance_scale\(t\) must be .*shape \[4\], got \[2\]"),
        ({"label": None}, TypeError, "label or conditions must be given, got neither"),
        ({"label": torch.zeros(4, 3), "null_label": torch.zeros(2)}, ValueError, r"broadcast .* \[4, 3\], got \[2\]"),
        ({"label": torch.zeros(3, 3)}, ValueError, r"label must be a number or have shape \[4, ...\], got \[3, 3\]"),
        ({"conditions": {"a": torch.zeros(4)}}, ValueError, r"names of conditions, \['a'\] .*, got \[\]"),
        (
            {"conditions": {"a": torch.arange(4)}, "null_conditions": {"a": 0.5}},
            TypeError,
            r"null_conditions\['a'\] must be an integer of at least 0, got 0.5",
        ),
    ],
)
def test_errors_of_guidance_with_conditions(arguments, error, message):
    with pytest.raises(error, match=message):
        guided(affine, **{"label": 1, "guidance_scale": 2.0, "null_label": 0} | arguments)(0.5, torch.zeros(4, 2))
    twice = guided(affine, 1, 2.0, null_label=0, conditions={"a": torch.zeros(4)}, null_conditions={"a": 1})
    with pytest.raises(ValueError, match=r"conditions must be given once, got \['a'\] twice"):
        euler_sampler(twice, torch.zeros(4, 2), a=torch.zeros(4))


@pytest.mark.parametrize(
    "kwargs, error, message",
    [
        ({"guidance_scale": math.nan}, ValueError, "guidance_scale must be a finite number, got nan"),
        ({"guidance_scale": "3"}, TypeError, "guidance_scale must be a finite number, got '3'"),
        ({"interval": (0.8, 0.2)}, ValueError, "interval must have start <= end"),
        ({"interval": 0.5}, ValueError, "interval must be a pair"),
        ({"interval": (0, 1.5)}, ValueError, "interval end"),
        ({"label": 5}, ValueError, "label must lie in 0 ... 2"),
        ({"label": torch.tensor([0.0])}, TypeError, "label must hold integers"),
        ({"label": torch.tensor([0, 1])}, ValueError, r"label must be a number or have shape \[4\]"),
    ],
)
def test_errors_of_guided(kwargs, error, message):
    arguments = {"label": 1, "guidance_scale": 2.0} | kwargs
    with pytest.raises(error, match=message):
        guided(VectorFieldMLP(2, 8, num_classes=3), **arguments)(torch.tensor(0.5), torch.randn(4, 2))


def test_errors_of_training_with_classes():
    loader = SampledBatches(two_clumps, 16, 5)
    with pytest.raises(ValueError, match="label_dropout must be given for a model with 2 classes"):
        train_flow_matching(VectorFieldMLP(2, 8, num_classes=2), loader, RF, 5, log_every=0)
    with pytest.raises(ValueError, match="label_dropout needs a model with classes"):
        train_flow_matching(VectorFieldMLP(2, 8), loader, RF, 5, log_every=0, label_dropout=0.1)
    with pytest.raises(ValueError, match="must yield"):
        only_x = SampledBatches(lambda n: torch.randn(n, 2), 16, 5)
        train_flow_matching(VectorFieldMLP(2, 8, num_classes=2), only_x, RF, 5, log_every=0, label_dropout=0.1)
    with pytest.raises(ValueError, match="null_label must be given"):
        guided(lambda t, x, label: x, 0, 2.0)


def test_a_condition_that_is_never_dropped_does_not_keep_the_next_one():
    c = {"kept": torch.ones(4), "dropped": torch.ones(4)}
    out = drop_labels(c, 1.0, {"kept": None, "dropped": 0.0})
    assert torch.equal(out["kept"], c["kept"]) and torch.equal(out["dropped"], torch.zeros(4))


def test_guidance_in_half_precision_keeps_dtypes_and_scales_in_single():
    """The model gets t and x in bfloat16, and the scale is not rounded to it. Wrong twin: a rounded scale."""
    seen = []

    def model(t, x, label):
        seen.append((t.dtype, x.dtype))
        return torch.where(label[:, None] == 1, torch.full_like(x, 256.0), torch.zeros_like(x))

    x = torch.zeros(3, 2).bfloat16()
    out = guided(model, 1, 1.03125, null_label=0)(torch.tensor(0.5), x)
    assert out.dtype == torch.bfloat16 and set(seen) == {(torch.bfloat16, torch.bfloat16)}
    assert out[0, 0].item() == 264.0  # 256 * 1.03125; a scale in bfloat16 would be 1.03 or so
    scale = torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64)
    assert guided(model, 1, scale, null_label=0)(0.5, torch.zeros(3, 2)).dtype == torch.float32


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: guided(lambda t, x: x, guidance_scale=2.0),
            TypeError,
            "^label or conditions must be given, got neither$",
        ),
        (lambda: guided(FIELD, 0, torch.tensor([True]), null_label=1), ValueError, "numbers of shape"),
        (
            lambda: guided(FIELD, 0, 2.0, null_label=-1)(0.5, torch.zeros(2, 2)),
            ValueError,
            "null_label must be an integer",
        ),
    ],
)
def test_what_guidance_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call()
