"""Training steps a second: the same network, batch and optimiser, through each library's path and loss.

python tests/benchmarks/training.py [--repeats N]    medians of interleaved repeats, one thread
"""

import argparse
import statistics
import time

import torch
from store import store

from fmlib import VectorFieldMLP, cfm_loss, rectified_flow_path, sample_moons

BATCH, STEPS = 512, 100


def losses() -> dict:
    """name -> loss(model, x1); each draws times and noise as its library's own examples do."""
    path = rectified_flow_path()
    jobs = {"fmlib": lambda model, x1: cfm_loss(model, path, x1)}
    try:
        from torchcfm.conditional_flow_matching import ConditionalFlowMatcher

        matcher = ConditionalFlowMatcher(sigma=0.0)

        def torchcfm(model, x1):
            t, xt, ut = matcher.sample_location_and_conditional_flow(torch.randn_like(x1), x1)
            return (model(t, xt) - ut).square().mean()

        jobs["torchcfm"] = torchcfm
    except ImportError:
        pass
    try:
        from flow_matching.path import AffineProbPath
        from flow_matching.path.scheduler import CondOTScheduler

        theirs = AffineProbPath(scheduler=CondOTScheduler())

        def flow_matching(model, x1):
            s = theirs.sample(t=torch.rand(len(x1)), x_0=torch.randn_like(x1), x_1=x1)
            return (model(s.t, s.x_t) - s.dx_t).square().mean()

        jobs["flow_matching"] = flow_matching
    except ImportError:
        pass
    return jobs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    jobs = losses()
    rates = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, loss in jobs.items():
            torch.manual_seed(0)
            model = VectorFieldMLP(2, 128)
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
            x1 = sample_moons(BATCH)
            start = time.process_time()
            for _ in range(STEPS):
                optimizer.zero_grad()
                loss(model, x1).backward()
                optimizer.step()
            rates[name].append(STEPS / (time.process_time() - start))
    store("training steps", rates)
    print(table(rates))


def table(rates: dict) -> str:
    lines = ["| path and loss of | steps a second, median (range) |", "|---|---|"]
    for name, values in rates.items():
        lines.append(f"| {name} | {statistics.median(values):.0f} ({min(values):.0f} – {max(values):.0f}) |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
