"""A stand-in for a device such as Apple's MPS: it computes on the CPU, and refuses to hold float64.

    with without_float64() as device:
        x = torch.randn(8, 2, device=device)

Like a real device it refuses to mix its tensors with those of the CPU. It borrows the name of the device "meta".
"""

from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")


class OnDevice(torch.Tensor):
    """A tensor that says it is on DEVICE; `inner`, on the CPU, holds its numbers."""

    @staticmethod
    def __new__(cls, inner):
        if inner.dtype in (torch.float64, torch.complex128):
            raise TypeError("Cannot convert a tensor to float64: this device does not support it")
        kwargs = {"dtype": inner.dtype, "device": DEVICE, "requires_grad": inner.requires_grad}
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, strides=inner.stride(), **kwargs)

    def __init__(self, inner):
        self.inner = inner

    def __repr__(self):
        return f"OnDevice({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class _FromNumbers(TorchFunctionMode):
    """torch.tensor, torch.as_tensor and tolist go past the dispatcher: here they go by the CPU."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") not in (None, "cpu"):
            device = torch.device(kwargs.pop("device"))
            return func(*args, **kwargs).to(device)
        if func is torch.Tensor.tolist:
            return func(args[0].cpu())
        return func(*args, **kwargs)


def _run(func, args, kwargs):
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    here = [x for x in tensors if isinstance(x, OnDevice)]
    asked, name = kwargs.get("device"), func.overloadpacket.__name__
    on_device = bool(here) if asked is None else torch.device(asked) == DEVICE
    moves = name in ("_to_copy", "copy_")
    if not moves and "index" not in name and any(x.dim() for x in tensors if not isinstance(x, OnDevice)) and here:
        raise RuntimeError(f"Expected all tensors to be on the same device ({name})")
    if asked is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    # An operation in place gives back the tensor that it changed.
    wrappers = {id(x.inner): x for x in here}
    args, kwargs = tree_map(lambda x: x.inner if isinstance(x, OnDevice) else x, (args, kwargs))
    out = func(*args, **kwargs)
    if name == "copy_":
        return wrappers.get(id(out), out)
    wrap = lambda x: wrappers.get(id(x)) if id(x) in wrappers else OnDevice(x)
    return tree_map(lambda x: wrap(x) if on_device and isinstance(x, torch.Tensor) else x, out)


@contextmanager
def without_float64():
    with _Mode(), _FromNumbers():
        yield DEVICE
