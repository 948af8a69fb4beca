# %% [markdown]
# # 04 · Training a flow
#
# A network learns a velocity field by plain regression, and one number tells you how good it became – but that number is not the loss.
#
# **You will be able to**
#
# 1. write the conditional flow matching loss from memory, and say what each of its random draws is for;
# 2. say why the loss does not go to zero, and compute the value where it stops;
# 3. choose a moving average of the weights, a time embedding and a distribution of $t$, and say what each choice changes;
# 4. judge a generative model by a distance together with its sampling floor.
#
# *Before:* you have written a training loop in PyTorch, and know that an ODE $\dot x = v(t, x)$ moves points. *Time:* 35 minutes to read, about 65 seconds to run; 15 more for 2 exercises and 5 cards. Begin with *Run ▸ Run All Cells*: until its cell has run, a player is a still picture.

# %%
import time

import torch

from fmlib import *
from fmlib.page import *
from fmlib.study import *

torch.set_num_threads(1)  # these tensors are tiny: a second thread costs more than it brings
torch.manual_seed(0)
plots.use_style()

path = rectified_flow_path()

# %% [markdown]
# ## The whole training set in one picture
#
# Take a noise point $x_0 \sim \mathcal N(0, I)$ and a data point $x_1$, here from two moons. Join them by a line (left; noise is blue, data orange). Stop somewhere on the line, at a random time $t$. You are at $x_t$, and you know which way the line goes. That is one training example: **input $(t, x_t)$, answer $x_1 - x_0$**. No ODE is solved.

# %%
x0, x1, t = torch.randn(400, 2), sample_moons(400), uniform_t(400)
xt, ut = path.sample_xt(t, x0, x1), path.target_ut(t, x0, x1)

fig, axes = panels(3, 2.2)
for i in range(60):
    axes[0].plot(*torch.stack([x0[i], x1[i]]).T, color=COLORS["path"], linewidth=0.5, zorder=0)
cloud(axes[0], x0, "noise", alpha=0.7), cloud(axes[0], x1, "data", alpha=0.7)
axes[0].set_title("pairs $(x_0, x_1)$")
points = axes[1].scatter(*xt.T, c=t, s=5, cmap="viridis")
axes[1].set(title="inputs $x_t$, coloured by $t$", aspect="equal")
fig.colorbar(points, ax=axes[1], shrink=0.8)
axes[2].quiver(*xt[:120].T, *ut[:120].T, t[:120], cmap="viridis", angles="xy", scale=22, width=0.006)
axes[2].set(title="answers $x_1 - x_0$", aspect="equal")
for ax in axes:
    plots.bare(ax, (-3.2, 4.6, -3.2, 3.2))
show(
    fig,
    "Left: lines join blue noise points to orange points on two moons. Middle: points part of the way along such lines, coloured by t. Right: an arrow at each of them, in many directions, often crossing.",
)

# %% [markdown]
# > **Predict, then run (1).** The lines cross. At a crossing the network sees one input $(t, x)$ and gets two different answers. Which answer does a network give that is trained with squared error? Decide before you read on.
#
# Squared error has one best answer: the **mean** of the answers seen at that input. So the network learns
#
# $$ v_\theta(t, x) \approx u_t(x) = \mathbb E\,[\,\dot x_t \mid x_t = x\,], \qquad \dot x_t = x_1 - x_0 . $$
#
# This $u_t$ is the **marginal velocity**. Lesson 02 proves that it is exactly the field that carries the noise to the data (Lipman et al. 2023, Theorems 1 and 2). The spread of the answers around their mean never goes away. Keep that in mind for the loss.

# %% [markdown]
# ## The loss
#
# In words: draw a time, draw noise, draw data; stop on the line; compare the network's velocity with the line's.
#
# $$ \mathcal L_{\text{CFM}}(\theta) = \mathbb E_{t,\,x_0,\,x_1} \bigl\| v_\theta(t, x_t) - u_t(x_t \mid x_0, x_1) \bigr\|^2 $$
#
# In code it is the same line by line. Here is one training step, taken apart.

# %%
torch.manual_seed(1)
model = VectorFieldMLP(dim=2, hidden=128)
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)

