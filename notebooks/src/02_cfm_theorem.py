# %% [markdown]
# # 02 · The theorem that makes it trainable
#
# Nobody knows the field $u_t$ that we want to learn. It can be learned all the same, from single pairs. This lesson proves it in four lines and then measures it.
#
# **You will be able to**
#
# 1. write $u_t$ as a conditional expectation, and compute it by Monte Carlo;
# 2. prove $\nabla_\theta\mathcal L_{\text{FM}} = \nabla_\theta\mathcal L_{\text{CFM}}$ on a whiteboard;
# 3. say in which sense the two gradients are equal, and how fast a minibatch gets there;
# 4. say what a network does that fits a finite data set perfectly.
#
# *Before:* lessons 00 and 01. *Time:* 25 minutes to read, about 25 seconds to run; 15 more for 2 exercises and 5 cards. Begin with *Run ▸ Run All Cells*: until its cell has run, a player is a still picture.

# %%
import math

import torch

from fmlib import *
from fmlib.page import *
from fmlib.study import *

torch.set_num_threads(1)  # these tensors are tiny: a second thread costs more than it brings
torch.manual_seed(0)
plots.use_style()

path = rectified_flow_path()
mixture = three_gaussians()  # the data: its u_t is known exactly


def draw(n, dtype=torch.float32):
    """n training examples: t [n], x_t [n, 2] and the conditional target u_t(x_t | x_0, x_1) [n, 2]."""
    x1 = mixture.sample(n).to(dtype)
    x0, t = torch.randn_like(x1), torch.rand(n, dtype=dtype)
    return t, path.sample_xt(t, x0, x1), path.target_ut(t, x0, x1)


# %% [markdown]
# ## Many answers at one place
#
# Wait at one place $x$ at one time $t$, and watch the pairs $(x_0, x_1)$ whose line passes there. Each tells another velocity. The field that transports *all* of them together has one value here. Which one?

# %%
place, time = torch.tensor([0.2, 0.3]), 0.4
x1 = mixture.sample(400_000).float()
x0 = torch.randn_like(x1)
xt = path.sample_xt(time, x0, x1)
near = (xt - place).norm(dim=1) < 0.04
velocities = (x1 - x0)[near]
exact = mixture.velocity(path, time, place[None])[0]

fig, (left, right) = panels(2, 3.0)
for a, b in list(zip(x0[near], x1[near], strict=True))[:40]:
    left.plot(*torch.stack([a, b]).T, color=COLORS["path"], linewidth=0.6, zorder=0)
cloud(left, x0[near][:40], "noise", size=9, alpha=1), cloud(left, x1[near][:40], "data", size=9, alpha=1)
left.plot(*place, "o", color=COLORS["exact"])
left.set_title("lines through one place at t = 0.4")
plots.bare(left, (-3.4, 3.4, -3, 3.4))
cloud(right, velocities, "path", size=8, alpha=0.8)
right.plot(*velocities.mean(0), "x", color=COLORS["model"], markersize=11, markeredgewidth=2.5)
right.plot(*exact, "o", color=COLORS["exact"], markersize=5)
right.set_title("their velocities, the mean (x), $u_t$ (dot)")
show(
    fig,
    "Left: forty lines from noise to data cross in one point. Right: the cloud of their velocities in three groups; the cross of their mean lies on the dot of the exact marginal velocity.",
)
print(
    f"{int(near.sum())} pairs pass within 0.04; mean velocity {[round(v, 2) for v in velocities.mean(0).tolist()]}, exact u_t {[round(v, 2) for v in exact.tolist()]}"
)

