# %% [markdown]
# # 06 · Score, ε, x₁, velocity
#
# Diffusion models predict noise, data, "v" or a score; flow models a velocity. For independent Gaussian noise these are one piece of knowledge in different units.
#
# **You will be able to**
#
# 1. derive every conversion from one 2 × 2 system, for every path – rectified flow included;
# 2. say where a conversion blows up, and why networks predict what they predict;
# 3. write the SDE of the rectified flow, which is often said not to exist;
# 4. name the case in which conversion to a score is really wrong.
#
# *Before:* lessons 01 and 03. *Time:* 30 minutes to read, about 30 seconds to run; 20 more for 3 exercises and 5 cards. Begin with *Run ▸ Run All Cells*: until its cell has run, a player is a still picture.

# %%
import math

import torch

from fmlib import *
from fmlib import conversions
from fmlib.page import *
from fmlib.study import *

torch.set_num_threads(1)  # these tensors are tiny: a second thread costs more than it brings
torch.manual_seed(0)
plots.use_style()

rf, cosine, linear, ve = rectified_flow_path(), vp_cosine_path(), vp_linear_path(), ve_path()
mixture = three_gaussians()
quantities = {
    "velocity": mixture.velocity,
    "epsilon": mixture.posterior_mean_x0,
    "x1": mixture.posterior_mean_x1,
    "score": mixture.score,
}

# %% [markdown]
# ## Four arrows at the same place
#
# At each place and time the arrows show what a model could be asked for: where the flow goes, the noise that is expected there, the way to the expected data, the direction of higher density. Choose, and drag $t$. The arrows of the score and of ε are the same up to sign and length. Strictly between the two ends none of the four knows more than the others: each gives the other three. At the ends that breaks down, as you will see.

# %%
LIMITS = (-3.4, 3.4, -3.2, 3.4)
x0 = torch.randn(600, 2, dtype=torch.float64)
states = rk4_sampler(lambda t, x: mixture.velocity(rf, t, x), x0, steps=40, return_trajectory=True)
times = torch.linspace(0, 1, 11)
density = density_frames(lambda t, x: mixture.log_prob(rf, t, x), LIMITS, times)
arrows = {
    "velocity": lambda t, x: mixture.velocity(rf, t, x),
    "epsilon": lambda t, x: mixture.posterior_mean_x0(rf, t, x),
    "x1 (from x to it)": lambda t, x: mixture.posterior_mean_x1(rf, t, x) - x,
    "score": lambda t, x: mixture.score(rf, t, x),
}
player = FlowPlayer(
    torch.linspace(0, 1, 41),
    [Panel(states, density=density, field=field_frames(f, LIMITS, times), choice=name) for name, f in arrows.items()],
    limits=LIMITS,
    t=0.6,
    choice_label="arrows",
    alt="Arrows of the velocity, the expected noise, the way to the expected data and the score, over the density of three clumps. Noise and score point opposite ways.",
)
player.selection = "score"
player

