# %% [markdown]
# # 10 · Production
#
# What stands between the two moons and a model that draws pictures from a sentence? Nine additions. Each is small, each is measured here.
#
# **You will be able to**
#
# 1. say what each part of a text-to-image model adds, and find it in SD3 and FLUX;
# 2. train in a latent space, and name the floor that its decoder sets;
# 3. choose an EMA, a precision, a loss weighting and a time shift, with the reason;
# 4. train on two processes, check that their gradient is the right one, and resume a killed run exactly.
#
# *Before:* lessons 04–08. *Time:* 40 minutes to read, about 80 seconds to run; 10 more for 6 cards. Begin with *Run ▸ Run All Cells*: until its cell has run, a player is a still picture.

# %%
import copy
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path

import ipywidgets
import numpy as np
import torch
from torch import nn

from fmlib import *
from fmlib.engine import SmallDiT, TrainConfig, train
from fmlib.page import *
from fmlib.study import *

torch.set_num_threads(1)  # these tensors are tiny: a second thread costs more than it brings
torch.manual_seed(0)
plots.use_style()

path = rectified_flow_path()
digits = load_digits_flow()

# %% [markdown]
# ## The whole machine
#
# The two boxes in the middle are lessons 00 to 08. This lesson is about the boxes around them, and about training the middle at scale.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
fig, (ax,) = panels(1, 2.1, width=9)
boxes = {
    "prompt": (0.0, 1.0, "path"),
    "text encoders\n(frozen)": (1.35, 1.35, "third"),
    "velocity\n$v_\\theta(t, z, \\mathrm{text})$": (3.1, 1.7, "noise"),
    "solver and\nguidance": (5.2, 1.4, "noise"),
    "decoder\n(frozen)": (7.0, 1.2, "third"),
    "picture": (8.55, 1.0, "path"),
}
for words, (x, width, role) in boxes.items():
    style = {"boxstyle": "round,pad=0.06", "edgecolor": COLORS[role], "facecolor": "none", "linewidth": 1.5}
    ax.add_patch(plots.plt.matplotlib.patches.FancyBboxPatch((x, 0.75), width, 0.7, **style))
    ax.text(x + width / 2, 1.1, words, ha="center", va="center", fontsize=9)
arrow = {"arrowstyle": "->", "color": COLORS["path"]}
for a, b in ((1.06, 1.29), (2.76, 3.04), (6.66, 6.94), (8.26, 8.49)):
    ax.annotate("", (b, 1.1), (a, 1.1), arrowprops=arrow)
ax.annotate("", (5.14, 1.25), (4.86, 1.25), arrowprops=arrow)
ax.annotate("", (4.86, 0.95), (5.14, 0.95), arrowprops=arrow)
notes = {
    "How the\ncondition gets in": 2.02, "Averages, precision,\nprocesses, weights": 3.95,
    "lessons 05 and 08,\nthe shift": 5.9, "A smaller\nspace": 7.6,
}  # fmt: skip
for words, x in notes.items():
    ax.text(x, 0.45, words, ha="center", va="top", fontsize=8, color=COLORS["path"])
ax.text(5.0, 1.72, "z, again and again from noise to data", ha="center", fontsize=8, color=COLORS["path"])
bare(ax, (-0.1, 9.65, 0.1, 1.9))
show(
    fig,
    "A chain of boxes: prompt, text encoders, velocity, solver and guidance in a loop with it, decoder, picture. Below each box the section or lesson about it.",
)

# %% [markdown]
# ## A smaller space
#
# A picture of 1024 × 1024 pixels has three million numbers, most of them texture that nobody looks at one by one. So two networks share the work. An **autoencoder** squeezes a picture into a few numbers, the *latent*, and back: it is responsible for texture. The flow runs on latents: it is responsible for what the picture shows. SD3 and FLUX keep 16 numbers for each 8 × 8 pixels.
#
# Here, 64 pixels become 16 numbers. The loss is the error of the reconstruction, and a small penalty that keeps the latents near $\mathcal N(0, 1)$ (a variational autoencoder, Kingma & Welling 2014). The encoder returns a mean and a log-variance for each number. In training the decoder gets a random draw with these, so that near latents decode to similar pictures; later we use the mean alone.

# %%
LATENT = 16
encoder = nn.Sequential(nn.Linear(64, 192), nn.SiLU(), nn.Linear(192, 2 * LATENT))
decoder = nn.Sequential(nn.Linear(LATENT, 192), nn.SiLU(), nn.Linear(192, 64))
weights = [*encoder.parameters(), *decoder.parameters()]
optimizer = torch.optim.AdamW(weights, lr=4e-3, fused=True)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=1000)
for _ in range(1000):
    x = digits.sample_train(128)
    mean, log_var = encoder(x).chunk(2, dim=1)
    z = mean + (log_var / 2).exp() * torch.randn_like(mean)
    divergence = 0.5 * (mean**2 + log_var.exp() - log_var - 1).sum(1)  # KL from N(mean, var) to N(0, 1)
    loss = ((decoder(z) - x).square().sum(1) + 0.01 * divergence).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()

with torch.no_grad():
    latents = encoder(digits.train)[:, :LATENT]
shift, scale = latents.mean(0), latents.std(0)
print(f"standard deviations of the latents: {scale.min():.2f} to {scale.max():.2f}")


def encode(x):
    """Pictures -> latents with mean 0 and standard deviation 1, as a flow wants them."""
    with torch.no_grad():
        return (encoder(x)[:, :LATENT] - shift) / scale


def decode(z):
    with torch.no_grad():
        return decoder(z * scale + shift)


