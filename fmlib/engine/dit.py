"""A small diffusion transformer: attention over the patches of an image, for flows on images as vectors."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fmlib.checks import check_int
from fmlib.nets import _VectorField


def _zero_linear(n_in: int, n_out: int) -> nn.Linear:
    """A linear layer that starts at 0: what it controls starts switched off."""
    layer = nn.Linear(n_in, n_out)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class _Modulated(nn.Module):
    """LayerNorm without weights of its own; shift and scale come from the condition: h [B, N, D], c [B, D]."""

    def __init__(self, hidden: int, signals: int):
        super().__init__()
        self.signals = signals
        self.norm = nn.LayerNorm(hidden, elementwise_affine=False, eps=1e-6)
        self.from_condition = nn.Sequential(nn.SiLU(), _zero_linear(hidden, signals * hidden))

    def forward(self, c: Tensor) -> tuple[Tensor, ...]:
        return self.from_condition(c)[:, None].chunk(self.signals, dim=-1)

    def modulate(self, h: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        return self.norm(h) * (1 + scale) + shift


class DiTBlock(nn.Module):
    """h <- h + gate * attention(norm(h)), then h <- h + gate * MLP(norm(h)); the gates are 0 at the start (adaLN-Zero).

    h [B, N, hidden]: N tokens; c [B, hidden]: the condition, which sets shift, scale and gate of both halves.
    With checkpointing only h and c are kept for the backward pass, and everything between is computed a second time.
    The switch sits inside the block, so that `fully_shard` of a block wraps around it.
    """

    def __init__(self, hidden: int, heads: int, checkpointing: bool = False):
        super().__init__()
        self.heads, self.checkpointing = heads, checkpointing
        self.adaln = _Modulated(hidden, 6)
        self.qkv, self.out = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.mlp = nn.Sequential(
            nn.Linear(hidden, 4 * hidden), nn.GELU(approximate="tanh"), nn.Linear(4 * hidden, hidden)
        )

    def attention(self, h: Tensor) -> Tensor:
        b, n, d = h.shape
        q, k, v = self.qkv(h).reshape(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d))

    def update(self, h: Tensor, c: Tensor) -> Tensor:
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.adaln(c)
        h = h + gate_a * self.attention(self.adaln.modulate(h, shift_a, scale_a))
        return h + gate_m * self.mlp(self.adaln.modulate(h, shift_m, scale_m))

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        if self.checkpointing and self.training:
            return checkpoint(self.update, h, c, use_reentrant=False)
        return self.update(h, c)


class SmallDiT(_VectorField):
    """A diffusion transformer v_theta(t, x) for images as vectors (Peebles & Xie 2023, arXiv 2212.09748).

    t [B] or a number, x [B, channels * side * side] -> the same shape; label as for `VectorFieldMLP`. The image is
    cut into (side / patch)^2 patches, each becomes a token with a learned position, and adaLN-Zero blocks follow.
    All gates and the last layer start at 0, so the network starts as v = 0 (section 3.2 there).

    side, channels, patch: of the image; patch divides side. hidden: width of a token; blocks: how many; heads: of
        the attention, a divisor of hidden. t_dim, num_classes: as for `VectorFieldMLP`.
    checkpointing: in train mode, compute the blocks a second time in the backward pass instead of storing what
        happens inside them: less memory, about half as much time again.
    Raises TypeError or ValueError that names the argument that does not fit.
    """

    def __init__(
        self,
        side: int = 8,
        channels: int = 1,
        patch: int = 2,
        hidden: int = 64,
        blocks: int = 4,
        heads: int = 4,
        t_dim: int = 128,
        num_classes: int | None = None,
        checkpointing: bool = False,
    ):
        side, channels, patch = check_int("side", side), check_int("channels", channels), check_int("patch", patch)
        if side % patch:
            raise ValueError(f"patch must divide side, got patch = {patch} and side = {side}")
        if check_int("hidden", hidden) % check_int("heads", heads):
            raise ValueError(f"heads must divide hidden, got heads = {heads} and hidden = {hidden}")
        if not isinstance(checkpointing, bool):
            raise TypeError(f"checkpointing must be True or False, got {checkpointing!r}")
        super().__init__(channels * side * side, hidden, t_dim, num_classes)
        self.channels, self.patch, self.grid = channels, patch, side // patch
        self.x_in = nn.Linear(channels * patch**2, hidden)  # one patch at a time, instead of the whole vector
        self.position = nn.Parameter(0.02 * torch.randn(self.grid**2, hidden))
        self.blocks = nn.ModuleList(DiTBlock(hidden, heads, checkpointing) for _ in range(check_int("blocks", blocks)))
        self.adaln = _Modulated(hidden, 2)
        self.out = _zero_linear(hidden, channels * patch**2)

    def to_patches(self, x: Tensor) -> Tensor:
        """x [B, channels * side * side] -> patches [B, (side / patch)^2, channels * patch^2], row by row."""
        x = x.reshape(-1, self.channels, self.grid, self.patch, self.grid, self.patch)
        return x.permute(0, 2, 4, 1, 3, 5).reshape(len(x), self.grid**2, -1)

    def from_patches(self, patches: Tensor) -> Tensor:
        """The inverse of `to_patches`."""
        x = patches.reshape(-1, self.grid, self.grid, self.channels, self.patch, self.patch)
        return x.permute(0, 3, 1, 4, 2, 5).reshape(len(x), self.dim)

    def forward(self, t: Tensor, x: Tensor, label=None) -> Tensor:
        c = self.condition(t, x, label)
        h = self.x_in(self.to_patches(x)) + self.position
        for block in self.blocks:
            h = block(h, c)
        return self.from_patches(self.out(self.adaln.modulate(h, *self.adaln(c))))