# %% [markdown]
# ## Two equations, four unknowns
#
# $$ x_t = \alpha_t\,x_1 + \sigma_t\,x_0, \qquad v = \alpha_t'\,x_1 + \sigma_t'\,x_0 . $$
#
# A sampler knows $x_t$. **One more of $v$, $x_0$, $x_1$ gives the other two**, on a condition:
#
# - from $v$: if $\alpha\sigma' - \alpha'\sigma \ne 0$, which always holds on our paths;
# - from $x_0$: if $\alpha \ne 0$, so that $x_1 = (x_t - \sigma x_0)/\alpha$;
# - from $x_1$: if $\sigma \ne 0$, so that $x_0 = (x_t - \alpha x_1)/\sigma$.
#
# So one prediction is enough. From $v$, for example, solving the system gives
#
# $$ x_1 = \frac{\sigma'\,x_t - \sigma\,v}{\alpha\,\sigma' - \alpha'\sigma}, \qquad x_0 = \frac{\alpha\,v - \alpha'\,x_t}{\alpha\,\sigma' - \alpha'\sigma}. $$
#
# The system is linear, so it also holds for conditional means: $v \to \mathbb E[v\mid x_t]$, $x_1 \to \mathbb E[x_1 \mid x_t]$, $x_0 \to \mathbb E[x_0\mid x_t] =: \epsilon$. The score joins in by **Tweedie's formula**, for Gaussian noise that is independent of the data:
#
# $$ \nabla\log p_t(x) = -\frac{\mathbb E[x_0 \mid x_t = x]}{\sigma_t}. $$
#
# *Why.* Given $x_1$, the point $x_t$ is Gaussian with mean $\alpha x_1$ and variance $\sigma^2$, so its score is $-(x - \alpha x_1)/\sigma^2 = -x_0/\sigma$. The score of the mixture $p_t$ is the mean of these scores over the $x_1$ that may lie behind $x$, because $\nabla \log p_t = \frac{\nabla p_t}{p_t} = \mathbb E\bigl[\nabla\log p_t(x \mid x_1) \mid x_t = x\bigr]$. That is $-\mathbb E[x_0\mid x]/\sigma$.
#
# Put $x_0 = -\sigma s$, with $s$ for the score, and $x_1 = (x - \sigma x_0)/\alpha$ into the second equation, and the velocity is
#
# $$ v = \frac{\alpha'}{\alpha}\,x + \Bigl(\frac{\alpha'}{\alpha}\,\sigma^2 - \sigma\sigma'\Bigr)\, s, \qquad \text{on the rectified flow}\quad v = \frac{x + (1-t)\,s}{t}. $$
#
# The check takes the score from autograd of $\log p_t$, so that nothing is circular.

# %%
for name, p in (("rectified flow", rf), ("VP-cosine", cosine), ("VP-linear", linear), ("VE", ve)):
    t = 0.02 + 0.96 * torch.rand(500, dtype=torch.float64)
    x1 = mixture.sample(500)
    x = p.sample_xt(t, torch.randn_like(x1), x1).requires_grad_()
    score = torch.autograd.grad(mixture.log_prob(p, t, x).sum(), x)[0]
    x, truth = x.detach(), mixture.velocity(p, t, x.detach())
    error = (score_to_velocity(p, t, x, score) - truth).norm(dim=1) / (1 + truth.norm(dim=1))
    wrong = (score_to_velocity(p, t, x, -score) - truth).norm(dim=1) / (1 + truth.norm(dim=1))
    print(
        f"{name:16} velocity from the score: largest relative error {error.max():.0e};  sign flipped: median {wrong.median():.1f}"
    )
    assert error.max() < 1e-9 and wrong.median() > 0.1

# %% [markdown]
# The interview sheet says that this bridge exists for VP and VE and *fails for the rectified flow*. The first line says otherwise. All it needs is $x_t = \alpha_t x_1 + \sigma_t x_0$ with independent Gaussian $x_0$.
#
# ## The table of twelve
#
# There and back again, in both precisions, over $t \in [0.01, 0.99]$, rectified flow. The error is relative to the largest value. A round trip alone would accept two functions with the same wrong sign, so each way there is also compared with the oracle.

# %%
names = list(quantities)


def round_trip(source, target, dtype):
    t = torch.linspace(0.01, 0.99, 400, dtype=dtype)
    x1 = mixture.sample(400).to(dtype)
    x = rf.sample_xt(t, torch.randn_like(x1), x1)
    value = quantities[source](rf, t.double(), x.double()).to(dtype)
    there = getattr(conversions, f"{source}_to_{target}")(rf, t, x, value)
    exact = quantities[target](rf, t.double(), x.double())
    assert (there - exact).norm(dim=1).max() < 0.01 * exact.norm(dim=1).max() < (there + exact).norm(dim=1).max()
    back = getattr(conversions, f"{target}_to_{source}")(rf, t, x, there)
    return ((back - value).norm(dim=1) / value.norm(dim=1).max()).max().item()