# %% [markdown]
# Here the standard deviations are already near 1; in other autoencoders they can be far from it. The noise has standard deviation 1, so the latents must have it too. SD3 and FLUX have one shift and one scale for all their latents; older Stable Diffusion has only a scale.
#
# Now two flows with the same network, the same steps and the same batch, one on pixels, one on latents.

# %%
torch.manual_seed(1)
judge = train_digit_classifier(digits, steps=300)
print(f"the judge names {100 * judge.agreement(digits.test, digits.test_labels):.1f} % of the held-out real digits")


def latent_batch(n):
    x, label = digits.sample_labelled(n)
    return encode(x), label


flows = {}
for name, dim, batches in (("pixels", 64, digits.sample_labelled), ("latents", LATENT, latent_batch)):
    torch.manual_seed(2)
    net = ResidualMLP(dim, hidden=128, blocks=2, num_classes=10)
    _, flows[name] = train_flow_matching(
        net, SampledBatches(batches, batch=128), path, 900, lr=4e-3, log_every=0, label_dropout=0.1
    )

# %% [markdown]
# Drag $t$. Above: the flow in pixels, on its way. Below: the flow in latents, each state *decoded*. Both are told the digit, 0 to 9 from left to right. In pixels the noise melts into a digit. The decoder only knows digits, so in latents every state looks like ink from the start: first like any digit, at the end like the right one.

# %%
rows = torch.arange(10).repeat(2)
torch.manual_seed(3)
starts = {"pixels": torch.randn(20, 64), "latents": torch.randn(20, LATENT)}
ways = {n: heun_sampler(guided(v, rows, 1.0), starts[n], steps=20, return_trajectory=True) for n, v in flows.items()}
ways["latents"] = decode(ways["latents"])
fig, axes = plots.plt.subplots(2, 1, figsize=(5.4, 2.6))
for ax in axes:
    image_grid(ax, torch.zeros(20, 64))


def redraw_ways(t):
    for ax, (name, way) in zip(axes, ways.items(), strict=True):
        image_grid(ax, way[round(20 * t)])
        for old in ax.images[:-1]:
            old.remove()
        ax.set_ylabel(name)


LiveFigure(
    fig,
    redraw_ways,
    alt="Two sheets of digits 0 to 9 at a time t. In pixels they are half noise; in latents they are ink of an undecided shape.",
    t=ipywidgets.FloatSlider(value=0.6, min=0, max=1, step=0.05),
)

# %% [markdown]
# > **Predict, then run (1).** The flow in latents has an easier task. Will its Fréchet distance to held-out digits be smaller than that of the flow in pixels – and what can one expect at best?

# %%
training, test = dequantise(digits.train), dequantise(digits.test)


def score(x):
    """The judge's agreement; Fréchet distances in pixels and in the judge's features, 1 = other real digits."""
    in_pixels = frechet_distance(x, test) / frechet_distance(training, test)
    of_x, of_test, of_training = (judge.features(a) for a in (x, test, training))
    in_features = frechet_distance(of_x, of_test) / frechet_distance(of_training, of_test)
    return torch.tensor([judge.agreement(x, digits.train_labels), in_pixels, in_features])


def draw(name, seed):
    torch.manual_seed(seed)
    z = torch.randn(len(training), 64 if name == "pixels" else LATENT)
    x = heun_sampler(guided(flows[name], digits.train_labels, 1.0), z, steps=8)
    return x if name == "pixels" else decode(x)


print(f"{'':32}{'agreement':>18}{'Fréchet px / floor':>20}{'features / floor':>20}")
scores = {name: torch.stack([score(draw(name, seed)) for seed in (4, 5, 6)]) for name in flows}
for name, values in scores.items():
    print(f"flow in {name:24}" + "".join(f"{estimate(column)!s:>20}" for column in values.T))
reconstructed = score(decode(encode(training)))
print(f"{'real digits, only reconstructed':32}" + "".join(f"{value:12.4f}        " for value in reconstructed))
pixels, latent = (values.mean(0) for values in scores.values())
assert latent[0] > 0.9 and latent[1] > 0.8 * reconstructed[1] and latent[2] < pixels[2]

# %% [markdown]
# The flow in latents gets the *digit* right more often, and in the judge's features it is nearer to real ones. In pixels it is a little farther. In both Fréchet columns 1 means: as near to the held-out digits as other real digits are. The last line is what the autoencoder alone costs: real digits, encoded and decoded. A flow whose latents are exactly like real ones ends there; this is the *decoder's floor*. **What the decoder cannot draw, no flow can add.** In production the autoencoder is trained first, with extra losses for sharp texture, and then frozen.
#
# On 64 pixels there is little to save. The gain comes with size. Large models use a *transformer*: it cuts the picture into small squares (*patches*) and makes a vector of each, a *token*. In its *attention* each token looks at all others, so the number of pairs grows with the square of the number of tokens. One training step of one transformer (`SmallDiT`), on pictures of 8 × 8, 16 × 16 and 32 × 32 pixels, in patches of 2 × 2:

# %%
for side in (8, 16, 32):
    net = SmallDiT(side=side, patch=2, hidden=64, blocks=2)
    x = torch.randn(16, side * side)
    clock = []
    for _ in range(4):
        begin = time.perf_counter()
        cfm_loss(net, path, x).backward()
        clock.append(time.perf_counter() - begin)
    print(f"{side:3} × {side:<3} {(side // 2) ** 2:4} tokens: {1000 * min(clock):7.1f} ms")

