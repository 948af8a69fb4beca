"""Toy distributions with independent samples."""

import math

import numpy as np
import torch
from torch import Tensor

from fmlib.batches import SampledBatches
from fmlib.checks import check_int
from fmlib.gaussians import GaussianMixture

MOON_STD = 0.1  # noise 0.05 on the unit moons, times the scale 2


def _moon_arcs(angle: Tensor, upper: Tensor) -> Tensor:
    """Points [n, 2] on the two half circles of scikit-learn's make_moons, scaled by 2."""
    x = torch.where(upper, angle.cos(), 1 - angle.cos())
    y = torch.where(upper, angle.sin(), 0.5 - angle.sin())
    return 2 * torch.stack([x, y], dim=1)


def sample_moons(n: int, generator: torch.Generator | None = None) -> Tensor:
    """n independent points of the two moons of the quick reference: make_moons(noise=0.05) times 2. [n, 2].

    scikit-learn's make_moons spaces its points evenly along the arcs and puts exactly half on each moon. Such
    points are not independent, and a sampling floor measured with them is too low. Here angle and moon are drawn.
    """
    n = check_int("n", n)
    angle = math.pi * torch.rand(n, generator=generator)
    upper = torch.rand(n, generator=generator) < 0.5
    return _moon_arcs(angle, upper) + MOON_STD * torch.randn(n, 2, generator=generator)


def moons_mixture(points_per_moon: int = 80) -> GaussianMixture:
    """The moons as a Gaussian mixture, with every closed form that comes with it.

    A moon is an arc blurred with a Gaussian of standard deviation 0.1: an integral over the angle. Gauss-Legendre
    nodes and weights turn it into a finite mixture; at 80 points a moon the density is right to 1e-5 everywhere.
    """
    m = check_int("points_per_moon", points_per_moon, minimum=8)
    nodes, weights = (torch.tensor(a) for a in np.polynomial.legendre.leggauss(m))
    angle = math.pi / 2 * (nodes + 1)
    upper = torch.ones(m, dtype=torch.bool)
    means = torch.cat([_moon_arcs(angle, upper), _moon_arcs(angle, ~upper)])
    return GaussianMixture(means, torch.tensor(MOON_STD), weights.repeat(2))


def three_gaussians() -> GaussianMixture:
    """The lessons' standard oracle in two dimensions: three Gaussians of unequal width and weight at radius 2."""
    angle = torch.tensor([90.0, 210.0, 330.0], dtype=torch.float64) * math.pi / 180
    means = 2 * torch.stack([angle.cos(), angle.sin()], dim=1)
    return GaussianMixture(means, torch.tensor([0.35, 0.5, 0.25]), torch.tensor([0.5, 0.3, 0.2]))


def eight_gaussians() -> GaussianMixture:
    """Eight equal Gaussians of standard deviation 0.25 on a circle of radius 3."""
    angle = torch.arange(8, dtype=torch.float64) * math.pi / 4
    return GaussianMixture(3 * torch.stack([angle.cos(), angle.sin()], dim=1), torch.tensor(0.25))


def sample_eight_gaussians(n: int, generator: torch.Generator | None = None) -> Tensor:
    """n independent points of `eight_gaussians`, [n, 2] in single precision."""
    return eight_gaussians().sample(n, generator).float()


def sample_checkerboard(n: int, generator: torch.Generator | None = None) -> Tensor:
    """n independent points on the eight dark squares, of side 2, of a 4 x 4 board over [-4, 4]^2. [n, 2].

    The density is 1/32 on the dark squares and 0 elsewhere.
    """
    n = check_int("n", n)
    column = torch.randint(4, (n,), generator=generator)
    row = 2 * torch.randint(2, (n,), generator=generator) + column % 2
    return 2 * (torch.stack([column, row], dim=1) + torch.rand(n, 2, generator=generator)) - 4


class MoonDataset(SampledBatches):
    """The dataloader of the quick reference's example: `total` batches of fresh moons."""

    def __init__(self, batch: int = 512, total: int = 5000):
        super().__init__(sample_moons, batch, total)
