# %% [markdown]
# # 08 · Guidance
#
# A model that knows classes can be pushed: away from what is common to all classes, towards what is special to one. That is classifier-free guidance (CFG). It is two model calls and one line.
#
# **You will be able to**
#
# 1. write classifier-free guidance, and train the one network that it needs;
# 2. translate between the two conventions for its scale;
# 3. say what guidance samples – and show that it is *not* the density that most people write down;
# 4. measure what it gains and costs on real images.
#
# *Before:* lessons 04–06. *Time:* 25 minutes to read, about 120 seconds to run; 15 more for 2 exercises and 5 cards. Begin with *Run ▸ Run All Cells*: until its cell has run, a player is a still picture.

# %%
import ipywidgets
import torch

from fmlib import *
from fmlib.page import *
from fmlib.study import *

torch.set_num_threads(1)  # these tensors are tiny: a second thread costs more than it brings
torch.manual_seed(0)
plots.use_style()

path = rectified_flow_path()

# %% [markdown]
# ## Push it
#
# Three overlapping classes in the plane. The field of each class, and of all together, is known exactly. Move `guidance_scale`, called $s$. The points are samples of class 0, in the left lower corner; the other two classes are drawn in grey.
#
# - $s = 0$: the class is ignored. $s = 1$: the samples of class 0, no guidance.
# - $s > 1$: more than class 0. The points draw back from the places that the other classes also reach.

# %%
centres = torch.tensor([[-0.7, -0.5], [1.1, 0.0], [-0.2, 1.2]], dtype=torch.float64)
stds, shares = torch.tensor([0.6, 0.8, 0.4], dtype=torch.float64), torch.tensor([0.4, 0.3, 0.3], dtype=torch.float64)
everything = GaussianMixture(centres, stds, shares)
classes = [GaussianMixture(m[None], s) for m, s in zip(centres, stds, strict=True)]
NO_CLASS = 3


def exact(t, x, label):
    """The exact field of classes 0, 1 and 2; label 3 stands for "no class"."""
    fields = torch.stack([g.velocity(path, t, x) for g in (*classes, everything)])
    return fields[label, torch.arange(len(x))]


LIMITS = (-3.0, 3.2, -2.8, 2.6)
start = torch.randn(400, 2, dtype=torch.float64)
fig, (ax,) = panels(1, 4.2, width=5)
for x in (g.sample(400) for g in classes[1:]):
    cloud(ax, x, "path", size=4, alpha=0.35)
dots = cloud(ax, start, "data", size=8, alpha=0.7)
bare(ax, LIMITS)


def redraw(guidance_scale, t):
    field = guided(exact, 0, guidance_scale, null_label=NO_CLASS)
    x = start if t == 0 else heun_sampler(field, start, steps=12, t_end=t)
    dots.set_offsets(x.numpy())


figure = LiveFigure(
    fig,
    redraw,
    alt="Samples of one of three overlapping classes. With a larger guidance scale they shrink and move away from the other two.",
    guidance_scale=ipywidgets.FloatSlider(value=3, min=0, max=8, step=0.25),
    t=ipywidgets.FloatSlider(value=1, min=0, max=1, step=0.02),
)
figure

# %% [markdown]
# ## The formula
#
# Let $v(t, x, c)$ be the field of class $c$ and $v(t, x, \varnothing)$ the field of all data. Guidance follows
#
# $$v_{\text{CFG}} = v(t, x, \varnothing) + s\,\bigl[v(t, x, c) - v(t, x, \varnothing)\bigr].$$
#
# For $s = 1$ it is the conditional field. For $s > 1$ it *extrapolates*: further in the direction that tells the class apart.
#
# **Two conventions.** Ho & Salimans (2022) count what is added: $(1 + w)\,v_c - w\,v_\varnothing$. So $s = 1 + w$. "Scale 3" in one paper is "scale 2" in the other.
#
# **One network for both fields.** In training, replace the label by "no class" with a probability of about 0.1. The same network then learns both, and no separate classifier is needed. (Its forerunner, *classifier guidance*, added the gradient of a classifier's $\log p(c \mid x)$; hence the name.) In code:
#
# ```python
# v_c, v_none = model(t, x, label), model(t, x, no_class)
# v = v_none + s * (v_c - v_none)
# ```
#
# `guided` does this with **one** call on a batch of twice the size, and gives back an ordinary `model(t, x)` that every sampler takes.

