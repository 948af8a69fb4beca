"""Distances between two sample sets, and their floor: what the distance reads when both come from the same source.

A distance between finite samples means little by itself. Two sets of 1,000 points of the *same* distribution are
not at distance 0 either; `sampling_floor` says how far apart they are.

They are computed in double precision, on the device of the points where it has that, on the CPU otherwise.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree
from torch import Tensor

from fmlib.checks import (
    at_least_single,
    check_int,
    check_number,
    check_pair,
    check_samples,
    check_tensor,
    check_velocity,
    in_double,
)
from fmlib.samplers import heun_sampler

# cdist may expand |a - b|^2 into products, which leaves about 1e-3 where the distance is 0. The direct mode does not.
DIRECT = "donot_use_mm_for_euclid_dist"


class Estimate(NamedTuple):
    """A mean with its standard error over `n` independent repeats."""

    mean: float
    std_error: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.4f} ± {self.std_error:.4f}"


class Floor(Estimate):
    """The mean reading of a metric on real against real. `scatter` is the standard deviation of a single reading."""

    @property
    def scatter(self) -> float:
        return self.std_error * math.sqrt(self.n)

    def __str__(self) -> str:
        return f"{self.mean:.4f} (one reading scatters by {self.scatter:.4f})"


def estimate(values) -> Estimate:
    """Mean and standard error of a list or tensor of at least two independent values."""
    values = in_double(values) if isinstance(values, Tensor) else torch.as_tensor(values, dtype=torch.float64)
    values = values.flatten()
    check_int("the number of values", len(values), minimum=2)
    return Estimate(values.mean().item(), (values.std() / math.sqrt(len(values))).item(), len(values))


def energy_distance(a: Tensor, b: Tensor) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'|: zero if and only if the distributions agree.

    Szekely & Rizzo 2013 (doi 10.1016/j.jspi.2013.03.018), eq. 2.1 (without the square root that some libraries
    take). Unbiased: a point is never paired with itself, so near the floor the value can be negative.
    a: [N, d], b: [M, d], N, M >= 2. In units of x.
    """
    a, b = check_samples(a, b)
    n, m = len(a), len(b)
    within_a = _sum_distances(a, a) / (n * (n - 1))
    within_b = _sum_distances(b, b) / (m * (m - 1))
    return 2 * _sum_distances(a, b) / (n * m) - within_a - within_b


