# %% [markdown]
# # 03 · The paths
#
# **Noise can be mixed into data along a straight line, along a quarter circle, or by laying ever more of it over them. What does the choice change, and what not?**

# %% jupyter={"source_hidden": true} tags=["hide-input"]
import math

import torch

from fmlib import *
from fmlib.page import *
from fmlib.study import *

torch.set_num_threads(1)  # these tensors are tiny: a second thread costs more than it brings
torch.manual_seed(0)
plots.use_style()

FOUR = (
    "Four clouds side by side, one for each path, on their way from the same noise to the same three clumps. At the same "
    "t they have come to different shapes; at the same signal-to-noise ratio they look alike."
)
CROSSING = "Straight lines of random pairs cross in the plane; the trajectories of the flow bend."
SOLVED = "Exact trajectories in black, and beside them in green what a few Euler steps make of them."
TOUR = [
    {
        "caption": "Four paths from the same noise to the same data, each at t = 0.3 and drawn to its own scale. Press play: "
        "all four arrive, but not at the same pace. Which one is late?",
        "t": 0.3, "matched": False,
    },
    {
        "caption": "Now every path stands at the moment at which its mix of data and noise is that of the first one. Read "
        "the times above the clouds, and below them how far the particles are apart. (Next to the noise VE and VP linear have no such moment, next to the data VE has none.)",
        "t": 0.3, "matched": True,
    },
    {
        "caption": "Drag a clump of the first picture. All four follow, and the clouds go on looking alike.",
        "t": 0.6, "matched": True,
    },
]  # fmt: skip
STRAIGHT = [
    {
        "caption": "Pairs of noise and data, as they are drawn in training. Each line is straight. They cross.",
        "layers": ["pairs"], "t": 1.0, "steps": 32, "solver": "rk4",
    },
    {
        "caption": "The flow that these pairs make together. At any one time two particles are never at one place with two velocities: where lines of pairs meet, the flow takes their mean. Here that makes it bend.",
        "layers": ["density", "trajectories"], "t": 1.0, "steps": 32, "solver": "rk4",
    },
    {
        "caption": "The same flow in a single Euler step, in green. Every point takes its arrow at the start, and all end in "
        "one heap. Drag the steps up and see the clumps come apart.",
        "layers": ["trajectories"], "t": 1.0, "steps": 1, "solver": "euler",
    },
]  # fmt: skip
WINS = [
    {
        "caption": "Four Euler steps on rectified flow: read the error below. Then choose the path VP cosine.",
        "path": "rectified_flow", "mixture": three_gaussians(),
    },
    {
        "caption": "One narrow clump. Compare the two paths again: who wins now?",
        "path": "rectified_flow", "mixture": GaussianMixture(torch.tensor([[2.0, 1.0]]), torch.tensor([0.05])),
    },
    {
        "caption": "One clump that looks like the noise. And now? Change the clump, and the winner changes.",
        "path": "vp_cosine", "mixture": GaussianMixture(torch.zeros(1, 2), torch.tensor([1.0])),
    },
]  # fmt: skip

# %%
ROW = ["rectified_flow", "vp_cosine", "vp_linear", "ve"]
lab = FlowLab(three_gaussians(), FOUR, row=ROW, layers=["particles"], controls=["t", "match", "mixture"], tour=TOUR)
lab

# %% [markdown]
# *Nothing has to run first. You need lessons [00](00_quick_reference.ipynb) to [02](02_cfm_theorem.ipynb).* *Time:* 20 minutes to read, about 15 seconds to run; 15 more for 2 exercises and 5 cards.
#
# **You will be able to** write four paths with their ends, say what "straight" means and for what, show that two paths are one flow at two speeds, and start a variance-exploding flow at the right scale.
#
# First a look back.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
predict(
    "From lesson 02: you compute the gradient against the field, and the gradient against single pairs, on one batch. They are …",
    "equal on average, different on the batch",
    choices=["equal on every batch", "equal on average, different on the batch", "different, even on average"],
    because="The middle term of the square vanishes only on average over the pairs at one place. On a batch the difference falls like one over the root of its size.",
)

