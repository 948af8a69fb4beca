# %% [markdown]
# # 01 · The continuity equation
#
# One equation decides whether a velocity field carries noise to data. Here it is checked to thirteen digits, and broken on purpose.
#
# **You will be able to**
#
# 1. derive the continuity equation from "mass is neither made nor lost", and check it for a given field;
# 2. compute the likelihood of a sample from the divergence along its way;
# 3. say which changes of $u_t$ keep the densities $p_t$ and which do not – the usual answer is wrong;
# 4. write a diffusion SDE with the same $p_t$, with the right sign.
#
# *Before:* lesson 00; partial derivatives and the divergence. *Time:* 30 minutes to read, about 30 seconds to run; 15 more for 2 exercises and 5 cards. Begin with *Run ▸ Run All Cells*: until its cell has run, a player is a still picture.

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
mixture = three_gaussians()  # the data: its p_t, u_t and score are known exactly


def u(t, x):
    """The marginal velocity u_t(x)."""
    return mixture.velocity(path, t, x)


def turned_score(t, x):
    """J grad log p_t(x): the score, turned by 90 degrees. Its role is explained below."""
    score = mixture.score(path, t, x)
    return torch.stack([-score[:, 1], score[:, 0]], dim=1)


def u_whirling(t, x):
    return u(t, x) + turned_score(t, x)


# %% [markdown]
# ## Two flows, the same densities
#
# Play it. The shade is the density $p_t$, the points follow the arrows. The player opens on the field $u$; when you have seen it, choose "u + turned score". The **score** is $\nabla\log p_t$, the direction in which the density grows fastest; turned by 90° it runs around the clumps. The points whirl, and end somewhere else – yet at every $t$ the *cloud* is the same. By the end of this lesson you can say why, and which other fields would do.

# %%
LIMITS = (-3.6, 3.6, -3.2, 3.6)
x0 = torch.randn(4000, 2, dtype=torch.float64)
fields = {"u": u, "u + turned score": u_whirling}
states = {name: rk4_sampler(v, x0, steps=100, return_trajectory=True) for name, v in fields.items()}

times = torch.linspace(0, 1, 11)
density = density_frames(lambda t, x: mixture.log_prob(path, t, x), LIMITS, times)
choices = [
    Panel(states[name][::2, :700], density=density, field=field_frames(v, LIMITS, times, 12), trails=6, choice=name)
    for name, v in fields.items()
]
player = FlowPlayer(
    torch.linspace(0, 1, 51),
    choices,
    limits=LIMITS,
    t=0.6,
    choice_label="field",
    alt="Points flow from one round cloud into three clumps. With the turned score added they whirl, but at each time the cloud has the same shape.",
)
player

# %% [markdown]
# ## Mass in a box
#
# The idea: particles do not appear and do not vanish. So the share of particles in a box can change only through its walls.
#
# $$ \frac{d}{dt}\int_{\text{box}} p_t\,dx \;=\; -\oint_{\text{walls}} p_t\,u_t \cdot n \,dS $$
#
# In a short time $dt$ a wall element $dS$ is crossed by the particles within the distance $u_t\cdot n\,dt$ of it. Their mass is $p_t\,u_t\cdot n\,dt\,dS$. $p_t u_t$ is called the **flux**; $n$ points outwards. Nothing else has been assumed.
#
# Below both sides are integrated over $t$. The left side is counted with particles. The right side uses the exact formulas of $p_t$ and $u_t$, which are known for these data.
#
# Two habits of these lessons. A difference is divided by its standard error; the result is called $z$, and for a true statement $|z|$ is seldom above 3. And beside a check stands its **wrong twin**: the same computation with one mistake made on purpose, which must fail.

# %%
BOX = (-1.0, 1.0, 0.5, 2.5)
left, right, bottom, top = BOX
grid = torch.linspace(0, 1, 201, dtype=torch.float64)