def sliced_w2(a: Tensor, b: Tensor, projections: int = 256, seed: int = 0) -> float:
    """Sliced Wasserstein-2 distance: root mean square, over random directions, of the W2 of the 1D projections.

    Bonneel et al. 2015 (doi 10.1007/s10851-014-0506-3). In 1D the optimal transport pairs sorted points, so this
    costs N log N. a: [N, d], b: [M, d]. In units of x.
    The directions depend on `seed` alone, so that two calls are comparable.
    """
    a, b = check_samples(a, b)
    generator = torch.Generator().manual_seed(check_int("seed", seed, minimum=0))
    directions = torch.randn(a.shape[1], check_int("projections", projections), generator=generator)
    directions = (directions / directions.norm(dim=0)).to(a)
    a, b = (a @ directions).sort(dim=0).values, (b @ directions).sort(dim=0).values
    # The quantile functions are steps, of length 1/N and 1/M; in units of 1/(N M) their joint edges are whole numbers.
    n, m = len(a), len(b)
    edges = torch.cat([torch.arange(n + 1, device=a.device) * m, torch.arange(m + 1, device=a.device) * n]).unique()
    left, weight = edges[:-1], edges.diff().to(a) / (n * m)
    return (weight[:, None] * (a[left // m] - b[left // n]).square()).sum(0).mean().sqrt().item()


def wasserstein2(a: Tensor, b: Tensor) -> float:
    """The exact Wasserstein-2 distance of two sets of N points each (a distance, not its square). In units of x.

    The optimal pairing comes from scipy's assignment solver: N^3 in the worst case, about a second at N = 2,000.
    """
    a, b = check_samples(a, b)
    if len(a) != len(b):
        raise ValueError(f"a and b must hold the same number of points, got {len(a)} and {len(b)}")
    cost = torch.cdist(a, b, compute_mode=DIRECT).square().cpu().numpy()
    return math.sqrt(cost[linear_sum_assignment(cost)].mean())


def transport_cost(x0: Tensor, x1: Tensor) -> float:
    """E |x_1 - x_0|^2 of a coupling: the mean squared way from start to end. x0, x1: [N, d], paired by row."""
    check_pair(x0, x1)
    dtype = at_least_single(x0)
    return (x1.to(dtype) - x0.to(dtype)).square().reshape(len(x0), -1).sum(1).mean().item()


def straightness(model, x0: Tensor, steps: int = 100, **conditions) -> float:
    """S = integral over t of E | (x_1 - x_0) - v(t, x_t) |^2 along the flow of `model`: 0 if every way is straight.

    Liu et al. 2022 (arXiv 2209.03003), eq. 7. Ways by Heun with `steps` steps, the integral by the trapezoidal rule.
    x0: [N, ...] starting points; conditions: for each call, model(t, x, **conditions).
    """
    return _along_flow(model, x0, steps, lambda way, v: way - v, conditions)


def path_energy(model, x0: Tensor, steps: int = 100, **conditions) -> float:
    """E integral over t of |v(t, x_t)|^2 along the flow of `model`: its kinetic energy, in units of x^2.

    At least the squared W2 between start and end (Benamou & Brenier 2000, doi 10.1007/s002110050002), with equality
    for the optimal transport flow. Ways, integral and conditions as in `straightness`.
    """
    return _along_flow(model, x0, steps, lambda way, v: v, conditions)


def normalized_path_energy(model, x0: Tensor, x1: Tensor, steps: int = 100, **conditions) -> float:
    """NPE = |path energy - W2^2| / W2^2, with W2 between the point sets x0 and x1, both [N, d]: 0 for the OT flow.

    Tong et al. 2023 (arXiv 2302.00482), section 5. W2 of finite samples is biased upwards; use a few thousand.
    """
    squared = wasserstein2(x0, x1) ** 2
    return abs(path_energy(model, x0, steps, **conditions) - squared) / squared


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Squared W2 between the Gaussians with the means and covariances of a [N, d] and b [M, d]: in units of x^2.

    |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)): the formula of FID (Heusel et al. 2017, arXiv 1706.08500,
    eq. 6), on whatever features are given. Biased upwards at finite N: compare with its floor at the same N.
    """
    a, b = check_samples(a, b)
    cov_a, cov_b = torch.cov(a.T).reshape(a.shape[1], -1), torch.cov(b.T).reshape(b.shape[1], -1)
    values, vectors = torch.linalg.eigh(cov_a)
    root_a = vectors * values.clamp_min(0).sqrt() @ vectors.T
    # tr (C_a C_b)^(1/2) through the symmetric matrix with the same eigenvalues
    cross = torch.linalg.eigvalsh(root_a @ cov_b @ root_a).clamp_min(0).sqrt().sum()
    return ((a.mean(0) - b.mean(0)).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross).item()


def nearest_distance(a: Tensor, b: Tensor) -> float:
    """Mean distance from a point of a [N, d] to its nearest neighbour in b [M, d]: near 0 if a copies b."""
    a, b = check_samples(a, b)
    return torch.cat([torch.cdist(s, b, compute_mode=DIRECT).min(dim=1).values for s in a.split(1024)]).mean().item()


def off_support_share(
    x: Tensor, real: Tensor, log_prob: Callable[[Tensor], Tensor], quantile: float = 0.01
) -> Estimate:
    """The share of points x [N, d] where the data's density is lower than at all but a `quantile` of real [M, d].

    It sees stray points, between the clumps or beyond them, which a distance averages away: fresh real data read
    `quantile`. log_prob: [N, d] -> [N], the log density of the data. Returns the share with its binomial error,
    sqrt(p (1 - p) / N), at p = (k + 1) / (N + 2) for k strays, so that no strays at all have an error too (Laplace).
    """
    x, real = check_samples(x, real)
    limit = torch.quantile(log_prob(real), check_number("quantile", quantile, 0, 1, open_low=True))
    return _share(int((log_prob(x) < limit).sum()), len(x))


def missed_share(x: Tensor, real: Tensor, neighbours: int = 7) -> Estimate:
    """The share of real [M, d] near which there is no sample of x [N, d]: what a collapse loses, stray points do not.

    Near: not further than the `neighbours`-th nearest other point of real; 1 minus the coverage of Naeem et al. 2020
    (arXiv 2002.09797, eq. 10). Fresh real data read 2^-neighbours at N = M, 0.8 % by default: of the points around a
    real one, half are real, and the nearest ones all have to be. Returns the share with its error as in
    `off_support_share`; the balls overlap, so that a reading scatters more, on the moons by about 1.3.
    Raises ValueError unless M > neighbours.
    """
    x, real = check_samples(x, real)
    neighbours, n = check_int("neighbours", neighbours), len(real)
    if n <= neighbours:
        raise ValueError(f"real must hold more than {neighbours} points (neighbours), got {n}")
    points = real.cpu().numpy()
    radius = KDTree(points).query(points, k=neighbours + 1)[0][:, -1]  # the nearest is the point itself
    return _share(int((KDTree(x.cpu().numpy()).query(points)[0] > radius).sum()), n)


def _share(k: int, n: int) -> Estimate:
    p = (k + 1) / (n + 2)
    return Estimate(k / n, math.sqrt(p * (1 - p) / n), n)


def sampling_floor(
    metric: Callable[[Tensor, Tensor], float], sample: Callable[[int], Tensor], n: int, repeats: int = 8
) -> Floor:
    """The metric between two independent samples of the same source, over `repeats` pairs: its mean and its scatter.

    sample: a function n -> [n, d]. A model cannot be shown to be better than this at the sample size n.
    """
    n, repeats = check_int("n", n, minimum=2), check_int("repeats", repeats, minimum=2)
    return Floor(*estimate([metric(sample(n), sample(n)) for _ in range(repeats)]))


def _sum_distances(a: Tensor, b: Tensor) -> float:
    """Sum of |a_i - b_j| over all pairs, in slices so that memory stays small."""
    return sum(torch.cdist(s, b, compute_mode=DIRECT).sum().item() for s in a.split(1024))


def _along_flow(model, x0: Tensor, steps: int, what: Callable[[Tensor, Tensor], Tensor], conditions: dict) -> float:
    """The integral over t of E |what(x_1 - x_0, v(t, x_t))|^2 along the flow, in single precision at least."""
    given, x0 = check_tensor("x0", x0).dtype, x0.to(at_least_single(x0))

    def field(t: Tensor, x: Tensor) -> Tensor:
        return check_velocity(model(t.to(given), x.to(given), **conditions), x)

    states = heun_sampler(field, x0, steps=steps, return_trajectory=True)
    ts = torch.linspace(0, 1, len(states), dtype=x0.dtype, device=x0.device)
    way = states[-1] - states[0]
    with torch.no_grad():
        squares = [
            what(way, field(t.expand(len(x0)), x)).square().reshape(len(x0), -1).sum(1).mean()
            for t, x in zip(ts, states, strict=True)
        ]
    return torch.trapezoid(torch.stack(squares), ts).item()