# %% [markdown]
# ## The two functions
#
# Think of a photograph that you slowly bury in snow on a screen. At every moment you choose two volumes: how much picture, how much snow. A path is nothing else:
#
# $$ x_t = \alpha_t\,x_1 + \sigma_t\,x_0. $$
#
# | path | $\alpha_t$ (data) | $\sigma_t$ (noise) | velocity of a pair |
# |---|---|---|---|
# | rectified flow | $t$ | $1-t$ | $x_1 - x_0$ |
# | VP-cosine (a quarter circle: $\alpha_t^2 + \sigma_t^2 = 1$) | $\sin\frac{\pi t}{2}$ | $\cos\frac{\pi t}{2}$ | $\frac{\pi}{2}\bigl(\cos\frac{\pi t}{2}\,x_1 - \sin\frac{\pi t}{2}\,x_0\bigr)$ |
# | VP-linear, $\tau = 1-t$ | $e^{-T/2}$, $T = 0.1\tau + 9.95\tau^2$ | $\sqrt{1 - e^{-T}}$ | $\frac{\beta}{2}\bigl(\alpha\,x_1 - \frac{\alpha^2}{\sigma}\,x_0\bigr)$, $\beta = 0.1 + 19.9\tau$ |
# | VE | $1$ | $50^{1-t}\cdot 0.01^{\,t}$ | $-\ln\frac{50}{0.01}\;\sigma_t\,x_0$ |
#
# VP is short for *variance preserving*, VE for *variance exploding*. The first is the straight line. The second is the cosine schedule of Nichol and Dhariwal (without their small offset, see "Further"). The third is the diffusion of DDPM, the classic of 2020, in continuous time and with its clock reversed; $T$ is the noise rate $\beta$, integrated from the data ($\tau = 0$) to $\tau$; as $\tau = 1 - t$, its derivative in $t$ is $-\beta$. The fourth leaves the data alone; its noise starts at 50 and shrinks to 0.01.
#
# Look at the ends. Only the first two run from pure noise to pure data.

# %%
rf, cosine, linear, ve = rectified_flow_path(), vp_cosine_path(), vp_linear_path(), ve_path()
data = three_gaussians()


def field(path, data=data):
    return lambda t, x: data.velocity(path, t, x)


# %% jupyter={"source_hidden": true} tags=["hide-input"]
paths = {"rectified flow": rf, "VP-cosine": cosine, "VP-linear": linear, "VE": ve}
role = {"rectified flow": "exact", "VP-cosine": "other", "VP-linear": "third", "VE": "path"}
t = torch.linspace(0, 1, 401, dtype=torch.float64)
fig, axes = panels(3, 2.3)
curves = (lambda p: p.alpha(t), lambda p: p.sigma(t).clamp_min(1e-6), lambda p: 2 * (p.alpha(t) / p.sigma(t)).log())
spots = {"rectified flow": (0.5, 0.38), "VP-cosine": (0.22, 0.62), "VP-linear": (0.52, 0.1), "VE": (0.1, 0.93)}
for name, p in paths.items():
    for ax, curve in zip(axes, curves, strict=True):
        ax.plot(t[1:-1], curve(p)[1:-1], color=COLORS[role[name]])
    axes[0].text(*spots[name], name, color=COLORS[role[name]], fontsize=9)
for ax, title in zip(axes, (r"data, $\alpha_t$", r"noise, $\sigma_t$", r"$\log(\alpha_t^2/\sigma_t^2)$"), strict=True):
    ax.set(title=title, xlabel="t", xlim=(0, 1))
axes[1].set(yscale="log", ylim=(5e-3, 80))
axes[2].set_ylim(-12, 12)
show(
    fig,
    "Alpha, sigma and the log signal-to-noise ratio over t for the four paths. VE keeps alpha at 1 and lets sigma fall from 50 to 0.01; VP-linear stays noisy longest.",
)
start = lambda p: p.alpha(torch.zeros((), dtype=torch.float64))
end = lambda p: p.sigma(torch.ones((), dtype=torch.float64))
left = torch.stack([start(rf), start(cosine), end(rf), end(cosine)])
verify("rectified flow and VP-cosine: what is left of the data at t = 0, and of the noise at t = 1", left, 0.0, limit=1e-12, wrong={"VP-linear at t = 0": start(linear), "VE at t = 0": start(ve), "VE at t = 1": end(ve)})  # fmt: skip

