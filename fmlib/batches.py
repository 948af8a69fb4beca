"""Batches: what a dataloader may yield, how it is read, and small dataloaders over functions and pairs."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fmlib.checks import check_int, check_pair, check_tensor
from fmlib.guidance import drop_labels


class Pairs(NamedTuple):
    """A batch of pairs for `train_flow_matching`: noise x0 and data x1, both [B, ...], paired by row.

    x0 may come from any source, not only N(0, I).
    """

    x0: Tensor
    x1: Tensor


class SampledBatches:
    """A dataloader over a function: each pass yields `total` fresh batches sample(batch), of shape [batch, ...].

    The function may also return tuples (x1, c1, ...) or dicts {"x1": ..., name: condition}, for conditional training:
    see `train_flow_matching`.
    """

    def __init__(self, sample: Callable, batch: int = 512, total: int = 1000):
        self.sample, self.batch, self.total = sample, check_int("batch", batch), check_int("total", total)

    def __iter__(self):
        for _ in range(self.total):
            yield self.sample(self.batch)

    def __len__(self) -> int:
        return self.total


class SampledPairs(SampledBatches):
    """A dataloader from one distribution to another: each pass yields `total` fresh, independent batches of pairs.

    sample_x0, sample_x1: functions n -> [n, ...], the source at t = 0 and the target at t = 1.
    """

    def __init__(self, sample_x0: Callable, sample_x1: Callable, batch: int = 256, total: int = 1000):
        super().__init__(lambda n: Pairs(sample_x0(n), sample_x1(n)), batch, total)


class PairBatches(SampledBatches):
    """A dataloader over fixed pairs: `total` random batches, drawn with replacement, each time it is started.

    conditions: by name, tensors with a row for each pair, for a model that is called as model(t, x, name=condition).
    """

    def __init__(self, x0: Tensor, x1: Tensor, batch: int = 256, total: int = 1000, **conditions: Tensor):
        check_pair(x0, x1)
        for name, c in conditions.items():
            if not isinstance(c, Tensor) or c.shape[:1] != x0.shape[:1]:
                got = list(c.shape) if isinstance(c, Tensor) else type(c).__name__
                raise ValueError(f"{name} must be a tensor of {len(x0)} rows, one for each pair, got {got}")

        def sample(n: int):
            i = torch.randint(len(x0), (n,), device=x0.device)
            pairs = Pairs(x0[i], x1[i])
            return {**pairs._asdict(), **{name: c[i] for name, c in conditions.items()}} if conditions else pairs

        super().__init__(sample, batch, total)


class Batch(NamedTuple):
    """What a dataloader gave: data x1 [B, ...], noise x0 or None, and conditions for model(t, x, *args, **named)."""

    x1: Tensor
    x0: Tensor | None = None
    args: tuple = ()
    named: dict[str, Any] = {}

    @classmethod
    def read(cls, given) -> "Batch":
        """From any of the forms that `train_flow_matching` lists. Raises TypeError or ValueError for others."""
        first, x0, args, named = given, None, (), {}
        if isinstance(given, Mapping):
            if "x1" not in given:
                raise ValueError(f"dataloader must yield dicts with the data as 'x1', got the keys {sorted(given)}")
            named = dict(given)
            first, x0 = named.pop("x1"), named.pop("x0", None)
        elif isinstance(given, (tuple, list)) and not isinstance(given, Pairs) and len(given):
            first, *args = given
        if isinstance(first, Pairs):
            x0, first = first
        batch = cls(first, x0, tuple(args), named)
        for name, x in (("x1", first), *([] if x0 is None else [("x0", x0)])):
            if not isinstance(x, Tensor):
                raise TypeError(f"dataloader must yield tensors {name} [B, ...], got {type(x).__name__}")
            check_tensor(f"{name} (from the dataloader)", x)
        for name, c in batch.conditions.items():
            if isinstance(c, Tensor) and c.dim() and len(c) != len(first):
                raise ValueError(
                    f"{name} (from the dataloader) must have {len(first)} rows, one a sample, got {len(c)}"
                )
        return batch

    def map(self, change: Callable) -> "Batch":
        """The same batch with each of its parts changed."""
        x0 = None if self.x0 is None else change(self.x0)
        return Batch(change(self.x1), x0, tuple(map(change, self.args)), {n: change(c) for n, c in self.named.items()})

    @property
    def conditions(self) -> dict[str, Any]:
        """All conditions by name; those without one are called c1, c2, ..."""
        return {**{f"c{i}": c for i, c in enumerate(self.args, start=1)}, **self.named}

    @property
    def label(self) -> Tensor | None:
        """The first condition, or the one called "label", if it holds integers [B]: classes."""
        c = self.args[0] if self.args else self.named.get("label")
        return c if is_label(c, self.x1) else None

    def field(self, model: Callable, dtype: torch.dtype) -> Callable:
        """model(t, x) with the conditions of this batch; all floating-point numbers in the dtype of the model."""

        def cast(x):
            return x.to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x

        args, named = tuple(map(cast, self.args)), {name: cast(c) for name, c in self.named.items()}
        return lambda t, x: model(cast(t), cast(x), *args, **named)

    def check_taken_by(self, network: nn.Module) -> None:
        """Refuse conditions that the network cannot be called with, instead of leaving them out: TypeError."""
        if not self.conditions:
            return
        try:
            signature = inspect.signature(network.forward)
        except (TypeError, ValueError):
            return
        try:
            signature.bind(None, self.x1, *self.args, **self.named)
        except TypeError as error:
            call = ", ".join(["t", "x", *(n if n not in self.named else f"{n}=..." for n in self.conditions)])
            raise TypeError(
                f"the batches of dataloader have conditions, so model must take model({call}), got {error}. "
                "To train without conditions, yield x1 alone"
            ) from None

    def coupled(self, coupling: Callable) -> "Batch":
        """Re-paired by coupling(x0, x1), or coupling(x0, x1, label) where there are classes."""
        x0 = torch.randn_like(self.x1) if self.x0 is None else self.x0
        x0, x1 = coupling(x0, self.x1, *(() if self.label is None else (self.label,)))
        if self.conditions and not torch.equal(x1, self.x1):
            raise ValueError("coupling must leave x1 in its order and re-order x0, because the labels belong to x1")
        return self._replace(x0=x0, x1=x1)

    def dropped(self, probability: float, nulls=None, num_classes: int | None = None) -> "Batch":
        """Without the conditions of some samples. nulls: `null_conditions` of `train_flow_matching`."""
        conditions = self.conditions
        if not conditions:
            raise ValueError("dataloader must yield (x1, label) when label_dropout is given, got no label")
        if nulls is None:
            if len(conditions) > 1 or not is_label(*conditions.values(), self.x1):
                raise ValueError(
                    f"null_conditions must be given for conditions other than one label [B], got {[*conditions]}"
                )
            nulls = dict.fromkeys(conditions, num_classes)
        elif not isinstance(nulls, Mapping):
            nulls = {f"c{i}": null for i, null in enumerate(nulls if isinstance(nulls, (tuple, list)) else (nulls,), 1)}
        if nulls.keys() != conditions.keys():
            raise ValueError(f"null_conditions must have one entry for each of {[*conditions]}, got {[*nulls]}")
        nulls = {n: c.to(self.x1.device) if isinstance(c, Tensor) else c for n, c in nulls.items() if c is not None}
        if not nulls:
            raise ValueError(f"null_conditions must say what is dropped, got None for all of {[*conditions]}")
        every = {**conditions, **drop_labels({n: conditions[n] for n in nulls}, probability, nulls)}
        args = tuple(every.pop(f"c{i}") for i in range(1, len(self.args) + 1))
        return self._replace(args=args, named=every)


def is_label(c, x1: Tensor) -> bool:
    """Whether c holds integers [B]: a class for each sample of x1 [B, ...]."""
    integers = isinstance(c, Tensor) and not (c.is_floating_point() or c.is_complex() or c.dtype == torch.bool)
    return integers and c.shape == x1.shape[:1]


def endless_batches(dataloader: Iterable, device=None, dtype: torch.dtype | None = None):
    """Yield each `Batch` of the dataloader for ever, on `device`; a dataloader that ends is started again.

    dtype: of all floating-point tensors that come out; None leaves it.
    Raises ValueError if the dataloader yields nothing, or is a generator that cannot be started again.
    """
    if isinstance(dataloader, Tensor) or not isinstance(dataloader, Iterable):
        raise TypeError(
            f"dataloader must be an iterable of batches x1 [B, ...], got {type(dataloader).__name__}; "
            "fmlib.SampledBatches makes one from a function"
        )

    def ready(x):
        if not isinstance(x, Tensor):
            return x
        # The dtype goes along with the move: the device may have no float64.
        return x.detach().to(device, dtype if x.is_floating_point() else None, non_blocking=True)

    seen = 0
    while True:
        before = seen
        for given in dataloader:
            seen += 1
            yield Batch.read(given).map(ready)
        if seen == 0:
            raise ValueError("dataloader is empty: it yielded no batch, expected batches x1 [B, ...]")
        if seen == before:
            raise ValueError(
                f"dataloader is exhausted after {seen} batches and cannot be started again (a generator?): "
                "pass an object with __iter__, such as a DataLoader or fmlib.SampledBatches"
            )
