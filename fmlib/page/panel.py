"""A player's panel: what it holds, how it is checked, and how it is packed into integers for the page."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fmlib.checks import check_int, check_number
from fmlib.page.plots import COLORS

FAR = 16  # coordinates are kept up to so many view widths away; beyond, they are off the page in any case


@dataclass
class Panel:
    """One picture of a player. Arrays are torch tensors or numpy arrays.

    particles: [F, P, 2], positions at the player's F times; None if by_steps is given.
    by_steps:  {N: [M, P', 2]}, one trajectory for each value N of the second slider, on M equally spaced times from
               the first to the last. With `particles` too, those are drawn behind as the exact solution, in black
               (white on dark), and these in green.
    density:   [G, H, W] >= 0 or [H, W], shade over the limits at G equally spaced times; row 0 is the bottom.
    field:     [G, R, C, 2], arrows on a grid of R x C cells over the limits at G equally spaced times; drawn with
               lengths that grow as the square root of the speed.
    title:     above the picture; also its name for screen readers.
    choice:    the panel is visible while this is the player's selection; None: always.
    trails:    how many particles show their history.
    color:     a role in `plots.COLORS`; None blends from noise to data with time.
    dot:       radius of a particle in pixels.
    """

    particles: Any = None
    by_steps: Mapping[int, Any] | None = None
    density: Any = None
    field: Any = None
    title: str = ""
    choice: str | None = None
    trails: int = 0
    color: str | None = None
    dot: float = 1.6


def finite_array(name: str, value, dims: int) -> np.ndarray:
    """The value as an array of finite numbers with so many dimensions."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    try:
        array = np.array(value, dtype=np.float64)  # a copy: a later change of the original must not reach the still
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} must be an array of numbers, got {type(value).__name__} ({error})") from error
    if array.ndim != dims:
        raise ValueError(f"{name} must have {dims} dimensions, got shape {list(array.shape)}")
    if not array.size:
        raise ValueError(f"{name} must not be empty, got shape {list(array.shape)}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity in it")
    return array


def checked_panel(panel: Panel, name: str, frames: int) -> Panel:
    """A copy of the panel with numpy arrays of checked shapes; by_steps is a dict, perhaps an empty one."""
    if not isinstance(panel, Panel):
        raise TypeError(f"{name} must be a Panel, got {type(panel).__name__}")
    if panel.particles is None and not panel.by_steps:
        raise ValueError(f"{name} must have particles or by_steps, got neither")
    particles = density = field = None
    if panel.particles is not None:
        particles = finite_array(f"{name}.particles", panel.particles, 3)
        if len(particles) != frames or particles.shape[1] < 1 or particles.shape[2] != 2:
            raise ValueError(
                f"{name}.particles must have shape [{frames}, P, 2] (one frame for each of ts), "
                f"got {list(particles.shape)}"
            )
    by_steps = {}
    for n, track in (panel.by_steps or {}).items():
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 0:
            raise ValueError(f"{name}.by_steps must have whole numbers >= 0 as keys, got {n!r}")
        by_steps[int(n)] = track = finite_array(f"{name}.by_steps[{n}]", track, 3)
        number = next(iter(by_steps.values())).shape[1]
        if len(track) < 2 or track.shape[1] != number or track.shape[2] != 2:
            raise ValueError(
                f"{name}.by_steps[{n}] must have shape [M, {number}, 2] with M >= 2 (the same particles for every "
                f"key), got {list(track.shape)}"
            )
    if panel.density is not None:
        dims = 2 if np.ndim(panel.density) == 2 else 3  # one shade for all times, or one for each
        density = finite_array(f"{name}.density", panel.density, dims)
        density = density[None] if dims == 2 else density
        if density.min() < 0:
            raise ValueError(f"{name}.density must be non-negative, got {density.min():.3g}")
    if panel.field is not None:
        field = finite_array(f"{name}.field", panel.field, 4)
        if field.shape[3] != 2:
            raise ValueError(f"{name}.field must have shape [G, R, C, 2], got {list(field.shape)}")
        field = _arrows(field)
    check_int(f"{name}.trails", panel.trails, minimum=0)
    check_number(f"{name}.dot", panel.dot, 0, open_low=True)
    for what in ("title", "choice"):
        text = getattr(panel, what)
        if not (isinstance(text, str) or (text is None and what == "choice")):
            raise TypeError(f"{name}.{what} must be a string, got {text!r}")
    if panel.color is not None and (not isinstance(panel.color, str) or panel.color not in COLORS):
        raise ValueError(f"{name}.color must be one of {', '.join(COLORS)}, got {panel.color!r}")
    return Panel(particles, by_steps, density, field, panel.title, panel.choice, panel.trails, panel.color, panel.dot)


def _arrows(field: np.ndarray) -> np.ndarray:
    """Arrows of length at most 1: the square root of the speed, relative to its 95th percentile.

    Speeds differ by orders of magnitude over t; drawn in proportion, all but a few arrows would vanish.
    """
    speed = np.linalg.norm(field, axis=-1, keepdims=True)
    length = np.sqrt(speed / max(float(np.quantile(speed, 0.95)), 1e-12)).clip(max=1)
    return field * length / np.maximum(speed, 1e-12)


def shared_steps(panels: list[Panel]) -> list[int]:
    """The keys of `by_steps`, which all panels that have it must have in common."""
    values = sorted({n for panel in panels for n in panel.by_steps})
    for i, panel in enumerate(panels):
        if panel.by_steps and sorted(panel.by_steps) != values:
            raise ValueError(
                f"panels[{i}].by_steps must have the keys of the other panels, {values}, got {sorted(panel.by_steps)}"
            )
    return values


def view_limits(limits, panels: list[Panel]) -> tuple[float, float, float, float]:
    """The given limits, checked; for None, those around all particles."""
    if limits is None:
        points = np.concatenate([a.reshape(-1, 2) for p in panels for a in _tracks(p)])
        low, high = points.min(axis=0), points.max(axis=0)
        # Points on a line or in one place still get a view that can be looked at.
        smallest = max(0.2 * (high - low).max(), 1e-6 * max(1.0, np.abs(points).max()))
        centre, half = (low + high) / 2, 0.55 * np.maximum(high - low, smallest)
        limits = (centre[0] - half[0], centre[0] + half[0], centre[1] - half[1], centre[1] + half[1])
    limits = tuple(finite_array("limits", limits, 1).tolist())
    if len(limits) != 4 or limits[0] >= limits[1] or limits[2] >= limits[3]:
        raise ValueError(f"limits must be (left, right, bottom, top) with left < right, bottom < top, got {limits}")
    shape = (limits[1] - limits[0]) / (limits[3] - limits[2])
    if not 0.1 <= shape <= 10:
        raise ValueError(f"limits must be at most 10 times as wide as high, or as high as wide, got {limits}")
    return limits


def _tracks(panel: Panel) -> list[np.ndarray]:
    return ([] if panel.particles is None else [panel.particles]) + list(panel.by_steps.values())


def pack(panels: list[Panel], limits) -> tuple[bytes, list[dict]]:
    """All arrays one after the other, and the panels' descriptions, which say where each begins."""
    data, metas = bytearray(), []
    for panel in panels:
        meta, arrays = _integers(panel, limits)
        for entry, array in arrays:
            data.extend(bytes(-len(data) % 8))  # the page reads 16-bit views, which need an even start
            entry["offset"] = len(data)
            data.extend(array.tobytes())
        metas.append({**meta, "limits": list(limits)})
    return bytes(data), metas


def _integers(panel: Panel, limits) -> tuple[dict, list[tuple[dict, np.ndarray]]]:
    """The panel's description and its arrays as integers: 16 bits a coordinate, 8 a shade or an arrow.

    A coordinate is origin + scale * integer. In a view of 400 pixels the rounding error is below 0.1 pixels even if
    particles are as far away as FAR allows.
    """
    size = np.array([limits[1] - limits[0], limits[3] - limits[2]])
    corner = np.array([limits[0], limits[2]])
    nearest, farthest = corner - FAR * size, corner + (1 + FAR) * size
    points = np.concatenate([a.reshape(-1, 2) for a in _tracks(panel)]).clip(nearest, farthest)
    origin = points.min(axis=0)
    scale = np.maximum(points.max(axis=0) - origin, 1e-12) / 65535

    arrays = []

    def entry(array: np.ndarray, **more) -> dict:
        description = {"shape": list(array.shape), **more}
        arrays.append((description, array))
        return description

    def coordinates(track: np.ndarray, **more) -> dict:
        integers = np.rint((track.clip(nearest, farthest) - origin) / scale)
        return entry(integers.clip(0, 65535).astype("<u2"), **more)

    meta = {
        "title": panel.title,
        "choice": panel.choice,
        "trails": panel.trails,
        "color": panel.color and COLORS[panel.color],
        "dot": panel.dot,
        "origin": origin.tolist(),
        "scale": scale.tolist(),
        "by_steps": [coordinates(track, steps=n) for n, track in sorted(panel.by_steps.items())],
        "particles": None if panel.particles is None else coordinates(panel.particles),
    }
    if panel.density is not None:
        # The square root shows thin regions too; each frame has its own scale, as p_t changes by orders of magnitude.
        shade = np.sqrt(panel.density / np.maximum(panel.density.max(axis=(1, 2), keepdims=True), 1e-300))
        meta["density"] = entry(np.rint(255 * shade).astype(np.uint8))
    if panel.field is not None:
        meta["field"] = entry(np.rint(127 * panel.field).astype(np.int8), longest=127)
    return meta, arrays
