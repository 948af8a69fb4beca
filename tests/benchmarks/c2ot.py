"""A published table, reproduced: 8 Gaussians to moons, as in figure 1 of C2OT (Cheng & Schwing 2025, arXiv 2503.10636).

python tests/benchmarks/c2ot.py [--seeds N]     about 4 minutes a seed; a run that was stopped goes on where it was

Published, squared 2-Wasserstein distance of 10,000 points, mean and standard deviation of 10 runs, unconditional: flow
matching (FM) 6.232 ± 0.186 with one Euler step and 0.120 ± 0.045 with an adaptive solver; minibatch OT 0.072 ± 0.025
and 0.050 ± 0.040. Their setting: a residual MLP of 128 x 3, 20,000 iterations of 256, dopri5 at 1e-4, and the data of
torchcfm, which this file makes anew with their two oddities: the blobs have the standard deviation 0.1 ** (1 / 4), and
the moons' noise is uniform and along the diagonal. Learning rate and average are ours. We compare 4,000 points: the
exact assignment of 10,000 takes ten minutes where all points of one side fall together.
"""

import argparse
import math
import statistics

import torch
from store import load, store
from torch import Tensor
from tqdm import tqdm

from fmlib import (
    ResidualMLP,
    SampledPairs,
    dopri5_sampler,
    euler_sampler,
    minibatch_ot,
    rectified_flow_path,
    train_flow_matching,
    wasserstein2,
)

PUBLISHED = {"FM": ((6.232, 0.186), (0.120, 0.045)), "OT": ((0.072, 0.025), (0.050, 0.040))}
N = 4_000
COUPLINGS = {"FM": None, "OT": minibatch_ot}


def blobs(n: int) -> Tensor:
    """Eight Gaussians on a circle of radius 5."""
    angle = math.pi / 4 * torch.randint(8, (n,))
    return 5 * torch.stack([angle.cos(), angle.sin()], 1) + 0.1**0.25 * torch.randn(n, 2)


def moons(n: int) -> Tensor:
    """Two arcs of evenly spaced points, each pushed along the diagonal by up to 0.2, then times 3, minus 1."""
    outer = math.pi * torch.linspace(0, 1, n // 2)
    inner = math.pi * torch.linspace(0, 1, n - n // 2)
    arcs = [
        torch.stack([outer.cos(), outer.sin()], 1),
        torch.stack([1 - inner.cos(), 0.5 - inner.sin()], 1),
    ]
    return 3 * (torch.cat(arcs) + 0.2 * torch.rand(n, 1)) - 1


def mean_collapse(n: int = 1_000_000) -> float:
    """W2^2 from the mean of the moons to the moons: what one Euler step of a perfect FM model gives.

    At t = 0 the velocity is E[x_1] - x_0, so one step lands on E[x_1] from everywhere; the distance is tr Var[x_1].
    """
    return moons(n).var(dim=0).sum().item()


def run(method: str, seed: int, steps: int = 20_000, n: int = N) -> dict:
    """W2^2 of the average of the weights, with one Euler step and adaptively; and of that step's mean alone."""
    torch.manual_seed(seed)
    net = ResidualMLP(2, hidden=128, blocks=3)
    _, model = train_flow_matching(
        net, SampledPairs(blobs, moons, batch=256), rectified_flow_path(), steps, lr=2e-3, log_every=0,
        coupling=COUPLINGS[method],
    )  # fmt: skip
    x0, real = blobs(n), moons(n)
    one, many = euler_sampler(model, x0, steps=1), dopri5_sampler(model, x0, rtol=1e-4, atol=1e-4)
    # All points moved to their mean: the distance to the data is then this sum, with no assignment to solve.
    collapsed = (one.mean(0) - real.mean(0)).square().sum() + real.var(0, correction=0).sum()
    return {
        "Euler-1": wasserstein2(one, real) ** 2,
        "adaptive": wasserstein2(many, real) ** 2,
        "Euler-1, collapsed": collapsed.item(),
        "Euler-1, tr Var": one.var(0).sum().item(),
    }


def summary(rows: dict) -> str:
    lines = [
        "| | one Euler step, published | ours | adaptive, published | ours |",
        "|---|---|---|---|---|",
    ]
    for method, ((e, e_sd), (a, a_sd)) in PUBLISHED.items():
        ours = []
        for column in ("Euler-1", "adaptive"):
            values = [r[column] for key, r in rows.items() if key.startswith(method + " ")]
            spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
            ours.append(
                f"{statistics.mean(values):.3f}{spread} ({len(values)} seed{'s' if len(values) > 1 else ''})"
                if values
                else "–"
            )
        lines.append(f"| {method} | {e:.3f} ± {e_sd:.3f} | {ours[0]} | {a:.3f} ± {a_sd:.3f} | {ours[1]} |")
    return "\n".join(lines)


def collapse(rows: dict) -> str:
    """Why one Euler step of FM is where it is, from the stored runs."""
    fm = [r for key, r in rows.items() if key.startswith("FM ")]
    whole, collapsed, spread = (
        statistics.mean(r[key] for r in fm) for key in ("Euler-1", "Euler-1, collapsed", "Euler-1, tr Var")
    )
    return (
        "One Euler step of a *perfect* FM model has a closed form: it lands on the mean of the data from everywhere, "
        f"and the distance is tr Var[x_1] = {rows['tr Var of the moons']:.2f}. Our models do not land on one point: "
        f"their clouds keep a variance of {spread:.2f}, and are at {whole:.2f}. The same clouds, each moved to its own "
        f"mean, are at {collapsed:.2f}. So what is below the closed form comes from the spread that a field leaves "
        "which is not exact at t = 0: lower is not better here."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    torch.set_num_threads(1)
    rows = load().get("c2ot", {}).get("rows", {})
    if "floor" not in rows:
        torch.manual_seed(0)
        rows["floor"] = wasserstein2(moons(N), moons(N)) ** 2
        rows["tr Var of the moons"] = mean_collapse()
        store("c2ot", rows)
    todo = [(m, s) for s in range(seeds) for m in COUPLINGS if f"{m} {s}" not in rows]
    for method, seed in tqdm(todo, desc="runs"):
        rows[f"{method} {seed}"] = run(method, seed)
        store("c2ot", rows)  # after each run: nothing is lost if the next one is stopped
    print(summary(rows))
    print(
        f"floor, two samples of the moons: {rows['floor']:.4f}; tr Var of the moons {rows['tr Var of the moons']:.3f}"
    )


if __name__ == "__main__":
    main()
