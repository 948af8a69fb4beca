"""Training: how t is drawn, the conditional flow matching loss, the moving average of the weights, the loop."""

import copy
import math
import signal
import threading
from collections.abc import Callable, Iterable
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fmlib.checks import check_int, check_number, check_pair, check_tensor, check_velocity
from fmlib.couplings import Pairs
from fmlib.guidance import drop_labels
from fmlib.paths import FlowPath
from fmlib.progress import progress_bar

TSampler = Callable[..., Tensor]


def uniform_t(n: int, device=None) -> Tensor:
    """n independent times t ~ U(0, 1), shape [n]."""
    return torch.rand(n, device=device)


def stratified_t(n: int, device=None) -> Tensor:
    """One uniform time in each of the n slices [i/n, (i+1)/n), in random order: each t is uniform, the batch covers
    [0, 1] evenly. In the order of the slices a batch that is sorted, by class perhaps, would see each class at its own
    times only.

    The loss keeps its expectation, its estimate varies less; as the low-discrepancy sampler of Kingma et al. 2021
    (arXiv 2107.00630, appendix I.1).
    """
    # In double precision, then below 1: in single precision i + U can round up into the next slice, or to 1.
    u = torch.rand(n, device=device, dtype=torch.float64)
    return ((torch.randperm(n, device=device) + u) / n).float().clamp_max(1 - 2**-24)


def logit_normal_t(m: float = 0.0, s: float = 1.0) -> TSampler:
    """A sampler of t = sigmoid(m + s z), z ~ N(0, 1): more times in the middle; m > 0 leans to the data end (t = 1).

    Esser et al. 2024 (SD3, arXiv 2403.03206), section 3.1; m = 0, s = 1 did best there on average. Their time runs
    the other way, which flips the sign of m. Unlike `stratified_t` this changes the loss: it is a weight on t.
    """
    m, s = check_number("m", m), check_number("s", s, 0, open_low=True)

    def sample(n: int, device=None) -> Tensor:
        t = torch.sigmoid(m + s * torch.randn(n, device=device))
        return t.clamp(2**-24, 1 - 2**-24)  # a wide s would round to 0 and 1, where some targets are infinite

    return sample


T_SAMPLERS = {"uniform": uniform_t, "stratified": stratified_t, "logitnormal": logit_normal_t()}


def t_sampler(t_dist: str | TSampler) -> TSampler:
    """The function (n, device) -> t [n] behind a name in T_SAMPLERS; a function is returned as it is."""
    if callable(t_dist):
        return t_dist
    if not isinstance(t_dist, str) or t_dist not in T_SAMPLERS:
        names = ", ".join(T_SAMPLERS)
        raise ValueError(f"t_dist must be one of {names} or a function (n, device) -> t [n], got {t_dist!r}")
    return T_SAMPLERS[t_dist]


def cfm_loss(
    model,
    path: FlowPath,
    x1: Tensor,
    x0: Tensor | None = None,
    t_dist: str | TSampler = "uniform",
    return_components: bool = False,
    *,
    label: Tensor | None = None,
):
    """The conditional flow matching loss, E || v_theta(t, x_t) - u_t ||^2 (Lipman et al. 2023, eq. 9).

    The squared norm is a *sum* over the dimensions, then a mean over the batch, as in the formula. `F.mse_loss`
    would be smaller by the factor 1/d.

    model: called as model(t, x_t), t [B]; x1: data [B, ...]; x0: noise of the same shape, N(0, I) if None;
    t_dist: "uniform", "stratified", "logitnormal", or a function such as `logit_normal_t(m, s)`;
    label: classes [B]; with them the model is called as model(t, x_t, label).
    Returns the loss, a scalar tensor. With return_components also a dict: "t" [B], "per_sample" [B] (the squared
    error of each pair), and the root mean squares over the batch "v_pred_norm" of |v_theta| and "u_norm" of |u_t|.
    Raises ValueError or TypeError if shapes, devices or t_dist do not fit.
    """
    check_tensor("x1", x1)
    if x0 is None:
        x0 = torch.randn_like(x1)
    check_pair(x0, x1)
    t = t_sampler(t_dist)(x1.shape[0], device=x1.device)
    if not isinstance(t, Tensor) or not t.is_floating_point() or t.shape != x1.shape[:1]:
        raise ValueError(f"t_dist must draw a floating-point tensor of shape [{x1.shape[0]}], got {t!r:.80}")
    t = t.to(x1.dtype)

    xt = path.sample_xt(t, x0, x1)
    ut = path.target_ut(t, x0, x1)
    v = check_velocity(model(t, xt) if label is None else model(t, xt, label), xt)

    per_sample = _squared_norm(v - ut)
    loss = per_sample.mean()
    if not return_components:
        return loss
    rms = {name: _squared_norm(u.detach()).mean().sqrt() for name, u in (("v_pred", v), ("u", ut))}
    return loss, {
        "t": t,
        "per_sample": per_sample.detach(),
        "v_pred_norm": rms["v_pred"].item(),
        "u_norm": rms["u"].item(),
    }


