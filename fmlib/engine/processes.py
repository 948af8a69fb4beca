"""The processes of torchrun: who this one is, what all of them share, and a network spread over them."""

import gc
import os
from datetime import timedelta
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from fmlib.engine.checkpoints import RunError
from fmlib.engine.config import TrainConfig

TIMEOUT = timedelta(seconds=120)  # after which a process stops waiting for the others


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


def total_over_ranks(x: Tensor, process: Process) -> Tensor:
    """The sum of the tensors x of all ranks, the same on each. Changes x. Every rank must call this."""
    if process.world > 1:
        dist.all_reduce(x)
    return x


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
