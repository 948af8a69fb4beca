"""Is the gradient of several processes that of one?"""

import copy

import torch
from torch import Tensor, nn

from fmlib.engine.checkpoints import RunError
from fmlib.engine.config import PATHS, TrainConfig, build_network
from fmlib.engine.processes import join, parallelise, seed_for
from fmlib.engine.shards import Shards
from fmlib.training import T_SAMPLERS, cfm_loss


def check_gradient(config: TrainConfig) -> tuple[float, float]:
    """Relative difference |g - g_1| / |g_1| of the averaged gradient g from that of one process on the global batch.

    In double precision, so that rounding does not hide a small mistake. Returns it for the engine, and for a wrong
    twin in which every rank takes the part of rank 0. Call it under torchrun. Raises RunError for one process.
    """
    process = join(config)
    if process.world == 1:
        raise RunError("--check-gradient compares processes: start it with torchrun --nproc_per_node=2")
    parts = [Shards(config, rank, process.world).batch(0) for rank in range(process.world)]
    x1 = torch.cat([part.x1 for part in parts]).double().to(process.device)
    label = None if parts[0].label is None else torch.cat([part.label for part in parts]).to(process.device)
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
