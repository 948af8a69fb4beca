"""What a sampler costs beyond its model calls, beside torchdiffeq and facebookresearch's flow_matching.

python tests/benchmarks/sampling.py [--repeats N]    medians of interleaved repeats, batch 4,096, hidden 128, one thread
"""

import argparse
import statistics
import time

import torch
from store import store
from torchdiffeq import odeint

from fmlib import VectorFieldMLP, euler_sampler, heun_sampler, midpoint_sampler, rk4_sampler

STEPS, BATCH = 10, 4_096


def peers(model, x0):
    """Fixed-grid solvers of other libraries with the same number of model calls."""
    ts = torch.linspace(0, 1, STEPS + 1)
    by_batch = lambda t, x: model(t.expand(len(x)), x)
    jobs = {
        f"torchdiffeq {m}": (lambda m=m: odeint(by_batch, x0, ts, method=m)[-1], calls)
        for m, calls in (("euler", 1), ("midpoint", 2), ("rk4", 4))
    }
    try:
        from flow_matching.solver import ODESolver
        from flow_matching.utils import ModelWrapper
    except ImportError:
        return jobs

    class Swapped(ModelWrapper):
        def forward(self, x, t, **extras):
            return self.model(t.expand(len(x)), x)

    solver = ODESolver(velocity_model=Swapped(model))
    for m, calls in (("euler", 1), ("midpoint", 2)):
        jobs[f"flow_matching {m}"] = (lambda m=m: solver.sample(x_init=x0, step_size=1 / STEPS, method=m), calls)
    return jobs


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, x0, t = VectorFieldMLP(2, 128).eval(), torch.randn(BATCH, 2), torch.full((BATCH,), 0.5)
    ours = {
        f"fmlib {s.__name__.split('_')[0]}": (lambda s=s: s(model, x0, steps=STEPS), calls)
        for s, calls in ((euler_sampler, 1), (midpoint_sampler, 2), (heun_sampler, 2), (rk4_sampler, 4))
    }
    jobs = {"one model call": (lambda: model(t, x0), 1 / STEPS), **ours, **peers(model, x0)}
    times = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, (job, _calls) in jobs.items():
            start = time.perf_counter()
            job()
            times[name].append(time.perf_counter() - start)
    call = statistics.median(times["one model call"])
    print(f"batch {BATCH}, {STEPS} steps, one thread, medians of {repeats} interleaved repeats\n")
    print("| sampler | ms | beyond its model calls |\n|---|---|---|")
    rows = {}
    for name, (_, calls) in jobs.items():
        median = statistics.median(times[name])
        extra = median / (call * calls * STEPS) - 1
        rows[name] = {"ms": 1000 * median, "beyond": extra}
        print(f"| {name} | {1000 * median:.1f} | {100 * extra:+.1f} % |")
    store("sampling", rows)


if __name__ == "__main__":
    main()