for dtype, limit in ((torch.float64, 1e-11), (torch.float32, 5e-4)):
    print(f"{str(dtype)[6:]:12}" + "".join(f"{'via ' + b:>14}" for b in names))
    for a in names:
        row = [round_trip(a, b, dtype) if a != b else None for b in names]
        print(f"   {a:9}" + "".join(f"{'–' if v is None else f'{v:.0e}':>14}" for v in row))
        assert all(v is None or v < limit for v in row)

# %% [markdown]
# ## Where it blows up
#
# > **Predict, then run (1).** A network predicts the noise with an error of 0.01. You convert to a velocity, on rectified flow, at $t = 0.01$. How large is the error of the velocity: 0.01, 0.1 or 1?
#
# Put an error $\delta$ into one quantity and read the factor in the other. From ε the factor is $|\sigma' - \alpha'\sigma/\alpha|$, large at the noise end: there $x_t$ is nearly all noise, and dividing by $\alpha$ is guessing the data. From $x_1$ it is $|\alpha' - \sigma'\alpha/\sigma|$, large at the data end. (On VP-linear the factor from ε is $\beta/(2\sigma)$, which is $\frac{20}{2} = 10$ at the noise end: $\alpha_0$ is not quite zero there.)

# %%
t = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
x, delta = torch.zeros(99, 1, dtype=torch.float64), 0.01
factor = {}
fig, axes = panels(2, 2.4, sharey=True)
for ax, source in zip(axes, ("epsilon", "x1"), strict=True):
    for (name, p), color in zip(
        (("rectified flow", rf), ("VP-cosine", cosine), ("VP-linear", linear)), ("exact", "other", "third"), strict=True
    ):
        convert = getattr(conversions, f"{source}_to_velocity")
        shift = convert(p, t, x, x + delta) - convert(p, t, x, x)
        factor[source, name] = (shift.abs() / delta)[:, 0]
        ax.semilogy(t, factor[source, name], color=COLORS[color], label=name)
    ax.set(title=f"error of the velocity / error of {source}", xlabel="t")
    ax.title.set_fontsize(9)
axes[1].legend(fontsize=8)
show(
    fig,
    "Error amplification over t on a logarithmic scale. From epsilon it grows towards t = 0, from x1 towards t = 1, to about 100 on rectified flow.",
)
print(
    f"rectified flow: from epsilon × {factor['epsilon', 'rectified flow'][0]:.0f} at t = 0.01, from x1 × {factor['x1', 'rectified flow'][-1]:.0f} at t = 0.99"
)
at_noise = torch.zeros(1, dtype=torch.float64)
shift = epsilon_to_velocity(linear, at_noise, x[:1], x[:1] + delta) - epsilon_to_velocity(
    linear, at_noise, x[:1], x[:1]
)
print(f"VP-linear: from epsilon × {shift.abs().item() / delta:.3f} at t = 0")
assert abs(factor["epsilon", "rectified flow"][0] - 100) < 1 and abs(factor["x1", "rectified flow"][-1] - 100) < 1
assert abs(shift.abs().item() / delta - 10) < 0.001

# %% [markdown]
# An error of 0.01 in the noise is an error of **1** in the velocity. This is why ε-prediction needs care at the noise end (and cannot be sampled from pure noise at all when $\alpha_0 = 0$), why $x_1$-prediction needs it at the data end, and why a velocity, which is a mixture of both, converts to ε and $x_1$ without such a factor. Only its *score* fails, at $t = 1$, where there is no noise left. Conversions that have no answer say so:

# %%
for call in (lambda: epsilon_to_velocity(rf, 0.0, x[:1], x[:1]), lambda: velocity_to_score(rf, 1.0, x[:1], x[:1])):
    try:
        call()
    except ValueError as error:
        print(error)
    else:
        raise AssertionError("an undefined conversion gave a number")

