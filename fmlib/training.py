"""Training: how t is drawn, the conditional flow matching loss, and the loop that minimises it."""

import copy
import warnings
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from fmlib.batches import Batch, endless_batches
from fmlib.checks import (
    at_least_single,
    check_choice,
    check_int,
    check_number,
    check_pair,
    check_tensor,
    check_velocity,
)
from fmlib.learner import Learner, bare
from fmlib.nets import Normaliser
from fmlib.paths import FlowPath

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


def late_t(n: int, device=None) -> Tensor:
    """n times, half of them `stratified_t`, half `logit_normal_t(1.0)`: more between 0.5 and 0.9."""
    t = torch.cat([stratified_t(n - n // 2, device), logit_normal_t(1.0)(n // 2, device)])
    return t[torch.randperm(n, device="cpu")]


T_SAMPLERS = {"uniform": uniform_t, "stratified": stratified_t, "logitnormal": logit_normal_t()}


def t_sampler(t_dist: str | TSampler) -> TSampler:
    """The function (n, device) -> t [n] behind a name in T_SAMPLERS; a function is returned as it is."""
    if callable(t_dist):
        return t_dist
    check_choice("t_dist", t_dist, T_SAMPLERS, " or a function (n, device) -> t [n]")
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
            stacklevel=5,  # whoever called the training
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
    log_every, t_dist, network = check_int("log_every", log_every, minimum=0), t_sampler(t_dist), bare(model)
    label_dropout = _check_dropout(label_dropout, null_conditions, num_classes := getattr(network, "num_classes", None))
    normaliser = getattr(network, "normaliser", None)
    weight = next((p for p in model.parameters() if p.requires_grad and p.is_floating_point()), torch.empty(0))
    device, dtype = weight.device if device is None else device, weight.dtype

    def prepared(batch: Batch) -> Batch:
        if isinstance(normaliser, Normaliser):
            if batch.x0 is not None:
                raise ValueError(
                    "normaliser does not go with noise from the dataloader: pass pairs that are normalised, "
                    "and a model without normaliser"
                )
            batch = batch._replace(x1=normaliser.normalise(batch.x1))
        if learner.taken == 0:
            hint_at_scale(batch.x1)
            batch.check_taken_by(network)
        if coupling is not None:
            batch = batch.coupled(coupling)
        return batch if label_dropout is None else batch.dropped(label_dropout, null_conditions, num_classes)

    def loss(model: nn.Module, batch: Batch, average: nn.Module) -> Tensor:
        return cfm_loss(batch.field(model, dtype), path, batch.x1, batch.x0, t_dist=t_dist)

    # Tensors made under inference_mode could not be changed afterwards.
    with torch.inference_mode(False), torch.enable_grad():
        model.to(device).train()
        learner = Learner(
            model, total_steps, lr, weight_decay=weight_decay, grad_clip=grad_clip, schedule=schedule,
            ema_decay=ema_decay,
        )  # fmt: skip
        batches = endless_batches(dataloader, device, torch.promote_types(dtype, torch.float32))
        try:
            for value in learner.run(loss, map(prepared, batches), log_every, path.name):
                if callback is not None:
                    callback(learner.taken, value, model, learner.average)
                    model.train()  # a callback that samples may have called eval()
        except KeyboardInterrupt:
            print(
                f"Interrupted at step {learner.taken} of {total_steps}: the model and its EMA are returned as they are."
            )
    for name, trained in (("model", model), ("EMA", learner.average)):
        if not all(bool(torch.isfinite(p).all()) for p in trained.parameters()):
            raise FloatingPointError(
                f"the weights of the {name} are not finite after step {learner.taken} of {total_steps}"
            )
    return model.eval(), learner.average


def _check_dropout(label_dropout: float | None, null_conditions, num_classes: int | None) -> float | None:
    if label_dropout is None:
        if num_classes is not None:
            raise ValueError(
                f"label_dropout must be given for a model with {num_classes} classes, got None; 0.1 is usual"
            )
        if null_conditions is not None:
            raise ValueError("label_dropout must be given together with null_conditions, got None; 0.1 is usual")
        return None
    label_dropout = check_number("label_dropout", label_dropout, 0, 1)
    if num_classes is None and null_conditions is None:
        raise ValueError(
            "label_dropout needs a model with classes (an attribute num_classes), got one without; for other "
            "conditions give null_conditions"
        )
    return label_dropout


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
