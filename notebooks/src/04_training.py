# %% [markdown]
# # 04 · Training a flow
#
# **Twenty-four lines train a generative model. How do you know that it is any good?**

# %% jupyter={"source_hidden": true} tags=["hide-input"]
import ipywidgets
from IPython.display import Markdown, display

from fmlib import *
from fmlib.page import *
from fmlib.study import *

plots.use_style()

EXAMPLES = (
    "Thin lines join blue noise points to orange points on two half moons. Then one place where many lines cross, and the "
    "mean of their directions. Then a cloud of particles that follows the mean and becomes the two moons."
)
TOUR = [
    {
        "caption": "A training set for a flow. Each line joins a noise point to a data point on two moons. One example is a "
        "place on one line, and the direction of that line.",
        "t": 0.5, "layers": ["pairs"], "probe": None,
    },
    {
        "caption": "Many lines cross at one place, and the network hears a different answer each time. It settles on the "
        "mean: the thick arrow. Drag the dot.",
        "t": 0.5, "layers": ["density", "probe"], "probe": [0.8, 0.2],
    },
    {
        "caption": "Follow the mean from noise, and you get the moons. This is the exact field: no network will do better. "
        "Press play.",
        "t": 0.0, "layers": ["density", "field", "particles"], "probe": None, "solver": "midpoint", "steps": 32,
    },
]  # fmt: skip

# %%
lab = FlowLab(moons_mixture(), EXAMPLES, layers=["pairs"], controls=["t"], tour=TOUR)
lab

# %% [markdown]
# *Nothing has to run first. You need lessons [00](00_quick_reference.ipynb) to [03](03_paths.ipynb), and you have written a training loop in PyTorch.* *Time:* 20 minutes to read, about 25 seconds to run; 15 more for 2 exercises and 5 cards.
#
# **You will be able to** write the whole thing from memory, say where the loss stops, find a bug that the loss does not show, choose an average of the weights, time features and a distribution of t, and judge samples by numbers that see different things.
#
# First a look back.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
predict(
    "From lesson 03: why do rectified flow and VP-cosine carry a noise point to the same data point?",
    "they are one flow at two speeds and two scales",
    choices=[
        "both are straight",
        "they are one flow at two speeds and two scales",
        "they do not: each path has its own map",
    ],
    because="Divided by alpha, both depend on the path through the signal-to-noise ratio alone. What the path changes is the speed.",
)

# %% [markdown]
# ## A complete script
#
# Nothing but PyTorch is used. Three cells: the data; the network and its training; the sampling. (A folded one sets the seed.)

# %% tags=["script"]
import math

import torch
from torch import nn


def moons(n):
    angle, upper = math.pi * torch.rand(n), torch.rand(n) < 0.5
    x = torch.where(upper, angle.cos(), 1 - angle.cos())
    y = torch.where(upper, angle.sin(), 0.5 - angle.sin())
    return 2 * torch.stack([x, y], 1) + 0.1 * torch.randn(n, 2)


# %% jupyter={"source_hidden": true} tags=["hide-input"]
torch.set_num_threads(1)  # this network is tiny: a second thread costs more than it brings
_ = torch.manual_seed(0)

# %% tags=["script"]
net = nn.Sequential(nn.Linear(3, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 2))
optimizer, losses = torch.optim.Adam(net.parameters(), lr=2e-3), []
for _ in range(1000):
    x1 = moons(256)  # data
    x0, t = torch.randn_like(x1), torch.rand(256, 1)  # noise, and a time for each pair
    xt = (1 - t) * x0 + t * x1  # where the pair is then
    loss = (net(torch.cat([t, xt], 1)) - (x1 - x0)).square().sum(1).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())

# %% tags=["script"]
x, steps = torch.randn(3000, 2), 50
with torch.no_grad():
    for i in range(steps):
        t = torch.full((len(x), 1), i / steps)
        x = x + net(torch.cat([t, x], 1)) / steps

# %% jupyter={"source_hidden": true} tags=["hide-input"]
script, path, oracle = x, rectified_flow_path(), moons_mixture()
exact = lambda t, x: oracle.velocity(path, t, x)


