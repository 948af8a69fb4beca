"""A run: training on one process or on several, killed and resumed as if nothing had happened."""

import math
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
from tqdm.auto import tqdm

from fmlib.engine.checkpoints import FORMAT, Checkpoints, RunError, alone_in, read_checkpoint, step_of
from fmlib.engine.config import PATHS, TrainConfig, build_network
from fmlib.engine.processes import Process, gather, join, parallelise, seed_for
from fmlib.engine.shards import Shards
from fmlib.guidance import drop_labels
from fmlib.training import cfm_loss, ema_warmup, hint_at_scale, make_ema, update_ema

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
    ema = make_ema(net)
    model = parallelise(net, config, process)
    if config.parallel == "fsdp":
        parallelise(ema, config, process)  # split like the weights it follows
    optimizer = torch.optim.AdamW(net.parameters(), lr=config.lr, weight_decay=0.0, fused=True)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=config.lr, total_steps=config.steps)
    scaler = torch.amp.GradScaler(process.device.type, enabled=config.precision == "fp16")
    shards = Shards(config, process.rank, process.world)
    torch.manual_seed(seed_for(config.seed, process.rank, 0))  # noise, times and dropped labels differ by rank
    path, losses, start = PATHS[config.path](), [], 0
    found = [step_of(path) for path in checkpoints.own[-1:]] or [0]
    if len(every := gather(torch.tensor(found), process).unique()) > 1:
        raise RunError(f"out = {config.out!r} must be a folder that all processes share, got steps {every.tolist()}")

    if (state := checkpoints.latest) is not None:
        start, losses = state["step"], state["losses"].tolist()
        process.say(f"resumed from {checkpoints.own[-1]}, step {start} of {config.steps}")
        options = StateDictOptions(full_state_dict=True)
        set_state_dict(
            net, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"], options=options
        )
        set_model_state_dict(ema, state["ema"], options=options)
        # The shape of the schedule comes from the config, which may ask for more steps than before.
        scheduler.load_state_dict({k: state["scheduler"][k] for k in ("last_epoch", "_step_count", "_last_lr")})
        scaler.load_state_dict(state["scaler"])
        # clone: torch 2.13 crashes on a state that is a row of a larger tensor
        rng = {name: states[process.rank].clone() for name, states in state["rng"].items()}
        torch.set_rng_state(rng["torch"])
        shards.generator.set_state(rng["data"])
        if process.device.type == "cuda" and "cuda" in rng:
            torch.cuda.set_rng_state(rng["cuda"], process.device)

    def velocity(*inputs):  # the network in low precision, the loss around it in single
        dtype = torch.float16 if config.precision == "fp16" else torch.bfloat16
        with torch.autocast(process.device.type, dtype, enabled=config.precision != "fp32"):
            return model(*inputs).float()

    step = min(start, config.steps)
    silent = process.rank != 0 or config.log_every == 0
    with tqdm(total=config.steps, initial=step, disable=silent, desc=config.out) as bar:
        for step in range(start + 1, config.steps + 1):
            x1, label = (x if x is None else x.to(process.device) for x in shards.batch(step - 1))
            if step == start + 1 and process.rank == 0:
                hint_at_scale(x1)
            if label is not None:
                label = drop_labels(label, config.label_dropout, null_label=10)
            loss = cfm_loss(velocity, path, x1, t_dist=config.t_dist, label=label)
            seen = torch.stack([loss.detach(), torch.full_like(loss, len(told))])
            if process.world > 1:
                dist.all_reduce(seen)  # a sum; every rank sees the same numbers, so all stop at the same step
            total, stop = seen.tolist()
            losses.append(total / process.world)
            if not math.isfinite(losses[-1]):
                raise FloatingPointError(
                    f"the loss became {losses[-1]} at step {step} of {config.steps}: training stopped. "
                    f"Usual causes: lr too high (it is {config.lr}), or precision = 'fp16'"
                )
            optimizer.zero_grad(set_to_none=True)
            scaler.scale(loss / x1[0].numel()).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            scheduler.step()
            update_ema(ema, net, ema_warmup(step - 1, config.ema_decay))

            bar.update()
            if config.log_every and step % config.log_every == 0:
                recent = losses[-config.log_every :]
                bar.set_postfix_str(f"mean loss {sum(recent) / len(recent):.4f}", refresh=False)
            if callback is not None:
                callback(step, losses[-1])
            if step % config.save_every == 0 or step == config.steps or stop:
                weights, optimizer_state = get_state_dict(net, optimizer, options=FULL)  # all ranks take part
                average, rng = get_model_state_dict(ema, options=FULL), rng_states(shards, process)
                if process.rank == 0:
                    checkpoints.save(
                        {
                            "format": FORMAT, "step": step, "config": asdict(config), "world": process.world,
                            "model": weights, "ema": average, "optimizer": optimizer_state, "rng": rng,
                            "scheduler": scheduler.state_dict(), "scaler": scaler.state_dict(),
                            "losses": torch.tensor(losses, dtype=torch.float64),
                        }
                    )  # fmt: skip
            if stop:
                break
    if process.world > 1:
        dist.barrier()  # rank 0 may still be writing; whoever returns may read
    return Run(net.eval(), ema, losses, max(start, step))


def rng_states(shards: Shards, process: Process) -> dict[str, Tensor]:
    """The states of all random generators, of all ranks: name -> [world, bytes]. Every rank must call this."""
    states = {"torch": torch.get_rng_state(), "data": shards.generator.get_state()}
    if process.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(process.device)
    return {name: gather(own, process) for name, own in states.items()}


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
