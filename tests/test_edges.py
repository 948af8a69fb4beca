"""A walk over every public function and class of the mathematics: in each dtype and mode it gives the same answer.

COLUMNS are the situations, each compared with float64 on the CPU. What a function is called with follows from the
names of its parameters (ARGUMENTS), and what is done with what it returns from its type (`follow`), so that a new
function is covered as it stands; if a name is not known, `test_every_public_name_is_on_the_walk` says which one.
Combinations that cannot work are in REFUSED, with the error that they must raise and the reason.
"""

import contextlib
import inspect
import types
import zlib
from dataclasses import dataclass

import pytest
import torch
from device_without_float64 import without_float64
from torch import Tensor, nn

import fmlib
from fmlib import (
    Convention,
    Estimate,
    FlowPath,
    GaussianMixture,
    rectified_flow_path,
    ve_path,
    vp_cosine_path,
    vp_linear_path,
)
from fmlib.engine import SmallDiT

PATHS = {make().name: make for make in (rectified_flow_path, vp_cosine_path, vp_linear_path, ve_path)}


@dataclass(frozen=True)
class Column:
    """A situation: the dtype and number of the samples, the mode, and how close to float64 the answer must be."""

    dtype: torch.dtype = torch.float32
    tolerance: float = 2e-4  # of the largest number in the answer
    batch: int = 6
    mode: object = contextlib.nullcontext
    device: str = "cpu"
    compiled: bool = False


COLUMNS = {
    "float32": Column(),
    "float64": Column(torch.float64, 0.0),
    "bfloat16": Column(torch.bfloat16, 0.04),
    "autocast": Column(tolerance=0.04, mode=lambda: torch.autocast("cpu", dtype=torch.bfloat16)),
    "inference_mode": Column(mode=torch.inference_mode),
    "batch_of_1": Column(batch=1),
    "no_float64": Column(mode=without_float64, device="meta"),
    "compiled": Column(compiled=True),
}


class Toy(nn.Module):
    """A model with weights, a class and nothing else; weights that bfloat16 holds exactly."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, t, x, label=None):
        h = torch.tanh(x) * (1 + t[:, None])
        h = h if label is None else h * (1 + label[:, None].to(x.dtype) / 4)
        return self.linear(h)  # last, so that autocast leaves a half behind


def as_it_is(net):
    return net


def numbers(name: str, *shape: int) -> Tensor:
    """Normal numbers that every dtype holds exactly; the same for the same name."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return torch.empty(shape, dtype=torch.float64).normal_(generator=generator).bfloat16().double()


class Situation:
    """The arguments of a call, by name, in the dtype, number and place of a column."""

    def __init__(self, column: Column, path: str, device):
        self.column, self.path, self.device, self.uses = column, PATHS[path](), device, False

    def here(self, x: Tensor) -> Tensor:
        """x in the dtype and on the device of the column; what is computed from it must follow both."""
        self.uses = True
        return self.place(x.to(self.column.dtype) if x.is_floating_point() else x.clone())

    def samples(self, name: str, d: int = 2) -> Tensor:
        return self.here(numbers(name, self.column.batch, d))

    def times(self) -> Tensor:
        return self.here(torch.linspace(0.25, 0.75, self.column.batch, dtype=torch.float64).bfloat16().double())

    def ready(self, function):
        """The function as the column calls it."""
        if not self.column.compiled or isinstance(function, type):
            return function
        torch._dynamo.reset()
        return torch.compile(function, backend="eager")

    def place(self, x: Tensor) -> Tensor:
        return x if self.column.device == "cpu" else x.to(self.device)

    def module(self, module: nn.Module) -> nn.Module:
        """The module with weights that every dtype holds, where the samples are; made outside of inference_mode."""
        self.uses, module = True, module.to(self.column.dtype)
        with torch.inference_mode(False):
            for name, part in module.named_modules():
                for n, p in part._parameters.items():
                    if p is not None:
                        weight = numbers(f"{name}.{n}", *p.shape).mul(0.5).bfloat16().to(p.dtype)
                        part._parameters[n] = nn.Parameter(self.place(weight))
                for n, b in part._buffers.items():
                    part._buffers[n] = self.place(b.clone())
        return module


