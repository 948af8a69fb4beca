"""The lab: the page computes the closed forms itself, so that everything can be dragged before a kernel has started."""

from collections.abc import Mapping, Sequence

import anywidget
import numpy as np
import torch
import traitlets
from IPython.display import Image, display
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from fmlib import paths, samplers
from fmlib.checks import check_choice, check_int, check_number
from fmlib.gaussians import GaussianMixture
from fmlib.page import plots
from fmlib.page.alive import family
from fmlib.page.frames import density_frames, field_frames
from fmlib.page.scripts import script
from fmlib.paths import FlowPath

PATHS = {
    "rectified_flow": paths.rectified_flow_path, "vp_cosine": paths.vp_cosine_path,
    "vp_linear": paths.vp_linear_path, "ve": paths.ve_path,
}  # fmt: skip
SOLVERS = ("euler", "midpoint", "heun", "rk4", "ddim")
PREDICTED = ("velocity", "epsilon", "x1", "score", "v_diff")
AT_PROBE = ("probe", "quantities", "stages", "jump", "guidance")
LAYERS = (
    "density", "tilted", "field", "classes", "pairs", "coupled", "trajectories", "ticks", "particles", "box", *AT_PROBE,
)  # fmt: skip
IN_THE_PLANE = ("draw", "presets")
CONTROLS = (
    "t", "points", "steps", "solver", "shift", "path", "noise", "correction", "condition", "guidance_scale", "added",
    "strength", "until", "predicted", "error", "ghost", "mixture", "weights", "launch", "match", *IN_THE_PLANE,
)  # fmt: skip
IN_A_ROW = {
    "layers": ("density", "field", "trajectories", "particles"),
    "controls": (
        "t", "points", "match", "condition", "guidance_scale", "added", "strength", "mixture", "weights", "presets",
    ),
}  # fmt: skip
ADDED = ("none", "turned score", "rotation", "constant drift", "score")
RANGES = {
    "t": (0, 1),
    "shift": (0.1, 10),
    "noise": (0, 10),
    "guidance_scale": (-10, 20),
    "strength": (-10, 10),
    "until": (0, 1),
    "error": (0, 1),
}
COUNTS = {"steps": (1, 200), "points": (0, 1000)}

STILL_WIDTH = 519  # by which the page knows it: no other picture has just this one
STILL_DPI = 90  # it is seen only where no lab lives, and travels with every notebook
STATE = {
    "mixture", "points", "matched", "t", "path", "steps", "solver", "shift", "noise", "corrected", "condition",
    "guidance_scale", "added", "strength", "predicted", "error", "probe", "until", "box", "launched", "layers", "ghost",
}  # fmt: skip