# %% [markdown]
# Each time there are 4 times as many tokens and 16 times as many pairs. The time grows less than 16 times, because much of the work is still done on each token alone. With thousands of tokens the pairs take over. SD3's latents of a 1024 × 1024 picture form a grid of 128 × 128. A patch is 2 × 2 places of this grid, so there are 64 × 64 = 4,096 tokens. Patches of 2 × 2 *pixels* would be 262,144.
#
# ## Which average of the weights
#
# Lesson 04 averaged the weights with a decay that grows, $\min(d, \frac{1+n}{10+n})$. Which length is best? It is usually chosen before the training, when nobody can know. Karras et al. (2024) choose it **after**: they store two averages at intervals, and build any other from them.
#
# The trick is linear algebra. After $N$ steps every average is a weighted sum of the weights $\theta_1, \ldots, \theta_N$; its weights over the steps are its *profile*. With the decay $\beta_n = (1 - \frac1n)^{\gamma+1}$ the profile is a power, $\propto n^\gamma$. Its standard deviation, divided by $N$, is called $\sigma_{\text{rel}} = \frac{\sqrt{\gamma+1}}{(\gamma+2)\sqrt{\gamma+3}}$; we call it the *width*. A large width is a long average: $\gamma = 0$ is the even average of all steps, and has the largest. The profiles of the stored averages can be added up to nearly any other profile, and then the same sum of the stored *weights* is nearly that average.

# %%
STEPS = 1000
mixture = three_gaussians()


def gamma_of(rel):
    """The power whose profile has the relative width rel: (γ + 2)² (γ + 3) rel² = γ + 1."""
    return max(np.roots([1, 7, 16 - rel**-2, 12 - rel**-2]).real)


def profile(rel, n):
    """Weights over the steps 1 ... STEPS of the average of width rel after n steps; they sum to 1."""
    i = torch.arange(STEPS + 1, dtype=torch.float64).clamp(max=n)
    return ((i / n) ** (gamma_of(rel) + 1)).diff()


# %% [markdown]
# One training with a constant learning rate, so that the last weights jitter. Every 50 steps the averages of width 0.05 and 0.10 are stored; the one of width 0.20 is tracked only to check what is rebuilt.

# %%
flat = lambda net: nn.utils.parameters_to_vector(net.parameters()).detach().double()
running = {rel: None for rel in (0.05, 0.10, 0.20)}
constant, stored = {0.99: None, 0.999: None, 0.9999: None}, []


def track(step, loss, model, ema_model):
    w = flat(model)
    for rel, average in running.items():
        decay = (1 - 1 / step) ** (gamma_of(rel) + 1)
        running[rel] = w if average is None else decay * average + (1 - decay) * w
    for decay, average in constant.items():
        constant[decay] = first_weights.lerp(w, 1 - decay) if average is None else average.lerp(w, 1 - decay)
    if step % 50 == 0:
        stored.extend((rel, step, running[rel].clone()) for rel in (0.05, 0.10))


torch.manual_seed(7)
net = VectorFieldMLP(2, 64)
first_weights = flat(net)
batches = SampledBatches(lambda n: mixture.sample(n).float(), batch=128)
net, warm = train_flow_matching(net, batches, path, STEPS, lr=4e-3, schedule="constant", log_every=0, callback=track)

# %%
P = torch.stack([profile(rel, step) for rel, step, _ in stored])  # [stored averages, STEPS]
W = torch.stack([w for _, _, w in stored])


def average_of_width(rel):
    """The weights of any average, from the stored ones: least squares on the profiles."""
    return torch.linalg.lstsq(P.T, profile(rel, STEPS)[:, None]).solution[:, 0] @ W


rebuilt, tracked = average_of_width(0.20), running[0.20]
relative = lambda a: ((a - tracked).norm() / (flat(net) - tracked).norm()).item()
print(f"rebuilt from the two others against tracked all along: relative difference {relative(rebuilt):.4f}")
print(f"wrong twin, the stored average of width 0.10 instead:  relative difference {relative(running[0.10]):.4f}")
assert relative(rebuilt) < 0.05 < relative(running[0.10])

# %% [markdown]
# 1 would be as far as the last weights are from the tracked average; the rebuilt one is about a hundredth of that away.
#
# > **Predict, then run (2).** Which average is nearest to the exact velocity field: the last weights, a short one, or a long one? And what does a constant decay of 0.9999 give after 1,000 steps?

# %%
probe_t = torch.rand(3000)
probe_x = path.sample_xt(probe_t, torch.randn(3000, 2), mixture.sample(3000).float())
truth = mixture.velocity(path, probe_t, probe_x)
spare = copy.deepcopy(net)


def with_weights(w):
    nn.utils.vector_to_parameters(w.float(), spare.parameters())
    return spare


def field_error(w):
    with torch.no_grad():
        return estimate((with_weights(w)(probe_t, probe_x) - truth).square().sum(1))


errors = {
    "the last weights": field_error(flat(net)),
    "min(0.9999, (1+n)/(10+n))": field_error(flat(warm)),
    **{f"constant {decay}": field_error(w) for decay, w in constant.items()},
    **{f"power, width {rel}": field_error(average_of_width(rel)) for rel in (0.05, 0.10, 0.20, 0.28)},
}
for name, error in errors.items():
    start_left = "" if "constant" not in name else f"   of the first weights {float(name[9:]) ** STEPS:.3f} are left"
    print(f"{name:28} squared error of the field {error}{start_left}")
assert errors["constant 0.9999"].mean > 10 * errors["the last weights"].mean
assert min(e.mean for n, e in errors.items() if "power" in n) < 0.6 * errors["the last weights"].mean