ARGUMENTS = {
    **{n: (lambda s, n=n: s.samples(n)) for n in ("x0", "x1", "x", "xt", "v", "epsilon", "score", "v_diff", "a", "b")},
    **{n: (lambda s, n=n: s.samples(n)) for n in ("means", "data", "real")},
    "stds": lambda s: s.here(torch.linspace(0.5, 1, s.column.batch).bfloat16()),
    "t": lambda s: s.times(),
    "path": lambda s: s.path,
    "model": lambda s: s.module(Toy()),
    "ema_model": lambda s: fmlib.make_ema(s.module(Toy())),
    "label": lambda s: s.here(torch.arange(s.column.batch) % 3),
    "null_label": lambda s: 3,
    "guidance_scale": lambda s: 2.0,
    "probability": lambda s: 0.5,
    "steps": lambda s: 12,
    "step": lambda s: 3,
    "decay": lambda s: 0.5,
    "dim": lambda s: 4,
    "n": lambda s: s.column.batch,
    "values": lambda s: s.here(numbers("values", s.column.batch)),
    "sample": lambda s: lambda n: s.here(numbers("sample", n, 2)),
    "sample_x0": lambda s: lambda n: s.here(numbers("sample_x0", n, 2)),
    "sample_x1": lambda s: lambda n: s.here(numbers("sample_x1", n, 2)),
    "metric": lambda s: fmlib.energy_distance,
    "log_prob": lambda s: lambda x: -x.square().sum(1),
    "dataloader": lambda s: [s.samples("batch")],
    "digits": lambda s: fmlib.load_digits_flow(),
    "train": lambda s: s.samples("train", 64),
    "test": lambda s: s.samples("test", 64),
    "train_labels": lambda s: s.here(torch.arange(s.column.batch)),
    "test_labels": lambda s: s.here(torch.arange(s.column.batch)),
    "mean": lambda s: 1.0,
    "std_error": lambda s: 0.1,
}  # fmt: skip

# Where a required argument has a meaning of its own, or a default would take long.
OWN = {
    "adapt": {"convention": lambda s: "Tong et al. 2024"},
    "Convention": {n: (lambda s, n=n: n) for n in ("name", "noise", "data", "source")} | {"noise_at": lambda s: 1},
    "Normaliser": {"mean": lambda s: s.here(numbers("mean", 2)), "scale": lambda s: 2.0},
    "guided": {n: ARGUMENTS[n] for n in ("label", "guidance_scale", "null_label")},
    "FlowPath": {f: (lambda s, f=f: getattr(rectified_flow_path(), f)) for f in FlowPath.__dataclass_fields__},
    "SmallDiT": dict.fromkeys(("hidden", "t_dim"), lambda s: 8) | dict.fromkeys(("blocks", "heads"), lambda s: 1),
    "ResidualMLP": {"hidden": lambda s: 8},
    "VectorFieldMLP": {"hidden": lambda s: 8},
    "FourierMLP": {"hidden": lambda s: 8, "waves": lambda s: 4, "data_std": lambda s: 1.5},
    "missed_share": {"neighbours": lambda s: 3},
    "trained": {"name": lambda s: "never-stored", "net": ARGUMENTS["model"], "train": lambda s: as_it_is},
    "MoonDataset": {"batch": lambda s: s.column.batch},
    "SampledBatches": {"batch": lambda s: s.column.batch},
    "SampledPairs": {"batch": lambda s: s.column.batch},
    "PairBatches": {"batch": lambda s: s.column.batch},
    "sde_sampler": {"steps": lambda s: 12},
    "log_likelihood": {"steps": lambda s: 12},
    "reflow_pairs": {"steps": lambda s: 4},
    "straightness": {"steps": lambda s: 12},
    "path_energy": {"steps": lambda s: 12},
    "normalized_path_energy": {"steps": lambda s: 12},
    "train_flow_matching": {"total_steps": lambda s: 3, "log_every": lambda s: 0, "lr": lambda s: 1e-2},
    "train_digit_classifier": {"steps": lambda s: 2, "batch": lambda s: 4},
}  # fmt: skip

