"""SmallDiT: patches, adaLN-Zero, gradient checkpointing, and that it trains and is guided like the other networks."""

import pytest
import torch
from torch import nn

from fmlib import (
    SampledBatches,
    cfm_loss,
    euler_sampler,
    guided,
    load_digits_flow,
    log_likelihood,
    rectified_flow_path,
    train_flow_matching,
)
from fmlib.engine import SmallDiT

RF = rectified_flow_path()


def small(**kwargs):
    return SmallDiT(**{"hidden": 16, "blocks": 2, "heads": 2, "t_dim": 8, **kwargs})


def awake(net):
    """The same network with weights that are not 0 anywhere: at the start its gates are closed."""
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn(p.shape))
    return net


def test_patches_are_squares_of_the_image():
    net = small(side=6, channels=2, patch=3)
    x = torch.arange(2 * 72.0).reshape(2, 72)
    patches = net.to_patches(x)
    assert patches.shape == (2, 4, 18)
    image = x.reshape(2, 2, 6, 6)
    torch.testing.assert_close(patches[:, 1], image[:, :, :3, 3:].reshape(2, 18))  # row by row: upper right is next
    assert torch.equal(net.from_patches(patches), x)
    assert not torch.equal(x.reshape(2, 4, 18), patches)  # the wrong twin: cut the vector, not the picture


def test_it_starts_at_zero_and_wakes_up():
    """adaLN-Zero: v = 0, and each block is the identity until its gates open."""
    net, t, x = small(), torch.rand(3), torch.randn(3, 64)
    assert torch.equal(net(t, x), torch.zeros(3, 64))
    h, c = torch.randn(3, 16, 16), torch.randn(3, 16)
    assert torch.equal(net.blocks[0](h, c), h)
    nn.init.normal_(net.blocks[0].adaln.from_condition[1].bias)
    assert not torch.allclose(net.blocks[0](h, c), h)  # the wrong twin: gates that are open


def test_attention_mixes_patches_and_samples_stay_apart():
    net, t, x = awake(small()), torch.rand(2), torch.randn(2, 64)
    other = x.clone()
    other[0, 0] += 1  # one pixel, in the upper left patch of the first image
    moved = (net(t, other) - net(t, x)).abs()
    assert moved[0, -1] > 1e-6 and moved[1].max() == 0
    nn.init.zeros_(net.blocks[0].out.weight)
    nn.init.zeros_(net.blocks[1].out.weight)
    assert (net(t, other) - net(t, x)).abs()[0, -1] == 0  # without attention a patch knows itself alone


def test_attention_is_the_formula():
    block, h = awake(small()).blocks[0], torch.randn(2, 5, 16)
    q, k, v = (part.reshape(2, 5, 2, 8) for part in block.qkv(h).chunk(3, dim=-1))
    weights = torch.softmax(torch.einsum("bnhd,bmhd->bhnm", q, k) / 8**0.5, dim=-1)
    expected = block.out(torch.einsum("bhnm,bmhd->bnhd", weights, v).reshape(2, 5, 16))
    torch.testing.assert_close(block.attention(h), expected)


def test_positions_are_known():
    net, x = awake(small()), torch.ones(1, 64)
    net.blocks[0].adaln.from_condition[1].bias.data.zero_()
    assert net.to_patches(net(0.5, x)).std(dim=1).max() > 1e-3
    nn.init.zeros_(net.position)
    assert net.to_patches(net(0.5, x)).std(dim=1).max() < 1e-5  # equal patches, and nothing tells them apart


def test_checkpointing_changes_no_gradient_and_stores_less():
    def gradient_and_stored(checkpointing):
        torch.manual_seed(0)
        net = awake(small(blocks=4, num_classes=10, checkpointing=checkpointing)).train()
        x, label = torch.randn(32, 64), torch.randint(10, (32,))
        stored = []
        with torch.autograd.graph.saved_tensors_hooks(lambda s: stored.append(s.numel()) or s, lambda s: s):
            loss = cfm_loss(net, RF, x, label=label)
        loss.backward()
        return torch.cat([p.grad.flatten() for p in net.parameters()]), sum(stored)

    (plain, much), (checkpointed, little) = gradient_and_stored(False), gradient_and_stored(True)
    assert torch.equal(plain, checkpointed) and little < much / 3


def test_checkpointing_is_off_in_eval_mode():
    net, calls = awake(small(checkpointing=True)), []
    hook = torch.autograd.graph.saved_tensors_hooks(lambda s: calls.append(1) or s, lambda s: s)
    for mode in (True, False):
        net.train(mode)
        with hook:
            net(0.5, torch.randn(2, 64)).sum()
        calls.append("|")
    in_train = calls.index("|")
    assert len(calls) - in_train - 2 > 2 * in_train


def test_it_takes_classes_and_guidance():
    net, t, x = awake(small(num_classes=3)), torch.rand(4), torch.randn(4, 64)
    assert net.dim == 64 and net.num_classes == 3 and small().num_classes is None
    label = torch.tensor([0, 1, 2, 3])
    out = net(t, x, label)
    torch.testing.assert_close(net(t, x), net(t, x, 3))
    assert not torch.allclose(out[0], net(t, x)[0])
    torch.testing.assert_close(guided(net, label, 1.0)(t, x), out)
    v, v_none = net(t, x, 1), net(t, x)
    torch.testing.assert_close(guided(net, 1, 3.0)(t, x), v_none + 3 * (v - v_none))
    assert euler_sampler(guided(net, 1, 2.0), x, steps=2).shape == x.shape


def test_double_precision_images_and_likelihood():
    net = small(side=4, channels=3).double()
    x = torch.randn(2, 48, dtype=torch.float64)
    assert net(torch.rand(2, dtype=torch.float64), x).dtype == torch.float64
    log_p = log_likelihood(net.eval(), x, steps=2, path=RF)  # v = 0: the noise is the data
    torch.testing.assert_close(log_p, torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(1))


def test_it_learns_digits():
    digits = load_digits_flow()
    losses = []
    train_flow_matching(
        small(hidden=32, num_classes=10),
        SampledBatches(digits.sample_labelled, batch=64),
        RF,
        total_steps=60,
        log_every=0,
        label_dropout=0.1,
        callback=lambda step, loss, model, ema: losses.append(loss),
    )
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"patch": 3}, ValueError, "patch must divide side, got patch = 3 and side = 8"),
        ({"heads": 3}, ValueError, "heads must divide hidden, got heads = 3 and hidden = 16"),
        ({"side": 0}, ValueError, "side must be an integer of at least 1, got 0"),
        ({"blocks": 1.5}, TypeError, "blocks must be an integer"),
        ({"t_dim": 7}, ValueError, "must be even.*got 7"),
        ({"checkpointing": 1}, TypeError, "checkpointing must be True or False, got 1"),
    ],
)
def test_bad_arguments_are_named(kwargs, error, message):
    with pytest.raises(error, match=message):
        small(**kwargs)


def test_bad_input_is_named():
    net = small(num_classes=3)
    with pytest.raises(ValueError, match=r"x must have shape \[B, 64\], got \[5, 8\]"):
        net(0.5, torch.randn(5, 8))
    with pytest.raises(TypeError, match="x must have the dtype of the network"):
        net(0.5, torch.randn(5, 64, dtype=torch.float64))
    with pytest.raises(ValueError, match="label must lie in 0 ... 2"):
        net(0.5, torch.randn(5, 64), 4)
    with pytest.raises(ValueError, match="without num_classes"):
        small()(0.5, torch.randn(5, 64), 1)
