"""Train a flow from a small config file: on one process or on several, killed and resumed as if nothing had happened.

    python -m fmlib.train config.json --steps 4000 --lr=1e-3
    torchrun --standalone --nproc_per_node=2 -m fmlib.train config.json --parallel fsdp
    torchrun --standalone --nproc_per_node=2 -m fmlib.train --check-gradient

The config file is JSON, {"data": "digits", "network": "dit", "out": "runs/dit", ...}; `TrainConfig` lists the keys.
On SIGTERM a run saves its state after the step that it is at, and ends; started again it goes on from there.
"""

import copy
import difflib
import gc
import json
import math
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
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

from fmlib.checkpoints import FORMAT, Checkpoints, RunError, alone_in, read_checkpoint, step_of
from fmlib.checks import check_int, check_number
from fmlib.data import sample_checkerboard, sample_eight_gaussians, sample_moons
from fmlib.digits import dequantise, load_digits_flow
from fmlib.dit import SmallDiT
from fmlib.guidance import drop_labels
from fmlib.nets import ResidualMLP, VectorFieldMLP
from fmlib.paths import rectified_flow_path, ve_path, vp_cosine_path, vp_linear_path
from fmlib.training import T_SAMPLERS, cfm_loss, ema_warmup, hint_at_scale, make_ema, update_ema

SAMPLERS = {"moons": sample_moons, "eight_gaussians": sample_eight_gaussians, "checkerboard": sample_checkerboard}
PATHS = {
    "rectified_flow": rectified_flow_path, "vp_cosine": vp_cosine_path, "vp_linear": vp_linear_path, "ve": ve_path,
}  # fmt: skip
CHOICES = {
    "data": (*SAMPLERS, "digits"),
    "path": tuple(PATHS),
    "network": ("mlp", "residual", "dit"),
    "t_dist": tuple(T_SAMPLERS),
    "precision": ("fp32", "bf16", "fp16"),
    "parallel": ("ddp", "fsdp"),
    "device": ("auto", "cpu", "cuda"),
}
TIMEOUT = timedelta(seconds=120)  # after which a process stops waiting for the others
FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)  # whole tensors, also where each rank holds a part
N_TRAIN = 1437  # digits


@dataclass
class TrainConfig:
    """What a run is. Raises TypeError or ValueError that names the key, what came and what was expected."""

    data: str = "moons"  # moons, eight_gaussians, checkerboard (2 numbers a sample) or digits (64)
    path: str = "rectified_flow"  # rectified_flow, vp_cosine, vp_linear, ve
    network: str = "mlp"  # mlp, residual, dit (digits only)
    hidden: int = 64
    blocks: int = 2  # of residual and dit
    steps: int = 2000  # optimiser steps in all, those before a resume included
    batch: int = 256  # over all processes together
    lr: float = 4e-3  # the peak of OneCycleLR
    t_dist: str = "stratified"  # uniform, stratified, logitnormal
    ema_decay: float = 0.9999
    label_dropout: float | None = None  # digits only: train with classes, this share of labels replaced by "no class"
    precision: str = "fp32"  # fp32, bf16 (autocast), fp16 (autocast and a gradient scaler; GPU only)
    seed: int = 0
    out: str = "run"  # the folder of the checkpoints
    save_every: int = 500
    log_every: int = 100  # steps between updates of the loss on the bar; 0 shows no bar
    checkpointing: bool = False  # dit only: less memory, more time
    parallel: str = "ddp"  # ddp or fsdp, under torchrun
    device: str = "auto"  # auto, cpu, cuda

    def __post_init__(self):
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        lowest = {"hidden": 1, "blocks": 1, "steps": 2, "batch": 1, "seed": 0, "save_every": 1, "log_every": 0}
        for name, minimum in lowest.items():
            value = getattr(self, name)
            if isinstance(value, float) and value.is_integer():
                setattr(self, name, int(value))  # 1e3, as JSON reads it
            setattr(self, name, check_int(name, getattr(self, name), minimum))
        self.lr = check_number("lr", self.lr, 0, open_low=True)
        self.ema_decay = check_number("ema_decay", self.ema_decay, 0, 1)
        if self.ema_decay == 1:
            raise ValueError("ema_decay must be below 1: the average would never move, got 1")
        if not isinstance(self.out, str) or not self.out:
            raise TypeError(f"out must be the name of a folder, got {self.out!r}")
        if not isinstance(self.checkpointing, bool):
            raise TypeError(f"checkpointing must be true or false, got {self.checkpointing!r}")
        if self.label_dropout is not None:
            self.label_dropout = check_number("label_dropout", self.label_dropout, 0, 1)
        digits, dit = self.data == "digits", self.network == "dit"
        for name, given, needs, met in (
            ("label_dropout", self.label_dropout is not None, "data = 'digits'", digits),
            ("network = 'dit'", dit, "data = 'digits'", digits),
            ("checkpointing", self.checkpointing, "network = 'dit'", dit),
            ("blocks", self.blocks != TrainConfig.blocks, "network = 'residual' or 'dit'", self.network != "mlp"),
        ):
            if given and not met:
                raise ValueError(f"{name} needs {needs}, got data = {self.data!r} and network = {self.network!r}")
        if digits and self.batch > N_TRAIN:
            raise ValueError(f"batch must be at most {N_TRAIN} for data = 'digits', got {self.batch}")

    @classmethod
    def from_dict(cls, values: dict) -> "TrainConfig":
        """As TrainConfig(**values), with an error that names an unknown key and the known one that is closest."""
        if not isinstance(values, dict):
            raise TypeError(f"config must be an object of keys and values, got {type(values).__name__}")
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known)}"
                raise ValueError(f"config has the unknown key {key!r} (value {values[key]!r}): {hint}")
        return cls(**values)


WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
KINDS = {field.name: field.type for field in fields(TrainConfig)}


def read_value(key: str, text: str):
    """The text of a flag as the type of its key: 1e3 is a number of steps, and 123 a folder.

    What cannot be read stays a text, and `TrainConfig` says what is wrong with it.
    """
    kind, word = KINDS.get(key, str), text.strip().lower()
    if kind is bool:
        return WORDS.get(word, text)
    if kind == float | None and word in ("none", "null", ""):
        return None
    for number in {str: (), int: (int, float)}.get(kind, (float,)):
        try:
            return number(text)
        except ValueError:
            pass
    return text


def build_network(config: TrainConfig) -> nn.Module:
    """The network of a config, with new weights from torch's global generator."""
    dim = 64 if config.data == "digits" else 2
    classes = None if config.label_dropout is None else 10
    if config.network == "dit":
        # patch = 4 instead of 2: on 8 x 8 pixels three times as fast, and closer to the held-out digits
        switches = {"num_classes": classes, "checkpointing": config.checkpointing}
        return SmallDiT(patch=4, hidden=config.hidden, blocks=config.blocks, **switches)
    if config.network == "residual":
        return ResidualMLP(dim, config.hidden, blocks=config.blocks, num_classes=classes)
    return VectorFieldMLP(dim, config.hidden, num_classes=classes)


# --- processes


class Process(NamedTuple):
    """This process among those of torchrun: rank 0 ... world - 1, and its device. Rank 0 alone prints and writes."""

    rank: int
    world: int
    device: torch.device

    def say(self, text: str, file=None) -> None:
        if self.rank == 0:
            print(text, file=file, flush=True)