# %% [markdown]
# A middle one. Widths from 0.1 to 0.2 are best and cannot be told apart; 0.05 still keeps some jitter; 0.28 is nearly an even average of *all* steps, and the early weights are bad. A constant 0.9999 is still mostly the random start. The warm-up of lesson 04 is as good as the best widths here, and is itself close to a power: it gives the new weights the share $\frac{9}{10+n}$, a power gives them about $\frac{\gamma+1}{n}$, so $\gamma = 8$, a width of 0.09. Drag the width, long after the training:

# %%
widths = torch.linspace(0.02, 0.285, 28)
curve = [field_error(average_of_width(w.item())).mean for w in widths]
cloud_start = torch.randn(500, 2)
fig, (left, right) = panels(2, 2.6, width=7)
left.semilogy(widths, curve, color=COLORS["model"])
plots.plain_log(left.yaxis, [0.04, 0.06, 0.1, 0.15])
left.axhline(errors["the last weights"].mean, color=COLORS["path"], linewidth=1)
left.text(0.285, errors["the last weights"].mean, "last weights ", ha="right", va="bottom", fontsize=9)
left.set(xlabel="width of the average", ylabel="squared error of the field")
(marker,) = left.plot([], [], "o", color=COLORS["wrong"])
dots = plots.cloud(right, cloud_start, "data", size=4)
bare(right, (-3.4, 3.4, -3.2, 3.4))


def redraw_average(width):
    w = average_of_width(width)
    marker.set_data([width], [field_error(w).mean])
    dots.set_offsets(euler_sampler(with_weights(w), cloud_start, steps=12).numpy())


LiveFigure(
    fig,
    redraw_average,
    alt="Left: the error of the field against the width of the average, a valley well below the line of the last weights. Right: samples in three clumps.",
    width=ipywidgets.FloatSlider(value=0.15, min=0.02, max=0.28, step=0.01, readout_format=".2f"),
)

# %% [markdown]
# ## Memory against time: gradient checkpointing
#
# The backward pass needs what the forward pass computed, so it is stored; in a deep network that is most of the memory. *Gradient checkpointing* keeps only the input of each block, and computes the inside a second time when it is needed, one block at a time (the cell does not count that one block). The gradient is the same, bit for bit. (A *checkpoint* in the section on killed runs is something else: a file.)


# %%
def stored_and_time(checkpointing):
    torch.manual_seed(0)
    net = SmallDiT(patch=1, hidden=64, blocks=6, checkpointing=checkpointing).train()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.02 * torch.randn(p.shape))  # the gates start at 0, and would hide a difference
    x, held, begin = digits.train[:32], [], time.perf_counter()
    torch.manual_seed(1)
    keep = lambda s: held.append(s.nbytes) or s
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda s: s):
        loss = cfm_loss(net, path, x)
    loss.backward()
    gradient = torch.cat([p.grad.flatten() for p in net.parameters()])
    return sum(held) / 1e6, time.perf_counter() - begin, gradient


stored_and_time(False)  # to warm up
(much, fast, plain), (little, slow, same) = stored_and_time(False), stored_and_time(True)
print(f"stored for the backward pass: {much:.0f} MB without, {little:.0f} MB with checkpointing")
print(
    f"time of a step: {slow / fast:.2f} × with checkpointing; gradients equal bit for bit: {torch.equal(plain, same)}"
)
assert little < much / 5 and torch.equal(plain, same)

# %% [markdown]
# ## Half precision
#
# Half the bits: a number needs half the memory, and GPUs multiply such numbers several times faster. Two formats with 16 bits spend them differently:

# %%
print(f"{'':10}{'spacing at 1':>14}{'largest':>12}{'smallest, with full precision':>32}{'smallest at all':>18}")
for dtype in (torch.float32, torch.bfloat16, torch.float16):
    f = torch.finfo(dtype)
    print(f"{str(dtype)[6:]:10}{f.eps:14.1e}{f.max:12.1e}{f.tiny:32.1e}{f.tiny * f.eps:18.1e}")

# %% [markdown]
# `bfloat16` has the range of `float32` and fewer digits. `float16` has more digits and a small range: what is below $6 \cdot 10^{-8}$ becomes **zero**. Gradients are small numbers. A `GradScaler` multiplies the loss by a large factor such as $2^{16}$, so that the gradients survive in `float16`, and divides before the step. How many would be lost in the backward pass of the flow in pixels? We look at the gradients that pass between its layers.

# %%
passing = []
net = copy.deepcopy(flows["pixels"]).requires_grad_(True)


def watch(module, inputs, output):
    output.register_hook(lambda gradient: passing.append(gradient.flatten()))


for module in net.modules():
    if isinstance(module, nn.Linear):
        module.register_forward_hook(watch)
x, label = digits.sample_labelled(1024)
(cfm_loss(net, path, x, label=label) / x.shape[1]).backward()
g = torch.cat(passing)
lost = {}
for name, cast in {
    "float16": lambda g: g.half(),
    "float16, scaled by 2^16": lambda g: (g * 2**16).half(),
    "bfloat16": lambda g: g.bfloat16(),
}.items():
    c = cast(g)
    lost[name] = ((c == 0) & (g != 0)).double().mean().item()
    print(f"{name:24} {100 * lost[name]:7.3f} % of the gradients become 0, {(~c.isfinite()).sum()} infinite")
assert lost["float16"] > 1e-3 > 10 * lost["bfloat16"] and lost["float16, scaled by 2^16"] < lost["float16"] / 10

