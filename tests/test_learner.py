"""One step for every loop: the numbers of the loops before it, and what a loop of one's own needs."""

import copy
from itertools import islice

import pytest
import torch
from frozen_loops import notebook

from fmlib import (
    Normaliser,
    Pairs,
    SampledBatches,
    VectorFieldMLP,
    cfm_loss,
    minibatch_ot,
    rectified_flow_path,
    sample_moons,
    train_flow_matching,
    vp_cosine_path,
)
from fmlib.batches import Batch
from fmlib.learner import Learner

RF = rectified_flow_path()
STEPS = 8


def labelled(n):
    x1 = sample_moons(n)
    return x1, (x1[:, 0] > 0).long()


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


# What is trained: the network's options, the data, and the arguments of the loop.
SETUPS = {
    "plain": ({}, sample_moons, {}),
    "far data": ({"normaliser": True}, lambda n: 30 + 9 * sample_moons(n), {"grad_clip": None}),
    "constant": ({}, sample_moons, {"schedule": "constant", "weight_decay": 0.1, "t_dist": "logitnormal"}),
    "bfloat16": ({"dtype": torch.bfloat16}, sample_moons, {"ema_decay": 0.5}),
    "float64": ({"dtype": torch.float64}, sample_moons, {"path": vp_cosine_path()}),
    "coupled": ({}, sample_moons, {"coupling": minibatch_ot}),
    "labels": ({"num_classes": 2}, labelled, {"label_dropout": 0.3}),
    "labels coupled": ({"num_classes": 2}, labelled, {"label_dropout": 0.3, "coupling": minibatch_ot}),
    "pairs": ({}, lambda n: Pairs(torch.randn(n, 2), sample_moons(n)), {"lr": 1e-2}),
}


def network(num_classes=None, normaliser=False, dtype=torch.float32):
    torch.manual_seed(3)
    net = VectorFieldMLP(2, 16, t_dim=8, num_classes=num_classes)
    if normaliser:
        net.normaliser = Normaliser.fit(30 + 9 * sample_moons(100))
    return net.to(dtype)


@pytest.mark.parametrize("name", SETUPS)
def test_the_numbers_are_those_of_the_loop_before(name):
    """Bit for bit, in the same process; the wrong twin begins with another seed."""
    options, sample, arguments = SETUPS[name]
    arguments = {"path": RF, "lr": 5e-3, **arguments}
    data = SampledBatches(sample, 32, total=3)  # it is started again twice

    def now(net):
        losses = []
        keep = lambda step, loss, *_: losses.append(loss)
        return losses, *train_flow_matching(net, data, total_steps=STEPS, log_every=0, callback=keep, **arguments)

    def before(net):
        null = {"null": 2} if "label_dropout" in arguments else {}
        return notebook(net, data, total_steps=STEPS, **arguments, **null)

    def seeded(seed, loop):
        net = network(**options)
        torch.manual_seed(seed)
        return loop(net)

    losses, model, average = seeded(7, now)
    right, wrong = seeded(7, before), seeded(8, before)
    assert losses == right[0] and same(model, right[1]) and same(average, right[2])
    assert losses != wrong[0] and not same(model, wrong[1]) and not same(average, wrong[2])


def batches(n=16):
    while True:
        yield Batch(sample_moons(n))


def flow_loss(model, batch, average):
    return cfm_loss(model, RF, batch.x1)


def test_run_takes_the_steps_that_are_left():
    learner = Learner(network(), 6, 1e-2)
    assert len(list(islice(learner.run(flow_loss, batches()), 2))) == learner.taken == 2
    assert len(list(learner.run(flow_loss, batches()))) == 4 and learner.taken == 6
    assert list(learner.run(flow_loss, batches())) == []


def test_a_loss_may_use_the_average():
    """A consistency loss compares with the average; here as a check that it is the one that the step moves."""
    learner = Learner(network(), STEPS, 1e-2, ema_decay=0.5)
    gaps = []

    def pulled(model, batch, average):
        t, x = torch.rand(len(batch.x1)), batch.x1
        gap = (model(t, x) - average(t, x)).square().sum(1).mean()
        gaps.append(gap.item())
        return gap + flow_loss(model, batch, average)

    list(learner.run(pulled, batches()))
    assert gaps[0] == 0 < gaps[1]
    assert all(not p.requires_grad and p.grad is None for p in learner.average.parameters())


def test_two_networks_take_turns():
    """As distribution matching needs it: each learner changes its own network alone."""
    generator, critic = Learner(network(), STEPS, 1e-2), Learner(network(), STEPS, 1e-2)
    data = batches()

    def made(model, batch):
        return model(torch.zeros(len(batch.x1)), torch.randn_like(batch.x1))

    def critic_loss(model, batch, average):
        return cfm_loss(model, RF, made(generator.model, batch).detach())

    def generator_loss(model, batch, average):
        x = made(model, batch)
        pull = critic.model(torch.full((len(x),), 0.5), x).detach()
        return (x * pull).sum(1).mean()

    for _ in range(3):
        before = copy.deepcopy(generator.network)
        critic.step(critic_loss, next(data))
        assert same(before, generator.network)
        before = copy.deepcopy(critic.network)
        generator.step(generator_loss, next(data))
        assert same(before, critic.network)
    assert generator.taken == critic.taken == 3


def test_the_loss_is_reduced_over_processes_before_it_is_judged():
    """All processes must stop at the same step, so the mean decides, not a process's own loss."""
    batch, seen = Batch(sample_moons(16)), []
    for mean in (torch.Tensor.item, lambda loss: 2 * loss.item()):
        learner = Learner(network(), STEPS, 1e-2, mean=mean)
        torch.manual_seed(1)
        seen.append(learner.step(flow_loss, batch))
    assert seen[1] == 2 * seen[0]
    learner = Learner(network(), STEPS, 1e-2, mean=lambda loss: float("nan"))
    before = copy.deepcopy(learner.network)
    with pytest.raises(FloatingPointError, match="the loss became nan at step 1 of 8.*lr too high .it is 0.01"):
        learner.step(flow_loss, batch)
    assert same(before, learner.network) and same(before, learner.average) and learner.taken == 0


@pytest.mark.filterwarnings("ignore:Detected call of")  # torch misses the step that is skipped on purpose
def test_a_scaler_that_skips_a_step_leaves_the_weights():
    class Skips(torch.amp.GradScaler):
        def step(self, optimizer):
            self.skipped = True

    scaler = Skips("cpu", enabled=False)
    learner = Learner(network(), STEPS, 1e-2, scaler=scaler)
    before = copy.deepcopy(learner.network)
    learner.step(flow_loss, Batch(sample_moons(16)))
    assert scaler.skipped and same(before, learner.network)
    learner.scaler = torch.amp.GradScaler("cpu", enabled=False)
    learner.step(flow_loss, Batch(sample_moons(16)))
    assert not same(before, learner.network)
