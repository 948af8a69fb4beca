# %% [markdown]
# # 05 · ODE solvers
#
# **To follow the field you must ask for it, and each question is one call of the network. How many questions does a sample need, and where should you ask them?**

# %% jupyter={"source_hidden": true} tags=["hide-input"]
import math
from itertools import pairwise

import torch

from fmlib import *
from fmlib.page import *
from fmlib.study import *

torch.set_num_threads(1)  # these tensors are tiny: a second thread costs more than it brings
torch.manual_seed(0)
plots.use_style()

STEP = (
    "One large step of a solver from a dot that can be dragged: its arrows k1 to k4 where the field is asked, its end in "
    "green, and the end of the exact trajectory in the colour of the text."
)
SOLVED = "Exact trajectories in the colour of the text, and in green what a solver makes of them with a few calls of the field."
GRIDS = "Trajectories of a solver with a mark at each of its times, and the same marks on a ruler from 0 to 1."
here = {"probe": [-1.3, 0.9], "t": 0.35, "steps": 2}
TOUR = [
    {
        "caption": "You stand at the dot and ask once: k₁. Euler walks along it for the whole step, and ends at the green "
        "dot. The flow itself ends at the other one. Drag the dot: where does Euler miss most?",
        "solver": "euler", **here,
    },
    {
        "caption": "Midpoint asks a second time, halfway, and walks the whole step along what it hears there. Read the error below the picture.",
        "solver": "midpoint", **here,
    },
    {"caption": "Heun asks again where Euler would end, and walks along the mean of both answers.", "solver": "heun", **here},
    {
        "caption": "RK4 asks four times. Now halve the step with the slider (2 to 4 steps). By what factor does the error of this one step fall, and by what factor with Euler?",
        "solver": "rk4", **here,
    },
]  # fmt: skip
EQUAL = [
    {"caption": "Eight steps of Euler: eight calls. Below you read what the other solvers make of eight calls. Who is best?", "steps": 8, "solver": "euler"},
    {"caption": "Eight steps of RK4 are 32 calls. Who is best now? Move the number of steps and find where the lead changes.", "steps": 8, "solver": "rk4"},
    {"caption": "Drag the centre of a clump away from the others. The flow bends more. Does the ranking of the solvers change?", "steps": 4, "solver": "midpoint"},
]  # fmt: skip
narrow = GaussianMixture(three_gaussians().means, three_gaussians().stds / 10, three_gaussians().weights)
PLACED = [
    {"caption": "The marks are Euler's times on rectified flow. The shift pushes them towards the noise. At shift 1 they are equally spaced. Can another shift make the error below smaller?", "path": "rectified_flow", "shift": 1, "solver": "euler", "mixture": three_gaussians()},
    {"caption": "The same on VP linear. Which shift is best now?", "path": "vp_linear", "shift": 1, "solver": "euler", "mixture": three_gaussians()},
    {"caption": "Ten times narrower clumps, on VP linear. Compare euler and ddim (a solver of the next section) in the list, here and with the wide clumps, one stop back.", "path": "vp_linear", "shift": 1, "solver": "euler", "mixture": narrow},
]  # fmt: skip

# %%
view = (-2.8, 1.2, -0.9, 3.1)
lab = FlowLab(
    three_gaussians(), STEP, layers=["field", "stages"], controls=["t", "steps", "solver"], tour=TOUR, limits=view
)
lab

# %% [markdown]
# *Nothing has to run first. You need lessons [00](00_quick_reference.ipynb), [03](03_paths.ipynb) and [04](04_training.ipynb).* *Time:* 20 minutes to read, about 25 seconds to run; 15 more for 2 exercises and 5 cards.
#
# **You will be able to** write and draw one step of four solvers, measure an order, choose a solver and its times for a given number of calls, and say what DDIM and DPM-Solver++ do differently.
#
# First a look back.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
predict(
    "From lesson 04: by mistake you train on x₀ − x₁ instead of x₁ − x₀. What does the loss show?",
    "nothing: it falls to the same value",
    choices=["it does not fall", "it falls, but stays twice as high", "nothing: it falls to the same value"],
    because="The best answer to a flipped target is the flipped field, and its loss is exactly that of the right one. Only the samples show it.",
)