# %% [markdown]
# ## The same optimum, different weights
#
# All targets have the same best answer, once converted. The *losses* weigh times differently, so networks trained for the same budget end at different places. Three networks, 500 steps each; the error of the converted velocity, in three ranges of $t$.


# %%
def train_to_predict(kind, steps=500):
    """A network for one target: 'velocity', 'epsilon' or 'x1'. Plain regression; only the target differs."""
    torch.manual_seed(1)
    net = VectorFieldMLP(2, 64)
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps)
    for _ in range(steps):
        x1 = mixture.sample(256).float()
        x0, t = torch.randn_like(x1), stratified_t(256)
        target = {"velocity": rf.target_ut(t, x0, x1), "epsilon": x0, "x1": x1}[kind]
        loss = (net(t, rf.sample_xt(t, x0, x1)) - target).square().sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net


def velocity_error(kind, net, low, high, n=4000):
    t = low + (high - low) * torch.rand(n)
    x1 = mixture.sample(n).float()
    x = rf.sample_xt(t, torch.randn_like(x1), x1)
    with torch.no_grad():
        out = net(t, x)
    v = out if kind == "velocity" else getattr(conversions, f"{kind}_to_velocity")(rf, t, x, out)
    return estimate((v - mixture.velocity(rf, t, x)).square().sum(1))


ranges = ((0.02, 0.1), (0.3, 0.7), (0.9, 0.98))
table = {}
print(f"{'network predicts':18}" + "".join(f"{f't in {r}':>22}" for r in ranges))
for kind in ("velocity", "epsilon", "x1"):
    net = train_to_predict(kind)
    table[kind] = [velocity_error(kind, net, *r) for r in ranges]
    print(f"{kind:18}" + "".join(f"{e!s:>22}" for e in table[kind]))
assert table["epsilon"][0].mean > 3 * table["velocity"][0].mean and table["x1"][2].mean > 3 * table["velocity"][2].mean

# %% [markdown]
# As predicted by the factors: the ε-network is bad near the noise, the $x_1$-network near the data. At its own good end each beats the velocity network, by up to a factor of two. In the middle the velocity network is the best. (One seed.)
#
# ## The SDE of the rectified flow
#
# In noising time $\tau = 1 - t$ the line reads $x = (1-\tau)\,x_1 + \tau\,x_0$. Which SDE $dx = f\,d\tau + g\,dW$ has these densities? Take a linear one, $f = a(\tau)\,x$. Without noise it multiplies $x$ at the rate $a$; it multiplies the data by $1-\tau$ if $a = \frac{(1-\tau)'}{1-\tau} = -\frac1{1-\tau}$. In a time $d\tau$ the drift multiplies $x$ by $1 + a\,d\tau$, so it multiplies the variance by $1 + 2a\,d\tau$; the noise adds $g^2 d\tau$. The variance around the shrunk data must be $\tau^2$, so $(\tau^2)' = 2a\,\tau^2 + g^2$, and
#
# $$ f = -\frac{x}{1-\tau}, \qquad g^2 = \frac{2\tau}{1-\tau}. $$
#
# It exists, and it is an ordinary diffusion with a singularity at the *noise* end only (Liu et al. 2022, Proposition 3.11 has this $g^2$). First run it forwards, from data to noise, and compare with the exact $p_t$; the wrong twin has $g^2$ halved.


# %%
def noising(x, until, g2_factor=1.0, steps=400):
    """Euler-Maruyama of the noising SDE of the rectified flow, from tau = 0."""
    dt = until / steps
    for i in range(steps):
        tau = (i + 0.5) * dt
        noise = torch.randn_like(x) * math.sqrt(g2_factor * 2 * tau / (1 - tau) * dt)
        x = x - x / (1 - tau) * dt + noise
    return x


