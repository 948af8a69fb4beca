"""scikit-learn's handwritten digits as data for flows, and a classifier that judges what a flow draws."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmlib.checks import check_int, check_tensor


class Digits(NamedTuple):
    """Handwritten digits as vectors in [-1, 1]: train [1437, 64] and test [360, 64], with their classes 0-9."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor

    def sample_train(self, n: int) -> Tensor:
        """n training digits drawn with replacement, dequantised anew: [n, 64]."""
        return self.sample_labelled(n)[0]

    def sample_labelled(self, n: int) -> tuple[Tensor, Tensor]:
        """As `sample_train`, with the classes: ([n, 64], [n])."""
        i = torch.randint(len(self.train), (n,))
        return dequantise(self.train[i]), self.train_labels[i]


def load_digits_flow(seed: int = 0) -> Digits:
    """The 1,797 8 x 8 digits of scikit-learn (UCI, Alpaydin & Kaynak 1998), shuffled by `seed`, 80 / 20 split.

    Pixel levels 0 ... 16 become the centres of 17 equal bins of [-1, 1]; see `dequantise`.
    """
    from sklearn.datasets import load_digits  # here, because importing scikit-learn takes half a second

    images, labels = load_digits(return_X_y=True)
    x = (torch.tensor(images, dtype=torch.float32) + 0.5) / 17 * 2 - 1
    y = torch.tensor(labels)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    train, test = order[:1437], order[1437:]
    return Digits(x[train], y[train], x[test], y[test])


def dequantise(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Spread each pixel level evenly over its bin, of width 2 / 17.

    A density on 17 isolated levels does not exist; one on the spread values does (Theis et al. 2016,
    arXiv 1511.01844, section 3.1).
    """
    check_tensor("x", x)
    noise = torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    return x + (noise - 0.5) * (2 / 17)


class DigitClassifier(nn.Module):
    """A small convolutional network on vectors x [B, 64] in [-1, 1]: forward gives the 10 logits.

    Made for judging generated digits: `predict` gives classes, `features` the 64 numbers before the last layer. It
    takes digits of any floating-point dtype.
    """

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)),
            nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1, stride=2), nn.ReLU(),
            nn.Flatten(), nn.Dropout(0.3), nn.Linear(1024, 64), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self._body(x))

    def _body(self, x: Tensor) -> Tensor:
        if check_tensor("x", x).shape[1:] != (64,):
            raise ValueError(f"x must have shape [B, 64], got {list(x.shape)}")
        return self.body(x.to(self.head.weight.dtype))

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        return self._body(x)

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        return self(x).argmax(dim=1)

    def agreement(self, x: Tensor, label: Tensor) -> float:
        """The share of x [B, 64] that is put into its class, label [B]."""
        return (self.predict(x) == label).sum().item() / len(x)


@torch.inference_mode(False)
@torch.enable_grad()
def train_digit_classifier(digits: Digits, steps: int = 800, batch: int = 64) -> DigitClassifier:
    """Train on `digits.train` alone, dequantised and slightly turned, scaled and moved. About 5 s on one core.

    A network of its own, that has never seen a generated digit: the judge must not be the accused.
    """
    classifier = DigitClassifier()
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=5e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=check_int("steps", steps, minimum=2))
    for _ in range(steps):
        x, label = digits.sample_labelled(batch)
        loss = F.cross_entropy(classifier(_jittered(x)), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        torch.clear_autocast_cache()  # as in `train_flow_matching`
    return classifier.eval().requires_grad_(False)


def _jittered(x: Tensor) -> Tensor:
    """Each digit turned by up to 10 degrees, scaled by up to 10 % and moved by up to half a pixel; x [B, 64]."""
    turn, grow, dx, dy = (2 * torch.rand(4, len(x)) - 1) * torch.tensor([[math.pi / 18], [0.1], [0.125], [0.125]])
    cos, sin = (1 + grow) * turn.cos(), (1 + grow) * turn.sin()
    matrix = torch.stack([torch.stack([cos, -sin, dx], 1), torch.stack([sin, cos, dy], 1)], 1)
    grid = F.affine_grid(matrix, [len(x), 1, 8, 8], align_corners=False)
    # + 1 and - 1: outside of the picture is the background, -1, where grid_sample puts 0
    return F.grid_sample(x.reshape(-1, 1, 8, 8) + 1, grid, align_corners=False).reshape(-1, 64) - 1