# %% [markdown]
# ## One step
#
# Imagine a walk in fog. At each place a signpost tells you where to go from there. Reading one takes a minute. If you read one and march for an hour, you save time and end up somewhere else. The art is to place few readings well.
#
# The fog is the field $u_t(x)$; a reading is a call of the network. Every solver goes from $t$ to $t + h$, starts with $k_1 = u_t(x)$, and differs in what it asks next:
#
# | solver | then it asks | and moves by | calls |
# |---|---|---|---|
# | Euler | nothing | $h\,k_1$ | 1 |
# | midpoint | $k_2$ in the middle of Euler's step | $h\,k_2$ | 2 |
# | Heun | $k_2$ at the end of Euler's step | $\frac h2(k_1 + k_2)$ | 2 |
# | RK4 | $k_2$ as midpoint, $k_3$ in the middle again, but reached along $k_2$; $k_4$ at the end, reached along $k_3$ | $\frac h6(k_1 + 2k_2 + 2k_3 + k_4)$ | 4 |

# %%
path, mixture = rectified_flow_path(), three_gaussians()
u = lambda t, x: mixture.velocity(path, t, x)


def heun(v, t, h, x):
    k1 = v(t, x)
    return x + h / 2 * (k1 + v(t + h, x + h * k1))


x = torch.randn(400, 2).double()
late = lambda v, t, h, x: x + h / 2 * (v(t, x) + v(t, x + h * v(t, x)))  # a common bug: the second call at the old time
one = heun_sampler(u, x, steps=1, t_start=0.25, t_end=0.75)
verify("these two lines are the library's Heun", heun(u, 0.25, 0.5, x) - one, 0.0, limit=1e-12, wrong={"second call at the old time": late(u, 0.25, 0.5, x) - one})  # fmt: skip

# %% [markdown]
# ## The order
#
# Take steps half as long. The error falls, but how fast? A solver has **order** $p$ if halving a short step divides the error *at the end* by about $2^p$. (In the lab you saw the error of one step. It falls by one factor 2 more, but then there are twice as many steps.) We compare each particle with a very fine solution from the same noise, in double precision. And we take the median: a few particles near a border between clumps would dominate a mean.

# %%
solvers = {"Euler": euler_sampler, "midpoint": midpoint_sampler, "Heun": heun_sampler, "RK4": rk4_sampler}
calls = {"Euler": 1, "midpoint": 2, "Heun": 2, "RK4": 4}
noise = torch.randn(400, 2).double()
exact = rk4_sampler(u, noise, steps=400)


def error(solver, steps):
    return (solver(u, noise, steps=steps) - exact).norm(dim=1)


# %% jupyter={"source_hidden": true} tags=["hide-input"]
steps = [4, 8, 16, 32, 64, 128]
errors = {name: torch.stack([error(solver, n) for n in steps]) for name, solver in solvers.items()}


def broken(steps):
    x = noise
    for i in range(steps):
        x = late(u, i / steps, 1 / steps, x)
    return (x - exact).norm(dim=1)


errors["late"] = torch.stack([broken(n) for n in steps])


def slope(e, first=3):
    """The slope of the log-median against the log-steps over the last points."""
    x, y = torch.tensor(steps[first:]).double().log(), e[first:].median(1).values.log()
    return -(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()).item()