# %%
x, t = torch.randn(5, 2, dtype=torch.float64), torch.full((5,), 0.6, dtype=torch.float64)
label, none, s = torch.zeros(5, dtype=torch.long), torch.full((5,), NO_CLASS), 3.0
v_c, v_none = exact(t, x, label), exact(t, x, none)
ours = guided(exact, 0, s, null_label=NO_CLASS)(t, x)
salimans = (1 + 2.0) * v_c - 2.0 * v_none  # w = s - 1 = 2
mixed_up = (1 + s) * v_c - s * v_none  # the scale of one convention in the formula of the other
print(
    f"s = 3 and w = 2 differ by {(ours - salimans).abs().max():.0e}; s = 3 and w = 3 by {(ours - mixed_up).abs().max():.2f}"
)
assert torch.allclose(ours, salimans) and not torch.allclose(ours, mixed_up, atol=0.1)

# %% [markdown]
# ## What does it sample?
#
# The usual answer: "the class density, sharpened",
#
# $$p_{\text{tilted}}(x) \propto p(x)\,p(c \mid x)^s \;\propto\; p(x)^{1-s}\,p(x \mid c)^s.$$
#
# It comes from the scores. The velocity is $a_t\,x + b_t \times$ score (lesson 06), so mixing velocities with weights $1-s$ and $s$ mixes the scores with the same weights: at each $t$ the guided score is $(1-s)\,\nabla\log p_t(x) + s\,\nabla\log p_t(x\mid c)$, which is the score of $p_t(x)^{1-s} p_t(x \mid c)^s$. The gap in the argument: these densities, one for each $t$, are **not** the noised versions of one density. Tilting and noising do not commute. So the guided field does not, in general, satisfy the continuity equation with these densities (lesson 01), and its samples need not follow them (Bradley & Nakkiran 2024).
#
# One dimension and two centred Gaussians show it in three lines. All data have standard deviation $S$, the class $q < S$.
#
# 1. For data $\mathcal N(0, q^2)$ all densities are centred Gaussians, with $\operatorname{std}_t^2 = \alpha_t^2 q^2 + \sigma_t^2$. The flow only scales: $x_t = \operatorname{std}_t\,x_0$, so $v = \operatorname{std}_t'\,x_0 = x \cdot \frac{d}{dt}\log \operatorname{std}_t$. $\operatorname{std}_t$ runs from 1 to $q$.
# 2. CFG mixes two such fields: $v = x \cdot \frac{d}{dt}\bigl[(1-s) \log \operatorname{std}_t^{\varnothing} + s \log \operatorname{std}_t^{c}\bigr]$.
# 3. Integrate: the end has standard deviation $S^{1-s} q^s$.
#
# The tilted density is a Gaussian too, with variance $1 / \bigl(s/q^2 + (1-s)/S^2\bigr)$.
#
# > **Predict, then run (1).** $S = 1$, $q = \tfrac12$, $s = 3$. Which of the two is narrower, and by how much?

# %%
q, S = 0.5, 1.0
pair = [GaussianMixture(torch.zeros(1, 1, dtype=torch.float64), torch.tensor(std)) for std in (q, S)]


def two_gaussians(t, x, label):
    fields = torch.stack([g.velocity(path, t, x) for g in pair])
    return fields[label, torch.arange(len(x))]


x0 = torch.randn(4000, 1, dtype=torch.float64)
print(f"{'s':>4}{'CFG, measured':>22}{'S^(1-s) q^s':>14}{'tilted density':>16}")
for s in (1.0, 1.5, 2.0, 3.0, 5.0):
    end = rk4_sampler(guided(two_gaussians, 0, s, null_label=1), x0, steps=100)
    measured, closed = (end.std() / x0.std()).item(), S ** (1 - s) * q**s
    tilted = (s / q**2 + (1 - s) / S**2) ** -0.5
    print(f"{s:4.1f}{measured:22.4f}{closed:14.4f}{tilted:16.4f}")
    assert abs(measured / closed - 1) < 0.02
    assert s == 1 or abs(measured / tilted - 1) > 0.05

