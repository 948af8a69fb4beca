# %% [markdown]
# # 00 · Flow matching in five sentences
#
# **A network is shown a mix of one noise point and one data point at a time. How can it learn to turn all noise into all data?**

# %% jupyter={"source_hidden": true} tags=["hide-input"]
import torch

from fmlib import *
from fmlib.page import *
from fmlib.study import *

torch.set_num_threads(1)  # these tensors are tiny: a second thread costs more than it brings
torch.manual_seed(0)
plots.use_style()

CROSSING = (
    "The plane halfway between noise and data, in grey three clumps that begin to part. Through one point pass many "
    "straight lines, each from a blue noise point to an orange data point; a thick arrow is the mean of their velocities."
)
JUMP = (
    "A point of noise, the curve along which the flow carries it, and the single straight step, which ends elsewhere."
)
STEPS = "Forty trajectories from noise to three clumps, exact in black, a solver's in green beside them."
SHAPES = "A cloud of noise that becomes two moons, or whatever shape is drawn into the picture."
TOUR = [
    {
        "caption": "This is one place, halfway through. Each thin line is a pair: it joins a noise point (blue) to a "
        "data point (orange), and all of them are exactly here at this moment. Drag the dot where they meet.",
        "t": 0.5, "probe": [0.5, 0.5], "layers": ["density", "probe"],
    },
    {
        "caption": "The pairs disagree about where to go. The small grey dots are the tips of their velocities, the "
        "thick arrow is the average. Read the variance below, then drag the dot into a clump: more, or less?",
        "t": 0.5, "probe": [0.0, -0.6], "layers": ["density", "probe"],
    },
    {
        "caption": "Now t is near 1. The orange end of the fan has closed: where these pairs go is almost known. Where "
        "they come from is not. Drag t to 0, and it is the reverse.",
        "t": 0.9, "probe": [0.3, 1.6], "layers": ["density", "probe"],
    },
    {
        "caption": "Here is the average at every place at once. Press play: the points follow the arrows, and the "
        "noise becomes the three clumps. Drag a clump, and the arrows follow.",
        "t": 0.0, "layers": ["density", "field", "particles"], "solver": "midpoint", "steps": 32,
    },
]  # fmt: skip

ONE_STEP = [{"caption": "The curve: where the flow carries this point; the thick arrow joins its two ends. The red line is "
             "something else: one step along the velocity at the start. Drag the dot, then t."}]  # fmt: skip
SOLVED = [
    {
        "caption": "Thin, black or white: the exact trajectories. Green: what the solver makes of them, with a dot at each step."
    }
]

# %%
lab = FlowLab(three_gaussians(), CROSSING, layers=["density", "probe"], controls=["t", "mixture"], tour=TOUR)
lab

# %% [markdown]
# *Nothing has to run first. Drag the dot where the lines meet, an orange one (the centre of a clump) or the small one beside it (its width). You need some calculus, a little probability and a little PyTorch.* *Time:* 20 minutes to read, about 20 seconds to run.
#
# **You will be able to** explain flow matching in five sentences, name its convention before anybody asks, and find the lesson that proves each statement.
#
# ## The idea
#
# Imagine a city at eight in the morning. Everybody leaves home and walks to work, straight ahead and at a steady pace. Stand at one crossing and look: at this minute people come through in all directions. Yet there is an average of all their velocities, here and now.
#
# Now imagine a leaf that the crowd carries along. At every crossing, at every moment, it moves with that average. It follows nobody to work. But if you let go of many leaves, spread like the homes, then at nine o'clock they lie spread like the offices.
#
# Homes are the noise, offices are the data, a walker is a pair of both. The average is the **velocity field** $u_t(x)$, one arrow for each place $x$ and time $t$:
#
# $$u_t(x) = \mathbb E\,[\,\dot x_t \mid x_t = x\,].$$
#
# In words: $x_t$ is the place of a walker at time $t$, $\dot x_t$ the walker's velocity. Of all that are at $x$ at this moment, take the mean. A network learns this arrow by looking at one walker after the other. The leaves are what it generates.
#
# How far do the walkers at one crossing disagree? Say a number first. You will see the answer once you have said yours.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
path, data = rectified_flow_path(), three_gaussians()
here = torch.tensor([[0.5, 0.5]], dtype=torch.float64)
variance, length = data.velocity_var(path, 0.5, here).item(), data.velocity(path, 0.5, here).norm().item()
predict(
    "In the first picture (t = ½, the dot at 0.5, 0.5): how large is the spread of the pairs' velocities (the root of their variance), compared with the length of their average?",
    100 * variance**0.5 / length,
    low=0,
    high=400,
    step=5,
    unit=" %",
    because=f"Of the mean square of one pair's velocity, {100 * variance / (variance + length**2):.0f} % is disagreement, the rest is the square of their mean. No training removes it, and that is why the loss never reaches zero.",
)

