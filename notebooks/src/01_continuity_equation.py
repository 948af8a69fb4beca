# %% [markdown]
# # 01 · The continuity equation
#
# **A velocity field pushes a cloud of noise. When does the cloud become the data? And is there only one field that does it?**

# %% jupyter={"source_hidden": true} tags=["hide-input"]
import math

import torch

from fmlib import *
from fmlib.page import *
from fmlib.study import *

torch.set_num_threads(1)  # these tensors are tiny: a second thread costs more than it brings
torch.manual_seed(0)
plots.use_style()

BOX = [-1.0, 1.0, 0.5, 2.5]
IN_BOX = (
    "A cloud in grey on its way from noise to three clumps, and a square frame around one of them. Arrows on the four "
    "walls of the frame show how much mass flows through each place of the wall."
)
ADDED = "A cloud of particles over the grey density of three clumps, pushed by the field and by a second field."
BUNDLE = (
    "The density of data with two peaks over time, in grey. Trajectories run from left to right: they spread where the "
    "grey grows pale and come together where it grows dark."
)
NOISY = "Particles that jitter on their way from noise to three clumps, over the grey exact density."
TOUR = [
    {
        "caption": "Half of the way from noise to three clumps. The arrows on the frame show what flows through its walls. "
        "Read the line below: what the box gains, and what comes in. Drag the box by its middle, or by its corner.",
        "t": 0.5, "box": BOX, "added": "none", "strength": 0,
    },
    {
        "caption": "Now drag t from 0 to 1 and keep your eye on the two numbers. They are equal at every moment, for every "
        "box that you draw.",
        "t": 0.2, "box": BOX, "added": "none", "strength": 0,
    },
    {
        "caption": "A constant drift to the right was added to the field. The two numbers part: this field does not make "
        "the grey density. Is there a box where they still agree?",
        "t": 0.6, "box": [0.0, 2.0, 0.5, 2.5], "added": "constant drift", "strength": 1,
    },
]  # fmt: skip
CANDIDATES = [
    {
        "caption": "Our field alone, at the end of the journey: the particles lie on the grey density. Change the strength: "
        "nothing is added yet. Then go on.",
        "t": 1.0, "added": "none", "strength": 0,
    },
    {
        "caption": "A constant drift (1, 0). It has no divergence at all. Do the particles still lie on the grey?",
        "t": 1.0, "added": "constant drift", "strength": 1,
    },
    {
        "caption": "A rotation about the origin, J x. It has no divergence either.",
        "t": 1.0, "added": "rotation", "strength": 1,
    },
    {
        "caption": "The turned score, J times the gradient of log p. Drag its strength, then press play: every particle "
        "takes another trajectory. And the cloud?",
        "t": 1.0, "added": "turned score", "strength": 1.5,
    },
]  # fmt: skip
SPREADING = [{"caption": "Click between two trajectories to launch a third. Then drag a peak apart from the other, and "
              "watch where the bundle spreads."}]  # fmt: skip
JITTER = [
    {"caption": "No noise: the ODE. Press play.", "t": 1.0, "noise": 0, "corrected": True},
    {
        "caption": "Noise in every step, and the drift corrected for it. The trajectories are rough now, and the cloud is "
        "the same. Try less noise, or more.",
        "t": 1.0, "noise": 1, "corrected": True,
    },
    {"caption": "The same noise, but the correction is forgotten. What does it do to the clumps?", "t": 1.0, "noise": 1, "corrected": False},
]  # fmt: skip

# %%
lab = FlowLab(three_gaussians(), IN_BOX, layers=["density", "field", "box"], controls=["t", "mixture"], tour=TOUR)
lab