# (name, column): the error, and why it cannot be otherwise.
PAIR = "a distance needs two samples of each"
REFUSED = {
    **{
        (n, "batch_of_1"): (ValueError, r"must have shape \[N, d\] with N >= 2, got \[1, 2\]", PAIR)
        for n in "energy_distance frechet_distance missed_share nearest_distance normalized_path_energy sliced_w2 "
        "off_support_share wasserstein2".split()
    },
    ("sampling_floor", "batch_of_1"): (ValueError, "n must be an integer of at least 2, got 1", PAIR),
    ("estimate", "batch_of_1"): (ValueError, "number of values must be .* at least 2, got 1", "one has no scatter"),
    ("train_flow_matching", "no_float64"): (RuntimeError, "fused=True", "the stand-in's name is not MPS"),
}

# Functions whose answer is worse conditioned than the rest, and by how much.
LOOSER = {
    "train_flow_matching": 2,  # three steps of Adam: the sign of a small gradient may turn
    "SmallDiT": 4,  # attention, with weights that are large on purpose
}

# What a network itself answers: under autocast torch decides on its dtype.
RAW = (".forward", ".features", "CountCalls")

# What stays in single precision where the model has half: a mean over the batch, and the average of the weights.
SINGLE = ("cfm_loss", "make_ema", "update_ema", "train_flow_matching[1]")


def public() -> dict:
    """The public functions and classes that compute: the mathematics, and the engine's networks."""
    names = {n: getattr(fmlib, n) for n in fmlib.__all__} | {"SmallDiT": SmallDiT}
    return {n: o for n, o in names.items() if callable(o)}


PUBLIC = public()


def arguments(name: str, function, s: Situation) -> dict:
    """What the function is called with: its required parameters by their names, and what is its OWN."""
    given = {n: make(s) for n, make in OWN.get(name, {}).items()}
    for n, p in inspect.signature(function).parameters.items():
        if n not in given and p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL):
            given[n] = ARGUMENTS[n](s)
    return given


def follow(name: str, out, s: Situation) -> list:
    """What a reader does with the result, down to the numbers: [(what, number or tensor, follows x)]."""
    if isinstance(out, (Tensor, float, int)):
        return [(name, out, s.uses)]
    if isinstance(out, Estimate):
        return [(f"{name}.{f}", v, False) for f, v in zip(out._fields, out, strict=True)]
    if isinstance(out, FlowPath):
        s.uses, prior = True, out.sample_prior(s.column.batch, 2, dtype=s.column.dtype, device=s.device)
        found = [(f"{name}.sample_prior", prior, True), (f"{name}.prior_std", out.prior_std, False)]
        for schedule in ("alpha", "sigma", "d_alpha", "d_sigma", "half_d_sigma_sq"):
            found.append((f"{name}.{schedule}", getattr(out, schedule)(s.times()), True))
        for method in (out.sample_xt, out.target_ut):
            found.append((f"{name}.{method.__name__}", method(s.times(), s.samples("x0"), s.samples("x1")), True))
        return found
    if isinstance(out, GaussianMixture):
        found = [(f"{name}.sample", out.sample(s.column.batch), s.uses)]
        ready = (
            s.ready if name in PUBLIC and isinstance(PUBLIC[name], type) else lambda method: method
        )  # once is enough
        for method in "log_prob score posterior_mean_x1 posterior_mean_x0 velocity posterior_var velocity_var".split():
            found.append((f"{name}.{method}", ready(getattr(out, method))(s.path, s.times(), s.samples("x")), True))
        return found
    if isinstance(out, Convention):
        found = [(f"{name}.time", out.time(s.times()), True)]
        noise, data = s.samples("x0"), s.samples("x1")
        found.append((f"{name}.interpolate", out.interpolate(s.times(), noise, data), True))
        return [*found, (f"{name}.target", out.target(noise, data), True)]
    if isinstance(out, (tuple, list)):
        return [r for i, part in enumerate(out) for r in follow(f"{name}[{i}]", part, s)]
    if isinstance(out, dict):
        return [r for k, part in out.items() for r in follow(f"{name}[{k!r}]", part, s)]
    if isinstance(out, fmlib.Normaliser):
        x = s.samples("x")
        return [(f"{name}.normalise", out.normalise(x), True), (f"{name}.restore", out.restore(x), True)]
    if isinstance(out, nn.Module):
        made_here = not s.uses
        out = s.module(out.eval()) if made_here else out
        given = {"x": s.samples("x", getattr(out, "dim", 64 if hasattr(out, "body") else 2)), "t": s.times()}
        wanted = [p for p in inspect.signature(out.forward).parameters if p in given]
        found = [(f"{name}.forward", s.ready(out)(*(given[p] for p in wanted)), True)]
        for extra in ("features", "predict"):
            found += [(f"{name}.{extra}", getattr(out, extra)(given["x"]), True)] if hasattr(out, extra) else []
        return found
    if isinstance(out, types.FunctionType) or (callable(out) and "x" in inspect.signature(out).parameters):
        wanted = inspect.signature(out).parameters.items()
        return follow(
            name,
            s.ready(out)(
                *(ARGUMENTS[n](s) for n, p in wanted if p.kind == p.POSITIONAL_OR_KEYWORD and p.default is p.empty)
            ),
            s,
        )
    if hasattr(out, "__iter__"):
        return follow(f"{name} batch", next(iter(out)), s)
    if isinstance(out, fmlib.History):
        out(1, 0.5, None, None)
        return follow(f"{name}.losses", out.losses, s)
    raise AssertionError(f"follow() does not know what to do with what {name} returned, {type(out).__name__}")