# %% [markdown]
# ## The convention
#
# Papers differ in their clock and their sign. So say yours before anything else:
#
# > **At $t = 0$ there is noise, $x_0 \sim \mathcal N(0, I)$; at $t = 1$ there is data, $x_1$. In between $x_t = \alpha_t x_1 + \sigma_t x_0$. Sampling runs from 0 to 1.**
#
# $\alpha_t$ says how much of the data is in the mix, $\sigma_t$ how much of the noise. In this lesson $\alpha_t = t$ and $\sigma_t = 1 - t$: a straight line. Lesson 03 shows others.
#
# The same line in the letters of others, each as its source has it and compared with ours on 1,000 random pairs:

# %% jupyter={"source_hidden": true} tags=["hide-input"]
from IPython.display import Markdown, display

t = torch.rand(1000, dtype=torch.float64)
x0, x1 = torch.randn(1000, 2, dtype=torch.float64), torch.randn(1000, 2, dtype=torch.float64)


def difference(c, sign):
    """A source's points and velocities at our times, translated, against ours."""
    points = c.interpolate(c.time(t), x0, x1) - path.sample_xt(t, x0, x1)
    velocities = sign * c.target(x0, x1) - path.target_ut(t, x0, x1)
    return max(points.abs().max(), velocities.abs().max()).item()


rows = ["| source | noise → data | its line | its velocity | to make it ours | difference | where |"]
rows.append("|---" * 7 + "|")
for c in CONVENTIONS.values():
    line, target = c.formulas()
    name = f"**{c.name}**" if c.name == "these lessons" else c.name
    change = r"$t \to 1-t$ and $-v$" if c.noise_at else "nothing"
    gap = f"{difference(c, c.sign):.0e}".replace("0e+00", "0")
    ends = rf"$t: {c.noise_at} \to {1 - c.noise_at}$"
    rows.append(f"| {name} | {ends} | {line} | {target} | {change} | {gap} | {c.source} |")
    assert difference(c, c.sign) <= 5 * c.sigma_min + 1e-12 and difference(c, -c.sign) > 1  # the sign not flipped
display(Markdown("\n".join(rows)))

# %% [markdown]
# Lipman et al. leave a little noise on the data, $\sigma_{\min}$ (here $10^{-4}$); the rest agree to rounding. SD3, FLUX and the flow models of diffusers have their $t = 0$ at the data, so they sample from 1 to 0 (and some networks are given $1000\,t$). To translate, replace $t$ by $1 - t$ **and** flip the sign of the velocity. It is easy to do one and forget the other. Try it: here is the same flow in SD3's letters, translated three times.


# %%
def sd3_model(x, t):
    return -data.velocity(path, 1 - t, x)


# %%
noise, real = torch.randn(5000, 2), data.sample(5000)
sample = lambda model: energy_distance(midpoint_sampler(model, noise[:1500], steps=20), real[:1500])
verify(
    "time and sign flipped: SD3's flow ends in the data (energy distance)",
    sample(adapt(sd3_model, "SD3")),
    0.0,
    limit=0.03,
    wrong={
        "only the time": sample(lambda t, x: sd3_model(x, 1 - t)),
        "only the sign": sample(lambda t, x: -sd3_model(x, t)),
    },
)

# %% [markdown]
# Each claim stands beside its *wrong twins*: the same measure on something that must fail. The *energy distance* compares two clouds of points and is zero when they are alike; this is an estimate, so it can fall slightly below. Both mistakes run without an error message, and both make rubbish.
#
# ## The five sentences
#
# **1. The goal.** *Learn a velocity field that carries noise to data; then follow it.*
#
# A leaf $z_t$ follows the field: $\dot z_t = u_t(z_t)$, from noise $z_0$. It is no pair's $x_t$, but at every $t$ it has the same distribution. We know this field here: for Gaussian clumps it is a formula. So we can follow it and look at where the leaves arrive. The measure is sliced W2, a distance between clouds. Two clouds of real data are not at distance zero either, as they are random: that is its *floor*. (Lesson 01.)

