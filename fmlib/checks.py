"""Argument checks shared by every room: each error names the argument, what came and what was expected."""

import math
import numbers
import operator

import numpy as np
import torch
from torch import Tensor


def check_int(name: str, value, minimum: int = 1) -> int:
    """Return `value` as an int. TypeError if it is not a whole number, ValueError if it is below `minimum`."""
    if isinstance(value, (bool, Tensor)) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer of at least {minimum}, got {value!r} ({type(value).__name__})")
    value = operator.index(value)
    if value < minimum:
        raise ValueError(f"{name} must be an integer of at least {minimum}, got {value}")
    return value


def check_number(name: str, value, low: float = -math.inf, high: float = math.inf, open_low: bool = False) -> float:
    """Return `value` as a float if it is a finite number in [low, high] (or above low, with open_low)."""
    expected = "a finite number"
    if low > -math.inf:
        expected += f" {'above' if open_low else 'of at least'} {low:g}"
    if high < math.inf:
        expected += f" and at most {high:g}"
    if isinstance(value, bool) or not isinstance(value, (numbers.Real, np.number)):
        raise TypeError(f"{name} must be {expected}, got {value!r} ({type(value).__name__})")
    value = float(value)
    if not (math.isfinite(value) and low <= value <= high and not (open_low and value == low)):
        raise ValueError(f"{name} must be {expected}, got {value}")
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


def check_finite(name: str, x: Tensor) -> Tensor:
    """Return `x` if it holds neither NaN nor infinity, else raise ValueError."""
    if not bool(torch.isfinite(x).all()):
        raise ValueError(f"{name} must be finite, got NaN or infinity in it")
    return x


def check_points(name: str, x, dim: int) -> Tensor:
    """Return `x` if it is a floating-point tensor [B, dim], else raise TypeError or ValueError."""
    check_tensor(name, x)
    if x.dim() != 2 or x.shape[1] != dim:
        raise ValueError(f"{name} must have shape [B, {dim}], got {list(x.shape)}")
    return x


def check_choice(name: str, value, choices, or_else: str = "") -> None:
    """ValueError unless `value` is one of the choices. or_else: what else there is, in words."""
    if not isinstance(value, str | int) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}{or_else}, got {value!r}")


def at_least_single(x: Tensor) -> torch.dtype:
    """The dtype to compute in for x: its own, or float32 where it has half precision."""
    return torch.promote_types(x.dtype, torch.float32)


def in_double(x: Tensor) -> Tensor:
    """x in double precision, without gradient: on its device where that has float64, on the CPU otherwise (MPS)."""
    return x.detach().double() if has_double(x.device) else x.detach().cpu().double()


def has_double(device) -> bool:
    """Whether the device can hold float64."""
    try:
        torch.zeros(1, dtype=torch.float64, device=device)
    except (TypeError, RuntimeError):
        return False
    return True


def check_pair(a: Tensor, b: Tensor, a_name: str = "x0", b_name: str = "x1", any_dtype: bool = False) -> None:
    """Refuse two tensors that differ in shape or device, or in dtype unless any_dtype."""
    check_tensor(a_name, a)
    check_tensor(b_name, b)
    for what, of, error in (
        ("shape", lambda x: list(x.shape), ValueError),
        ("device", lambda x: x.device, ValueError),
        ("dtype", lambda x: any_dtype or x.dtype, TypeError),
    ):
        if of(a) != of(b):
            raise error(f"{a_name} and {b_name} must have the same {what}, got {a_name} {of(a)} and {b_name} {of(b)}")