def _squared_norm(u: Tensor) -> Tensor:
    """|u|^2 of each sample: [B, ...] -> [B]."""
    return u.reshape(len(u), -1).square().sum(dim=1)


def make_ema(model: nn.Module) -> nn.Module:
    """A frozen copy of the model, in eval mode, to hold the exponential moving average of its weights."""
    return copy.deepcopy(model).eval().requires_grad_(False)


@torch.no_grad()
def update_ema(ema_model: nn.Module, model: nn.Module, decay: float) -> None:
    """ema <- decay * ema + (1 - decay) * weights, in place. Buffers (counters, batch statistics) are copied."""
    for average, weight in zip(ema_model.parameters(), model.parameters(), strict=True):
        if average.is_floating_point():
            average.lerp_(weight, 1 - decay)
        else:
            average.copy_(weight)
    for average, buffer in zip(ema_model.buffers(), model.buffers(), strict=True):
        average.copy_(buffer)


def ema_warmup(step: int, decay: float) -> float:
    """The decay to use at step 0, 1, 2, ...: min(decay, (1 + step) / (10 + step)).

    A fixed decay of 0.9999 would still hold 82 % of the *initial* weights after 2,000 steps. With the warm-up the
    average spans about the last tenth of the steps so far, until `decay` takes over.
    """
    return min(decay, (1 + step) / (10 + step))


def endless_batches(dataloader: Iterable, device=None):
    """Yield batches (x0 or None, x1, label or None) on `device` for ever; a dataloader that ends is started again.

    A batch is a tensor x1 [B, ...], or a `couplings.Pairs`, which brings its own noise; or a tuple or list of one of
    them alone, or followed by the labels [B], as `TensorDataset` gives.
    Raises ValueError if the dataloader yields nothing, or is a generator that cannot be started again.
    """
    if isinstance(dataloader, Tensor) or not isinstance(dataloader, Iterable):
        raise TypeError(
            f"dataloader must be an iterable of batches x1 [B, ...], got {type(dataloader).__name__}; "
            "fmlib.SampledBatches makes one from a function"
        )
    seen = 0
    while True:
        before = seen
        for batch in dataloader:
            first, label = batch, None
            if isinstance(batch, (tuple, list)) and not isinstance(batch, Pairs) and len(batch):
                first, label = batch[0], batch[1] if len(batch) > 1 else None
            x0, x1 = first if isinstance(first, Pairs) else (None, first)
            if not isinstance(x1, Tensor):
                raise TypeError(f"dataloader must yield tensors x1 [B, ...], got {type(x1).__name__}")
            check_tensor("x1 (from the dataloader)", x1)
            seen += 1
            yield tuple(
                x.detach().to(device, non_blocking=True) if isinstance(x, Tensor) else None for x in (x0, x1, label)
            )
        if seen == 0:
            raise ValueError("dataloader is empty: it yielded no batch, expected batches x1 [B, ...]")
        if seen == before:
            raise ValueError(
                f"dataloader is exhausted after {seen} batches and cannot be started again (a generator?): "
                "pass an object with __iter__, such as a DataLoader or fmlib.SampledBatches"
            )


