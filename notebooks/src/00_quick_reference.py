# %% [markdown]
# # 00 · Flow matching in five sentences
#
# The whole idea on one page, with the convention that all lessons keep – and a cell under each sentence that shows it.
#
# **You will be able to**
#
# 1. state flow matching in five correct sentences;
# 2. fix the convention in your first sentence, and translate it to the papers that use another;
# 3. find the lesson that proves each statement.
#
# *Before:* calculus, probability (mean, Gaussian) and a little PyTorch. Much on this page is explained only later; on a first reading skip what you do not understand. *Time:* 10 minutes to read, about 20 seconds to run. Begin with *Run ▸ Run All Cells*: until its cell has run, a player is a still picture.

# %% jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output"]
from importlib.util import find_spec

needed = {
    "torch": "torch", "numpy": "numpy", "scipy": "scipy", "sklearn": "scikit-learn",
    "matplotlib": "matplotlib", "ipywidgets": "ipywidgets", "anywidget": "anywidget",
    "tqdm": "tqdm", "fmlib": "the lessons' own module, fmlib",
}  # fmt: skip
missing = [name for module, name in needed.items() if find_spec(module) is None]
if missing:
    print(f"Missing here: {', '.join(missing)}.")
    print("In the project's top folder run  make lab  or  pip install -r requirements.txt ,")
    print("then restart the kernel.")
else:
    print("Everything that the lessons need is installed.")

# %%
import torch

from fmlib import *
from fmlib.page import *
from fmlib.study import *

torch.set_num_threads(1)  # these tensors are tiny: a second thread costs more than it brings
torch.manual_seed(0)
plots.use_style()

path = rectified_flow_path()
moons = moons_mixture()  # data whose exact velocity field is known


def exact(t, x):
    return moons.velocity(path, t, x)


# %% [markdown]
# ## The idea in one picture
#
# Start with noise. Give every point a velocity that depends on where it is and what time it is. Follow it from $t = 0$ to $t = 1$. If the velocity is right, the cloud of noise arrives as data. **Flow matching is a way to learn that velocity.**

# Drag $t$ or press play. The shade is $p_t$, the density of the whole cloud at time $t$. The arrows are $u_t(x)$, the velocity of a point that is at $x$ at time $t$. A few points show where they came from. Rest the pointer on a point to see its whole way.

# %%
LIMITS = (-3.3, 5.1, -3.0, 3.3)
states = rk4_sampler(exact, torch.randn(1500, 2), steps=40, return_trajectory=True)

times = torch.linspace(0, 1, 11)
panel = Panel(
    particles=states[:, :800],
    density=density_frames(lambda t, x: moons.log_prob(path, t, x), LIMITS, times),
    field=field_frames(exact, LIMITS, times),
    trails=8,
)
player = FlowPlayer(
    torch.linspace(0, 1, 41),
    [panel],
    limits=LIMITS,
    t=0.5,
    alt="Points move along arrows over a shaded density: round noise at t = 0 becomes two moons at t = 1. The ways of single points bend.",
)
player

# %% [markdown]
# ## The convention
#
# Say it first, because papers differ:
#
# > **$t = 0$ is noise, $x_0 \sim \mathcal N(0, I)$. $t = 1$ is data, $x_1$. In between $x_t = \alpha_t x_1 + \sigma_t x_0$. Sampling integrates from 0 to 1.**
#
# $\alpha_t$ and $\sigma_t$ are two functions of time, the amounts of data and of noise. In this lesson $\alpha_t = t$ and $\sigma_t = 1 - t$, a straight line; lesson 03 has others.
#
# The next cell writes the table from `CONVENTIONS` in `fmlib`. For each source it takes its line and its velocity, translates them, and compares with ours on 1,000 random pairs: the last column is the largest difference.

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
# Lipman et al. leave a little noise at the data, $\sigma_{\min}$ (here $10^{-4}$); the rest agree to rounding. diffusers gives its network $1000\,t$ instead of $t$. Many sources call the model as `model(x, t)`, here it is `model(t, x)`. `adapt(model, "SD3")` translates a model in one line (lesson 10).
#
# These lessons started from an **interview sheet** on flow matching, and check it line by line ([appendix](statements.ipynb)). Where it is wrong, they say so. It says that Lipman et al. put the data at $x_0$, and that SD3 goes "also noise → data". Both are wrong; the table follows the papers. In SD3 $x_0$ is the *data*, so the same letter means the opposite. To translate, replace $t$ by $1 - t$, **and** flip the sign of the velocity. Forgetting one of the two is an easy bug. The cell below samples with both, and with each of them alone.
#
# *How alike are two clouds of points? Two distances answer that in these lessons, **energy distance** and **sliced W2**; small means alike. Two clouds of real data are not at distance zero either: what they read is the **sampling floor**. "Scatters by" is the standard deviation of one reading. The energy distance is an unbiased estimate: where two clouds agree it scatters around 0, and can be slightly negative.*


