# %% [markdown]
# # 06 · Score, ε, x₁, velocity
#
# **One paper predicts the noise, the next one the data, a third a score, a fourth a velocity. How can they all be right, and does it matter which one you choose?**

# %% jupyter={"source_hidden": true} tags=["hide-input"]
import math
from itertools import pairwise

import torch
from torch import nn

from fmlib import *
from fmlib import conversions
from fmlib.page import *
from fmlib.study import *

torch.set_num_threads(1)  # these tensors are tiny: a second thread costs more than it brings
torch.manual_seed(0)
plots.use_style()

FIVE = (
    "A dot that can be dragged over the density at time t, and what can be said there: the expected data and noise as two "
    "points, and arrows for the velocity, the score and diffusion's v."
)
NOISY = "Particles that follow the flow, or an SDE with the same densities, from noise to three clumps."
VIEW = (-2.6, 2.6, -2.2, 3.0)
at = {"probe": [0.6, 0.4], "t": 0.5, "predicted": "epsilon"}
TOUR = [
    {
        "caption": "One dot, one time, five answers. Blue: the noise that is expected behind it. Orange: the data. On this "
        "path the dot lies on the line between them. Drag the dot: all five change together. (v of diffusion is αε − σx₁, another paper's v; more of it at the end.)",
        "error": 0.0, **at,
    },
    {
        "caption": "Now a network predicts the noise, and is wrong by 0.1. The circles show what this error becomes in the other four. Drag t towards 0. Which circles explode, and which one does not?",
        "error": 0.1, **at,
    },
    {
        "caption": "The network predicts the data instead, with the same error. Drag t towards 1. Which circles explode now?",
        "error": 0.1, **at, "predicted": "x1",
    },
    {
        "caption": "And the velocity. Drag t from end to end. Only one of the circles grows without bound: which one, at which end, and why?",
        "error": 0.1, **at, "predicted": "velocity",
    },
]  # fmt: skip
ETA = [
    {"caption": "Noise 0: the ODE. Press play.", "noise": 0.0, "t": 0.6},
    {"caption": "Noise 1: the noising SDE above, run backwards. Single particles tremble; the cloud is that of the ODE. Drag the noise.", "noise": 1.0, "t": 0.6},
]  # fmt: skip

# %%
controls = ["t", "error", "predicted", "path", "mixture"]
lab = FlowLab(three_gaussians(), FIVE, layers=["density", "quantities"], controls=controls, tour=TOUR, limits=VIEW)
lab

# %% [markdown]
# *Nothing has to run first. You need lessons [01](01_continuity_equation.ipynb) and [03](03_paths.ipynb).* *Time:* 25 minutes to read, about 20 seconds to run; 20 more for 3 exercises and 5 cards.
#
# **You will be able to** convert any of the four into any other, say where that fails, choose what a network should predict and how its loss is weighted, and write the SDE of rectified flow.
#
# First a look back.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
predict(
    "From lesson 05: on VP-cosine, what does DDIM hold fixed during a step?",
    "the expected data and the expected noise",
    choices=["the velocity", "the expected data and the expected noise", "the score"],
    because="Euler holds the velocity. On a curved path that turns even where nothing new is learned. In this lesson you see how data and noise come out of a velocity.",
)

