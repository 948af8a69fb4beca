# %% [markdown]
# # 03 · The paths
#
# Rectified flow, two variance-preserving paths and a variance-exploding one: four pairs of functions $(\alpha_t, \sigma_t)$. What does the choice change, and what not?
#
# **You will be able to**
#
# 1. write the four paths with their targets, ends and signal-to-noise ratios;
# 2. say what "straight" means, and for what;
# 3. show that the path changes how the flow is *discretised*, and that rectified flow and the cosine path give the *same* map from noise to data;
# 4. start and scale a variance-exploding flow correctly, and turn one path into another.
#
# *Before:* lessons 00–02. *Time:* 25 minutes to read, about 35 seconds to run; 15 more for 2 exercises and 5 cards. Begin with *Run ▸ Run All Cells*: until its cell has run, a player is a still picture.

# %%
import math

import torch

from fmlib import *
from fmlib.page import *
from fmlib.study import *

torch.set_num_threads(1)  # these tensors are tiny: a second thread costs more than it brings
torch.manual_seed(0)
plots.use_style()

rf, cosine, linear, ve = rectified_flow_path(), vp_cosine_path(), vp_linear_path(), ve_path()
paths = {"rectified flow": rf, "VP-cosine": cosine, "VP-linear": linear, "VE": ve}
role = {"rectified flow": "exact", "VP-cosine": "other", "VP-linear": "third", "VE": "path"}
mixture = three_gaussians()


def field(path, mixture=mixture):
    """The exact marginal velocity u_t(x) on this path."""
    return lambda t, x: mixture.velocity(path, t, x)


# %% [markdown]
# ## Four ways through the same noise and data
#
# Every path here is $x_t = \alpha_t x_1 + \sigma_t x_0$. Play the four side by side, from the same noise. So that all fit into one window, positions are divided by $\sqrt{\alpha_t^2 + \sigma_t^2}$.

# %%
LIMITS = (-3.4, 3.4, -3.2, 3.4)
noise = torch.randn(500, 2, dtype=torch.float64)
ts = torch.linspace(0, 1, 41, dtype=torch.float64)
# 400 steps, because VE moves fast near the noise and VP-linear near the data; every 10th state is kept.
frames = {}
for name, p in paths.items():
    states = rk4_sampler(field(p), p.prior_std * noise, steps=400, return_trajectory=True)[::10]
    frames[name] = states / (p.alpha(ts) ** 2 + p.sigma(ts) ** 2).sqrt()[:, None, None]
player = FlowPlayer(
    ts,
    [Panel(f, title=name, trails=8) for name, f in frames.items()],
    limits=LIMITS,
    t=0.5,
    alt="Four panels, one for each path. The same noise becomes the same three clumps, latest on VP-linear.",
)
player

# %% [markdown]
# They end at (nearly) the same places. They differ in *when* the clumps appear. That is the theme of this lesson.
#
# ## The two functions
#
# | path | $\alpha_t$ (data) | $\sigma_t$ (noise) | target $u_t(x_t \mid x_0, x_1) = \alpha_t' x_1 + \sigma_t' x_0$ |
# |---|---|---|---|
# | rectified flow | $t$ | $1-t$ | $x_1 - x_0$ |
# | VP-cosine | $\sin\frac{\pi t}{2}$ | $\cos\frac{\pi t}{2}$ | $\frac{\pi}{2}\bigl(\cos\frac{\pi t}{2}\,x_1 - \sin\frac{\pi t}{2}\,x_0\bigr)$ |
# | VP-linear, $\tau = 1-t$ | $e^{-T/2}$, $T = 0.1\tau + 9.95\tau^2$ | $\sqrt{1 - e^{-T}}$ | $\frac{\beta}{2}\bigl(\alpha\,x_1 - \frac{\alpha^2}{\sigma}\,x_0\bigr)$, $\beta = 0.1 + 19.9\tau$ |
# | VE | $1$ | $\sigma_{\max}^{1-t}\,\sigma_{\min}^{t}$ | $-\ln\frac{\sigma_{\max}}{\sigma_{\min}}\;\sigma_t\,x_0$ |
#
# VP: variance preserving; VE: variance exploding. $T(\tau)$ is the integral of $\beta$ from 0 to $\tau$. Here $\sigma_{\max} = 50$ and $\sigma_{\min} = 0.01$. The fourth panel below is the size of the target for $x_0$ and $x_1$ of size 1.
#
# The interview sheet speaks of "DDPM's cosine schedule". DDPM (Ho et al. 2020, the classic diffusion model) uses the linear one. The cosine schedule is from Nichol & Dhariwal (2021), there with an offset $s = 0.008$, which we leave out.