# %% [markdown]
# The **mean**. To write it down, fix $z$, for example a data point $x_1$. Then $x_t = \alpha_t x_1 + \sigma_t x_0$ is random only through $x_0$. Its density is $p_t(x\mid z)$, the *conditional path*, and $u_t(x\mid z)$ is the velocity of its particles. With $q(z)$ for the distribution of $z$, the density of all particles together is $p_t(x) = \int p_t(x\mid z)\,q(z)\,dz$, and
#
# $$ u_t(x) = \mathbb E\bigl[\,u_t(x_t \mid z)\;\big|\;x_t = x\,\bigr] = \int u_t(x\mid z)\,\frac{p_t(x \mid z)\,q(z)}{p_t(x)}\,dz . $$
#
# $z$ may be a data point $x_1$ or a pair $(x_0, x_1)$. For a pair the conditional path is a single point (a Dirac), so the density form on the right is meant for $z = x_1$; the expectation on the left covers both.
#
# **Theorem 1** (Lipman et al. 2023): *this field satisfies the continuity equation with $p_t$.* The reason in one sentence: each conditional flux $p_t(x\mid z)\,u_t(x\mid z)$ balances its own density, and the equation is linear, so the sum balances the sum. Dividing the total flux by the total density gives the mean.
#
# The check by Monte Carlo, with $z = x_1$. If the data point is $x_1$, the noise that leads to $x$ at time $t$ must be $x_0 = (x - \alpha_t x_1)/\sigma_t$. So $u_t(x\mid x_1) = \alpha_t' x_1 + \sigma_t' x_0$, and the weight is $p_t(x\mid x_1) \propto e^{-|x_0|^2/2}$. Draw many $x_1$, average with these weights. The wrong twin forgets them.


# %%
def monte_carlo(t, x, n=200_000):
    """Self-normalised estimate of u_t(x) and its standard error, and the same without the weights."""
    x1 = mixture.sample(n)
    t = torch.tensor(t, dtype=torch.float64)
    x0 = (x - path.alpha(t) * x1) / path.sigma(t)  # the noise that leads from x_1 to x at time t
    velocity = path.d_alpha(t) * x1 + path.d_sigma(t) * x0
    weight = torch.softmax(-0.5 * x0.square().sum(dim=1), dim=0)
    mean = (weight[:, None] * velocity).sum(dim=0)
    error = (weight[:, None] ** 2 * (velocity - mean) ** 2).sum(dim=0).sqrt()
    return mean, error, velocity.mean(dim=0)


print(f"{'t':>5}{'x':>16}{'Monte Carlo':>34}{'exact':>16}{'z':>6}{'z, no weights':>15}")
for t, x in ((0.1, (1.0, -0.5)), (0.4, (0.2, 0.3)), (0.7, (-0.8, 0.4)), (0.9, (0.0, 1.6))):
    x = torch.tensor([x], dtype=torch.float64)
    mean, error, unweighted = monte_carlo(t, x)
    exact = mixture.velocity(path, t, x)[0]
    z, z_wrong = ((mean - exact) / error).abs().max(), ((unweighted - exact) / error).abs().max()
    text = ", ".join(f"{m:.3f} ± {s:.3f}" for m, s in zip(mean, error, strict=True))
    print(f"{t:5}{x[0].tolist()!s:>16}{text:>34}{', '.join(f'{v:.3f}' for v in exact):>16}{z:6.1f}{z_wrong:15.0f}")
    assert z < 4.5 < z_wrong

# %% [markdown]
# ## The theorem
#
# We would like to minimise the **flow matching** loss, but its target is unknown in general. The **conditional** loss has a target that we can compute for every pair:
#
# $$ \mathcal L_{\text{FM}} = \mathbb E\,\|v_\theta(t,x_t) - u_t(x_t)\|^2, \qquad \mathcal L_{\text{CFM}} = \mathbb E\,\|v_\theta(t,x_t) - u_t(x_t\mid z)\|^2 . $$
#
# **Theorem 2** (Lipman et al. 2023; where $p_t > 0$). $\nabla_\theta\mathcal L_{\text{FM}} = \nabla_\theta\mathcal L_{\text{CFM}}$.
#
# > **The whiteboard card.** Write $v = v_\theta(t,x_t)$, $u = u_t(x_t)$, $u_z = u_t(x_t\mid z)$.
# >
# > 1. $\|v - u_z\|^2 = \|v - u\|^2 + 2\,(v - u)\cdot(u - u_z) + \|u - u_z\|^2$.
# > 2. Given $t$ and $x_t$, the first factor of the middle term is fixed and $\mathbb E[u_z \mid x_t] = u$. So the middle term has mean zero.
# > 3. The last term has the mean $\mathbb E \operatorname{tr}\operatorname{Var}[u_z\mid x_t]$ (the variances of the coordinates, added up), which does not contain $\theta$.
# > 4. Hence $\mathcal L_{\text{CFM}} = \mathcal L_{\text{FM}} + \text{constant}$, and the gradients agree. ∎
#
# > **Predict, then run (1).** Take *one* batch of 1,000 pairs and compute both gradients on it. Are they equal? If you make the batch 100 times larger, by which factor does their difference shrink?