def outflow(t):
    """The flux through the four walls, by the trapezoidal rule."""
    xs, ys = left + (right - left) * grid, bottom + (top - bottom) * grid
    walls = [
        (torch.stack([xs, torch.full_like(xs, top)], 1), (0, 1), right - left),
        (torch.stack([xs, torch.full_like(xs, bottom)], 1), (0, -1), right - left),
        (torch.stack([torch.full_like(ys, right), ys], 1), (1, 0), top - bottom),
        (torch.stack([torch.full_like(ys, left), ys], 1), (-1, 0), top - bottom),
    ]
    total = 0.0
    for x, normal, length in walls:
        flux = mixture.log_prob(path, t, x).exp() * (u(t, x) @ torch.tensor(normal, dtype=torch.float64))
        total += torch.trapezoid(flux, grid).item() * length
    return total


inside = lambda x: (x[..., 0] > left) & (x[..., 0] < right) & (x[..., 1] > bottom) & (x[..., 1] < top)
share = inside(states["u"]).double().mean(dim=1)  # of 4,000 particles, at 101 times
rate = torch.tensor([-outflow(t) for t in torch.linspace(0, 1, 101).tolist()])
predicted = share[0] + torch.cumulative_trapezoid(rate, dx=0.01)

# %% [markdown]
# > **Predict, then run (1).** The box holds one of the three clumps, with weight 0.5. Does the share inside rise all the time? And if the sign of the flux is wrong, how far off is the end?

# %%
fig, (axis,) = panels(1, 2.4)
axis.plot(torch.linspace(0, 1, 101), share, color=COLORS["model"], linewidth=4, alpha=0.5)
axis.plot(torch.linspace(0.01, 1, 100), predicted, color=COLORS["exact"], linewidth=1.2)
axis.set(xlabel="t", ylabel="share in the box", ylim=(0, None))
axis.text(0.62, 0.1, "wide: counted particles\nthin: integrated flux", fontsize=9)
show(
    fig,
    "The share of particles in the box over t. The counted curve and the one from the integrated flux lie on each other.",
)

standard_error = math.sqrt(0.5 * 0.5 / 4000)
z = (share[-1] - predicted[-1]).item() / standard_error
wrong = share[0] - torch.cumulative_trapezoid(rate, dx=0.01)
z_wrong = (share[-1] - wrong[-1]).item() / standard_error
print(f"at t = 1: counted {share[-1]:.4f} ± {standard_error:.4f}, from the flux {predicted[-1]:.4f}, z = {z:.1f}")
print(f"with the sign of the flux flipped: {wrong[-1]:.4f}, z = {z_wrong:.0f}")
assert abs(z) < 4.5 and abs(z_wrong) > 20

# %% [markdown]
# No: it rises while the clump gathers. It falls a little at the end: the clump still moves up, and its upper edge leaves the box through the top wall. With the wrong sign the share ends below zero.
#
# ## From the box to a point
#
# Gauss's theorem turns the wall integral into $\int_{\text{box}} \nabla\cdot(p_t u_t)\,dx$. The box is arbitrary, so the integrands agree at every point:
#
# $$ \boxed{\;\partial_t p_t + \nabla \cdot (p_t\, u_t) = 0\;} $$
#
# **If a (smooth) field satisfies this, and particles start as $p_0$, they are distributed as $p_t$ at every $t$.** That is all that flow matching needs from $u_t$. (Why this direction too? By the box argument the density of the moving particles satisfies the equation. For a smooth field the equation with the start $p_0$ has only one solution. So that density is $p_t$.)
#
# To check it we use the product rule $\nabla\cdot(p\,u) = p\,\nabla\cdot u + u\cdot\nabla p$ and divide by $p_t$, so that thin regions count as much as dense ones: $\partial_t \log p_t + \nabla\cdot u_t + u_t\cdot\nabla\log p_t = 0$. Autograd gives each term.