# %% [markdown]
# *Nothing has to run first. You need [lesson 00](00_quick_reference.ipynb), partial derivatives and the divergence.* *Time:* 30 minutes to read, about 15 seconds to run; 15 more for 2 exercises and 5 cards.
#
# **You will be able to** derive the equation on a whiteboard, write down the field of a Gaussian and of a mixture, say what may be added to a field, get a likelihood out of a flow, and turn it into a diffusion with the right sign.
#
# First a look back.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
predict(
    "From lesson 00: many pairs pass the place x at time t. What is the field there, u_t(x)?",
    "the mean of all their velocities",
    choices=[
        "the velocity of the nearest pair",
        "the mean of all their velocities",
        "the velocity that occurs most often",
    ],
    because="It is the best single answer when the error is squared. This lesson shows what that mean does to a whole cloud.",
)

# %% [markdown]
# ## Mass in a box
#
# Imagine a room with many doors. Nobody is born inside, nobody vanishes. So the number of people in the room changes only by those who come or go through the doors.
#
# A cloud of particles is like that. Draw any box. Its mass changes only by what flows through its walls:
#
# $$ \frac{d}{dt}\int_{\text{box}} p_t\,dx \;=\; -\oint_{\text{walls}} p_t\,u_t \cdot n \,dS $$
#
# Here $n$ points outwards. In a short time $dt$, who crosses a piece $dS$ of the wall? Those in a thin layer in front of it, of thickness $u_t\cdot n\,dt$. (If it is negative, they come in.) Their mass is $p_t\,u_t\cdot n\,dt\,dS$. The product $p_t u_t$ is called the **flux**. Nothing else was assumed.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
predict(
    "The box of the first picture ends up around a clump. Between t = 0 and t = 1, does the mass in it rise all the time?",
    "it rises, and falls a little at the end",
    choices=["yes, all the time", "it rises, and falls a little at the end", "it falls first, then rises"],
    because="While the clump gathers the box fills. Near the end the clump still moves up, and its upper edge leaves through the top wall. Take the second stop of the first picture and drag t from 0.7 to 1: at about 0.8 the flux changes its sign.",
)

# %% [markdown]
# Now count. 20,000 particles follow the field; how many more are in the box at the end? Beside it, the flux through the four walls, added up over all times.

# %%
path, data = rectified_flow_path(), three_gaussians()
u = lambda t, x: data.velocity(path, t, x)
score = lambda t, x: data.score(path, t, x)
p = lambda t, x: data.log_prob(path, t, x).exp()


# %%
def inflow(t):
    """What comes into the box [-1, 1] x [0.5, 2.5] through its four walls, 200 places on each."""
    along, total = (torch.arange(200).double() + 0.5) / 100, 0.0
    for axis, low, other in ((0, -1.0, 0.5), (1, 0.5, -1.0)):
        for wall, inwards in ((low, 1), (low + 2, -1)):
            x = torch.full((200, 2), wall).double()
            x[:, 1 - axis] = other + along
            total += inwards * 2 * (p(t, x) * u(t, x)[:, axis]).mean()
    return total


# %% jupyter={"source_hidden": true} tags=["hide-input"]
inside = lambda x: ((x[:, 0].abs() < 1) & (x[:, 1] > 0.5) & (x[:, 1] < 2.5)).double()
noise = torch.randn(20_000, 2)
gained = inside(midpoint_sampler(u, noise, steps=40)) - inside(noise)
flux = sum(inflow((i + 0.5) / 100) for i in range(100)) / 100

verify(
    "what the box gains came in through its walls (counted minus flux)",
    estimate(gained - flux),
    0.0,
    wrong={"the sign of the flux flipped": estimate(gained + flux)},
)

# %% [markdown]
# The number behind ± says how much the value changes from one random sample to the next. Such a claim holds if it is within five of these. Other rows state their own limit. The *wrong twin* is the same measure on something that must fail, and has to miss by twice the limit.
#
# ## From the box to a point
#
# Gauss's theorem turns the integral over the walls into $\int_{\text{box}} \nabla\cdot(p_t u_t)\,dx$. The box was arbitrary. So the two sides agree at every point:
#
# $$ \boxed{\;\partial_t p_t + \nabla \cdot (p_t\, u_t) = 0\;} $$
#
# **If a smooth field satisfies this, and the particles start as $p_0$, they are distributed as $p_t$ at every $t$.** That is all that flow matching wants from a field. (There are two densities here: the one that we chose, and the one that the particles really have. Both satisfy the equation, and both start at $p_0$. If the field is smooth, and grows no faster than in proportion to $|x|$, it has only one solution. So they are the same.)
#
# Let us test it. Divide by $p_t$, so that the result is not small just where the density is, and use $\nabla\cdot(p\,u) = p\,\nabla\cdot u + u\cdot\nabla p$:
#
# $$ \partial_t \log p_t + \nabla\cdot u_t + u_t\cdot\nabla\log p_t = 0 $$