def join(config: TrainConfig) -> Process:
    """Find the device, and join the other processes where torchrun started this one."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise RunError("device must be 'cpu' or 'auto' on this machine: torch finds no GPU, got 'cuda'")
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if config.device == "auto" else config.device
    if config.precision == "fp16" and kind == "cpu":
        raise RunError("precision must be 'fp32' or 'bf16' on a CPU, got 'fp16': its gradient scaler needs a GPU")
    rank, world, device = 0, 1, torch.device(kind)
    if dist.is_torchelastic_launched():
        if kind == "cuda":
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(device)
        if not dist.is_initialized():
            dist.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=TIMEOUT)
        rank, world = dist.get_rank(), dist.get_world_size()
    if config.batch % world:
        raise RunError(f"batch must divide by the number of processes, got batch = {config.batch}, {world} processes")
    return Process(rank, world, device)


def leave() -> None:
    """Part from the other processes, at the end of a script. Does nothing in a process that is alone."""
    gc.collect()  # FSDP's tensors go before the threads that moved them: at the exit of Python that can abort
    if dist.is_initialized():
        dist.destroy_process_group()


def gather(x: Tensor, process: Process) -> Tensor:
    """The tensors x of all ranks, [world, ...], on the CPU. Every rank must call this."""
    x = x.to(process.device)
    every = [torch.empty_like(x) for _ in range(process.world)]
    if process.world == 1:
        return x[None].cpu()
    dist.all_gather(every, x)
    return torch.stack(every).cpu()


def parallelise(net: nn.Module, config: TrainConfig, process: Process) -> nn.Module:
    """The module to call in training: `net` itself, or one that averages gradients over all processes.

    DDP keeps all weights on each process; FSDP2 (`fully_shard`) splits weights, gradients and optimiser state, and
    does so in `net` itself.
    """
    if process.world == 1:
        return net
    if config.parallel == "ddp":
        ids = [process.device.index] if process.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(net, device_ids=ids)
    from torch.distributed.fsdp import fully_shard

    mesh = dist.init_device_mesh(process.device.type, (process.world,))
    for block in getattr(net, "blocks", ()):  # a block's weights are gathered when it runs, and let go after it
        fully_shard(block, mesh=mesh)
    return fully_shard(net, mesh=mesh)


def seed_for(*words: int) -> int:
    """One seed from several numbers, such as (seed, rank, purpose): nearby numbers give unrelated seeds."""
    # int first: numpy 1 cannot shift a uint64 by a Python number
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0]) >> 1


class Shards:
    """The part of each global batch that belongs to one rank; the parts of a step never overlap.

    Digits: every rank walks through the same permutation of an epoch and takes its own rows of each batch; the rest
    of an epoch that fills no batch is left out. The other data sets are drawn, by a generator for each rank.
    """

    def __init__(self, config: TrainConfig, rank: int, world: int):
        self.config, self.rank, self.share = config, rank, config.batch // world
        self.generator = torch.Generator().manual_seed(seed_for(config.seed, rank, 1))
        self.digits = load_digits_flow() if config.data == "digits" else None

    def rows(self, step: int) -> Tensor:
        """Which training digits this rank takes at step 0, 1, ...: [batch / world]."""
        epoch, i = divmod(step, N_TRAIN // self.config.batch)
        order = torch.Generator().manual_seed(seed_for(self.config.seed, epoch, 2))  # without rank: shared
        first = i * self.config.batch + self.rank * self.share
        return torch.randperm(N_TRAIN, generator=order)[first : first + self.share]

    def batch(self, step: int) -> tuple[Tensor, Tensor | None]:
        """(x1, label or None) of this rank at step 0, 1, ..."""
        if self.digits is None:
            return SAMPLERS[self.config.data](self.share, self.generator), None
        rows = self.rows(step)
        label = None if self.config.label_dropout is None else self.digits.train_labels[rows]
        return dequantise(self.digits.train[rows], self.generator), label


# --- continuing


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


def rng_states(shards: Shards, process: Process) -> dict[str, Tensor]:
    """The states of all random generators, of all ranks: name -> [world, bytes]. Every rank must call this."""
    states = {"torch": torch.get_rng_state(), "data": shards.generator.get_state()}
    if process.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(process.device)
    return {name: gather(own, process) for name, own in states.items()}


# --- the loop


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


# --- is the gradient of several processes that of one?


def check_gradient(config: TrainConfig) -> tuple[float, float]:
    """Relative difference |g - g_1| / |g_1| of the averaged gradient g from that of one process on the global batch.

    In double precision, so that rounding does not hide a small mistake. Returns it for the engine, and for a wrong
    twin in which every rank takes the part of rank 0. Call it under torchrun. Raises RunError for one process.
    """
    process = join(config)
    if process.world == 1:
        raise RunError("--check-gradient compares processes: start it with torchrun --nproc_per_node=2")
    parts = [Shards(config, rank, process.world).batch(0) for rank in range(process.world)]
    x1 = torch.cat([x for x, _ in parts]).double().to(process.device)
    label = None if parts[0][1] is None else torch.cat([c for _, c in parts]).to(process.device)
    torch.manual_seed(seed_for(config.seed))
    t, x0 = T_SAMPLERS[config.t_dist](len(x1)).to(x1), torch.randn(x1.shape).to(x1)
    single = build_network(config)
    with torch.no_grad():
        for p in single.parameters():
            p.add_(0.02 * torch.randn(p.shape))  # gates that start at 0 would leave most gradients at 0
    single.to(x1).train()
    several = parallelise(copy.deepcopy(single), config, process)

    def gradient(model: nn.Module, rows: slice) -> Tensor:
        model.zero_grad(set_to_none=True)
        part = None if label is None else label[rows]
        cfm_loss(model, PATHS[config.path](), x1[rows], x0[rows], lambda n, device: t[rows], label=part).backward()
        gradients = [p.grad.full_tensor() if hasattr(p.grad, "full_tensor") else p.grad for p in model.parameters()]
        return torch.cat([g.flatten() for g in gradients])

    whole, share = gradient(single, slice(None)), len(x1) // process.world
    first = process.rank * share
    return tuple(
        ((gradient(several, rows) - whole).norm() / whole.norm()).item()
        for rows in (slice(first, first + share), slice(0, share))
    )


# --- the command line


def read_arguments(arguments: list[str]) -> TrainConfig:
    """TrainConfig from [CONFIG.json] and --key value pairs, which win over the file. Errors as for TrainConfig."""
    arguments, values = list(arguments), {}
    if arguments and not arguments[0].startswith("--"):
        file = arguments.pop(0)
        try:
            # from the bytes: json finds out whether an editor saved UTF-8, with its mark or without, or UTF-16
            values = json.loads(Path(file).read_bytes(), object_pairs_hook=_without_repeats)
        except (OSError, ValueError) as error:
            raise ValueError(f"config must be a JSON file, got {file!r}: {error}") from None
    if isinstance(values, dict):
        while arguments:
            flag, given, text = arguments.pop(0).partition("=")
            key = flag[2:].replace("-", "_")
            if not given and arguments and not arguments[0].startswith("--"):
                given, text = True, arguments.pop(0)
            elif not given and KINDS.get(key) is bool:
                given, text = True, "true"
            if not flag.startswith("--") or not given:
                raise ValueError(
                    f"arguments must be [CONFIG] and pairs --key value or --key=value, got {flag!r} without its "
                    f"{'value' if flag.startswith('--') else 'key'}"
                )
            values[key] = read_value(key, text)
    return TrainConfig.from_dict(values)


def _without_repeats(pairs: list[tuple]) -> dict:
    keys = [key for key, _ in pairs]
    if repeated := [key for key in dict.fromkeys(keys) if keys.count(key) > 1]:
        raise ValueError(f"it has {', '.join(map(repr, repeated))} more than once")
    return dict(pairs)


def main(arguments: list[str]) -> int:
    """The command line; returns the exit status."""
    process = Process(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)), torch.device("cpu"))
    if {"-h", "--help"} & set(arguments):
        process.say(f"{__doc__}\nKeys and their defaults: {json.dumps(asdict(TrainConfig()), indent=1)}")
        return 0
    try:
        config = read_arguments([a for a in arguments if a != "--check-gradient"])
    except (ValueError, TypeError) as error:
        process.say(f"fmlib.train: {error}", sys.stderr)
        return 2
    try:
        if "--check-gradient" in arguments:
            right, wrong = check_gradient(config)
            process.say(f"gradient of {process.world} processes against one: relative difference {right:.1e}")
            process.say(f"wrong twin, every process sees the first part: relative difference {wrong:.1e}")
            if not right < 1e-6 < 1e-2 < wrong:
                raise RunError("expected a difference below 1e-6, and above 1e-2 for the wrong twin")
        else:
            step = train(config).step
            process.say(f"step {step} of {config.steps} done, checkpoints in {config.out}")
            if step < config.steps:
                process.say("stopped by SIGTERM: the same command goes on from here")
                leave()
                return 128 + signal.SIGTERM
    except (RunError, FloatingPointError) as error:  # every rank meets the same error, or is stopped by torchrun
        process.say(f"fmlib.train: {error}", sys.stderr)
        return 1
    leave()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