# %%
t = torch.linspace(0, 1, 401, dtype=torch.float64)
fig, axes = panels(4, 2.5)
for name, p in paths.items():
    color = COLORS[role[name]]
    axes[0].plot(t, p.alpha(t), color=color)
    axes[1].semilogy(t, p.sigma(t).clamp_min(1e-6), color=color)
    axes[2].plot(t[1:-1], (2 * (p.alpha(t) / p.sigma(t)).log())[1:-1], color=color, label=name)
    axes[3].semilogy(t[1:-1], (p.d_alpha(t) ** 2 + p.d_sigma(t) ** 2).sqrt()[1:-1], color=color)
for ax, title in zip(axes, (r"$\alpha_t$", r"$\sigma_t$", "log SNR", r"$\sqrt{\alpha'^2 + \sigma'^2}$"), strict=True):
    ax.set(title=title, xlabel="t")
axes[1].set_ylim(5e-3, 80)
axes[2].set_ylim(-12, 12)
fig.legend(loc="outside lower center", ncols=4)
show(
    fig,
    "Alpha, sigma, log signal-to-noise ratio and speed over t for the four paths. VE keeps alpha at 1 and lets sigma fall from 50 to 0.01; VP-linear stays noisy longest.",
)

print(f"{'path':16}{'alpha(0)':>10}{'sigma(0)':>10}{'alpha(1)':>10}{'sigma(1)':>10}")
for name, p in paths.items():
    ends = [f(torch.tensor(v, dtype=torch.float64)).item() for v in (0.0, 1.0) for f in (p.alpha, p.sigma)]
    print(f"{name:16}" + "".join(f"{v:10.5f}" for v in ends))

# %% [markdown]
# Read the ends. VP-linear keeps a trace of the data at $t = 0$; VE keeps *all* of it, under noise of size 50, and a blur of 0.01 at $t = 1$. Only rectified flow and VP-cosine are exact at both ends.
#
# The log signal-to-noise ratio $\log(\alpha^2/\sigma^2)$ is what distinguishes the paths. **Two paths with the same SNR differ only by a scale** – more on that below.
#
# ## The variance along the way
#
# With independent noise and data, $\operatorname{Var} x_t = \alpha_t^2 \operatorname{Var} x_1 + \sigma_t^2$. "Variance preserving" means: constant *if* the data have variance 1. Rectified flow dips in the middle.

# %%
x1 = mixture.sample(200_000)
x1 = (x1 - x1.mean(0)) / x1.std(0)  # data with variance 1 in each coordinate
x0 = torch.randn_like(x1)
print(f"{'t':>5}" + "".join(f"{name + ' measured / formula':>36}" for name in ("rectified flow", "VP-cosine")))
for value in (0.25, 0.5, 0.75):
    cells = []
    for p in (rf, cosine):
        s = torch.tensor(value, dtype=torch.float64)
        measured = p.sample_xt(value, x0, x1).var(0).mean().item()
        formula = (p.alpha(s) ** 2 + p.sigma(s) ** 2).item()
        standard_error = formula * math.sqrt(1 / 200_000)  # of a variance, averaged over two coordinates
        assert abs(measured - formula) < 5 * standard_error
        cells.append(f"{measured:.3f} ± {standard_error:.3f} / {formula:.3f}")
    print(f"{value:5}" + "".join(f"{c:>36}" for c in cells))
measured = rf.sample_xt(0.5, x0, x1).var(0).mean().item()
print(f"wrong twin, standard deviations added: (1/2 + 1/2)^2 = 1 at t = 0.5, measured {measured:.3f}")
assert abs(measured - 1) > 0.4

