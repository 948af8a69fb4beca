"""The longer messages, word for word: what came, what was expected, what helps."""

import warnings

import pytest
import torch
from torch import nn

from fmlib import Normaliser, Pairs, VectorFieldMLP, guided, rectified_flow_path, sample_moons, train_flow_matching
from fmlib.batches import Batch, endless_batches
from fmlib.learner import Learner
from fmlib.training import hint_at_scale

RF = rectified_flow_path()


class Plain(nn.Linear):
    def forward(self, t, x):
        return super().forward(x)


def said(error, call) -> str:
    with pytest.raises(error) as raised:
        call()
    return str(raised.value)


def test_a_model_that_takes_no_condition():
    batch = Batch.read((torch.zeros(3, 2), torch.zeros(3)))
    assert said(TypeError, lambda: batch.check_taken_by(Plain(2, 2))) == (
        "the batches of dataloader have conditions, so model must take model(t, x, c1), got too many positional "
        "arguments. To train without conditions, yield x1 alone"
    )


def test_a_dataloader_that_is_none_or_over():
    assert said(TypeError, lambda: next(endless_batches(sample_moons, "cpu", None))) == (
        "dataloader must be an iterable of batches x1 [B, ...], got function; fmlib.SampledBatches makes one from a "
        "function"
    )
    assert said(ValueError, lambda: list(endless_batches((sample_moons(4) for _ in range(2)), "cpu", None))) == (
        "dataloader is exhausted after 2 batches and cannot be started again (a generator?): pass an object with "
        "__iter__, such as a DataLoader or fmlib.SampledBatches"
    )


def test_the_hint_at_the_scale():
    with pytest.warns(UserWarning) as seen:
        hint_at_scale(torch.tensor([[1000.0], [1002.0]]))
    assert str(seen[0].message) == (
        "the data are far from unit scale (first batch: mean 1e+03, standard deviation 1). They are mixed with noise "
        "N(0, I), and networks work best on numbers of about 1. Remedy: model.normaliser = fmlib.Normaliser.fit(data) "
        "before the training, model.normaliser.restore(samples) after the sampler"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hint_at_scale(sample_moons(100))


def test_a_normaliser_beside_noise_of_the_dataloader():
    net = VectorFieldMLP(2, 8, t_dim=8)
    net.normaliser = Normaliser.fit(sample_moons(50))
    pairs = [Pairs(torch.randn(8, 2), sample_moons(8))]
    assert said(ValueError, lambda: train_flow_matching(net, pairs, RF, total_steps=2)) == (
        "normaliser does not go with noise from the dataloader: pass pairs that are normalised, and a model without "
        "normaliser"
    )


def test_an_interrupt_is_told(capsys):
    net = VectorFieldMLP(2, 8, t_dim=8)

    def stop(step, *_):
        if step == 2:
            raise KeyboardInterrupt

    train_flow_matching(net, [sample_moons(8)] * 9, RF, total_steps=5, callback=stop)
    assert capsys.readouterr().out == "Interrupted at step 2 of 5: the model and its EMA are returned as they are.\n"


def classes(t, x, label=None, a=None):
    return x


@pytest.mark.parametrize(
    ("options", "call", "message"),
    [
        ({"label": torch.zeros(3).long()}, {}, "label must be a number or have shape [4, ...], got [3]"),
        ({"label": torch.zeros(4).long(), "null_label": torch.zeros(3).long()}, {}, "null_label must "),
        ({"label": -1}, {}, "label must be an integer of at least 0, got -1"),
        ({"conditions": {"a": torch.zeros(3)}, "null_conditions": {"a": 0}}, {}, "a must be a number or have shape"),
        ({"conditions": {"a": torch.zeros(4)}, "null_conditions": {"a": torch.zeros(3)}}, {}, "null_conditions['a'] "),
        ({"label": 1, "conditions": {"a": torch.zeros(4)}, "null_conditions": {"a": 0}},
         {"a": torch.zeros(4), "b": torch.zeros(4)}, "conditions must be given once, got ['a'] twice"),
    ],
)  # fmt: skip
def test_guidance_names_what_does_not_fit(options, call, message):
    options = {"null_label": 0, **options}
    field = lambda: guided(classes, guidance_scale=2.0, **options)(torch.zeros(()), torch.zeros(4, 2), **call)
    assert said((ValueError, TypeError), field).startswith(message)


def test_the_bar_beside_a_training(monkeypatch):
    """What it is told: how many steps there are, how many are taken, its name; and nothing where none is wanted."""
    made, shown = [], []

    class Bar:
        def __init__(self, **options):
            made.append(options)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def update(self):
            shown.append("step")

        def set_postfix_str(self, words, refresh):
            shown.append((words.split()[:2], refresh))

    monkeypatch.setattr("fmlib.learner.progress_bar", Bar)
    batch = Batch.read(sample_moons(8))
    loss = lambda model, batch, average: (model(torch.zeros(8), batch.x1) - batch.x1).square().sum(1).mean()
    learner = Learner(VectorFieldMLP(2, 8, t_dim=8), 5, 1e-3)
    learner.taken = 1
    list(learner.run(loss, [batch] * 9, 2, "rectified flow"))
    assert made == [{"total": 5, "initial": 1, "disable": False, "desc": "rectified flow", "leave": False}]
    told = (["mean", "loss"], False)
    assert shown == [told, "step", "step", told, "step", "step"] and learner.taken == 5
    learner = Learner(VectorFieldMLP(2, 8, t_dim=8), 5, 1e-3)
    learner.taken = 3
    list(learner.run(loss, [batch] * 9))
    assert (
        made[1] == {"total": 5, "initial": 3, "disable": True, "desc": "", "leave": False} and shown[6:] == ["step"] * 2
    )
