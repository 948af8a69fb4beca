"""Train a flow from a small config file: on one process or on several, killed and resumed as if nothing had happened.

    python -m fmlib.train config.json --steps 4000 --lr=1e-3
    torchrun --standalone --nproc_per_node=2 -m fmlib.train config.json --parallel fsdp
    torchrun --standalone --nproc_per_node=2 -m fmlib.train --check-gradient

The config file is JSON, {"data": "digits", "network": "dit", "out": "runs/dit", ...}; `TrainConfig` lists the keys.
On SIGTERM a run saves its state after the step that it is at, and ends; started again it goes on from there.
"""

import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from fmlib.engine import Run, RunError, TrainConfig, check_gradient, leave, load_ema, train
from fmlib.engine.config import KINDS, read_value
from fmlib.engine.processes import Process

__all__ = ["Run", "RunError", "TrainConfig", "check_gradient", "leave", "load_ema", "main", "read_arguments", "train"]


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
