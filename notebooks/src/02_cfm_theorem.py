# %% [markdown]
# # 02 · Why single pairs are enough
#
# **You do not have the velocity that carries all noise to all data. So what does a network learn from?**

# %% jupyter={"source_hidden": true} tags=["hide-input"]
import torch

from fmlib import *
from fmlib.page import *
from fmlib.study import *

torch.set_num_threads(1)  # these tensors are tiny: a second thread costs more than it brings
torch.manual_seed(0)
plots.use_style()

FAN = (
    "Three clumps in grey, halfway between noise and data. Through one place pass many thin lines, each from a blue "
    "noise point to an orange data point; small dots are the tips of their velocities, a thick arrow is the mean."
)
MEMORY = "Particles over the field of a handful of orange data points: at the end every particle sits on one of them."
TOUR = [
    {
        "caption": "One place, halfway through. The thin lines are noise-data pairs that pass exactly here. Drag the dot "
        "where they meet.",
        "t": 0.5, "probe": [0.0, 0.0], "layers": ["density", "probe"],
    },
    {
        "caption": "They disagree. The number below is the variance of their velocities. Take the dot from the middle into "
        "the upper clump: do they disagree more there, or less?",
        "t": 0.5, "probe": [0.0, 0.3], "layers": ["density", "probe"],
    },
    {
        "caption": "The thick arrow is the average of all the pairs. The small dots scatter around its tip. Which single "
        "answer would you give, if you are fined by the square of your error?",
        "t": 0.4, "probe": [0.2, 0.3], "layers": ["density", "probe"],
    },
    {
        "caption": "Late in the journey. The fan has closed at its orange end: only one clump can still be meant. Drag t to "
        "1, and the variance comes to 2. What is it that nobody knows here?",
        "t": 0.9, "probe": [0.0, 1.8], "layers": ["density", "probe"],
    },
]  # fmt: skip
SETS = [
    {
        "caption": "Five data points, and nothing else. Their field is the best possible answer to the training loss, and "
        "every trajectory ends on one of them. Drag t.",
        "t": 1.0, "points": 5,
    },
    {
        "caption": "A hundred points. From afar they look like the three clumps. Read below how many particles end on a "
        "training point.",
        "t": 1.0, "points": 100,
    },
    {
        "caption": "The distribution itself. The same noise, and now it becomes new points. Drag the number of training "
        "points up to 1,000 and compare.",
        "t": 1.0, "points": 0,
    },
]  # fmt: skip

# %%
lab = FlowLab(three_gaussians(), FAN, layers=["density", "probe"], controls=["t", "mixture"], tour=TOUR)
lab

# %% [markdown]
# *Nothing has to run first. You need lessons [00](00_quick_reference.ipynb) and [01](01_continuity_equation.ipynb).* *Time:* 20 minutes to read, about 20 seconds to run; 15 more for 2 exercises and 5 cards.
#
# **You will be able to** write $u_t$ as an average, prove the theorem on a whiteboard, say in which sense the two gradients are equal, and say what a perfect fit to finite data does.
#
# First a look back.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
predict(
    "From lesson 01: you add a field w to u. When do all densities stay as they are?",
    "when the flux p w has no divergence",
    choices=["when w has no divergence", "when the flux p w has no divergence", "never: the field is unique"],
    because="A constant drift has no divergence and moves everything. What counts is how much mass crosses a wall, and that is p w.",
)

