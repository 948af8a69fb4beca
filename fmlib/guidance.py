"""Classifier-free guidance: one network that knows the class and can forget it, and the field between the two.

Ho & Salimans 2022 (arXiv 2207.12598). Their weight w counts what is added: guidance_scale = 1 + w, so 1 is no
guidance here and 0 is no guidance there.
"""

import torch
from torch import Tensor

from fmlib.checks import (
    at_least_single,
    check_int,
    check_label,
    check_null,
    check_number,
    check_t,
    check_tensor,
    check_velocity,
    expand_t,
)


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
    label=None,
    guidance_scale=None,
    *,
    interval: tuple[float, float] = (0.0, 1.0),
    null_label=None,
    conditions: dict | None = None,
    null_conditions: dict | None = None,
):
    """The guided field v_none + s (v_c - v_none) as an ordinary model(t, x), for every sampler.

    model:          model(t, x, label), such as a `VectorFieldMLP` with num_classes, trained with label_dropout; or
                    model(t, x, **conditions), or both.
    label:          the classes c, integers [B] or one number; or any tensor [B, ...] that the model takes.
    guidance_scale: s. 1 is the conditional field, 0 the unconditional one, above 1 extrapolates. Finite. A number, a
                    tensor [B] with one for each sample, or a schedule: a function of t [B] that gives either.
    interval:       guide where t lies in it; elsewhere the conditional field alone is used (Kynkaanniemi et al. 2024,
                    arXiv 2404.07724).
    null_label:     the label for "no class": a number or a tensor that broadcasts to label; None takes
                    model.num_classes. Another class in its place is a negative condition: the field moves away from it.
    conditions:     keyword conditions of the model, tensors [B, ...] by name.
    null_conditions: what takes their place in the second field, for each a number or a tensor that broadcasts to it;
                    None keeps the condition there as well (and may stand for what is not a tensor).

    Both fields come from one call with a batch twice as long, which is how production code does it; where only one of
    them is needed, only that one is computed. Raises TypeError or ValueError for arguments that do not fit, and at
    the first call for labels outside the classes of a model with num_classes.
    """
    num_classes, conditions, nulls = getattr(model, "num_classes", None), conditions or {}, null_conditions or {}
    if label is None and not conditions:
        raise TypeError("label or conditions must be given, got neither")
    if conditions.keys() != nulls.keys():
        raise ValueError(
            f"null_conditions must have the names of conditions, {sorted(conditions)} (None keeps one), "
            f"got {sorted(nulls)}"
        )
    if label is not None:
        null_label = num_classes if null_label is None else null_label
        if null_label is None:
            raise ValueError("null_label must be given for a model without num_classes, got None")
        if not isinstance(null_label, Tensor):
            check_null("null_label", null_label, label if isinstance(label, Tensor) else torch.zeros(1).long())
    if not callable(guidance_scale):
        _check_scale("guidance_scale", guidance_scale)
    try:
        start, end = interval
    except (TypeError, ValueError):
        raise ValueError(f"interval must be a pair (start, end) of times, got {interval!r}") from None
    start, end = check_number("interval start", start, 0, 1), check_number("interval end", end, 0, 1)
    if start > end:
        raise ValueError(f"interval must have start <= end, got ({start:g}, {end:g})")

    def field(t: Tensor, x: Tensor, **kept) -> Tensor:
        check_tensor("x", x)
        t = check_t(t, x, at_least_single(x))
        s = torch.where((t >= start) & (t <= end), _scale_at(guidance_scale, t), 1.0)
        # What the model gets beside t and x: pairs of what the two fields are given.
        labels = [] if label is None else [_pair("label", label, "null_label", null_label, x, num_classes)]
        named = {k: _pair(k, c, f"null_conditions[{k!r}]", nulls[k], x) for k, c in conditions.items()}
        if named.keys() & kept.keys():
            raise ValueError(f"conditions must be given once, got {sorted(named.keys() & kept.keys())} twice")
        named |= {k: (c, c) for k, c in kept.items()}

        def both(pair):
            rows = isinstance(pair[0], Tensor) and pair[0].shape[:1] == x.shape[:1]
            return torch.cat(pair) if rows else pair[0]

        def velocity(t, x, pick):
            arguments = [pick(pair) for pair in labels]
            return check_velocity(
                model(t.to(x.dtype), x, *arguments, **{k: pick(pair) for k, pair in named.items()}), x
            )

        all_conditional, all_unconditional = torch.stack([(s == 1).all(), (s == 0).all()]).tolist()
        if all_conditional:
            return velocity(t, x, lambda pair: pair[0])
        if all_unconditional:
            return velocity(t, x, lambda pair: pair[1])
        v_c, v_none = velocity(torch.cat([t, t]), torch.cat([x, x]), both).to(s.dtype).chunk(2)
        return (v_none + expand_t(s, x) * (v_c - v_none)).to(x.dtype)

    return field


def _pair(name: str, c, null_name: str, null, x: Tensor, num_classes: int | None = None) -> tuple:
    """A condition and what takes its place, both with a row for each sample of x."""
    if num_classes is not None:
        c = check_label(c, num_classes, x)
        return c, check_label(check_null(null_name, null, c), num_classes, x)
    if null is None:
        return c, c
    if not isinstance(c, Tensor):
        c = torch.full((), check_int(name, c, minimum=0), device=x.device)
    if c.device != x.device:
        raise ValueError(f"{name} must be on the device of x, got {name} on {c.device} and x on {x.device}")
    if c.dim() and len(c) != len(x):
        raise ValueError(f"{name} must be a number or have shape [{len(x)}, ...], got {list(c.shape)}")
    c = c if c.dim() else c.expand(len(x))
    return c, check_null(null_name, null, c)


def _check_scale(name: str, scale) -> None:
    if not isinstance(scale, Tensor):
        check_number(name, scale)
    elif scale.dim() > 1 or scale.is_complex() or scale.dtype == torch.bool:
        raise ValueError(f"{name} must be a number or numbers of shape [B], got {scale.dtype} {list(scale.shape)}")
    elif not bool(torch.isfinite(scale).all()):
        raise ValueError(f"{name} must be finite, got NaN or infinity in it")


def _scale_at(scale, t: Tensor) -> Tensor:
    """The scale of each sample, [B] as t."""
    name = "guidance_scale"
    if callable(scale):
        name, scale = "guidance_scale(t)", scale(t)
        _check_scale(name, scale)
    if not isinstance(scale, Tensor):
        return torch.full_like(t, scale)
    if scale.device != t.device:
        raise ValueError(f"{name} must be on the device of x, {t.device}, got {scale.device}")
    if scale.shape not in ((), t.shape):
        raise ValueError(f"{name} must be a number or have shape {list(t.shape)}, got {list(scale.shape)}")
    return scale.to(t.dtype).expand(t.shape)
