# %% [markdown]
# # 05 · ODE solvers
#
# The field is learned; now it must be followed. How many steps, and which solver? Measured on a field that is known exactly.
#
# **You will be able to**
#
# 1. write Euler, midpoint, Heun and RK4, draw one step of each, and state their orders;
# 2. measure an order, and avoid the three ways in which such a plot lies;
# 3. choose a solver for a given number of model calls (NFE), a time grid, and tolerances;
# 4. say when a better solver no longer helps: below the error of the network.
#
# *Before:* lessons 00 and 03. *Time:* 25 minutes to read, about 45 seconds to run; 15 more for 2 exercises and 5 cards. Begin with *Run ▸ Run All Cells*: until its cell has run, a player is a still picture.

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
mixture = three_gaussians()


def u(t, x):
    """The exact marginal velocity of the rectified flow."""
    return mixture.velocity(path, t, x)


# %% [markdown]
# ## Steps you can drag
#
# Black: the exact trajectories. Green: what the solver makes of them in $N$ steps. Drag the second slider from 1 to 32 and change the solver. At how many steps do Euler's end points stop moving?

# %%
x0 = torch.randn(400, 2, dtype=torch.float64)
exact_ways = rk4_sampler(u, x0, steps=40, return_trajectory=True)
solvers = {"Euler": euler_sampler, "midpoint": midpoint_sampler, "Heun": heun_sampler, "RK4": rk4_sampler}
counts = [1, 2, 4, 8, 16, 32]
choices = [
    Panel(
        exact_ways,
        by_steps={n: solver(u, x0, steps=n, return_trajectory=True) for n in counts},
        trails=25,
        choice=name,
    )
    for name, solver in solvers.items()
]
player = FlowPlayer(
    torch.linspace(0, 1, 41),
    choices,
    limits=(-3.4, 3.4, -3.2, 3.4),
    steps=4,
    choice_label="solver",
    alt="Polylines of a solver over the exact curves. With one Euler step all points end in one place; with more steps the polylines approach the curves.",
)
player.selection = "Euler"
player

# %% [markdown]
# ## One step, as geometry
#
# A step goes from $t$ to $t + h$. Each solver asks the field for directions $k_1, k_2, \ldots$ and combines them. The first is always the one at the start, $k_1 = u(t, x)$.
#
# | solver | then it asks for | moves by | calls a step |
# |---|---|---|---|
# | Euler | nothing more | $h\,k_1$ | 1 |
# | midpoint | $k_2 = u(t + \frac h2,\; x + \frac h2 k_1)$, at the middle of Euler's step | $h\,k_2$ | 2 |
# | Heun | $k_2 = u(t + h,\; x + h\,k_1)$, at Euler's end | $\frac h2 (k_1 + k_2)$ | 2 |
# | RK4 | $k_2$ as midpoint; $k_3 = u(t + \frac h2,\; x + \frac h2 k_2)$, the middle again; $k_4 = u(t + h,\; x + h\,k_3)$, the end | $\frac h6 (k_1 + 2k_2 + 2k_3 + k_4)$ | 4 |

# %%
a, h = 0.35, 0.5
point = torch.tensor([[-1.3, 0.9]], dtype=torch.float64)
curve = rk4_sampler(u, point, steps=100, t_start=a, t_end=a + h, return_trajectory=True)[:, 0]
fig, axes = panels(4, 2.3, sharex=True, sharey=True)
for ax, (name, solver) in zip(axes, solvers.items(), strict=True):
    asked = []

    def watched(t, x):
        k = u(t, x)
        asked.append((x[0], k[0]))
        return k

    end = solver(watched, point, steps=1, t_start=a, t_end=a + h)[0]
    ax.plot(*curve.T, color=COLORS["exact"], linewidth=2.5)
    for place, k in asked:
        ax.annotate("", place + 0.18 * k, place, arrowprops={"arrowstyle": "->", "color": COLORS["other"]})
        ax.plot(*place, ".", color=COLORS["other"])
        ax.plot(*(place + 0.2 * k), ",", alpha=0)  # an arrow does not widen the axes, this does
    ax.plot(*torch.stack([point[0], end]).T, color=COLORS["model"], linewidth=1)
    ax.plot(*end, "o", color=COLORS["model"], markersize=5)
    ax.set_title(f"{name}: error {(end - curve[-1]).norm():.3f}", fontsize=9)
    ax.set_aspect("equal")
    plots.bare(ax)
