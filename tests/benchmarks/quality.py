"""Time to quality: seconds of one thread until samples are within three sampling floors, for several training recipes.

python tests/benchmarks/quality.py [--seeds N] [--cap S] [--out FILE]

Each recipe trains with its own network, batch, optimiser and schedule, through its own library's path and loss; ours
once more with the width and the batch of torchcfm's. Only training is on the clock. All are sampled alike: Heun, 25
steps, 10,000 points, by sliced W2. Two times are read off the curve: when two checks in a row are first within three
floors, and from when on all are. A model at a constant rate jitters: the first can be luck, and nobody would know it
without the checks. A recipe stops at the end of its steps, or at the cap. Of its last samples the share off the
support is kept as well: a distance near its floor can hide stray points.
"""

import argparse
import itertools
import math
import statistics
import time
from pathlib import Path

import torch
from store import RESULTS, load, store
from torch import nn
from tqdm import tqdm

import fmlib
from fmlib import heun_sampler, off_support_share, sampling_floor, sliced_w2

N, GOAL = 10_000, 3.0
DATA = {
    "moons": (fmlib.sample_moons, fmlib.moons_mixture()),
    "8 Gaussians": (fmlib.sample_eight_gaussians, fmlib.eight_gaussians()),
}
PATH = fmlib.rectified_flow_path()


class Stop(Exception):
    pass