# %%
torch.manual_seed(1)
net = VectorFieldMLP(2, hidden=32, t_dim=16)


def both_gradients(net, t, xt, conditional, sign=1):
    """The gradients of the FM and of the CFM loss on the same examples, as two long vectors. sign = -1: a wrong target."""
    weights = list(net.parameters())
    v = net(t, xt)
    gradients = []
    for target in (mixture.velocity(path, t, xt), sign * conditional):
        loss = (v - target).square().sum(dim=1).mean()
        gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights, retain_graph=True)]))
    return gradients


batches = [100, 316, 1_000, 3_162, 10_000, 31_623, 100_000]
repeats = [150, 150, 100, 80, 40, 20, 10]
reference = torch.stack([both_gradients(net, *draw(100_000))[0] for _ in range(4)]).mean(0).norm()
rms, rms_error = [], []
for n, r in zip(batches, repeats, strict=True):
    squares = torch.stack(
        [((a - b).norm() / reference) ** 2 for a, b in (both_gradients(net, *draw(n)) for _ in range(r))]
    )
    mean = estimate(squares)
    rms.append(mean.mean**0.5)
    rms_error.append(0.5 * mean.std_error / mean.mean)  # standard error of log(rms)
    print(
        f"batch {n:7}: relative difference of the two gradients {100 * rms[-1]:6.2f} % ± {100 * rms[-1] * rms_error[-1]:.2f}"
    )

weight = 1 / torch.tensor(rms_error, dtype=torch.float64)  # weighted least squares on the logarithms
x, y = torch.tensor(batches, dtype=torch.float64).log(), torch.tensor(rms, dtype=torch.float64).log()
design = torch.stack([torch.ones_like(x), x], dim=1) * weight[:, None]
slope = torch.linalg.lstsq(design, (y * weight)[:, None]).solution[1, 0].item()
slope_error = torch.linalg.inv(design.T @ design)[1, 1].sqrt().item()
print(f"slope in the log-log plot: {slope:.3f} ± {1.96 * slope_error:.3f} (95 %)")
fm, flipped = both_gradients(net, *draw(100_000), sign=-1)
print(f"wrong twin, the target's sign flipped: still {100 * (fm - flipped).norm() / reference:.0f} % at batch 100000")
assert abs(slope + 0.5) < 4.5 * slope_error and slope_error < 0.03
assert (fm - flipped).norm() / reference > 10 * rms[-1]

# %% [markdown]
# They are **not** equal on a batch. They are equal *in expectation*, and the difference shrinks as $B^{-1/2}$, like every average. A hundredfold batch: about a tenth of the difference. With a wrong target the difference stays.
#
# Is it really zero in the mean, or just small? Repeat the batch many times, for three different networks, and look at the mean difference in units of its standard error, along a few random directions in weight space. These $z$-scores should look like standard normal numbers. For the wrong twin, with the target $x_0 - x_1$, they do not.


# %%
def z_scores(seed, wrong=False, repeats=40, batch=400, directions=8):
    torch.manual_seed(seed)
    other = VectorFieldMLP(2, hidden=32, t_dim=16)
    probe = torch.randn(sum(p.numel() for p in other.parameters()), directions)
    difference = []
    for _ in range(repeats):
        fm, cfm = both_gradients(other, *draw(batch), sign=-1 if wrong else 1)
        difference.append((fm - cfm) @ probe)
    difference = torch.stack(difference)
    return difference.mean(0) / (difference.std(0) / math.sqrt(repeats))