# %% [markdown]
# ## "Straight" is said of a pair
#
# The target $x_1 - x_0$ of rectified flow does not depend on $t$: the line of **one pair** is straight. The flow that is learned follows the *mean* of many lines. Where lines cross, this mean usually changes along the way, and the flow bends.
#
# > **Predict, then run (1).** The ways of the flow: straight, a little bent, or strongly bent? And what happens if you take the whole way in **one** Euler step?

# %%
fig, axes = panels(3, 2.6)
pairs = 60
data = mixture.sample(pairs)
ways = rk4_sampler(field(rf), noise, steps=100, return_trajectory=True)
for k in range(pairs):
    axes[0].plot(*torch.stack([noise[k], data[k]]).T, color=COLORS["path"], linewidth=0.6)
    axes[1].plot(*ways[:, k].T, color=COLORS["path"], linewidth=0.6)
one_step = euler_sampler(field(rf), noise, steps=1)
cloud(axes[0], noise[:pairs], "noise", 6, 1), cloud(axes[0], data, "data", 6, 1)
cloud(axes[1], noise[:pairs], "noise", 6, 1), cloud(axes[1], ways[-1, :pairs], "data", 6, 1)
cloud(axes[2], noise[:pairs], "noise", 6, 1), cloud(axes[2], one_step[:pairs], "wrong", 30, 1)
for ax, title in zip(axes, ("the lines of pairs", "the marginal flow", "one Euler step"), strict=True):
    ax.set_title(title)
    plots.bare(ax, LIMITS)
show(
    fig,
    "Left: straight lines of random pairs cross. Middle: the ways of the marginal flow do not cross, they bend. Right: one Euler step sends every noise point to one single place.",
)

bend = ways.diff(dim=0).norm(dim=2).sum(0) / (ways[-1] - ways[0]).norm(dim=1)
print(
    f"length of the way / distance of its ends: median {bend.median():.3f}, 95th percentile {bend.quantile(0.95):.2f}"
)
mean = (mixture.weights[:, None] * mixture.means).sum(0)
print(
    f"one Euler step: standard deviation of the end points {one_step.std(0).max():.0e}, distance to the data's mean {(one_step - mean).norm(dim=1).max():.0e}"
)
assert bend.quantile(0.95) > 1.05
assert one_step.std(0).max() < 1e-12 and (one_step - mean).norm(dim=1).max() < 1e-12
assert euler_sampler(field(rf), noise, steps=2).std(0).max() > 0.1  # two steps already spread

# %% [markdown]
# The ways bend strongly, as the ratios above show. At $t = 0$ the noise says nothing about the data, so $u_0(x) = \mathbb E[x_1] - x$: every point aims at the **mean of the data**, and one step lands there exactly. This is the collapse that reflow repairs (lesson 07).
#
# ## The same map
#
# > **Predict, then run (2).** Take one noise point. Follow the rectified flow to the end, then follow the VP-cosine flow. How far apart are the two end points: about 1, about 0.1, or $10^{-8}$?

# %%
few = noise[:200]
end = {name: rk4_sampler(field(p), few, steps=800) for name, p in (("rectified flow", rf), ("VP-cosine", cosine))}
gap = (end["rectified flow"] - end["VP-cosine"]).norm(dim=1)
moved = (end["rectified flow"] - few).norm(dim=1).median()
print(f"largest distance between the end points: {gap.max():.0e}  (the points travelled {moved:.1f})")
other = (end["rectified flow"] - rk4_sampler(field(linear), few, steps=800)).norm(dim=1)
print(
    f"VP-linear, which keeps a trace of the data at t = 0: median distance {other.median():.0e}, largest {other.max():.0e}"
)
assert gap.max() < 1e-5 and other.median() > 1e-4