# %%
@torch.enable_grad()
def quadratic(v, t, x, w):
    """w' A w at each place, with A = dv/dx, the matrix of derivatives of the field."""
    x = x.clone().requires_grad_()
    return (torch.autograd.grad(v(t, x), x, w)[0] * w).sum(1)


def divergence(v, t, x):
    """The trace of A: e' A e for both unit vectors e."""
    return sum(quadratic(v, t, x, e.expand_as(x)) for e in torch.eye(2).to(x))


# %%
def residual(v, t, x, path=path):
    s = t.clone().requires_grad_()
    change = torch.autograd.grad(data.log_prob(path, s, x).sum(), s)[0]
    return change + divergence(v, t, x) + (v(t, x) * data.score(path, t, x)).sum(1)


def places(n=4000, path=path):
    """Random times, and places where noise and data meet then."""
    t, x1 = 0.01 + 0.98 * torch.rand(n).double(), data.sample(n)
    return t, path.sample_xt(t, torch.randn_like(x1), x1)


# %%
for q in (rectified_flow_path(), vp_cosine_path(), vp_linear_path(), ve_path()):
    field = lambda t, x, q=q: data.velocity(q, t, x)
    t, x = places(path=q)
    verify(
        f"the equation holds on the path {q.name} (residual)",
        residual(field, t, x, q),
        0.0,
        limit=1e-10,
        wrong={"the field backwards": residual(lambda t, x: -field(t, x), t, x, q)},
    )

# %% [markdown]
# Zero up to rounding, at 4,000 places on each path. (Three of them wait for lesson 03; the equation does not care.)
#
# ## The field by hand
#
# Where does such a field come from? Take one round clump of data first, $x_1 \sim \mathcal N(m, s^2 I)$. Then $x_t = t\,x_1 + (1-t)\,x_0$ is Gaussian at every time: its centre is $t\,m$, its variance $V_t = t^2 s^2 + (1-t)^2$. The simplest way to make such a cloud: let every particle keep its seat relative to the centre. One that starts at $x_0$ sits at $x = t\,m + \sqrt{V_t}\,x_0$. Take the derivative in $t$:
#
# $$ u_t(x) = m + \frac{t\,s^2 - (1-t)}{V_t}\,(x - t\,m). $$
#
# In words: move with the centre, and shrink or grow with the cloud. (Other fields make the same cloud, as you will see. This one is also the mean of the pairs, as lesson 02 measures.)
#
# Now several clumps, with weights $w_k$. Each clump has its density $p^k$ and its field $u^k$, and together the two satisfy the equation. The equation is *linear* in the density and in the flux, so the sums $\sum_k w_k p^k$ and $\sum_k w_k p^k u^k$ satisfy it as well. The field is total flux over total density:
#
# $$ u_t(x) = \sum_k r_k(x)\,u^k_t(x), \qquad r_k(x) = \frac{w_k\,p^k_t(x)}{p_t(x)}. $$
#
# $r_k(x)$ is the chance that what you meet at $x$ belongs to clump $k$. So again the field is an average. These exact fields are the *oracle* of our toy data.


# %%
def by_hand(t, x, weigh=True):
    t, s2 = t[:, None, None], data.stds[:, None] ** 2
    V, offset = t**2 * s2 + (1 - t) ** 2, x[:, None] - t * data.means
    each = data.means + (t * s2 - (1 - t)) / V * offset
    log_pk = data.weights.log() - V.log()[..., 0] - offset.square().sum(2) / (2 * V[..., 0])
    r = torch.softmax(log_pk if weigh else 0 * log_pk, 1)
    return (r[..., None] * each).sum(1)