# %% [markdown]
# ## Two equations, four unknowns
#
# Think of a glass of syrup and water. If you know how much is in it and how much syrup went in, you know the water. Nobody needs to measure both.
#
# $$ x_t = \alpha_t\,x_1 + \sigma_t\,x_0, \qquad v = \alpha_t'\,x_1 + \sigma_t'\,x_0 . $$
#
# You hold $x_t$. **One more of $v$, $x_0$, $x_1$ gives the other two.** From $x_0$, divide by $\alpha$: $x_1 = (x_t - \sigma x_0)/\alpha$. From $x_1$, divide by $\sigma$. From $v$, solve the 2 × 2 system:
#
# $$ x_1 = \frac{\sigma'\,x_t - \sigma\,v}{\alpha\,\sigma' - \alpha'\sigma}, \qquad x_0 = \frac{\alpha\,v - \alpha'\,x_t}{\alpha\,\sigma' - \alpha'\sigma}. $$
#
# (On rectified flow the determinant is $-1$: $x_1 = x_t + (1-t)\,v$ and $x_0 = x_t - t\,v$.) The system is linear. So it holds for averages too, over all pairs that pass here: $\mathbb E[x_1 \mid x_t]$, $\mathbb E[x_0\mid x_t]$, which is called $\epsilon$, and the velocity $u_t$. The score joins them by **Tweedie's formula**:
#
# $$ \nabla\log p_t(x) = -\frac{\mathbb E[x_0 \mid x_t = x]}{\sigma_t}. $$
#
# Why? Given $x_1$, the point $x_t$ is Gaussian around $\alpha x_1$ with variance $\sigma^2$, and its score is $-(x - \alpha x_1)/\sigma^2 = -x_0/\sigma$. The score of the whole is the mean of the scores of its parts, weighted by how likely each part is here. That needs noise that is Gaussian *and* independent of the data.
#
# Put $x_0 = -\sigma s$ into the two equations, with $s$ for the score, and you have the velocity from the score:
#
# $$ v = \frac{\alpha'}{\alpha}\,x + \Bigl(\frac{\alpha'}{\alpha}\,\sigma^2 - \sigma\sigma'\Bigr)\,s, \qquad\text{on rectified flow}\quad v = \frac{x + (1-t)\,s}{t}. $$

# %%
rf, cosine, linear, ve = rectified_flow_path(), vp_cosine_path(), vp_linear_path(), ve_path()
mixture = three_gaussians()