data = mixture.sample(3000)
fresh = mixture.sample(3000)
for tau in (0.3, 0.6, 0.9):
    exact = rf.sample_xt(1 - tau, torch.randn_like(fresh), fresh)
    right, halved = energy_distance(noising(data, tau), exact), energy_distance(noising(data, tau, 0.5), exact)
    print(f"tau = {tau}: energy distance to the exact p_t {right:7.4f},  with g^2 halved {halved:7.4f}")
    assert abs(right) < 0.008
assert halved > 0.02
print(
    f"sampling floor: {sampling_floor(energy_distance, mixture.sample, 3000)}; at tau = 0.3 the twin is still close to it"
)

# %% [markdown]
# Now backwards, to sample: $dx = \bigl(v + \tfrac{\eta}{2}g^2 s\bigr)dt + \sqrt\eta\,g\,dW$, with the score $s$ and any $\eta \ge 0$. For every $\eta$ the densities are the same (lesson 01). `sde_sampler` calls $\eta$ `noise`, from the ODE (0) to the path's own SDE (1). The extra drift needs no score: with the formula above, $\tfrac12 g^2 s = v - \tfrac{\alpha'}{\alpha}x$. (At $t = 0$, where $g$ is infinite, the sampler's first step is taken without noise.)

# %%
v = lambda t, x: mixture.velocity(rf, t, x)
start = torch.randn(3000, 2, dtype=torch.float64)
for noise in (0.0, 0.3, 1.0):
    x = sde_sampler(v, start, steps=250, path=rf, noise=noise)
    print(f"noise {noise}: energy distance to data {energy_distance(x, fresh):7.4f}")
    assert abs(energy_distance(x, fresh)) < 0.012

# %% [markdown]
# ## Where conversion really fails
#
# Not for the rectified flow; for a **coupling** (a way to pair noise with data) in which the two depend on each other. Lesson 07 makes such pairs. Let $x_0 \sim \mathcal N(0,1)$ and $x_1 = 2x_0$: the optimal transport to $\mathcal N(0, 4)$. Now the noise is not independent of the data, and Tweedie's formula does not hold.
#
# > **Predict, then run (2).** At $t = \tfrac12$ the true velocity is $x_0 = x/1.5 = 0.667\,x$. Through the score: the same, or not?

# %%
t, x = torch.tensor(0.5, dtype=torch.float64), torch.tensor([[1.0]], dtype=torch.float64)
true_velocity = x / (1 + t)  # x_t = (1 - t) x_0 + t 2 x_0 = (1 + t) x_0 moves by x_0
score = -x / (1 + t) ** 2  # of N(0, (1 + t)^2), here -x / 2.25
through_score = score_to_velocity(rf, t, x, score)
noise = velocity_to_epsilon(rf, t, x, true_velocity)
print(f"true velocity {true_velocity.item():.3f} x,  through the score {through_score.item():.3f} x")
print(
    f"E[x_0 given x] from the velocity {noise.item():.3f} x, true {(x / (1 + t)).item():.3f} x: velocity, noise and data still convert"
)
assert abs(through_score - true_velocity) > 0.5 and abs(noise - x / (1 + t)) < 1e-12

# %% [markdown]
# Not the same: 1.556 x. After reflow or minibatch OT the flow has a velocity, and $\mathbb E[x_0\mid x]$, $\mathbb E[x_1\mid x]$ follow from it. The *score* does not.
#
# ## Two meanings of "v"
#
# Salimans & Ho's "v-prediction" is $v_{\text{diff}} = \alpha\,\epsilon - \sigma\,x_1$, not the velocity. On a VP path $u = -(\alpha'/\sigma)\,v_{\text{diff}}$, which for the cosine path is $-\tfrac{\pi}{2}v_{\text{diff}}$. On the rectified flow the two are not multiples of each other.