# %% [markdown]
# Here `float16` loses a percent or two of the gradients; deeper networks can lose many more (Micikevicius et al. 2018). The scaler saves them; and if a scaled gradient becomes infinite, it skips the step and makes its factor smaller. **`bfloat16` needs none of this**: its range is that of `float32`. "Mixed precision with bf16 and GradScaler", as the interview sheet has it, does no harm and no good. In training, `autocast` runs the large products in low precision; the weights, their averages and the loss stay in `float32`. `fmlib.train` is the training program of these lessons; its settings are called *keys*. Here the key is `precision`:

# %%
runs = Path(tempfile.mkdtemp())
common = {"data": "digits", "network": "residual", "label_dropout": 0.1, "steps": 120, "batch": 128, "log_every": 0}
tail = {}
for precision in ("fp32", "bf16"):
    run = train(TrainConfig(**common, precision=precision, out=str(runs / precision)))
    tail[precision] = estimate(run.losses[-40:])
    dtypes = {p.dtype for p in run.model.parameters()}
    print(f"{precision}: mean loss of the last 40 of 120 steps {tail[precision]}, weights stored as {dtypes}")
if torch.cuda.is_available():
    run = train(TrainConfig(**common, precision="fp16", out=str(runs / "fp16")))
    print(f"fp16 with its GradScaler: {estimate(run.losses[-40:])}")
else:
    print("fp16 with its GradScaler: skipped, torch finds no GPU here")
assert abs(tail["bf16"].mean - tail["fp32"].mean) < 0.05 * tail["fp32"].mean

# %% [markdown]
# The two mean losses differ by far less than their ±.
#
# ## How the condition gets in
#
# The network must know $t$ and the class. Three ways, for the flow in latents. **Add** an embedding to the hidden layer. **Concatenate** it to the input. **Adaptive layer norm** (adaLN): normalise the hidden layer, then multiply and shift it by numbers computed from the condition – Peebles & Xie (2023) found it best for transformers, and SD3 and FLUX use it. There each block has a third number per channel, a *gate*: $h \leftarrow h + \text{gate}\cdot\text{block}(h)$. The gates come from the condition too and start at 0, so at first each block changes nothing (*adaLN-Zero*).


# %%
class Conditioned(nn.Module):
    num_classes = 10

    def __init__(self, how, hidden=128, c=64):
        super().__init__()
        self.how = how
        self.t_in, self.label_in = SinusoidalTimeEmbed(c), nn.Embedding(11, c)
        self.x_in = nn.Linear(LATENT + (c if how == "concatenate" else 0), hidden)
        self.layers = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(3))
        self.from_c = nn.ModuleList(nn.Linear(c, (2 if how == "adaLN" else 1) * hidden) for _ in range(3))
        self.norm, self.out = nn.LayerNorm(hidden, elementwise_affine=False), nn.Linear(hidden, LATENT)

    def forward(self, t, x, label):
        c = self.t_in(t) + self.label_in(label)
        h = self.x_in(torch.cat([x, c], 1) if self.how == "concatenate" else x)
        for layer, from_c in zip(self.layers, self.from_c, strict=True):
            if self.how == "add":
                inside = self.norm(h + from_c(c))
            elif self.how == "concatenate":
                inside = self.norm(h)
            else:
                scale, shift = from_c(c).chunk(2, dim=1)
                inside = self.norm(h) * (1 + scale) + shift
            h = h + nn.functional.silu(layer(inside))
        return self.out(h)


# %%
fixed = dict(zip("zx", (torch.randn(4000, LATENT), latent_batch(4000)), strict=True))
agreement = {}
for how in ("add", "concatenate", "adaLN"):
    torch.manual_seed(8)
    net = Conditioned(how)
    batches = SampledBatches(latent_batch, batch=128)
    _, ema = train_flow_matching(net, batches, path, 400, lr=4e-3, log_every=0, label_dropout=0.1)
    with torch.no_grad():
        loss = estimate([cfm_loss(ema, path, fixed["x"][0], fixed["z"], label=fixed["x"][1]).item() for _ in range(4)])
    hits = []
    for seed in (9, 10, 11):
        torch.manual_seed(seed)
        field = guided(ema, digits.train_labels, 1.0, null_label=10)
        z = heun_sampler(field, torch.randn(len(training), LATENT), steps=8)
        hits.append(judge.agreement(decode(z), digits.train_labels))
    agreement[how] = estimate(hits)
    print(f"{how:12} CFM loss {loss},  agreement {agreement[how]}")
blind = heun_sampler(guided(ema, 10, 1.0, null_label=10), torch.randn(len(training), LATENT), steps=8)
chance = judge.agreement(decode(blind), digits.train_labels)
print(f"wrong twin, the class withheld: agreement {chance:.3f}")
assert min(a.mean for a in agreement.values()) > 0.8 and chance < 0.2

# %% [markdown]
# adaLN has the lowest loss here, by little; the agreement cannot tell the three apart. One training each, and small networks: the result for large transformers is Peebles & Xie's, not ours.
#
# **Text** is a longer condition. A frozen text encoder turns a prompt into a sequence of vectors, one for each text token (a word or a piece of one), and perhaps one vector for the whole. SD3 uses three encoders: two *CLIPs* (trained to match pictures with their captions) and *T5-XXL* (a language model). The whole-prompt vectors of the CLIPs are added to the embedding of $t$ and go in by adaLN, as the class does above. The sequences go in as *tokens*: SD3's transformer (MM-DiT) attends over text tokens and image tokens together, with separate weights for the two kinds. FLUX does the same with one CLIP vector and T5's tokens, in 19 blocks with separate and 38 with shared weights. A picture as a condition (such as one with a hole that is to be filled) is usually concatenated to the input as further channels.
#
# ## More than one process
#
# With two processes (usually two GPUs) each takes half of the batch, computes its gradient, and the gradients are *averaged* before the step. The average is the gradient of the whole batch if the parts have the same size, and differ in data, noise and times. Keep the *whole* batch at 512: with 512 on each process it would be 1,024, another training. `torchrun` starts the processes; `fmlib.train` uses torch's *DDP* (distributed data parallel: every process keeps all weights, gradients are averaged). Here is a real run on two cores. First the gradient of the two is compared, in double precision, with that of one process on the whole batch; then both train.

