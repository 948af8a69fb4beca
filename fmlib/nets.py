"""Networks v_theta(t, x) that are small enough for a laptop."""

import math

import torch
from torch import Tensor, nn

from fmlib.checks import check_int, check_t, check_tensor


class SinusoidalTimeEmbed(nn.Module):
    """Features cos(f t), sin(f t) of t in [0, 1] at dim / 2 frequencies f: t [B] -> [B, dim].

    The frequencies form a geometric series from pi/2 to 64 pi/2 rad per unit of t. The slowest feature makes a
    quarter turn over [0, 1], so every feature moves. The Transformer's embedding (Vaswani et al. 2017, section 3.5)
    has frequencies from 1 down to 1e-4, made for positions 0, 1, 2, ...: on [0, 1] almost all of its features
    stand still. FLUX and SD3.5 keep those frequencies and multiply t by 1000 instead.

    dim: an even number >= 4. Raises TypeError or ValueError otherwise.
    """

    def __init__(self, dim: int):
        super().__init__()
        if check_int("dim (t_dim of a network)", dim, minimum=4) % 2:
            raise ValueError(
                f"dim (t_dim of a network) must be even, a cosine and a sine for each frequency, got {dim}"
            )
        exponent = torch.linspace(0, 1, dim // 2, dtype=torch.float64)
        self.register_buffer("freqs", (math.pi / 2 * 64**exponent).float(), persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        angle = t[:, None] * self.freqs.to(t.dtype)
        return torch.cat([angle.cos(), angle.sin()], dim=-1)


class VectorFieldMLP(nn.Module):
    """A multilayer perceptron v_theta(t, x): t [B] or a number, x [B, dim] -> [B, dim].

    The projections of x and of the time features are added, each from its own linear layer. Concatenating the
    2 coordinates of x with 128 time features looks harmless but drowns x: the layer's initial weights scale with
    1 / sqrt(inputs), so at the start x is 2 inputs among 130.

    dim: dimension of x; hidden: width; t_dim: number of time features.
    """

    def __init__(self, dim: int, hidden: int = 256, t_dim: int = 128):
        super().__init__()
        self.dim = check_int("dim", dim)
        hidden = check_int("hidden", hidden)
        self.x_in = nn.Linear(dim, hidden)
        self.t_in = nn.Sequential(SinusoidalTimeEmbed(t_dim), nn.Linear(t_dim, hidden))
        self.trunk = nn.Sequential(
            nn.SiLU(), nn.Linear(hidden, hidden),
            nn.SiLU(), nn.Linear(hidden, hidden),
            nn.SiLU(), nn.Linear(hidden, dim),
        )  # fmt: skip

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        check_tensor("x", x)
        if x.dim() != 2 or x.shape[1] != self.dim:
            raise ValueError(f"x must have shape [B, {self.dim}], got {list(x.shape)}")
        if x.dtype != self.x_in.weight.dtype:
            raise TypeError(f"x must have the dtype of the network, {self.x_in.weight.dtype}, got {x.dtype}")
        # A time for each sample, as samplers and losses send it, is taken as it is: checking its range would make a
        # GPU wait at each call. Everything else is checked.
        if not isinstance(t, Tensor) or t.shape != x.shape[:1] or t.dtype != x.dtype:
            t = check_t(t, x)
        return self.trunk(self.x_in(x) + self.t_in(t))