# %% [markdown]
# ## Many answers at one place
#
# Imagine standing at a crossroads with your eyes shut. A car drives through, and somebody asks: which direction did it take, and how fast? You know where you stand and what time it is. A network knows no more: a place $x$ and a time $t$.
#
# Suppose you are fined for every error, by its square. Then do not guess any single car. Say the *average* of all cars that come through here at this hour. That average is the field we want:
#
# $$ u_t(x) = \mathbb E\,[\,\dot x_t \mid x_t = x\,]. $$
#
# So the plan is simple. Draw a pair. See where it is at a random time. Tell the network how fast *this* pair moves. The next pair at the same place will say something else. Fined by the square, the network settles on the average, and never needed to know it.
#
# How can one compute this average? Fix a data point $x_1$. The noise that leads from it to $x$ at time $t$ must be $x_0 = (x - \alpha_t x_1)/\sigma_t$. So this data point says: the velocity is $\alpha_t' x_1 + \sigma_t' x_0$. How loudly may it speak? As loudly as that noise is likely, $e^{-\|x_0\|^2/2}$. Draw many data points and average what they say, with these weights.

# %%
path, data = rectified_flow_path(), three_gaussians()


def says(t, x, x1):
    """What each data point says about the velocity at x, and its weight; weights add up to 1."""
    x0 = (x - path.alpha(t) * x1) / path.sigma(t)
    return path.d_alpha(t) * x1 + path.d_sigma(t) * x0, torch.softmax(-x0.square().sum(1) / 2, 0)


# %% jupyter={"source_hidden": true} tags=["hide-input"]
for clock, place in ((0.1, (1.0, -0.5)), (0.4, (0.2, 0.3)), (0.7, (-0.8, 0.4)), (0.9, (0.0, 1.6))):
    t, x = torch.tensor(clock).double(), torch.tensor([place]).double()
    velocity, weight = says(t, x, data.sample(200_000))
    mean = (weight[:, None] * velocity).sum(0)
    error = (weight[:, None] ** 2 * (velocity - mean) ** 2).sum(0).sqrt()
    off = lambda v, x=x, t=t, error=error: (v - data.velocity(path, t, x)[0]) / error  # in standard errors
    verify(
        f"at t = {clock}, x = {place} the weighted mean is the field (difference in standard errors)",
        off(mean),
        0.0,
        limit=5.0,
        wrong={"without the weights": off(velocity.mean(0))},
    )

# %% [markdown]
# **Why does this average carry the cloud?** Because the continuity equation is linear. Call $z$ what was fixed, here $x_1$, and $q(z)$ the density that it is drawn from. Each $z$ alone makes a small cloud with density $p_t(x\mid z)$ and field $u_t(x\mid z)$, and together they satisfy the continuity equation. Add up the clouds and their fluxes, and they satisfy it as well. Total flux over total density is
#
# $$ u_t(x) = \int u_t(x\mid z)\,\frac{p_t(x \mid z)\,q(z)}{p_t(x)}\,dz, $$
#
# the average with weights again. That is Theorem 1 of Lipman et al.; they call $u_t$ the *marginal* field, and $u_t(x\mid z)$ the *conditional* one. ($z$ may also be the whole pair $(x_0, x_1)$. It makes no difference to the average: given $x_t$ and $x_1$, the noise is known.)
#
# ## The theorem
#
# What we would like to minimise is the *flow matching* loss. What we can compute is the *conditional* flow matching loss, whose target is that of one $z$:
#
# $$ \mathcal L_{\text{FM}} = \mathbb E\,\|v_\theta(t,x_t) - u_t(x_t)\|^2, \qquad \mathcal L_{\text{CFM}} = \mathbb E\,\|v_\theta(t,x_t) - u_t(x_t\mid z)\|^2 . $$
#
# **Theorem 2** (Lipman et al. 2023). $\nabla_\theta\mathcal L_{\text{FM}} = \nabla_\theta\mathcal L_{\text{CFM}}$. (With $p_t > 0$, so that the average $u_t$ is defined everywhere.)
#
# The proof fits on a card. Write $v$, $u$ and $u_z$ for the network, the field and the velocity of one pair; $\operatorname{tr}\operatorname{Var}$ is the variance, added up over the coordinates.
#
# $$ \|v - u_z\|^2 = \|v - u\|^2 + 2\,(v - u)\cdot(u - u_z) + \|u - u_z\|^2 $$
#
# $$ \mathbb E\,[\,(v-u)\cdot(u-u_z) \mid t, x_t\,] = (v-u)\cdot(u - \mathbb E[u_z \mid t, x_t]) = 0 $$
#
# $$ \mathbb E\,\|u-u_z\|^2 = \mathbb E \operatorname{tr}\operatorname{Var}[\,u_z \mid t, x_t\,] \quad\text{has no } \theta $$
#
# $$ \mathcal L_{\text{CFM}} = \mathcal L_{\text{FM}} + \text{constant}, \qquad\text{so the gradients agree.}\;\blacksquare $$
#
# In words: complete the square; stand still at one place, and the middle term averages to zero; the rest is the disagreement of the pairs, which no network changes.