def draw(n):
    """Times [n], places [n, 2] and the velocities of single pairs [n, 2]."""
    x1, t = sample_moons(n), stratified_t(n)
    x0 = torch.randn_like(x1)
    return t, path.sample_xt(t, x0, x1), path.target_ut(t, x0, x1)


floor = estimate(oracle.velocity_var(path, *draw(15_000)[:2]))
fig, (left, right) = panels(2, 2.7)
left.semilogx(20 * torch.arange(1, 51), plots.smoothed(losses, 20), color=COLORS["model"])
left.axhline(floor.mean, color=COLORS["exact"], linewidth=1.2)
left.text(22, floor.mean - 0.06, "a perfect network", va="top", fontsize=9)
left.set(xlabel="step", title="loss", ylim=(3.4, None))
cloud(right, moons(1500), "data", alpha=0.25)
cloud(right, script[:1500], "model", size=2)
plots.bare(right, (-2.9, 4.9, -2.2, 3.2))
right.set_title("samples (green) and data (orange)")
show(fig, "Left: the loss falls fast and then flattens just above the black line of a perfect network. Right: the samples lie on the two moons and between them.")  # fmt: skip

# %% [markdown]
# That is all of it. (Folded cells hold figures and short names: `exact` is the exact field, `draw(n)` gives n examples.) The rest of this lesson asks three questions. What does the loss tell? What do the samples tell? And what is worth adding?
#
# ## The loss
#
# $$ \mathcal L_{\text{CFM}}(\theta) = \mathbb E_{t,\,x_0,\,x_1} \bigl\| v_\theta(t, x_t) - (x_1 - x_0) \bigr\|^2 $$
#
# **A sum over the dimensions, then a mean over the batch.** `F.mse_loss` divides by the dimension too. The best network is the same; the number is not, nor are the gradients that you clip.
#
# Now make a mistake on purpose: the target is $x_0 - x_1$, the sign flipped. What will the training loss look like?

# %% jupyter={"source_hidden": true} tags=["hide-input"]
predict(
    "The sign of the target is flipped. Compared with the right target, the lowest loss that a network can reach is …",
    "exactly the same",
    choices=["much higher", "a little higher", "exactly the same", "lower"],
    because="The best answer to a flipped target is the flipped field, and it fits just as well. Only sampling shows the bug.",
)


