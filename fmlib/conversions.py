"""Velocity, noise, data and score: four names for one piece of knowledge, and the step from each to each.

With x_t = alpha x_1 + sigma x_0 and v = alpha' x_1 + sigma' x_0, any two of (x_0, x_1, x_t, v) give the other two:
a 2 x 2 linear system with determinant alpha sigma' - alpha' sigma. The score is -E[x_0 given x_t] / sigma (Tweedie;
Vincent 2011). All this holds for every path with *independent* Gaussian noise x_0, in conditional expectation; for
couplings that depend on each other (optimal transport, reflow) only velocity, epsilon and x_1 convert, the score
does not.

Each function takes (path, t, xt, value), with t a number or [B] and xt and value [B, ...], and returns [B, ...] in the
dtype of xt. Half precision is computed in single. The value may have another floating dtype, as from autocast.
Where the result is not determined - the formula would divide by zero - a ValueError says which quantity and where.
Names: epsilon is the predicted noise E[x_0 given x_t]; x1 the predicted data E[x_1 given x_t].
"""

from torch import Tensor

from fmlib.checks import at_least_single, check_pair, check_t, expand_t
from fmlib.paths import FlowPath


class _At:
    """The path's coefficients at t, shaped for xt; arguments checked. value: of what the quantity `name` is."""

    def __init__(self, path: FlowPath, t, xt: Tensor, value: Tensor, name: str):
        check_pair(xt, value, "xt", name, any_dtype=True)
        t = expand_t(check_t(t, xt, at_least_single(xt)), xt)
        self.path, self.t, self.source = path, t, "velocity" if name == "v" else name
        self.alpha, self.sigma, self.d_alpha, self.d_sigma, self.half_d_sigma_sq = path.at(t)

    def divide(self, numerator: Tensor, denominator: Tensor, result: str) -> Tensor:
        zero = (denominator == 0).reshape(-1)
        if bool(zero.any()):
            t, alpha, sigma = (c.reshape(-1)[zero][0].item() for c in (self.t, self.alpha, self.sigma))
            raise ValueError(
                f"{result} is not determined by {self.source} at t = {t:g} on the path {self.path.name}: "
                f"there alpha = {alpha:.3g} and sigma = {sigma:.3g}"
            )
        return numerator / denominator


def velocity_to_x1(path: FlowPath, t, xt: Tensor, v: Tensor) -> Tensor:
    """(sigma' x_t - sigma v) / (alpha sigma' - alpha' sigma). Defined for every t."""
    c = _At(path, t, xt, v, "v")
    return c.divide(c.d_sigma * xt - c.sigma * v, c.alpha * c.d_sigma - c.d_alpha * c.sigma, "x1").to(xt.dtype)


def velocity_to_epsilon(path: FlowPath, t, xt: Tensor, v: Tensor) -> Tensor:
    """(alpha v - alpha' x_t) / (alpha sigma' - alpha' sigma). Defined for every t."""
    c = _At(path, t, xt, v, "v")
    return c.divide(c.alpha * v - c.d_alpha * xt, c.alpha * c.d_sigma - c.d_alpha * c.sigma, "epsilon").to(xt.dtype)


def velocity_to_score(path: FlowPath, t, xt: Tensor, v: Tensor) -> Tensor:
    """(alpha' x_t - alpha v) / (alpha sigma sigma' - alpha' sigma^2). Not where sigma sigma' = 0 (RF, t = 1)."""
    c = _At(path, t, xt, v, "v")
    scale = c.alpha * c.half_d_sigma_sq - c.d_alpha * c.sigma**2
    return c.divide(c.d_alpha * xt - c.alpha * v, scale, "score").to(xt.dtype)


def epsilon_to_x1(path: FlowPath, t, xt: Tensor, epsilon: Tensor) -> Tensor:
    """(x_t - sigma epsilon) / alpha. Not where alpha = 0 (RF and VP-cosine at t = 0)."""
    c = _At(path, t, xt, epsilon, "epsilon")
    return c.divide(xt - c.sigma * epsilon, c.alpha, "x1").to(xt.dtype)