def score_by_autograd(path, t, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(mixture.log_prob(path, t, x).sum(), x)[0]


# %% jupyter={"source_hidden": true} tags=["hide-input"]
exact = {"velocity": mixture.velocity, "epsilon": mixture.posterior_mean_x0, "x1": mixture.posterior_mean_x1, "score": score_by_autograd}  # fmt: skip
off, flipped = [], []
for path in (rf, cosine, linear, ve):
    t = 0.02 + 0.96 * torch.rand(300).double()
    x1 = mixture.sample(300)
    x = path.sample_xt(t, torch.randn_like(x1), x1)
    for a in exact:
        for b in exact.keys() - {a}:
            value, goal = exact[a](path, t, x), exact[b](path, t, x)
            convert = getattr(conversions, f"{a}_to_{b}")
            gap = lambda q: ((q - goal).norm(dim=1) / (1 + goal.norm(dim=1))).max()
            off.append(gap(convert(path, t, x, value))), flipped.append(gap(-convert(path, t, x, value)))
verify("the twelve conversions on four paths, the score from autograd: largest relative error", torch.stack(off).max(), 0.0, limit=1e-8, wrong={"sign flipped, the least that any of them is off": torch.stack(flipped).min()})  # fmt: skip

# %% [markdown]
# You will often read that this bridge to the score exists for diffusion and not for rectified flow. The table has all four paths in it.
#
# ## Where it blows up
#
# You saw the circles grow. Here is how fast.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
predict(
    "Rectified flow, t = 0.01. A network predicts the noise and is off by 0.01. You convert to a velocity. How large is its error?",
    1.0,
    low=0,
    high=1.5,
    step=0.01,
    because="A hundred times larger: the factor is 1/t. The point is nearly pure noise there; to find the data you divide what little is left by α = 0.01.",
)

# %%
t = torch.linspace(0.01, 0.99, 99).double()
zero, delta = torch.zeros(99, 1).double(), torch.full((99, 1), 0.01).double()


def growth(convert, path, t=t, zero=zero, delta=delta):
    """By how much an error grows when it is converted: the conversions are linear."""
    return ((convert(path, t, zero, delta) - convert(path, t, zero, 0 * delta)) / delta).abs()[:, 0]


# %% jupyter={"source_hidden": true} tags=["hide-input"]
fig, axes = panels(3, 2.3, sharey=True)
for ax, (title, convert) in zip(axes, {"ε to velocity": epsilon_to_velocity, "x₁ to velocity": x1_to_velocity, "velocity to score": velocity_to_score}.items(), strict=True):  # fmt: skip
    for (name, p), role in zip({"rectified flow": rf, "VP-cosine": cosine, "VP-linear": linear}.items(), ("exact", "other", "third"), strict=True):  # fmt: skip
        ax.semilogy(t, growth(convert, p), color=COLORS[role], label=name)
    ax.set(title=title, xlabel="t")
axes[0].set_ylabel("error out / error in")
axes[0].legend(fontsize=8)
show(fig, "By how much an error grows, on a logarithmic scale over t. From epsilon to velocity it grows towards t = 0, from x1 to velocity towards t = 1, from velocity to score towards t = 1.")  # fmt: skip
verify("rectified flow: from ε the factor is 1/t", growth(epsilon_to_velocity, rf) * t, 1.0, limit=1e-9, wrong={"from x₁": growth(x1_to_velocity, rf) * t})  # fmt: skip
verify("from the velocity to ε it is t", growth(velocity_to_epsilon, rf) / t, 1.0, limit=1e-9, wrong={"to x₁": growth(velocity_to_x1, rf) / t})  # fmt: skip
verify("from x₁ it is 1/(1 − t)", growth(x1_to_velocity, rf) * (1 - t), 1.0, limit=1e-9, wrong={"from ε": growth(epsilon_to_velocity, rf) * (1 - t)})  # fmt: skip

# %% [markdown]
# **On rectified flow ε is delicate at the noise end, $x_1$ at the data end, and a velocity at neither**: from a velocity the factors to $x_1$ and ε are $1 - t$ and $t$. Only its *score* fails, at $t = 1$, where no noise is left. VP-cosine is alike. VP-linear and VE have other ends, and their curves look different (on VP-linear the first and the third stay finite): choose them in the first lab. Where a conversion has no answer, `fmlib` says so instead of returning an infinity.
#
# ## One optimum, many losses
#
# All targets have the same best answer, once converted. But the square of an error is what is trained, so each loss is another one with a weight over $t$. With $\mathrm{SNR} = \alpha^2/\sigma^2$:
#
# | loss on | is the loss on $x_1$ times | known as |
# |---|---|---|
# | $\epsilon$ | $\mathrm{SNR}$ | DDPM's simple loss |
# | $v_{\text{diff}} = \alpha\epsilon - \sigma x_1$, VP paths | $\mathrm{SNR} + 1$ | v-prediction |
# | $v$, rectified flow | $1/(1-t)^2$ | flow matching |
# | $\epsilon$, with the weight $\min(1, \gamma/\mathrm{SNR})$ | $\min(\mathrm{SNR}, \gamma)$ | min-SNR-γ, $\gamma = 5$: nearly clean times do not outvote the rest (Hang et al. 2023) |
# | EDM's output $F$, on $x_1 + \sigma x_0$ | $\frac1{\sigma^2} + \frac1{\sigma_d^2}$ | EDM, with $\sigma_d$ the spread of the data (Karras et al. 2022) |
#
# Where do they come from? Write $\delta$ for the error of a prediction. $x_t$ is given, so $\alpha\,\delta x_1 + \sigma\,\delta\epsilon = 0$, and $(\delta\epsilon)^2 = \mathrm{SNR}\,(\delta x_1)^2$. In the same manner $v = (x_1 - x_t)/(1-t)$ gives $\delta v = \delta x_1/(1-t)$, and EDM's $\hat x_1 = c_{\text{skip}}\,x + c_{\text{out}}\,F$, with $c_{\text{out}}^2 = \sigma^2\sigma_d^2/(\sigma^2 + \sigma_d^2)$, the last row.

# %%
guess = lambda x1: x1 + 0.3 * torch.randn_like(x1)  # any prediction of the data, right or wrong
x1, x0, t = mixture.sample(500), torch.randn(500, 2).double(), 0.02 + 0.96 * torch.rand(500).double()


def ratio(path, name, wanted):
    """The error of one prediction, squared, over that of the data prediction."""
    x, wrong = path.sample_xt(t, x0, x1), guess(x1)
    square = lambda a, b: (a - b).square().sum(1)
    return square(getattr(conversions, f"x1_to_{name}")(path, t, x, wrong), wanted) / square(wrong, x1)


# %% jupyter={"source_hidden": true} tags=["hide-input"]
snr = (cosine.alpha(t) / cosine.sigma(t)) ** 2
of_v = ratio(rf, "velocity", x1 - x0)
verify("VP-cosine: loss on ε / loss on x₁, divided by SNR", ratio(cosine, "epsilon", x0) / snr, 1.0, limit=1e-6, wrong={"divided by 1 / SNR": ratio(cosine, "epsilon", x0) * snr})  # fmt: skip
verify("rectified flow: loss on v / loss on x₁, divided by 1/(1 − t)²", of_v * (1 - t) ** 2, 1.0, limit=1e-6, wrong={"divided by 1/t²": of_v * t**2})  # fmt: skip
x = cosine.sample_xt(t, x0, x1)
wrong = guess(x1)
v_diff = lambda data: velocity_to_v_diff(cosine, t, x, x1_to_velocity(cosine, t, x, data))
of_v_diff = (v_diff(wrong) - v_diff(x1)).square().sum(1) / (wrong - x1).square().sum(1)
verify("VP-cosine: loss on v_diff / loss on x₁, divided by SNR + 1", of_v_diff / (snr + 1), 1.0, limit=1e-6, wrong={"divided by SNR": of_v_diff / snr})  # fmt: skip

# %% [markdown]
# Do these weights matter? For a network that can represent the best answer at every $t$, and is trained to the end, no. Ours is small and trained for 500 steps. Three of them, each on its own target (output and loss change at once; the next section separates them):


# %% jupyter={"source_hidden": true} tags=["hide-input"]
def fit(nets):
    for kind, net in nets.items():
        torch.manual_seed(1)
        optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=500)
        for _ in range(500):
            x1 = three_gaussians().sample(256).float()
            x0, t = torch.randn_like(x1), stratified_t(256)
            target = {"velocity": x1 - x0, "epsilon": x0, "x1": x1}[kind]
            loss = (net(t, rectified_flow_path().sample_xt(t, x0, x1)) - target).square().sum(1).mean()
            optimizer.zero_grad(), loss.backward(), optimizer.step(), schedule.step()
    return nets