# %%
net = VectorFieldMLP(2, hidden=32, t_dim=16)


def draw(n):
    """Times [n], places [n, 2] and the velocities of single pairs [n, 2]."""
    x1, t = data.sample(n).float(), torch.rand(n)
    x0 = torch.randn_like(x1)
    return t, path.sample_xt(t, x0, x1), path.target_ut(t, x0, x1)


# %% [markdown]
# ## The losses differ by a constant
#
# Read the last line as a statement about numbers: for *every* network the two losses differ by the same constant, the variance of the pairs. Here are two: a network that was never trained, and a field that is plainly bad.


# %%
def losses(v, t, x, pair):
    with torch.no_grad():
        cfm = (v(t, x) - pair).square().sum(1)
        fm = (v(t, x) - data.velocity(path, t, x)).square().sum(1)
    return cfm, fm, data.velocity_var(path, t, x)


for name, v in {"an untrained network": net, "the field 3 - 2 x": lambda t, x: 3 - 2 * x}.items():
    cfm, fm, variance = losses(v, *draw(60_000))
    twins = {"FM as a mean over the dimensions": estimate(cfm - fm / 2 - variance), "no constant": estimate(cfm - fm)}
    verify(f"{name}: CFM - FM - variance", estimate(cfm - fm - variance), 0.0, wrong=twins)

# %% [markdown]
# Two things follow. **The loss does not go to zero**: the constant stays (lesson 04 trains almost down to it). And a lower loss means a better model only for the same data, path and times, as the constant depends on all three.
#
# Where in $t$ do the pairs disagree most?

# %% jupyter={"source_hidden": true} tags=["hide-input"]
t, x, pair = draw(120_000)
order = t.argsort()
by_time = data.velocity_var(path, t, x)[order].reshape(40, -1).mean(1)
peak = (by_time.argmax().item() + 0.5) / 40
at_start = data.posterior_var(path, 0.0, torch.zeros(1, 2)).item()
predict(
    "At which t do the pairs of these three clumps disagree most, on average over all places?",
    peak,
    low=0,
    high=1,
    step=0.01,
    because=f"At t = 0 the place says nothing about the data, and the variance is that of the data, {at_start:.1f} in all. Then the same doubt must be settled in less and less time, so velocities differ more: {by_time.max():.1f} at the top, which is broad. Once it is clear which clump is meant, the variance falls.",
)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
centres = (torch.arange(40) + 0.5) / 40
direct = (pair - data.velocity(path, t, x)).square().sum(1)[order].reshape(40, -1).mean(1)
fig, (axis,) = panels(1, 2.3)
axis.plot(centres, direct, ".", color=COLORS["model"])
axis.plot(centres, by_time, color=COLORS["exact"], linewidth=1.2)
axis.set(xlabel="t", ylabel="variance of the pairs", ylim=(0, None), xlim=(0, 1))
axis.annotate("which clump?", (0.27, by_time.max()), xytext=(0.42, by_time.max() - 0.2), fontsize=9)
axis.annotate("where inside it?", (0.87, by_time[34]), xytext=(0.75, by_time[34] + 0.7), fontsize=9)
axis.text(0.02, 0.3, "line: exact, averaged over sampled places; points: 3,000 pairs each", fontsize=9)
show(
    fig,
    "The variance of the pairs' velocities over t: a broad top between 0.2 and 0.35, a valley near 0.66, a second, low hill near 0.87, and 2 at the end.",
)
late = by_time[-1]
verify("near t = 1 the variance is that of the noise, 1 in each dimension", late, 2.0, limit=0.15, wrong={"its peak": by_time.max()})  # fmt: skip