x1 = sample_moons(512)  # [B, 2]  data
t = uniform_t(512)  # [B]     one time for each pair
x0 = torch.randn_like(x1)  # [B, 2]  noise
xt = path.sample_xt(t, x0, x1)  # [B, 2]  x_t = (1 - t) x_0 + t x_1
ut = path.target_ut(t, x0, x1)  # [B, 2]  u_t = x_1 - x_0
v = model(t, xt)  # [B, 2]
loss = (v - ut).square().sum(dim=1).mean()  # sum over dimensions, mean over the batch

loss.backward()
optimizer.step()
again = (model(t, xt) - ut).square().sum(dim=1).mean()
print(f"loss on this batch before the step {loss.item():.4f}, after it {again.item():.4f}")
assert again < loss

# %% [markdown]
# **Sum over the dimensions, then mean over the batch.** That is what the formula says. `F.mse_loss` divides by the dimension as well. The *minimiser* is the same, the value is not: on 8 × 8 images ($d = 64$) it is 64 times smaller, and so are the gradients that you clip. (`train_flow_matching` clips the gradient of loss / $d$, so that one limit serves every dimension.) You will often read $\mathbb E\|\cdot\|^2$ beside a call of `mse_loss`. The table below shows the loss of the best possible answer: done right, and with three mistakes that people really make. The last column takes the field that each of them learns, follows it from noise, and asks how far a sample lies from the nearest data point.

# %%
moons = moons_mixture()  # the moons as a distribution whose exact u_t is known; explained below

torch.manual_seed(2)
x1 = sample_moons(5_000)
x0, t = torch.randn_like(x1), uniform_t(5_000)
xt, ut = path.sample_xt(t, x0, x1), path.target_ut(t, x0, x1)
best = moons.velocity(path, t, xt)

exact = lambda t, x: moons.velocity(path, t, x)
mistakes = {  # the loss of each pair, at the best answer; and the field that is learned
    "right": ((best - ut).square().sum(dim=1), exact),
    "mean over dimensions": ((best - ut).square().mean(dim=1), exact),
    "target x_0 - x_1, sign flipped": ((-best - (-ut)).square().sum(dim=1), lambda t, x: -exact(t, x)),
    "fed x_1 where x_t was meant": ((x1 - ut).square().sum(dim=1), lambda t, x: x),  # it takes x for data
}
losses, away = {}, {}
for name, (values, field) in mistakes.items():
    losses[name] = estimate(values)
    away[name] = nearest_distance(heun_sampler(field, x0[:500], steps=20), x1)
    print(f"{name:32} loss {losses[name]}   distance of a sample to the data {away[name]:.2f}")
assert losses["target x_0 - x_1, sign flipped"] == losses["right"]
assert abs(losses["fed x_1 where x_t was meant"].mean - 2) < 5 * losses["fed x_1 where x_t was meant"].std_error
assert away["right"] < 0.1 and min(list(away.values())[2:]) > 0.5

# %% [markdown]
# Read the first line again: **the exact field, the best that any network can ever be, has a loss far from zero.** **And the third is the same number, digit for digit: a flipped sign is invisible in the loss.** The best answer to a flipped target is the flipped field, and it fits just as well. Only sampling shows it. In the fourth a network is fed $x_1$ where $x_t$ was meant. It knows the data and only has to guess the noise, so its best loss is $\mathbb E\|x_0\|^2 = d$, whatever the data are. Here that is 2 and looks better than it can be; on the digits below it is 64 and looks worse than a real training. Neither of the two can sample. With fresh data in every batch, a mean loss clearly below that of the exact field is a bug. (On a finite training set it can also be overfitting, lesson 02.)
#
# ## The loss does not go to zero
#
# The spread of the answers around their mean is the floor of the loss:
#
# $$ \mathcal L_{\text{CFM}}(\theta) = \underbrace{\mathbb E\,\| v_\theta(t, x_t) - u_t(x_t) \|^2}_{\text{the error you care about}} + \underbrace{\mathbb E \operatorname{tr} \operatorname{Var}[\,\dot x_t \mid x_t\,]}_{\text{does not depend on } \theta} . $$
#
# The second term can be computed here. The two moons are arcs blurred by a Gaussian, which makes them a mixture of many small Gaussians, and for Gaussian mixtures $u_t$ and the variance have closed forms on every path. `moons_mixture()` is that mixture, our **oracle**.


# %%
def draw(n):
    """n training examples: t [n], x_t [n, 2], u_t [n, 2]."""
    x1 = sample_moons(n)
    x0, t = torch.randn_like(x1), stratified_t(n)
    return t, path.sample_xt(t, x0, x1), path.target_ut(t, x0, x1)