def epsilon_to_velocity(path: FlowPath, t, xt: Tensor, epsilon: Tensor) -> Tensor:
    """alpha' (x_t - sigma epsilon) / alpha + sigma' epsilon. Not where alpha = 0."""
    c = _At(path, t, xt, epsilon, "epsilon")
    return (c.divide(c.d_alpha * (xt - c.sigma * epsilon), c.alpha, "velocity") + c.d_sigma * epsilon).to(xt.dtype)


def epsilon_to_score(path: FlowPath, t, xt: Tensor, epsilon: Tensor) -> Tensor:
    """-epsilon / sigma. Not where sigma = 0 (t = 1, but for VE)."""
    c = _At(path, t, xt, epsilon, "epsilon")
    return c.divide(-epsilon, c.sigma, "score").to(xt.dtype)


def x1_to_epsilon(path: FlowPath, t, xt: Tensor, x1: Tensor) -> Tensor:
    """(x_t - alpha x_1) / sigma. Not where sigma = 0."""
    c = _At(path, t, xt, x1, "x1")
    return c.divide(xt - c.alpha * x1, c.sigma, "epsilon").to(xt.dtype)


def x1_to_velocity(path: FlowPath, t, xt: Tensor, x1: Tensor) -> Tensor:
    """alpha' x_1 + sigma' (x_t - alpha x_1) / sigma. Not where sigma = 0."""
    c = _At(path, t, xt, x1, "x1")
    return (c.d_alpha * x1 + c.divide(c.d_sigma * (xt - c.alpha * x1), c.sigma, "velocity")).to(xt.dtype)


def x1_to_score(path: FlowPath, t, xt: Tensor, x1: Tensor) -> Tensor:
    """(alpha x_1 - x_t) / sigma^2. Not where sigma = 0."""
    c = _At(path, t, xt, x1, "x1")
    return c.divide(c.alpha * x1 - xt, c.sigma**2, "score").to(xt.dtype)


def score_to_epsilon(path: FlowPath, t, xt: Tensor, score: Tensor) -> Tensor:
    """-sigma score. Defined for every t."""
    c = _At(path, t, xt, score, "score")
    return (-c.sigma * score).to(xt.dtype)


def score_to_x1(path: FlowPath, t, xt: Tensor, score: Tensor) -> Tensor:
    """(x_t + sigma^2 score) / alpha: Tweedie's formula. Not where alpha = 0."""
    c = _At(path, t, xt, score, "score")
    return c.divide(xt + c.sigma**2 * score, c.alpha, "x1").to(xt.dtype)


def score_to_velocity(path: FlowPath, t, xt: Tensor, score: Tensor) -> Tensor:
    """(alpha' / alpha) (x_t + sigma^2 score) - sigma sigma' score. Not where alpha = 0.

    In noising time this is the probability-flow ODE: f = -(alpha'/alpha) x and g^2 / 2 the factor of the score
    (Song et al. 2021, arXiv 2011.13456, eq. 13, with both signs turned because t runs the other way).
    """
    c = _At(path, t, xt, score, "score")
    drift = c.divide(c.d_alpha * (xt + c.sigma**2 * score), c.alpha, "velocity")
    return (drift - c.half_d_sigma_sq * score).to(xt.dtype)


def velocity_to_v_diff(path: FlowPath, t, xt: Tensor, v: Tensor) -> Tensor:
    """v_diff = alpha epsilon - sigma x_1, the "v" of Salimans & Ho 2022 (arXiv 2202.00512), from the velocity.

    On a VP path v = -(alpha' / sigma) v_diff; in general v contains x_t as well.
    """
    c = _At(path, t, xt, v, "v")
    return (c.alpha * velocity_to_epsilon(path, t, xt, v) - c.sigma * velocity_to_x1(path, t, xt, v)).to(xt.dtype)


def v_diff_to_velocity(path: FlowPath, t, xt: Tensor, v_diff: Tensor) -> Tensor:
    """alpha' x_1 + sigma' epsilon, with x_1 and epsilon solved from x_t and v_diff. Defined for every t."""
    c = _At(path, t, xt, v_diff, "v_diff")
    norm = c.alpha**2 + c.sigma**2
    x1, epsilon = (c.alpha * xt - c.sigma * v_diff) / norm, (c.sigma * xt + c.alpha * v_diff) / norm
    return (c.d_alpha * x1 + c.d_sigma * epsilon).to(xt.dtype)