@contextlib.contextmanager
def same_draws():
    """Random draws that do not depend on the dtype or device that is asked for: drawn in float64 on the CPU, cast."""

    def double(draw):
        def call(*shape, dtype=None, device=None, generator=None, **kwargs):
            x = draw(*shape, dtype=torch.float64, device="cpu", generator=generator, **kwargs)
            return x.to(dtype or torch.get_default_dtype()).to(device or "cpu")

        return call

    def like(draw):
        return lambda x, **kwargs: draw(x.shape, dtype=x.dtype, device=x.device)

    def multinomial(weights, *args, **kwargs):
        return drawn["multinomial"](weights.cpu().double(), *args, **kwargs).to(weights.device)

    drawn = {n: getattr(torch, n) for n in ("randn", "rand", "randn_like", "rand_like", "multinomial")}
    new = {n: double(drawn[n]) for n in ("randn", "rand")}
    new |= {f"{n}_like": like(new[n]) for n in ("randn", "rand")} | {"multinomial": multinomial}
    try:
        for n, f in new.items():
            setattr(torch, n, f)
        yield
    finally:
        for n, f in drawn.items():
            setattr(torch, n, f)


def answer(name: str, function, column: Column, path: str) -> list:
    """[(what, its number or tensor in float64 on the CPU, dtype, device, follows x)] of one call."""
    torch.manual_seed(0)
    with same_draws(), column.mode() as device:
        s = Situation(column, path, device if column.device != "cpu" else torch.device("cpu"))
        given = arguments(name, function, s)

        # What returns nothing changes its first argument.
        def call():
            out = s.ready(function)(**given)
            return follow(name, next(iter(given.values())) if out is None else out, s)

        return [
            (what, value.detach().cpu().double() if isinstance(value, Tensor) else torch.tensor(value).double(),
             getattr(value, "dtype", None), getattr(value, "device", None), follows)
            for what, value, follows in call()
        ]  # fmt: skip