# %% [markdown]
# VP-linear begins with a trace of the data. VE begins with *all* of the data, under noise of size 50, and ends with a blur of 0.01.
#
# The third picture matters most. $\alpha_t^2/\sigma_t^2$ is the **signal-to-noise ratio**, SNR: how well you can still see the data. It is what the button of the first lab matches.
#
# ## "Straight" is said of a pair
#
# The velocity $x_1 - x_0$ of rectified flow does not depend on $t$. So the line of **one pair** is straight. The flow follows the *mean* of many pairs, and this mean changes along the journey, because other pairs take over.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
s = rk4_sampler(field(rf), torch.randn(2000, 2).double(), steps=60, return_trajectory=True)
longer = 100 * (s.diff(dim=0).norm(dim=2).sum(0) / (s[-1] - s[0]).norm(dim=1) - 1)
predict(
    "Follow the flow of rectified flow from a noise point to its end. By how much is the trajectory longer than the straight line between its ends? Say it for the typical (median) one, in percent.",
    longer.median().item(),
    low=0,
    high=100,
    step=1,
    unit=" %",
    because=f"One in ten is more than {longer.quantile(0.9) / 100 + 1:.1f} times as long as its line: first everybody heads for the middle of the data, and changes direction when it becomes clear which clump is meant.",
)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
FlowLab(
    three_gaussians(),
    CROSSING,
    layers=["pairs"],
    controls=["steps", "mixture"],
    tour=STRAIGHT,
    t=1.0,
    steps=32,
    solver="rk4",
)

# %%
noise = torch.randn(500, 2).double()
mean = data.weights @ data.means
one, two = (euler_sampler(field(rf), noise, steps=n) for n in (1, 2))
verify("one Euler step ends at the mean of the data", one - mean, 0.0, limit=1e-10, wrong={"two steps": two - mean})

# %% [markdown]
# At $t = 0$ a noise point says nothing about its partner. So $u_0(x) = \mathbb E[x_1] - x$, and every point aims at the mean of the data. One step takes it there, exactly. This is the collapse that reflow repairs (lesson 07).
#
# ## Two paths, one noise point
#
# Take one noise point. Follow the flow of the straight line to the end, then follow the flow of the quarter circle.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
predict(
    "How far apart do the two flows end, if both are solved exactly?",
    "not at all: they end at the same point",
    choices=[
        "about 1: they end in other clumps",
        "about 0.1: in the same clump, at another place",
        "not at all: they end at the same point",
    ],
    because="Look at the first lab once more, with the signal-to-noise ratios matched. Drawn to the same scale, the two clouds are one at every moment, particle by particle.",
)

# %%
few = noise[:200]
ends = {p: rk4_sampler(field(p), few, steps=300) for p in (rf, cosine, linear)}
verify(
    "rectified flow and VP-cosine carry each noise point to the same place",
    ends[cosine] - ends[rf],
    0.0,
    limit=1e-5,
    wrong={"VP-linear, which starts with a trace of the data": ends[linear] - ends[rf]},
)

# %% [markdown]
# Here is why. Divide by $\alpha_t$:
#
# $$ \frac{x_t}{\alpha_t} = x_1 + \frac{\sigma_t}{\alpha_t}\,x_0. $$
#
# Call it $y$. The right side knows the path only through the SNR. So let path $b$ stand at the time $t'$ at which its SNR is that of path $a$ at $t$. Then $y$ is the same on both, pair by pair: each pair draws the same curve, at another pace. So at each $y$ the same pairs meet, and their mean velocity differs only by the pace. Hence the trajectories agree too. **Two paths are one flow, run at two speeds and drawn at two scales.** For the straight line and the quarter circle the SNRs match at
#
# $$ \tan\frac{\pi t'}{2} = \frac{t}{1-t}. $$
#
# Both start from pure noise and end in pure data, so both ends agree, and with them the whole map from noise to data. (At $t = 0$, where $\alpha_t$ is zero, divide by $\sigma_t$ instead.) The path changes the *speed*. So it changes what a solver with few steps makes of it.

