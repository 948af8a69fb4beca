"""Training: how t is drawn, the conditional flow matching loss, the moving average of the weights, the loop."""

import copy
import inspect
import itertools
import math
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fmlib.checks import at_least_single, check_int, check_number, check_pair, check_tensor, check_velocity
from fmlib.couplings import Pairs
from fmlib.guidance import drop_labels
from fmlib.nets import Normaliser
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
    # In double precision, then below 1: in single precision i + U can round up into the next slice, or to 1. On the
    # CPU, because not every device has double precision.
    u = torch.rand(n, device="cpu", dtype=torch.float64)
    t = ((torch.randperm(n, device="cpu") + u) / n).float().clamp_max(1 - 2**-24)
    return t.to(torch.get_default_device() if device is None else device)


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
    **conditions,
):
    """The conditional flow matching loss, E || v_theta(t, x_t) - u_t ||^2 (Lipman et al. 2023, eq. 9).

    The squared norm is a *sum* over the dimensions, then a mean over the batch, as in the formula. `F.mse_loss`
    would be smaller by the factor 1/d.

    model: called as model(t, x_t), t [B]; x1: data [B, ...]; x0: noise of the same shape, N(0, I) if None;
    t_dist: "uniform", "stratified", "logitnormal", or a function such as `logit_normal_t(m, s)`;
    label: classes [B] or another condition; with it the model is called as model(t, x_t, label).
    conditions: more of them, by name; they are passed on as they are, model(t, x_t, name=condition).
    Returns the loss, a scalar tensor. With return_components also a dict: "t" [B], "per_sample" [B] (the squared
    error of each pair), and the root mean squares over the batch "v_pred_norm" of |v_theta| and "u_norm" of |u_t|.
    The model gets t and x_t in the dtype of x1. Everything else is computed in single precision at least: in bfloat16
    one time in 500 would be rounded to 1.
    Raises ValueError or TypeError if shapes, devices or t_dist do not fit.
    """
    check_tensor("x1", x1)
    dtype = at_least_single(x1)
    if x0 is None:
        x0 = torch.randn_like(x1, dtype=dtype)
    else:
        check_pair(x0, x1)
    t = t_sampler(t_dist)(x1.shape[0], device=x1.device)
    if not isinstance(t, Tensor) or not t.is_floating_point() or t.shape != x1.shape[:1]:
        raise ValueError(f"t_dist must draw a floating-point tensor of shape [{x1.shape[0]}], got {t!r:.80}")

    given, (t, x0, x1) = x1.dtype, (x.to(dtype) for x in (t, x0, x1))
    xt = path.sample_xt(t, x0, x1)
    ut = path.target_ut(t, x0, x1)
    labels = () if label is None else (label,)
    v = check_velocity(model(t.to(given), xt.to(given), *labels, **conditions), xt)

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


def bare(model: nn.Module) -> nn.Module:
    """The module itself, out of the wrappers of torch.compile and DataParallel, which rename or hide its attributes."""
    while True:
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        elif hasattr(model, "_orig_mod"):
            model = model._orig_mod
        else:
            return model


def _is_low(x) -> bool:
    """Floating-point numbers with less precision than float32?"""
    return isinstance(x, Tensor) and x.is_floating_point() and x.dtype.itemsize < 4


def make_ema(model: nn.Module) -> nn.Module:
    """A frozen copy of the model, in eval mode, to hold the exponential moving average of its weights.

    The average of a low-precision model is kept in float32: near 1 bfloat16 has steps of 1/128, and an average that
    moves by a ten-thousandth of the difference would stand still for ever. Such a copy takes inputs in the dtype of
    the model too, and answers in float32. A compiled model is copied without its compilation, so that the names in
    the state_dict are the network's own.
    """
    average = copy.deepcopy(bare(model)).eval().requires_grad_(False)
    low = [x for x in itertools.chain(average.parameters(), average.buffers()) if _is_low(x)]
    for x in low:
        x.data = x.data.float()
    if low:
        average.register_forward_pre_hook(_inputs_in_float32, with_kwargs=True)
    return average