torch.manual_seed(1)
nets = trained("06-targets", nn.ModuleDict({k: VectorFieldMLP(2, 64) for k in ("velocity", "epsilon", "x1")}), fit)


# %% jupyter={"source_hidden": true} tags=["hide-input"]
def field_error(kind, low, high, n=4000):
    """Mean squared error of the converted velocity for times between low and high."""
    t = low + (high - low) * torch.rand(n)
    x1 = mixture.sample(n).float()
    x = rf.sample_xt(t, torch.randn_like(x1), x1)
    out = nets[kind](t, x)
    v = out if kind == "velocity" else getattr(conversions, f"{kind}_to_velocity")(rf, t, x, out)
    return (v - mixture.velocity(rf, t, x)).square().sum(1).mean().item()


edges = [0.02, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.98]
parts = list(pairwise(edges))
curves = {kind: [field_error(kind, *part) for part in parts] for kind in nets}
fig, (ax,) = panels(1, 2.3)
for kind, role in {"velocity": "model", "epsilon": "noise", "x1": "data"}.items():
    ax.semilogy([(a + b) / 2 for a, b in parts], curves[kind], "o-", color=COLORS[role], markersize=4, label=f"predicts {kind}")  # fmt: skip
ax.set(xlabel="t", ylabel="error of the velocity", xlim=(0, 1)), ax.legend(fontsize=8)
show(fig, "Error of the velocity over t for three networks. The one that predicts the noise is worst near t = 0, the one that predicts the data near t = 1.")  # fmt: skip
verify("t below 0.1: error of the ε-network, divided by that of the velocity network", curves["epsilon"][0] / curves["velocity"][0], at_least=3.0, wrong={"above 0.9": curves["epsilon"][-1] / curves["velocity"][-1]})  # fmt: skip
verify("t above 0.9: error of the x₁-network, divided by that of the velocity network", curves["x1"][-1] / curves["velocity"][-1], at_least=3.0, wrong={"below 0.1": curves["x1"][0] / curves["velocity"][0]})  # fmt: skip