# %%
t = torch.tensor(0.3).double()
matched = 2 / math.pi * torch.atan(t / (1 - t))
along = lambda path, t: rk4_sampler(field(path), few, steps=200, t_end=t.item()) / path.alpha(t)
verify(
    "at t = 0.3 and at its matched time x / alpha is the same",
    along(cosine, matched) - along(rf, t),
    0.0,
    limit=1e-5,
    wrong={"VP-cosine at t = 0.3 too": along(cosine, t) - along(rf, t)},
)

# %% [markdown]
# ## Which path needs fewer steps?
#
# You will often read: rectified flow is straight, so it needs fewer steps. Try it. The number below the picture is the error of the solver.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
FlowLab(
    three_gaussians(),
    SOLVED,
    layers=["trajectories", "ticks"],
    controls=["steps", "path", "mixture"],
    tour=WINS,
    t=1.0,
    steps=4,
)

# %%
narrow = GaussianMixture(torch.tensor([[2.0, 1.0]]).double(), torch.tensor(0.05))
like_noise = GaussianMixture(torch.zeros(1, 2).double(), torch.tensor(1.0))
exact = {d: rk4_sampler(field(rf, d), noise, steps=150) for d in (data, narrow, like_noise)}


def euler_error(path, data, steps):
    """Root mean square distance of Euler's ends from the exact ones."""
    return (euler_sampler(field(path, data), noise, steps=steps) - exact[data]).square().sum(1).mean().sqrt()


# %% jupyter={"source_hidden": true} tags=["hide-input"]
error = {(p, d): torch.stack([euler_error(p, d, n) for n in (1, 2, 4, 8, 16)]) for p in (rf, cosine) for d in exact}
ratio = lambda a, b, d: error[a, d] / error[b, d]
verify("three clumps, 1 to 16 steps: rectified flow's error divided by VP-cosine's", ratio(rf, cosine, data), at_least=1.05, wrong={"on the narrow clump": ratio(rf, cosine, narrow)})  # fmt: skip
mean_ratio = lambda *which: ratio(*which).log().mean().exp()
verify("a narrow clump, 1 to 16 steps: VP-cosine's error divided by rectified flow's, geometric mean", mean_ratio(cosine, rf, narrow), at_least=2.0, wrong={"on the three clumps": mean_ratio(cosine, rf, data)})  # fmt: skip
verify("a clump like the noise: the error of one step of VP-cosine", error[cosine, like_noise][0], at_most=1e-9, wrong={"of rectified flow": error[rf, like_noise][0]})  # fmt: skip

# %% [markdown]
# **It depends on the data.** A narrow clump is what the straight line is made for: one step goes to its centre, and is off by the width of the clump only. Data that look like the noise are what the circle is made for: as $\alpha_t^2 + \sigma_t^2 = 1$, a cloud of variance 1 keeps it at every $t$, so nothing has to move. On the three clumps the circle wins at every count here, with equal steps in $t$ (though with one step both are useless). With another solver the order can change again (lesson 05).
#
# ## VE: mind the scale
#
# At $t = 0$ the VE path stands at data plus $50\,x_0$. Beside 50 the data hardly matter, so start the sampler at $50\,x_0$. Two mistakes are easy. One is to start at $x_0$. The other is to scale the noise in training as well: leave $x_0$ at size 1 there, because $\sigma_t$ already makes it 50 times larger.

