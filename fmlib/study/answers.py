"""How an answer is read and compared: tensors, arrays, numbers and lists alike, up to the rounding of float32."""

import math
import numbers
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass
class Trial:
    """One call: the arguments by name, what the learner returned, and what is right.

    steady: a second call with the same arguments gave the same. half: the answer came in half precision.
    """

    given: dict
    yours: list[Tensor]
    right: list[Tensor]
    steady: bool = True
    half: bool = False

    def close(self, i: int) -> bool:
        """Whether the i-th returned value is right."""
        return close(self.yours[i], self.right[i])


def copies(arguments: tuple) -> tuple:
    """The arguments anew: an attempt that changes its input in place must not change what others see."""
    return tuple(a.clone() if isinstance(a, Tensor) else a for a in arguments)


# Reading


def read(value, count: int) -> list[Tensor]:
    """The `count` returned values in double precision, apart from what the learner keeps.

    Raises TypeError or ValueError that says what came, to follow "Yours returned".
    """
    if count == 1:
        return [as_tensor(value)]
    if isinstance(value, (str, dict)) or not hasattr(value, "__len__"):
        raise TypeError(type(value).__name__)
    if isinstance(value, (Tensor, np.ndarray)) and len(value) != count:
        raise ValueError(f"one tensor of shape {list(value.shape)}")
    if len(value) != count:
        raise ValueError(f"{len(value)} values")
    return [as_tensor(v) for v in value]


def as_tensor(value) -> Tensor:
    """Tensors, arrays, numbers and lists of them as one tensor; a complex number, the root of -1, as nan."""
    if isinstance(value, (list, tuple)):
        parts = [as_tensor(v) for v in value]
        if len({p.shape for p in parts}) != 1:
            raise ValueError(f"{len(parts)} values of the shapes {', '.join(str(list(p.shape)) for p in parts)}")
        return torch.stack(parts)
    if not isinstance(value, (Tensor, np.ndarray, np.generic, numbers.Number)):
        raise TypeError(type(value).__name__)
    tensor = value if isinstance(value, Tensor) else torch.from_numpy(np.array(value, dtype=np.complex128))
    if tensor.is_complex():
        tensor = torch.where(tensor.imag.abs() < 1e-9, tensor.real, math.nan)
    return tensor.detach().cpu().to(torch.float64, copy=True)


def half_precision(value) -> bool:
    """Whether a returned value came with 16 bits a number."""
    values = value if isinstance(value, (list, tuple)) else [value]
    return any("float16" in str(getattr(v, "dtype", "")) for v in values)


def as_number(value: Tensor, right: Tensor) -> Tensor:
    """A shape such as [1] stands for a number; elsewhere shapes stay."""
    return value.reshape(()) if right.dim() == 0 and value.numel() == 1 else value


# Comparing


def close(a: Tensor, b: Tensor) -> bool:
    """Equal up to rounding, also if the learner worked in single precision."""
    return a.shape == b.shape and bool(agree(a, b).all())


def agree(a: Tensor, b: Tensor) -> Tensor:
    """`close`, number by number."""
    return (a - b).abs() <= 1e-4 * b.abs() + 1e-5 * max(1.0, float(b.abs().max()))


def nearest_factor(a: Tensor, b: Tensor) -> float:
    """The c for which c b comes nearest to a."""
    return float((a * b).sum() / b.square().sum()) if b.any() else 0.0
