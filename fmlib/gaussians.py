"""The oracle: mixtures of Gaussians and finite data sets, with the closed forms of flow matching on every path.

If x_1 ~ sum_k w_k N(m_k, s_k^2 I), x_0 ~ N(0, I) independently and x_t = alpha x_1 + sigma x_0, then
p_t = sum_k w_k N(alpha m_k, V_k I) with V_k = alpha^2 s_k^2 + sigma^2, and given x_t = x and the component k
everything is Gaussian. The rest is an average over the components with their posterior weights r_k(x).
"""

import math

import torch
from torch import Tensor

from fmlib.checks import at_least_single, check_finite, check_int, check_points, check_t, check_tensor
from fmlib.paths import FlowPath


class GaussianMixture:
    """Mixture of K isotropic Gaussians in d dimensions, as the data distribution p_1.

    means: [K, d]; stds: [K], standard deviations (not variances), > 0; weights: [K], >= 0, normalised here.
    Methods take (path, t, x) with t a number or [B] and x [B, d], and compute in the dtype and on the device of x (half
    precision in single; the result has the dtype of x).

    Raises TypeError or ValueError that names the argument that does not fit.
    """

    def __init__(self, means: Tensor, stds: Tensor, weights: Tensor | None = None):
        check_tensor("means", means)
        if means.dim() != 2:
            raise ValueError(f"means must have shape [K, d], got {list(means.shape)}")
        k, dtype = means.shape[0], at_least_single(means)
        stds = torch.as_tensor(stds, dtype=dtype, device=means.device)
        if stds.shape not in ((), (k,)):
            raise ValueError(f"stds must be a number or have shape [{k}], one a component, got {list(stds.shape)}")
        stds = stds.expand(k)
        if weights is None:
            weights = means.new_ones(k)
        weights = torch.as_tensor(weights, dtype=dtype, device=means.device)
        if weights.shape != (k,):
            raise ValueError(f"weights must have shape [{k}], one a component, got {list(weights.shape)}")
        check_finite("means", means)
        if not bool(((stds > 0) & torch.isfinite(stds)).all()):
            raise ValueError(f"stds must be positive and finite, got {stds.tolist()}")
        if not bool(((weights >= 0) & torch.isfinite(weights)).all()) or not float(weights.sum()) > 0:
            raise ValueError(f"weights must be non-negative with a positive sum, got {weights.tolist()}")
        self.means, self.stds, self.weights = means.detach().clone(), stds.clone(), weights / weights.sum()

    @property
    def dim(self) -> int:
        return self.means.shape[1]

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n independent samples of x_1, shape [n, d]."""
        n = check_int("n", n)
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, self.dim, generator=generator, dtype=self.stds.dtype, device=self.means.device)
        return (self.means[k] + self.stds[k, None] * noise).to(self.means.dtype)

    def log_prob(self, path: FlowPath, t, x: Tensor) -> Tensor:
        """log p_t(x), shape [B], in nats."""
        return self._terms(path, t, x).log_joint.logsumexp(dim=1).to(x.dtype)

    def score(self, path: FlowPath, t, x: Tensor) -> Tensor:
        """The score, grad_x log p_t(x), shape [B, d]."""
        q = self._terms(path, t, x)
        return q.average(-q.offset / q.var)

    def posterior_mean_x1(self, path: FlowPath, t, x: Tensor) -> Tensor:
        """E[x_1 given x_t = x], shape [B, d]: the best guess of the data."""
        q = self._terms(path, t, x)
        return q.average(q.means + q.alpha * q.stds**2 / q.var * q.offset)

    def posterior_mean_x0(self, path: FlowPath, t, x: Tensor) -> Tensor:
        """E[x_0 given x_t = x], shape [B, d]: the best guess of the noise, = -sigma(t) * score."""
        q = self._terms(path, t, x)
        return q.average(q.sigma / q.var * q.offset)

    def velocity(self, path: FlowPath, t, x: Tensor) -> Tensor:
        """The marginal velocity u_t(x) = E[alpha' x_1 + sigma' x_0 given x_t = x], shape [B, d].

        Lipman et al. 2023 (arXiv 2210.02747), eq. 8. It needs sigma' only in the product sigma sigma', so that
        it is finite at both ends of every path.
        """
        q = self._terms(path, t, x)
        return q.average(q.velocity())

    def posterior_var(self, path: FlowPath, t, x: Tensor) -> Tensor:
        """tr Var[x_1 given x_t = x], shape [B]: what remains unknown about the data."""
        q = self._terms(path, t, x)
        within = self.dim * q.stds**2 * q.sigma**2 / q.var
        return q.total_variance(within, q.means + q.alpha * q.stds**2 / q.var * q.offset)

    def velocity_var(self, path: FlowPath, t, x: Tensor) -> Tensor:
        """tr Var[u_t given x_t = x], shape [B], of the target u_t = alpha' x_1 + sigma' x_0.

        Its mean over t and x_t is the CFM loss of a perfect model: the floor that no training goes below.
        """
        q = self._terms(path, t, x)
        within = self.dim * q.stds**2 * (q.d_alpha * q.sigma - q.alpha * q.d_sigma) ** 2 / q.var
        return q.total_variance(within, q.velocity())

    def _terms(self, path: FlowPath, t, x: Tensor) -> "_Terms":
        check_points("x", x, self.dim)
        dtype = at_least_single(x)
        t = check_t(t, x, dtype)[:, None, None]
        # First the dtype, then the device: there may be no float64 on it.
        means, stds, weights = (v.to(dtype).to(x.device) for v in (self.means, self.stds, self.weights))
        return _Terms(path, t, x, means, stds[:, None], weights)


class EmpiricalDistribution(GaussianMixture):
    """A finite data set as the distribution p_1: N points of equal weight, and nothing between them.

    data: [N, d]. The methods are those of `GaussianMixture` with every std at 0. Its velocity is what a network
    learns that fits the training data perfectly (the minimiser of the CFM loss over the data set), and its flow
    leads back to the data: it memorises.

    Where sigma(t) = 0 (t = 1, but for VE) p_t is a set of points and has no density: ValueError.
    """

    def __init__(self, data: Tensor):
        check_tensor("data", data)
        if data.dim() != 2:
            raise ValueError(f"data must have shape [N, d], got {list(data.shape)}")
        check_finite("data", data)
        n, data, dtype = len(data), data.detach().clone(), at_least_single(data)
        self.means, self.stds = data, data.new_zeros(n, dtype=dtype)
        self.weights = data.new_full((n,), 1 / n, dtype=dtype)

    def _terms(self, path: FlowPath, t, x: Tensor) -> "_Terms":
        terms = super()._terms(path, t, x)
        if not bool((terms.var > 0).all()):
            raise ValueError(f"t must be below 1 on the path {path.name}: with sigma(t) = 0 a data set has no density")
        return terms


class _Terms:
    """What all of the methods above share; every tensor broadcasts to [B, K, d]."""

    def __init__(self, path: FlowPath, t: Tensor, x: Tensor, means: Tensor, stds: Tensor, weights: Tensor):
        self.dtype, self.means, self.stds = x.dtype, means, stds
        self.alpha, self.sigma, self.d_alpha, self.d_sigma, self.half_d_sigma_sq = path.at(t)
        self.var = self.alpha**2 * stds**2 + self.sigma**2  # [B, K, 1]
        self.offset = x[:, None, :] - self.alpha * means  # [B, K, d]
        d = x.shape[1]
        log_normal = -0.5 * (
            self.offset.square().sum(-1) / self.var[..., 0] + d * torch.log(2 * math.pi * self.var[..., 0])
        )
        self.log_joint = torch.log(weights) + log_normal  # [B, K]
        self.posterior = self.log_joint.softmax(dim=1)[..., None]  # r_k(x): [B, K, 1]

    def average(self, values: Tensor) -> Tensor:
        """sum_k r_k values_k: [B, K, d] -> [B, d], in the dtype of x."""
        return self._mean(values).to(self.dtype)

    def _mean(self, values: Tensor) -> Tensor:
        return (self.posterior * values).sum(dim=1)

    def velocity(self) -> Tensor:
        """E[u_t given x_t = x and the component k]: [B, K, d]."""
        slope = (self.alpha * self.d_alpha * self.stds**2 + self.half_d_sigma_sq) / self.var
        return self.d_alpha * self.means + slope * self.offset

    def total_variance(self, within: Tensor, means: Tensor) -> Tensor:
        """Law of total variance, traced over d: mean of the variances plus variance of the means."""
        between = (means - self._mean(means)[:, None, :]).square().sum(-1, keepdim=True)
        return self.average(within + between)[:, 0]