torch.manual_seed(3)
t, xt, ut = draw(20_000)
floor = estimate(moons.velocity_var(path, t, xt))
zero_net = estimate(ut.square().sum(dim=1))
print(f"loss of a network that returns 0: {zero_net}")
print(f"loss of a perfect network:        {floor}")

# %% [markdown]
# > **Predict, then run (2).** Two thousand steps of 256 pairs. Where will the curve end: near 0, near the black line, or half-way? When will it *look* finished?

# %%
TOTAL = 2_000
SNAPSHOTS = [0, 50, 100, 200, 400, 800, 2000]
torch.manual_seed(0)
model = VectorFieldMLP(dim=2, hidden=128)
history = LiveLoss(
    TOTAL,
    floor=floor.mean,
    snapshot_at=SNAPSHOTS,
    alt="The loss falls fast until step 200, then slowly, down to the black line of a perfect model.",
)
history.snapshots[0] = {name: value.clone() for name, value in model.state_dict().items()}
naive_ema = make_ema(model)  # for later: a moving average with a fixed decay


def callback(step, loss, model, ema_model):
    history(step, loss, model, ema_model)
    update_ema(naive_ema, model, decay=0.9999)


before = time.process_time()
model, ema_model = train_flow_matching(
    model, MoonDataset(batch=256, total=TOTAL), path, total_steps=TOTAL, callback=callback
)
print(f"{TOTAL} steps in {time.process_time() - before:.0f} s of computing on one thread")

# %% [markdown]
# The curve ends on the black line, and it looks almost finished after 200 steps. **It is not.** The part that still improves is the first term of the sum, and it is small beside the second. (The second term scatters from batch to batch; therefore the curve dips below the line here and there.)
#
# ## The check: the loss splits as claimed
#
# Three averages are measured on the same fresh examples: the CFM loss, the error against the oracle (the *flow matching* loss, FM) and the variance. Their gap CFM − (FM + variance) must be zero within its standard error $s$, so $z = \text{gap}/s$ must be small. The wrong twin uses the mean over dimensions for the FM part – the bug from above.


# %%
def closing_gap(net, n=20_000, wrong=False):
    """CFM, FM and variance with their errors, and the z-score of CFM - FM - variance."""
    t, xt, ut = draw(n)
    with torch.no_grad():
        v = net(t, xt)
    cfm = (v - ut).square().sum(dim=1)
    fm = (v - moons.velocity(path, t, xt)).square().sum(dim=1)
    fm = fm / 2 if wrong else fm
    var = moons.velocity_var(path, t, xt)
    gap = estimate(cfm - fm - var)
    return estimate(cfm), estimate(fm), estimate(var), gap.mean / gap.std_error


torch.manual_seed(4)
networks = {"untrained": VectorFieldMLP(2, 128), "trained": ema_model}
print(f"{'':12}{'CFM':>18}{'FM':>18}{'variance':>18}{'z':>8}")
for name, net in networks.items():
    cfm, fm, var, z = closing_gap(net)
    print(f"{name:12}{cfm!s:>18}{fm!s:>18}{var!s:>18}{z:8.1f}")
    assert abs(z) < 4.5
    fm_trained = fm
*_, z_wrong = closing_gap(networks["untrained"], wrong=True)
print(f"wrong twin (mean over dimensions): z = {z_wrong:.0f}")
assert abs(z_wrong) > 10
print(f"the trained network's own error is {100 * fm_trained.mean / floor.mean:.2f} % of its loss")

# %% [markdown]
# ## Samples, and a number for them
#
# Sampling starts at noise and follows the learned velocity from $t = 0$ to $t = 1$; here with 40 Euler steps (lesson 05 does better).
#
# To compare samples with data we use the **sliced Wasserstein-2 distance**: project both sets on many directions, sort, and take the root mean square difference. Its unit is that of the data, here a moon's radius is 2. Two *real* samples of the same size are not at distance 0 either. That value is the **sampling floor**: with this many points, *this distance* cannot tell a model at the floor from the data. Another measure may. The second one here asks what share of the samples lies where the data's density is lower than at all but 1 % of real data: points in the gap between the moons, or beyond them. Real data read 1 %.

# %%
torch.manual_seed(5)
N = 3_000
noise, real = path.sample_prior(N, 2), sample_moons(N)
sw2_floor = sampling_floor(sliced_w2, sample_moons, N, repeats=8)


def generate(net):
    return euler_sampler(net, noise, steps=40)


