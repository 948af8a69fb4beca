"""What a run is: the keys of its config file, their checks, and the network that they describe."""

import difflib
from dataclasses import dataclass, fields

from torch import nn

from fmlib.checks import check_choice, check_int, check_number
from fmlib.data import sample_checkerboard, sample_eight_gaussians, sample_moons
from fmlib.engine.dit import SmallDiT
from fmlib.learner import check_decay
from fmlib.nets import ResidualMLP, VectorFieldMLP
from fmlib.paths import rectified_flow_path, ve_path, vp_cosine_path, vp_linear_path
from fmlib.training import T_SAMPLERS

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
            check_choice(name, getattr(self, name), allowed)
        lowest = {"hidden": 1, "blocks": 1, "steps": 2, "batch": 1, "seed": 0, "save_every": 1, "log_every": 0}
        for name, minimum in lowest.items():
            value = getattr(self, name)
            if isinstance(value, float) and value.is_integer():
                setattr(self, name, int(value))  # 1e3, as JSON reads it
            setattr(self, name, check_int(name, getattr(self, name), minimum))
        self.lr = check_number("lr", self.lr, 0, open_low=True)
        self.ema_decay = check_decay(self.ema_decay)
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