# %%
t = torch.linspace(0.1, 0.9, 300, dtype=torch.float64)
x1 = mixture.sample(300)
for name, p in (("VP-cosine", cosine), ("rectified flow", rf)):
    x = p.sample_xt(t, torch.randn_like(x1), x1)
    u = mixture.velocity(p, t, x)
    v_diff = velocity_to_v_diff(p, t, x, u)
    ratio = (u * v_diff).sum(1) / v_diff.square().sum(1)
    rest = (u - ratio[:, None] * v_diff).norm(dim=1) / u.norm(dim=1)
    print(
        f"{name:16} u / v_diff between {ratio.min():.3f} and {ratio.max():.3f}; the part of u that is not a multiple: {rest.median():.0e}"
    )
    assert (rest.median() < 1e-12) == (name == "VP-cosine")

# %% [markdown]
# ## A diffusion model, sampled as a flow
#
# A model in the convention of DDPM takes an image and a *step number* $k = 0 \ldots 999$ of noising. (So does one of diffusers, Hugging Face's library of such models.) It predicts the mean of the noise ε in $\sqrt{\bar\alpha_k}\,x_{\text{data}} + \sqrt{1-\bar\alpha_k}\,\epsilon$, where $\bar\alpha_k = \prod_{j \le k}(1 - \beta_j)$ is what is left of the data's variance. Here is an exact one for our data. Its schedule is DDPM's, $\beta$ from $10^{-4}$ to $0.02$, which the VP-linear path follows closely. `as_velocity` turns it into a velocity: step $k$ is the noising time $\tau = (k+1)/1000$, so $k = 1000\,(1-t) - 1$.

# %%
alpha_bar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), dim=0)
k = torch.arange(1000)
gap = (alpha_bar.sqrt() - linear.alpha(1 - (k + 1) / 1000)).abs().max()
print(f"DDPM's sqrt(alpha_bar) against the VP-linear path: largest difference {gap:.4f}")


def ddpm_model(x, k):
    """epsilon for noising step k, as a network with DDPM's schedule would learn it. x [B, d], k [B] integers."""
    a, s = alpha_bar[k].sqrt()[:, None, None], (1 - alpha_bar[k]).sqrt()[:, None, None]
    var = a**2 * mixture.stds[:, None] ** 2 + s**2
    offset = x[:, None] - a * mixture.means
    log_weight = mixture.weights.log() - 0.5 * offset.square().sum(-1) / var[..., 0] - var[..., 0].log()
    return (log_weight.softmax(1)[..., None] * s / var * offset).sum(1)


def as_velocity(t, x):
    k = ((1 - t) * 1000).round().long().sub(1).clamp(0, 999)
    return epsilon_to_velocity(linear, t, x, ddpm_model(x, k))


wrong_clock = lambda t, x: epsilon_to_velocity(linear, t, x, ddpm_model(x, (t * 999).round().long()))
start = torch.randn(2000, 2, dtype=torch.float64)
for name, model in {"converted": as_velocity, "wrong twin, time not reversed": wrong_clock}.items():
    x = euler_sampler(model, start, steps=500)
    print(f"{name:30} energy distance to data {energy_distance(x, fresh[:2000]):8.4f}")
    assert (energy_distance(x, fresh[:2000]) < 0.02) == (name == "converted")

# %% [markdown]
# In the time of these lessons the cosine path has $\bar\alpha = \alpha_t^2 = \sin^2(\pi t/2)$. The interview sheet prints $\cos^2$, which is the formula in noising time.
#
# ## Traps
#
# - **"Rectified flow has no score / no SDE."** It has both; see above.
# - **"v-prediction" without saying which v.** The velocity, or $\alpha\epsilon - \sigma x_1$.
# - **"$x_0$-prediction".** In DDPM's papers $x_0$ is the data. Say "data prediction", or $x_1$ here.
# - **Scores from a reflowed model.** The velocity is fine, the score is not.