def compare(name: str, function, column: Column, path: str) -> None:
    """AssertionError unless the answers are finite, of the right dtype, device and shape, and those of float64."""
    exact = answer(name, function, Column(torch.float64, batch=column.batch), path)
    got = answer(name, function, column, path)
    assert len(got) == len(exact) > 0
    for (what, value, dtype, device, follows), (_, right, *_) in zip(got, exact, strict=True):
        what = f"{what} on the path {path}"
        assert value.shape == right.shape, f"{what}: shape {list(value.shape)}, in float64 {list(right.shape)}"
        assert bool(torch.isfinite(value).all()), f"{what}: not finite"
        if follows and dtype is not None and dtype.is_floating_point:
            promised = torch.promote_types(column.dtype, torch.float32) if what.startswith(SINGLE) else column.dtype
            raw = column is COLUMNS["autocast"] and what.split(" ")[0].endswith(RAW)
            assert dtype == promised or raw, f"{what}: {dtype} from {column.dtype}"
        if follows and device is not None:
            assert device.type == column.device, f"{what}: on {device}, not {column.device}"
        limit = column.tolerance * LOOSER.get(name, 1) * max(right.abs().max().item(), 0.1)
        error = (value - right).abs().max().item()
        assert error <= limit, f"{what}: off by {error:.3g}, allowed {limit:.3g}"


def uses_path(name: str) -> bool:
    """Whether the answer depends on the path: by a parameter, or because a mixture is asked along one."""
    parameters = inspect.signature(PUBLIC[name]).parameters
    return "path" in parameters or name in ("GaussianMixture", "EmpiricalDistribution")


def walk(name: str, function, column_name: str, paths) -> None:
    column = COLUMNS[column_name]
    if (name, column_name) in REFUSED:
        error, message, _reason = REFUSED[name, column_name]
        with pytest.raises(error, match=message):
            answer(name, function, column, "rectified_flow")
        return
    for path in paths:
        compare(name, function, column, path)


def paths_of(name: str, column: str) -> list:
    """All paths where the answer depends on one; a single one where that would take long and show nothing more."""
    return list(PATHS) if uses_path(name) and column not in ("compiled", "no_float64") else ["rectified_flow"]


@pytest.fixture(autouse=True)
def training(monkeypatch):
    monkeypatch.setenv("TRAIN", "1")  # nothing is stored for `trained`


