"""The data of a run: which part of each batch belongs to which process."""

import torch
from torch import Tensor

from fmlib.batches import Batch
from fmlib.digits import dequantise, load_digits_flow
from fmlib.engine.config import N_TRAIN, SAMPLERS, TrainConfig
from fmlib.engine.processes import seed_for


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

    def batch(self, step: int) -> Batch:
        """The part of this rank at step 0, 1, ...: x1, and the label if labels are dropped in training."""
        if self.digits is None:
            return Batch(SAMPLERS[self.config.data](self.share, self.generator))
        rows = self.rows(step)
        labels = () if self.config.label_dropout is None else (self.digits.train_labels[rows],)
        return Batch(dequantise(self.digits.train[rows], self.generator), args=labels)