show(
    fig,
    "One large step of each solver, in green, over the black exact curve, with purple arrows where the field was asked. Euler ends farthest from the end of the curve, RK4 nearest.",
)

# %% [markdown]
# ## The order
#
# A solver has **order** $p$ if, for small steps, halving the step divides the error at the end by about $2^p$. In a log-log plot against the number of steps that is a line of slope $-p$.
#
# > **Predict, then run (1).** Euler 1, RK4 4. Which slopes do midpoint and Heun have – both ask the field twice? And at the same number of *calls*, from where on is RK4 better than midpoint: 4 calls, 20, or 200?
#
# The error is measured against a very fine solution, particle by particle. We take the **median** over the particles; below you see why. ± is a 95 % bootstrap interval.

# %%
particles = torch.randn(400, 2, dtype=torch.float64)
reference = rk4_sampler(u, particles, steps=600)
steps = [4, 8, 16, 32, 64, 128]
calls = {"Euler": 1, "midpoint": 2, "Heun": 2, "RK4": 4}
ends = {name: [solver(u, particles, steps=n) for n in steps] for name, solver in solvers.items()}
errors = {name: torch.stack([(x - reference).norm(dim=1) for x in xs]) for name, xs in ends.items()}


def slope(errors, first=3):
    """Slope of the log-median against log-steps over the last points, with its bootstrap spread."""
    x = torch.tensor(steps[first:], dtype=torch.float64).log()

    def fit(e):
        y = e[first:].median(dim=1).values.log()
        return ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()

    draws = [fit(errors[:, torch.randint(0, errors.shape[1], (errors.shape[1],))]) for _ in range(60)]
    return fit(errors).item(), torch.stack(draws).std().item()


print(f"{'solver':10}{'slope, median (bootstrap 95 %)':>34}{'slope, root mean square':>26}")
for name, e in errors.items():
    value, spread = slope(e)
    rms = e.square().mean(1).sqrt()
    rms_slope = math.log(rms[3] / rms[-1]) / math.log(steps[3] / steps[-1])
    print(f"{name:10}{f'{value:.2f} ± {1.96 * spread:.2f}':>34}{rms_slope:26.2f}")
    expected = {"Euler": -1, "midpoint": -2, "Heun": -2, "RK4": -4}[name]
    assert abs(value - expected) < 0.3


def late_heun(steps):
    """A common bug: Heun whose second slope is taken at the old time."""
    x, h = particles, 1 / steps
    for i in range(steps):
        k1 = u(i * h, x)
        x = x + h / 2 * (k1 + u(i * h, x + h * k1))
    return x


broken = torch.stack([(late_heun(n) - reference).norm(dim=1) for n in steps])
print(f"wrong twin, Heun with its second slope at the old time: {slope(broken)[0]:.2f}")
assert abs(slope(broken)[0] + 2) > 0.5