# %%
u = lambda t, x: data.velocity(path, t, x)
states = rk4_sampler(u, noise, steps=40, return_trajectory=True)
floor = sampling_floor(sliced_w2, data.sample, 5000)
verify(
    f"sliced W2 of the end points to data: within three floors (one floor, what fresh data read: {floor.mean:.3f})",
    sliced_w2(states[-1], real),
    at_most=3 * floor.mean,
    wrong={"noise, not moved": sliced_w2(noise, real)},
)

# %% [markdown]
# **2. The training.** *Mix one noise point with one data point, and fit the network to the velocity of that single pair.*
#
# $$\mathcal L_{\text{CFM}} = \mathbb E_{t,\,x_0,\,x_1} \,\| v_\theta(t, x_t) - (x_1 - x_0) \|^2$$
#
# It needs no ODE solver: draw, mix, compare. That is all there is to the training loop. Even the right field has a loss: the disagreement of the pairs, averaged over all places and times. (Lessons 02, 04.)

# %%
x0, x1, t = torch.randn(100_000, 2), data.sample(100_000).float(), torch.rand(100_000)
xt, pairs = path.sample_xt(t, x0, x1), x1 - x0
loss = lambda v: (v - pairs).square().sum(1)
variance = data.velocity_var(path, t, xt)

verify(
    "the right field's loss minus the variance of the pairs",
    estimate(loss(u(t, xt)) - variance),
    0.0,
    wrong={"a field of zeros": estimate(loss(0 * xt) - variance), "no loss at all": estimate(-variance)},
)

# %% [markdown]
# **3. The theorem.** *The loss against single pairs has, on average, the same gradient as the loss against the true field, which training never needs.*
#
# At one $x$ and $t$ the network must give one answer for many pairs. Under a squared error the best single answer is their mean, and the mean *is* $u_t(x)$. Call $\mathcal L_{\text{FM}}$ the loss against $u_t$ itself. The two losses differ by the variance of the pairs, which no $\theta$ changes; so $\nabla_\theta \mathcal L_{\text{CFM}} = \nabla_\theta \mathcal L_{\text{FM}}$ (Lipman et al. 2023, Theorem 2). On a batch the two gradients differ; lesson 02 measures how fast that shrinks as the batch grows.

# %%
net = VectorFieldMLP(2, hidden=64)


def gradient(targets):
    loss = (net(t, xt) - targets).square().sum(1).mean()
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))])


# %%
marginal = gradient(u(t, xt))
off = lambda targets: (gradient(targets) - marginal).norm() / marginal.norm()

verify(
    "100,000 pairs have the gradient of the field (relative difference)",
    off(pairs),
    at_most=0.1,
    wrong={"shuffled pairs": off(pairs[torch.randperm(len(pairs))]), "flipped sign": off(-pairs)},
)

# %% [markdown]
# **4. The path.** *With $x_t = (1-t)\,x_0 + t\,x_1$ each pair moves straight; the flow that they make together bends.*
#
# This is *rectified flow*. Only the line of one pair is straight. How much a trajectory bends: its length, compared with the distance between its ends.

# %%
bend = lambda s: (s.diff(dim=0).norm(dim=2).sum(0) / (s[-1] - s[0]).norm(dim=1)).quantile(0.99) - 1
lines = torch.lerp(noise, real.float(), torch.linspace(0, 1, 41)[:, None, None])
verify(
    "one trajectory in a hundred is at least so much longer than the distance between its ends (length / distance - 1)",
    bend(states),
    at_least=1.0,
    wrong={"the lines of pairs": bend(lines)},
)

# %% [markdown]
# Try the extreme: a single step with the arrow at the start. First guess.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
predict(
    "At t = 0 every point takes its arrow and follows it in one straight step to t = 1. Where do the points land?",
    "in one heap, at the mean of the data",
    choices=["spread over the three clumps", "in one heap, at the mean of the data", "back where they began"],
    because="At t = 0 a noise point knows nothing about its partner, so the average partner is the same for everybody: the mean of the data. Every arrow ends exactly there. In the picture below, drag t away from 0: the red dot is the single step, the arrow points to where the flow goes.",
)

# %%
FlowLab(
    three_gaussians(),
    JUMP,
    layers=["density", "jump"],
    controls=["t", "until"],
    t=0.0,
    probe=[-1.2, 0.6],
    tour=ONE_STEP,
)

# %%
one_step, two_steps = euler_sampler(u, noise, steps=1), euler_sampler(u, noise, steps=2)
mean = data.weights @ data.means
verify(
    "one Euler step lands on the mean of the data",
    one_step,
    mean.expand_as(one_step),
    limit=1e-4,
    wrong={"two steps": two_steps},
)