class FlowLab(anywidget.AnyWidget):
    """A mixture of Gaussians and its flow, computed in the page while a hand drags data, time, solver or a probe.

    mixture:  a `GaussianMixture` of at most 2,000 components: the data. In two dimensions the lab shows the plane at
              time t, in one all times at once, t to the right and x upwards.
    layers:   what is drawn: "density" p_t, "field", "pairs" of noise and data with the curve between them, "coupled"
              ones, each noise point with the end of its trajectory,
              "trajectories" (the solver's in green, exact ones behind) with the solver's "ticks", "particles"; a "box"
              with what flows through its walls; with a class "classes", the fields with it and without, and "tilted",
              the density p(x | c)^s p(x)^(1 - s), whose width at t = 1 is said beside that of the particles. At the
              probe: "probe", the pairs that pass there with their velocities; "quantities", x_1, x_0, u, score and
              diffusion's v, each in a disc as large as its error if that of `predicted` is `error`; "stages", k1 to k4
              of one step; "jump", the flow map to the time `until`; "guidance", the velocities without the class, with
              it, and guided, on the line through the first two.
    controls: what can be changed: "t", "points" (the mixture itself or so many points drawn from it), "steps",
              "solver" (what each makes of the same number of evaluations is then said with the layer "trajectories",
              where it is quickly found), "shift" (of the time grid), "path", "noise" (of the SDE dx = (u + noise g^2 /
              2 score) dt + sqrt(noise) g dW, see `sde_sampler`), "correction" (a button that forgets its score),
              "condition" and "guidance_scale", "added" and "strength" (u_t + strength times another field), "until",
              "predicted" and "error" (of the quantities), "ghost" (the present setting stays behind as a shadow),
              "mixture" (drag, widen, add and remove components), "weights" (a handle for each), "launch" (a click
              starts a trajectory); in the plane also "draw" (strokes become small Gaussians) and "presets".
    row:      two to four names of paths: several planes side by side, one for each path, with the same mixture, noise
              and t, which is the first one's clock. Positions are x_t / sqrt(alpha_t^2 + sigma_t^2), as VE lives at 50
              times the scale; the solver is a fixed fine one. The control "match" lets every path stand at the time
              that has the first one's signal-to-noise ratio alpha^2 / sigma^2, or at its nearest end: where the whole
              range of ratios is shared, all pictures are then the same (Kingma et al. 2021, arXiv 2107.00630).
    tour:     stops, each a dict with a "caption" and any of the traits below. The lab opens on the first one; what is
              given as a trait of its own comes before it.
    alt:      what the lab shows, in words.
    limits:   (left, right, bottom, top); None: around data and noise.

    Traits, in step with the page: they hear of a movement when it ends, and setting one moves the page. mixture;
    points, 0 for the mixture itself, or the number of points, drawn once in the page, that are the data in its place
    (all classes together: `condition` rests); t, path (of a row its first one), matched (of a row), steps, solver,
    shift, noise, corrected, guidance_scale, condition (the components of the class, [] for none), added and strength,
    predicted ("velocity", "epsilon", "x1", "score" or "v_diff") and its error (0 to 1), probe ([x, y] or None), until,
    box ([left, right, bottom, top] or None), ghost (a dict of traits that another setting has, or None), launched and
    layers. Raises TypeError, ValueError or traitlets.TraitError that name what does not fit.
    """

    _esm = script("lab")
    _meta = traitlets.Dict().tag(sync=True)
    mixture = traitlets.Any().tag(
        sync=True,
        to_json=lambda value, _: as_json(value),
        from_json=lambda value, _: mixture_from_json(value),
    )
    points = traitlets.Int(0).tag(sync=True)
    matched = traitlets.Bool(False).tag(sync=True)
    t = traitlets.CFloat(0.5).tag(sync=True)
    path = traitlets.Enum(list(PATHS), "rectified_flow").tag(sync=True)
    steps = traitlets.Int(8).tag(sync=True)
    solver = traitlets.Enum(list(SOLVERS), "euler").tag(sync=True)
    shift = traitlets.CFloat(1.0).tag(sync=True)
    noise = traitlets.CFloat(0.0).tag(sync=True)
    corrected = traitlets.Bool(True).tag(sync=True)
    condition = traitlets.List(traitlets.Int(min=0)).tag(sync=True)
    guidance_scale = traitlets.CFloat(1.0).tag(sync=True)
    added = traitlets.Enum(ADDED, "none").tag(sync=True)
    strength = traitlets.CFloat(0.0).tag(sync=True)
    until = traitlets.CFloat(1.0).tag(sync=True)
    predicted = traitlets.Enum(PREDICTED, "velocity").tag(sync=True)
    error = traitlets.CFloat(0.0).tag(sync=True)
    box = traitlets.List(traitlets.CFloat(), allow_none=True, default_value=None).tag(sync=True)
    ghost = traitlets.Dict(allow_none=True, default_value=None).tag(
        sync=True, to_json=lambda value, _: value and {k: _plain(v) for k, v in value.items()}
    )
    probe = traitlets.List(traitlets.CFloat(), allow_none=True, default_value=None).tag(sync=True)
    launched = traitlets.List().tag(sync=True)
    layers = traitlets.List(traitlets.Enum(LAYERS)).tag(sync=True)

    def __init__(
        self,
        mixture: GaussianMixture,
        alt: str,
        *,
        layers: Sequence[str] = ("density", "field", "particles"),
        controls: Sequence[str] = ("t", "mixture"),
        tour: Sequence[Mapping] = (),
        row: Sequence[str] = (),
        limits: tuple[float, float, float, float] | None = None,
        particles: int = 500,
        trajectories: int = 40,
        pairs: int = 40,
        **state,
    ):
        if not alt.strip():
            raise ValueError("alt must describe the lab in words, got an empty string")
        for name in controls:
            check_choice("controls", name, CONTROLS)
            if name in IN_THE_PLANE and _checked(mixture).dim == 1:
                raise ValueError(f"controls must not hold {name} for data in one dimension")
        row = list(row)
        if row:
            _check_row(row, mixture, layers, controls)
        elif "match" in controls:
            raise ValueError("controls must not hold match without a row of paths")
        counts = {"particles": particles, "trajectories": trajectories, "pairs": pairs}
        for name, count in counts.items():
            check_int(name, count)
        if trajectories > particles:
            raise ValueError(f"trajectories must be at most particles, {particles}, got {trajectories}")
        tour = [_stop(i, stop) for i, stop in enumerate(tour)]
        limits = [check_number("limits", v) for v in (limits or around(_checked(mixture)))]
        self._alt, self._limits, self._row = alt, tuple(limits), row
        begin = {"probe": [0.5] * mixture.dim} if set(layers) & set(AT_PROBE) else {}
        if "box" in layers:
            begin["box"] = [-0.8, 0.8] * mixture.dim
        if tour:  # its first caption is true on opening
            begin |= {name: value for name, value in tour[0].items() if name not in ("caption", "mixture")}
        if row:
            begin["path"] = row[0]
        with family(type(self).__name__, alt) as model_id:
            super().__init__(
                model_id=model_id,
                _meta={
                    "alt": alt, "name": model_id, "controls": list(controls), "tour": tour, "limits": limits,
                    "counts": counts, "still": STILL_WIDTH, "row": row,
                },
                mixture=mixture,
                **{"layers": list(layers)} | begin | state,
            )  # fmt: skip

    @traitlets.validate("mixture")
    def _check_mixture(self, proposal):
        return _checked(proposal["value"])

    @traitlets.validate(*RANGES)
    def _check_range(self, proposal):
        return check_number(name := proposal["trait"].name, proposal["value"], *RANGES[name])

    @traitlets.validate(*COUNTS)
    def _check_count(self, proposal):
        low, high = COUNTS[name := proposal["trait"].name]
        if not low <= proposal["value"] <= high:
            raise traitlets.TraitError(f"{name} must be a whole number from {low} to {high}, got {proposal['value']}")
        return proposal["value"]

    @traitlets.validate("path")
    def _check_path(self, proposal):
        if self._row and proposal["value"] != self._row[0]:
            raise ValueError(f"path must be the first of the row, {self._row[0]}, got {proposal['value']}")
        return proposal["value"]

    @traitlets.validate("probe")
    def _check_probe(self, proposal):
        if proposal["value"] is not None and len(proposal["value"]) not in (1, 2):
            raise traitlets.TraitError(f"probe must be one or two numbers or None, got {proposal['value']}")
        return proposal["value"]

    @traitlets.validate("box")
    def _check_box(self, proposal):
        box = proposal["value"]
        if box is not None and (
            len(box) not in (2, 4) or any(a >= b for a, b in zip(box[::2], box[1::2], strict=True))
        ):
            raise traitlets.TraitError(f"box must be [low, high] of each coordinate or None, got {box}")
        return box

    @traitlets.validate("ghost")
    def _check_ghost(self, proposal):
        return proposal["value"] and _known("ghost", proposal["value"], STATE - {"ghost"})

    @property
    def flow_path(self) -> FlowPath:
        """The path that is chosen, for the functions of fmlib."""
        return PATHS[self.path]()

    def still(self) -> Figure:
        """The lab as a printed page: density and field with a few exact trajectories; in one dimension over all t."""
        if self._row:
            fig, axes = plots.panels(len(self._row), 5.2 / len(self._row), width=5.2)
            for ax, name in zip(axes, self._row, strict=True):
                self._still_in(ax, _normalised(PATHS[name]()))
                ax.set_title(name.replace("_", " "), fontsize=8)
            return fig
        fig, (ax,) = plots.panels(1, 4.2 if self.mixture.dim == 2 else 3.4, width=5.2)
        self._still_in(ax, self.flow_path)
        return fig

    def _still_in(self, ax, path: FlowPath) -> None:
        dim = self.mixture.dim
        x0 = path.sample_prior(40, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        u = lambda t, x: self.mixture.velocity(path, t, x)  # noqa: E731
        states = samplers.rk4_sampler(
            u, x0, steps=40, t_end=self.t or 1e-6 if dim == 2 else 1.0, return_trajectory=True
        )
        (self._still_plane if dim == 2 else self._still_line)(ax, path, u)
        across = states[:, :, 0] if dim == 2 else torch.linspace(0, 1, 41)[:, None].expand(-1, 40)
        ax.plot(across, states[:, :, -1], color=plots.COLORS["exact"], linewidth=0.7, alpha=0.6)
        if dim == 2:
            plots.cloud(ax, states[-1], "exact", size=6)
        plots.bare(ax, self._limits)
        ax.set_aspect("equal" if dim == 2 else "auto")

    def _still_plane(self, ax, path: FlowPath, u) -> None:
        limits = self._limits
        shade = density_frames(lambda t, x: self.mixture.log_prob(path, t, x), limits, [self.t])[0]
        ax.imshow(shade.sqrt().numpy(), extent=limits, origin="lower", cmap="Greys", vmin=0, alpha=0.45)
        arrows = field_frames(u, limits, [self.t], 14)[0].numpy()
        length = np.sqrt(np.linalg.norm(arrows, axis=-1, keepdims=True)).clip(1e-9)
        x, y = (np.linspace(*ends, 29)[1::2] for ends in (limits[:2], limits[2:]))
        ax.quiver(x, y, *np.moveaxis(arrows / length, -1, 0), color=plots.COLORS["path"], width=0.005, pivot="mid")

    def _still_line(self, ax, path: FlowPath, u) -> None:
        low, high = self._limits[2:]
        x = torch.linspace(low, high, 72, dtype=torch.float64)[:, None]
        shade = torch.stack([self.mixture.log_prob(path, t, x).exp() for t in torch.linspace(0, 1, 64).tolist()], 1)
        shade = (shade / shade.max(0).values).sqrt().numpy()
        ax.imshow(shade, extent=(0, 1, low, high), origin="lower", cmap="Greys", vmin=0, alpha=0.45, aspect="auto")
        ax.axvline(self.t, color=plots.COLORS["path"], linewidth=1)

    def _ipython_display_(self) -> None:
        """Two outputs, a still picture and the lab. The lab hides the picture when it is there.

        In one output the picture would be lost: where a notebook stores a widget's state, readers such as GitHub's
        leave out what stands beside its view.
        """
        fig = self.still()
        display(Image(plots.png(fig, dpi=STILL_DPI), format="png", alt=self._alt, width=STILL_WIDTH))
        plt.close(fig)
        bundle = self._repr_mimebundle_()
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        display({**data, "text/plain": self._alt}, metadata=metadata, raw=True)


def as_json(mixture: GaussianMixture) -> dict:
    """A mixture as the page takes it."""
    return {name: getattr(mixture, name).double().tolist() for name in ("means", "stds", "weights")}


def mixture_from_json(value: dict) -> GaussianMixture:
    """Back, in double precision. Raises ValueError for what is no mixture."""
    if not isinstance(value, dict) or value.keys() != {"means", "stds", "weights"}:
        raise ValueError(f"mixture must have means, stds and weights, got {value!s:.80}")
    return GaussianMixture(*(torch.tensor(value[name], dtype=torch.float64) for name in ("means", "stds", "weights")))


def around(mixture: GaussianMixture) -> tuple[float, float, float, float]:
    """Limits that show the data and the noise N(0, I), three standard deviations wide; in one dimension over t."""
    low = torch.minimum((mixture.means - 3 * mixture.stds[:, None]).min(0).values, torch.tensor(-2.6))
    high = torch.maximum((mixture.means + 3 * mixture.stds[:, None]).max(0).values, torch.tensor(2.6))
    if mixture.dim == 1:  # time across
        return -0.06, 1.06, low.item(), high.item()
    (left, bottom), (right, top) = low.tolist(), high.tolist()
    return left, right, bottom, top


def _checked(mixture) -> GaussianMixture:
    if not isinstance(mixture, GaussianMixture):
        raise TypeError(f"mixture must be a GaussianMixture, got {type(mixture).__name__}")
    if mixture.dim > 2 or len(mixture.means) > 2000:
        raise ValueError(
            f"mixture must be at most 2000 components in 1 or 2 dimensions, got {list(mixture.means.shape)}"
        )
    return mixture


def _check_row(row: list[str], mixture, layers: Sequence[str], controls: Sequence[str]) -> None:
    for name in row:
        check_choice("row", name, PATHS)
    if not 2 <= len(set(row)) == len(row):
        raise ValueError(f"row must be two to four different paths, got {row}")
    if _checked(mixture).dim == 1:
        raise ValueError("row must be empty for data in one dimension")
    for name, given in {"layers": layers, "controls": controls}.items():
        for one in given:
            check_choice(f"{name} of a row", one, IN_A_ROW[name])


def _normalised(path: FlowPath) -> FlowPath:
    """The path of x_t / sqrt(alpha_t^2 + sigma_t^2): a variance preserving one with the same signal-to-noise ratio."""
    alpha = lambda t: path.alpha(t) / torch.hypot(path.alpha(t), path.sigma(t))  # noqa: E731
    sigma = lambda t: path.sigma(t) / torch.hypot(path.alpha(t), path.sigma(t))  # noqa: E731

    def d_alpha(t):
        at = path.at(t)
        return (at.d_alpha * at.sigma**2 - at.alpha * at.half_d_sigma_sq) / torch.hypot(at.alpha, at.sigma) ** 3

    half = lambda t: -alpha(t) * d_alpha(t)  # noqa: E731, of alpha^2 + sigma^2 = 1
    return FlowPath(path.name, alpha, sigma, d_alpha, lambda t: half(t) / sigma(t), half)


def _plain(value):
    return as_json(value) if isinstance(value, GaussianMixture) else value


def _known(name: str, part: Mapping, known: set[str]) -> dict:
    if not isinstance(part, Mapping) or part.keys() - known:
        raise ValueError(f"{name} must be a dict with any of {', '.join(sorted(known))}, got {part!s:.100}")
    return dict(part)


def _stop(i: int, stop: Mapping) -> dict:
    if not isinstance(stop, Mapping) or not stop.get("caption"):
        raise ValueError(f"tour[{i}] must have a caption and any of {', '.join(sorted(STATE))}, got {stop!s:.100}")
    stop = _known(f"tour[{i}]", stop, STATE | {"caption"})
    return {name: _plain(value) for name, value in stop.items()}