# %%
start, real = torch.randn(1500, 2).double(), data.sample(1500)
from_scale = lambda s: energy_distance(rk4_sampler(field(ve), s * start, steps=150), real)
verify(
    "VE started at 50 x_0 ends in the data (energy distance)",
    from_scale(50.0),
    0.0,
    limit=0.03,
    wrong={"started at x_0": from_scale(1.0), "at 50² x_0": from_scale(2500.0)},
)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
t, x1 = stratified_t(50_000).double(), data.sample(50_000)
size = lambda p: p.target_ut(t, torch.randn_like(x1), x1).square().sum(1).mean().sqrt()
verify("VE's targets are large (root mean square, divided by rectified flow's)", size(ve) / size(rf), at_least=20.0, wrong={"VP-cosine's": size(cosine) / size(rf)})  # fmt: skip

# %% [markdown]
# They shrink with $\sigma_t$, from 50 to 0.01, over almost four orders of magnitude. A plain network can hardly fit that (not tried here). EDM, a widely used recipe for diffusion models, therefore scales what goes in, what comes out and the weight of the loss (Karras et al. 2022, section 5).
#
# ## Traps
#
# - **"Rectified flow is OT-CFM."** The same line, another pairing. Rectified flow pairs noise and data at random; OT-CFM (Tong et al.) pairs them within a batch, so that the lines are short.
# - **"The path is straight, so few steps are enough."** Straight for one pair. You saw both outcomes.
# - **"VE is EDM."** EDM takes $\sigma(t) = t$ and another time grid. Here $\log\sigma$ falls linearly, as in SMLD, the first score model with many noise levels.
#
# ## Your turn
#
# Replace `return None` by your answer and run the cell. Any right answer is accepted; a wrong one is told what is wrong. (*Screen* is what a phone interview asks, *on-site* what comes at the whiteboard.)
#
# **1. Write a path (screen, 5 minutes).** Return $x_t$ and the velocity of the pair on the VP-cosine path, both [B, d], for `t` [B], `x0` and `x1` [B, d].


# %%
def cosine_path(t, x0, x1):
    return None


check("cosine_path", cosine_path)

# %% [markdown]
# <details><summary>Hint</summary>
#
# At $t = 0$ it must be noise. Mind the chain rule.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def cosine_path(t, x0, x1):
#     angle = torch.pi / 2 * t[:, None]
#     xt = angle.sin() * x1 + angle.cos() * x0
#     ut = torch.pi / 2 * (angle.cos() * x1 - angle.sin() * x0)
#     return xt, ut
# ```
#
# </details>
#
# **2. Sample the cloud (on-site, 5 minutes).** The data are $\mathcal N(\text{mean}, \text{std}^2 I)$. Given standard normal numbers `z` [B, d], return samples of $p_t$ at the number `t`. Use `path.alpha(t)` and `path.sigma(t)`, which take a tensor.


# %%
def marginal_sample(path, t, mean, std, z):
    return None


check("marginal_sample", marginal_sample)

# %% [markdown]
# <details><summary>Hint</summary>
#
# Which adds up for independent parts: standard deviations or variances?
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def marginal_sample(path, t, mean, std, z):
#     t = torch.tensor(t, dtype=z.dtype)
#     alpha, sigma = path.alpha(t), path.sigma(t)
#     return alpha * mean + (alpha**2 * std**2 + sigma**2).sqrt() * z
# ```
#
# </details>
#
# ## Interview walkthrough
#
# Say your answer aloud before you open a card. Each has the 30-second answer, the usual mistake, and the section that proves it.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
interview_cards("four-paths", "what-is-straight", "same-map", "rf-stable", "ve-start")

# %% [markdown]
# ## You can now …
#
# 1. write $\alpha_t$, $\sigma_t$ and the velocity of a pair for four paths, and name what is left at their ends;
# 2. answer "is rectified flow straight?": each pair is, the flow is not, and one Euler step gives the mean;
# 3. show that paths with matched SNR are one flow at two speeds, and that the exact map is the same if both run from pure noise to pure data;
# 4. start VE at $\sigma_{\max}\mathcal N(0, I)$.
#
# Next: [04 · training a flow](04_training.ipynb). A complete script, and what its loss does not tell you.
#
# ## Further: the variance over time
#
# <details><summary>What "variance preserving" preserves</summary>
#
# With independent noise and data, $\operatorname{Var} x_t = \alpha_t^2 \operatorname{Var} x_1 + \sigma_t^2$: variances add up, standard deviations do not. "Variance preserving" means that it stays 1 *if* the data have variance 1. Rectified flow dips in the middle, to one half. The cell compares with 200,000 pairs.
#
# </details>

