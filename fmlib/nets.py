"""Networks v_theta(t, x) that are small enough for a laptop, and the scale of their data."""

import math

import torch
from torch import Tensor, nn

from fmlib.checks import check_int, check_label, check_number, check_points, check_t, check_tensor, in_double
from fmlib.paths import FlowPath


class _Single(nn.Module):
    """A module whose buffers stay in single precision: `model.bfloat16()` must not round a frequency or a mean."""

    def _apply(self, fn, *args, **kwargs):
        def move(x: Tensor) -> Tensor:
            moved = fn(x)
            return moved if moved.dtype == x.dtype else x.to(moved.device)

        return super()._apply(move, *args, **kwargs)


class Normaliser(_Single):
    """z = (x - mean) / scale and back: the part of a model that brings data to the scale of the noise, N(0, I).

    A flow mixes noise and data, alpha x_1 + sigma x_0, so both must have about the same size. Given to a network,

        model.normaliser = Normaliser.fit(data)

    it is a part of it, in its state_dict and in its average. `train_flow_matching` then trains on z. Everything
    else works in z as well: samplers start from noise and end in z, and `model.normaliser.restore` gives x. For
    likelihoods: log p(x) = log p(z) - sum(log scale). The network itself is called as before.

    mean: of the shape of one sample, [...]; scale: a number above 0, or a tensor that broadcasts to mean. They are
    kept in single precision, whatever the dtype of the model. Raises TypeError or ValueError if they do not fit.
    """

    def __init__(self, mean: Tensor, scale: Tensor | float = 1.0):
        super().__init__()
        if not isinstance(mean, Tensor) or not mean.is_floating_point() or not bool(mean.isfinite().all()):
            raise TypeError(f"mean must be a tensor of finite floating-point numbers, got {mean!r:.80}")
        scale = torch.as_tensor(scale, device=mean.device).to(mean.dtype)
        if not bool(((scale > 0) & scale.isfinite()).all()):
            raise ValueError(f"scale must be finite and above 0, got {scale!r:.80}")
        try:
            scale = scale.expand(mean.shape)
        except RuntimeError:
            raise ValueError(f"scale {list(scale.shape)} must broadcast to mean, {list(mean.shape)}") from None
        self.register_buffer("mean", mean.detach().float().clone())
        self.register_buffer("scale", scale.detach().float().clone())

    @classmethod
    def fit(cls, data: Tensor, per_coordinate: bool = False) -> "Normaliser":
        """Mean and standard deviation of data [N, ...], N >= 2.

        One scale for all coordinates keeps their proportions, as pixels want it: the root mean square of their
        standard deviations. per_coordinate: each its own, for units of their own. What does not vary keeps 1.
        """
        if len(check_tensor("data", data)) < 2 or not bool(data.isfinite().all()):
            raise ValueError(f"data must be finite, of shape [N, ...] with N >= 2, got {list(data.shape)}")
        x = in_double(data)
        std = x.std(dim=0, correction=0) if per_coordinate else x.var(dim=0, correction=0).mean().sqrt()
        return cls(x.mean(dim=0), std.masked_fill(std == 0, 1.0)).to(data.device)

    def normalise(self, x: Tensor) -> Tensor:
        """x [B, ...] in the units of the data -> z [B, ...]."""
        return ((self._check("x", x) - self.mean) / self.scale).to(x.dtype)

    def restore(self, z: Tensor) -> Tensor:
        """The inverse of `normalise`: samples z [B, ...] of the flow -> x in the units of the data."""
        return (self._check("z", z) * self.scale + self.mean).to(z.dtype)

    def _check(self, name: str, x: Tensor) -> Tensor:
        if check_tensor(name, x).shape[1:] != self.mean.shape:
            raise ValueError(f"{name} must have shape {['B', *self.mean.shape]}, got {list(x.shape)}".replace("'", ""))
        return x


