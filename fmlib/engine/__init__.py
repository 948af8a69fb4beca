"""The engine: training at scale – config files, several processes, checkpoints, larger networks."""

from fmlib.engine.checkpoints import RunError
from fmlib.engine.config import TrainConfig
from fmlib.engine.dit import SmallDiT
from fmlib.engine.gradient import check_gradient
from fmlib.engine.loop import Run, load_ema, train
from fmlib.engine.processes import leave

__all__ = ["Run", "RunError", "SmallDiT", "TrainConfig", "check_gradient", "leave", "load_ema", "train"]
