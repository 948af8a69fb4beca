"""Random arguments that several exercises share. Sizes differ from draw to draw, and no number in them is special."""

from collections.abc import Callable

import torch
from torch import Tensor

from fmlib.paths import FlowPath, vp_cosine_path, vp_linear_path


def sizes() -> tuple[int, int]:
    """Rows and columns, never equally many: a row that is used as a column must not fit by chance."""
    d = int(torch.randint(2, 5, ()))
    return d + int(torch.randint(1, 5, ())), d


def points(*shape: int) -> Tensor:
    """Standard normal numbers of this shape."""
    return torch.randn(*shape, dtype=torch.float64)


def times(n: int, low: float = 0.15, high: float = 0.85) -> Tensor:
    """[n] times, away from both ends."""
    return low + (high - low) * torch.rand(n, dtype=torch.float64)


def number(low: float, high: float) -> float:
    """Uniform between the two."""
    return low + (high - low) * torch.rand(()).item()


def toy_model() -> Callable:
    """A smooth random field (t, x) -> v that depends on everything it is given."""
    a, b = number(0.5, 1.5), number(0.3, 1.0)

    def model(t, x):
        if not isinstance(x, Tensor) or (torch.as_tensor(t).numel() not in (1, len(x))):
            got = [f"shape {list(v.shape)}" if isinstance(v, Tensor) else type(v).__name__ for v in (t, x)]
            raise TypeError(f"model(t, x) takes the time first, then a tensor of points; got {got[0]} and {got[1]}")
        t = torch.as_tensor(t, dtype=x.dtype)
        t = t.reshape(-1, 1) if t.dim() else t
        return torch.sin(a * x + 0.3) * (1 + b * t) + 0.2 * x.flip(-1) + t**2

    return model


def class_model() -> Callable:
    """The same with a class, (t, x, label) -> v; None as label is refused."""
    base = toy_model()

    def model(t, x, label):
        if label is None:
            raise TypeError("model(t, x, label) needs integers as label; the integer `null` means no class")
        label = torch.as_tensor(label)
        label = label.reshape(-1, 1) if label.dim() else label
        return base(t, x) + torch.cos(1.7 * label + x)

    return model


def vp_path() -> FlowPath:
    """One of two paths with alpha^2 + sigma^2 = 1, so that no answer fits that knows only the other."""
    return vp_linear_path() if torch.rand(()) < 0.5 else vp_cosine_path()


def batch(*more: Callable) -> tuple:
    """What each of `more` draws, then times [B] and two batches of points [B, d]."""
    n, d = sizes()
    return *(draw() for draw in more), times(n), points(n, d), points(n, d)


def walk(fewest: int, most: int) -> tuple:
    """A model, where to start [B, d], and a number of steps in range(fewest, most)."""
    n, d = sizes()
    return toy_model(), points(n, d), int(torch.randint(fewest, most, ()))