# %% [markdown]
# At $s = 3$ CFG is less than half as wide as the tilted density. (The measured values are divided by the standard deviation of the noise that was drawn, so that no sampling error remains.)
#
# When the two Gaussians have the **same** width, the quadratic terms cancel, and CFG and the tilted density agree: with $\mu_c$ and $\mu_\varnothing$ for the means of the class and of all data, both shift the mean to $\mu_c + (s-1)(\mu_c - \mu_\varnothing)$ and keep the width.

# %%
s, width, mu_c, mu = 3.0, 0.6, 0.5, 0.0
shifted = [GaussianMixture(torch.full((1, 1), m, dtype=torch.float64), torch.tensor(width)) for m in (mu_c, mu)]


def equal_widths(t, x, label):
    fields = torch.stack([g.velocity(path, t, x) for g in shifted])
    return fields[label, torch.arange(len(x))]


cfg = rk4_sampler(guided(equal_widths, 0, s, null_label=1), x0[:2000], steps=50)


def tilted_sample(n):
    return mu_c + (s - 1) * (mu_c - mu) + width * torch.randn(n, 1, dtype=torch.float64)


gap, floor = energy_distance(cfg, tilted_sample(2000)), sampling_floor(energy_distance, tilted_sample, 2000)
unguided = energy_distance(shifted[0].sample(2000), tilted_sample(2000))
print(
    f"equal widths: energy distance of CFG to the tilted density {gap:.4f}, floor {floor}; without guidance {unguided:.2f}"
)
assert gap < 0.01 * unguided and unguided > 0.5

# %% [markdown]
# The same in the plane, with the three classes. Grey: the tilted density, computed on a grid. Points: CFG.

# %%
fig, axes = panels(4, 2.3)
grid = cell_centres(LIMITS, 90).double()
log_all, log_class = (g.log_prob(path, 1.0, grid) for g in (everything, classes[0]))
for ax, s in zip(axes, (0.0, 1.0, 3.0, 6.0), strict=True):
    log_tilted = (1 - s) * log_all + s * log_class
    shade = (log_tilted - log_tilted.max()).exp().reshape(90, 90)
    ax.imshow(shade, extent=LIMITS, origin="lower", cmap="Greys", vmax=1.8, aspect="auto")
    x = heun_sampler(guided(exact, 0, s, null_label=NO_CLASS), start, steps=20)
    cloud(ax, x, "data", size=3, alpha=0.6)
    ax.set_title(f"s = {s:g}")
    bare(ax, LIMITS)
show(
    fig,
    "Four panels: guidance scale 0, 1, 3 and 6. At 0 and 1 points and shade agree. At 3 and 6 the points lie further from the other classes than the grey tilted density, and only partly overlap it.",
)

# %% [markdown]
# ## Real images
#
# scikit-learn's handwritten digits: 1,797 real images of 8 × 8 pixels, 10 classes. 1,437 for training, 360 held out. First, a **judge**: a small classifier, trained on *real* digits only. It never sees a generated one.

# %%
digits = load_digits_flow()
torch.manual_seed(1)
judge = train_digit_classifier(digits)
accuracy = judge.agreement(digits.test, digits.test_labels)
print(f"the judge names {100 * accuracy:.1f} % of the held-out real digits")
assert accuracy >= 0.99

# %% [markdown]
# Now the flow: a residual network on 64 numbers, with the class as an embedding that is added to that of $t$. One label in ten is dropped.

# %%
torch.manual_seed(2)
loader = SampledBatches(digits.sample_labelled, batch=128)
net = ResidualMLP(64, hidden=256, blocks=2, num_classes=10)
_, model = train_flow_matching(net, loader, path, 2500, lr=4e-3, log_every=0, label_dropout=0.1)

# %%
rows = torch.arange(10).repeat(3)  # three rows of 0 ... 9
noise = torch.randn(30, 64)
fig, axes = panels(3, 1.35)
for ax, s in zip(axes, (0.0, 1.0, 4.0), strict=True):
    image_grid(ax, heun_sampler(guided(model, rows, s), noise, steps=10))
    ax.set_title({0.0: "s = 0: the class is ignored", 1.0: "s = 1", 4.0: "s = 4"}[s])