def test_every_public_name_is_on_the_walk():
    """A new function whose arguments have no recipe here is named, instead of being left out."""
    for name, function in PUBLIC.items():
        wanted = inspect.signature(function).parameters.values()
        required = {p.name for p in wanted if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        unknown = required - ARGUMENTS.keys() - OWN.get(name, {}).keys()
        assert not unknown, f"say in ARGUMENTS or OWN what {name} is called with: {sorted(unknown)}"
    rooms = {o.__module__ for o in PUBLIC.values()}
    named = (
        "batches conventions conversions couplings data diffusion digits engine.dit gaussians grids guidance learner "
        "metrics nets paths samplers training weights"
    )
    assert rooms == {f"fmlib.{room}" for room in named.split()}
    assert {name for name, _ in REFUSED} <= PUBLIC.keys() and {column for _, column in REFUSED} <= COLUMNS.keys()
    total = sum(len(paths_of(name, column)) for name, column in COMBINATIONS)
    print(f"{len(PUBLIC)} public names x {len(COLUMNS)} situations, with the paths {total} combinations")
    assert len(COMBINATIONS) == len(PUBLIC) * len(COLUMNS) and total > len(COMBINATIONS)


COMBINATIONS = [(name, column) for column in COLUMNS for name in PUBLIC]


@pytest.mark.parametrize(
    ("name", "column"),
    [pytest.param(n, c, marks=[pytest.mark.slow] if c == "compiled" else [], id=f"{c}-{n}") for n, c in COMBINATIONS],
)
def test_walk(name, column):
    walk(name, PUBLIC[name], column, paths_of(name, column))


# --- wrong twins: functions that fail in one situation alone, and the walk that sees it


def _by_version(model, x0):
    before = x0._version
    x = x0 + model(torch.zeros_like(x0[:, 0]), x0)
    assert x0._version == before
    return x


def _doubles_on_the_device(model, x0):
    clock = torch.zeros(len(x0), dtype=torch.float64, device=x0.device)
    return x0 + model(clock.to(x0.dtype), x0)


def _adds_up_in_the_dtype_of_x0(model, x0):
    x, t = x0, torch.zeros_like(x0[:, 0])
    for _ in range(400):
        x = x + model(t, x) / 400
    return x


def _answers_in_double(model, x0):
    return (x0 + model(torch.zeros_like(x0[:, 0]), x0)).double()


def _forgets_the_batch(model, x0):
    return (x0 + model(torch.zeros_like(x0[:, 0]), x0)).squeeze()[0, 1]


def _wants_the_dtype_of_the_model(model, x0):
    v = model(torch.zeros_like(x0[:, 0]), x0)
    if v.dtype != x0.dtype:
        raise TypeError(f"model must return {x0.dtype}, got {v.dtype}")
    return x0 + v


def _random_device(x0):
    return x0 + 0 * torch.zeros(len(x0), 1)


def _becomes_infinite(x0):
    return x0 * 1e20 * 1e20


def _another_answer_when_compiled(x0):
    return x0 * (2 if torch.compiler.is_compiling() else 1)


@pytest.mark.parametrize(
    ("twin", "column", "error"),
    [
        (_by_version, "inference_mode", "do not track version"),
        (_doubles_on_the_device, "no_float64", "float64"),
        (_adds_up_in_the_dtype_of_x0, "bfloat16", "off by"),
        (_answers_in_double, "float32", "torch.float64 from torch.float32"),
        (_forgets_the_batch, "batch_of_1", "too many indices"),
        (_wants_the_dtype_of_the_model, "autocast", "model must return"),
        (_random_device, "no_float64", "same device"),
        (_becomes_infinite, "float32", "not finite"),
        pytest.param(_another_answer_when_compiled, "compiled", "off by", marks=pytest.mark.slow),
    ],
    ids=lambda v: getattr(v, "__name__", None),
)
def test_the_walk_sees_what_is_fragile(twin, column, error):
    walk(twin.__name__, twin, "float64", ["rectified_flow"])  # right, where nobody looks closely
    with pytest.raises((AssertionError, RuntimeError, TypeError, IndexError), match=error):
        walk(twin.__name__, twin, column, ["rectified_flow"])


def test_an_unknown_argument_is_named(monkeypatch):
    monkeypatch.setitem(PUBLIC, "newcomer", lambda flux_capacitor: flux_capacitor)
    with pytest.raises(AssertionError, match=r"what newcomer is called with: \['flux_capacitor'\]"):
        test_every_public_name_is_on_the_walk()


# --- every pair of public defaults


GRIDS = {
    "uniform_grid": lambda path: fmlib.uniform_grid,
    "cosine_grid": lambda path: fmlib.cosine_grid,
    "shift_grid": lambda path: fmlib.shift_grid(),
    "edm_grid": lambda path: fmlib.edm_grid(path),
    "log_snr_grid": lambda path: fmlib.log_snr_grid(path),
    "scheduler_grid": lambda path: fmlib.scheduler_grid(),
}
SAMPLERS = [n for n in PUBLIC if n.endswith("_sampler") and n != "dopri5_sampler"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_grid_goes_with_every_path_and_sampler(sampler, grid, path):
    """With nothing but defaults the samples end where the mixture's components are: +3 or -3."""
    assert {n for n in PUBLIC if n.endswith("_grid")} == GRIDS.keys()
    path = PATHS[path]()
    mixture = GaussianMixture(torch.tensor([[-3.0], [3.0]]), [0.3, 0.3])
    more = {"path": path} if "path" in inspect.signature(PUBLIC[sampler]).parameters else {}
    x0 = path.sample_prior(64, 1)
    field = lambda t, x: mixture.velocity(path, t, x)
    x = PUBLIC[sampler](field, x0, grid=GRIDS[grid](path), **more)
    assert ((x.abs() - 3).abs() < 1.6).double().mean() > 0.95
    assert not ((x0.abs() - 3).abs() < 1.6).double().mean() > 0.95  # the noise itself is not there