# %%
t, x = places()
verify(
    "the field by hand against the library's",
    by_hand(t, x),
    u(t, x),
    limit=1e-9,
    wrong={"all clumps weighed alike": by_hand(t, x, weigh=False)},
)

# %% [markdown]
# ## The field is not unique
#
# Add another field $w$ to $u_t$. The equation still holds if and only if
#
# $$ \nabla\cdot(p_t\, w) = 0 . $$
#
# You will often read that any $w$ *without divergence* will do. Try it. A constant drift $(1, 0)$ has none, nor has a rotation about the origin, $Jx$ ($J$ turns a vector by 90°). The third candidate is the turned score, $J\nabla\log p_t$. The **score** $\nabla\log p_t$ points to where the density grows fastest; turned, it runs along the level lines.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
predict(
    "Which of the three may be added, at any strength, so that no density changes?",
    "only the turned score",
    choices=["the constant drift and the rotation", "only the turned score", "all three", "none"],
    because="What must have no divergence is the flux p w, not w. For the turned score the flux is J∇p, a turned gradient, and that never has any: points run around each hill at constant height, at just the right speed. A constant drift moves everything, mass and all.",
)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
FlowLab(
    three_gaussians(),
    ADDED,
    layers=["density", "particles"],
    controls=["t", "added", "strength"],
    tour=CANDIDATES,
    solver="rk4",
    steps=32,
)

# %%
J = lambda v: torch.stack([-v[:, 1], v[:, 0]], 1)
whirl = lambda t, x: u(t, x) + J(score(t, x))
drift = lambda t, x: u(t, x) + torch.tensor([1.0, 0.0]).to(x)
spin = lambda t, x: u(t, x) + J(x)

verify(
    "with the turned score the equation holds (residual)",
    residual(whirl, t, x),
    0.0,
    limit=1e-9,
    wrong={"a constant drift": residual(drift, t, x), "a rotation": residual(spin, t, x)},
)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
x0, real = noise[:3000], data.sample(3000)
follow = lambda v: rk4_sampler(v, x0, steps=60)
end, whirled = follow(u), follow(whirl)
far = lambda x: energy_distance(x, real)
verify(
    "so the whirled cloud ends in the data (energy distance)",
    far(whirled),
    0.0,
    limit=0.02,
    wrong={"a constant drift": far(follow(drift)), "a rotation": far(follow(spin))},
)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
off = lambda x: (x - end).square().sum(1).mean().sqrt()
verify("though its particles end elsewhere (root mean square)", off(whirled), at_least=1.0, wrong={"u by another solver": off(midpoint_sampler(u, x0, steps=60))})  # fmt: skip

# %% [markdown]
# Same noise, same clouds at every moment, other trajectories. So a density does not tell you the field. But one field is the laziest. Our $u_t$ is a gradient, $u_t = \nabla\phi$: for one clump you can see it in the formula above, a number times $x$ plus a constant; lesson 06 has the general case. Integrate by parts: $\mathbb E[u\cdot w] = \int p\,\nabla\phi\cdot w = -\int \phi\,\nabla\cdot(p\,w) = 0$. So every allowed $w$ only adds energy: $\mathbb E\|u + w\|^2 = \mathbb E\|u\|^2 + \mathbb E\|w\|^2$. That is the least energy *for these densities*. (*Optimal transport* asks for the cheapest move from noise to data, and chooses the densities in between as well.)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
t, x = places(40_000)
turned, plain = J(score(t, x)), score(t, x)
dot = lambda w: estimate((u(t, x) * w).sum(1))
verify("u and the turned score are at right angles (E[u . w])", dot(turned), 0.0, wrong={"the score, not turned": dot(plain)})  # fmt: skip
energy = lambda v: v.square().sum(1).mean()
added = lambda w: energy(u(t, x) + w) / (energy(u(t, x)) + energy(w))
verify("so its energy is added (that of the sum, divided by the sum of both)", added(turned), 1.0, limit=0.03, wrong={"the score, not turned": added(plain)})  # fmt: skip

