"""Couplings: which noise is paired with which data. The path between them stays the same line.

Independent pairs give 1-rectified flow (I-CFM). Pairs from minibatch optimal transport give OT-CFM (Tong et al. 2023,
arXiv 2302.00482, algorithm 3). Pairs that a flow itself made give reflow (Liu et al. 2022, arXiv 2209.03003).
"""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from fmlib.batches import Pairs
from fmlib.checks import check_finite, check_int, check_pair
from fmlib.samplers import rk4_sampler


def minibatch_ot(x0: Tensor, x1: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Re-pair a batch so that the sum of |x_1 - x_0|^2 is smallest: (x0 in another order, x1).

    x0, x1: [B, ...] of the same shape, finite. Exact, by scipy's assignment solver: B^3 in the worst case. The pairing
    is optimal within the batch only; as a plan between the distributions it is biased, less so for larger batches.
    label: classes [B] of x1. With it only rows of the same class change partners, so that each class keeps noise from
    all of N(0, I). Without it every class ends up with its own part of the noise, and a model that is asked for one
    class starts from noise that it was never trained on. The data keep their order: labels stay with them. For
    conditions without classes, a vector perhaps, that bias remains: nothing here removes it.
    """
    check_pair(x0, x1)
    order = torch.arange(len(x0), device="cpu")
    if label is None:
        groups = [order.clone()]
    else:
        if not isinstance(label, Tensor) or label.shape != x1.shape[:1]:
            got = list(label.shape) if isinstance(label, Tensor) else type(label).__name__
            raise ValueError(f"label must be a tensor of shape [{len(x1)}], got {got}")
        if label.is_floating_point() or label.is_complex():
            raise TypeError(f"label must hold integers, got {label.dtype}: no two rows would be of one class")
        label = label.cpu()
        groups = [(label == c).nonzero().flatten() for c in label.unique()]
    # On the CPU first: the device may have no double precision.
    flat0, flat1 = (x.detach().cpu().flatten(1).double() for x in (x0, x1))
    for name, x in (("x0", flat0), ("x1", flat1)):
        check_finite(name, x)
    for rows in groups:
        cost = torch.cdist(flat1[rows], flat0[rows]).square()
        _, partner = linear_sum_assignment(cost.numpy())
        order[rows] = rows[partner]
    return x0[order.to(x0.device)], x1


def reflow_pairs(model, x0: Tensor, steps: int = 50, sampler=rk4_sampler, **conditions) -> Pairs:
    """Pairs (x_0, x_1) in which x_1 is where the flow of `model` carries x_0. Liu et al. 2022, algorithm 1.

    model: model(t, x, **conditions) -> velocity; x0: noise [B, ...]; sampler(model, x0, steps=steps, **conditions)
    solves the ODE. To train on conditional pairs: `PairBatches(*pairs, **conditions)`.
    """
    return Pairs(x0, sampler(model, x0, steps=check_int("steps", steps), **conditions))