show(
    fig,
    "Three sheets of generated digits, three rows of 0 to 9, from the same noise. Scale 0: random digits. Scale 1: the right digits, varied. Scale 4: bold, and more alike.",
)

# %% [markdown]
# ## Fidelity against diversity
#
# > **Predict, then run (2).** As the scale grows, what happens to the judge's agreement, to the distance to real digits, and to the kinds of digits that are missing?
#
# For each scale we draw as many digits as there are training digits, with the same labels, three times over. The number after ± says how much the mean of the three changes from one draw of noise to the next; for the agreement, which can read 100 % by chance, it is the binomial error of its share. Fréchet distances compare mean and covariance with the **held-out** digits; their floor is real training digits against held-out ones. `missed` is the mean distance from a held-out digit to the nearest *generated* one, relative to the nearest training digit: it grows when kinds of digits are missing. `copied` turns it around: from a generated digit to the nearest training digit, relative to that of held-out digits. Far below 1 would mean copies. (A few copies among many samples hide in a mean; the small quantiles of the same distance show them.)

# %%
train, test = dequantise(digits.train), dequantise(digits.test)
test_features = judge.features(test)
floor_pixels, floor_features = frechet_distance(train, test), frechet_distance(judge.features(train), test_features)
real_to_train = nearest_distance(test, train)


def score(x):
    """The judge's agreement; Fréchet distances in pixels and in the judge's features; missed; copied."""
    return torch.tensor(
        [
            judge.agreement(x, digits.train_labels),
            frechet_distance(x, test) / floor_pixels,
            frechet_distance(judge.features(x), test_features) / floor_features,
            nearest_distance(test, x) / real_to_train,
            nearest_distance(x, train) / real_to_train,
        ]
    )


def draw(net, s, seed, interval=(0, 1), sampler=heun_sampler, **kwargs):
    torch.manual_seed(seed)
    field = guided(net, digits.train_labels, s, interval=interval)
    return sampler(field, torch.randn(len(train), 64), steps=8, **kwargs)


def row(draws):
    """The mean of each column with its error, as text; draws [repeats, 5]."""
    n = len(draws) * len(train)
    p = (draws[:, 0].mean() * n + 1) / (n + 2)  # Laplace: a share of 100 % has an error too
    agreement = Estimate(draws[:, 0].mean().item(), (p * (1 - p) / n).sqrt().item(), n)
    return "".join(f"{e!s:>20}" for e in (agreement, *map(estimate, draws.T[1:])))


columns = ("agreement", "Fréchet px / floor", "features / floor", "missed", "copied")
print(f"{'':14}" + "".join(f"{c:>20}" for c in columns))
table = {}
for s in (0.0, 1.0, 1.1, 1.5, 2.0, 3.0, 5.0):
    draws = torch.stack([score(draw(model, s, seed)) for seed in (3, 4, 5)])
    table[s] = draws.mean(0)
    print(f"s = {s:<10}" + row(draws))
agreement, pixels, features, missed, copied = table[1.0].tolist()
assert agreement >= 0.98 and pixels <= 2.5 and abs(copied - 1) <= 0.1
assert table[3.0][0] > agreement and table[5.0][1] > 2 * pixels and table[5.0][3] > 1.1 * missed
assert table[1.1][2] < features and table[2.0][2] > 1.2 * table[1.1][2]  # the U: down first, then up
assert table[0.0][0] < 0.2  # the wrong twin: without the class the judge agrees by chance

# %% [markdown]
# How to read it: 1 in the Fréchet columns would mean "as near to the held-out digits as other real digits are". Agreement is practically 100 % from $s = 1.5$ on. The distance in features draws the **U** that interviews ask for: it falls until about $s = 1.1$, where unclear digits have become clear ones, and then it grows as far as the table goes: the digits become alike and bold. `missed` draws the same U, with its lowest point near 1.5. Which scale is best depends on the measure; here the conditional model is good, so a little guidance is enough. (The row $s = 0$ is worse than it need be: its branch without a class has seen one training digit in ten.) Text-to-image models are used with larger scales. One possible reason: a prompt says less about a picture than the class of a digit does.
#
# Try it: small $s$, large $s$, and the way over $t$. Each move of the slider solves the ODE anew for 30 images.