# %% [markdown]
# ## Likelihood: the density along one trajectory
#
# Swim with one particle. What density do you see around you? By the chain rule and the equation,
#
# $$ \frac{d}{dt} \log p_t(x_t) = \partial_t \log p_t + u_t\cdot\nabla\log p_t = -\nabla\cdot u_t(x_t). $$
#
# Where your neighbours move apart, the density falls; where they close in, it rises. (Chen et al. 2018, Theorem 1: the *instantaneous change of variables*.)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
FlowLab(
    GaussianMixture(torch.tensor([[-1.5], [1.2]]), torch.tensor([0.3, 0.5])),
    BUNDLE,
    layers=["density", "trajectories"],
    controls=["launch", "mixture"],
    tour=SPREADING,
    solver="rk4",
    steps=32,
)

# %% [markdown]
# Add this up along a trajectory, and you have the exact likelihood of its end: $\log p_1(x_1) = \log p_0(x_0) - \int_0^1 \nabla\cdot u_t\,dt$. For a given data point, run the flow backwards to its noise and add up on the journey.
#
# The divergence is the sum of the diagonal of $A = \partial u/\partial x$, and each entry costs a backward pass: two here, a million for an image. But *one* backward pass gives the whole vector $\epsilon^\top A$, without ever building $A$. **Hutchinson's estimate** is $\epsilon^\top A\,\epsilon$ with independent random signs $\epsilon_i$. As $\mathbb E[\epsilon_i\epsilon_j]$ is 1 for $i=j$ and 0 otherwise, only the diagonal of $A$ is left on average. (Numbers spread over $[-1, 1]$ will not do: their mean square is 1/3.)


# %%
def with_density(t, state):
    """The velocity of (x, log p): they move together."""
    x = state[:, :2]
    return torch.cat([u(t, x), -divergence(u, t, x)[:, None]], 1)


start = torch.randn(300, 2).double()
log_p0 = -start.square().sum(1) / 2 - math.log(2 * math.pi)
end = rk4_sampler(with_density, torch.cat([start, log_p0[:, None]], 1), steps=100)
truth = data.log_prob(path, 1.0, end[:, :2])

# %%
median = lambda log_p: (log_p - truth).abs().median()
verify("the likelihood (median error, nats)", median(end[:, 2]), at_most=1e-4, wrong={"no divergence": median(log_p0)})

t, x = places(20_000)
signs, numbers = (torch.rand_like(x) > 0.5) * 2.0 - 1, 2 * torch.rand_like(x) - 1
error = lambda w: estimate(quadratic(u, t, x, w.double()) - divergence(u, t, x))
verify("random signs give the divergence on average", error(signs), 0.0, wrong={"numbers in [-1, 1]": error(numbers)})

# %% [markdown]
# **This is where flows come from.** A *continuous normalising flow* (2018) was trained by exactly this integral: push up the likelihood of the data. But then every training step is a whole simulation. Carry the batch back to noise with a solver, dozens of calls of the network, each with a divergence; then get the gradient by a second simulation backwards, or through every step. And nobody tells it which densities to pass through, so it may learn a field that is hard to solve. Flow matching keeps the model and drops the simulation. It *chooses* the densities in between, so one place, one time and one call of the network make a training example.
#
# ## The same densities with noise: diffusion
#
# Give each particle a small Gaussian kick in every step, of variance $g^2 dt$; one writes it $g\,dW$. Left alone, kicks blur the cloud, as heat spreads. So push back, towards where it is dense:
#
# $$ dx = \bigl[u_t(x) + \tfrac12 g^2 \nabla\log p_t(x)\bigr]dt + g\,dW . $$
#
# For **any** strength $g(t) \ge 0$ the densities stay the same. A kick averages $p$ over a small neighbourhood. By Taylor that changes it by half the variance times the second derivatives, so kicks add $\tfrac12 g^2\Delta p$ to $\partial_t p$ (the heat equation; $\Delta p = \nabla\cdot\nabla p$). The push adds $-\nabla\cdot(p\,\tfrac12 g^2\nabla\log p) = -\tfrac12 g^2\Delta p$, because $p\,\nabla\log p = \nabla p$. They cancel.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
FlowLab(
    three_gaussians(),
    NOISY,
    layers=["density", "particles"],
    controls=["t", "noise", "correction"],
    tour=JITTER,
    steps=50,
)