z = torch.cat([z_scores(seed) for seed in (2, 3, 4)])
z_wrong = z_scores(5, wrong=True)
print(
    f"{len(z)} z-scores over 3 networks: mean square {z.square().mean():.2f} (1 expected), largest {z.abs().max():.1f}"
)
print(f"wrong twin, the sign of one target flipped: mean square {z_wrong.square().mean():.0f}")
assert z.abs().max() < 5 and z.square().mean() < 2.5 < 20 < z_wrong.square().mean()

# %% [markdown]
# ## See the two clouds become one
#
# Drag the batch size $B$. Each point is the gradient on one batch, seen along the two directions in weight space in which it varies most: one cloud for the loss with the exact field, one for the loss with single pairs. Both shrink to the *same* place. The second is wider: that is the price of not knowing $u_t$.

# %%
torch.manual_seed(6)
start = torch.stack([both_gradients(net, *draw(64))[1] for _ in range(80)])
directions = torch.linalg.svd(start - start.mean(0), full_matrices=False).Vh[:2].T
plane = directions / ((start - start.mean(0)) @ directions).std(0)  # both axes in units of their spread at 64 pairs
sizes = [64, 128, 256, 512, 1024, 2048, 4096]
frames = {"FM: exact field": [], "CFM: single pairs": []}
examples = [draw(sizes[-1]) for _ in range(60)]  # a smaller batch is the beginning of a larger one
for n in sizes:
    pairs = [both_gradients(net, *(values[:n] for values in e)) for e in examples]
    for name, chosen in zip(frames, zip(*pairs, strict=True), strict=True):
        frames[name].append(torch.stack(chosen) @ plane)
frames = {name: torch.stack(f) for name, f in frames.items()}
middle = frames["FM: exact field"][-1].mean(0).tolist()
player = FlowPlayer(
    torch.log2(torch.tensor(sizes, dtype=torch.float64)),
    [Panel(f, title=name, color=c, dot=3) for (name, f), c in zip(frames.items(), ("exact", "model"), strict=True)],
    limits=(middle[0] - 3, middle[0] + 3, middle[1] - 2.5, middle[1] + 2.5),
    label="log₂ B",
    alt="Two clouds of gradients, for the exact field and for single pairs. As the batch grows both shrink to the same point; the second is wider.",
)
player.t = 8.0
player

# %% [markdown]
# ## The three losses add up
#
# Line 4 of the card says $\mathcal L_{\text{CFM}} = \mathcal L_{\text{FM}} + \mathbb E\operatorname{tr}\operatorname{Var}$, with the *same* constant for every network. Two networks, one very bad. Each number comes with its standard error, so that "adds up" has a meaning.


# %%
def bad(t, x):
    return 3 - 2 * x


torch.manual_seed(7)
print(f"{'network':12}{'CFM':>20}{'FM':>20}{'CFM - FM':>20}{'E tr Var':>20}{'z':>6}")
gaps = []
for name, v in {"untrained": net, "3 - 2x": bad}.items():
    t, xt, conditional = draw(60_000)
    with torch.no_grad():
        output = v(t, xt)
    cfm = (output - conditional).square().sum(dim=1)
    fm = (output - mixture.velocity(path, t, xt)).square().sum(dim=1)
    var = mixture.velocity_var(path, t, xt)
    closing = estimate(cfm - fm - var)
    gaps.append(estimate(cfm - fm))
    z = closing.mean / closing.std_error
    print(f"{name:12}{estimate(cfm)!s:>20}{estimate(fm)!s:>20}{gaps[-1]!s:>20}{estimate(var)!s:>20}{z:6.1f}")
    assert abs(z) < 4.5
halved = estimate(cfm - fm / 2 - var)  # the wrong twin: mean over the two dimensions in one of the terms
print(f"wrong twin, FM averaged over dimensions: z = {halved.mean / halved.std_error:.0f}")
assert abs(halved.mean / halved.std_error) > 20

# %% [markdown]
# Two consequences. **The loss does not go to zero** – the constant remains (lesson 04 trains down to it). And the variance, whose mean over $t$ is the constant, depends on $t$: targets are noisier at some times than at others.
#
# > **Predict, then run (2).** Where in $t$ is the target noisiest: near the noise, in the middle, or near the data?