# %%
def first_losses(target_sign, network_sign, steps=60):
    """A network whose last layer has a sign, trained towards target_sign * (x_1 - x_0)."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(3, 64), nn.SiLU(), nn.Linear(64, 2))
    optimizer, found = torch.optim.Adam(net.parameters(), lr=1e-2), []
    with torch.no_grad():
        net[-1].weight *= network_sign
        net[-1].bias *= network_sign
    for t, xt, pair in (draw(256) for _ in range(steps)):
        loss = (net(torch.cat([t[:, None], xt], 1)) - target_sign * pair).square().sum(1).mean()
        optimizer.zero_grad(), loss.backward(), optimizer.step(), found.append(loss.item())
    return torch.tensor(found)


# %%
gap = lambda *signs: first_losses(*signs) - first_losses(1, 1)
verify("target and network negated: loss by loss", gap(-1, -1), 0.0, limit=1e-3, wrong={"the target alone": gap(-1, 1)})

x1, noise = sample_moons(20_000), torch.randn(20_000, 2)
t, xt, pair = draw(20_000)
fed_x1 = (x1 - (x1 - noise)).square().sum(1)  # fed x_1 in place of x_t: the noise remains unknown
best = (exact(t, xt) - pair).square().sum(1)  # the exact field's loss
verify("fed x_1 for x_t, the best loss is d = 2", estimate(fed_x1), 2.0, wrong={"fed x_t": estimate(best)})

# %% jupyter={"source_hidden": true} tags=["hide-input"]
far = lambda v: nearest_distance(heun_sampler(v, noise[:500], steps=20), x1[:5000])
verify("but samples of the flipped field lie far from the data (distance)", far(lambda t, x: -exact(t, x)), at_least=0.5, wrong={"of the right one": far(exact)})  # fmt: skip
verify("and so do those of the network that was fed x_1", far(lambda t, x: x), at_least=0.5, wrong={"of the right one": far(exact)})  # fmt: skip

# %% [markdown]
# A flipped sign cannot be seen in the loss. Negate the network's output and the target, and every difference keeps its length: the loss is the same at every step. Fed $x_1$, the loss says $d$, whatever the data are. In two dimensions that looks better than the best; on the digits below, 64 looks worse than a real training. **A loss is no proof of anything but a falling loss. Sample.**
#
# ## The loss does not go to zero
#
# $$ \mathcal L_{\text{CFM}}(\theta) = \underbrace{\mathbb E\,\| v_\theta(t, x_t) - u_t(x_t) \|^2}_{\text{the error you care about}} + \underbrace{\mathbb E \operatorname{tr} \operatorname{Var}[\,\dot x_t \mid x_t\,]}_{\text{the pairs' disagreement}} $$
#
# The second part is the black line above. We can compute it, because the moons are arcs blurred by a Gaussian: a mixture of many small ones. How much of the final loss is the first part?

# %% jupyter={"source_hidden": true} tags=["hide-input"]
t, xt, pair = draw(15_000)
with torch.no_grad():
    answer = net(torch.cat([t[:, None], xt], 1))
error, total = (answer - exact(t, xt)).square().sum(1), (answer - pair).square().sum(1)
share = lambda e: 100 * e.mean().item() / total.mean().item()
predict(
    "After the training above: how much of the loss is the network's own error, in percent?",
    share(error),
    low=0,
    high=40,
    step=0.5,
    unit=" %",
    because=f"The loss is {total.mean():.2f}, and {oracle.velocity_var(path, t, xt).mean():.2f} of it no network can remove. What you watch on the screen is almost only the disagreement of the pairs.",
)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
variance = oracle.velocity_var(path, t, xt)
twin = {"the loss as a mean over dimensions, as F.mse_loss has it": estimate(total / 2 - error - variance)}
verify("the trained network: loss - error - variance", estimate(total - error - variance), 0.0, wrong=twin)
verify("the trained network's own error, in percent of its loss", share(error), at_most=15.0, wrong={"a network of zeros": share(exact(t, xt).square().sum(1))})  # fmt: skip

# %% [markdown]
# ## Samples, and a number for them
#
# Look at the green points once more. The loss was within a few percent of perfect. And the samples? We need numbers, and each number sees one thing.
#
# - **Sliced W2**: look at both clouds from many directions; in each, pair the sorted points and measure how far they are apart. Two clouds of *real* points are not at distance zero. That reading is the **floor**.
# - **Strays**: samples where data are rarer than at 99 % of the real points. Of real data 1 % are strays.
# - **Missed**: real points with no sample as near as their seventh real neighbour. It sees what a collapse loses. Fresh real data miss about 1 %.
#
# Now a better network. Beside $x$ it gets sines and cosines of random multiples of $x$ (Fourier features), so that it can draw sharp edges. And its answer is a sum: lesson 01's formula for one Gaussian, plus what it learns. The path and the loss are those of the script. The loop is not quite: larger batches, a learning rate that falls, averaged weights, more late times, and a better solver. A part of the gain is theirs. (It was trained beforehand; `TRAIN=1` trains it here.)


# %%
def fit(net):
    return train_flow_matching(net, MoonDataset(512, 2000), rectified_flow_path(), lr=1e-2, t_dist=late_t, log_every=0)[
        1
    ]


torch.manual_seed(0)
good = trained("04-moons", FourierMLP(2, path, data_std=1.4), fit)
better = heun_sampler(good, torch.randn(3000, 2), steps=50)

# %%
real = sample_moons(3000)
w2_floor = sampling_floor(sliced_w2, sample_moons, 3000, repeats=4)
w2 = lambda x: sliced_w2(x, real) / w2_floor.mean
log_p = lambda x: oracle.log_prob(path, 1.0, x)
strays = lambda x: off_support_share(x, real, log_p).mean
missed = lambda x: missed_share(x, real).mean
angle = math.pi * torch.rand(3000)
one_moon = 2 * torch.stack([angle.cos(), angle.sin()], 1) + 0.1 * torch.randn(3000, 2)  # fresh data, one moon only

# %% jupyter={"source_hidden": true} tags=["hide-input"]
clouds = {
    "real data": sample_moons(3000),
    "the script": script,
    "the better network": better,
    "one moon only": one_moon,
}
seen = {name: {"w2": w2(x), "strays": strays(x), "missed": missed(x)} for name, x in clouds.items()}
fig, axes = panels(3, 2.2)
limit = torch.quantile(log_p(real), 0.01)
for ax, (name, x) in zip(axes, list(clouds.items())[:3], strict=True):
    off = log_p(x) < limit
    cloud(ax, x[~off], "data" if name == "real data" else "model", size=2, alpha=0.5)
    cloud(ax, x[off], "wrong", size=4, alpha=1)
    ax.set_title(name, fontsize=10)
    plots.bare(ax, (-2.9, 4.9, -2.2, 3.2))
show(fig, "Three clouds of 3,000 points on the moons with the strays in vermilion: few at the edges for real data, many between and beyond the moons for the script, few for the better network.")  # fmt: skip
rows = ["| 3,000 points | sliced W2, in floors | strays | missed |", "|---|---|---|---|"]
rows += [f"| {k} | {v['w2']:.1f} | {100 * v['strays']:.1f} % | {100 * v['missed']:.1f} % |" for k, v in seen.items()]
display(Markdown("\n".join(rows)))
one, plain, fine = seen["one moon only"], seen["the script"], seen["the better network"]
for name, x in (("the better network", fine), ("the script", plain)):
    verify(f"sliced W2 in floors, {name}", x["w2"], at_most=6.0, wrong={"noise": w2(noise[:3000])})
verify("strays, the better network", fine["strays"], at_most=0.03, wrong={"the script": plain["strays"]})
verify("missed, the better network", fine["missed"], at_most=0.04, wrong={"one moon only": one["missed"]})
verify("strays, one moon only", one["strays"], at_most=0.03, wrong={"the script": plain["strays"]})

# %% [markdown]
# By sliced W2 the script and the better network are not far apart. By strays they are. **A distance averages away what you see at a glance.** And a model that makes one moon only has no more strays than real data. So you need a number for what is there, and one for what is missing.
#
# ## Watch it train
#
# A small network, 400 steps. Run the cells, then drag the second slider.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
STOPS, DECAYS = [0, 25, 50, 100, 200, 400], [0.0, 0.9, 0.99, 0.999, 0.9999]
torch.manual_seed(2)
small = VectorFieldMLP(2, 64)
history = LiveLoss(400, floor=floor.mean, snapshot_at=STOPS, alt="The loss of a small network over 400 steps: it falls fast, then crawls towards the black line of a perfect network.")  # fmt: skip
history.snapshots[0] = {name: value.clone() for name, value in small.state_dict().items()}
averages = {d: make_ema(small) for d in DECAYS}


def look(step, loss, model, ema_model):
    history(step, loss, model, ema_model)
    for d, average in averages.items():
        update_ema(average, model, decay=d)


_, warm = train_flow_matching(
    small, MoonDataset(256, 400), path, total_steps=400, schedule="constant", log_every=0, callback=look
)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
start = torch.randn(3000, 2)


def at(step):
    network = VectorFieldMLP(2, 64)
    network.load_state_dict(history.snapshots[step])
    return network.eval()


by_steps = {s: heun_sampler(at(s), start[:600], steps=15, return_trajectory=True) for s in STOPS}
player = FlowPlayer(
    torch.linspace(0, 1, 16),
    [Panel(by_steps=by_steps, trails=30)],
    limits=(-3.3, 5.1, -3.0, 3.3),
    steps=400,
    steps_label="training step",
    alt="Trajectories from noise after 0 to 400 training steps: at first they hardly move, at the end they reach the moons.",
)
player.t = 1.0
player

# %% jupyter={"source_hidden": true} tags=["hide-input"]
distance = {s: sliced_w2(heun_sampler(at(s), start, steps=15), sample_moons(3000)) for s in STOPS}
early, late = plots.smoothed(history.losses, 50)[[1, -1]].tolist()
fall = {"the distance": 1 - distance[400] / distance[100], "the loss": 1 - late / early}
verify("from step 100 to 400 the distance falls by (share)", fall["the distance"], at_least=0.3, wrong={"the loss": fall["the loss"]})  # fmt: skip

# %% [markdown]
# The loss looks finished after a hundred steps, and the samples are not. What still falls is the small part above the floor. (The samples are those of averaged weights, of which the next section speaks.)
#
# ## The moving average of the weights
#
# The last weights of a run jump with every batch. So keep an **exponential moving average** (EMA) beside them, $\bar\theta \leftarrow d\,\bar\theta + (1-d)\,\theta$, and sample from it. How large should $d$ be? You will often read 0.9999.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
predict(
    "An average with d = 0.9999 starts at the initial weights. How much of the untrained network is left in it after 2,000 steps?",
    100 * 0.9999**2000,
    low=0,
    high=100,
    step=1,
    unit=" %",
    because="0.9999 to the power of 2,000. You would sample an untrained network, and the loss would not tell you: it belongs to the other weights.",
)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
ends = {d: heun_sampler(a, start, steps=15) for d, a in averages.items()}
decays = FlowPlayer(
    torch.arange(5.0),
    [Panel(torch.stack([ends[d][:800] for d in DECAYS]), color="model", dot=2)],
    limits=(-2.9, 4.9, -2.4, 3.2),
    label="nines",
    alt="Samples of the averaged network for the decays 0, 0.9, 0.99, 0.999 and 0.9999: moons at 0 to two nines, shapeless clouds at three and four.",
)
decays.t = 2.0
decays

# %%
counter, average = nn.Linear(1, 1), nn.Linear(1, 1)
for layer, value in ((counter, 0.0), (average, 1.0)):  # 1 stands for the untrained network
    nn.init.constant_(layer.weight, value)
fixed, warmed = make_ema(average), make_ema(average)
for k in range(2000):
    update_ema(fixed, counter, decay=0.9999)
    update_ema(warmed, counter, decay=min(0.9999, (1 + k) / (10 + k)))
left_over = lambda a: a.weight.item()
verify(
    "what is left of the untrained network", left_over(fixed), at_least=0.6, wrong={"with a warm-up": left_over(warmed)}
)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
to_data = lambda x: sliced_w2(x, sample_moons(3000))
field_error = lambda v, n=3000: estimate((lambda t, x, _: (v(t, x) - exact(t, x)).square().sum(1).detach())(*draw(n)))
verify("samples of the warm average, sliced W2", to_data(heun_sampler(warm, start, steps=15)), at_most=0.3, wrong={"with d = 0.9999 from the start": to_data(ends[0.9999])})  # fmt: skip
verify("error of its field, divided by that of the last weights", field_error(warm).mean / field_error(averages[0.0]).mean, at_most=1.0, wrong={"with d = 0.9999": field_error(averages[0.9999]).mean / field_error(averages[0.0]).mean})  # fmt: skip

# %% [markdown]
# Run the cell and drag the number of nines: one is $d = 0.9$, two are 0.99. Up to two the moons are there. At three they are gone: $0.999^{400}$, two thirds, is still the untrained network. At four it is nearly all. The cure is a **warm-up**: $\min\bigl(d, \frac{1+k}{10+k}\bigr)$ at step $k$. An average remembers about $1/(1-d)$ steps. Here that is $k/9$: the last ninth, however short the run is.
#
# ## How the network sees time
#
# Networks are given $t$ as waves, $\cos(ft)$ and $\sin(ft)$. The Transformer's frequencies run from 1 down to $10^{-4}$: they were made for word positions 0, 1, 2, … Our $t$ lives in $[0, 1]$. Run the cell and drag the factor by which $t$ is multiplied.


# %% jupyter={"source_hidden": true} tags=["hide-input"]
def transformer_features(t, dim=128):
    freqs = 10_000 ** (-torch.arange(dim // 2) / (dim // 2))
    return torch.cat([torch.sin(t[:, None] * freqs), torch.cos(t[:, None] * freqs)], dim=1)


times = torch.linspace(0, 1, 501)
moves = lambda f: int(((f.max(0).values - f.min(0).values) > 0.5).sum())
fig, (ax,) = panels(1, 2.4)
shown = ax.imshow(transformer_features(times).T, aspect="auto", cmap="RdBu", vmin=-1, vmax=1, extent=(0, 1, 128, 0), interpolation="nearest")  # fmt: skip
ax.set(xlabel="t", ylabel="feature")


def stretch(power):
    features = transformer_features(10**power * times)
    shown.set_data(features.T)
    ax.set_title(f"t times {10**power:,.0f}: {moves(features)} of 128 features move", fontsize=10)


stretch(0)
LiveFigure(
    fig,
    stretch,
    alt="A map of the Transformer's 128 time features over t: almost constant where t is used as it is; waves of many lengths where t is multiplied by 1,000.",
    power=ipywidgets.FloatSlider(value=0, min=0, max=3, step=0.1, description="powers of ten"),
)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
verify("time features that move, of 128: ours", moves(SinusoidalTimeEmbed(128)(times)), at_least=100, wrong={"the Transformer's": moves(transformer_features(times))})  # fmt: skip
verify("the Transformer's at 1,000 t", moves(transformer_features(1000 * times)), at_least=80, wrong={"at t": moves(transformer_features(times))})  # fmt: skip

# %% [markdown]
# At the factor 1 almost all of them stand still (a feature *moves* if it changes by more than one half over $[0, 1]$). FLUX and SD3.5 keep these frequencies and multiply $t$ by 1,000. Our `SinusoidalTimeEmbed` has frequencies made for $[0, 1]$. On this toy it hardly matters, as "Further" shows; another thing does.
#
# ## How to draw t
#
# Two changes of the distribution of $t$ look alike and are not. **Stratified** times, one in each slice of $[0,1]$, keep the loss and calm its estimate. They remove only that part of the noise which comes from $t$: nothing to speak of on the moons, most of it on the digits below. (Shuffle them. Otherwise, in a sorted batch, each class would always get the same times.) **Logit-normal** times, $t = \operatorname{sigmoid}(m + s z)$ as in SD3, *change* the loss: it is now weighted with the density $\pi(t)$. Run the cell and drag $m$.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
t, x, pair = draw(15_000)
order = t.argsort()
slices = lambda values: values[order].reshape(30, -1).mean(1)
with torch.no_grad():
    learned = slices((warm(t, x) - exact(t, x)).square().sum(1))
counted = slices((pair - exact(t, x)).square().sum(1))
irreducible = slices(oracle.velocity_var(path, t, x))
centres = (torch.arange(30) + 0.5) / 30
fine = torch.linspace(0.005, 0.995, 199)
pi = lambda t, m: torch.exp(-((torch.logit(t) - m) ** 2) / 2) / ((2 * math.pi) ** 0.5 * t * (1 - t))
fig, (ax,) = panels(1, 2.5)
ax.plot(centres, irreducible / irreducible.max(), color=COLORS["exact"])
ax.plot(centres, learned / learned.max(), color=COLORS["model"])
(weight,) = ax.plot(fine, pi(fine, 0.0) / 3, color=COLORS["path"], linestyle="--")
ax.text(0.15, 0.62, "disagreement of the pairs", fontsize=9), ax.text(0.86, 0.9, "error of the network", color=COLORS["model"], fontsize=9)  # fmt: skip
ax.set(xlabel="t", yticks=[], ylim=(0, 1.1), xlim=(0, 1))


def lean(m):
    weight.set_ydata(pi(fine, m) / 3)
    ax.set_title(f"dashed: where logit-normal times with m = {m:.1f} look", fontsize=10)


lean(0.0)
LiveFigure(
    fig,
    lean,
    alt="Three curves over t: the pairs' disagreement is high for t below a half, the error of the network near t = 0.8; the dashed density of logit-normal times can be moved over them.",
    m=ipywidgets.FloatSlider(value=0, min=-2, max=2, step=0.1),
)

# %%
with torch.no_grad():
    t, x, pair = draw(60_000)
    per_t = (warm(t, x) - pair).square().sum(1)
    drawn = cfm_loss(warm, path, sample_moons(60_000), t_dist=logit_normal_t(-1.0), return_components=True)[1][
        "per_sample"
    ]
weighted = pi(t, -1.0).nan_to_num() * per_t
gap, unweighted = estimate(drawn - weighted), estimate(drawn - per_t)
verify("logit-normal times are the weight π(t) (difference of losses)", gap, 0.0, wrong={"no weight": unweighted})

# %% jupyter={"source_hidden": true} tags=["hide-input"]
middle = lambda curve: (centres * curve).sum().item() / curve.sum().item()  # its centre of mass
later = lambda curve: middle(curve) - middle(irreducible)
verify("the network's error sits later in t than the pairs' disagreement (by)", later(learned), at_least=0.12, wrong={"the disagreement, counted on the pairs": later(counted)})  # fmt: skip

# %% [markdown]
# You will often read that the middle is the hardest. There are two kinds of hard. The black curve no training removes; the green one, the network's own error, it can still reduce. On these moons the one is high in the first half and the other late (each curve is drawn to its own height). So the better network above drew half of its times with $m = 1$: most of these lie between 0.5 and 0.9, where the green curve is high. For SD3 the middle paid off (Esser et al. 2024, section 5.1).
#
# ## The same loss on real data
#
# scikit-learn brings 1,797 scanned digits of 8 × 8 pixels. A digit is a point in 64 dimensions; path and loss stay, the loop is the library's. One thing comes first. A pixel has one of 17 grey levels. Data that sit on spikes have no density for a flow to match. So `dequantise` spreads each level over its own bin.


# %%
def fit_digits(net):
    batches = SampledBatches(load_digits_flow().sample_train, batch=256)
    return train_flow_matching(net, batches, rectified_flow_path(), total_steps=1500, lr=3e-3, log_every=0)[1]


torch.manual_seed(0)
digits, digit_net = load_digits_flow(), trained("04-digits", VectorFieldMLP(64, 128), fit_digits)
generated = heun_sampler(digit_net, path.sample_prior(1432, 64), steps=15)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
test = dequantise(digits.test)
fig, (left, right) = panels(2, 2.25)
plots.image_grid(left, test[:50]), left.set_title("real, never trained on")
plots.image_grid(right, generated[:50]), right.set_title("generated")
show(fig, "Two sheets of fifty small handwritten digits: real ones on the left, generated ones on the right, many of them readable, some blurred.")  # fmt: skip
to_test = lambda x: estimate([energy_distance(part, test) for part in x.split(179)])
noise64 = path.sample_prior(1432, 64)
by_noise = lambda x: to_test(x[:1432]).mean / to_test(noise64).mean
training = dequantise(digits.train)
verify(f"energy distance of generated digits to held-out ones, divided by that of noise (training digits: {by_noise(training):.4f})", by_noise(generated), at_most=0.015, wrong={"training digits, turned by 180°": by_noise(training.flip(1))})  # fmt: skip
x0 = torch.randn_like(test)
with torch.no_grad():
    scored = estimate(cfm_loss(digit_net, path, test.repeat(4, 1), return_components=True)[1]["per_sample"])
    batch = lambda v, sample, how, n: torch.stack([cfm_loss(v, path, sample(256), t_dist=how) for _ in range(n)]).var()
    calmer = lambda v, sample, n: 1 - batch(v, sample, "stratified", n) / batch(v, sample, "uniform", n)
    on_digits, on_moons = calmer(digit_net, digits.sample_train, 200), calmer(warm, sample_moons, 700)
verify("loss on held-out digits, divided by 64 (fed x_1 it would be 1)", scored.mean / 64, at_most=0.75, wrong={"a network of zeros": (test - x0).square().sum(1).mean() / 64})  # fmt: skip
verify("share of the variance of a batch's loss that stratified times remove", on_digits, at_least=0.46, wrong={"on the moons": on_moons})  # fmt: skip

# %% [markdown]
# Readable, not perfect: a plain network leaves something to learn. Lesson 08 lets you choose the digit, lesson 10 has a better network. And here stratified times pay: over 64 pixels the noise of a pair largely averages out, and most of the scatter that is left comes from $t$.
#
# ## Traps
#
# - **Reading quality off the loss.** Most of it no model can remove. Compare losses only on the same data, path and times.
# - **An average without warm-up on a short run.** You sample the untrained network.
# - **A number without its floor**, and one number alone.
# - **A flipped sign, or $x_1$ fed for $x_t$.** No error message. The first leaves the loss as it is, the second makes it $d$, which looks good or bad, but never like a bug.
#
# ## Your turn
#
# Replace `return None` by your answer and run the cell. Any right answer is accepted; a wrong one is told what is wrong. (*Screen* is what a phone interview asks, *on-site* what comes at the whiteboard.)
#
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
#
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
#
# ## Interview walkthrough
#
# Say your answer aloud before you open a card. Each has the 30-second answer, the usual mistake, and the section that proves it.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
interview_cards("write-cfm-loss", "loss-plateau", "ema-why", "time-embedding", "logit-normal-why")

# %% [markdown]
# ## You can now …
#
# 1. write the script: draw $t$, $x_0$, $x_1$; form $x_t$; regress $x_1 - x_0$; sum over dimensions, mean over the batch; Euler from 0 to 1;
# 2. say where the loss stops, and why a flipped sign is invisible in it;
# 3. defend a warm average and time features that move, say when stratified $t$ pays, and tell a change of noise from a change of loss;
# 4. report a distance with its floor, beside what strays and what is missed.
#
# Next: [05 · ODE solvers](05_ode_solvers.ipynb). How many calls does a sample need?
#
# ## Further: do the time features matter?
#
# <details><summary>Four small networks, trained alike</summary>
#
# On this toy the idle features cost nothing that one run can show: $u_t$ changes slowly in $t$, and a handful of features is enough. What matters is how $x$ comes in. A layer's initial weights scale as one over the root of its inputs. Concatenated with 128 time features, $x$ is 2 inputs among 130, and the network starts almost blind to it. Weighting these two up repairs most of it, with nothing else changed. *Added*, $x$ has a layer of its own and needs no such repair.
#
# </details>


# %% jupyter={"source_hidden": true} tags=["hide-input"]
class ConcatMLP(nn.Module):
    """Processed time features beside the 2 coordinates of x."""

    def __init__(self, features, x_gain=1.0, hidden=128):
        super().__init__()
        self.features = features
        self.t_embed = nn.Sequential(nn.Linear(128, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        layers = [nn.Linear(2 + hidden, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 2)]
        self.net = nn.Sequential(*layers)
        with torch.no_grad():
            self.net[0].weight[:, :2] *= x_gain

    def forward(self, t, x):
        return self.net(torch.cat([x, self.t_embed(self.features(t))], dim=1))


errors = {}
for name, make in {
    "Transformer's": lambda: ConcatMLP(transformer_features),
    "ours": lambda: ConcatMLP(SinusoidalTimeEmbed(128)),
    "x weighted up": lambda: ConcatMLP(SinusoidalTimeEmbed(128), x_gain=(130 / 2) ** 0.5),
    "added": lambda: VectorFieldMLP(2, 128),
}.items():
    torch.manual_seed(8)
    _, network = train_flow_matching(make(), MoonDataset(256, 200), path, total_steps=200, log_every=0)
    errors[name] = field_error(network).mean
by = lambda name: errors[name] / errors["ours"]
verify("concatenated, the Transformer's features: error of the field, divided by that with ours", by("Transformer's"), at_most=1.6, wrong={"as a network of zeros": field_error(lambda t, x: 0 * x).mean / errors["ours"]})  # fmt: skip
verify("concatenated, x weighted up: error of the field, divided by that without", by("x weighted up"), at_most=0.85, wrong={"as a network of zeros": field_error(lambda t, x: 0 * x).mean / errors["ours"]})  # fmt: skip
verify("x and t added: error of the field, divided by that of the concatenated one", by("added"), at_most=0.85, wrong={"as a network of zeros": field_error(lambda t, x: 0 * x).mean / errors["ours"]})  # fmt: skip

# %% [markdown]
# ## References
#
# - Y. Lipman et al., *Flow Matching for Generative Modeling*, ICLR 2023, arXiv 2210.02747: equation 9 (the CFM loss), Theorem 2.
# - X. Liu, C. Gong, Q. Liu, *Flow Straight and Fast*, ICLR 2023, arXiv 2209.03003: the straight line.
# - M. Tancik et al., *Fourier Features Let Networks Learn High Frequency Functions*, 2020, arXiv 2006.10739; T. Karras et al., *EDM*, 2022, arXiv 2206.00364, section 5: what is left over a linear part.
# - P. Esser et al., *Scaling Rectified Flow Transformers* (SD3), 2024, arXiv 2403.03206: section 3.1, logit-normal $t$.
# - D. Kingma et al., *Variational Diffusion Models*, 2021, arXiv 2107.00630: stratified times.
# - N. Bonneel et al., *Sliced and Radon Wasserstein Barycenters*, 2015; M. Naeem et al., 2020, arXiv 2002.09797: what is missed.