class QuickReferenceMLP(nn.Module):
    """Section 4.2 of the quick reference: the Transformer's time features, concatenated with x."""

    def __init__(self, dim: int, hidden: int, t_dim: int = 128):
        super().__init__()
        self.freqs = torch.exp(-math.log(10_000) * torch.arange(t_dim // 2) / (t_dim // 2))
        self.t_embed = nn.Sequential(nn.Linear(t_dim, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        widths = [dim + hidden, hidden, hidden]
        layers = [m for a, b in itertools.pairwise(widths) for m in (nn.Linear(a, b), nn.SiLU())]
        self.net = nn.Sequential(*layers, nn.Linear(hidden, dim))

    def forward(self, t, x):
        angle = t[:, None] * self.freqs
        features = self.t_embed(torch.cat([angle.sin(), angle.cos()], dim=1))
        return self.net(torch.cat([x, features], dim=1))


def fmlib_default(sample, check, steps=2000, batch=512, **kwargs):
    """FourierMLP at a peak rate of 1e-2 falling to 0, more times near the data, EMA with a warm-up."""
    net = fmlib.FourierMLP(2, PATH, sample(10_000).std(dim=0).square().mean().sqrt().item(), **kwargs)
    loader = fmlib.SampledBatches(sample, batch)
    return fmlib.train_flow_matching(
        net, loader, PATH, steps, lr=1e-2, t_dist=fmlib.late_t, log_every=0,
        callback=lambda step, loss, model, ema: check(step, steps, ema),
    )  # fmt: skip


def fmlib_small(sample, check):
    """The same with torchcfm's width and batch, and as many steps as the goal takes on the harder of the two data."""
    fmlib_default(sample, check, steps=1000, hidden=64, batch=256)


def quick_reference(sample, check, steps=20_000):
    """The quick reference's section 4: constant 3e-4, batch 512, logit-normal times; its raw model, as it samples."""
    net = QuickReferenceMLP(2, 128)
    loader = fmlib.SampledBatches(sample, batch=512)
    fmlib.train_flow_matching(
        net, loader, PATH, steps, lr=3e-4, schedule="constant", t_dist="logitnormal", log_every=0,
        callback=lambda step, loss, model, ema: check(step, steps, model),
    )  # fmt: skip


def torchcfm_tutorial(sample, check, steps=20_000):
    """torchcfm's tutorial: 3 layers of 64, SELU, batch 256, Adam 1e-3, sigma = 0.01."""
    from torchcfm.conditional_flow_matching import ConditionalFlowMatcher
    from torchcfm.models.models import MLP

    net, matcher = MLP(dim=2, time_varying=True), ConditionalFlowMatcher(sigma=0.01)
    optimizer = torch.optim.Adam(net.parameters())
    model = lambda t, x: net(torch.cat([x, t[:, None]], 1))
    for step in range(1, steps + 1):
        x1 = sample(256)
        t, xt, ut = matcher.sample_location_and_conditional_flow(torch.randn_like(x1), x1)
        optimizer.zero_grad()
        loss = (model(t, xt) - ut).square().mean()
        loss.backward()
        optimizer.step()
        check(step, steps, model)


def flow_matching_notebook(sample, check, steps=20_000):
    """facebookresearch's 2D notebook: 4 hidden layers of 512, Swish, batch 4,096, Adam 1e-3."""
    from flow_matching.path import AffineProbPath
    from flow_matching.path.scheduler import CondOTScheduler

    widths = [3, 512, 512, 512, 512]
    layers = [m for a, b in itertools.pairwise(widths) for m in (nn.Linear(a, b), nn.SiLU())]
    net = nn.Sequential(*layers, nn.Linear(512, 2))
    path = AffineProbPath(scheduler=CondOTScheduler())
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    model = lambda t, x: net(torch.cat([x, t[:, None]], 1))
    for step in range(1, steps + 1):
        x1 = sample(4096)
        s = path.sample(t=torch.rand(4096), x_0=torch.randn_like(x1), x_1=x1)
        optimizer.zero_grad()
        loss = (model(s.t, s.x_t) - s.dx_t).square().mean()
        loss.backward()
        optimizer.step()
        check(step, steps, model)


AS_LONG = "fmlib_default, as long as the cap"
RECIPES = {
    **{r.__name__: r for r in (fmlib_default, fmlib_small, quick_reference, torchcfm_tutorial, flow_matching_notebook)},
    AS_LONG: fmlib_default,
}


def run(recipe, data: str, floor: float, cap: float, every: float = 0.25, **kwargs) -> dict:
    """{"curve": "seconds:floors seconds:floors ...", "steps", "strays": the share off the support at the end}."""
    sample, mixture = DATA[data]
    spent, mark, due, curve, steps_done, x = 0.0, time.process_time(), every, [], 0, None

    @torch.no_grad()
    def check(step, steps, model):
        nonlocal spent, mark, due, steps_done, x
        spent += time.process_time() - mark
        if spent >= due or step == steps:
            begin, state = time.process_time(), torch.get_rng_state()  # the check must not change the training
            torch.manual_seed(1234)
            x = heun_sampler(model, torch.randn(N, 2), steps=25)
            distance = sliced_w2(x, sample(N)) / floor
            torch.set_rng_state(state)
            curve.append(f"{spent:.2f}:{distance:.3g}")
            steps_done = step
            check_seconds = time.process_time() - begin
            due = spent + max(every, 0.15 * spent, check_seconds / 4)  # a large network is checked less often
            if spent > cap and step != steps:
                raise Stop
        mark = time.process_time()

    try:
        recipe(sample, check, **kwargs)
    except Stop:
        pass
    strays = off_support_share(x, sample(100_000), lambda x: mixture.log_prob(PATH, 1.0, x)).mean
    return {"curve": " ".join(curve), "steps": steps_done, "strays": strays}


def points(run: dict) -> list[tuple[float, float]]:
    """The checks of a stored run: (seconds, floors)."""
    return [tuple(map(float, check.split(":"))) for check in run["curve"].split()]


def first(run: dict) -> float | None:
    """Seconds at which two checks in a row begin to be within the goal, or the last one is."""
    checks = points(run)
    good = [a for (a, x), (_, y) in itertools.pairwise(checks) if max(x, y) <= GOAL]
    return good[0] if good else settled(run)


def settled(run: dict) -> float | None:
    """Seconds from which on all checks are within the goal."""
    time = None
    for seconds, floors in reversed(points(run)):
        if floors > GOAL:
            break
        time = seconds
    return time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cap", type=float, default=30.0, help="seconds of training after which a recipe is stopped")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where results are kept, and gone on with")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = load(options.out).get("time to quality", {}).get("rows", {})
    for data, (sample, _) in DATA.items():
        torch.manual_seed(0)
        floor = sampling_floor(sliced_w2, sample, N, repeats=16).mean
        if rows.get(data, {}).get("cap") != options.cap:
            rows[data] = {"floor": floor, "cap": options.cap, "recipes": {}}
        results = rows[data]["recipes"]
        for runs in results.values():
            runs[:] = [r for r in runs if "strays" in r]  # older ones are measured again
        for seed in tqdm(range(options.seeds), desc=data):  # interleaved: each seed runs all recipes
            for name, recipe in RECIPES.items():
                runs = results.setdefault(name, [])
                if len(runs) > seed:
                    continue
                torch.manual_seed(seed)
                if name == AS_LONG:
                    steps = max(1000, round(2000 * options.cap / points(results["fmlib_default"][seed])[-1][0]))
                    runs.append(run(recipe, data, floor, 2 * options.cap, every=options.cap / 10, steps=steps))
                else:
                    runs.append(run(recipe, data, floor, options.cap))
                store("time to quality", rows, options.out)  # after each run: one that was stopped goes on there
        print(f"\n{data}, sampling floor of sliced W2 {floor:.4f}, cap {options.cap:g} s, {options.seeds} seeds\n")
        print(table(results), flush=True)


def middle(values: list) -> str:
    """Upper median and range; a run that never got there counts as longer than all others."""
    inf = float("inf")
    v = sorted(inf if x is None else x for x in values)
    words = ["not reached" if x == inf else f"{x:.1f}" for x in (statistics.median_high(v), v[0], v[-1])]
    return words[0] if len(set(words)) == 1 else f"{words[0]} ({words[1]} – {words[2]})"


def row(runs: list[dict]) -> list[str]:
    """First within the goal, for good, floors and percentage of strays at the end: middle and range."""
    read = [(first(r), settled(r), points(r)[-1][1]) for r in runs]
    strays = middle([100 * r["strays"] for r in runs]) if all("strays" in r for r in runs) else "–"
    return [*(middle(values) for values in zip(*read, strict=True)), strays]


HEAD = ["first within 3 floors, s", "for good, s", "floors when stopped", "off the support then, %"]


def table(results: dict) -> str:
    lines = ["| " + " | ".join(["recipe", *HEAD, "after seconds, steps"]) + " |", "|---" * (2 + len(HEAD)) + "|"]
    for name, runs in results.items():
        seconds = statistics.median_high(points(r)[-1][0] for r in runs)
        steps = statistics.median_high(r["steps"] for r in runs)
        lines.append("| " + " | ".join([name, *row(runs), f"{seconds:.0f} s, {steps:,}"]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