# %%
def sde(g, push=0.5, steps=250):  # x0: noise; far: the energy distance to data
    x, dt = x0, 1 / steps
    for i in range(steps):
        drift = u(i * dt, x) + push * g**2 * score(i * dt, x)
        x = x + drift * dt + g * dt**0.5 * torch.randn_like(x)
    return far(x)


# %% jupyter={"source_hidden": true} tags=["hide-input"]
verify(
    "with g = 2 the cloud still ends in the data (energy distance)",
    sde(2.0),
    0.0,
    limit=0.02,
    wrong={"the push forgotten": sde(2.0, push=0.0), "its factor 1/2 forgotten": sde(2.0, push=1.0)},
)

# %% [markdown]
# ## Trap: the sign of the probability-flow ODE
#
# Diffusion papers run the clock from data to noise, $\tau = 1 - t$. There, noise is added by $dx = f\,d\tau + g\,dW$ with a known drift $f$. The rule "drift = velocity + push" holds in either clock, because kicks always blur. So $f = (\text{velocity in } \tau) + \tfrac12 g^2\nabla\log p$. Solve for the velocity, and you have the **probability-flow ODE**: $dx/d\tau = f - \tfrac12 g^2 \nabla\log p$. Our clock runs the other way, so *both* terms change their sign:
#
# $$ u_t(x) = -f(x) + \tfrac12 g^2\,\nabla\log p_t(x). $$
#
# The paper's formula is right in the paper's clock, where $d\tau$ is negative on the journey to the data. The mistake is to copy the formula into ours. Try both, on the path of DDPM's diffusion: $f = -\tfrac12\beta x$, $g^2 = \beta$, $\beta = 0.1 + 19.9\,\tau$.

# %%
vp = vp_linear_path()
beta = lambda t: torch.as_tensor(0.1 + 19.9 * (1 - t)).reshape(-1, 1)
f = lambda t, x: -beta(t) * x / 2
half = lambda t, x: beta(t) * data.score(vp, t, x) / 2

t, x = places(path=vp)
flipped = lambda t, x: f(t, x) - half(t, x)
off = lambda v: v - data.velocity(vp, t, x)
twin = {"f - g² score / 2": off(flipped(t, x))}
verify("-f + g² score / 2 is the field", off(half(t, x) - f(t, x)), 0.0, limit=1e-8, wrong=twin)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
worse = lambda v: far(euler_sampler(v, x0, steps=200)) - far(x0)
verify(
    "the wrong sign: distance to the data after the flow, minus that of the noise (energy distance)",
    worse(flipped),
    at_least=0.1,
    wrong={"the right one": worse(lambda t, x: -flipped(t, x))},
)

# %% [markdown]
# With the wrong sign you end farther from the data than the noise that you started with.
#
# ## Your turn
#
# Replace `return None` by your answer and run the cell. Any right answer is accepted; a wrong one is told what is wrong. (*Screen* is what a phone interview asks, *on-site* what comes at the whiteboard.)
#
# **1. Likelihood along a trajectory (screen, 5 minutes).** Write the rate $\frac{d}{dt}\log p_t(x_t)$ that a particle sees, given the derivatives $\partial u_i / \partial x_j$ of the field at the particles: `jacobian` [B, d, d]. Return [B].


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
#
# **2. A field that changes nothing (on-site, 5 minutes).** Given places `x` [B, 2] and the score there, return a field [B, 2] that is not zero and can be added to $u_t$ without changing any density.


# %%
def swirl(x, score):
    return None


check("swirl", swirl)