# %% [markdown]
# ## Your turn
#
# Replace `return None` by your answer and run the cell. The checker tries random inputs and names the mistake that it recognises.

# %% [markdown]
# **1. Convert ε to v (screen, 5 minutes).** Given a prediction `eps` of the noise at `xt` [B, d] and `t` [B], return the flow's velocity. `path.alpha(t)`, `path.sigma(t)`, `path.d_alpha(t)`, `path.d_sigma(t)` are [B].


# %%
def eps_to_v(path, t, xt, eps):
    return None


check("eps_to_v", eps_to_v)

# %% [markdown]
# <details><summary>Hint</summary>
#
# First $\hat x_1$ from $x_t = \alpha\hat x_1 + \sigma\hat\epsilon$, then the derivative of the same line.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def eps_to_v(path, t, xt, eps):
#     a, s, da, ds = (f(t)[:, None] for f in (path.alpha, path.sigma, path.d_alpha, path.d_sigma))
#     x1 = (xt - s * eps) / a
#     return da * x1 + ds * eps
# ```
#
# </details>

# %% [markdown]
# **2. From data prediction to score (on-site, 5 minutes).** Given a prediction `x1` of the data, return the score $\nabla\log p_t$.


# %%
def x1_to_score(path, t, xt, x1):
    return None


check("x1_to_score", x1_to_score)

# %% [markdown]
# <details><summary>Hint</summary>
#
# The score of $\mathcal N(\alpha x_1, \sigma^2 I)$ at $x_t$. It is linear in $x_1$, so the mean of $x_1$ may stand for $x_1$.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def x1_to_score(path, t, xt, x1):
#     a, s = path.alpha(t)[:, None], path.sigma(t)[:, None]
#     return (a * x1 - xt) / s**2
# ```
#
# </details>

# %% [markdown]
# **3. Noise while sampling (on-site, 8 minutes).** One Euler–Maruyama step of the SDE that has the densities of the flow `v`, with diffusion `g` and step `dt` (numbers). `x`, the velocity `v`, the `score` and the standard normal `z` are [B, d]. (Euler–Maruyama is an Euler step plus noise of the right size.)


# %%
def sde_step(x, v, score, g, dt, z):
    return None


check("sde_step", sde_step)

# %% [markdown]
# <details><summary>Hint</summary>
#
# The drift is corrected by $\frac12 g^2$ times the score. What is the standard deviation of the noise over `dt`?
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def sde_step(x, v, score, g, dt, z):
#     return x + (v + 0.5 * g**2 * score) * dt + g * dt**0.5 * z
# ```
#
# </details>

# %% [markdown]
# ## Interview walkthrough
#
# Say your answer aloud before you open a card. Each has the 30-second answer, the usual mistake, and the section that proves it.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
interview_cards("conversions", "score-velocity", "rf-sde", "where-conversion-fails", "two-vs")

# %% [markdown]
# ## You can now …
#
# 1. solve the 2 × 2 system for any pair, and add the score by Tweedie;
# 2. say why ε is delicate at the noise end and $x_1$ at the data end, with the factor;
# 3. write $f = -x/(1-\tau)$, $g^2 = 2\tau/(1-\tau)$ for the rectified flow;
# 4. name the failing case: couplings that are not independent.
#
# ## References
#
# - P. Vincent, *A Connection Between Score Matching and Denoising Autoencoders*, 2011; B. Efron, *Tweedie's Formula*, 2011.
# - X. Liu, C. Gong, Q. Liu, 2022, arXiv 2209.03003: Proposition 3.11.
# - T. Salimans, J. Ho, *Progressive Distillation*, 2022, arXiv 2202.00512: v-prediction.
# - J. Ho et al., *DDPM*, 2020, arXiv 2006.11239: equation 4, the schedule in section 4.
# - Y. Song et al., 2021, arXiv 2011.13456: equation 13. P. Esser et al., 2024, arXiv 2403.03206: section 2.