# %%
torch.manual_seed(8)
t, xt, conditional = draw(60_000, torch.float64)
order = t.argsort()
bins = mixture.velocity_var(path, t, xt)[order].reshape(30, 2000).mean(1)
centres = t[order].reshape(30, 2000).mean(1)
direct = (conditional - mixture.velocity(path, t, xt)).square().sum(1)[order].reshape(30, 2000).mean(1)

fig, (axis,) = panels(1, 2.3)
axis.plot(centres, direct, ".", color=COLORS["model"])
axis.plot(centres, bins, color=COLORS["exact"], linewidth=1.2)
axis.set(xlabel="t", ylabel="tr Var of the target", ylim=(0, None))
axis.text(0.6, 3.6, "line: closed form\npoints: 2,000 pairs each", fontsize=9)
show(
    fig,
    "The variance of the target given x_t over t: it rises to a maximum near t = 0.25, falls until t = 0.7, rises a little to a second, low hill near t = 0.87, and ends at 2.",
)
late = centres > 0.5
dip, hill = bins[late].min(), bins[centres > 0.75].max()
print(
    f"variance {bins[0]:.2f} near t = 0, largest {bins.max():.2f} at t = {centres[bins.argmax()]:.2f}, {bins[-1]:.2f} near t = 1"
)
print(
    f"lowest {dip:.2f} at t = {centres[late][bins[late].argmin()]:.2f}, second hill {hill:.2f} at t = {centres[centres > 0.75][bins[centres > 0.75].argmax()]:.2f}"
)
s2, ts = mixture.stds**2, torch.linspace(0.75, 1, 251, dtype=torch.float64)[:, None]
inside_a_clump = (mixture.weights * 2 * s2 / (ts**2 * s2 + (1 - ts) ** 2)).sum(1)
print(f"doubt inside a clump alone: largest {inside_a_clump.max():.2f} at t = {ts[inside_a_clump.argmax(), 0]:.2f}")
assert 0.15 < centres[bins.argmax()] < 0.4
assert dip < hill - 0.05 and bins[-1] < hill - 0.05  # the second hill is real
assert abs(hill - inside_a_clump.max()) < 0.1

# %% [markdown]
# At $t = 0$ the position says nothing about the data, and the variance is that of $x_1$. In between, $x_1 - x_0 = (x_1 - x_t)/(1-t)$, so the variance is $\operatorname{tr}\operatorname{Var}[x_1\mid x_t]/(1-t)^2$. At first the factor grows faster than the doubt about $x_1$ shrinks. Then it becomes clear which clump it is, and the variance falls. What is left is the doubt *inside* a clump. For one clump of width $s$ it is $2s^2/\bigl(t^2 s^2 + (1-t)^2\bigr)$: a low hill of its own, at $t = 1/(1+s^2)$. That is the second hill of the curve. At $t = 1$ the variance is that of the unknown noise, 2 in two dimensions.
#
# ## A perfect fit memorises
#
# In practice the data are finite: $N$ training points. For them $u_t$ can be computed exactly, as a mean over the $N$ points. It is the *best possible* answer to the training loss. And its flow ends on the training points:

# %%
torch.manual_seed(9)
training = mixture.sample(64)
finite = EmpiricalDistribution(training)
x0 = torch.randn(1000, 2, dtype=torch.float64)
ends = {
    "exact field of 64 points": euler_sampler(lambda t, x: finite.velocity(path, t, x), x0, steps=300),
    "exact field of the distribution": euler_sampler(lambda t, x: mixture.velocity(path, t, x), x0, steps=100),
}
fig, axes = panels(2, 2.7)
copies = {}
for ax, (name, x) in zip(axes, ends.items(), strict=True):
    copies[name] = (torch.cdist(x, training).min(dim=1).values < 0.01).double().mean().item()
    cloud(ax, x, "model", size=4)
    ax.scatter(*training.T, s=26, facecolors="none", edgecolors=COLORS["data"], linewidths=1)
    ax.set_title(name, fontsize=9)
    plots.bare(ax, (-3.6, 3.6, -2.6, 3.2))
    print(f"{name:34} {100 * copies[name]:5.1f} % of 1,000 samples lie within 0.01 of a training point")