def inside_a_clump(t, x):
    """The part of the variance that is left once the clump is known."""
    t, s2 = t[:, None], data.stds**2
    var = t**2 * s2 + (1 - t) ** 2
    off = (x[:, None] - t[..., None] * data.means).square().sum(2)
    r = torch.softmax(data.weights.log() - var.log() - off / (2 * var), 1)
    return (r * 2 * s2 / var).sum(1)


def second_hill(values):
    """How far the variance rises again after its valley."""
    curve = values[order].reshape(40, -1).mean(1)
    return curve[30:38].max() - curve[22:34].min()


variance = data.velocity_var(path, t, x)
verify("the second hill is real (its height over the valley before it)", second_hill(variance), at_least=0.2, wrong={"the doubt about the clump alone": second_hill(variance - inside_a_clump(t, x))})  # fmt: skip

# %% [markdown]
# Two hills. As $x_1 - x_0 = (x_1 - x_t)/(1-t)$, the variance is the doubt about $x_1$, divided by $(1-t)^2$. On the first hill the doubt is *which clump*. On the second it is *where inside it*: for one clump of width $s$ in two dimensions, $2s^2/\bigl(t^2 s^2 + (1-t)^2\bigr)$, highest at $t = 1/(1+s^2)$. (Two things tell about $x_1$: the clump, with precision $1/s^2$, and the place, with precision $t^2/(1-t)^2$. Precisions add up, and the variance is one over their sum.) At $t = 1$ the data point is known, and the noise is not: its variance is 1 in each dimension. (Data with a density always leave many neighbours possible, each with another noise. Of finitely many points only one is left in the end; then the noise is known too, and the variance falls to zero.)
#
# ## Equal on average, not on a batch
#
# "The gradients are equal." On *one* batch of 1,000 pairs, are they?


# %%
def gradients(t, x, pair):
    """Of the FM and of the CFM loss, on the same examples: two long vectors."""
    v, found = net(t, x), []
    for target in (data.velocity(path, t, x), pair):
        loss = (v - target).square().sum(1).mean()
        grad = torch.autograd.grad(loss, list(net.parameters()), retain_graph=True)
        found.append(torch.cat([g.flatten() for g in grad]))
    return found


# %% jupyter={"source_hidden": true} tags=["hide-input"]
sizes, repeats = [100, 316, 1_000, 3_162, 10_000, 31_623], [120, 100, 80, 50, 25, 12]
length = torch.stack([gradients(*draw(50_000))[0] for _ in range(4)]).mean(0).norm()


