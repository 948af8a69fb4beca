"""One step of training, for every loop: loss, gradient, clipping, optimiser, schedule, moving average."""

import copy
import itertools
import math
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fmlib.batches import Batch
from fmlib.checks import check_int, check_number
from fmlib.progress import progress_bar

Loss = Callable[[nn.Module, Batch, nn.Module], Tensor]


class Learner:
    """A network, and all that a step of its training changes: weights, optimiser, schedule, scaler, average.

        for loss in learner.run(lambda model, batch, average: cfm_loss(model, path, batch.x1), batches):
            ...

    model:       what the loss calls: a network in training mode, or a wrapper around one (torch.compile, DDP).
    total_steps, lr, weight_decay, grad_clip, schedule, ema_decay: as in `train_flow_matching`.
    average:     the network that holds the moving average of the weights; `make_ema(model)` if None.
    scaler:      a torch.amp.GradScaler for float16; None scales nothing.
    mean:        the mean of a loss, a tensor [], over all processes, as a number. All of them must meet the same
                 number: then all stop at the same step if it is not finite.

    taken counts the whole steps so far; a run that goes on sets it. Two networks that take turns are two learners.
    Raises ValueError or TypeError that names the argument.
    """

    def __init__(
        self,
        model: nn.Module,
        total_steps: int,
        lr: float,
        *,
        weight_decay: float = 0.0,
        grad_clip: float | None = 1.0,
        schedule: str = "onecycle",
        ema_decay: float = 0.9999,
        average: nn.Module | None = None,
        scaler: torch.amp.GradScaler | None = None,
        mean: Callable[[Tensor], float] = Tensor.item,
    ):
        self.model, self.network, self.mean = model, bare(model), mean
        self.taken, self.total_steps = 0, check_int("total_steps", total_steps)
        self.lr = check_number("lr", lr, 0, open_low=True)
        self.ema_decay = check_decay(ema_decay)
        self.grad_clip = None if grad_clip is None else check_number("grad_clip", grad_clip, 0, open_low=True)
        if schedule not in ("onecycle", "constant"):
            raise ValueError(f"schedule must be 'onecycle' or 'constant', got {schedule!r}")
        if schedule == "onecycle" and total_steps < 2:
            raise ValueError(
                "total_steps must be at least 2 for the schedule 'onecycle', got 1: use schedule='constant'"
            )
        self._parameters = parameters = [p for p in self.network.parameters() if p.requires_grad]
        if not parameters:
            raise ValueError("model must have parameters to train, got none that require a gradient")
        if any(p.is_inference() for p in parameters):
            raise ValueError("model must be made outside torch.inference_mode(): its weights cannot have gradients")
        self.average = make_ema(model) if average is None else average
        # A step of the optimiser is smaller than what bfloat16 can tell apart: it is taken by float32 copies.
        self.weights = [p.detach().float().requires_grad_() if _is_low(p) else p for p in parameters]
        self._copies = [(w, p) for w, p in zip(self.weights, parameters, strict=True) if w is not p]
        weight_decay = check_number("weight_decay", weight_decay, 0)
        self.optimizer = torch.optim.AdamW(self.weights, lr=self.lr, weight_decay=weight_decay, fused=True)
        if schedule == "onecycle":
            self.scheduler = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, self.lr, total_steps)
        else:
            self.scheduler = torch.optim.lr_scheduler.ConstantLR(self.optimizer, factor=1.0)
        self.scaler = scaler or torch.amp.GradScaler("cpu", enabled=False)

    def step(self, loss: Loss, batch: Batch) -> float:
        """One step down the gradient of loss(model, batch, average), a tensor []. Returns its mean over all processes.

        The loss sums over the dimensions, as `cfm_loss` does; its gradient is taken of loss / d, so that one limit of
        clipping serves every d. A loss that is NaN or infinite raises FloatingPointError, and changes nothing. An
        interrupt waits for the end of the step.
        """
        value = loss(self.model, batch, self.average)
        seen = self.mean(value.detach())
        if not math.isfinite(seen):
            raise FloatingPointError(
                f"the loss became {seen} at step {self.taken + 1} of {self.total_steps}: training stopped. "
                f"Usual causes: lr too high (it is {self.lr}), NaN in the data, or float16"
            )
        with _whole():
            for p in self._parameters:  # these: FSDP shows others between the forward and the backward pass
                p.grad = None
            self.scaler.scale(value / batch.x1[0].numel()).backward()
            for weight, p in self._copies:
                weight.grad = None if p.grad is None else p.grad.float()
            self.scaler.unscale_(self.optimizer)
            if self.grad_clip is not None:
                nn.utils.clip_grad_norm_(self.weights, self.grad_clip)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.scheduler.step()
            with torch.no_grad():
                for weight, p in self._copies:
                    p.copy_(weight)
            torch.clear_autocast_cache()  # under torch.autocast the next step would see the weights of this one
            update_ema(self.average, self.network, ema_warmup(self.taken, self.ema_decay))
            self.taken += 1
        return seen

    def run(self, loss: Loss, batches: Iterable[Batch], log_every: int = 0, name: str = "") -> Iterator[float]:
        """Take the steps that are left, one for each batch, and yield the loss after each.

        log_every: steps between updates of the mean loss on the progress bar; 0 shows no bar. name: beside it.
        """
        bar = progress_bar(total=self.total_steps, initial=self.taken, disable=log_every == 0, desc=name, leave=False)
        with bar:
            recent = []
            for batch in itertools.islice(batches, max(0, self.total_steps - self.taken)):
                value = self.step(loss, batch)
                recent.append(value)
                if log_every and self.taken % log_every == 0:
                    bar.set_postfix_str(f"mean loss {sum(recent) / len(recent):.4f}", refresh=False)
                    recent.clear()
                bar.update()
                yield value


@contextmanager
def _whole():
    """Hold an interrupt back until the block is complete, so that model, optimiser and average stay in step.

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


def check_decay(ema_decay: float) -> float:
    """Return it as a float. TypeError or ValueError if it does not lie in [0, 1)."""
    if (ema_decay := check_number("ema_decay", ema_decay, 0, 1)) == 1:
        raise ValueError("ema_decay must be below 1: the average would never move, got 1")
    return ema_decay