# %%
def residual(v, t, x, path=path):
    """(d p / dt + div(p v)) / p at the points x [B, 2] and times t [B]."""
    t, x = t.clone().requires_grad_(), x.clone().requires_grad_()
    dt, score = torch.autograd.grad(mixture.log_prob(path, t, x).sum(), (t, x))
    velocity = v(t, x)
    divergence = sum(torch.autograd.grad(velocity[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(2))
    return (dt + divergence + (velocity * score).sum(dim=1)).detach()


def random_points(n, path=path):
    t = 0.01 + 0.98 * torch.rand(n, dtype=torch.float64)
    x1 = mixture.sample(n)
    return t, path.sample_xt(t, torch.randn_like(x1), x1)


for p in (rectified_flow_path(), vp_cosine_path(), vp_linear_path(), ve_path()):
    t, x = random_points(4000, p)
    exact = residual(lambda t, x, p=p: mixture.velocity(p, t, x), t, x, p)
    flipped = residual(lambda t, x, p=p: -mixture.velocity(p, t, x), t, x, p)
    scale = flipped.abs().max()
    print(f"{p.name:16} largest residual {exact.abs().max():.0e}    with the sign of u flipped {scale:.0f}")
    assert exact.abs().max() < 1e-11 and flipped.abs().median() > 0.1

# %% [markdown]
# Zero to rounding, on all four paths $(\alpha_t, \sigma_t)$ of lesson 03. Derivatives by **finite differences** tell the same in another way: the error of central differences falls as $h^2$, so a right equation has a residual that falls with slope 2. That of a wrong one tends to a value that is not zero.

# %%
t, x = random_points(2000)
t = 0.05 + 0.9 * t  # room for t - h and t + h
e = torch.eye(2, dtype=torch.float64)
constant = lambda t, x: u(t, x) + e[0]


def difference_residual(v, h):
    """d p / dt + div(p v) by central differences of step h."""
    p = lambda t, x: mixture.log_prob(path, t, x).exp()
    flux = lambda x, i: p(t, x) * v(t, x)[:, i]
    change = (p(t + h, x) - p(t - h, x)) / (2 * h)
    return change + sum((flux(x + h * e[i], i) - flux(x - h * e[i], i)) / (2 * h) for i in range(2))


steps = [0.008, 0.004, 0.002, 0.001]
sizes = {
    name: [difference_residual(v, h).abs().median().item() for h in steps]
    for name, v in {"u": u, "u + (1, 0)": constant}.items()
}
order = {name: math.log(r[0] / r[-1]) / math.log(steps[0] / steps[-1]) for name, r in sizes.items()}
for i, h in enumerate(steps):
    print(f"h = {h:.3f}   median residual with u {sizes['u'][i]:.1e}   with u + (1, 0) {sizes['u + (1, 0)'][i]:.1e}")
print(f"measured order {order['u']:.2f} for u, {order['u + (1, 0)']:.2f} for u + (1, 0)")
assert abs(order["u"] - 2) < 0.1 and abs(order["u + (1, 0)"]) < 0.1

# %% [markdown]
# ## The field is not unique
#
# Suppose you add a field $w$ to $u_t$. The equation still holds if and only if
#
# $$ \nabla\cdot(p_t\, w) = 0 . $$
#
# The interview sheet says: any *divergence-free* $w$ will do. **That is wrong.** It is the flux $p_t w$ that must be divergence-free, not $w$.
#
# > **Predict, then run (2).** Three candidates: a constant drift $(1, 0)$; the rotation about the origin $Jx$ ($J$ turns a vector by 90°); the turned score $J\nabla\log p_t$. The first two are divergence-free. Which ones keep $p_t$?


# %%
def spin(t, x):
    return torch.stack([-x[:, 1], x[:, 0]], dim=1)


candidates = {
    "u alone": u,
    "u + constant (1, 0)": constant,
    "u + J x": lambda t, x: u(t, x) + spin(t, x),
    "u + J score": u_whirling,
}
t, x = random_points(4000)
real = mixture.sample(4000)
ed_floor = sampling_floor(energy_distance, mixture.sample, 4000)
print(f"{'field':22}{'largest residual':>18}{'energy distance':>18}{'transport cost':>16}")
summary = {}
for name, v in candidates.items():
    ends = rk4_sampler(v, x0, steps=100)
    summary[name] = (residual(v, t, x).abs().max().item(), energy_distance(ends, real), transport_cost(x0, ends))
    print(f"{name:22}{summary[name][0]:18.1e}{summary[name][1]:18.4f}{summary[name][2]:16.2f}")
print(f"sampling floor: {ed_floor}; all rows share the same noise and data")

moved = (states["u"][-1] - states["u + turned score"][-1]).square().sum(1).mean().sqrt()
print(f"the turned score moves the end points by {moved:.2f} (root mean square), and keeps their distribution")
assert summary["u + J score"][0] < 1e-9 < 1 < min(summary["u + constant (1, 0)"][0], summary["u + J x"][0])
assert abs(summary["u + J score"][1]) < 0.01 < min(summary["u + constant (1, 0)"][1], summary["u + J x"][1])
assert summary["u + J score"][2] > 1.5 * summary["u alone"][2]

# %% [markdown]
# Transport cost is $\mathbb E\|x_1 - x_0\|^2$, the mean squared distance from start to end. The first and the last row share one draw of noise and data, so they share its luck, here a little above the floor: compare them with each other. The residual is the sharp test.
#
# The turned score runs along the level lines of $p_t$: it stirs the mass where it is, and moves none from thick to thin. In formulas $\nabla\cdot(p\,J\nabla\log p) = \nabla\cdot(J\nabla p) = 0$. The whirl costs transport.
#
# Which of all these fields does the least work? Call $\mathbb E\|v\|^2$ the kinetic energy, and $w$ *admissible* if $\nabla\cdot(p_t w) = 0$. If $u = \nabla\phi$ is a gradient, then $\mathbb E[\nabla\phi\cdot w] = \int p\,\nabla\phi\cdot w = -\int\phi\,\nabla\cdot(p\,w) = 0$, so $\mathbb E\|u + w\|^2 = \mathbb E\|u\|^2 + \mathbb E\|w\|^2$: every $w$ costs energy. With independent Gaussian noise $u_t = a_t x + b_t\nabla\log p_t$ (lesson 06), the gradient of $\phi = \tfrac12 a_t\|x\|^2 + b_t\log p_t$. It is still not optimal transport from $p_0$ to $p_1$: that would also choose the densities in between.
#

# %%
t, x = random_points(40_000)
energy = {name: estimate(v(t, x).square().sum(dim=1)) for name, v in fields.items()}
cross = estimate((u(t, x) * turned_score(t, x)).sum(dim=1))
cross_wrong = estimate((u(t, x) * mixture.score(path, t, x)).sum(dim=1))
for name, value in energy.items():
    print(f"kinetic energy E |v|^2 of {name:14} {value}")
print(f"E[u . J score] = {cross};  for the score itself, which is not admissible, E[u . score] = {cross_wrong}")
assert abs(cross.mean) < 4.5 * cross.std_error and abs(cross_wrong.mean) > 4.5 * cross_wrong.std_error

# %% [markdown]
# Where does each candidate go wrong? The map of $\partial_t p + \nabla\cdot(p v)$ at $t = 0.7$; the colours end at ±0.25:

# %%
cells = 70
points = torch.stack(
    torch.meshgrid(torch.linspace(-3.5, 3.5, cells), torch.linspace(-3.2, 3.5, cells), indexing="xy"), dim=-1
).reshape(-1, 2).double()  # fmt: skip
at = torch.full((len(points),), 0.7, dtype=torch.float64)
density_at = mixture.log_prob(path, 0.7, points).exp()
fig, axes = panels(4, 2.0)
for ax, (name, v) in zip(axes, candidates.items(), strict=True):
    values = (residual(v, at, points) * density_at).reshape(cells, cells)
    ax.imshow(values, origin="lower", cmap="RdBu", vmin=-0.25, vmax=0.25, extent=(-3.5, 3.5, -3.2, 3.5))
    ax.set_title(name, fontsize=9)
    plots.bare(ax)
show(
    fig,
    "Maps of the residual. White everywhere for u and for u plus the turned score; red and blue lobes around the three clumps for the constant drift and for the rotation J x.",
)

# %% [markdown]
# ## Likelihood: the density along one way
#
# Follow one particle. Along its way the log-density changes only by the divergence:
#
# $$ \frac{d}{dt} \log p_t(x_t) = \partial_t \log p_t + u_t\cdot\nabla\log p_t = -\nabla\cdot u_t(x_t). $$
#
# This is the **instantaneous change of variables** (Chen et al. 2018, Theorem 1). Integrate it beside the particle, and a flow gives the exact likelihood of its samples: $\log p_1(x_1) = \log p_0(x_0) - \int_0^1 \nabla\cdot u_t\,dt$. The change $\log p_1(x_1) - \log p_0(x_0)$ is also $-\log|\det \partial x_1/\partial x_0|$, the volume change of the flow map. For a given data point, integrate backwards from it.


# %%
def divergence(v, t, x, probe=None):
    """The exact trace of the Jacobian, or Hutchinson's estimate probe^T J probe (probe = +1 or -1 in each entry)."""
    x = x.clone().requires_grad_()
    velocity = v(t, x)
    if probe is not None:
        return (torch.autograd.grad((velocity * probe).sum(), x)[0] * probe).sum(dim=1)
    return sum(torch.autograd.grad(velocity[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(2))


def log_likelihood(v, x0, steps=80, probe=None):
    """End points and log p_1 there, by RK4 on the pair (x, log p)."""

    def pair(t, state):
        with torch.enable_grad():
            change = -divergence(v, t, state[:, :2], probe).detach()
        return torch.cat([v(t, state[:, :2]).detach(), change[:, None]], dim=1)

    log_p0 = -0.5 * x0.square().sum(dim=1) - math.log(2 * math.pi)
    end = rk4_sampler(pair, torch.cat([x0, log_p0[:, None]], dim=1), steps=steps)
    return end[:, :2], end[:, 2]


start = torch.randn(300, 2, dtype=torch.float64)
x1, log_p1 = log_likelihood(u, start)
truth = mixture.log_prob(path, 1.0, x1)
error = (log_p1 - truth).abs()
print(f"log p_1: median error {error.median():.1e}, largest {error.max():.1e}, of values around {truth.median():.1f}")
log_p0 = -0.5 * start.square().sum(dim=1) - math.log(2 * math.pi)
print(f"wrong twin, the divergence forgotten: median error {(log_p0 - truth).abs().median():.2f}")
assert error.median() < 1e-5 and (log_p0 - truth).abs().median() > 0.5

flow = lambda x: rk4_sampler(u, x, steps=80)
h = 1e-5
jacobian = torch.stack([(flow(start + h * e[i]) - flow(start - h * e[i])) / (2 * h) for i in range(2)], dim=2)
volume = torch.linalg.slogdet(jacobian).logabsdet
change = log_p1 - log_p0
print(
    f"log |det dx_1/dx_0| against the integrated divergence: median difference {(volume + change).abs().median():.1e}"
)
assert (volume + change).abs().median() < 1e-4 < 0.1 < (volume - change).abs().median()

# %% [markdown]
# The divergence is the trace of the Jacobian $A = \partial u/\partial x$. In 2 dimensions it costs two extra derivatives, in a million dimensions a million. **Hutchinson's estimate** $\epsilon^\top A\,\epsilon$, with independent random signs $\epsilon_i = \pm 1$, costs one. It is unbiased: $\mathbb E[\epsilon_i\epsilon_j]$ is 1 for $i = j$ and 0 otherwise, so on average only the diagonal of $A$ is left. One $\epsilon$ is kept along a whole way. A single likelihood becomes noisy, an average over many samples does not suffer much.


# %%
def random_signs():
    return (torch.randint(0, 2, start.shape) * 2 - 1).double()


noisy = torch.stack([log_likelihood(u, start, steps=20, probe=random_signs())[1] for _ in range(12)])
exact20 = log_likelihood(u, start, steps=20)[1]
too_small = [log_likelihood(u, start, steps=20, probe=2 * torch.rand_like(start) - 1)[1] for _ in range(12)]
wrong = estimate((torch.stack(too_small) - exact20).mean(dim=1))
per_repeat = estimate((noisy - exact20).mean(dim=1))
print(f"one sample: standard deviation {noisy.std(dim=0).mean():.2f} nats")
print(f"mean over 300 samples: difference to the exact trace {per_repeat}")
print(f"wrong twin, entries uniform in [-1, 1] (mean square 1/3): {wrong}")
assert abs(per_repeat.mean) < 4.5 * per_repeat.std_error and abs(wrong.mean) > 4.5 * wrong.std_error

# %% [markdown]
# ## The same densities with noise: diffusion
#
# Add a little Gaussian noise in every small step, of variance $g^2 dt$ – written $g\,dW$ –, and correct the drift for it:
#
# $$ dx = \bigl[u_t(x) + \tfrac12 g^2 \nabla\log p_t(x)\bigr]dt + g\,dW . $$
#
# For **any** $g(t) \ge 0$ the densities are the same $p_t$. Noise spreads a density as heat spreads: steps of variance $g^2 dt$ add $\tfrac12 g^2\Delta p$ to $\partial_t p$, with $\Delta p = \nabla\cdot\nabla p$ (the heat equation; with a drift it is called the Fokker–Planck equation). The extra drift adds $-\nabla\cdot(p\,\tfrac12 g^2\nabla\log p) = -\tfrac12 g^2\Delta p$, because $p\,\nabla\log p = \nabla p$. They cancel. With $g = 0$ it is the ODE. The single ways are rough and different; the cloud is the same.


# %%
def sde(x, g, correction=0.5, steps=250):
    """Euler-Maruyama for dx = [u + correction g^2 score] dt + g dW."""
    dt = 1 / steps
    for i in range(steps):
        t = i * dt
        drift = u(t, x) + correction * g**2 * mixture.score(path, t, x)
        x = x + dt * drift + g * math.sqrt(dt) * torch.randn_like(x)
    return x


runs = {
    "ODE, g = 0": sde(x0, 0.0),
    "SDE, g = 1.5": sde(x0, 1.5),
    "wrong: noise, drift not corrected": sde(x0, 1.5, correction=0.0),
    "wrong: factor 1/2 dropped": sde(x0, 1.5, correction=1.0),
}
sde_distance = {name: energy_distance(x, real) for name, x in runs.items()}
for name, value in sde_distance.items():
    print(f"{name:36} energy distance {value:7.4f}")
print(f"sampling floor: {ed_floor}")
assert max(sde_distance["ODE, g = 0"], sde_distance["SDE, g = 1.5"]) < 0.01
assert min(list(sde_distance.values())[2:]) > 0.015

# %% [markdown]
# ## Trap: the sign of the probability-flow ODE
#
# Diffusion papers write the noising SDE in *noising time* $\tau = 1 - t$: $dx = f\,d\tau + g\,dW$, with a known drift $f$. The ODE with the same densities is called its **probability-flow ODE**. By the section above, leaving out the noise means subtracting its correction from the drift: $dx/d\tau = f - \tfrac12 g^2 \nabla\log p$. Our $t$ runs the other way, so **both terms change sign**:
#
# $$ u_t(x) = -f(x) + \tfrac12 g^2\,\nabla\log p_t(x). $$
#
# The interview sheet prints $f - \tfrac12 g^2\nabla\log p$ as the field to integrate from noise to data. We test both on the VP-linear path, where $f = -\tfrac12\beta x$, $g^2 = \beta$ and $\beta = 0.1 + 19.9\,\tau$.

# %%
vp = vp_linear_path()
beta = lambda t: (0.1 + 19.9 * (1 - torch.as_tensor(t, dtype=torch.float64))).reshape(-1, 1)
f = lambda t, x: -0.5 * beta(t) * x
half_g2_score = lambda t, x: 0.5 * beta(t) * mixture.score(vp, t, x)

t, x = random_points(2000, vp)
ours = (-f(t, x) + half_g2_score(t, x) - mixture.velocity(vp, t, x)).abs().max().item()
theirs = (f(t, x) - half_g2_score(t, x) - mixture.velocity(vp, t, x)).abs().max().item()
print(f"largest difference to the exact velocity:  -f + g^2 score / 2: {ours:.0e}    f - g^2 score / 2: {theirs:.0f}")

ends = {
    "-f + g^2 score / 2": euler_sampler(lambda t, x: -f(t, x) + half_g2_score(t, x), x0, steps=200),
    "f - g^2 score / 2": euler_sampler(lambda t, x: f(t, x) - half_g2_score(t, x), x0, steps=200),
    "nothing done": x0,
}
pf = {name: energy_distance(x, real) for name, x in ends.items()}
for name, value in pf.items():
    print(f"{name:20} energy distance {value:.3f}")
assert ours < 1e-9 and pf["-f + g^2 score / 2"] < 0.01
assert pf["f - g^2 score / 2"] > pf["nothing done"] > 0.1

# %% [markdown]
# Taken literally, the printed sign is worse than leaving the noise as it is.

# %% [markdown]
# ## Your turn
#
# Replace `return None` by your answer and run the cell. The checker tries random inputs and names the mistake that it recognises.

# %% [markdown]
# **1. Likelihood along a way (screen, 5 minutes).** Write the rate $\frac{d}{dt}\log p_t(x_t)$ along the way of a particle, given the Jacobians $\partial u_i / \partial x_j$ of the field at the particles: `jacobian` [B, d, d]. Return [B].


# %%
def log_density_rate(jacobian):
    return None


check("log_density_rate", log_density_rate)

# %% [markdown]
# <details><summary>Hint</summary>
#
# The divergence is the sum of $\partial u_i / \partial x_i$. What happens to the density where the field spreads particles out?
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def log_density_rate(jacobian):
#     return -jacobian.diagonal(dim1=1, dim2=2).sum(dim=1)
# ```
#
# </details>

# %% [markdown]
# **2. A field that changes nothing (on-site, 5 minutes).** Given points `x` [B, 2] and the score $\nabla\log p_t$ there, return a field [B, 2] that is not zero and can be added to $u_t$ without changing any $p_t$.


# %%
def swirl(x, score):
    return None


check("swirl", swirl)

# %% [markdown]
# <details><summary>Hint</summary>
#
# The flux $p\,w$ must be free of divergence. $p\,\nabla\log p = \nabla p$; turn it by 90 degrees.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def swirl(x, score):
#     return torch.stack([-score[:, 1], score[:, 0]], dim=1)
# ```
#
# </details>

# %% [markdown]
# ## Interview walkthrough
#
# Say your answer aloud before you open a card. Each has the 30-second answer, the usual mistake, and the section that proves it.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
interview_cards("continuity-meaning", "field-unique", "density-along-way", "pf-ode-sign", "pf-ode-derive")

# %% [markdown]
# ## You can now …
#
# 1. derive the equation on a whiteboard: mass in a box, flux through walls, Gauss, "for every box" – four lines;
# 2. get a likelihood: integrate $-\nabla\cdot u_t$ beside the particle, with the exact trace or Hutchinson's estimate;
# 3. answer "is $u_t$ unique?": no; add any $w$ with $\nabla\cdot(p_t w) = 0$, such as $J\nabla\log p_t$. Divergence-free $w$ is *not* enough: a constant drift moves everything;
# 4. write the SDE $dx = [u + \tfrac12 g^2 s]\,dt + g\,dW$, and $u = -f + \tfrac12 g^2 s$ in our time.
#
# ## References
#
# - Y. Lipman et al., *Flow Matching for Generative Modeling*, 2023, arXiv 2210.02747: section 2 and appendix A.
# - R. Chen et al., *Neural Ordinary Differential Equations*, 2018, arXiv 1806.07366: Theorem 1.
# - W. Grathwohl et al., *FFJORD*, 2019, arXiv 1810.01367: Hutchinson's estimate for flows.
# - Y. Song et al., *Score-Based Generative Modeling through SDEs*, 2021, arXiv 2011.13456: the probability-flow ODE, section 4.3.
# - M. Albergo, N. Boffi, E. Vanden-Eijnden, *Stochastic Interpolants*, 2023, arXiv 2303.08797: ODEs and SDEs with the same densities.