fall = errors["RK4"].median(1).values
predict(
    "RK4 with 32 steps and with 64: by what factor does the error fall?",
    (fall[3] / fall[4]).item(),
    low=0,
    high=50,
    step=1,
    because="RK4 has order 4, and 2 to the power 4 is 16. Euler's error would only be halved.",
)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
budgets = (4, 8, 16, 20, 32, 64)
equal = {name: [error(solver, n // calls[name]).median().item() for n in budgets] for name, solver in solvers.items()}
looks = {"Euler": ("other", "o-"), "midpoint": ("third", "o-"), "Heun": ("third", "s--"), "RK4": ("model", "o-")}
fig, (left, right) = panels(2, 2.7, sharey=True)
for name, (color, line) in looks.items():
    left.loglog(steps, errors[name].median(1).values, line, markersize=4, color=COLORS[color])
    right.loglog(budgets, equal[name], line, markersize=4, color=COLORS[color], label=name)
for order, height in ((1, 0.2), (2, 0.02), (4, 3e-5)):  # what a slope of exactly -1, -2, -4 looks like
    left.loglog([16, 64], [height, height / 4**order], color=COLORS["path"], linewidth=1)
    left.text(64, height / 4**order, f" order {order}", color="#666666", fontsize=9, va="center")
left.set(xlabel="steps", ylabel="median error"), right.set(xlabel="calls of the field")
plots.plain_log(left.xaxis, steps), plots.plain_log(right.xaxis, list(budgets))
right.legend(fontsize=9, loc="lower left")
show(fig, "Median error against steps, with grey guides of order 1, 2 and 4, and against calls. Against steps the four lines run along the guides at their right ends. Against calls midpoint and Heun are lowest at 8, RK4 at 32.")  # fmt: skip
for name, order in {"Euler": 1, "midpoint": 2, "Heun": 2, "RK4": 4}.items():
    verify(f"order of {name}", slope(errors[name]), order, limit=0.3, wrong={"Heun with its second call at the old time": slope(errors["late"])} if order > 1 else {"midpoint": slope(errors["midpoint"])})  # fmt: skip

# %% [markdown]
# Left: lines whose slopes become 1, 2, 2 and 4. The bug of the first cell, a second call at the old time, is of order 1: it runs, it samples, it pays two calls, and its order is Euler's.
#
# ## At the same number of calls
#
# Steps are not what you pay for. A call of the network is. *NFE*, the number of function evaluations, is the fair axis, and the right picture above uses it.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
predict(
    "Every solver may call the field 8 times: Euler takes 8 steps, midpoint and Heun 4, RK4 2. Who ends nearest to the exact flow?",
    "midpoint or Heun",
    choices=["Euler", "midpoint or Heun", "RK4"],
    because="Two steps of RK4 are too long for its order to count. With 32 calls it is far ahead.",
)

# %%
FlowLab(three_gaussians(), SOLVED, layers=["trajectories"], controls=["steps", "solver", "mixture"], tour=EQUAL, t=1.0)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
at = lambda name, n: equal[name][budgets.index(n)]
two = lambda n: max(at("midpoint", n), at("Heun", n))
verify("8 calls: the larger error of midpoint and Heun, divided by the smaller of Euler and RK4", two(8) / min(at("Euler", 8), at("RK4", 8)), at_most=0.95, wrong={"at 32 calls": two(32) / min(at("Euler", 32), at("RK4", 32))})  # fmt: skip
verify("32 calls: RK4's error, divided by midpoint's", at("RK4", 32) / at("midpoint", 32), at_most=0.5, wrong={"at 8 calls": at("RK4", 8) / at("midpoint", 8)})  # fmt: skip

# %% [markdown]
# **A higher order wins in the end, not at once.** With few calls the steps are long, and a clever step that is too long is no better than a simple one.
#
# ## When a better solver does not help
#
# So far the field was exact. A network is not. Follow it more exactly, and you come nearer to the end of *its* flow, not of the true one.


# %%
def fit(net):
    batches = SampledBatches(lambda n: three_gaussians().sample(n).float(), batch=256, total=600)
    return train_flow_matching(net, batches, rectified_flow_path(), total_steps=600, log_every=0)[1]


torch.manual_seed(1)
net = trained("05-three", VectorFieldMLP(2, 64), fit)
own = rk4_sampler(net, noise.float(), steps=100)  # the end of the network's own flow

# %% jupyter={"source_hidden": true} tags=["hide-input"]
nfe = [4, 8, 16, 32, 64, 128]
ends = [rk4_sampler(net, noise.float(), steps=n // 4).double() for n in nfe]
to_own, to_truth = ([(x - goal).norm(dim=1).median().item() for x in ends] for goal in (own.double(), exact))
fig, (ax,) = panels(1, 2.3)
ax.loglog(nfe, to_truth, "o-", color=COLORS["exact"], markersize=4)
ax.loglog(nfe, to_own, "o-", color=COLORS["model"], markersize=4)
ax.text(nfe[-1], 1.3 * to_truth[-1], "distance to the true end", ha="right", fontsize=9)
ax.text(0.9 * nfe[3], 0.3 * to_own[3], "distance to the end of the network's own flow", ha="right", color=COLORS["model"], fontsize=9)  # fmt: skip
ax.set(xlabel="calls of the network (RK4)", ylabel="median distance")
plots.plain_log(ax.xaxis, nfe)
show(fig, "Distance of RK4's ends over the number of calls. To the network's own flow it keeps falling; to the true flow it stops falling between 16 and 32 calls.")  # fmt: skip
verify("distance to the truth at 128 calls, divided by that at 32", to_truth[-1] / to_truth[3], at_least=0.6, wrong={"distance to its own flow": to_own[-1] / to_own[3]})  # fmt: skip

# %% [markdown]
# From 32 calls on the black curve is flat: what is left is the error of the *learning*. Then improve the network, do not step finer.
#
# ## Where to put the steps
#
# With few steps it matters where they are. A **grid** is a list of times. `shift_grid(s)` is that of SD3: $s > 1$ puts more steps near the noise.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
FlowLab(
    three_gaussians(),
    GRIDS,
    layers=["trajectories", "ticks"],
    controls=["steps", "shift", "path", "solver", "mixture"],
    tour=PLACED,
    t=1.0,
    steps=8,
)

# %%
ve = ve_path()
fields = {p: lambda t, x, p=p: mixture.velocity(p, t, x) for p in (path, ve)}
truth = {p: rk4_sampler(v, p.prior_std * noise, steps=300) for p, v in fields.items()}


def error_on(p, grid):
    """The median error of ten steps of Heun."""
    x = heun_sampler(fields[p], p.prior_std * noise, steps=10, grid=grid)
    return (x - truth[p]).norm(dim=1).median().item()


# %% jupyter={"source_hidden": true} tags=["hide-input"]
uniform = {p: error_on(p, uniform_grid) for p in (path, ve)}
others = {p: min(error_on(p, grid) for grid in (cosine_grid, shift_grid(3.0), edm_grid(p))) for p in (path, ve)}
first, last = 50.0, 0.01  # EDM's clock is the noise level itself: on VE dx/dσ is ε
in_sigma = lambda s, x: (last - first) * mixture.posterior_mean_x0(ve, (torch.log((first + s * (last - first)) / first) / math.log(last / first)).clamp(0, 1), x)  # fmt: skip
levels = lambda n: (((first ** (1 / 7) + uniform_grid(n) * (last ** (1 / 7) - first ** (1 / 7))) ** 7 - first) / (last - first)).clamp(0, 1)  # fmt: skip
edm = (heun_sampler(in_sigma, 50 * noise, steps=10, grid=levels) - truth[ve]).norm(dim=1).median().item()
verify("rectified flow, Heun, 10 steps: the uniform grid's error, divided by the best of cosine, shift 3 and EDM's", uniform[path] / others[path], at_most=0.8, wrong={"on VE": uniform[ve] / others[ve]})  # fmt: skip
verify("VE, 10 steps: error of Heun in σ on EDM's levels, divided by that of the best grid in t", edm / min(uniform[ve], others[ve]), at_most=0.9, wrong={"of the uniform grid in t": uniform[ve] / min(uniform[ve], others[ve])})  # fmt: skip

# %% [markdown]
# On rectified flow the uniform grid wins here. On VE its error is several times that of the best: the noise level falls exponentially in $t$, and steps near the noise are too long for that. EDM (Karras et al. 2022) changes two things: the grid, *and* the **clock**, the variable in which a solver steps. It takes the noise level $\sigma$ itself. Far from the data $dx/d\sigma = \hat\epsilon$ hardly changes, so the trajectory is nearly straight in $\sigma$. **A grid belongs to a path, a clock and a solver.**
#
# ## Diffusion's own solvers
#
# Think of a single data point. Every particle travels to it along $\alpha_t\,x_1 + \sigma_t\,x_0$ with fixed $x_1$ and $x_0$. On a curved path the *velocity* changes all the time, though nothing new is learned on the journey. Euler makes an error there that is easy to avoid. Write $\hat x_1$ and $\hat\epsilon$ for the data and the noise that are expected at this point, and hold *them* fixed during a step, not the velocity. That is **DDIM** (Song et al. 2020):
#
# $$ x_{t+h} = \alpha_{t+h}\,\hat x_1 + \sigma_{t+h}\,\hat\epsilon . $$
#
# Lesson 06 shows how both come out of a velocity. DDIM is exact for one point, and wins where data look like points from afar; for wide clumps it loses, as the table below says. On rectified flow $x_{t+h} = x_t + h\,(\hat x_1 - \hat\epsilon)$: it *is* Euler. **DPM-Solver++(2M)** (Lu et al. 2022) goes one step further: it draws a line through $\hat x_1$ now and one step ago, and reads it in the middle of the step ahead. Its clock is $\lambda = \log(\alpha/\sigma)$: in it all but $\hat x_1$ is solved exactly. (Change $\hat x_1$ by $d$, and $\hat\epsilon$ changes by $-\frac\alpha\sigma d$, so that both still add up to $x_t$.) A second order for one call a step. (Where $\alpha$ or $\sigma$ is 0, $\lambda$ is infinite, and no line can be drawn; there the library takes DDIM's step.)


# %%
def dpm_solver(v, x, times, p):
    before = None
    for t, s in pairwise(times):
        velocity, (a, b), (a2, b2) = v(t, x), p.at(t)[:2], p.at(s)[:2]
        x1, eps = velocity_to_x1(p, t.item(), x, velocity), velocity_to_epsilon(p, t.item(), x, velocity)
        lam, lam_next = (a / b).log(), (a2 / b2).log()
        ahead = 0 if before is None else (lam_next - lam) / (2 * (lam - before[1])) * (x1 - before[0])
        x = a2 * (x1 + ahead) + b2 * (eps - a / b * ahead)
        before = x1, lam
    return x


# %% jupyter={"source_hidden": true} tags=["hide-input"]
four = {"rectified flow": path, "VP-cosine": vp_cosine_path(), "VP-linear": vp_linear_path(), "VE": ve}
x1 = mixture.sample(200)
orders, first_orders, gaps, forgot = [], [], [], []
times = torch.linspace(0.05, 0.95, 13).double()
for p in four.values():
    v = lambda t, x, p=p: mixture.velocity(p, t, x)
    x = p.sample_xt(0.05, torch.randn_like(x1), x1)  # λ can be infinite at the ends
    end = rk4_sampler(v, x, steps=250, t_start=0.05, t_end=0.95)
    off = lambda solver, n: (solver(v, x, steps=n, path=p, t_start=0.05, t_end=0.95) - end).norm(dim=1).median().item()
    orders.append(math.log2(off(dpm_solver_sampler, 48) / off(dpm_solver_sampler, 192)) / 2)
    first_orders.append(math.log2(off(ddim_sampler, 48) / off(ddim_sampler, 192)) / 2)
    library, ddim = (f(v, x, steps=12, path=p, t_start=0.05, t_end=0.95) for f in (dpm_solver_sampler, ddim_sampler))
    gaps.append((dpm_solver(v, x, times, p) - library).abs().max()), forgot.append((ddim - library).abs().max())
verify("this loop is the library's `dpm_solver_sampler`, on the four paths", torch.stack(gaps), 0.0, limit=1e-5, wrong={"without what came before: DDIM": torch.stack(forgot)})  # fmt: skip
verify("its order on the four paths, from t = 0.05 to 0.95", torch.tensor(orders), 2.0, limit=0.4, wrong={"DDIM": torch.tensor(first_orders)})  # fmt: skip


def ddim_gain(data, p=four["VP-linear"]):
    v = lambda t, x: data.velocity(p, t, x)
    end = rk4_sampler(v, noise, steps=250)
    off = lambda x: (x - end).norm(dim=1).median().item()
    return off(ddim_sampler(v, noise, steps=8, path=p)) / off(euler_sampler(v, noise, steps=8))


verify("narrow clumps, VP-linear, 8 steps: DDIM's error, divided by Euler's", ddim_gain(narrow), at_most=0.7, wrong={"the wide clumps": ddim_gain(mixture)})  # fmt: skip
v = lambda t, x: mixture.velocity(ve, t, x)
end = rk4_sampler(v, 50 * noise, steps=250)
off = lambda x: (x - end).norm(dim=1).median().item()
edm_heun = off(heun_sampler(in_sigma, 50 * noise, steps=5, grid=levels))  # EDM's own: in σ, on its levels
verify("VE, 10 calls: error of DPM-Solver++, divided by that of EDM's Heun in σ", off(dpm_solver_sampler(v, 50 * noise, steps=10, path=ve)) / edm_heun, at_most=0.35, wrong={"of Euler in t": off(euler_sampler(v, 50 * noise, steps=10)) / edm_heun})  # fmt: skip

# %% [markdown]
# | sampler | idea in one line | order, calls a step | source |
# |---|---|---|---|
# | DDIM | hold $\hat x_1$ and $\hat\epsilon$ fixed | 1, one | Song et al. 2020, arXiv 2010.02502 |
# | DPM-Solver++(2M) | extrapolate $\hat x_1$ from the step before | 2, one | Lu et al. 2022, arXiv 2211.01095 |
# | UniPC | use the call at the end of a step to correct that step as well: one order more, no extra call | up to 3 or more, one | Zhao et al. 2023, arXiv 2302.04867 |
# | EDM's Heun with *churn* | Heun in $\sigma$; before each step add a little fresh noise, which corrects earlier errors | 2 without churn, two | Karras et al. 2022, arXiv 2206.00364, algorithm 2 |
#
# ## Why SD3 and FLUX sample with Euler
#
# After all this, SD3 and FLUX use the simplest solver. There are reasons. On rectified flow Euler *is* DDIM. With one call a step any number of calls is possible (with guidance, lesson 08, a step of SD3 costs two). Nobody compares a picture with the exact end of its trajectory; the network's own error is there anyway. And SD3's shift was not chosen for the solver, but for large pictures (lesson 10). SD3 as diffusers runs it by default is one line here, with the guided field as `model`; `scheduler_grid` is `shift_grid` with their short last step:
#
# `euler_sampler(model, noise, steps=28, grid=scheduler_grid(3.0))`
#
# The fight of today is about 1 to 4 steps. No solver wins it; lesson 07 changes the *model*.
#
# ## Let the solver choose: dopri5
#
# An **adaptive** solver, such as dopri5 of Dormand and Prince, takes two estimates of different order in every step. Where they differ by more than a tolerance, it tries a shorter step. You name the tolerance; the calls follow. Two traps. The tolerance is for *one step*: the error at the end can be larger. And in torchdiffeq the error estimate of a step is the root mean square over the *whole batch*. Among 10,000 samples the error of one counts $\sqrt{10{,}000} = 100$ times less, so the step stays far too long for it.


# %%
def spin(t, x):  # each row turns at its own speed, which is its third coordinate
    return torch.stack([-x[:, 2] * x[:, 1], x[:, 2] * x[:, 0], 0 * x[:, 0]], dim=1)


hard = torch.tensor([[1.0, 0.0, 40.0]]).double()
crowd = torch.cat([hard, torch.tensor([[1.0, 0.0, 0.5]]).double().expand(9999, 3)])
goal = torch.tensor([math.cos(40.0), math.sin(40.0), 40.0]).double()
miss = lambda x: (dopri5_sampler(spin, x, rtol=1e-3, atol=1e-3)[0] - goal).norm().item()
verify("the hard sample alone: its error at tolerance 1e-3", miss(hard), at_most=0.2, wrong={"among 9,999 easy ones": miss(crowd)})  # fmt: skip

# %% [markdown]
# ## Traps
#
# - **Counting steps, not calls.** RK4 with 25 steps costs as much as Euler with 100.
# - **A better solver for a poor network.** It converges faster to the wrong place.
# - **Copying a grid from another path.** Measure on yours.
# - **A tolerance is no promise** for the end, and least of all for one hard sample of a batch.
#
# ## Your turn
#
# Replace `return None` by your answer and run the cell. Any right answer is accepted; a wrong one is told what is wrong.
#
# **1. Write Heun (screen, 5 minutes).** One step from `t` to `t_next`, both numbers. `model(t, x)` takes a number as time here.


# %%
def heun_step(model, t, t_next, x):
    return None


check("heun", heun_step)

# %% [markdown]
# <details><summary>Hint</summary>
#
# An Euler step guesses the end. Average the slopes at both ends.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def heun_step(model, t, t_next, x):
#     dt = t_next - t
#     v1 = model(t, x)
#     v2 = model(t_next, x + dt * v1)
#     return x + dt * (v1 + v2) / 2
# ```
#
# </details>
#
# **2. Write a sampler (screen, 5 minutes).** Integrate from $t = 0$ to $t = 1$ with `steps` equal Euler steps, and return the end. `model(t, x)` takes a number as time here.


# %%
def my_sampler(model, x0, steps):
    return None


check("euler_sampler", my_sampler)

# %% [markdown]
# <details><summary>Hint</summary>
#
# `steps` steps have `steps + 1` times. The last call is at `1 - 1 / steps`.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def my_sampler(model, x0, steps):
#     x = x0
#     for i in range(steps):
#         x = x + model(i / steps, x) / steps
#     return x
# ```
#
# </details>
#
# ## Interview walkthrough
#
# Say your answer aloud before you open a card. Each has the 30-second answer, the usual mistake, and the section that proves it.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
interview_cards("orders", "heun-write", "error-budget", "adaptive", "ddim")

# %% [markdown]
# ## You can now …
#
# 1. write and draw one step of the four solvers: one, two, two and four calls, orders 1, 2, 2 and 4;
# 2. measure an order: double precision, coupled particles, the median;
# 3. choose by calls: here two-call solvers with 8 and RK4 with 32; and put the times where path, clock and solver want them;
# 4. say what DDIM holds fixed, what DPM-Solver++ adds, and why Euler serves rectified flow.
#
# Next: [06 · Score, ε, x₁, velocity](06_conversions.ipynb). Four names for one piece of knowledge.
#
# ## Further: when an error plot lies
#
# <details><summary>The mean, too few digits, and a metric that cannot see</summary>
#
# **The mean.** Some particles start next to a *separatrix*, the border between two clumps. A tiny error sends them to the other clump, and they count with the size of the picture until the step is small enough for them too. The root mean square is made of them.
#
# **Too few digits.** In single precision the error first falls, then *rises*: each step adds a rounding error.
#
# **A metric that cannot see.** A distance between *distributions* soon stops at the value that exact samples have. The error of coupled particles, same noise and exact end known, keeps falling.
#
# </details>

# %% jupyter={"source_hidden": true} tags=["hide-input"]
sizes, few = [32, 128, 512], noise[:100]
fine = rk4_sampler(u, few, steps=600)
rounded = {d: [(rk4_sampler(u, few.to(d), steps=n).double() - fine).norm(dim=1).median().item() for n in sizes] for d in (torch.float32, torch.float64)}  # fmt: skip
verify("RK4's error at 512 steps, divided by its best so far, in single precision", rounded[torch.float32][-1] / min(rounded[torch.float32][:-1]), at_least=1.05, wrong={"in double precision": rounded[torch.float64][-1] / min(rounded[torch.float64][:-1])})  # fmt: skip
real, ends = mixture.sample(400), [euler_sampler(u, noise, steps=n) for n in (64, 128)]
seen = lambda x: sliced_w2(x, real)
verify(f"sliced W2 to data, Euler with 64 steps over exact ones (coupled error, 128 steps over 64: {(errors['Euler'][5].median() / errors['Euler'][4].median()).item():.2f})", seen(ends[0]) / seen(exact), 1.0, limit=0.2, wrong={"Euler with 2 steps": seen(euler_sampler(u, noise, steps=2)) / seen(exact)})  # fmt: skip

# %% [markdown]
# ## References
#
# - E. Hairer, S. Nørsett, G. Wanner, *Solving Ordinary Differential Equations I*, sections II.1–II.5.
# - T. Karras et al., *EDM*, 2022, arXiv 2206.00364: equation 5, algorithms 1 and 2.
# - J. Song, C. Meng, S. Ermon, *DDIM*, 2020, arXiv 2010.02502: equation 12. C. Lu et al., *DPM-Solver++*, 2022, arXiv 2211.01095: algorithm 2.
# - P. Esser et al., 2024, arXiv 2403.03206: equation 23, the shift. R. Chen, *torchdiffeq*: dopri5.