def _inputs_in_float32(module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    raised = lambda x: x.float() if _is_low(x) else x  # noqa: E731
    return tuple(map(raised, args)), {name: raised(x) for name, x in kwargs.items()}


@torch.no_grad()
def update_ema(ema_model: nn.Module, model: nn.Module, decay: float) -> None:
    """ema <- decay * ema + (1 - decay) * weights, in place. Buffers (counters, batch statistics) are copied.

    The average may have more precision than the weights, and live on another device. Raises TypeError if it is kept
    in less than float32, where it would not move.
    """
    for average, weight in zip(ema_model.parameters(), model.parameters(), strict=True):
        if _is_low(average):
            raise TypeError(f"ema_model must be kept in float32 at least, got {average.dtype}: make_ema(model) does so")
        if average.is_floating_point():
            average.lerp_(weight.to(average.device, average.dtype), 1 - decay)
        else:
            average.copy_(weight)
    for average, buffer in zip(ema_model.buffers(), model.buffers(), strict=True):
        average.copy_(buffer)


def ema_warmup(step: int, decay: float) -> float:
    """The decay to use at step 0, 1, 2, ...: min(decay, (1 + step) / (10 + step)).

    A fixed decay of 0.9999 would still hold 82 % of the *initial* weights after 2,000 steps. With the warm-up the
    average spans about the last tenth of the steps so far, until `decay` takes over. The formula is that of
    TensorFlow's tf.train.ExponentialMovingAverage with num_updates.
    """
    return min(decay, (1 + step) / (10 + step))


class Batch(NamedTuple):
    """What a dataloader gave: noise x0 or None, data x1 [B, ...], and conditions for model(t, x, *args, **named)."""

    x0: Tensor | None
    x1: Tensor
    args: tuple = ()
    named: dict[str, Any] = {}

    @property
    def conditions(self) -> dict[str, Any]:
        """All conditions by name; those without one are called c1, c2, ..."""
        return {**{f"c{i}": c for i, c in enumerate(self.args, start=1)}, **self.named}

    def with_conditions(self, changed: dict[str, Any]) -> "Batch":
        """The same batch with some of `conditions` replaced."""
        every = {**self.conditions, **changed}
        args = tuple(every.pop(f"c{i}") for i in range(1, len(self.args) + 1))
        return self._replace(args=args, named=every)


def _read_batch(batch) -> Batch:
    first, x0, args, named = batch, None, (), {}
    if isinstance(batch, Mapping):
        if "x1" not in batch:
            raise ValueError(f"dataloader must yield dicts with the data as 'x1', got the keys {sorted(batch)}")
        named = dict(batch)
        first, x0 = named.pop("x1"), named.pop("x0", None)
    elif isinstance(batch, (tuple, list)) and not isinstance(batch, Pairs) and len(batch):
        first, *args = batch
    if isinstance(first, Pairs):
        x0, first = first
    batch = Batch(x0, first, tuple(args), named)
    for name, x in (("x1", first), *([] if x0 is None else [("x0", x0)])):
        if not isinstance(x, Tensor):
            raise TypeError(f"dataloader must yield tensors {name} [B, ...], got {type(x).__name__}")
        check_tensor(f"{name} (from the dataloader)", x)
    for name, c in batch.conditions.items():
        if isinstance(c, Tensor) and c.dim() and len(c) != len(first):
            raise ValueError(f"{name} (from the dataloader) must have {len(first)} rows, one a sample, got {len(c)}")
    return batch


def endless_batches(dataloader: Iterable, device=None, dtype: torch.dtype | None = None):
    """Yield each `Batch` of the dataloader for ever, on `device`; a dataloader that ends is started again.

    The dataloader yields data x1 [B, ...], or a `couplings.Pairs`, which brings its own noise; or a tuple or list of
    one of them alone, or followed by conditions, (x1, c1, c2, ...), as `TensorDataset` gives; or a dict
    {"x1": ..., "x0": noise (may be missing), name: condition, ...}.
    dtype: of all floating-point tensors that come out; None leaves it.
    Raises ValueError if the dataloader yields nothing, or is a generator that cannot be started again.
    """
    if isinstance(dataloader, Tensor) or not isinstance(dataloader, Iterable):
        raise TypeError(
            f"dataloader must be an iterable of batches x1 [B, ...], got {type(dataloader).__name__}; "
            "fmlib.SampledBatches makes one from a function"
        )

    def ready(x):
        if not isinstance(x, Tensor):
            return x
        # The dtype goes along with the move: the device may have no float64.
        return x.detach().to(device, dtype if x.is_floating_point() else None, non_blocking=True)

    seen = 0
    while True:
        before = seen
        for batch in dataloader:
            x0, x1, args, named = _read_batch(batch)
            seen += 1
            yield Batch(ready(x0), ready(x1), tuple(map(ready, args)), {name: ready(c) for name, c in named.items()})
        if seen == 0:
            raise ValueError("dataloader is empty: it yielded no batch, expected batches x1 [B, ...]")
        if seen == before:
            raise ValueError(
                f"dataloader is exhausted after {seen} batches and cannot be started again (a generator?): "
                "pass an object with __iter__, such as a DataLoader or fmlib.SampledBatches"
            )


FAR = 5.0  # by this factor from the scale of the noise


def hint_at_scale(x1: Tensor) -> None:
    """Warn if data x1 [B, ...] lie far from the scale of the noise they are mixed with.

    The limits come from the moons, standard deviation 1.4, with the default training: see the test of this function.
    """
    mean = x1.detach().mean(dim=0)
    size, std = mean.square().mean().sqrt().item(), (x1.detach() - mean).square().mean().sqrt().item()
    if size > FAR * max(1.0, std) or std > FAR or 0 < std < 1 / FAR:
        warnings.warn(
            f"the data are far from unit scale (first batch: mean {size:.3g}, standard deviation {std:.3g}). They are "
            "mixed with noise N(0, I), and networks work best on numbers of about 1. Remedy: model.normaliser = "
            "fmlib.Normaliser.fit(data) before the training, model.normaliser.restore(samples) after the sampler",
            stacklevel=3,
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
    null_conditions=None,
    callback: Callable[[int, float, nn.Module, nn.Module], None] | None = None,
) -> tuple[nn.Module, nn.Module]:
    """Minimise `cfm_loss` with AdamW and return (model, ema_model), both in eval mode on `device`.

    model:        v_theta, called as model(t, x) and with the conditions of the batch. It is trained in place. If it
                  has a `normaliser` (see `Normaliser`), it is trained on normalised data.
    dataloader:   yields data batches x1 [B, ...], or with conditions (x1, c1, c2, ...) for model(t, x, c1, c2, ...),
                  or {"x1": ..., name: condition} for model(t, x, name=condition). A condition is whatever the model
                  takes, one row a sample. It is started again when it ends. Noise is drawn anew each step, unless
                  the batch brings it: `couplings.Pairs` in place of x1 (reflow), or an "x0" in the dict.
    total_steps:  optimiser steps.
    lr, schedule: "onecycle" rises to the peak lr and falls to zero, "constant" keeps it (torch's OneCycleLR).
    weight_decay: AdamW's.
    device:       "cpu", "cuda", ...; None keeps the model where it is.
    log_every:    steps between updates of the loss on the progress bar; 0 shows no bar.
    ema_decay:    limit of the moving average's decay, in [0, 1); see `ema_warmup`.
    t_dist:       as in `cfm_loss`.
    grad_clip:    limit of the gradient norm of loss / d, so that one value serves every dimension; None for no limit.
    coupling:     re-pairs each batch, (x0, x1) -> (x0, x1), such as `minibatch_ot`; None leaves it independent. With
                  conditions it must leave x1 in its order. If the first of them, or the one called "label", holds
                  integers [B], it is called as coupling(x0, x1, label).
    label_dropout: None, or the share of samples whose conditions are replaced by "no condition", all of a sample
                  together. See `guidance`.
    null_conditions: what "no condition" is: a number, or a tensor that broadcasts to one row; for several a tuple, for
                  named ones a dict, in which None says that this one is never replaced. Not needed for a network
                  with num_classes and batches (x1, label), which knows its own.
    callback:     called after each step as callback(step, loss, model, ema_model), step = 1 ... total_steps.

    A low-precision model is trained with float32 copies of its weights, and averaged in float32: small steps would be
    rounded away. Batches are cast to the dtype of the model. Works under autocast, no_grad and inference_mode too.

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
    network = bare(model)
    num_classes = getattr(network, "num_classes", None)
    if label_dropout is not None:
        label_dropout = check_number("label_dropout", label_dropout, 0, 1)
        if num_classes is None and null_conditions is None:
            raise ValueError(
                "label_dropout needs a model with classes (an attribute num_classes), got one without; for other "
                "conditions give null_conditions"
            )
    elif num_classes is not None:
        raise ValueError(f"label_dropout must be given for a model with {num_classes} classes, got None; 0.1 is usual")
    elif null_conditions is not None:
        raise ValueError("label_dropout must be given together with null_conditions, got None; 0.1 is usual")
    t_dist = t_sampler(t_dist)
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("model must have parameters to train, got none that require a gradient")
    if any(p.is_inference() for p in parameters):
        raise ValueError("model must be made outside torch.inference_mode(): its weights cannot have gradients")
    normaliser = getattr(network, "normaliser", None)
    normaliser = normaliser if isinstance(normaliser, Normaliser) else None

    if device is None:
        device = parameters[0].device
    with torch.inference_mode(False):  # tensors made under inference_mode could not be changed below
        model.to(device).train()
        ema_model = make_ema(model)
        # A step of the optimiser is smaller than what bfloat16 can tell apart: it is taken by float32 copies.
        weights = [p.detach().float().requires_grad_() if _is_low(p) else p for p in parameters]
    given = next((p.dtype for p in parameters if p.is_floating_point()), torch.get_default_dtype())
    batches = endless_batches(dataloader, device, torch.promote_types(given, torch.float32))
    copies = [(w, p) for w, p in zip(weights, parameters, strict=True) if w is not p]
    optimizer = torch.optim.AdamW(weights, lr=lr, weight_decay=weight_decay, fused=True)
    if schedule == "onecycle":
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=total_steps)
    else:
        scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)

    step, recent = 0, []
    with (
        progress_bar(total=total_steps, disable=log_every == 0, desc=path.name, leave=False) as bar,
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        try:
            for step in range(1, total_steps + 1):
                batch = next(batches)
                x0, x1 = batch.x0, batch.x1
                if label_dropout is not None and not batch.conditions:
                    raise ValueError("dataloader must yield (x1, label) when label_dropout is given, got no label")
                if normaliser is not None:
                    if x0 is not None:
                        raise ValueError(
                            "normaliser does not go with noise from the dataloader: pass pairs that are normalised, "
                            "and a model without normaliser"
                        )
                    x1 = normaliser.normalise(x1)
                if step == 1:
                    hint_at_scale(x1)
                    _check_takes(network, batch)
                if coupling is not None:
                    x0, x1 = _recouple(coupling, torch.randn_like(x1) if x0 is None else x0, x1, batch)
                if label_dropout is not None:
                    batch = _drop(batch, label_dropout, null_conditions, num_classes)
                loss = cfm_loss(_conditioned(model, batch, given), path, x1, x0, t_dist=t_dist)
                value = loss.item()
                if not math.isfinite(value):
                    raise FloatingPointError(
                        f"the loss became {value} at step {step} of {total_steps}: training stopped. "
                        f"Usual causes: lr too high (it is {lr}), or NaN in the data"
                    )
                with _whole_step():
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
                    torch.clear_autocast_cache()  # under torch.autocast the next step would see the weights of this one
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
            print(f"Interrupted at step {step} of {total_steps}: the model and its EMA are returned as they are.")
    for name, trained in (("model", model), ("EMA", ema_model)):
        if not all(bool(torch.isfinite(p).all()) for p in trained.parameters()):
            raise FloatingPointError(f"the weights of the {name} are not finite after step {step} of {total_steps}")
    return model.eval(), ema_model


def _conditioned(model: nn.Module, batch: Batch, dtype: torch.dtype):
    """model(t, x) with the conditions of the batch; all floating-point numbers in the dtype of the model."""

    def cast(x):
        return x.to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x

    args, named = tuple(map(cast, batch.args)), {name: cast(c) for name, c in batch.named.items()}
    return lambda t, x: model(cast(t), cast(x), *args, **named)


def _check_takes(network: nn.Module, batch: Batch) -> None:
    """Refuse conditions that the network cannot be called with, instead of leaving them out."""
    if not batch.conditions:
        return
    try:
        signature = inspect.signature(network.forward)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(None, batch.x1, *batch.args, **batch.named)
    except TypeError as error:
        call = ", ".join(["t", "x", *(name if name not in batch.named else f"{name}=..." for name in batch.conditions)])
        raise TypeError(
            f"the batches of dataloader have conditions, so model must take model({call}), got {error}. "
            "To train without conditions, yield x1 alone"
        ) from None


def _is_label(c, x1: Tensor) -> bool:
    integers = isinstance(c, Tensor) and not (c.is_floating_point() or c.is_complex() or c.dtype == torch.bool)
    return integers and c.shape == x1.shape[:1]


def _recouple(coupling, x0: Tensor, x1: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    label = batch.args[0] if batch.args else batch.named.get("label")
    x0, paired = coupling(x0, x1, label) if _is_label(label, x1) else coupling(x0, x1)
    if batch.conditions and not torch.equal(paired, x1):
        raise ValueError("coupling must leave x1 in its order and re-order x0, because the labels belong to x1")
    return x0, paired


def _drop(batch: Batch, probability: float, nulls, num_classes: int | None) -> Batch:
    """The batch without the conditions of some samples. nulls: null_conditions of `train_flow_matching`."""
    conditions = batch.conditions
    if nulls is None:
        if len(conditions) > 1 or not _is_label(*conditions.values(), batch.x1):
            raise ValueError(
                f"null_conditions must be given for conditions other than one label of integers [B], {[*conditions]}"
            )
        nulls = dict.fromkeys(conditions, num_classes)
    elif not isinstance(nulls, Mapping):
        nulls = {f"c{i}": null for i, null in enumerate(nulls if isinstance(nulls, (tuple, list)) else (nulls,), 1)}
    if nulls.keys() != conditions.keys():
        raise ValueError(f"null_conditions must have one entry for each of {[*conditions]}, got {[*nulls]}")
    if all(null is None for null in nulls.values()):
        raise ValueError(f"null_conditions must say what is dropped, got None for all of {[*conditions]}")
    nulls = {
        name: null.to(batch.x1.device) if isinstance(null, Tensor) else null
        for name, null in nulls.items()
        if null is not None
    }
    return batch.with_conditions(drop_labels({name: conditions[name] for name in nulls}, probability, nulls))


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
