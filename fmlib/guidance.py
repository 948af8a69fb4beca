"""Classifier-free guidance: one network that knows the class and can forget it, and the field between the two.

Ho & Salimans 2022 (arXiv 2207.12598). Their weight w counts what is added: guidance_scale = 1 + w, so 1 is no
guidance here and 0 is no guidance there.
"""

import torch
from torch import Tensor

from fmlib.checks import check_int, check_label, check_null, check_number, check_t, check_tensor, check_velocity


def drop_labels(label, probability: float, null_label):
    """Replace the condition of a sample by "no condition" with this probability: a copy of label.

    label:      classes [B], or any tensor [B, ...]: vectors, tokens, a mask; or a dict of them, which a sample then
                keeps or loses together.
    null_label: what "no condition" is: a number, or a tensor that broadcasts to label[0]; for a dict one for each,
                where None says that this one is never dropped.
    Training on the result teaches one network both fields, v(t, x, c) and v(t, x): Ho & Salimans 2022, algorithm 1.
    Raises TypeError or ValueError that names what does not fit.
    """
    together = isinstance(label, dict)
    labels = label if together else {"label": label}
    if together and not (isinstance(null_label, dict) and null_label.keys() == label.keys()):
        got = sorted(null_label) if isinstance(null_label, dict) else null_label
        raise ValueError(f"null_label must be a dict with the keys of label, {sorted(label)}, got {got}")
    nulls = null_label if together else {"label": null_label}
    for name, c in labels.items():
        if not isinstance(c, Tensor) or c.dim() == 0:
            got = f"{c.dtype} {list(c.shape)}" if isinstance(c, Tensor) else type(c).__name__
            raise TypeError(f"{name} must be a tensor of shape [B, ...], got {got}")
    if len({len(c) for c in labels.values()}) != 1:
        raise ValueError(f"label must have one number of rows, got { ({k: len(c) for k, c in labels.items()}) }")
    first = next(iter(labels.values()))
    forget = torch.rand(len(first), device=first.device) < check_number("probability", probability, 0, 1)
    dropped = {}
    for name, c in labels.items():
        if together and nulls[name] is None:
            dropped[name] = c.clone()
            continue
        none = check_null(f"null_label of {name}" if together else "null_label", nulls[name], c)
        dropped[name] = torch.where(forget.to(c.device).reshape(-1, *([1] * (c.dim() - 1))), none, c)
    return dropped if together else dropped["label"]


def guided(
    model,
    label,
    guidance_scale: float,
    *,
    interval: tuple[float, float] = (0.0, 1.0),
    null_label: int | None = None,
):
    """The guided field v_none + s (v_c - v_none) as an ordinary model(t, x), for every sampler.

    model:          model(t, x, label), such as a `VectorFieldMLP` with num_classes, trained with label_dropout.
    label:          the classes c, integers [B] or one number.
    guidance_scale: s. 1 is the conditional field, 0 the unconditional one, above 1 extrapolates. Finite.
    interval:       guide where t lies in it; elsewhere the conditional field alone is used (Kynkaanniemi et al. 2024,
                    arXiv 2404.07724).
    null_label:     the label for "no class"; None takes model.num_classes.

    Both fields come from one call with a batch twice as long, which is how production code does it; where only one of
    them is needed, only that one is computed. Raises TypeError or ValueError for arguments that do not fit, and at
    the first call for labels outside the classes.
    """
    if null_label is None:
        null_label = getattr(model, "num_classes", None)
        if null_label is None:
            raise ValueError("null_label must be given for a model without num_classes, got None")
    null_label = check_int("null_label", null_label, minimum=0)
    scale = check_number("guidance_scale", guidance_scale)
    try:
        start, end = interval
    except (TypeError, ValueError):
        raise ValueError(f"interval must be a pair (start, end) of times, got {interval!r}") from None
    start, end = check_number("interval start", start, 0, 1), check_number("interval end", end, 0, 1)
    if start > end:
        raise ValueError(f"interval must have start <= end, got ({start:g}, {end:g})")

    def field(t: Tensor, x: Tensor) -> Tensor:
        check_tensor("x", x)
        t, c = check_t(t, x), check_label(label, null_label, x)
        none = torch.full_like(c, null_label)
        inside = (t >= start) & (t <= end)
        if scale == 1 or not bool(inside.any()):
            return check_velocity(model(t, x, c), x)
        if scale == 0 and bool(inside.all()):
            return check_velocity(model(t, x, none), x)
        both = model(torch.cat([t, t]), torch.cat([x, x]), torch.cat([c, none]))
        v_c, v_none = check_velocity(both, torch.cat([x, x])).chunk(2)
        s = torch.where(inside, torch.full_like(t, scale), 1.0).reshape(-1, *([1] * (x.dim() - 1)))
        return v_none + s * (v_c - v_none)

    return field