# %% [markdown]
# The ε- and the $x_1$-network are worst where their error is multiplied, which is where their own loss puts little weight on the velocity.
#
# ## Loss and output are two choices
#
# You may *output* $x_1$ and still *train* on the velocity: convert, then take the loss. The weight then comes from the loss alone. What is left for the output to decide? How its errors are scaled at each $t$, as above, and what the network must be able to *write down*.
#
# Imagine pictures with 512 pixels that all lie on a flat sheet: two numbers say everything. An $x_1$ lies on the sheet. Noise fills all 512 dimensions, and so does a velocity.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
predict(
    "Three equal networks with 64 hidden units, trained with the same velocity loss. One outputs x₁, one v, one ε. Whose samples lie on the sheet?",
    "only those of the x₁-output",
    choices=["all three", "those of x₁ and v", "only those of the x₁-output"],
    because="64 hidden units cannot carry noise of 512 dimensions through; the data they can. What was not carried stays in the samples with v, and with ε the conversion multiplies it as well.",
)


# %%
def sheet_field(net, output):
    """The velocity of a network that outputs x1, v or epsilon."""

    def v(t, x):
        out = net(torch.cat([x, t[:, None]], dim=1))
        t = t[:, None].clamp(0.05, 0.95)  # keeps 1 / t and 1 / (1 - t) small
        return {"x1": (out - x) / (1 - t), "v": out, "epsilon": (x - out) / t}[output]

    return v


# %% jupyter={"source_hidden": true} tags=["hide-input"]
def off_the_sheet(output, seed=3, d=512, steps=250):
    """Train on a sheet in d dimensions; the median distance of the samples from it."""
    torch.manual_seed(seed)
    sheet = torch.linalg.qr(torch.randn(d, 2))[0]
    net = nn.Sequential(nn.Linear(d + 1, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, d))
    v, optimizer = sheet_field(net, output), torch.optim.AdamW(net.parameters(), lr=1e-3)
    for _ in range(steps):
        x1 = mixture.sample(256).float() @ sheet.T
        x0, t = torch.randn(256, d), torch.rand(256)
        loss = (v(t, rf.sample_xt(t, x0, x1)) - (x1 - x0)).square().mean()
        optimizer.zero_grad(), loss.backward(), optimizer.step()
    x = euler_sampler(v, torch.randn(500, d), steps=20)
    return (x - x @ sheet @ sheet.T).norm(dim=1).median()


distance = {output: off_the_sheet(output) for output in ("x1", "v", "epsilon")}
verify("distance of the samples from the sheet, x₁-output (noise itself: √510 = 22.6)", distance["x1"], at_most=0.3, wrong={"v-output": distance["v"], "ε-output": distance["epsilon"]})  # fmt: skip

# %% [markdown]
# Li & He (2025) found this on images: without an autoencoder, on raw pixels in large patches, predicting the data is what works. SD3 and FLUX, in the *latent* space of an autoencoder, predict the velocity. A rule to begin with: $x_1$ where a token holds many more numbers than the network can carry, otherwise $v$; ε only if the schedule keeps $\alpha_0 > 0$.
#
# ## A schedule that cannot make black pictures
#
# Stable Diffusion's schedule does not end in pure noise: $\alpha = 0.068$ of the picture is left (Lin et al. 2023). That is hardly visible. But *brightness* is an average over all numbers of the picture, and in an average the noise cancels. So in training the network can read the brightness from the "noise". When you sample, you start from real noise, which says: medium grey. A toy with an exact field:

# %%
d, spread, leak = 16_384, 0.5, 0.0683  # numbers in the picture; spread of its mean; what is left of it at t = 0
angle = lambda t, a: math.asin(a) + (math.pi / 2 - math.asin(a)) * t
leaky = FlowPath("leaky", lambda t: torch.sin(angle(t, leak)), lambda t: torch.cos(angle(t, leak)))
brightness = GaussianMixture(torch.zeros(1, 1).double(), torch.tensor([spread * d**0.5]))
start = torch.randn(2000, 1).double()


def share(path):
    """The spread of the brightness of samples, as a share of the data's."""
    v = lambda t, x: brightness.velocity(path, t, x)
    return rk4_sampler(v, start, steps=100, grid=lambda n: uniform_grid(n) ** 3).std() / d**0.5 / spread


# %% jupyter={"source_hidden": true} tags=["hide-input"]
closed = 1 / (leak**2 * d * spread**2 + 1 - leak**2) ** 0.5
verify("share of the data's spread of brightness that the samples have", share(leaky), closed, limit=0.03, wrong={"a schedule that ends in pure noise": share(cosine)})  # fmt: skip

# %% [markdown]
# The samples keep about a fifth of the range: neither black nor white. By hand: add the $d$ numbers and divide by $\sqrt d$. The noise then has spread 1, the brightness $b\sqrt d$, with $b$ its spread. The flow was made for a start of spread $\sqrt{\alpha^2 b^2 d + \sigma^2}$; we give it 1. It only stretches, so the samples keep $1/\sqrt{\alpha^2 b^2 d + \sigma^2}$ of the range. The cure of Lin et al. (2023), *zero terminal SNR*, makes $\alpha_0 = 0$. But then ε says nothing about the data at $t = 0$, so they predict $v_{\text{diff}}$, which there is $-x_1$. Rectified flow has $\alpha_0 = 0$ from birth, and its velocity asks for the data there too.
#
# ## The SDE of rectified flow
#
# You will often read that rectified flow is an ODE and has no SDE. Let us build it. In noising time $\tau = 1 - t$ we want noise to be added so that $x = (1-\tau)x_1 + \tau x_0$. Take $dx = a(\tau)\,x\,d\tau + g\,dW$. The data must shrink like $1 - \tau$, so $a = -\frac1{1-\tau}$. Around the shrunk data the variance $V$ obeys $V' = 2aV + g^2$: the drift scales it, the noise adds to it. It must be $\tau^2$, whose derivative is $2\tau$. So $g^2 = 2\tau - 2a\tau^2$, and with $f = a\,x$:
#
# $$ f = -\frac{x}{1-\tau}, \qquad g^2 = \frac{2\tau}{1-\tau}. $$
#
# Backwards, any share $\eta \ge 0$ of the noise may be used, if the drift makes up for it: $dx = (v + \frac\eta2 g^2 s)\,dt + \sqrt\eta\,g\,dW$, with the score $s$. `sde_sampler` calls $\eta$ `noise`. (At $t = 0$ $g$ is infinite; it takes its first step without noise.)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
FlowLab(
    three_gaussians(),
    NOISY,
    layers=["density", "particles"],
    controls=["t", "noise", "mixture"],
    tour=ETA,
    steps=100,
)


# %%
def noising(x, until, g2=lambda tau: 2 * tau / (1 - tau), steps=300):
    """Euler-Maruyama of the noising SDE, from the data at tau = 0."""
    dt = until / steps
    for i in range(steps):
        tau = (i + 0.5) * dt
        x = x - x / (1 - tau) * dt + (g2(tau) * dt) ** 0.5 * torch.randn_like(x)
    return x