trained = sliced_w2(generate(ema_model), real)
print(f"sliced W2 at n = {N}:  trained {trained:.3f}   sampling floor {sw2_floor}")
assert trained < 3 * sw2_floor.mean


def strays(x):
    return off_support_share(x, real, lambda x: moons.log_prob(path, 1.0, x))


samples = {"trained network": generate(ema_model), "exact field": euler_sampler(exact, noise, steps=40)}
share = {name: strays(x) for name, x in ({"fresh real data": sample_moons(N)} | samples).items()}
for name, s in share.items():
    print(f"off the support: {name:16} {100 * s.mean:.1f} % ± {100 * s.std_error:.1f}")
assert share["fresh real data"].mean < 0.025 < 0.03 < share["trained network"].mean


# %% [markdown]
# The distance says "finished", the second measure does not: several percent of the network's samples are strays. The exact field, followed with the same 40 Euler steps, has few. So it is the network, not the solver: a smooth function blurs the sharp edge of a moon. **A distance near its floor is not the truth.** Put beside it a measure that sees what it averages away.


# %%
def load_snapshot(step):
    net = VectorFieldMLP(2, 128)
    net.load_state_dict(history.snapshots[step])
    return net.eval()


clouds = {step: generate(load_snapshot(step)) for step in SNAPSHOTS}
curve = {step: sliced_w2(samples, real) for step, samples in clouds.items()}

fig, axes = panels(5, 1.65, sharex=True, sharey=True)
for ax, step in zip(axes, [0, 50, 200, 800, 2000], strict=True):
    cloud(ax, real[:1500], "data", alpha=0.25)
    cloud(ax, clouds[step][:1500], "model", size=2)
    ax.set_title(f"step {step}\nsliced W2 {curve[step]:.3f}", fontsize=9)
    plots.bare(ax, (-2.9, 4.9, -2.2, 3.2))
show(fig, "Samples after 0, 50, 200, 800 and 2000 steps: a round cloud first bends and then becomes the two moons.")

# %% [markdown]
# Drag the second slider to scrub through the training: the same noise points, carried by the network as it was at that step (its averaged weights, explained below). The first slider is the time $t$ of the flow.

# %%
ways = {step: euler_sampler(load_snapshot(step), noise[:600], steps=20, return_trajectory=True) for step in SNAPSHOTS}
player = FlowPlayer(
    torch.linspace(0, 1, 21),
    [Panel(by_steps=ways, trails=30)],
    limits=(-3.3, 5.1, -3.0, 3.3),
    steps=2000,
    steps_label="training step",
    alt="Trajectories from noise, for the network after 0 to 2000 training steps: at first the points hardly move, at the end they reach the two moons.",
)
player.steps = 200  # what the hand does; Python and the page stay in step
player

# %% [markdown]
# Now the same quality as a curve, beside the loss. Both axes are logarithmic, and the loss is shown as it is.

# %%
fig, (left, right) = panels(2, 2.7)
means = plots.smoothed(history.losses, 20)
left.loglog(20 * torch.arange(1, len(means) + 1), means, color=COLORS["model"])
left.axhline(floor.mean, color=COLORS["exact"], linewidth=1.2)
left.set(xlabel="step", title="CFM loss: looks finished early")
right.loglog(SNAPSHOTS[1:], [curve[s] for s in SNAPSHOTS[1:]], "o-", color=COLORS["model"])
right.axhline(sw2_floor.mean, color=COLORS["exact"], linewidth=1.2)
right.text(50, 1.1 * sw2_floor.mean, "sampling floor", va="bottom")
right.set(xlabel="step", title="sliced W2: still falling")
plots.plain_log(left.yaxis, [4, 5, 6, 7]), plots.plain_log(right.yaxis, [0.05, 0.1, 0.2, 0.4])
show(
    fig,
    "Left: the loss falls fast until step 200 and then slowly towards the black line. Right: the sliced Wasserstein distance keeps falling until step 2000, close to its floor.",
)

i200, i2000 = means[8:12].mean(), means[-4:].mean()
print(
    f"from step 200 to 2000 the loss falls by {100 * (1 - i2000 / i200):.0f} %, the distance by {100 * (1 - curve[2000] / curve[200]):.0f} %"
)
assert (1 - curve[2000] / curve[200]) > 2 * (1 - i2000 / i200)