def gaps(sign=1, part=1):
    """The slope of the relative difference over the batch size, by least squares on the logarithms; its squares."""
    off = lambda t, x, pair: (torch.sub(*gradients(t, x, sign * pair)).norm() / length) ** 2
    squares = [estimate([off(*draw(n)) for _ in range(r // part)]) for n, r in zip(sizes, repeats, strict=True)]
    weight = torch.tensor([s.mean / s.std_error for s in squares]).double()[:, None]
    design = torch.stack([torch.ones(len(sizes)), torch.tensor(sizes).log()], 1).double() * weight
    logs = torch.tensor([s.mean for s in squares]).double().log()[:, None] * weight
    slope, error = torch.linalg.lstsq(design, logs).solution[1, 0], torch.linalg.inv(design.T @ design)[1, 1].sqrt()
    return Estimate(slope.item() / 2, error.item() / 2, len(sizes)), squares


slope, squares = gaps()
off = [100 * s.mean**0.5 for s in squares]
predict(
    "A batch of 1,000 pairs: how far apart are the two gradients, in percent of their length?",
    off[2],
    low=0,
    high=50,
    step=1,
    unit=" %",
    because=f"Not equal. With 100 pairs it is {off[0]:.0f} %, with {sizes[4]:,} still {off[4]:.1f} %: a hundred times the pairs, about a tenth of the difference.",
)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
verify(
    "the difference shrinks with the root of the batch (slope in a log-log plot)",
    slope,
    -0.5,
    wrong={"the sign flipped": gaps(-1, part=4)[0]},
)
t, x, pair = draw(100_000)
share = lambda pair: (torch.sub(*gradients(t, x, pair))).norm() / length
verify("100,000 pairs: the relative difference", share(pair), at_most=0.05, wrong={"the sign flipped": share(-pair)})
probe = torch.randn(len(gradients(t[:2], x[:2], pair[:2])[0]), 8)
z = []
for seed in (2, 3, 4):
    torch.manual_seed(seed)
    net = VectorFieldMLP(2, hidden=32, t_dim=16)
    z.append(
        [[torch.sub(*gradients(t, x, s * p)) @ probe for t, x, p in (draw(400) for _ in range(40))] for s in (1, -1)]
    )
scores = lambda k: torch.cat([(d := torch.stack(a[k])).mean(0) / (d.std(0) / 40**0.5) for a in z]).square().mean()
verify("averaged over 40 batches the difference is chance, for three networks in 8 directions (mean square in standard errors; chance gives about 1)", scores(0), at_most=3.0, wrong={"the sign flipped": scores(1)})  # fmt: skip

# %% [markdown]
# They are **not** equal on a batch. They are equal *in expectation*, and a batch comes near as $B^{-1/2}$, like every average. With a wrong target the difference stays.
#
# Below, each point is the gradient on one batch, along the two directions in weight space in which it varies most. Once for the loss with the field, once for the loss with single pairs. Run the cell and drag the batch size, from $2^6$ pairs to $2^{12}$. **Both clouds shrink to the same place; the second is wider.** That is the price of not knowing $u_t$.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
torch.manual_seed(6)
net = VectorFieldMLP(2, hidden=32, t_dim=16)
start = torch.stack([gradients(*draw(64))[1] for _ in range(80)])
directions = torch.linalg.svd(start - start.mean(0), full_matrices=False).Vh[:2].T
plane = directions / ((start - start.mean(0)) @ directions).std(0)  # both axes in units of their spread at 64 pairs
sizes = [64, 128, 256, 512, 1024, 2048, 4096]
frames = {"FM: the field": [], "CFM: single pairs": []}
examples = [draw(sizes[-1]) for _ in range(60)]  # a smaller batch is the beginning of a larger one
for n in sizes:
    both = [gradients(*(values[:n] for values in e)) for e in examples]
    for name, chosen in zip(frames, zip(*both, strict=True), strict=True):
        frames[name].append(torch.stack(chosen) @ plane)
frames = {name: torch.stack(f) for name, f in frames.items()}
middle = frames["FM: the field"][-1].mean(0).tolist()
player = FlowPlayer(
    torch.log2(torch.tensor(sizes, dtype=torch.float64)),
    [Panel(f, title=name, color=c, dot=3) for (name, f), c in zip(frames.items(), ("exact", "model"), strict=True)],
    limits=(middle[0] - 3, middle[0] + 3, middle[1] - 2.5, middle[1] + 2.5),
    label="log₂ B",
    alt="Two clouds of gradients, for the field and for single pairs. As the batch grows both shrink to the same point; the second is wider.",
)
player.t = 8.0
player

# %% [markdown]
# ## A perfect fit memorises
#
# In practice the data are $N$ training points. Then the weighted average from above, taken over the $N$ points, is *exactly* the best answer to the training loss. What does it generate? Change the number of points.

# %%
FlowLab(
    three_gaussians(),
    MEMORY,
    layers=["trajectories", "particles"],
    controls=["t", "points"],
    tour=SETS,
    steps=50,
    particles=200,
)


# %%
training, noise = data.sample(64), torch.randn(500, 2).double()


def elsewhere(d, steps=200):
    """The share of samples of a field that lie farther than 0.05 from every training point."""
    x = euler_sampler(lambda t, x: d.velocity(path, t, x), noise, steps=steps)
    return (torch.cdist(x, training).min(1).values > 0.05).double().mean()


twin = {"the field of the distribution": elsewhere(data)}
verify(
    "the field of 64 points: share of samples elsewhere than on them",
    elsewhere(EmpiricalDistribution(training)),
    at_most=0.01,
    wrong=twin,
)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
batches = SampledBatches(lambda n: training[torch.randint(len(training), (n,))].float(), batch=256)
_, learned = train_flow_matching(VectorFieldMLP(2, 64), batches, path, total_steps=600, log_every=0)
x = heun_sampler(learned, noise.float(), steps=50).double()
new = (torch.cdist(x, training).min(1).values > 0.05).double().mean()
verify("a small network, trained on the same 64 points: share of samples elsewhere", new, at_least=0.3, wrong={"the exact field of the 64 points": elsewhere(EmpiricalDistribution(training))})  # fmt: skip

# %% [markdown]
# You will often read that $u_t$ is intractable. For finite data it is not: it takes two lines of code, and one pass over the data. But all it does is give the training points back. A trained network ends elsewhere because it does **not** reach this minimum: the last row trained a small one on the same 64 points. (Elsewhere is not yet good. Lesson 04 asks for that.)
#
# ## Traps
#
# - "The gradients are equal." In expectation. On a batch they differ by the noise of the pairs.
# - "CFM finds the optimal transport map" (the one that moves the noise with the least mean squared distance). It finds the mean velocity of the pairs, however noise and data are paired. For one $z$ the straight line is the optimal move. The average of optimal moves need not be optimal, as Lipman et al. say themselves (section 4.1).
# - "A lower loss is a better model." Only on the same data, path and times.
#
# ## Your turn
#
# Replace `return None` by your answer and run the cell. Any right answer is accepted; a wrong one is told what is wrong. (*Screen* is what a phone interview asks, *on-site* what comes at the whiteboard.)
#
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
#
# **2. The field of a data set (on-site, 12 minutes).** For the straight line and a finite set `data` [N, d], return $u_t(x) = \frac{\mathbb E[x_1 \mid x_t = x] - x}{1 - t}$ for a number `t` and places `x` [B, d].


# %%
def marginal_field(t, x, data):
    return None


check("marginal_field", marginal_field)

# %% [markdown]
# <details><summary>Hint</summary>
#
# Given $x_1$, $x_t$ is $\mathcal N(t\,x_1, (1-t)^2 I)$. The weights of the data points are a softmax.
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
#
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
# 1. write $u_t(x) = \mathbb E[\dot x_t \mid x_t = x]$, and compute it as an average with the weights $p_t(x\mid x_1)$;
# 2. prove the theorem: complete the square, stand still at $x_t$, the middle term vanishes, the rest has no $\theta$;
# 3. say that the gradients agree in the mean, and differ by order $B^{-1/2}$ on a batch;
# 4. say why the exact minimiser on finite data gives the data back.
#
# Next: [03 · the paths](03_paths.ipynb). Why a straight line, and what would another one change?
#
# ## References
#
# - Y. Lipman et al., *Flow Matching for Generative Modeling*, ICLR 2023, arXiv 2210.02747: Theorems 1 and 2, equations 5–9, section 4.1.
# - A. Tong et al., *Improving and Generalizing Flow-Based Generative Models*, TMLR 2024, arXiv 2302.00482: general conditioning variables $z$, Theorems 3.1 and 3.2.
# - P. Vincent, *A Connection Between Score Matching and Denoising Autoencoders*, 2011: the same argument for the score.
