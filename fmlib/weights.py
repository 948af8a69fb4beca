"""Stored weights: what a long training left behind, kept with a stamp of the text that trained it.

A lesson calls `trained`, and waits for nothing where its weights are stored. `make weights` stores them, by running
the lessons themselves. The environment variable TRAIN, read at each call, says what is wanted:

    unset    stored weights if their stamp fits, otherwise a warning and a training
    1        a training, whatever is stored
    stored   stored weights, or ValueError: for tests, and for what is published
    write    a training, whose weights are stored
    check    a training, and ValueError where a tensor ends further than TOLERANCE from the stored one
"""

import ast
import hashlib
import inspect
import os
import re
import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from fmlib.files import write_atomically

FOLDER = Path(__file__).parent / "stored"  # in the package: a lesson finds it from every folder
MODES = ("", "1", "stored", "write", "check")
# Of a tensor's norm. Rounding grows over a training: after 2,000 steps on the moons a processor without vector
# instructions ends 1e-4 apart, a learning rate that is higher by 1 % ends 0.3 apart.
TOLERANCE = 1e-3


def trained(name: str, net: nn.Module, train: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """train(net), or the weights of an earlier training from fmlib/stored/<name>.safetensors: frozen, in eval mode.

        def fit(net):
            return train_flow_matching(net, MoonDataset(), path)[1]

        net = trained("moons", FourierMLP(2, path, 1.4), fit)

    name:  of the file: letters, digits, - and _.
    net:   the untrained network; stored weights are put into it. An nn.ModuleDict holds several of one training.
    train: net -> the trained network, net itself or one like it; made with def, because its text is in the stamp.

    Both leave the random numbers that follow as they were, so that later results do not depend on TRAIN.
    Raises TypeError or ValueError for arguments that do not fit, and what TRAIN asks for.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[\w-]+", name):
        raise ValueError(f"name must be made of letters, digits, - and _, got {name!r}")
    if not isinstance(net, nn.Module):
        raise TypeError(f"net must be a torch.nn.Module, got {type(net).__name__}")
    if (mode := os.environ.get("TRAIN", "")) not in MODES:
        raise ValueError(f"the environment variable TRAIN must be unset or one of {MODES[1:]}, got {mode!r}")
    file, mark = FOLDER / f"{name}.safetensors", stamp(net, train)
    stored, problem = (None, None) if mode in ("1", "write") else _read(file, mark)
    if problem and mode in ("stored", "check"):
        raise ValueError(f"{problem}: run make weights")
    if stored is None or mode == "check":
        if problem:
            warnings.warn(f"{problem}: training anew", stacklevel=2)
        with torch.random.fork_rng(devices=[]):
            result = train(net)
        if not isinstance(result, nn.Module) or _shapes(result) != _shapes(net):
            raise TypeError(f"train must return a network like net, got {type(result).__name__}: train(net) -> net")
        if mode == "write":
            _write(file, result, mark)
        if mode == "check":
            _compare(name, result.state_dict(), stored)
        return result.eval().requires_grad_(False)
    net.load_state_dict(stored)
    return net.eval().requires_grad_(False)


def stamp(net: nn.Module, train: Callable[[nn.Module], nn.Module]) -> str:
    """A hash of what was trained and how: 16 hexadecimal digits.

    Of the network's layers and shapes; of the code of `train`, without comments and docstring; of the numbers, strings
    and truth values that it finds outside of itself. What else it uses from there, a path or a data set, is not in it.
    """
    try:
        (function,) = ast.parse(textwrap.dedent(inspect.getsource(train))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        function = None
    if not isinstance(function, ast.FunctionDef):
        raise TypeError(f"train must be a function that was made with def in a notebook or a file, got {train!r:.80}")
    if ast.get_docstring(function) is not None:
        function.body = function.body[1:] or [ast.Pass()]
    outside = inspect.getclosurevars(train)
    plain = {n: v for n, v in (outside.globals | outside.nonlocals).items() if isinstance(v, (bool, int, float, str))}
    text = "\n".join([repr(net), repr(_shapes(net)), ast.unparse(function), repr(sorted(plain.items()))])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _shapes(net: nn.Module) -> dict[str, list[int]]:
    return {name: list(value.shape) for name, value in net.state_dict().items()}


def _read(file: Path, mark: str) -> tuple[dict | None, str | None]:
    """The stored weights, or None and why they cannot be used."""
    from safetensors import SafetensorError, safe_open  # here, because the mathematics needs torch alone

    if not file.exists():
        return None, f"there are no stored weights {file.stem!r}"
    try:
        with safe_open(file, framework="pt") as held:
            if (held.metadata() or {}).get("stamp") != mark:
                return None, f"the stored weights {file.stem!r} come from another network or training"
            return {name: held.get_tensor(name) for name in held.keys()}, None
    except SafetensorError as error:
        return None, f"the stored weights {file.stem!r} cannot be read ({error})"


def _write(file: Path, net: nn.Module, mark: str) -> None:
    from safetensors.torch import save

    weights = {name: value.detach().cpu().clone().contiguous() for name, value in net.state_dict().items()}
    write_atomically(save(weights, {"stamp": mark}), file)


def _compare(name: str, weights: dict, stored: dict) -> None:
    for key, value in stored.items():
        difference, size = (x.double().norm().item() for x in (weights[key].cpu() - value, value))
        if not difference <= TOLERANCE * size:
            raise ValueError(
                f"the weights {name!r}, trained anew, must end within {TOLERANCE:g} of the stored ones, got "
                f"{difference / max(size, 1e-30):.2g} in {key}. If the training was changed on purpose: make weights"
            )