show(fig, "Left: all samples lie on the 64 circled training points. Right: the samples fill the three clumps.")
assert copies["exact field of 64 points"] > 0.99 and copies["exact field of the distribution"] < 0.05

# %% [markdown]
# So "the marginal field is intractable", as the interview sheet has it, needs a second half: for *finite data* it is exactly computable, and it only returns training points. (Of the exact field's samples a few are near one by chance.) A trained network gives new samples because it does **not** reach this minimum.
#
# ## Traps
#
# - "The gradients are equal" – in expectation. On a batch they differ by the noise of the targets.
# - "CFM picks the OT map" (optimal transport: the map from noise to data with the smallest mean squared distance). It picks the conditional mean $\mathbb E[\dot x_t \mid x_t]$, whatever the **coupling**, that is, the way in which noise and data are paired. Lipman et al. say themselves (section 4.1) that their *marginal* field is not an optimal transport map.
# - "A lower CFM loss means a better model" – only on the same data, path and distribution of $t$: the constant depends on all three.

# %% [markdown]
# ## Your turn
#
# Replace `return None` by your answer and run the cell. The checker tries random inputs and names the mistake that it recognises.

# %% [markdown]
# **1. Write the CFM loss (screen, 8 minutes).** For the straight line, with everything given: `model(t, x)`, `t` [B], `x0` and `x1` [B, d]. Return the loss of the formula, a scalar.


# %%
def my_loss(model, t, x0, x1):
    return None


check("cfm_loss", my_loss)

# %% [markdown]
# <details><summary>Hint</summary>
#
# `t` needs the shape [B, 1] before it multiplies. The squared norm is a sum over the dimensions, then comes a mean over the batch.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def my_loss(model, t, x0, x1):
#     s = t[:, None]
#     xt = (1 - s) * x0 + s * x1
#     return (model(t, xt) - (x1 - x0)).square().sum(dim=1).mean()
# ```
#
# </details>

# %% [markdown]
# **2. The marginal field of a data set (on-site, 12 minutes).** For the straight line and a finite set `data` [N, d], return $u_t(x) = \frac{E[x_1 \mid x_t = x] - x}{1 - t}$ for a number `t` and points `x` [B, d].


# %%
def marginal_field(t, x, data):
    return None


check("marginal_field", marginal_field)

# %% [markdown]
# <details><summary>Hint</summary>
#
# Given $x_1$, $x_t$ is $\mathcal N(t\,x_1, (1-t)^2 I)$. The posterior weights of the data points are a softmax.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def marginal_field(t, x, data):
#     log_weight = -torch.cdist(x, t * data).square() / (2 * (1 - t) ** 2)
#     return (torch.softmax(log_weight, dim=1) @ data - x) / (1 - t)
# ```
#
# </details>

# %% [markdown]
# ## Interview walkthrough
#
# Say your answer aloud before you open a card. Each has the 30-second answer, the usual mistake, and the section that proves it.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
interview_cards(
    "why-regress-pairs", "cfm-constant", "gradients-minibatch", "marginal-generates", "perfect-fit-memorises"
)

# %% [markdown]
# ## You can now …
#
# 1. write $u_t(x) = \mathbb E[u_t(x_t\mid z)\mid x_t = x]$ and estimate it with weights $p_t(x\mid x_1)$;
# 2. prove the theorem: complete the square, condition on $x_t$, the cross term vanishes, the rest has no $\theta$;
# 3. say that the gradients agree in the mean, with a difference of order $B^{-1/2}$ on a batch;
# 4. explain why the exact minimiser on finite data reproduces the data.
#
# ## References
#
# - Y. Lipman et al., *Flow Matching for Generative Modeling*, 2023, arXiv 2210.02747: Theorems 1 and 2, equations 5–9, section 4.1.
# - A. Tong et al., *Improving and Generalizing Flow-Based Generative Models*, 2023, arXiv 2302.00482: general conditioning variables $z$, Theorems 3.1 and 3.2.
# - P. Vincent, *A Connection Between Score Matching and Denoising Autoencoders*, 2011: the same argument for the score.