# %% [markdown]
# The reason: $x_t/\alpha_t = x_1 + (\sigma_t/\alpha_t)\,x_0$ depends on $t$ only through the signal-to-noise ratio, SNR $= \alpha_t^2/\sigma_t^2$. So does its mean velocity, up to the speed of the clock. Let $t'$ be the time at which path $b$ has the SNR that path $a$ has at $t$. Then $x^a_t / \alpha^a_t$ and $x^b_{t'} / \alpha^b_{t'}$ are the same random variable of the same pair $(x_0, x_1)$, and the flows are the same flow, run at another speed and drawn at another scale. For rectified flow and the cosine path the SNRs match at
#
# $$ \tan\frac{\pi t'}{2} = \frac{t}{1-t}. $$
#
# At $t = 0$, where $\alpha_t = 0$, divide by $\sigma_t$ instead: $x_t/\sigma_t = x_0 + (\alpha_t/\sigma_t)\,x_1$ also depends only on the SNR, and starts at $x_0$ on both paths. So both flows start at the same point. At the end $\alpha_1 = 1$, so they also end at the same point. **For paths from pure noise to pure data the exact map from $x_0$ to the end does not depend on the path.** The path changes the speed and the scale on the way, hence the discretisation, and what is easy to learn. The check, half-way:


# %%
def matched_time(t, a=rf, b=cosine):
    """The time on path b with the SNR of path a at time t, by bisection."""
    goal = a.alpha(t) / a.sigma(t)
    low, high = torch.zeros_like(t), torch.ones_like(t)
    for _ in range(60):
        middle = (low + high) / 2
        too_low = b.alpha(middle) / b.sigma(middle) < goal
        low, high = torch.where(too_low, middle, low), torch.where(too_low, high, middle)
    return (low + high) / 2


print(
    f"{'t on rectified flow':>20}{'t on VP-cosine':>16}{'formula':>10}{'largest distance':>18}{'same t, no matching':>21}"
)
for value in (0.3, 0.5, 0.8):
    t = torch.tensor(value, dtype=torch.float64)
    t_other = matched_time(t)
    formula = 2 / math.pi * math.atan(value / (1 - value))
    here = rk4_sampler(field(rf), few, steps=300, t_end=value) / rf.alpha(t)
    there = rk4_sampler(field(cosine), few, steps=300, t_end=t_other.item()) / cosine.alpha(t_other)
    unmatched = rk4_sampler(field(cosine), few, steps=300, t_end=value) / cosine.alpha(t)
    distance, other = (here - there).norm(dim=1).max(), (here - unmatched).norm(dim=1).median()
    print(f"{value:20}{t_other:16.4f}{formula:10.4f}{distance:18.0e}{other:21.2f}")
    assert abs(t_other - formula) < 1e-9 and distance < 1e-6
    assert other > 0.02 or value == 0.5  # at t = 1/2 the two clocks agree

# %% [markdown]
# ## Which path needs fewer steps?
#
# Now with a *coarse* solver. We compare the end points with the exact ones, particle by particle, for the same number of Euler steps. "Rectified flow is straight, so it needs fewer steps" – the interview sheet's claim. Three data sets:

# %%
data_sets = {
    "three Gaussians": mixture,
    "one narrow Gaussian": GaussianMixture(torch.tensor([[2.0, 1.0]], dtype=torch.float64), torch.tensor([0.05])),
    "one Gaussian like the noise": GaussianMixture(torch.zeros(1, 2, dtype=torch.float64), torch.tensor([1.0])),
}
steps = [1, 2, 4, 8, 16, 32]
rms = {}
for data_name, data in data_sets.items():
    exact = rk4_sampler(field(rf, data), noise, steps=300)
    print(f"{data_name}: root mean square error of Euler with {', '.join(map(str, steps))} steps")
    for name, p in (("rectified flow", rf), ("VP-cosine", cosine)):
        runs = [euler_sampler(field(p, data), noise, steps=n) for n in steps]
        rms[data_name, name] = [(x - exact).square().sum(1).mean().sqrt().item() for x in runs]
        print(f"   {name:16}" + "".join(f"{e:9.3f}" for e in rms[data_name, name]))
better = lambda data, a, b: all(x < y for x, y in zip(rms[data, a], rms[data, b], strict=True))
assert better("three Gaussians", "VP-cosine", "rectified flow")
assert better("one narrow Gaussian", "rectified flow", "VP-cosine")
assert better("one Gaussian like the noise", "VP-cosine", "rectified flow")