def check_samples(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return two sample sets by `in_double`; refuse what is not [N, d] and [M, d], N, M >= 2, and finite."""
    for name, value in (("a", a), ("b", b)):
        check_tensor(name, value)
        if value.dim() != 2 or value.shape[0] < 2:
            raise ValueError(f"{name} must have shape [N, d] with N >= 2, got {list(value.shape)}")
        check_finite(name, value)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"a and b must have the same dimension, got a {list(a.shape)} and b {list(b.shape)}")
    if a.device != b.device:
        raise ValueError(f"a and b must be on the same device, got a on {a.device} and b on {b.device}")
    return in_double(a), in_double(b)


def check_t(t, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return t as a tensor of shape [B], in `dtype` (that of x if None), for a batch x of shape [B, ...].

    t may be a number, a 0-dimensional tensor, or a tensor of shape [B]; every value must lie in [0, 1].
    """
    dtype = dtype or x.dtype
    if not isinstance(t, Tensor):
        if isinstance(t, bool) or not isinstance(t, (numbers.Real, np.number)):
            raise TypeError(f"t must be a torch.Tensor or a number, got {type(t).__name__}")
        t = torch.full((), float(t), dtype=dtype, device=x.device)
    if not t.is_floating_point():
        raise TypeError(f"t must hold floating-point numbers, got {t.dtype}")
    if t.device != x.device:
        raise ValueError(f"t must be on the device of x, got t on {t.device} and x on {x.device}")
    if t.shape not in ((), x.shape[:1]):
        raise ValueError(f"t must be a number or have shape [{x.shape[0]}] (one time a sample), got {list(t.shape)}")
    # A NaN fails both comparisons, so it is caught here as well.
    if not bool(((t >= 0) & (t <= 1)).all()):
        raise ValueError(f"t must lie in [0, 1], got values from {t.min().item():.6g} to {t.max().item():.6g}")
    return t.to(dtype).expand(x.shape[0])


def check_label(label, num_classes: int, x: Tensor) -> Tensor:
    """Return class labels as integers [B] for a batch x; each in 0 ... num_classes, the last for "no class"."""
    if not isinstance(label, Tensor):
        label = torch.full((), check_int("label", label, minimum=0), device=x.device)
    if label.is_floating_point() or label.is_complex() or label.dtype == torch.bool:
        raise TypeError(f"label must hold integers, got {label.dtype}")
    if label.device != x.device:
        raise ValueError(f"label must be on the device of x, got label on {label.device} and x on {x.device}")
    if label.shape not in ((), x.shape[:1]):
        raise ValueError(f"label must be a number or have shape [{x.shape[0]}], got {list(label.shape)}")
    if not bool(((label >= 0) & (label <= num_classes)).all()):
        raise ValueError(
            f"label must lie in 0 ... {num_classes - 1} (or {num_classes} for no class), "
            f"got values from {label.min().item()} to {label.max().item()}"
        )
    return label.long().expand(x.shape[0])


def check_null(name: str, null, value: Tensor) -> Tensor:
    """What "no condition" is, as a tensor like `value` [B, ...]: a number, or a tensor that broadcasts to `value`.

    An integer condition needs an integer of at least 0; a tensor must not lose its fraction when it is cast.
    """
    if not isinstance(null, Tensor):
        if value.dtype == torch.bool:
            if not isinstance(null, bool):
                raise TypeError(f"{name} must be True or False for a mask, got {null!r} ({type(null).__name__})")
        elif value.is_floating_point() or value.is_complex():
            null = check_number(name, null)
        else:
            null = check_int(name, null, minimum=0)
        return torch.full_like(value, null)
    if null.device != value.device:
        raise ValueError(f"{name} must be on the device of its condition, {value.device}, got {null.device}")
    if not torch.can_cast(null.dtype, value.dtype):
        raise TypeError(f"{name} must have the kind of numbers of its condition, {value.dtype}, got {null.dtype}")
    try:
        return null.to(value.dtype).expand(value.shape)
    except RuntimeError:
        raise ValueError(
            f"{name} must be a number or broadcast to its condition {list(value.shape)}, got {list(null.shape)}"
        ) from None


def check_velocity(v, x: Tensor) -> Tensor:
    """Return what model(t, x) gave, in the dtype of x, if it is a floating-point tensor of the same shape and device.

    Under `torch.autocast` a network answers in half precision, a network of float64 in double: both are cast.
    """
    if not isinstance(v, Tensor):
        raise TypeError(f"model(t, x) must return a torch.Tensor, got {type(v).__name__}")
    if v.shape != x.shape:
        raise ValueError(f"model(t, x) must return the shape of x, {list(x.shape)}, got {list(v.shape)}")
    if v.device != x.device:
        raise ValueError(f"model(t, x) must return a tensor on the device of x, {x.device}, got {v.device}")
    if not v.is_floating_point():
        raise TypeError(f"model(t, x) must return floating-point numbers, got {v.dtype}")
    return v.to(x.dtype)


def expand_t(t: Tensor, x: Tensor) -> Tensor:
    """Reshape t [B] to [B, 1, ..., 1] so that it multiplies x [B, ...]."""
    return t.reshape(-1, *([1] * (x.dim() - 1)))