# %% jupyter={"source_hidden": true} tags=["hide-input"]
data, fresh = mixture.sample(2500), mixture.sample(2500)
marginal = rf.sample_xt(0.2, torch.randn_like(fresh), fresh)
halved = lambda tau: tau / (1 - tau)
verify("from data to τ = 0.8: energy distance to the exact density (unbiased: it can be a little below 0)", energy_distance(noising(data, 0.8), marginal), at_most=0.008, wrong={"with g² halved": energy_distance(noising(data, 0.8, halved), marginal)})  # fmt: skip
v = lambda t, x: mixture.velocity(rf, t, x)
noise = torch.randn(2500, 2).double()
to_data = lambda eta: energy_distance(sde_sampler(v, noise, steps=200, path=rf, noise=eta), fresh)


def with_noise(x, corrected, steps=200):
    """Euler-Maruyama with eta = 1, its first step without noise."""
    for i in range(steps):
        t = torch.full((len(x),), i / steps).double()
        g2 = 2 * (1 - i / steps) / (i / steps) if i else 0.0
        drift = v(t, x) + (0.5 * g2 * mixture.score(rf, t, x) if corrected else 0)
        x = x + drift / steps + (g2 / steps) ** 0.5 * torch.randn_like(x)
    return x


verify("back to data with η = 1: energy distance", energy_distance(with_noise(noise, True), fresh), at_most=0.02, wrong={"the drift without the score": energy_distance(with_noise(noise, False), fresh)})  # fmt: skip
verify("the library's sampler, η = 0.3 and 1: the larger energy distance", max(to_data(0.3), to_data(1.0)), at_most=0.015, wrong={"the same noise, not solved": energy_distance(noise, fresh)})  # fmt: skip

# %% [markdown]
# ## Where the score really fails
#
# Not on some path, but for **pairs that are not independent** (or noise that is not Gaussian): then the formula from the velocity at a point to the score there is wrong. Lesson 07 makes such pairs. Take $x_0 \sim \mathcal N(0,1)$ and always $x_1 = 2x_0$. Then $x_t = (1+t)\,x_0$, and everything is known.

# %%
t, x = torch.tensor(0.5).double(), torch.ones(1, 1).double()
true_v, true_score = x / (1 + t), -x / (1 + t) ** 2
through_score = score_to_velocity(rf, t, x, true_score)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
verify("E[x₀ | x] from the true velocity", velocity_to_epsilon(rf, t, x, true_v), 1 / 1.5, limit=1e-9, wrong={"from the true score": score_to_epsilon(rf, t, x, true_score)})  # fmt: skip
verify("the velocity at x = 1", true_v, 2 / 3, limit=1e-9, wrong={"converted from the true score": through_score})

# %% [markdown]
# **After reflow or minibatch OT you still have a velocity, and data and noise follow from it. The score cannot be computed from it any more.** Tweedie's formula needed independent Gaussian noise.
#
# ## Two meanings of "v"
#
# Salimans & Ho's v is $v_{\text{diff}} = \alpha\,\epsilon - \sigma\,x_1$, not the velocity. On VP-cosine the velocity is $-\frac\pi2 v_{\text{diff}}$. On rectified flow the two are multiples of each other at $t = \frac12$ only: drag $t$ in the first lab.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
t = torch.linspace(0.1, 0.9, 300).double()
x1 = mixture.sample(300)


def multiple(path, factor=-math.pi / 2):
    x = path.sample_xt(t, torch.randn_like(x1), x1)
    u = mixture.velocity(path, t, x)
    return u - factor * velocity_to_v_diff(path, t, x, u)


verify("VP-cosine: velocity + π/2 · v_diff", multiple(cosine), 0.0, limit=1e-9, wrong={"on rectified flow": multiple(rf)})  # fmt: skip

# %% [markdown]
# ## A DDPM, sampled as a flow
#
# A model in DDPM's convention takes a *step number* $k = 0 \ldots 999$ of noising, and predicts ε. Its schedule is nearly VP-linear, and step $k$ is the noising time $(k+1)/1000$. Three lines make it a velocity. (The step number is rounded: put the calls at multiples of 1/1000, or a higher order gains nothing. And do not ask at $t = 1$, where the conversion has no answer.)

