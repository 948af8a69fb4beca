"""Checkpoints of a training run: written whole or not at all, refused with a reason, never overwritten."""

import errno
import io
import re
import zipfile
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from fmlib.files import set_aside, write_atomically

FORMAT = "fmlib.train 1"
MAY_DIFFER = {"steps", "out", "log_every", "save_every", "device"}  # between a run and its continuation
KEEP = 3  # checkpoints


class RunError(RuntimeError):
    """A run cannot start or go on; the message says why and what to do."""


@contextmanager
def alone_in(out: str, writer: bool = True):
    """Hold the folder `out` for this run, and make it if it is missing: two runs would delete each other's files.

    The lock goes with the process that holds it, however that ends; its file `.lock` stays. writer: whether this
    process is the one that writes; the others of the same run need no lock. Raises RunError if another run is there.
    """
    if not writer:
        yield
        return
    lock = FileLock(Path(out) / ".lock")
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(f"out = {out!r} is in use by another run. Choose another out, or wait for its end") from None
    except OSError as error:
        raise RunError(f"out = {out!r} must be a folder that can be written: {error.strerror}") from error
    except NotImplementedError:
        pass  # a file system without locks, such as some network drives: better no lock than no run
    try:
        yield
    finally:
        lock.release()


def write_checkpoint(state: dict, path: Path) -> None:
    """Write it atomically. Raises RunError with the reason if that fails; the checkpoints before it stay."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    try:
        write_atomically(buffer.getbuffer(), path)
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror
        raise RunError(f"{path} could not be written: {reason}. The checkpoints before it are intact") from error


def read_checkpoint(path: Path) -> dict:
    """The checkpoint in a file. Raises ValueError with the reason if it is damaged or not one of this module's."""
    try:
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():  # compares checksums: torch.load would not notice a flipped bit
                raise ValueError(f"{damaged} in it is damaged")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # whatever a damaged or foreign file makes zipfile, torch or pickle say
        raise ValueError(f"not readable: {str(error).splitlines()[0]:.120}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError("not a checkpoint of fmlib.train")
    if step_of(path) != state["step"]:
        raise ValueError(f"it holds step {state['step']}")
    return state


def step_of(path: Path) -> int | None:
    match = re.fullmatch(r"step_(\d{6,})\.pt", path.name)
    return int(match[1]) if match else None


class Checkpoints:
    """The folder of a run. Reads what is there; `latest` is the newest good checkpoint, or None.

    config: the keys and values of the run; world: its processes; say: prints a line. Files that cannot be used stay
    where they are, and are moved aside if the run comes to write the same name.
    Raises RunError if the folder belongs to another run.
    """

    def __init__(self, config: dict, world: int, say: Callable[[str], None]):
        self.folder, self.latest, self.own, self.refused = Path(config["out"]), None, [], []
        for path in sorted(filter(step_of, self.folder.glob("step_*.pt")), key=step_of):
            try:
                state = read_checkpoint(path)
            except ValueError as error:
                say(f"{path} is not used: {error}")
                self.refused.append(path)
                continue
            theirs = state["config"]
            differing = [k for k in config if k not in MAY_DIFFER and theirs.get(k, "nothing") != config[k]]
            if differing:
                listed = "; ".join(f"{k} = {theirs.get(k)!r} there and {config[k]!r} here" for k in differing)
                raise RunError(
                    f"out = {config['out']!r} holds checkpoints of another run: {listed}. Choose another out"
                )
            if state["world"] != world:
                raise RunError(
                    f"{path} was written by {state['world']} processes, got {world} now: each process "
                    "continues with its own random numbers, so start the same number, or choose another out"
                )
            self.own.append(path)
            self.latest = state

    def save(self, state: dict) -> None:
        """Write a checkpoint, then delete this run's own beyond the newest KEEP."""
        path = self.folder / f"step_{state['step']:06d}.pt"
        if path in self.refused:
            set_aside(path)
        write_checkpoint(state, path)
        self.own.append(path)
        while len(self.own) > KEEP:
            self.own.pop(0).unlink(missing_ok=True)
