"""The two training loops of the first edition, frozen: `fmlib.learner` must give the same numbers, bit for bit."""

import math

import torch
from torch import nn

from fmlib import cfm_loss, drop_labels, ema_warmup, make_ema, update_ema
from fmlib.batches import endless_batches
from fmlib.engine.config import PATHS, build_network
from fmlib.engine.processes import seed_for
from fmlib.engine.shards import Shards
from fmlib.training import t_sampler


def notebook(
    model, dataloader, path, total_steps, lr=5e-3, weight_decay=0.0, ema_decay=0.9999, t_dist="stratified",
    grad_clip=1.0, schedule="onecycle", coupling=None, label_dropout=None, null=None,
):  # fmt: skip
    """(losses, model, average) as `train_flow_matching` gave them. null: of the only condition, called c1."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    model.train()
    ema_model = make_ema(model)
    weights = [p.detach().float().requires_grad_() if p.dtype.itemsize < 4 else p for p in parameters]
    given = parameters[0].dtype
    batches = endless_batches(dataloader, parameters[0].device, torch.promote_types(given, torch.float32))
    copies = [(w, p) for w, p in zip(weights, parameters, strict=True) if w is not p]
    optimizer = torch.optim.AdamW(weights, lr=lr, weight_decay=weight_decay, fused=True)
    if schedule == "onecycle":
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=total_steps)
    else:
        scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    losses = []
    for step in range(1, total_steps + 1):
        batch = next(batches)
        x0, x1 = batch.x0, batch.x1
        if getattr(model, "normaliser", None) is not None:
            x1 = model.normaliser.normalise(x1)
        if coupling is not None:
            x0, x1 = coupling(torch.randn_like(x1) if x0 is None else x0, x1, *batch.args)
        if label_dropout is not None:
            batch = batch._replace(args=(drop_labels(batch.args[0], label_dropout, null),))
        loss = cfm_loss(batch.field(model, given), path, x1, x0, t_dist=t_sampler(t_dist))
        losses.append(loss.item())
        assert math.isfinite(losses[-1])
        model.zero_grad(set_to_none=True)
        (loss / x1[0].numel()).backward()
        for weight, p in copies:
            weight.grad = None if p.grad is None else p.grad.float()
        if grad_clip is not None:
            nn.utils.clip_grad_norm_(weights, grad_clip)
        optimizer.step()
        scheduler.step()
        with torch.no_grad():
            for weight, p in copies:
                p.copy_(weight)
        torch.clear_autocast_cache()
        update_ema(ema_model, model, ema_warmup(step - 1, ema_decay))
    return losses, model.eval(), ema_model


def engine(config):
    """(losses, model, average) as `fmlib.train` gave them, on one process and from the start."""
    torch.manual_seed(seed_for(config.seed))
    net = build_network(config).train()
    ema = make_ema(net)
    optimizer = torch.optim.AdamW(net.parameters(), lr=config.lr, weight_decay=0.0, fused=True)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=config.lr, total_steps=config.steps)
    scaler = torch.amp.GradScaler("cpu", enabled=config.precision == "fp16")
    shards = Shards(config, 0, 1)
    torch.manual_seed(seed_for(config.seed, 0, 0))
    path, losses = PATHS[config.path](), []

    def velocity(*inputs):
        dtype = torch.float16 if config.precision == "fp16" else torch.bfloat16
        with torch.autocast("cpu", dtype, enabled=config.precision != "fp32"):
            return net(*inputs).float()

    for step in range(1, config.steps + 1):
        batch = shards.batch(step - 1)
        x1, label = batch.x1, batch.args[0] if batch.args else None
        if label is not None:
            label = drop_labels(label, config.label_dropout, null_label=10)
        loss = cfm_loss(velocity, path, x1, t_dist=config.t_dist, label=label)
        losses.append(loss.item())
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss / x1[0].numel()).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
        update_ema(ema, net, ema_warmup(step - 1, config.ema_decay))
    return losses, net.eval(), ema
