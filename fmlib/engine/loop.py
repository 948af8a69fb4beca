"""A run: training on one process or on several, killed and resumed as if nothing had happened."""

import itertools
import signal
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_model_state_dict,
    set_state_dict,
)

from fmlib.batches import Batch
from fmlib.engine.checkpoints import FORMAT, Checkpoints, RunError, alone_in, read_checkpoint, step_of
from fmlib.engine.config import PATHS, TrainConfig, build_network
from fmlib.engine.processes import Process, gather, join, parallelise, seed_for, total_over_ranks
from fmlib.engine.shards import Shards
from fmlib.learner import Learner, make_ema
from fmlib.training import cfm_loss, hint_at_scale

FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)  # whole tensors, also where each rank holds a part


class Run(NamedTuple):
    """What `train` returns: both networks in eval mode, the loss of every step since step 1, and the last step."""

    model: nn.Module
    ema: nn.Module
    losses: list[float]
    step: int


def train(config: TrainConfig, callback: Callable[[int, float], None] | None = None) -> Run:
    """Train as `train_flow_matching` does, from the newest checkpoint in config.out or from the start.

    On one CPU process a run that was killed and started again ends with the same bits as one that was not. To
    continue a finished run, raise `steps`: the learning rate then follows the longer schedule. Reseeds torch.
    callback: called as callback(step, loss) after each step, before it is saved; loss is the mean over all ranks.
    SIGTERM: the state is saved after the step, and what there is is returned; Run.step says how far it came.
    Raises RunError (see there), and FloatingPointError if the loss becomes NaN or infinite.
    """
    process = join(config)
    with alone_in(config.out, process.rank == 0), _told_to_stop() as told:
        return _train(config, process, callback, told)


@contextmanager
def _told_to_stop():
    """A list that is no longer empty once SIGTERM came. A second one ends the process as usual."""
    told = []
    if threading.current_thread() is not threading.main_thread():
        yield told  # signals reach the main thread alone
        return
    previous = signal.getsignal(signal.SIGTERM)
    restore = lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL if previous is None else previous)  # noqa: E731
    signal.signal(signal.SIGTERM, lambda *_: (told.append(True), restore()))
    try:
        yield told
    finally:
        restore()


def _train(config: TrainConfig, process: Process, callback, told: list) -> Run:
    checkpoints = Checkpoints(asdict(config), process.world, process.say)
    torch.manual_seed(seed_for(config.seed))  # the same first weights on every rank
    net = build_network(config).to(process.device).train()
    average = make_ema(net)
    model = parallelise(net, config, process)
    if config.parallel == "fsdp":
        parallelise(average, config, process)  # split like the weights it follows
    stop = False

    def mean(loss: Tensor) -> float:
        nonlocal stop  # every rank sees the same numbers, so all stop at the same step
        total, stop = total_over_ranks(torch.stack([loss, torch.full_like(loss, len(told))]), process).tolist()
        return total / process.world

    scaler = torch.amp.GradScaler(process.device.type, enabled=config.precision == "fp16")
    learner = Learner(
        model, config.steps, config.lr, ema_decay=config.ema_decay, average=average, scaler=scaler, mean=mean
    )
    shards, losses = Shards(config, process.rank, process.world), []
    torch.manual_seed(seed_for(config.seed, process.rank, 0))  # noise, times and dropped labels differ by rank
    found = [step_of(path) for path in checkpoints.own[-1:]] or [0]
    if len(every := gather(torch.tensor(found), process).unique()) > 1:
        raise RunError(f"out = {config.out!r} must be a folder that all processes share, got steps {every.tolist()}")
    if (state := checkpoints.latest) is not None:
        process.say(f"resumed from {checkpoints.own[-1]}, step {state['step']} of {config.steps}")
        losses = state["losses"].tolist()
        restore(state, learner, shards, process)
    path, start = PATHS[config.path](), learner.taken

    def batch(step: int) -> Batch:
        batch = shards.batch(step).map(lambda x: x.to(process.device))
        if step == start and process.rank == 0:
            hint_at_scale(batch.x1)
        return batch if config.label_dropout is None else batch.dropped(config.label_dropout, num_classes=10)

    def loss(model: nn.Module, batch: Batch, average: nn.Module) -> Tensor:
        def velocity(*inputs):  # the network in low precision, the loss around it in single
            dtype = torch.float16 if config.precision == "fp16" else torch.bfloat16
            with torch.autocast(process.device.type, dtype, enabled=config.precision != "fp32"):
                return model(*inputs).float()

        return cfm_loss(velocity, path, batch.x1, t_dist=config.t_dist, label=batch.label)

    log_every = config.log_every if process.rank == 0 else 0
    for value in learner.run(loss, map(batch, itertools.count(start)), log_every, config.out):
        losses.append(value)
        if callback is not None:
            callback(learner.taken, value)
        if learner.taken % config.save_every == 0 or learner.taken == config.steps or stop:
            state = state_of(learner, shards, process)  # all ranks take part
            if process.rank == 0:
                record = {"format": FORMAT, "config": asdict(config), "world": process.world}
                checkpoints.save(record | state | {"losses": torch.tensor(losses, dtype=torch.float64)})
        if stop:
            break
    if process.world > 1:
        dist.barrier()  # rank 0 may still be writing; whoever returns may read
    return Run(net.eval(), average, losses, learner.taken)