# %%
def sd3_model(x, t):
    """The same flow in SD3's convention: its time runs from data to noise, and x comes first."""
    return -exact(1 - t, x)


translations = {
    "time and sign flipped": adapt(sd3_model, "SD3"),
    "only the time flipped": lambda t, x: sd3_model(x, 1 - t),
    "only the sign flipped": lambda t, x: -sd3_model(x, t),
}
noise, real = torch.randn(1500, 2), sample_moons(1500)
distance = {name: energy_distance(midpoint_sampler(v, noise, steps=20), real) for name, v in translations.items()}
for name, value in distance.items():
    print(f"{name:24} energy distance to the data {value:7.3f}")
print(f"sampling floor: {sampling_floor(energy_distance, sample_moons, 1500)}")
assert abs(distance["time and sign flipped"]) < 0.01
assert min(distance["only the time flipped"], distance["only the sign flipped"]) > 0.1

# %% [markdown]
# ## The five sentences
#
# **1. Goal.** Learn a velocity field $v_\theta(t, x)$ such that the ODE $\dot x_t = v_\theta(t, x_t)$ carries noise $x_0 \sim p_0$ to data $x_1 \sim p_1$. *(Lesson 01.)*
#
# The picture above was made with the exact field. Its end points are data, as far as 1,500 points can tell:

# %%
w2, w2_floor = sliced_w2(states[-1], real), sampling_floor(sliced_w2, sample_moons, 1500)
print(
    f"sliced W2: exact flow {w2:.3f}, sampling floor {w2_floor}, noise left as it is {sliced_w2(states[0], real):.3f}"
)
assert w2 < 3 * w2_floor.mean

# %% [markdown]
# **2. Training.** Draw a time $t$ and a pair $z = (x_0, x_1)$. The point $x_t$ of this pair moves with the velocity $u_t(x_t \mid z) = \dot x_t$; on the straight line that is $x_1 - x_0$. Fit the network to it: $\mathcal L_{\text{CFM}} = \mathbb E_{t,z} \| v_\theta(t, x_t) - u_t(x_t \mid z) \|^2$. This is *simulation-free*: no ODE is solved to compute it. *(Lessons 02, 04.)*
#
# **3. The theorem.** $\nabla_\theta \mathcal L_{\text{FM}} = \nabla_\theta \mathcal L_{\text{CFM}}$: regressing the answers of single pairs (CFM) has the same gradient as regressing the unknown *marginal* field $u_t(x)$, the mean of the pairs' velocities at the place $x$ (FM): $\mathcal L_{\text{FM}} = \mathbb E\| v_\theta(t, x_t) - u_t(x_t) \|^2$ (Lipman et al. 2023, Theorem 2). The equality is one of *expectations*: on a minibatch the two gradients differ, and the difference shrinks as the batch grows. *(Lesson 02.)*

# %%
# One draw each; lesson 02 measures the rate.
net = VectorFieldMLP(2, hidden=64)


def gradient(targets, t, xt):
    loss = (net(t, xt) - targets).square().sum(dim=1).mean()
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))])


relative = []
for batch in (100, 1_000, 10_000):
    x1, t = sample_moons(batch), uniform_t(batch)
    noise = torch.randn_like(x1)
    xt = path.sample_xt(t, noise, x1)
    conditional = gradient(path.target_ut(t, noise, x1), t, xt)
    marginal = gradient(exact(t, xt), t, xt)
    relative.append(((conditional - marginal).norm() / marginal.norm()).item())
    print(f"batch {batch:6}: the gradients of the CFM and the FM loss differ by {100 * relative[-1]:.1f} %")
assert relative[2] < relative[0] / 3