# %% [markdown]
# **5. The sampling.** *Start from noise and integrate from 0 to 1; accuracy is bought with calls of the network.*
#
# So solvers are compared at equal *calls* (NFE, number of function evaluations), not at equal steps. Change steps and solver, and read the error below the picture. (Lesson 05.)

# %%
FlowLab(
    three_gaussians(),
    STEPS,
    layers=["trajectories", "ticks"],
    controls=["steps", "solver", "ghost"],
    tour=SOLVED,
    t=1.0,
    steps=4,
)

# %%
few = noise[:500].double()
exact = rk4_sampler(u, few, steps=200)
error = lambda sampler, steps: (sampler(u, few, steps=steps) - exact).norm(dim=1).median()
verify(
    "RK4 with 40 calls is within 0.001 of the exact end (median)",
    error(rk4_sampler, 10),
    at_most=1e-3,
    wrong={"Euler with 40 calls": error(euler_sampler, 40)},
)

# %% [markdown]
# That is all of it. And nothing here needs clumps. Draw a shape of your own, or choose one; then press play.

# %%
FlowLab(moons_mixture(), SHAPES, layers=["density", "particles"], controls=["t", "draw", "presets"], t=0.6, steps=32)

# %% [markdown]
# ## Against diffusion
#
# Diffusion begins with a recipe for adding noise and learns the *score* $\nabla \log p_t$, the direction in which the density grows fastest. Flow matching chooses the path and learns the velocity. With Gaussian noise drawn independently of the data the two are one piece of knowledge: $u_t(x) = a_t\,x + b_t\,\nabla\log p_t(x)$ for $0 < t < 1$, with numbers $a_t, b_t$ that depend on the path alone. You will often read that this fails for rectified flow; lesson 06 tries it.
#
# ## The map
#
# | lesson | the question that it answers |
# |---|---|
# | **[01 · continuity equation](01_continuity_equation.ipynb)** | when does a field move noise to data, and is it the only one? |
# | **[02 · CFM theorem](02_cfm_theorem.ipynb)** | why are single pairs enough? |
# | **[03 · paths](03_paths.ipynb)** | rectified flow, VP, VE: what does the choice change? |
# | **[04 · training](04_training.ipynb)** | how is it trained, and how good is it? |
# | **[05 · ODE solvers](05_ode_solvers.ipynb)** | how many steps, and which solver? |
# | **[06 · score, ε, v](06_conversions.ipynb)** | how does one convert flows and diffusion models? |
# | **[07 · reflow](07_reflow.ipynb)** | how does one get by with one step? |
# | **[08 · guidance](08_guidance.ipynb)** | how does one steer it with a condition? |
# | **[10 · production](10_production.ipynb)** | what do real systems add to these small examples? |
# | **[mock interview](mock_interview.ipynb)** | can you say it without notes? |
# | **[appendix · statements you will meet](statements.ipynb)** | which of the things one reads are true? |
#
# **One hour**, the evening before an interview: the five sentences here, the [theorem](02_cfm_theorem.ipynb) up to its proof, [solvers](05_ode_solvers.ipynb) until the first table, then [fifteen minutes of the mock interview](mock_interview.ipynb). **One day:** lessons 01 to 06, without the parts called "Further"; in the evening the cards of each. **One week:** a lesson or two a day with its exercises, and fifteen minutes of the mock interview every evening.
#
# The whole subject on two printed pages is the [cheat sheet](mock_interview.ipynb#The-whole-sheet). Do not learn from it; use it to see what you have forgotten.
#
# ## You can now …
#
# 1. say the five sentences, with their small print: equal *on average*, straight *for one pair*;
# 2. name your convention first, and translate another with $t \to 1 - t$ and a flipped sign;
# 3. pick the lesson that proves a statement.
#
# Next: [01 · the continuity equation](01_continuity_equation.ipynb). When does a field move noise to data at all?
#
# ## References
#
# - Y. Lipman et al., *Flow Matching for Generative Modeling*, ICLR 2023, arXiv 2210.02747.
# - X. Liu, C. Gong, Q. Liu, *Flow Straight and Fast*, ICLR 2023, arXiv 2209.03003.
# - A. Tong et al., *Improving and Generalizing Flow-Based Generative Models with Minibatch Optimal Transport*, TMLR 2024, arXiv 2302.00482.
# - P. Esser et al., *Scaling Rectified Flow Transformers for High-Resolution Image Synthesis* (SD3), 2024, arXiv 2403.03206.
