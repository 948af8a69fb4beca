"""Our default recipe beside the quick reference's: the same network size, steps, batch, data and seeds.

python tests/benchmarks/recipes.py [--seeds N]
"""

import argparse
import itertools
import math
import statistics
import time

import torch
from torch import nn

import fmlib
from fmlib import MoonDataset, VectorFieldMLP, euler_sampler, sample_moons, sampling_floor, sliced_w2

STEPS, BATCH, HIDDEN, N = 2_000, 512, 128, 10_000


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


def quick_reference(path):
    """Section 4.4: constant 3e-4, logit-normal t, a moving average with the fixed decay 0.9999."""
    model = QuickReferenceMLP(2, HIDDEN)
    ema = fmlib.make_ema(model)
    model, _ = fmlib.train_flow_matching(
        model, MoonDataset(BATCH), path, STEPS, lr=3e-4, schedule="constant", t_dist="logitnormal", log_every=0,
        callback=lambda step, loss, model, _: fmlib.update_ema(ema, model, 0.9999),
    )  # fmt: skip
    return model, ema


def ours(path):
    return fmlib.train_flow_matching(VectorFieldMLP(2, HIDDEN), MoonDataset(BATCH), path, STEPS, log_every=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    torch.set_num_threads(1)
    path = fmlib.rectified_flow_path()
    torch.manual_seed(0)
    floor = sampling_floor(sliced_w2, sample_moons, N, repeats=16).mean
    print(f"moons, {STEPS} steps of {BATCH}, {N} samples by 50 Euler steps, one thread, {seeds} seeds")
    print(f"sampling floor of sliced W2: {floor:.4f}\n")
    print("| recipe | seconds | raw model, in floors | EMA, in floors |\n|---|---|---|---|")
    for recipe in (quick_reference, ours):
        seconds, distances = [], ([], [])
        for seed in range(seeds):
            torch.manual_seed(seed)
            start = time.process_time()
            models = recipe(path)
            seconds.append(time.process_time() - start)
            noise, real = path.sample_prior(N, 2), sample_moons(N)
            for model, values in zip(models, distances, strict=True):
                values.append(sliced_w2(euler_sampler(model, noise, steps=50), real) / floor)
        cells = [f"{statistics.median(v):.1f} ({min(v):.1f}–{max(v):.1f})" for v in distances]
        print(f"| {recipe.__name__} | {statistics.median(seconds):.1f} | {cells[0]} | {cells[1]} |", flush=True)


if __name__ == "__main__":
    main()