class SinusoidalTimeEmbed(_Single):
    """Features cos(f t), sin(f t) of t in [0, 1] at dim / 2 frequencies f: t [B] -> [B, dim].

    The frequencies form a geometric series from pi/2 to 64 pi/2 rad per unit of t. The slowest feature makes a
    quarter turn over [0, 1], so every feature moves; the factor 64 was chosen here, and lesson 04 measures what it
    does. The Transformer's embedding (Vaswani et al. 2017, section 3.5) has frequencies from 1 down to 1e-4, made
    for positions 0, 1, 2, ...: on [0, 1] almost all of its features stand still. FLUX and SD3.5 keep those
    frequencies and multiply t by 1000 instead. Angles are computed in single precision at least, that of the buffer.

    dim: an even number >= 4. Raises TypeError or ValueError otherwise.
    """

    def __init__(self, dim: int):
        super().__init__()
        if check_int("dim (t_dim of a network)", dim, minimum=4) % 2:
            raise ValueError(f"dim (t_dim of a network) must be even, for a cosine and a sine each, got {dim}")
        freqs = [math.pi / 2 * 64 ** (k / (dim // 2 - 1)) for k in range(dim // 2)]
        self.register_buffer("freqs", torch.tensor(freqs, dtype=torch.float32), persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        angle = t[:, None] * self.freqs
        return torch.cat([angle.cos(), angle.sin()], dim=-1).to(t.dtype)


class _VectorField(nn.Module):
    """What the networks share: the projections of x, of t and of the class, and the checks on what comes in."""

    def __init__(self, dim: int, hidden: int, t_dim: int, num_classes: int | None):
        super().__init__()
        self.dim, hidden = check_int("dim", dim), check_int("hidden", hidden)
        self.num_classes = None if num_classes is None else check_int("num_classes", num_classes)
        self.x_in = nn.Linear(dim, hidden)
        self.t_in = nn.Sequential(SinusoidalTimeEmbed(t_dim), nn.Linear(t_dim, hidden))
        if num_classes is not None:
            self.label_in = nn.Embedding(num_classes + 1, hidden)  # the last row means "no class"

    def condition(self, t: Tensor, x: Tensor, label=None) -> Tensor:
        """The sum of the embeddings of t and of the class, [B, hidden], after checking all three."""
        check_points("x", x, self.dim)
        if x.dtype != self.x_in.weight.dtype and not torch.is_autocast_enabled(x.device.type):
            raise TypeError(f"x must have the dtype of the network, {self.x_in.weight.dtype}, got {x.dtype}")
        # A time for each sample, as samplers and losses send it, is taken as it is: checking its range would make a
        # GPU wait at each call. Everything else is checked.
        if not isinstance(t, Tensor) or t.shape != x.shape[:1] or t.dtype != x.dtype:
            t = check_t(t, x)
        if self.num_classes is None:
            if label is not None:
                raise ValueError(
                    "label must be None: this network was made without num_classes. To train it on labelled batches, "
                    "give it num_classes, or take the labels out of the batches"
                )
            return self.t_in(t)
        label = self.num_classes if label is None else label
        return self.t_in(t) + self.label_in(check_label(label, self.num_classes, x))


class VectorFieldMLP(_VectorField):
    """A multilayer perceptron v_theta(t, x): t [B] or a number, x [B, dim] -> [B, dim].

    The projections of x and of the time features are added, each from its own linear layer. Concatenating the
    2 coordinates of x with 128 time features looks harmless but drowns x: the layer's initial weights scale with
    1 / sqrt(inputs), so at the start x is 2 inputs among 130.

    dim: dimension of x; hidden: width; t_dim: number of time features.
    num_classes: None, or K for a network that is called as model(t, x, label), label [B] or a number, of integers
        0 ... K-1; K, or no label at all, means "no class" (see `guidance`).
    """

    def __init__(self, dim: int, hidden: int = 256, t_dim: int = 128, num_classes: int | None = None):
        super().__init__(dim, hidden, t_dim, num_classes)
        self.trunk = nn.Sequential(
            nn.SiLU(), nn.Linear(hidden, hidden),
            nn.SiLU(), nn.Linear(hidden, hidden),
            nn.SiLU(), nn.Linear(hidden, dim),
        )  # fmt: skip

    def forward(self, t: Tensor, x: Tensor, label=None) -> Tensor:
        return self.trunk(self.condition(t, x, label) + self.x_in(x))


class FourierMLP(VectorFieldMLP):
    """v = (best linear velocity) x + c(t) F(t, x / std x_t), F a `VectorFieldMLP`: draws edges that F alone blurs.

    path, data_std: of the training. The linear part is exact for data N(0, data_std^2 I); c(t) is the spread of u_t
        that it leaves, so that F learns numbers of about 1 (EDM, Karras et al. 2022, arXiv 2206.00364, section 5).
    waves: how many waves F sees besides x (Tancik et al. 2020, arXiv 2006.10739), whose frequencies are drawn from
        N(0, frequency^2 I) when the network is made. The rest, and how it is called, as for `VectorFieldMLP`.
    """

    def __init__(
        self, dim: int, path: FlowPath, data_std: float, hidden: int = 96, waves: int = 64, frequency: float = 3.0, **kw
    ):
        super().__init__(dim, hidden, **kw)
        self.path, self.data_std = path, check_number("data_std", data_std, 0, open_low=True)
        self.waves = _Single()
        frequency = check_number("frequency", frequency, 0)
        self.waves.register_buffer("w", frequency * torch.randn(dim, check_int("waves", waves)))
        self.x_in = nn.Linear(dim + 2 * waves, hidden)

    def forward(self, t: Tensor, x: Tensor, label=None) -> Tensor:
        condition, dtype = self.condition(t, x, label), torch.promote_types(x.dtype, torch.float32)
        c = self.path.at(torch.as_tensor(t, dtype=dtype, device=x.device).reshape(-1, 1))
        var, s2 = (c.alpha * self.data_std) ** 2 + c.sigma**2, self.data_std**2
        left = self.data_std * (c.d_alpha * c.sigma - c.alpha * c.d_sigma).abs() / var.sqrt()
        angle = (z := x / var.sqrt()) @ self.waves.w.to(dtype)
        f = self.trunk(condition + self.x_in(torch.cat([z, angle.cos(), angle.sin()], dim=1).to(x.dtype)))
        return ((c.alpha * c.d_alpha * s2 + c.half_d_sigma_sq) / var * x + left * f).to(x.dtype)

    def extra_repr(self) -> str:
        return f"path={self.path.name}, data_std={self.data_std:g}"


class ResidualMLP(_VectorField):
    """Residual blocks h <- h + MLP(LayerNorm(h + c)), where c embeds t and the class: for images as vectors.

    Each block sees the condition anew, and the normalisation keeps deep stacks trainable (pre-norm residual blocks
    as in a Transformer, without attention). Arguments and call as for `VectorFieldMLP`; blocks: how many.
    """

    def __init__(self, dim: int, hidden: int = 256, blocks: int = 3, t_dim: int = 128, num_classes: int | None = None):
        super().__init__(dim, hidden, t_dim, num_classes)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
            for _ in range(check_int("blocks", blocks))
        )
        self.out = nn.Sequential(nn.LayerNorm(hidden), nn.SiLU(), nn.Linear(hidden, dim))

    def forward(self, t: Tensor, x: Tensor, label=None) -> Tensor:
        c = self.condition(t, x, label)
        h = self.x_in(x) + c
        for block in self.blocks:
            h = h + block(h + c)
        return self.out(h)