# %%
script = runs / "two.py"
script.write_text("""
import json, os, sys, time, torch
from fmlib.train import TrainConfig, check_gradient, leave, train

torch.set_num_threads(1)
config, times = TrainConfig(**json.loads(sys.argv[1])), []
right, wrong = check_gradient(config)
train(config, callback=lambda step, loss: times.append(time.perf_counter()))
if os.environ["RANK"] == "0":
    print(right, wrong, (len(times) - 5) / (times[-1] - times[4]))
leave()
""")
config = {
    "data": "digits",
    "network": "dit",
    "label_dropout": 0.1,
    "batch": 512,
    "steps": 35,
    "log_every": 0,
    "device": "cpu",
}
launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", script]
two = subprocess.run(
    [*launch, json.dumps(config | {"out": str(runs / "two")})],
    env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=110,
)  # fmt: skip
assert two.returncode == 0, two.stderr[-2000:]
right, wrong, rate = map(float, two.stdout.split())
print(f"gradient of two processes against one: relative difference {right:.0e}")
print(f"wrong twin, both take the same half:   relative difference {wrong:.2f}")
assert right < 1e-6 < 1e-2 < wrong

# %%
times = []
train(TrainConfig(**config, out=str(runs / "one")), callback=lambda step, loss: times.append(time.perf_counter()))
alone = (len(times) - 5) / (times[-1] - times[4])
print(f"steps a second: one process {alone:.1f}, two processes {rate:.1f}: {rate / alone:.2f} times as many")

# %% [markdown]
# Not twice: two processes on one small computer share its memory and wait for each other. On GPUs with a fast link the factor comes close to the number of GPUs, as long as the computing of a step takes longer than the averaging. When the weights do not fit on one GPU, *FSDP* splits them between the processes and gathers each block when it runs: the key is `parallel = "fsdp"`.
#
# **Killed runs.** A long run will be killed some day. A checkpoint holds the weights, the average, the optimiser, the schedule, the random numbers and the step; then the continued run is *the same run*:

# %%
small = {"data": "moons", "steps": 60, "batch": 64, "save_every": 20, "log_every": 0}
whole = train(TrainConfig(**small, out=str(runs / "whole")))


def stop(step, loss):
    if step == 35:
        raise KeyboardInterrupt  # as if it were killed here; the last checkpoint is that of step 20


try:
    train(TrainConfig(**small, out=str(runs / "killed")), callback=stop)
except KeyboardInterrupt:
    left_behind = sorted(file.name for file in (runs / "killed").iterdir())
with redirect_stdout(None):  # it says where it resumes
    resumed = train(TrainConfig(**small, out=str(runs / "killed")))
print(f"killed at step 35, left behind: {', '.join(left_behind)}")
print(f"the 60 losses equal those of the run that was not killed: {resumed.losses == whole.losses}")
assert resumed.losses == whole.losses

# %% [markdown]
# From a terminal the same is
#
# ```
# torchrun --standalone --nproc_per_node=2 -m fmlib.train --data digits --network dit --out runs/digits
# ```
#
# and again the same line after a crash. `python -m fmlib.train --help` lists the keys.
#
# ## A weight is a distribution of times
#
# The loss is a mean over $t$. Drawing $t$ from a density $\pi$ or drawing it evenly and multiplying by the weight $\pi(t)$ is the same loss:
#
# $$\mathbb E_{t\sim\pi}\bigl[\ell(t)\bigr] = \int_0^1 \pi(t)\,\ell(t)\,dt = \mathbb E_{t\sim U}\bigl[\pi(t)\,\ell(t)\bigr].$$
#
# So each of the losses below is a weight on the *velocity loss* $\ell(t) = \mathbb E\|v_\theta - u\|^2$, and the weights can be compared in one picture. On the rectified flow, at a given $t$ and $x = x_t$, with ε for the noise $x_0$: $v = (x - \epsilon)/t$ and $v = (x_1 - x)/(1-t)$. $\Delta$ is the error of a prediction.
#
# | loss | its weight on $\ell(t)$ | because |
# |---|---|---|
# | the velocity, even $t$ | $1$ | |
# | ε, even $t$ | $t^2$ | $\|\Delta\epsilon\|^2 = t^2\,\|\Delta v\|^2$ |
# | $x_1$, even $t$ | $(1-t)^2$ | $\|\Delta x_1\|^2 = (1-t)^2\,\|\Delta v\|^2$ |
# | the velocity, logit-normal $t$ | its density | above |
# | EDM's denoiser (Karras et al. 2022) | $\bigl(\frac{(1-t)^2}{\sigma_d^2} + t^2\bigr)$ × logit-normal$(1.2, 1.2)$ | below |
#
# EDM draws $\ln\sigma \sim \mathcal N(-1.2, 1.2^2)$ and weighs the error of $x_1$ by $\lambda(\sigma) = \frac{\sigma^2+\sigma_d^2}{(\sigma\,\sigma_d)^2}$, with $\sigma_d = 0.5$, the standard deviation of EDM's pictures (the identity holds for any, so we keep it). EDM's network sees $x_1 + \sigma\,\epsilon$. Divide $x_t = (1-t)\,\epsilon + t\,x_1$ by $t$: it is the same with $\sigma = (1-t)/t$. So $\operatorname{logit} t = -\ln\sigma \sim \mathcal N(1.2, 1.2^2)$: EDM's times *are* logit-normal. And $\lambda\,(1-t)^2 = \frac{(1-t)^2}{\sigma_d^2} + t^2$. The check computes EDM's loss in EDM's own terms, and again as a weighted velocity loss with even times, for the network above.