# --- what a checkpoint holds


def state_of(learner: Learner, shards: Shards, process: Process) -> dict:
    """All that a run needs to go on, of all ranks. Every rank must call this."""
    weights, optimizer = get_state_dict(learner.network, learner.optimizer, options=FULL)
    rng = {"torch": torch.get_rng_state(), "data": shards.generator.get_state()}
    if process.device.type == "cuda":
        rng["cuda"] = torch.cuda.get_rng_state(process.device)
    return {
        "step": learner.taken,
        "model": weights,
        "ema": get_model_state_dict(learner.average, options=FULL),
        "optimizer": optimizer,
        "scheduler": learner.scheduler.state_dict(),
        "scaler": learner.scaler.state_dict(),
        "rng": {name: gather(own, process) for name, own in rng.items()},  # [world, bytes]
    }


def restore(state: dict, learner: Learner, shards: Shards, process: Process) -> None:
    """Go on from what `state_of` gave, on the same number of processes."""
    options = StateDictOptions(full_state_dict=True)
    set_state_dict(
        learner.network,
        learner.optimizer,
        model_state_dict=state["model"],
        optim_state_dict=state["optimizer"],
        options=options,
    )
    set_model_state_dict(learner.average, state["ema"], options=options)
    # The shape of the schedule comes from the config, which may ask for more steps than before.
    learner.scheduler.load_state_dict({k: state["scheduler"][k] for k in ("last_epoch", "_step_count", "_last_lr")})
    learner.scaler.load_state_dict(state["scaler"])
    learner.taken = state["step"]
    # clone: torch 2.13 crashes on a state that is a row of a larger tensor
    rng = {name: states[process.rank].clone() for name, states in state["rng"].items()}
    torch.set_rng_state(rng["torch"])
    shards.generator.set_state(rng["data"])
    if process.device.type == "cuda" and "cuda" in rng:
        torch.cuda.set_rng_state(rng["cuda"], process.device)


def load_ema(out: str) -> nn.Module:
    """The averaged network of the newest good checkpoint in the folder `out`, in eval mode, for sampling."""
    for path in sorted(filter(step_of, Path(out).glob("step_*.pt")), key=step_of, reverse=True):
        try:
            state = read_checkpoint(path)
        except ValueError:
            continue
        net = build_network(TrainConfig.from_dict(state["config"]))
        net.load_state_dict(state["ema"])
        return net.eval().requires_grad_(False)
    raise RunError(f"out must be a folder with a good checkpoint step_*.pt, got {out!r} without one")