def train_flow_matching(
    model: nn.Module,
    dataloader: Iterable,
    path: FlowPath,
    total_steps: int = 2_000,
    lr: float = 5e-3,
    weight_decay: float = 0.0,
    device=None,
    log_every: int = 200,
    ema_decay: float = 0.9999,
    *,
    t_dist: str | TSampler = "stratified",
    grad_clip: float | None = 1.0,
    schedule: str = "onecycle",
    coupling: Callable[..., tuple[Tensor, Tensor]] | None = None,
    label_dropout: float | None = None,
    callback: Callable[[int, float, nn.Module, nn.Module], None] | None = None,
) -> tuple[nn.Module, nn.Module]:
    """Minimise `cfm_loss` with AdamW and return (model, ema_model), both in eval mode on `device`.

    model:        v_theta, called as model(t, x). It is trained in place.
    dataloader:   yields data batches x1 [B, ...]; it is started again when it ends. Noise is drawn anew each step,
                  unless the batches are `couplings.Pairs` (reflow).
    total_steps:  optimiser steps.
    lr, schedule: "onecycle" rises to the peak lr and falls to zero, "constant" keeps it (torch's OneCycleLR).
    weight_decay: AdamW's.
    device:       "cpu", "cuda", ...; None keeps the model where it is.
    log_every:    steps between updates of the loss on the progress bar; 0 shows no bar.
    ema_decay:    limit of the moving average's decay, in [0, 1); see `ema_warmup`.
    t_dist:       as in `cfm_loss`.
    grad_clip:    limit of the gradient norm of loss / d, so that one value serves every dimension; None for no limit.
    coupling:     re-pairs each batch, (x0, x1) -> (x0, x1), such as `minibatch_ot`; None leaves it independent. With
                  classes it is called as coupling(x0, x1, label) and must leave x1 in its order.
    label_dropout: None, or the share of labels replaced by "no class", for a network with classes: batches are then
                  (x1, label), and the model is called as model(t, x, label). See `guidance`.
    callback:     called after each step as callback(step, loss, model, ema_model), step = 1 ... total_steps.

    Interrupting (Kernel > Interrupt) ends the training and returns both models as they are after the last whole
    step. A loss that is NaN or infinite raises FloatingPointError with the step; nothing is returned then.
    Raises ValueError or TypeError for arguments that do not fit.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if not isinstance(path, FlowPath):
        raise TypeError(f"path must be a FlowPath, such as rectified_flow_path(), got {type(path).__name__}")
    total_steps = check_int("total_steps", total_steps)
    log_every = check_int("log_every", log_every, minimum=0)
    lr = check_number("lr", lr, 0, open_low=True)
    weight_decay = check_number("weight_decay", weight_decay, 0)
    if check_number("ema_decay", ema_decay, 0, 1) == 1:
        raise ValueError("ema_decay must be below 1: the average would never move, got 1")
    if grad_clip is not None:
        grad_clip = check_number("grad_clip", grad_clip, 0, open_low=True)
    if schedule not in ("onecycle", "constant"):
        raise ValueError(f"schedule must be 'onecycle' or 'constant', got {schedule!r}")
    if schedule == "onecycle" and total_steps < 2:
        raise ValueError("total_steps must be at least 2 for the schedule 'onecycle', got 1: use schedule='constant'")
    num_classes = getattr(model, "num_classes", None)
    if label_dropout is not None:
        label_dropout = check_number("label_dropout", label_dropout, 0, 1)
        if num_classes is None:
            raise ValueError("label_dropout needs a model with classes (an attribute num_classes), got one without")
    elif num_classes is not None:
        raise ValueError(f"label_dropout must be given for a model with {num_classes} classes, got None; 0.1 is usual")
    t_dist = t_sampler(t_dist)
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("model must have parameters to train, got none that require a gradient")

    if device is None:
        device = parameters[0].device
    model.to(device).train()
    ema_model = make_ema(model)
    batches = endless_batches(dataloader, device)
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, fused=True)
    if schedule == "onecycle":
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=total_steps)
    else:
        scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)

    step, grad_enabled = 0, torch.is_grad_enabled()
    recent = []
    with progress_bar(total=total_steps, disable=log_every == 0, desc=path.name, leave=False) as bar:
        try:
            for step in range(1, total_steps + 1):
                x0, x1, label = next(batches)
                if label_dropout is None:
                    label = None
                elif label is None:
                    raise ValueError("dataloader must yield (x1, label) when label_dropout is given, got no label")
                if coupling is not None:
                    x0, x1 = _recouple(coupling, torch.randn_like(x1) if x0 is None else x0, x1, label)
                if label is not None:
                    label = drop_labels(label, label_dropout, num_classes)
                loss = cfm_loss(model, path, x1, x0, t_dist=t_dist, label=label)
                value = loss.item()
                if not math.isfinite(value):
                    raise FloatingPointError(
                        f"the loss became {value} at step {step} of {total_steps}: training stopped. "
                        f"Usual causes: lr too high (it is {lr}), or NaN in the data"
                    )
                with _whole_step():
                    optimizer.zero_grad(set_to_none=True)
                    (loss / x1[0].numel()).backward()
                    if grad_clip is not None:
                        nn.utils.clip_grad_norm_(parameters, grad_clip)
                    optimizer.step()
                    scheduler.step()
                    update_ema(ema_model, model, ema_warmup(step - 1, ema_decay))

                recent.append(value)
                if log_every and step % log_every == 0:
                    bar.set_postfix_str(f"mean loss {sum(recent) / len(recent):.4f}", refresh=False)
                    recent.clear()
                bar.update()
                if callback is not None:
                    callback(step, value, model, ema_model)
                    model.train()  # a callback that samples may have called eval()
        except KeyboardInterrupt:
            torch.set_grad_enabled(grad_enabled)
            print(f"Interrupted at step {step} of {total_steps}: the model and its EMA are returned as they are.")
    for name, trained in (("model", model), ("EMA", ema_model)):
        if not all(bool(torch.isfinite(p).all()) for p in trained.parameters()):
            raise FloatingPointError(f"the weights of the {name} are not finite after step {step} of {total_steps}")
    return model.eval(), ema_model


def _recouple(coupling, x0: Tensor, x1: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor]:
    if label is None:
        return coupling(x0, x1)
    x0, paired = coupling(x0, x1, label)
    if not torch.equal(paired, x1):
        raise ValueError("coupling must leave x1 in its order and re-order x0, because the labels belong to x1")
    return x0, x1


@contextmanager
def _whole_step():
    """Hold an interrupt back until the block is complete, so that model, optimiser and EMA stay in step.

    Signals reach the main thread alone; in another thread there is nothing to hold back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received = []
    previous = signal.signal(signal.SIGINT, lambda *_: received.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler if previous is None else previous)
    if received:
        raise KeyboardInterrupt


class History:
    """A callback for `train_flow_matching` that keeps the losses, and copies of the EMA's weights at `snapshot_at`.

    losses: list of floats, one a step. snapshots: dict step -> state_dict of the EMA after that step (1, 2, ...).
    """

    def __init__(self, snapshot_at: Iterable[int] = ()):
        self.snapshot_at = set(snapshot_at)
        self.losses: list[float] = []
        self.snapshots: dict[int, dict] = {}

    def __call__(self, step: int, loss: float, model: nn.Module, ema_model: nn.Module) -> None:
        self.losses.append(loss)
        if step in self.snapshot_at:
            self.snapshots[step] = copy.deepcopy(ema_model.state_dict())