# %% jupyter={"source_hidden": true} tags=["hide-input"]
x1 = data.sample(200_000)
x1 = (x1 - x1.mean(0)) / x1.std(0)  # data with variance 1 in each coordinate
half = lambda p: estimate(p.sample_xt(0.5, torch.randn_like(x1), x1).square().mean(1))
verify(
    "rectified flow at t = 1/2: half of the variance is left",
    half(rf),
    0.5,
    wrong={"standard deviations added": (x1.std() / 2 + torch.randn_like(x1).std() / 2) ** 2},
)
verify("VP-cosine at t = 1/2: all of it", half(cosine), 1.0, wrong={"rectified flow": half(rf)})

# %% [markdown]
# ## Further: other people's clocks
#
# <details><summary>DDPM, SD3 and FLUX in our letters, and the offset of the cosine schedule</summary>
#
# | source | its time | its sample | its target | in our terms |
# |---|---|---|---|---|
# | DDPM (Ho et al. 2020, equation 4) | steps of noising, data at 0 | $\sqrt{\bar\alpha}\,x_0 + \sqrt{1-\bar\alpha}\,\epsilon$ | $\epsilon$ | $\alpha_t = \sqrt{\bar\alpha}$, their $x_0$ is our $x_1$ |
# | SD3 (Esser et al. 2024, section 3) | data at 0, noise at 1 | $(1-t)\,x_0 + t\,\epsilon$ | $\epsilon - x_0$ | $t \to 1-t$, sign flipped |
# | FLUX (official code) | sampled from 1 to 0 | as SD3 | as SD3 | as SD3 |
#
# The cosine schedule of Nichol and Dhariwal has an offset $s = 0.008$. With it $\sigma$ starts like $0.2\sqrt\tau$ next to the data, without it like $1.57\,\tau$. Elsewhere the two differ by about a hundredth at most.
#
# </details>

# %% jupyter={"source_hidden": true} tags=["hide-input"]
tau, s = torch.linspace(0, 1, 2001, dtype=torch.float64), 0.008
f = lambda tau: torch.cos((tau + s) / (1 + s) * math.pi / 2) ** 2
with_offset, without = (1 - f(tau) / f(torch.zeros(1).double())).clamp_min(0).sqrt(), cosine.sigma(1 - tau)
verify("the offset changes sigma by at most (largest difference)", with_offset - without, at_most=0.02, wrong={"VP-linear instead": linear.sigma(1 - tau) - without})  # fmt: skip
verify("with it sigma starts like 0.2 root(tau)", with_offset[4] / tau[4].sqrt(), 0.2, limit=0.02, wrong={"without it": without[4] / tau[4].sqrt()})  # fmt: skip
verify("without it sigma starts like 1.57 tau", without[4] / tau[4], math.pi / 2, limit=0.01, wrong={"with it": with_offset[4] / tau[4]})  # fmt: skip

# %% [markdown]
# ## References
#
# - X. Liu, C. Gong, Q. Liu, *Flow Straight and Fast*, ICLR 2023, arXiv 2209.03003: equation 1.
# - Y. Lipman et al., 2023, arXiv 2210.02747: section 4.1, equation 16 (VE), equation 18 (VP).
# - A. Tong et al., TMLR 2024, arXiv 2302.00482: I-CFM and OT-CFM.
# - J. Ho et al., *DDPM*, 2020, arXiv 2006.11239; A. Nichol, P. Dhariwal, *Improved DDPM*, 2021, arXiv 2102.09672, equation 17.
# - Y. Song et al., 2021, arXiv 2011.13456: VP and VE SDEs. T. Karras et al., *EDM*, 2022, arXiv 2206.00364.
# - P. Esser et al., 2024, arXiv 2403.03206: section 2.