# %% [markdown]
# ## The moving average of the weights
#
# The last weights of a run jump about with every batch. An **exponential moving average** (EMA) is smoother: after each step, $\bar\theta \leftarrow d\,\bar\theta + (1 - d)\,\theta$ with a decay $d$ near 1.
#
# > **Predict, then run (3).** The interview sheet sets $d = 0.9999$ and starts $\bar\theta$ at the initial weights. How much of the *untrained* network is left in the average after 2,000 steps: 0.01 %, 18 %, or 82 %?

# %%
print(f"share of the initial weights: 0.9999^2000 = {0.9999**TOTAL:.3f}")
distances = {
    "untrained": curve[0],
    "last weights": sliced_w2(generate(model), real),
    "EMA, fixed decay 0.9999": sliced_w2(generate(naive_ema), real),
    "EMA with warm-up": trained,
}
for name, value in distances.items():
    print(f"{name:26} sliced W2 {value:.3f}")
print(f"{'sampling floor':26} sliced W2 {sw2_floor}")
assert distances["EMA, fixed decay 0.9999"] > 5 * distances["EMA with warm-up"]

# %% [markdown]
# With the fixed decay the average is still mostly the untrained network. The cure is a **warm-up**: use the decay $\min(d, \frac{1+k}{10+k})$ at step $k$. The average then spans roughly the last tenth of the steps so far, however short the run is. With $d = 0.9999$ the limit takes over only after about 90,000 steps.
#
# In this run the learning rate falls to zero at the end, so the last weights do not jump, and the average brings nothing: the two rows agree within the scatter. With a **constant** learning rate it earns its place. The cell below trains 300 steps and measures the error against the oracle, which sees more than samples do.


# %%
def field_error(net, n=4_000):
    """E || v(t, x_t) - u_t(x_t) ||^2 against the oracle, on the same points for every network."""
    torch.manual_seed(6)
    t, xt, _ = draw(n)
    with torch.no_grad():
        return estimate((net(t, xt) - moons.velocity(path, t, xt)).square().sum(dim=1))


torch.manual_seed(7)
raw, averaged = train_flow_matching(
    VectorFieldMLP(2, 128), MoonDataset(256, 300), path, total_steps=300, schedule="constant", log_every=0
)
print(f"constant learning rate, 300 steps:  last weights {field_error(raw)}   EMA {field_error(averaged)}")
assert field_error(averaged).mean < field_error(raw).mean

# %% [markdown]
# ## How the network sees time
#
# The network gets $t$ through features $\cos(f t), \sin(f t)$ at several frequencies $f$. The interview sheet takes the Transformer's: from 1 down to $10^{-4}$. They were made for word positions 0, 1, 2, …, 10,000. Our $t$ lives in $[0, 1]$, and there almost all of them stand still.


