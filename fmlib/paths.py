"""Probability paths x_t = alpha(t) x_1 + sigma(t) x_0, from noise (t = 0) to data (t = 1).

Every path here is a pair of scalar functions of t. The rest - the sample x_t and the regression target
u_t = d x_t / dt - follows from them, as in Lipman et al. 2023 (arXiv 2210.02747), Theorem 3.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fmlib.checks import at_least_single, check_int, check_number, check_pair, check_t, expand_t

Schedule = Callable[[Tensor], Tensor]


class Coefficients(NamedTuple):
    """alpha, sigma and their derivatives at some times, each of the shape of t."""

    alpha: Tensor
    sigma: Tensor
    d_alpha: Tensor
    d_sigma: Tensor
    half_d_sigma_sq: Tensor


@dataclass(frozen=True)
class FlowPath:
    """A Gaussian probability path. FlowPath("mine", alpha, sigma) is one: the rest follows from the two functions.

    name:              for labels and messages.
    alpha, d_alpha:    the factor of the data x_1 and its derivative in t; any shape in, the same shape out.
    sigma, d_sigma:    the factor of the noise x_0 and its derivative in t.
    half_d_sigma_sq:   sigma * d_sigma, the derivative of sigma^2 / 2. It stays finite where d_sigma does not
                       (VP-linear at t = 1), and the marginal velocity needs only this product.
    A derivative that is not given is taken by automatic differentiation.
    """

    name: str
    alpha: Schedule
    sigma: Schedule
    d_alpha: Schedule | None = None
    d_sigma: Schedule | None = None
    half_d_sigma_sq: Schedule | None = None

    def __post_init__(self):
        for name, derived in (
            ("d_alpha", lambda t: _derivative(self.alpha, t)),
            ("d_sigma", lambda t: _derivative(self.sigma, t)),
            ("half_d_sigma_sq", lambda t: self.sigma(t) * self.d_sigma(t)),
        ):
            if getattr(self, name) is None:
                object.__setattr__(self, name, derived)

    def at(self, t: Tensor) -> Coefficients:
        """All coefficients at t."""
        return Coefficients(*(getattr(self, name)(t) for name in Coefficients._fields))

    def sample_xt(self, t, x0: Tensor, x1: Tensor) -> Tensor:
        """x_t = alpha(t) x_1 + sigma(t) x_0.

        t: a number or [B], in [0, 1]; x0 (noise) and x1 (data): [B, ...]. Returns [B, ...].
        Raises ValueError or TypeError that names the argument that does not fit.
        """
        return self._combine(self.alpha, self.sigma, t, x0, x1)

    def target_ut(self, t, x0: Tensor, x1: Tensor) -> Tensor:
        """u_t = d x_t / dt = alpha'(t) x_1 + sigma'(t) x_0: the target that a flow matching model regresses.

        Shapes and errors as for `sample_xt`.
        """
        return self._combine(self.d_alpha, self.d_sigma, t, x0, x1)

    def _combine(self, of_x1: Schedule, of_x0: Schedule, t, x0: Tensor, x1: Tensor) -> Tensor:
        check_pair(x0, x1)
        # Half precision has too few digits for t: the factors are computed in single.
        t = expand_t(check_t(t, x1, at_least_single(x1)), x1)
        return (of_x1(t) * x1 + of_x0(t) * x0).to(x1.dtype)

    @property
    def prior_std(self) -> float:
        """Standard deviation of the noise at t = 0: 1 for rectified flow and VP, sigma_max for VE."""
        return float(self.sigma(torch.zeros((), dtype=torch.float64, device="cpu")))

    def sample_prior(self, *shape: int, device=None, dtype=None, generator=None) -> Tensor:
        """Where sampling starts: prior_std * N(0, I), of the given shape.

        Only the start of a *sampler* is scaled. In training x_0 stays N(0, I), because `sample_xt` multiplies
        it by sigma(t) already; scaling it there as well would scale twice.
        """
        shape = [check_int("shape", n) for n in shape]
        return self.prior_std * torch.randn(*shape, device=device, dtype=dtype, generator=generator)


def _derivative(f: Schedule, t: Tensor) -> Tensor:
    t = t.clone()  # samplers pass one time, expanded to the batch, and jvp writes to what it is given
    return torch.func.jvp(f, (t,), (torch.ones_like(t),))[1]


def rectified_flow_path() -> FlowPath:
    """x_t = (1 - t) x_0 + t x_1, u_t = x_1 - x_0.

    Liu et al. 2022 (arXiv 2209.03003), eq. 1; I-CFM of Tong et al. 2023 (arXiv 2302.00482) at sigma = 0.
    """
    return FlowPath(
        "rectified_flow",
        alpha=lambda t: t,
        sigma=lambda t: 1 - t,
        d_alpha=torch.ones_like,
        d_sigma=lambda t: -torch.ones_like(t),
        half_d_sigma_sq=lambda t: t - 1,
    )


def vp_cosine_path() -> FlowPath:
    """x_t = sin(pi t / 2) x_1 + cos(pi t / 2) x_0: variance preserving, alpha^2 + sigma^2 = 1.

    The continuous, offset-free form of the cosine schedule of Nichol & Dhariwal 2021 (arXiv 2102.09672, eq. 17);
    the trigonometric interpolant of Albergo & Vanden-Eijnden 2022 (arXiv 2209.15571).
    """
    c = math.pi / 2
    alpha = lambda t: torch.sin(c * t)
    sigma = lambda t: torch.sin(c * (1 - t))  # exactly 0 at t = 1, where cos(pi / 2) in floating point is not
    return FlowPath(
        "vp_cosine",
        alpha,
        sigma,
        d_alpha=lambda t: c * sigma(t),
        d_sigma=lambda t: -c * alpha(t),
        half_d_sigma_sq=lambda t: -c * alpha(t) * sigma(t),
    )


def vp_linear_path(beta_min: float = 0.1, beta_max: float = 20.0) -> FlowPath:
    """The VP SDE with a linear beta, of DDPM and Song et al. 2021 (arXiv 2011.13456, eqs. 32-33), as a path.

    With noising time tau = 1 - t and T = beta_min tau + (beta_max - beta_min) tau^2 / 2:
    alpha = exp(-T / 2), sigma = sqrt(1 - exp(-T)).

    At t = 1 sigma behaves like sqrt(beta_min tau), so d_sigma tends to -infinity. `d_sigma` is therefore evaluated
    at tau >= 1e-5, the cut-off that Song et al. train and sample with (appendix C); everything else is exact there.
    At t = 0 a trace of the data is left: alpha = 0.00657 with the defaults.

    Raises ValueError unless 0 < beta_min <= beta_max < infinity.
    """
    beta_min, beta_max = check_number("beta_min", beta_min), check_number("beta_max", beta_max)
    if not 0 < beta_min <= beta_max:
        raise ValueError(f"beta_min and beta_max must satisfy 0 < beta_min <= beta_max, got {beta_min} and {beta_max}")
    beta = lambda tau: beta_min + (beta_max - beta_min) * tau
    big_t = lambda tau: beta_min * tau + 0.5 * (beta_max - beta_min) * tau**2
    alpha = lambda t: torch.exp(-0.5 * big_t(1 - t))
    sigma = lambda t: torch.sqrt(-torch.expm1(-big_t(1 - t)))  # expm1 keeps the digits of a small T

    def d_sigma(t):
        tau = (1 - t).clamp_min(1e-5)  # not 1 - clamp(t): in float32 that would round tau
        return -0.5 * beta(tau) * torch.exp(-big_t(tau)) / torch.sqrt(-torch.expm1(-big_t(tau)))

    return FlowPath(
        "vp_linear",
        alpha,
        sigma,
        d_alpha=lambda t: 0.5 * beta(1 - t) * alpha(t),
        d_sigma=d_sigma,
        half_d_sigma_sq=lambda t: -0.5 * beta(1 - t) * alpha(t) ** 2,
    )


def ve_path(sigma_min: float = 0.01, sigma_max: float = 50.0) -> FlowPath:
    """x_t = x_1 + sigma(t) x_0 with sigma falling log-linearly from sigma_max (t = 0) to sigma_min (t = 1).

    Variance exploding, as in SMLD and Song et al. 2021 (arXiv 2011.13456, eq. 30); Lipman et al. 2023, eq. 16.
    Two things differ from the other paths. Sampling starts at N(0, sigma_max^2 I): use `sample_prior`. And at
    t = 1 a blur of sigma_min is left: p_1 is the data convolved with N(0, sigma_min^2 I).

    Raises ValueError unless 0 < sigma_min < sigma_max < infinity.
    """
    sigma_min, sigma_max = check_number("sigma_min", sigma_min), check_number("sigma_max", sigma_max)
    if not 0 < sigma_min < sigma_max:
        raise ValueError(
            f"sigma_min and sigma_max must satisfy 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}"
        )
    log_min, log_max = math.log(sigma_min), math.log(sigma_max)
    sigma = lambda t: torch.exp(log_max * (1 - t) + log_min * t)
    return FlowPath(
        "ve",
        torch.ones_like,
        sigma,
        d_alpha=torch.zeros_like,
        d_sigma=lambda t: (log_min - log_max) * sigma(t),
        half_d_sigma_sq=lambda t: (log_min - log_max) * sigma(t) ** 2,
    )