# %%
alpha_bar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000).double(), dim=0)  # Ho et al. 2020, section 4


def as_velocity(t, x):
    k = ((1 - t) * 1000).round().long().sub(1).clamp(0, 999)
    return epsilon_to_velocity(linear, t, x, ddpm_model(x, k))


# %% jupyter={"source_hidden": true} tags=["hide-input"]
def ddpm_model(x, k):
    """The exact E[epsilon | x] at noising step k, as a network with DDPM's schedule would learn it."""
    a, s = alpha_bar[k].sqrt()[:, None, None], (1 - alpha_bar[k]).sqrt()[:, None, None]
    var = a**2 * mixture.stds[:, None] ** 2 + s**2
    offset = x[:, None] - a * mixture.means
    log_weight = mixture.weights.log() - 0.5 * offset.square().sum(-1) / var[..., 0] - var[..., 0].log()
    return (log_weight.softmax(1)[..., None] * s / var * offset).sum(1)


not_reversed = lambda t, x: epsilon_to_velocity(linear, t, x, ddpm_model(x, (t * 999).round().long()))
ends = {model: euler_sampler(model, noise, steps=200) for model in (as_velocity, not_reversed)}
verify("the DDPM as a flow: energy distance to the data", energy_distance(ends[as_velocity], fresh), at_most=0.02, wrong={"time not reversed": energy_distance(ends[not_reversed], fresh)})  # fmt: skip

# %% [markdown]
# ## Traps
#
# - **"v-prediction" without saying which v.** The velocity, or $\alpha\epsilon - \sigma x_1$.
# - **"$x_0$-prediction".** In DDPM's papers $x_0$ is the data. Say "data prediction".
# - **Output and loss in one breath.** They are two choices.
# - **A score from a reflowed model.** Its velocity is fine; converted to a score it is not.
#
# ## Your turn
#
# Replace `return None` by your answer and run the cell. Any right answer is accepted; a wrong one is told what is wrong.
#
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
#
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
#
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
#
# ## Interview walkthrough
#
# Say your answer aloud before you open a card. Each has the 30-second answer, the usual mistake, and the section that proves it.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
interview_cards("conversions", "score-velocity", "rf-sde", "where-conversion-fails", "two-vs")

# %% [markdown]
# ## You can now …
#
# 1. solve the 2 × 2 system for any pair, and add the score by Tweedie;
# 2. say why ε is delicate at the noise end and $x_1$ at the data end; turn one loss into another by its weight; and keep output and loss apart;
# 3. write $f = -x/(1-\tau)$, $g^2 = 2\tau/(1-\tau)$ for rectified flow;
# 4. name the failing case: pairs that are not independent, or noise that is not Gaussian.
#
# Next: [07 · Reflow](07_reflow.ipynb). Can a flow be made straight?
#
# ## References
#
# - P. Vincent, *A Connection Between Score Matching and Denoising Autoencoders*, 2011; B. Efron, *Tweedie's Formula*, 2011.
# - T. Salimans, J. Ho, *Progressive Distillation*, 2022, arXiv 2202.00512: v-prediction and its weights, section 4.
# - T. Hang et al., *Min-SNR*, 2023, arXiv 2303.09556. T. Karras et al., *EDM*, 2022, arXiv 2206.00364: table 1.
# - S. Lin et al., *Common Diffusion Noise Schedules and Sample Steps are Flawed*, 2023, arXiv 2305.08891.
# - T. Li, K. He, *Back to Basics: Let Denoising Generative Models Denoise*, 2025, arXiv 2511.13720.
# - J. Ho et al., *DDPM*, 2020, arXiv 2006.11239: equation 4, section 4. Y. Song et al., 2021, arXiv 2011.13456: equation 13, and the linear SDEs of which ours is one.