# %%
fig, (ax,) = panels(1, 2.0, width=5.6)
image_grid(ax, torch.zeros(30, 64))
sheet = ax.images[0]


def redraw_digits(guidance_scale, t):
    x = heun_sampler(guided(model, rows, guidance_scale), noise, steps=8, t_end=t) if t > 0 else noise
    image_grid(ax, x)
    for old in ax.images[:-1]:
        old.remove()


LiveFigure(
    fig,
    redraw_digits,
    alt="Three rows of generated digits 0 to 9. They grow bolder and more alike with the guidance scale; at small t they are noise.",
    guidance_scale=ipywidgets.FloatSlider(value=2, min=0, max=8, step=0.25),
    t=ipywidgets.FloatSlider(value=1, min=0, max=1, step=0.02),
)

# %% [markdown]
# ## Only in the right part
#
# Guidance over the whole of $t$ is not needed. Kynkäänniemi et al. (2024) found it harmful at high noise, useless at low noise, and good in between, for large image models. On these digits, at scale 3:

# %%
print(f"{'':22}" + "".join(f"{c:>20}" for c in columns))
by_interval = {}
for interval in ((0, 1), (0, 0.3), (0.3, 0.7), (0.7, 1)):
    by_interval[interval] = score(draw(model, 3.0, 3, interval=interval))
    print(f"s = 3 for t in {interval!s:8}" + "".join(f"{value:20.3f}" for value in by_interval[interval]))
assert by_interval[0.7, 1][1] < by_interval[0, 0.3][1] < by_interval[0, 1][1]

# %% [markdown]
# Of the three parts early guidance (near the noise) costs most: there it moves whole shapes towards an average of the class. Late guidance costs least: its distances are close to those of $s = 1$, and the agreement is 100 %. The first agrees with the paper. The second does not: there the middle part was best. Small digits are not large pictures; measure on yours.
#
# ## Which times: logit-normal and the shift
#
# SD3 draws $t$ in *training* from a logit-normal distribution, $t = \operatorname{sigmoid}(m + z)$, $z \sim \mathcal N(0, 1)$, and found $m = 0$ best on average for its images. In this convention the sign of $m$ is flipped: $m > 0$ leans to the data. Here, one short training for each; the ± is over three draws of samples, so small differences mean nothing.

# %%
choices = {
    "uniform": "uniform",
    "logit-normal, m = 0": "logitnormal",
    "m = 0.5 (to the data)": logit_normal_t(0.5),
    "m = -0.5 (to the noise)": logit_normal_t(-0.5),
}
print(f"{'':26}" + "".join(f"{c:>20}" for c in columns[:3]))
by_times = {}
for name, t_dist in choices.items():
    torch.manual_seed(5)
    small = ResidualMLP(64, hidden=256, blocks=2, num_classes=10)
    _, ema = train_flow_matching(small, loader, path, 600, lr=4e-3, log_every=0, label_dropout=0.1, t_dist=t_dist)
    by_times[name] = torch.stack([score(draw(ema, 1.0, seed)) for seed in (6, 7, 8)])
    print(f"{name:26}" + row(by_times[name][:, :3]))
towards_noise, towards_data = (by_times[name].mean(0) for name in list(choices)[:1:-1])
assert towards_noise[0] > towards_data[0] and towards_noise[1] > towards_data[1]

# %% [markdown]
# Only the difference between $m = -0.5$ and $m = 0.5$ is clear, and there the columns disagree about the winner. Leaning to the noise settles *which* digit it becomes: the agreement rises, the Fréchet distances get worse. Leaning to the data does the opposite. So $t$'s distribution is a weight (lesson 04), and what it buys depends on the metric and on the data. The interview sheet's reason – the middle times are the hardest – is SD3's intuition, not a law.
#
# SD3's second knob is the *shift* of the times (Esser et al. 2024, eq. 23): $t' = \frac{3t}{1 + 2t}$ in SD3's time, which moves steps towards the noise. The reason: a large picture survives more noise than a small one. Do 8 × 8 digits want it? Eight Euler steps, the same network:

# %%
print(f"{'':26}" + "".join(f"{c:>20}" for c in columns[:3]))
by_shift = {}
for shift in (1 / 3, 1.0, 3.0):
    scores = torch.stack(
        [score(draw(model, 1.0, seed, sampler=euler_sampler, grid=shift_grid(shift))) for seed in (7, 8, 9)]
    )
    by_shift[shift] = scores.mean(0)
    print(f"shift {shift:<20.2f}" + row(scores[:, :3]))
assert by_shift[3.0][1] > by_shift[1.0][1]

# %% [markdown]
# No: with the shift of 3 the Fréchet distances get worse. SD3 uses it for 1024 × 1024 pixels. A shift is set for the resolution, not once for all.
#
# ## Traps
#
# - **"CFG samples $p(x)\,p(c \mid x)^s$."** True for $s = 1$, and for two Gaussians of equal width. In general it samples another density: narrower, or elsewhere.
# - **$s$ or $w$?** Say which one you mean: $s = 1 + w$.
# - **Forgetting to drop labels.** Without label dropout the "no class" input is never trained, and $v_\varnothing$ is arbitrary.
# - **A large scale because it looks sharper.** Agreement is practically 100 % at $s = 1.5$, and more cannot be gained, while the feature distance has grown since 1.1.
# - **Twice the price.** Guidance doubles the work of a step. Where only one field is needed, call only that one (`interval`).

# %% [markdown]
# ## Your turn
#
# Replace `return None` by your answer and run the cell. The checker tries random inputs and names the mistake that it recognises.

# %% [markdown]
# **1. Write classifier-free guidance (screen, 5 minutes).** The guided velocity with scale `s`, where $s = 1$ is no guidance. `model(t, x, label)`; `label` [B] are integers, the integer `null` means "no class".


# %%
def my_cfg(model, t, x, label, null, s):
    return None


check("cfg", my_cfg)

# %% [markdown]
# <details><summary>Hint</summary>
#
# `torch.full_like(label, null)` makes the labels of the second call.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def my_cfg(model, t, x, label, null, s):
#     v_none = model(t, x, torch.full_like(label, null))
#     return v_none + s * (model(t, x, label) - v_none)
# ```
#
# </details>

# %% [markdown]
# **2. The width that guidance gives (research, 8 minutes).** Centred Gaussians: all data have the standard deviation `S`, the class has `q`. Return the standard deviation of the guided samples at scale `s`.


# %%
def cfg_std(S, q, s):
    return None


check("cfg_std", cfg_std)

# %% [markdown]
# <details><summary>Hint</summary>
#
# $v = x\,\frac{d}{dt}\log\operatorname{std}_t$ for each; guidance mixes the two.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def cfg_std(S, q, s):
#     return S ** (1 - s) * q**s
# ```
#
# </details>

# %% [markdown]
# ## Interview walkthrough
#
# Say your answer aloud before you open a card. Each has the 30-second answer, the usual mistake, and the section that proves it.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
interview_cards("cfg-formula", "cfg-training", "cfg-samples-what", "cfg-scale-effect", "copies-check")

# %% [markdown]
# ## You can now …
#
# 1. write CFG in one line, and train its network with label dropout;
# 2. translate $s = 1 + w$;
# 3. derive $S^{1-s} q^s$, and say why it is not the tilted density;
# 4. report a scale with its agreement, its distance to held-out data, and a check for copies.
#
# ## References
#
# - J. Ho, T. Salimans, *Classifier-Free Diffusion Guidance*, 2022, arXiv 2207.12598.
# - A. Bradley, P. Nakkiran, *Classifier-Free Guidance is a Predictor-Corrector*, 2024, arXiv 2408.09000.
# - T. Kynkäänniemi et al., *Applying Guidance in a Limited Interval …*, 2024, arXiv 2404.07724.
# - P. Esser et al., 2024, arXiv 2403.03206 (SD3): section 3.1 for logit-normal times, eq. 23 for the shift.
# - M. Heusel et al., 2017, arXiv 1706.08500: the Fréchet distance. E. Alpaydin, C. Kaynak, 1998: the digits (UCI).