# %% [markdown]
# <details><summary>Hint</summary>
#
# The flux $p\,w$ must have no divergence. $p\,\nabla\log p = \nabla p$; turn it by 90 degrees.
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
#
# ## Interview walkthrough
#
# Say your answer aloud before you open a card. Each has the 30-second answer, the usual mistake, and the section that proves it.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
interview_cards("continuity-meaning", "field-unique", "density-along-way", "pf-ode-sign", "pf-ode-derive")

# %% [markdown]
# ## You can now …
#
# 1. derive the equation: mass in a box, flux through walls, Gauss, "for every box" – four lines;
# 2. write the field of one Gaussian, and of a mixture as the mean over its clumps;
# 3. answer "is $u_t$ unique?": no; add any $w$ whose *flux* has no divergence, such as $J\nabla\log p_t$;
# 4. get a likelihood: $\log p_0$ of the start, minus the divergence added up along the trajectory, exactly or by Hutchinson's estimate;
# 5. write the SDE $dx = [u + \tfrac12 g^2 \nabla\log p]\,dt + g\,dW$, and $u = -f + \tfrac12 g^2\nabla\log p$ in our time.
#
# Next: [02 · the theorem](02_cfm_theorem.ipynb). A network never sees $u_t$. Why does it learn it all the same?

# %% [markdown]
# ## Further
#
# <details><summary>The equation without autograd, and the volume of a flow</summary>
#
# Derivatives by central differences of step $h$ tell the same story in another language: their error falls as $h^2$. So a right equation has a residual that falls with slope 2 in a log-log plot; a wrong one stops at a value that is not zero.
#
# The integrated divergence has a second meaning: $\log p_1(x_1) - \log p_0(x_0) = -\log|\det \partial x_1/\partial x_0|$, how much the flow shrinks a small volume around the particle. Both are checked here.
#
# </details>

# %% jupyter={"source_hidden": true} tags=["hide-input"]
t, x = places(2000)
t, e = 0.05 + 0.9 * t, torch.eye(2, dtype=torch.float64)  # room for t - h and t + h


def by_differences(v, h):
    """Median of |dp/dt + div(p v)|, by central differences of step h."""
    flux = lambda x, i: p(t, x) * v(t, x)[:, i]
    change = (p(t + h, x) - p(t - h, x)) / (2 * h)
    return (change + sum((flux(x + h * e[i], i) - flux(x - h * e[i], i)) / (2 * h) for i in (0, 1))).abs().median()


slope = lambda v: math.log2(by_differences(v, 0.008) / by_differences(v, 0.001)) / 3
verify("differences: the residual falls with the step's square (slope)", slope(u), 2.0, limit=0.1, wrong={"a constant drift": slope(drift)})  # fmt: skip
flow = lambda x: rk4_sampler(u, x, steps=80)
columns = [(flow(start + 1e-5 * e[i]) - flow(start - 1e-5 * e[i])) / 2e-5 for i in (0, 1)]
volume = torch.linalg.slogdet(torch.stack(columns, 2)).logabsdet
gap = lambda sign: (volume + sign * (end[:, 2] - log_p0)).abs().median()
verify("volume: log |det dx_1/dx_0| is the divergence, added up (median error)", gap(1), at_most=1e-3, wrong={"its sign flipped": gap(-1)})  # fmt: skip

# %% [markdown]
# ## References
#
# - Y. Lipman et al., *Flow Matching for Generative Modeling*, ICLR 2023, arXiv 2210.02747: section 2, appendix A.
# - R. Chen et al., *Neural Ordinary Differential Equations*, 2018, arXiv 1806.07366: Theorem 1, and continuous normalising flows.
# - W. Grathwohl et al., *FFJORD*, 2019, arXiv 1810.01367: Hutchinson's estimate for flows.
# - Y. Song et al., *Score-Based Generative Modeling through SDEs*, 2021, arXiv 2011.13456: the probability-flow ODE, section 4.3.
# - M. Albergo, N. Boffi, E. Vanden-Eijnden, *Stochastic Interpolants*, 2023, arXiv 2303.08797: ODEs and SDEs with the same densities.
