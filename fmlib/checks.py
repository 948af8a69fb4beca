"""Argument checks shared by every room: each error names the argument, what came and what was expected."""

import operator

import torch
from torch import Tensor


def check_int(name: str, value, minimum: int = 1) -> int:
    """Return `value` as an int. TypeError if it is not a whole number, ValueError if it is below `minimum`."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer of at least {minimum}, got {value!r} ({type(value).__name__})")
    value = operator.index(value)
    if value < minimum:
        raise ValueError(f"{name} must be an integer of at least {minimum}, got {value}")
    return value


def check_tensor(name: str, value) -> Tensor:
    """Return `value` if it is a floating-point tensor with a batch dimension, else raise TypeError or ValueError."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if not value.is_floating_point():
        raise TypeError(f"{name} must hold floating-point numbers, got {value.dtype}")
    if value.dim() == 0 or value.shape[0] == 0:
        raise ValueError(f"{name} must have shape [B, ...] with B >= 1, got {list(value.shape)}")
    return value


def check_pair(a: Tensor, b: Tensor, a_name: str = "x0", b_name: str = "x1") -> None:
    """Refuse two tensors that differ in shape, dtype or device."""
    check_tensor(a_name, a)
    check_tensor(b_name, b)
    for what, of, error in (
        ("shape", lambda x: list(x.shape), ValueError),
        ("device", lambda x: x.device, ValueError),
        ("dtype", lambda x: x.dtype, TypeError),
    ):
        if of(a) != of(b):
            raise error(f"{a_name} and {b_name} must have the same {what}, got {a_name} {of(a)} and {b_name} {of(b)}")


def check_samples(a: Tensor, b: Tensor) -> None:
    """Refuse two sample sets `a` and `b` that are not [N, d] and [M, d] with N, M >= 2."""
    for name, value in (("a", a), ("b", b)):
        check_tensor(name, value)
        if value.dim() != 2 or value.shape[0] < 2:
            raise ValueError(f"{name} must have shape [N, d] with N >= 2, got {list(value.shape)}")
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name} must be finite, got NaN or infinity in it")
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"a and b must have the same dimension, got a {list(a.shape)} and b {list(b.shape)}")


def check_t(t, x: Tensor) -> Tensor:
    """Return t as a tensor of shape [B] for a batch x of shape [B, ...].

    t may be a number, a 0-dimensional tensor, or a tensor of shape [B]; every value must lie in [0, 1].
    """
    if not isinstance(t, Tensor):
        if isinstance(t, bool) or not isinstance(t, (int, float)):
            raise TypeError(f"t must be a torch.Tensor or a number, got {type(t).__name__}")
        t = torch.tensor(t, dtype=x.dtype, device=x.device)
    if not t.is_floating_point():
        raise TypeError(f"t must hold floating-point numbers, got {t.dtype}")
    if t.device != x.device:
        raise ValueError(f"t must be on the device of x, got t on {t.device} and x on {x.device}")
    if t.shape not in ((), x.shape[:1]):
        raise ValueError(f"t must be a number or have shape [{x.shape[0]}] (one time a sample), got {list(t.shape)}")
    # A NaN fails both comparisons, so it is caught here as well.
    if not bool(((t >= 0) & (t <= 1)).all()):
        raise ValueError(f"t must lie in [0, 1], got values from {t.min().item():.6g} to {t.max().item():.6g}")
    return t.expand(x.shape[0])


def expand_t(t: Tensor, x: Tensor) -> Tensor:
    """Reshape t [B] to [B, 1, ..., 1] so that it multiplies x [B, ...]."""
    return t.reshape(-1, *([1] * (x.dim() - 1)))