# %%
sigma_d = 0.5
edm_net = with_weights(average_of_width(0.15))
n = 100_000


def denoiser_error(t):
    """|D - x_1|² and |v - u|² of the network, at new pairs; the same network, in two units."""
    x0, x1 = torch.randn(len(t), 2), mixture.sample(len(t)).float()
    xt = path.sample_xt(t, x0, x1)
    with torch.no_grad():
        v = edm_net(t, xt)
    d = velocity_to_x1(path, t, xt, v)
    return (d - x1).square().sum(1), (v - (x1 - x0)).square().sum(1)


def logit_normal_density(t, m, s):
    z = (torch.logit(t) - m) / s
    return (-(z**2) / 2).exp() / (s * math.sqrt(2 * math.pi) * t * (1 - t))


torch.manual_seed(12)
sigma = (1.2 * torch.randn(n) - 1.2).exp()
lam = (sigma**2 + sigma_d**2) / (sigma * sigma_d) ** 2
edm = estimate(lam * denoiser_error(1 / (1 + sigma))[0])
t = stratified_t(n).clamp(1e-6)
edm_weight = ((1 - t) ** 2 / sigma_d**2 + t**2) * logit_normal_density(t, 1.2, 1.2)
ours = estimate(edm_weight * denoiser_error(t)[1])
forgot = estimate(lam * denoiser_error(1 / (1 + sigma))[1])
print(f"EDM's loss, in its own terms:             {edm}")
print(f"as a weighted velocity loss:              {ours}")
print(f"wrong twin, the factor (1 - t)² left out: {forgot}")
assert abs(edm.mean - ours.mean) < 5 * math.hypot(edm.std_error, ours.std_error) < abs(edm.mean - forgot.mean)

# %%
grid = torch.linspace(0.002, 0.998, 400)
densities = {
    "velocity, even t": torch.ones_like(grid),
    "SD3: logit-normal(0, 1)": logit_normal_density(grid, 0.0, 1.0),
    "ε, even t": grid**2,
    "$x_1$, even t": (1 - grid) ** 2,
    "EDM": ((1 - grid) ** 2 / sigma_d**2 + grid**2) * logit_normal_density(grid, 1.2, 1.2),
}
fig, (ax,) = panels(1, 2.8, width=6.5)
for (name, w), color in zip(densities.items(), ("path", "model", "noise", "third", "wrong"), strict=True):
    ax.plot(grid, w / torch.trapezoid(w, grid), color=COLORS[color], label=name)
ax.set(xlabel="t (noise at 0, data at 1)", ylabel="weight of the velocity loss", ylim=(0, 3.2))
ax.legend(fontsize=9)
show(
    fig,
    "Five curves over t. Even velocity is flat; logit-normal peaks in the middle; epsilon rises towards the data; x1 falls; EDM peaks right of the middle.",
)

# %% [markdown]
# A constant factor changes nothing in the comparison, so each curve is drawn with area 1. The shape does not change the best answer at any $t$ either, as long as the weight is positive there. It decides at which $t$ a network of *limited* size is good. Weighing and drawing have the same mean; they differ in the scatter. A rare large value of weight × error makes a noisy gradient, so draw often where this product is large. (EDM draws *and* weighs; here its ± is even larger than that of even times.)
#
# ## Large pictures need more noise
#
# On rectified flow uniform times served best (lesson 05). Why does SD3 shift them towards the noise? Enlarge a digit, so that each pixel becomes 4 × 4 equal pixels. At the same $t$ each pixel is as noisy as before, but the mean over 16 pixels is 4 times less noisy: the picture is easier to guess. To make the task as hard as before, the noise must grow by 4 relative to the data. In SD3's time $s = 1-t$, where $x = (1-s)\,x_1 + s\,x_0$,
#
# $$\frac{s'}{1-s'} = k\,\frac{s}{1-s} \quad\Longleftrightarrow\quad s' = \frac{k\,s}{1 + (k-1)\,s}, \qquad k = \sqrt{\frac{\text{number of pixels}}{\text{number before}}}.$$
#
# The judge looks at noisy digits, small ones and enlarged ones. Of the enlarged ones it sees the means over 4 × 4 pixels.


# %%
def judged(s, enlarge, rounds=8):
    """Share of noisy held-out digits that the judge recognises, at SD3's time s, pixels enlarged `enlarge` times."""
    hits = []
    for _ in range(rounds):
        x = digits.test.reshape(-1, 1, 8, 8)
        big = x.repeat_interleave(enlarge, 2).repeat_interleave(enlarge, 3)
        noisy = (1 - s) * big + s * torch.randn_like(big)
        small = nn.functional.avg_pool2d(noisy, enlarge).reshape(-1, 64) / (1 - s)
        hits.append(judge.agreement(small, digits.test_labels))
    return estimate(hits)


torch.manual_seed(13)
print(f"{'s':>5}{'8 × 8':>20}{'32 × 32, same s':>20}{'32 × 32, shifted':>20}   shifted s")
for s in (0.3, 0.5, 0.7):
    shifted = 4 * s / (1 + 3 * s)
    small, same, equal = judged(s, 1), judged(s, 4), judged(shifted, 4)
    print(f"{s:5.1f}{small!s:>20}{same!s:>20}{equal!s:>20}{shifted:12.2f}")
    assert abs(small.mean - equal.mean) < 5 * math.hypot(small.std_error, equal.std_error) < same.mean - small.mean