budgets = (4, 8, 16, 20, 32, 64)
print("\nmedian error at equal calls\n" + f"{'calls':10}" + "".join(f"{n:>10}" for n in budgets))
equal = {}
for name, solver in solvers.items():
    xs = (solver(u, particles, steps=n // calls[name]) for n in budgets)
    equal[name] = dict(zip(budgets, [(x - reference).norm(dim=1).median().item() for x in xs], strict=True))
    print(f"{name:10}" + "".join(f"{e:10.5f}" for e in equal[name].values()))
assert all(1.2 * equal["midpoint"][n] < equal["RK4"][n] for n in (4, 8))
assert all(1.2 * equal["RK4"][n] < equal["midpoint"][n] for n in (32, 64))
assert 5 * equal["RK4"][16] < equal["Euler"][16]

# %%
fig, (left, right) = panels(2, 2.8, sharey=True)
looks = {"Euler": ("other", "o-"), "midpoint": ("third", "o-"), "Heun": ("third", "s--"), "RK4": ("model", "o-")}
for name, e in errors.items():
    median, (color, line) = e.median(1).values, looks[name]
    left.loglog(steps, median, line, markersize=4, color=COLORS[color])
    right.loglog(list(equal[name]), list(equal[name].values()), line, markersize=4, color=COLORS[color], label=name)
for order, height in ((1, 0.2), (2, 0.02), (4, 3e-5)):  # what a slope of exactly -1, -2, -4 looks like
    left.loglog([16, 64], [height, height / 4**order], color=COLORS["path"], linewidth=1)
    left.text(64, height / 4**order, f" {-order}", color="#666666", fontsize=9, va="center")
left.set(xlabel="steps", ylabel="median error")
right.set(xlabel="model calls (NFE)")
plots.plain_log(left.xaxis, steps), plots.plain_log(right.xaxis, list(budgets))
right.legend(fontsize=9, loc="lower left")
show(
    fig,
    "Median error against steps, with grey guides of slope -1, -2 and -4, and against model calls. Four straight lines against steps. Against calls midpoint is the lowest up to 16, RK4 from 20 on.",
)

# %% [markdown]
# Midpoint and Heun are both of order 2 (Heun's slope still creeps towards $-2$: the order is a statement about small steps). A higher order wins in the end, not at once. At equal calls midpoint has the smallest error up to 16 calls; only from 20 on is RK4 ahead. With few calls its steps are too long for its order to count.
#
# ## Three ways in which such a plot lies
#
# **1. The mean.** Some particles start next to a *separatrix*, the border between two clumps. A tiny error sends them to the other clump, and they count with an error of the size of the picture until the step is small enough for them too. The root mean square is made of them, and its slope need not be the order (last column above).
#
# **2. Too few digits.** In single precision the error first falls, then **rises**: each step adds a rounding error.

# %%
few = particles[:150]
truth = reference[:150]
sizes = [8, 16, 32, 64, 128, 256, 512]
rounding = {}
for dtype in (torch.float64, torch.float32):
    rounding[dtype] = [
        (rk4_sampler(u, few.to(dtype), steps=n).double() - truth).norm(dim=1).median().item() for n in sizes
    ]
print("RK4 steps   " + "".join(f"{n:>10}" for n in sizes))
for dtype, values in rounding.items():
    print(f"{str(dtype)[6:]:12}" + "".join(f"{v:10.0e}" for v in values))
best = min(rounding[torch.float32])
assert rounding[torch.float64][-2] < 1e-7 < best < rounding[torch.float32][-1]

# %% [markdown]
# **3. A metric that cannot see.** A distance between *distributions* soon stops at the value that exact samples have. The error of coupled particles (same noise, exact end point known) keeps falling.

# %%
real = mixture.sample(400)
floor = sampling_floor(sliced_w2, mixture.sample, 400)
print(f"{'Euler steps':>12}{'sliced W2 to data':>20}{'coupled median error':>24}")
for n, x, e in zip(steps, ends["Euler"], errors["Euler"], strict=True):
    print(f"{n:12}{sliced_w2(x, real):20.3f}{e.median():24.4f}")
print(f"{'exact':>12}{sliced_w2(reference, real):20.3f}{0.0:24.4f}")
print(f"sampling floor: {floor}")
last, exact_reading = sliced_w2(ends["Euler"][-1], real), sliced_w2(reference, real)
assert abs(last - exact_reading) < floor.scatter and errors["Euler"][-1].median() < 0.6 * errors["Euler"][-2].median()

# %% [markdown]
# ## Solver error against learning error
#
# A trained network is not the exact field. Following it more exactly brings you to the end of *its* flow, not of the true one. So against the truth the curves flatten where the network's own error begins.
#
# > **Predict, then run (2).** A network after 600 training steps. From how many NFE on does RK4 stop helping?

# %%
torch.manual_seed(1)
batches = SampledBatches(lambda n: mixture.sample(n).float(), batch=256, total=600)
_, net = train_flow_matching(VectorFieldMLP(2, 64), batches, path, total_steps=600, log_every=0)
start = particles.float()
own = rk4_sampler(net, start, steps=100)
budget = [4, 8, 16, 32, 64, 128]
print(f"{'NFE':>6}{'Euler, to its own flow':>26}{'to the truth':>14}{'RK4, to its own flow':>26}{'to the truth':>14}")
table = []
for nfe in budget:
    row = []
    for solver, per_step in ((euler_sampler, 1), (rk4_sampler, 4)):
        x = solver(net, start, steps=nfe // per_step)
        row += [(x - own).norm(dim=1).median().item(), (x.double() - reference).norm(dim=1).median().item()]
    table.append(row)
    print(f"{nfe:6}{row[0]:26.4f}{row[1]:14.4f}{row[2]:26.4f}{row[3]:14.4f}")
learning = (own.double() - reference).norm(dim=1).median().item()
print(f"the network's own error, with a perfect solver: {learning:.4f}")
assert table[-1][2] < 0.2 * learning and abs(table[-1][3] - learning) < 0.2 * learning

# %% [markdown]
# From 16 or 32 calls on RK4 gains nothing: the distance to the truth stays where the learning left it, although the distance to the network's own flow still falls. Then train longer, do not step finer.
#
# ## Adaptive solvers
#
# **dopri5** takes two estimates of different order, compares them, and chooses the step so that the difference stays below a tolerance. It controls the estimated error of *one step*, over the whole batch; the error at the end can be larger. The number of calls is the result. Where does it ask?


# %%
def asked_times(p, tolerance):
    """The times at which dopri5 calls the model, and its median error."""
    seen = []

    def watched(t, x):
        seen.append(t[0].item())
        return mixture.velocity(p, t, x)

    begin = p.prior_std * particles[:100]
    x = dopri5_sampler(watched, begin, rtol=tolerance, atol=tolerance)
    exact = rk4_sampler(lambda t, x: mixture.velocity(p, t, x), begin, steps=500)
    return seen, (x - exact).norm(dim=1).median().item()


fig, (axis,) = panels(1, 2.0)
names = {
    "rectified flow": rectified_flow_path(),
    "VP-cosine": vp_cosine_path(),
    "VP-linear": vp_linear_path(),
    "VE": ve_path(),
}
nfe = {}
for row, (name, p) in enumerate(names.items()):
    for tolerance in (1e-3, 1e-5):
        seen, error = asked_times(p, tolerance)
        nfe[name, tolerance] = len(seen)
        print(f"{name:16} tolerance {tolerance:.0e}: {len(seen):4} calls, median error {error:.0e}")
    axis.plot(seen, [row] * len(seen), "|", color=COLORS["model"], markersize=12)
axis.set(yticks=range(4), yticklabels=list(names), xlabel="t of each call (tolerance 1e-5)", ylim=(-0.6, 3.6))
axis.invert_yaxis()
show(
    fig,
    "Marks along t for each path where the adaptive solver asked the model. The marks are denser at the start and where the clumps separate; the pattern differs between the paths.",
)
assert all(nfe[name, 1e-5] > nfe[name, 1e-3] for name in names)

# %% [markdown]
# ## Time grids
#
# With few steps it matters where they are. Four grids of $n$ steps, for Heun on two paths. "cosine" has shorter steps at both ends. "shift" is SD3's: shorter steps near the noise. "EDM" is the grid of Karras et al.: the noise level $\sigma/\alpha$ falls from a largest to a smallest value so that its seventh root falls evenly. Here it falls from 49 to 0.011, which on the rectified flow is $t = 0.02$ to $t = 0.989$; the first and the last time are then moved to 0 and 1.
#
# EDM itself does one thing more: its clock is not $t$ but $\sigma$. On VE, $\frac{dx}{d\sigma} = \epsilon(x)$, since $x = x_1 + \sigma\,x_0$. So Heun's step is straight in $\sigma$. The last row takes Heun in $\sigma$ on the same noise levels.

# %%
grids = {"uniform": uniform_grid, "cosine": cosine_grid, "shift 3": shift_grid(3.0)}
ve, heun_error = ve_path(), {}
first, last = (ve.sigma(torch.tensor(t, dtype=torch.float64)).item() for t in (0.0, 1.0))


def epsilon_in_sigma(s, x):
    """dx/ds with s from 0 to 1 along sigma: the noise E[x_0 given x], times the whole change of sigma."""
    t = torch.log((first + s * (last - first)) / first) / math.log(last / first)
    return mixture.posterior_mean_x0(ve, t.clamp(0, 1), x) * (last - first)


def levels(n):
    """EDM's noise levels from the first to the last, as parts of the whole change."""
    sigma = (first ** (1 / 7) + uniform_grid(n) * (last ** (1 / 7) - first ** (1 / 7))) ** 7
    return ((sigma - first) / (last - first)).clamp(0, 1)


for name, p in (("rectified flow", path), ("VE", ve)):
    begin = p.prior_std * particles
    field = lambda t, x, p=p: mixture.velocity(p, t, x)
    exact = rk4_sampler(field, begin, steps=600)
    runs = {g: (field, grid) for g, grid in {**grids, "EDM's in t": edm_grid(p, 0.011, 49.0)}.items()}
    if p is ve:
        runs["EDM, in sigma"] = (epsilon_in_sigma, levels)
    print(f"{name}: median error of Heun with 5, 10, 20 steps")
    for grid_name, (v, grid) in runs.items():
        row = [(heun_sampler(v, begin, steps=n, grid=grid) - exact).norm(dim=1).median().item() for n in (5, 10, 20)]
        heun_error[name, grid_name] = row
        print(f"   {grid_name:15}" + "".join(f"{v:10.4f}" for v in row))
for k in range(3):
    assert 1.2 * heun_error["rectified flow", "uniform"][k] < min(
        heun_error["rectified flow", g][k] for g in ("cosine", "shift 3", "EDM's in t")
    )
assert 1.2 * heun_error["VE", "EDM, in sigma"][2] < heun_error["VE", "shift 3"][2] < heun_error["VE", "uniform"][2]

# %% [markdown]
# On the rectified flow the uniform grid wins at every count here. On VE in $t$ it is the worst with few steps, and the shift of 3 does best; EDM's whole recipe, the grid *and* the clock $\sigma$, beats them all from 10 steps on. So a grid belongs to a path and to a clock. Measure on yours.
#
# ## DDIM is a solver too
#
# DDIM (Song, Meng & Ermon 2020) is the usual deterministic sampler of diffusion models. From the model's output it computes the expected data $\hat x_1$ and the expected noise $\hat\epsilon$ (lesson 06 shows how), holds them fixed during a step, and moves along their curve: $x_{t+h} = \alpha_{t+h}\,\hat x_1 + \sigma_{t+h}\,\hat\epsilon$. On a curved path this is exact for a single data point, where Euler is not. So it should shine where the data look like single points from afar: narrow clumps. On wide ones it need not win. Below both: the three clumps of this lesson on VP-cosine, and the same clumps ten times narrower on VP-linear. On rectified flow the curve is a line, and DDIM *is* Euler.

# %%
narrow = GaussianMixture(mixture.means, mixture.stds / 10, mixture.weights)
cases = {"three clumps, VP-cosine": (mixture, vp_cosine_path()), "narrow clumps, VP-linear": (narrow, vp_linear_path())}
ddim = {}
for name, (data, p) in cases.items():
    v = lambda t, x, data=data, p=p: data.velocity(p, t, x)
    exact = rk4_sampler(v, particles, steps=800)
    print(f"{name}, median error\n{'steps':>6}{'Euler':>10}{'DDIM':>10}")
    for n in (4, 8, 16, 32):
        ends_of = (euler_sampler(v, particles, steps=n), ddim_sampler(v, particles, steps=n, path=p))
        ddim[name, n] = [(x - exact).norm(dim=1).median().item() for x in ends_of]
        print(f"{n:6}{ddim[name, n][0]:10.4f}{ddim[name, n][1]:10.4f}")
same = (ddim_sampler(u, particles, steps=8, path=path) - euler_sampler(u, particles, steps=8)).abs().max()
print(f"on rectified flow DDIM and Euler differ by {same:.0e}")
wide, thin = cases
assert same < 1e-12 and abs(math.log(ddim[wide, 16][1] / ddim[wide, 32][1], 2) - 1) < 0.4  # also of order 1
assert all(ddim[thin, n][1] < 0.7 * ddim[thin, n][0] for n in (4, 8)) and ddim[wide, 8][1] > ddim[wide, 8][0]

# %% [markdown]
# On the wide clumps Euler is ahead. On the narrow ones DDIM is, where it counts: with four and eight steps its error is a half and a third of Euler's. Near a narrow clump $\hat x_1$ hardly changes along a trajectory, so holding it fixed for a long step costs little. With 32 short steps Euler is ahead again.
#
# ## The cheat sheet, measured
#
# The fewest model calls for a median error below a limit, on the exact rectified flow of this lesson. The interview sheet's rules of thumb ("Euler at least 50 steps; RK4 with 10–20 steps like Euler with 100") are made for images, where we could not verify them; this field is smooth. To be right within 0.1 midpoint needs the fewest calls; at 0.01 all but Euler are level; at 0.001 RK4 is ahead. SD3 and FLUX sample with plain Euler: a picture does not need three digits, and a step that costs one call fits any budget.

# %%
limits = (0.1, 0.01, 0.001)
tried = [1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 25, 32, 40, 50, 64, 80, 100, 128]
few, truth = particles[:200], reference[:200]
need = {}
print(f"{'solver':12}" + "".join(f"{f'NFE for {x}':>16}" for x in limits))
for name, solver in solvers.items():
    medians = {}
    for n in tried:
        medians[n] = (solver(u, few, steps=n) - truth).norm(dim=1).median().item()
        if medians[n] < limits[-1]:
            break
    need[name] = [next((n * calls[name] for n, m in medians.items() if m < x), None) for x in limits]
    print(f"{name:12}" + "".join(f"{v or f'> {128 * calls[name]}':>16}" for v in need[name]))
rk4_10 = (rk4_sampler(u, few, steps=10) - truth).norm(dim=1).median().item()
euler_100 = (euler_sampler(u, few, steps=100) - truth).norm(dim=1).median().item()
print(f"RK4 with 10 steps: {rk4_10:.5f};  Euler with 100 steps: {euler_100:.5f}")
assert rk4_10 < 0.5 * euler_100

# %% [markdown]
# ## Traps
#
# - **Counting steps instead of calls.** RK4 with 25 steps costs as much as Euler with 100.
# - **Calling a slope from the root mean square an order.** Use the median.
# - **A better solver for a bad network.** It converges faster to the wrong place.
# - **Starting VE at $\mathcal N(0, I)$** (lesson 03).

# %% [markdown]
# ## Your turn
#
# Replace `return None` by your answer and run the cell. The checker tries random inputs and names the mistake that it recognises.

# %% [markdown]
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

# %% [markdown]
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

# %% [markdown]
# ## Interview walkthrough
#
# Say your answer aloud before you open a card. Each has the 30-second answer, the usual mistake, and the section that proves it.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
interview_cards("orders", "heun-write", "error-budget", "adaptive", "ddim")

# %% [markdown]
# ## You can now …
#
# 1. write the four solvers with one, two, two and four calls, of orders 1, 2, 2 and 4;
# 2. measure an order in double precision with coupled errors and medians;
# 3. pick by NFE: on a field as smooth as this one midpoint up to 16 calls and RK4 from 20 on, Euler where one digit is enough, dopri5 when you would rather name a tolerance;
# 4. tell solver error from learning error: compare with the network's own flow.
#
# ## References
#
# - E. Hairer, S. Nørsett, G. Wanner, *Solving Ordinary Differential Equations I*, sections II.1–II.5.
# - T. Karras et al., *EDM*, 2022, arXiv 2206.00364: equation 5, Heun for diffusion.
# - J. Song, C. Meng, S. Ermon, *DDIM*, 2020, arXiv 2010.02502. P. Esser et al., 2024, arXiv 2403.03206: equation 23.
# - R. Chen, *torchdiffeq*: dopri5.