# %%
def transformer_features(t, dim=128):
    freqs = 10_000 ** (-torch.arange(dim // 2) / (dim // 2))
    return torch.cat([torch.sin(t[:, None] * freqs), torch.cos(t[:, None] * freqs)], dim=1)


times = torch.linspace(0, 1, 501)
features = {
    "Transformer's, 1 to 1e-4": transformer_features(times),
    "ours, pi/2 to 32 pi": SinusoidalTimeEmbed(128)(times),
}
moving = {}
fig, axes = panels(2, 2.4)
for ax, (name, f) in zip(axes, features.items(), strict=True):
    ax.imshow(f.T, aspect="auto", cmap="RdBu", vmin=-1, vmax=1, extent=(0, 1, 128, 0), interpolation="nearest")
    ax.set(title=name, xlabel="t", ylabel="feature")
    moving[name] = int(((f.max(0).values - f.min(0).values) > 0.5).sum())
    share = torch.linalg.svdvals(f - f.mean(0)).square()
    print(
        f"{name:26} features that move by more than 0.5: {moving[name]:3} of 128;  first principal component: {100 * share[0] / share.sum():.0f} % of the variance"
    )
show(
    fig,
    "Two maps of 128 time features over t. The Transformer's map is almost constant in t; ours shows waves of many lengths.",
)
assert moving["Transformer's, 1 to 1e-4"] < 10 and moving["ours, pi/2 to 32 pi"] == 128

# %% [markdown]
# Does it matter? Measure, do not guess. The same 200 steps, the error against the oracle. The second network changes only the features. The third is the second with one thing more: the initial weights of its two inputs $x$ are enlarged. The last one is ours. It *adds* a projection of $x$ and one of $t$ where the interview sheet *concatenates* them; it also has one hidden layer more and a simpler branch for the time, so compare it with care.


# %%
class ConcatMLP(torch.nn.Module):
    """The interview sheet's way: 128 processed time features beside the 2 coordinates of x."""

    def __init__(self, features, x_gain=1.0, hidden=128):
        super().__init__()
        self.features = features
        self.t_embed = torch.nn.Sequential(
            torch.nn.Linear(128, hidden), torch.nn.SiLU(), torch.nn.Linear(hidden, hidden)
        )
        layers = [
            torch.nn.Linear(2 + hidden, hidden),
            torch.nn.SiLU(),
            torch.nn.Linear(hidden, hidden),
            torch.nn.SiLU(),
        ]
        self.net = torch.nn.Sequential(*layers, torch.nn.Linear(hidden, 2))
        with torch.no_grad():
            self.net[0].weight[:, :2] *= x_gain

    def forward(self, t, x):
        return self.net(torch.cat([x, self.t_embed(self.features(t))], dim=1))


errors = {}
for name, make in {
    "concatenated, Transformer's features": lambda: ConcatMLP(transformer_features),
    "concatenated, our features": lambda: ConcatMLP(SinusoidalTimeEmbed(128)),
    "the same, x weighted up": lambda: ConcatMLP(SinusoidalTimeEmbed(128), x_gain=(130 / 2) ** 0.5),
    "added, our features": lambda: VectorFieldMLP(2, 128),
}.items():
    torch.manual_seed(8)
    _, net = train_flow_matching(make(), MoonDataset(256, 200), path, total_steps=200, log_every=0)
    errors[name] = field_error(net)
    print(f"{name:38} error {errors[name]}")
for name in ("the same, x weighted up", "added, our features"):
    assert errors[name].mean < 0.85 * errors["concatenated, our features"].mean

# %% [markdown]
# On this toy the idle features cost nothing that one run can show: $u_t$ changes slowly in $t$, and a handful of features is enough. The large difference comes from somewhere else. A layer's initial weights scale as $1/\sqrt{\text{inputs}}$. Concatenated, $x$ is 2 inputs among 130, and the network starts almost blind to it. Weighting those two inputs up repairs most of it, with nothing else changed. Added, $x$ has a layer of its own and needs no such repair.

# %% [markdown]
# ## How to draw t
#
# The loss averages over $t$. Two changes of the distribution of $t$ look alike and are not:
#
# - **Stratified** $t$ (one in each slice $[i/B, (i+1)/B]$) keeps the loss and reduces the noise of its estimate. The slices are dealt to the samples in random order: in a batch sorted by class, each class would otherwise always get the same times.
# - **Logit-normal** $t = \operatorname{sigmoid}(m + s z)$, as in SD3, *changes the loss*: it is the uniform loss with the weight $\pi(t)$, the density of $t$.


# %%
def loss_spread(net, sample, t_dist, repeats=150):
    """Standard deviation of the loss of one batch of 256."""
    with torch.no_grad():
        return torch.stack([cfm_loss(net, path, sample(256), t_dist=t_dist) for _ in range(repeats)]).std().item()


torch.manual_seed(9)
spread = {d: loss_spread(ema_model, sample_moons, d) for d in ("uniform", "stratified")}
print(
    f"moons, standard deviation of the loss of one batch: uniform {spread['uniform']:.3f}, stratified {spread['stratified']:.3f}"
)
print(f"(each with a standard error of about {spread['uniform'] / (2 * 150) ** 0.5:.3f})")

# %% [markdown]
# Stratifying removes only that part of the noise which comes from the mean loss *changing* with $t$. In two dimensions the pairs themselves are noisier than that. The two readings differ by one or two standard errors of their difference, too little to measure a gain. It costs nothing, so it is the default here. The digits below show the other case.
#
# Now the logit-normal, against its weight. The wrong twin forgets the weight.

# %%
torch.manual_seed(11)
n = 100_000
with torch.no_grad():
    t, xt, ut = draw(n)
    per_t = (ema_model(t, xt) - ut).square().sum(dim=1)
    density = torch.exp(-0.5 * torch.logit(t) ** 2) / ((2 * torch.pi) ** 0.5 * t * (1 - t))
    _, drawn = cfm_loss(ema_model, path, sample_moons(n), t_dist="logitnormal", return_components=True)
direct, weighted, unweighted = estimate(drawn["per_sample"]), estimate(density.nan_to_num() * per_t), estimate(per_t)


def z_score(a, b):
    return (a.mean - b.mean) / (a.std_error**2 + b.std_error**2) ** 0.5


print(f"logit-normal t {direct}    uniform t, weight pi(t) {weighted}    uniform t, no weight {unweighted}")
print(
    f"z-score against the weighted loss {z_score(direct, weighted):.1f}, against the unweighted one {z_score(direct, unweighted):.0f}"
)
assert abs(z_score(direct, weighted)) < 4.5 < abs(z_score(direct, unweighted))

# %% [markdown]
# Which times deserve more weight? The usual argument for logit-normal is that the middle is the hardest. "Hard" has two meanings. The left curve is the *irreducible* variance, which no weight can change. The right curve is the *learned* error against the oracle, which is what training can still reduce.

# %%
t, xt, _ = draw(15_000)
order = t.argsort()  # sorted, consecutive runs of 500 share a slice of t
t, xt = t[order], xt[order]
with torch.no_grad():
    learned = (ema_model(t, xt) - moons.velocity(path, t, xt)).square().sum(dim=1)
irreducible = moons.velocity_var(path, t, xt)
centres = (torch.arange(30) + 0.5) / 30

fig, (left, right) = panels(2, 2.5)
left.plot(centres, irreducible.reshape(30, 500).mean(1), color=COLORS["exact"])
left.set(title="irreducible variance", xlabel="t", ylim=(0, None))
right.plot(centres, learned.reshape(30, 500).mean(1), color=COLORS["model"])
right.set(title="learned error", xlabel="t", ylim=(0, None))
show(fig, "Left: the variance of the target given x_t over t. Right: the squared error of the trained network over t.")
peak = {
    name: centres[c.reshape(30, 500).mean(1).argmax()].item()
    for name, c in (("irreducible", irreducible), ("learned", learned))
}
print(f"irreducible variance peaks at t = {peak['irreducible']:.2f}, the learned error at t = {peak['learned']:.2f}")
assert peak["irreducible"] < 0.45 < peak["learned"]

# %% [markdown]
# So "$t = \tfrac12$ is the hardest" is a statement about one model and one data set, not a law. On these moons the irreducible variance peaks nearer to the noise, and the error of this network nearer to the data. For SD3 the middle was where weight paid off (Esser et al. 2024, section 5.1).

# %% [markdown]
# ## The same lines on real data
#
# scikit-learn ships 1,797 scanned digits of 8 × 8 pixels. A digit is a point in 64 dimensions. Nothing else changes: the path, the loss and the loop are the ones above. One step comes before: a pixel has one of 17 grey levels, and on isolated levels there is no density that a flow could match. So `dequantise` adds uniform noise that spreads each level over its own bin, between its neighbours. The model learns the spread digits, and the real ones are shown in the same form.

# %%
digits = load_digits_flow()
torch.manual_seed(10)
before = time.process_time()
_, digit_model = train_flow_matching(
    VectorFieldMLP(dim=64, hidden=256), SampledBatches(digits.sample_train, batch=256), path, total_steps=700, lr=3e-3
)
generated = heun_sampler(digit_model, path.sample_prior(1432, 64), steps=15)

fig, (left, right) = panels(2, 2.25)
plots.image_grid(left, dequantise(digits.test[:50])), left.set_title("real, never trained on")
plots.image_grid(right, generated[:50]), right.set_title("generated")
show(
    fig,
    "Two sheets of fifty small handwritten digits: real ones on the left, generated ones on the right, many of them readable, some blurred.",
)
print(f"700 steps and 1432 samples in {time.process_time() - before:.0f} s of computing")

# %%
test = dequantise(digits.test)
training = dequantise(digits.train[torch.randperm(1432)])


def distance_to_test(x):
    """Energy distance to the held-out digits, over 8 separate sets of 179 images."""
    return estimate([energy_distance(part, test) for part in x.split(179)])


print(f"energy distance to held-out digits:  noise {distance_to_test(path.sample_prior(1432, 64))}")
print(f"generated {distance_to_test(generated)}   floor (training digits) {distance_to_test(training)}")
assert distance_to_test(generated).mean < 0.02 * distance_to_test(path.sample_prior(1432, 64)).mean

with torch.no_grad():
    _, parts = cfm_loss(digit_model, path, test, return_components=True)
x0 = torch.randn_like(test)
print(
    f"loss on held-out digits {estimate(parts['per_sample'])}, the best loss when fed x_1 {estimate(x0.square().sum(1))}"
)
assert estimate(parts["per_sample"]).mean < 0.8 * estimate(x0.square().sum(1)).mean

spread = {d: loss_spread(digit_model, digits.sample_train, d, repeats=200) for d in ("uniform", "stratified")}
print(
    f"digits: standard deviation of the loss of one batch: uniform {spread['uniform']:.2f}, stratified {spread['stratified']:.2f}"
)
assert spread["stratified"] < 0.85 * spread["uniform"]

# %% [markdown]
# The **energy distance** is zero exactly when two distributions agree. Its estimate here is unbiased, so real against real scatters around zero, and can be negative. All eight sets are compared with the same test images, and the ± does not contain the luck of these; all rows share it. The generated digits come close and do not reach that floor: a few hundred steps of a plain network leave something to learn. Lesson 08 lets you choose the digit, and lesson 10 gives it a better network.
#
# In 64 dimensions a pair's own noise averages out over the pixels, the mean loss changes with $t$, and stratified times pay.

# %% [markdown]
# ## Traps
#
# - **Reading quality off the loss.** Most of it is variance that no model can remove. Compare losses only on the same data, path and distribution of $t$.
# - **An EMA without warm-up on a short run.** You sample the initial network. The interview sheet's example hides this in another way: it throws the EMA away and samples the last weights.
# - **A metric without its floor.** "0.03" is good or bad only beside the value of real against real at the same $n$.
# - **A flipped sign, or $x_1$ fed where $x_t$ was meant.** Both run without an error. The first has exactly the right loss, the second one that says $d$: too good on two numbers, too bad on 64. Only samples show it.

# %% [markdown]
# ## Your turn
#
# Replace `return None` by your answer and run the cell. The checker tries random inputs and names the mistake that it recognises.

# %% [markdown]
# **1. One step of the moving average (screen, 2 minutes).** Return the new average from the old `average`, the new `weight` and `decay`.


# %%
def ema(average, weight, decay):
    return None


check("ema", ema)

# %% [markdown]
# <details><summary>Hint</summary>
#
# With `decay` near 1 the average hardly moves.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def ema(average, weight, decay):
#     return decay * average + (1 - decay) * weight
# ```
#
# </details>

# %% [markdown]
# **2. Logit-normal times (screen, 2 minutes).** Turn standard normal numbers `z` [B] into times with location `m` and scale `s`, in the convention of these lessons: a positive `m` leans to the data.


# %%
def logit_normal(z, m, s):
    return None


check("logit_normal", logit_normal)

# %% [markdown]
# <details><summary>Hint</summary>
#
# The *logit* of $t$ is normal.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def logit_normal(z, m, s):
#     return torch.sigmoid(m + s * z)
# ```
#
# </details>

# %% [markdown]
# ## Interview walkthrough
#
# Say your answer aloud before you open a card. Each has the 30-second answer, the usual mistake, and the section that proves it.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
interview_cards("write-cfm-loss", "loss-plateau", "ema-why", "time-embedding", "logit-normal-why")

# %% [markdown]
# ## You can now …
#
# 1. write the CFM loss: draw $t$, $x_0$, $x_1$; form $x_t$; regress $u_t$; sum over dimensions, mean over the batch;
# 2. say why it stops at $\mathbb E \operatorname{tr}\operatorname{Var}[\dot x_t \mid x_t]$, and compute that value where the data are a Gaussian mixture;
# 3. defend a warm EMA, time features that move, an additive projection, stratified $t$ – and tell a change of noise from a change of loss;
# 4. report a distance with its sampling floor.
#
# ## References
#
# - Y. Lipman et al., *Flow Matching for Generative Modeling*, ICLR 2023, arXiv 2210.02747: equation 9 (the CFM loss), Theorem 2.
# - X. Liu, C. Gong, Q. Liu, *Flow Straight and Fast*, ICLR 2023, arXiv 2209.03003: the linear path.
# - P. Esser et al., *Scaling Rectified Flow Transformers* (SD3), 2024, arXiv 2403.03206: section 3.1, logit-normal $t$.
# - D. Kingma et al., *Variational Diffusion Models*, 2021, arXiv 2107.00630: stratified times.
# - G. Székely, M. Rizzo, *Energy statistics*, 2013; N. Bonneel et al., *Sliced and Radon Wasserstein Barycenters*, 2015.