# %% [markdown]
# It depends on the data. For a narrow clump one step of rectified flow again lands on the mean, and is off by the clump's own size only ($0.05\sqrt2 = 0.07$), while one step of the cosine path lands on $x_0 + \frac{\pi}{2}\,\mathbb E[x_1]$: it overshoots the mean and keeps all of the noise. For data that look like the noise the cosine field vanishes and *its* one step is exact. On the three Gaussians the cosine path wins at every step count here. No path is "the shortest" for every data set; the straight line is the shortest only for one pair.

# %%
fig, axes = panels(3, 2.3, sharey=True)
for ax, data_name in zip(axes, data_sets, strict=True):
    for name in ("rectified flow", "VP-cosine"):
        errors = torch.tensor(rms[data_name, name]).clamp_min(1e-4)
        ax.loglog(steps, errors, "o-", markersize=4, color=COLORS[role[name]], label=name)
    ax.set(title=data_name, xlabel="Euler steps")
    ax.title.set_fontsize(9)
    plots.plain_log(ax.xaxis, steps)
axes[0].set_ylabel("RMS error")
axes[2].legend(fontsize=8)
show(
    fig,
    "Error over the number of Euler steps on three data sets. The cosine path is lower on the first and third, rectified flow on the second. Errors of 0 are drawn at 0.0001.",
)

# %% [markdown]
# ## VE: mind the scale
#
# The variance-exploding path adds noise of size 50 to the data. Two traps follow.
#
# 1. **The start.** At $t = 0$ the particles are distributed as data $+\;50\,x_0$, with $x_0 \sim \mathcal N(0, I)$. Beside 50 the data hardly matter, so start the sampler at $50\,x_0$, not at $x_0$. Scale only the *start*: in training the path itself multiplies $x_0$ by $\sigma_t$.
# 2. **The targets.** They are of the size $\sigma_t$ too, which is hard for a plain network (not run here). EDM scales input, output and weight (Karras et al. 2022, section 5).

# %%
print(f"{'path':16}{'E |u|^2 per dimension':>24}")
sizes = {}
for name, p in paths.items():
    t, x1 = stratified_t(100_000).double(), mixture.sample(100_000)
    sizes[name] = p.target_ut(t, torch.randn_like(x1), x1).square().sum(1).mean().item() / 2
    print(f"{name:16}{sizes[name]:24.1f}")

x0, real = torch.randn(2000, 2, dtype=torch.float64), mixture.sample(2000)
starts = {"sigma_max N(0, I)": ve.prior_std * x0, "N(0, I)": x0, "sigma_max^2 N(0, I)": ve.prior_std**2 * x0}
ve_distance = {name: energy_distance(rk4_sampler(field(ve), s, steps=200), real) for name, s in starts.items()}
for name, value in ve_distance.items():
    print(f"VE started at {name:20} energy distance {value:9.3f}")
print(f"sampling floor                     energy distance {sampling_floor(energy_distance, mixture.sample, 2000)}")
assert sizes["VE"] > 1000 * sizes["rectified flow"]
assert (
    abs(ve_distance["sigma_max N(0, I)"]) < 0.02 < 0.5 < min(ve_distance["N(0, I)"], ve_distance["sigma_max^2 N(0, I)"])
)

# %% [markdown]
# ## Other people's clocks
#
# | source | its time | its sample | its target | in our terms |
# |---|---|---|---|---|
# | DDPM (Ho et al. 2020, equation 4) | steps of noising, data at 0 | $\sqrt{\bar\alpha}\,x_0 + \sqrt{1-\bar\alpha}\,\epsilon$ | $\epsilon$ | $\alpha_t = \sqrt{\bar\alpha}$, their $x_0$ is our $x_1$ |
# | SD3 (Esser et al. 2024, section 3) | data at 0, noise at 1 | $(1-t)\,x_0 + t\,\epsilon$ | $\epsilon - x_0$ | $t \to 1-t$, sign flipped |
# | FLUX (official code) | sampled from 1 to 0 | as SD3 | as SD3 | as SD3 |
#
# The reversal in one line of code is in lesson 00. The offset $s = 0.008$ of the published cosine schedule, and how large its effect is:

# %%
tau = torch.linspace(0, 1, 2001, dtype=torch.float64)
offset = 0.008
f = lambda tau: torch.cos((tau + offset) / (1 + offset) * math.pi / 2) ** 2
sigma_ddpm = (1 - f(tau) / f(torch.zeros_like(tau))).clamp_min(0).sqrt()
difference = (sigma_ddpm - cosine.sigma(1 - tau)).abs()
print(
    f"Nichol & Dhariwal's schedule against the cosine path: largest difference of sigma {difference.max():.3f}, at tau = {tau[difference.argmax()]:.3f}"
)
print(
    "near the data sigma / sqrt(tau): "
    + ", ".join(f"{(sigma_ddpm[i] / tau[i].sqrt()):.3f}" for i in (1, 4, 16))
    + f";  the cosine path's sigma / tau: {cosine.sigma(1 - tau[1]) / tau[1]:.3f}"
)
assert 0.005 < difference.max() < 0.02

# %% [markdown]
# With the offset $\sigma$ starts like $0.2\sqrt\tau$ next to the data, without it like $1.57\,\tau$. Elsewhere the two differ by about a hundredth at most.

# %% [markdown]
# ## Traps
#
# - **"Rectified flow = OT-CFM."** The same line, another coupling. Rectified flow (I-CFM) pairs noise and data independently; OT-CFM (Tong et al. 2023) by minibatch optimal transport. Lipman et al.'s "OT path" is optimal only between the Gaussians of one condition.
# - **"The path is straight, so few steps are enough."** Straight per pair. The table above has both outcomes.
# - **Scaling VE's noise in the loss.** The path does it already.
# - **"VE is EDM."** EDM uses $\sigma(t) = t$ and another grid; the log-linear $\sigma$ is SMLD's.

# %% [markdown]
# ## Your turn
#
# Replace `return None` by your answer and run the cell. The checker tries random inputs and names the mistake that it recognises.

# %% [markdown]
# **1. Write a path (screen, 5 minutes).** Return $x_t$ and the target $u_t$ of the VP-cosine path, both [B, d], for `t` [B], `x0` and `x1` [B, d].


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

# %% [markdown]
# **2. Sample the marginal (on-site, 5 minutes).** The data are $\mathcal N(\text{mean}, \text{std}^2 I)$. Given standard normal numbers `z` [B, d], return samples of $p_t$ at the number `t`. Use `path.alpha(t)` and `path.sigma(t)`, which take a tensor.


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

# %% [markdown]
# ## Interview walkthrough
#
# Say your answer aloud before you open a card. Each has the 30-second answer, the usual mistake, and the section that proves it.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
interview_cards("four-paths", "what-is-straight", "same-map", "rf-stable", "ve-start")

# %% [markdown]
# ## You can now …
#
# 1. write $\alpha_t$, $\sigma_t$ and the targets of four paths, and name what is left at their ends;
# 2. answer "is rectified flow straight?": each pair is, the marginal flow is not, and one Euler step gives the mean;
# 3. show that SNR-matched paths are one flow at two speeds, so that the exact noise → data map is the same;
# 4. start VE at $\sigma_{\max}\mathcal N(0, I)$, and retime a path by matching SNR.
#
# ## References
#
# - X. Liu, C. Gong, Q. Liu, *Flow Straight and Fast*, 2022, arXiv 2209.03003: equation 1.
# - Y. Lipman et al., 2023, arXiv 2210.02747: section 4.1, equation 16 (VE), equation 18 (VP).
# - A. Tong et al., 2023, arXiv 2302.00482: I-CFM and OT-CFM.
# - J. Ho et al., *DDPM*, 2020, arXiv 2006.11239; A. Nichol, P. Dhariwal, *Improved DDPM*, 2021, arXiv 2102.09672, equation 17.
# - Y. Song et al., 2021, arXiv 2011.13456: VP and VE SDEs. T. Karras et al., *EDM*, 2022, arXiv 2206.00364.
# - P. Esser et al., 2024, arXiv 2403.03206: section 2.