# %% [markdown]
# Shifted by $k = 4$ the large digits are exactly as hard as the small ones. SD3 uses a shift in training and in sampling. From 256 × 256 to 1024 × 1024 pixels the formula would give $k = 4$; people who compared pictures chose 3 (Esser et al. 2024, section 5.3.2). A shift belongs to a resolution.
#
# ## Somebody else's model
#
# Most published flows use another clock, another sign, and another order of arguments (lesson 00). `adapt` brings them here in one line. This stands for a network of diffusers: called with $x$ first, time from 0 (data) to 1000 (noise), its velocity from data to noise.

# %%
exact = lambda t, x: mixture.velocity(path, t, x)


def diffusers_style(x, timestep):
    return -exact(1 - timestep / 1000, x)


def flow_matching_style(x, t):  # facebookresearch/flow_matching: our clock, x first
    return exact(t, x)


x0, real = torch.randn(2000, 2, dtype=torch.float64), mixture.sample(2000)
floor = sampling_floor(energy_distance, mixture.sample, 2000)
for name, model in {
    "diffusers": adapt(diffusers_style, "diffusers"),
    "flow_matching": adapt(flow_matching_style, "flow_matching"),
    "wrong twin": adapt(diffusers_style, "flow_matching"),
}.items():
    distance = energy_distance(heun_sampler(model, x0, steps=20), real)
    print(f"{name:15} energy distance to the data {distance:8.4f}")
    assert (abs(distance) < 0.01) == (name != "wrong twin")
print(f"sampling floor {floor}")

# %% [markdown]
# For SD3 in diffusers, wrap its call: `lambda x, t: transformer(hidden_states=x, timestep=t, ...).sample`. FLUX in diffusers takes the time from 0 to 1, so pass `timestep=t / 1000` there, and its latents packed into tokens. Always look at how the pipeline calls its network. The same line then serves every sampler of lesson 05, guidance of lesson 08, and the likelihood of lesson 01.
#
# ## The map of SD3 and FLUX
#
# | part | SD3 | FLUX.1 | where |
# |---|---|---|---|
# | path | $(1-s)\,x + s\,\epsilon$, velocity $\epsilon - x$ | the same | lessons [00](00_quick_reference.ipynb#The-convention), [03](03_paths.ipynb) |
# | loss | CFM, logit-normal times, at 1024 × 1024 shifted by 3 | not published | [04](04_training.ipynb#How-to-draw-t), above |
# | space | 16 latent channels, 8 × 8 pixels each | the same size, its own autoencoder | [above](#A-smaller-space) |
# | network | MM-DiT, 2 × 2 patches | 19 double and 38 single blocks | [above](#How-the-condition-gets-in) |
# | text | two CLIPs and T5 | one CLIP and T5 | [above](#How-the-condition-gets-in) |
# | guidance | CFG, two calls a step | dev: the scale is an input, one call; schnell: none | [08](08_guidance.ipynb) |
# | shift of the times in sampling | 3 at 1024 × 1024 | dev: a shift that grows with the size; schnell: none | [above](#Large-pictures-need-more-noise) |
# | solver | Euler, about 28 to 50 steps | Euler; dev about 50, schnell 1 to 4 | [05](05_ode_solvers.ipynb) |
# | few steps | SD3-Turbo: adversarial distillation (LADD) | schnell: the same | [07](07_reflow.ipynb#What-it-is-not) |
#
# ## Traps
#
# - **Latents that were not normalised.** The noise has standard deviation 1. Check the latents' before you train.
# - **The same seed on every process.** Then all draw the same noise and times. If they also draw the same data, all compute the same gradient, and the batch is only one process's part.
# - **A checkpoint without the optimiser or the average.** It resumes, and is another run.
# - **A `GradScaler` with bf16.** Not wrong, not needed.
# - **Comparing losses across weightings.** The numbers have different units. Compare samples.

# %% [markdown]
# ## Interview walkthrough
#
# Say your answer aloud before you open a card. Each has the 30-second answer, the usual mistake, and the section that proves it.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
interview_cards("why-latents", "bf16-scaler", "ddp-gradient", "weights-are-times", "resolution-shift", "posthoc-ema")

# %% [markdown]
# ## You can now …
#
# 1. name the parts of SD3 and FLUX, and the lesson behind each;
# 2. train in latents, and report the floor of the decoder beside the flow;
# 3. choose the average after the training, bf16 without a scaler, a weight as a density of $t$, a shift for a resolution;
# 4. check the gradient of several processes, and resume bit for bit.
#
# ## References
#
# - R. Rombach et al., *Latent Diffusion*, 2022, arXiv 2112.10752. D. Kingma, M. Welling, 2014, arXiv 1312.6114.
# - P. Esser et al., 2024, arXiv 2403.03206 (SD3): sections 2 to 5, equation 23. FLUX: the official code and the model cards.
# - T. Karras et al., *EDM2*, 2024, arXiv 2312.02696: power-function and post-hoc EMA, section 3. *EDM*, 2022, arXiv 2206.00364: table 1.
# - W. Peebles, S. Xie, *DiT*, 2023, arXiv 2212.09748. T. Chen et al., 2016, arXiv 1604.06174: gradient checkpointing.
# - P. Micikevicius et al., *Mixed Precision Training*, 2018, arXiv 1710.03740: loss scaling.
# - D. Kingma, R. Gao, *Understanding Diffusion Objectives as the ELBO*, 2023, arXiv 2303.00848: weights and times.