# %% [markdown]
# **4. The simplest path.** $x_t = (1-t)\,x_0 + t\,x_1$ with the target $x_1 - x_0$. This is called rectified flow ("1-rectified": before any reflow, lesson 07), or I-CFM (independent CFM: noise and data are paired at random; Tong et al., with their $\sigma = 0$). *OT-CFM is something else*: the same line, but with noise and data not paired at random but so that the ways are short in each batch (optimal transport). SD3 and FLUX use this line with time reversed (table above). The line is straight for *one pair*. The flow that is learned bends, as the paths in the picture do. *(Lessons 03, 07.)*

# %%
chord = (states[-1] - states[0]).norm(dim=1)
length = states.diff(dim=0).norm(dim=2).sum(dim=0)
print(
    f"path length / distance of end points:  median {(length / chord).median():.3f},  99th percentile {(length / chord).quantile(0.99):.3f}"
)
assert (length / chord).quantile(0.99) > 1.02

# %% [markdown]
# **5. Sampling.** Start at $x_0 \sim p_0$ and integrate to $t = 1$ with an ODE solver: Euler, Heun, RK4 or an adaptive one. What counts is the error at a given number of model calls (NFE). *(Lesson 05.)*

# %%
few = states[0, :150].double()
reference = rk4_sampler(exact, few, steps=200)
for sampler, steps, calls in ((euler_sampler, 40, 1), (heun_sampler, 20, 2), (rk4_sampler, 10, 4)):
    error = (sampler(exact, few, steps=steps) - reference).norm(dim=1).median()
    print(f"{sampler.__name__:14} {steps:3} steps, {steps * calls} NFE: median error {error:.1e}")
assert error < 1e-3  # RK4, the last of the three

# %% [markdown]
# ## Against diffusion
#
# Diffusion is defined by a stochastic equation that adds noise, and learns the score $s = \nabla \log p_t$. Flow matching picks the path directly and learns the velocity. For every path with independent Gaussian noise the two are the same information: $u_t(x) = a_t\,x + b_t\,\nabla\log p_t(x)$ for $0 < t < 1$, with numbers $a_t, b_t$ that depend on the path alone. The interview sheet says that this fails for the rectified flow; it does not. *(Lesson 06.)*
#
# ## The map
#
# | lesson | the question that it answers |
# |---|---|
# | **00 · quick reference** | what is it, in five sentences? |
# | **[01 · continuity equation](01_continuity_equation.ipynb)** | when does a velocity field move $p_0$ to $p_1$, and is it unique? |
# | **[02 · CFM theorem](02_cfm_theorem.ipynb)** | why may we regress on single pairs? |
# | **[03 · paths](03_paths.ipynb)** | rectified flow, VP, VE: what does the choice change? |
# | **[04 · training](04_training.ipynb)** | how is it trained, and how good is it? |
# | **[05 · ODE solvers](05_ode_solvers.ipynb)** | how many steps, and which solver? |
# | **[06 · score, ε, v](06_conversions.ipynb)** | how are flows and diffusion models converted? |
# | **[07 · reflow](07_reflow.ipynb)** | how does one get by with one step? |
# | **[08 · guidance](08_guidance.ipynb)** | how does one steer it with a condition? |
# | **[10 · production](10_production.ipynb)** | what is missing from the toy? |
# | **[mock interview](mock_interview.ipynb)** | can you say it without notes? |
# | **[Appendix · statements you will meet](statements.ipynb)** | which statements of the interview sheet hold? |
#
# ## The whole sheet
#
# Everything on one page, each line with the section that proves it. Do not learn it from here: read the lessons, and use it the evening before. `make site` writes it as `site/cheat_sheet.html`, which prints on two pages.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
cheat_sheet()

# %% [markdown]
# ## You can now …
#
# 1. state the five sentences, with their corrections: equality *in expectation*, OT-CFM is not rectified flow, straight *per pair*;
# 2. name the convention first, and translate with $t \to 1 - t$ and a flipped sign;
# 3. pick the lesson that proves a statement.
#
# ## References
#
# - Y. Lipman et al., *Flow Matching for Generative Modeling*, ICLR 2023, arXiv 2210.02747.
# - X. Liu, C. Gong, Q. Liu, *Flow Straight and Fast*, ICLR 2023, arXiv 2209.03003.
# - A. Tong et al., *Improving and Generalizing Flow-Based Generative Models with Minibatch Optimal Transport*, TMLR 2024, arXiv 2302.00482.
# - P. Esser et al., *Scaling Rectified Flow Transformers for High-Resolution Image Synthesis* (SD3), 2024, arXiv 2403.03206.
