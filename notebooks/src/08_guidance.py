# %% [markdown]
# # 08 · Guidance
#
# **You ask for a seven and get something that could be a seven or a one. How do you ask more firmly, and what do you get when you shout?**

# %% jupyter={"source_hidden": true} tags=["hide-input"]
import ipywidgets
import torch

from fmlib import *
from fmlib.page import *
from fmlib.study import *

torch.set_num_threads(1)  # these tensors are tiny: a second thread costs more than it brings
torch.manual_seed(0)
plots.use_style()

PUSHED = (
    "Three overlapping classes. At a dot that can be dragged three arrows: the flow of all, the flow of class 1, and the guided "
    "one beyond it. Particles of class 1 draw back from the other classes as the scale grows."
)
WIDTHS = "One narrow class inside a wide crowd, over time: guided particles, and in orange the density that is often said to be sampled."
middle = {"condition": [0], "t": 0.7, "probe": [0.8, 0.4]}
TOUR = [
    {
        "caption": "At the dot: the grey arrow is where the flow of all goes, the orange one where class 1 goes. Guidance walks on along the line from the first to the second. Drag the scale: 1 is the class itself, 0 forgets it.",
        "layers": ["density", "guidance"], "guidance_scale": 3.0, **middle,
    },
    {
        "caption": "The particles at the end, with scale 3. The grey shadow is the class itself. From where do they draw back, and where do they go?",
        "layers": ["particles"], "guidance_scale": 3.0, "ghost": {"guidance_scale": 1.0}, **middle, "t": 1.0,
    },
    {
        "caption": "Many books say that guidance samples the density p(x | c)^s · p(x)^(1 − s). Here it is, in orange. Drag the scale to 6. Do the particles fill it? How far each spreads stands below.",
        "layers": ["tilted", "particles"], "guidance_scale": 3.0, "ghost": None, **middle, "t": 1.0,
    },
]  # fmt: skip
NARROW = [
    {"caption": "A crowd of width 1 and a class of width 0.5, both around 0. The green trajectories are guided, the orange density is the tilted one. Drag the scale: which of the two widths below shrinks faster?", "guidance_scale": 3.0},
]  # fmt: skip

# %%
three = GaussianMixture(torch.tensor([[-0.7, -0.5], [1.1, 0.0], [-0.2, 1.2]]), torch.tensor([0.6, 0.8, 0.4]))
lab = FlowLab(three, PUSHED, layers=["density", "guidance"], controls=["t", "guidance_scale", "mixture"], tour=TOUR)
lab

# %% [markdown]
# *Nothing has to run first. You need lessons [02](02_cfm_theorem.ipynb), [04](04_training.ipynb) and [05](05_ode_solvers.ipynb).* *Time:* 15 minutes to read, about 25 seconds to run; 15 more for 2 exercises and 5 cards.
#
# **You will be able to** write guidance in one line and train the network that it needs, say what it samples and what it does not, choose a scale on real images, and name what people do against its faults.
#
# First a look back.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
predict(
    "From lesson 07: one step of the first attempt at a round two had an energy distance near zero. What did that distance not see?",
    "strays between the clumps",
    choices=["strays between the clumps", "that clumps are missing", "nothing"],
    because="A thin spread of wrong points hardly moves a distance between crowds. Count them.",
)

# %% [markdown]
# ## One line
#
# Imagine asking two friends for directions. One knows where people go in general, $v_\varnothing$. The other knows where *sevens* go, $v_c$. Where the two agree you learn nothing. Where they differ, the difference is what makes a seven a seven. So walk a little further in the direction of the difference:
#
# $$ v = v_\varnothing + s\,(v_c - v_\varnothing). $$
#
# This is **classifier-free guidance**, CFG (Ho & Salimans 2022). $s = 0$ forgets the class, $s = 1$ is the class, $s > 1$ exaggerates. (The paper counts only what is added: its $w$ is $s - 1$. Say which one you mean.)
#
# Both fields come from *one* network. In training, the label of one sample in ten, or in five as below, is replaced by "no class". That is **label dropout**, and that is all.

# %%
path, NONE = rectified_flow_path(), 3
classes = [GaussianMixture(m[None].double(), s.double()) for m, s in zip(three.means, three.stds, strict=True)]
everything = GaussianMixture(three.means.double(), three.stds.double())


def exact(t, x, label):
    """The exact field of classes 0 to 2, in the picture 1 to 3; label 3 is "no class"."""
    fields = torch.stack([g.velocity(path, t, x) for g in (*classes, everything)])
    return fields[label, torch.arange(len(x))]


def cfg(t, x, s=3.0, c=0):
    label = torch.full((len(x),), c)
    v_none = exact(t, x, torch.full_like(label, NONE))
    return v_none + s * (exact(t, x, label) - v_none)


# %% jupyter={"source_hidden": true} tags=["hide-input"]
noise = torch.randn(2000, 2).double()
t = torch.rand(2000).double()
ours = cfg(t, noise)
verify("this function is the library's `guided`", guided(exact, 0, 3.0, null_label=NONE)(t, noise) - ours, 0.0, limit=1e-12, wrong={"s taken for the paper's w": guided(exact, 0, 4.0, null_label=NONE)(t, noise) - ours})  # fmt: skip

# %% [markdown]
# ## What does it sample?
#
# "The density $p(x \mid c)^s\,p(x)^{1-s}$." You will read this often; it is called the **tilted density**. In the first lab the particles did not fill it. Let us see why, where everything can be done by hand: all data $\mathcal N(0, S^2)$, the class $\mathcal N(0, q^2)$, with $S = 1$ and $q = 0.5$ (here $S$ is a width).

# %% jupyter={"source_hidden": true} tags=["hide-input"]
predict(
    "S = 1, q = 0.5, scale 3. Guess the width (the standard deviation) of the guided samples.",
    0.125,
    low=0,
    high=0.6,
    step=0.005,
    because="q to the power s, over S to the power s − 1: 0.125. The tilted density would have 0.32.",
)

# %%
crowd = GaussianMixture(torch.zeros(2, 1), torch.tensor([0.5, 1.0]), torch.tensor([1e-6, 1.0]))  # of tiny weight
FlowLab(
    crowd,
    WIDTHS,
    layers=["tilted", "trajectories"],
    controls=["guidance_scale"],
    tour=NARROW,
    condition=[0],
    steps=100,
    solver="rk4",
)

# %% [markdown]
# A centred Gaussian only stretches: a particle stays at the same multiple of its width $\operatorname{std}_t$. So $v = x\,\frac{d}{dt}\log\operatorname{std}_t$. Guidance mixes the two velocities, and with them the *logarithms of the widths*. Both begin at width 1, the noise, and end at $S$ and $q$:
#
# $$ \text{width} = S^{\,1-s}\,q^{\,s}, \qquad\text{the tilted density has}\quad \Bigl(\frac s{q^2} + \frac{1-s}{S^2}\Bigr)^{-1/2}. $$
#
# (That is the flow, the ODE. A stochastic sampler with guidance samples yet another density.) Why are they not the same? Velocity and score are linked by a formula with the same coefficients for both fields (lesson 06), so the scores are mixed with the same $s$. At time $t$ the mixed score is that of $p_t(x \mid c)^s\,p_t(x)^{1-s}$: first add noise, then tilt. A flow that ends in the tilted density would need: first tilt, then add noise. For $0 < t < 1$ these are two different densities (Bradley & Nakkiran 2024).

# %%
S, q, s = 1.0, 0.5, 3.0
wide, narrow = (GaussianMixture(torch.zeros(1, 1).double(), torch.tensor(w)) for w in (S, q))
v_all, v_class = (lambda t, x, g=g: g.velocity(path, t, x) for g in (wide, narrow))
x0 = torch.randn(4000, 1).double()
x0 = x0 / x0.square().mean().sqrt()  # of width 1 exactly
width = lambda field: rk4_sampler(field, x0, steps=60).square().mean().sqrt()
guided_width = width(lambda t, x: v_all(t, x) + s * (v_class(t, x) - v_all(t, x)))

# %% jupyter={"source_hidden": true} tags=["hide-input"]
tilted = (s / q**2 + (1 - s) / S**2) ** -0.5
verify("width of the guided samples", guided_width, S ** (1 - s) * q**s, limit=0.002, wrong={"the tilted density": tilted})  # fmt: skip
mean = lambda m: GaussianMixture(torch.full((1, 1), m).double(), torch.tensor(0.6))
fields = [lambda t, x, g=mean(m): g.velocity(path, t, x) for m in (0.0, 0.5)]
shifted = lambda s: rk4_sampler(lambda t, x: fields[0](t, x) + s * (fields[1](t, x) - fields[0](t, x)), x0, steps=40).mean()  # fmt: skip
verify("equal widths 0.6, class at 0.5, scale 3: mean of the samples; the tilted density has its mean at 1.5", shifted(3.0), 1.5, limit=0.05, wrong={"scale 1": shifted(1.0)})  # fmt: skip
spread = lambda w: rk4_sampler(lambda t, x: fields[0](t, x) + 3 * (GaussianMixture(torch.full((1, 1), 0.5).double(), torch.tensor(w)).velocity(path, t, x) - fields[0](t, x)), x0, steps=40).std()  # fmt: skip
verify("and their width stays 0.6", spread(0.6), 0.6, limit=0.02, wrong={"a class of width 0.5": spread(0.5)})  # fmt: skip

# %% [markdown]
# For two Gaussians of *equal* width guidance is exactly what the books say: it moves, and keeps the shape. In general it is another density; here, and in the first lab, **narrower than the one that everybody writes down.**
#
# ## Real digits
#
# scikit-learn's digits, lesson 04, now with their classes. A **judge** tells which digit it sees: a small classifier, trained on real digits alone. We read three things:
#
# - **agreement**: how often it sees the digit that we asked for;
# - **feature distance**: its last hidden layer turns a digit into 64 numbers, the *features*. How far are their mean and covariance, generated and held-out, apart? (This is the Fréchet distance; with a large network on photographs it is called FID.) Divided by the same for training and held-out digits, so 1 means: as near as real digits;
# - **missed**: the distance from a held-out digit to the nearest generated one, divided by that to the nearest training digit. It grows when kinds of digits disappear, or when all move off the data.


# %%
def fit(net):
    torch.manual_seed(2)
    batches = SampledBatches(load_digits_flow().sample_labelled, batch=128)
    path = rectified_flow_path()
    return train_flow_matching(net, batches, path, 4000, lr=4e-3, log_every=0, label_dropout=0.2)[1]


model = trained("08-digits", ResidualMLP(64, hidden=128, blocks=2, num_classes=10), fit)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
digits = load_digits_flow()
train, test, labels = dequantise(digits.train), dequantise(digits.test), digits.train_labels


def learn_to_judge(judge):
    torch.manual_seed(1)
    return train_digit_classifier(load_digits_flow())


judge = trained("08-judge", DigitClassifier(), learn_to_judge)
test_features = judge.features(test)
floor = frechet_distance(judge.features(train), test_features)
real_to_train = nearest_distance(test, train)


def scores(field, draws=5):
    """Of as many digits as were trained on, drawn several times: agreement, feature distance, missed; [draws, 3]."""
    rows = []
    for _ in range(draws):
        x = heun_sampler(field, torch.randn(len(train), 64), steps=5)
        features = frechet_distance(judge.features(x), test_features) / floor
        rows.append([judge.agreement(x, labels), features, nearest_distance(test, x) / real_to_train])
    return torch.tensor(rows)


torch.manual_seed(6)
scales = (1.0, 1.1, 1.2, 1.35, 1.5, 2.0, 3.0)
read = {s: scores(guided(model, labels, s), 4 if s < 2 else 2) for s in scales}
feature = {s: estimate(r[:, 1]) for s, r in read.items()}
best = min(feature, key=lambda s: feature[s].mean)
predict(
    "At which scale is the feature distance to real digits smallest?",
    best,
    low=0.5,
    high=4,
    step=0.05,
    because=f"{feature[1.0].mean:.2f} times the floor at scale 1, {feature[best].mean:.2f} at its best, and {feature[3.0].mean:.1f} at scale 3.",
)

# %%
rows = torch.arange(10).repeat(3)  # three rows of 0 ... 9
start = torch.randn(30, 64)


def sheet(guidance_scale):
    return heun_sampler(guided(model, rows, guidance_scale), start, steps=8)


# %% jupyter={"source_hidden": true} tags=["hide-input"]
fig, (ax,) = panels(1, 2.0, width=5.6)
plots.image_grid(ax, sheet(1.0))


def redraw(guidance_scale):
    plots.image_grid(ax, sheet(guidance_scale))
    for old in ax.images[:-1]:
        old.remove()


LiveFigure(
    fig,
    redraw,
    alt="Three rows of generated digits 0 to 9. At scale 0 they are any digits; at 1 the right ones; with growing scale bolder and more alike.",
    guidance_scale=ipywidgets.FloatSlider(value=1, min=0, max=8, step=0.25),
)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
fig, axes = panels(3, 2.2)
for ax, k, title in zip(axes, range(3), ("judge's agreement", "feature distance / floor", "missed"), strict=True):
    values = [estimate(r[:, k]) for r in read.values()]
    ax.errorbar(scales, [v.mean for v in values], [v.std_error for v in values], color=COLORS["model"], marker="o", markersize=4)  # fmt: skip
    ax.set(title=title, xlabel="scale")
show(fig, "Three curves over the guidance scale from 1 to 3. The agreement rises to 1 at about 1.5. The feature distance falls until about 1.2 and then rises steeply. What is missed falls a little and rises again.")  # fmt: skip
verify("by what share the feature distance falls from scale 1 to 1.2", 1 - feature[1.2].mean / feature[1.0].mean, at_least=0.04, wrong={"to scale 3": 1 - feature[3.0].mean / feature[1.0].mean})  # fmt: skip
verify("1 − the judge's agreement at scale 1.5", 1 - read[1.5][:, 0].mean(), at_most=0.005, wrong={"at scale 1": 1 - read[1.0][:, 0].mean()})  # fmt: skip

# %% [markdown]
# Run the slider's cell and drag: first any digit, then the right one, then always the same bold version of it. The middle curve is the **U** that interviews ask for. Left of its bottom some digits are still unclear or wrong; a little guidance clears them up. Right of it the digits grow bolder and more alike; the distance grows with either, and does not say which. The judge's *answers* cannot warn you: from 1.5 on it is content, as a bold copy of a seven is a seven.
#
# ## The worse friend: autoguidance
#
# Karras et al. (2024) argue that a part of this has nothing to do with classes. $v_\varnothing$ is a *worse* model: it must explain everything at once, and makes mistakes like those of $v_c$, only larger. So the difference between the two points away from the mistakes. Then take a worse copy of the *same* conditional model, $v = v_{\text{bad}} + s\,(v_{\text{good}} - v_{\text{bad}})$, both with the label. This is **autoguidance**. Here is a bad one, trained for 300 steps instead of 4,000.

# %%
torch.manual_seed(3)
batches = SampledBatches(digits.sample_labelled, batch=128)
bad = train_flow_matching(ResidualMLP(64, hidden=128, blocks=2, num_classes=10), batches, path, 300, lr=4e-3, log_every=0, label_dropout=0.2)[1]  # fmt: skip
auto = lambda s: lambda t, x: bad(t, x, labels) + s * (model(t, x, labels) - bad(t, x, labels))
read_auto = {s: scores(auto(s), 3) for s in (1.25, 2.0)}

# %% jupyter={"source_hidden": true} tags=["hide-input"]
of = lambda r, k: r[:, k].mean()
verify(f"by what share it falls with autoguidance at 1.25 (with CFG at 1.2: {1 - feature[1.2].mean / feature[1.0].mean:.2f})", 1 - of(read_auto[1.25], 1) / feature[1.0].mean, at_least=0.08, wrong={"at 2": 1 - of(read_auto[2.0], 1) / feature[1.0].mean})  # fmt: skip

# %% [markdown]
# With this one bad model it falls at least as much as with CFG near its best. The bad model must fail in the *same* manner: smaller, or trained less. And too much of it is too much again.
#
# ## Tools against shouting
#
# Each is one or two lines around the same field.

# %%
SCALE = 3.0
v_c = lambda t, x: model(t, x, labels)
late_only = guided(model, labels, SCALE, interval=(0.5, 1.0))  # the second half
not_the_next = guided(model, labels, SCALE, null_label=(labels + 1) % 10)  # a negative condition: "and not that"


def rescaled(t, x, phi=0.7):  # Lin et al. 2023: each sample's velocity keeps its spread
    v = guided(model, labels, SCALE)(t, x)
    keep = v * v_c(t, x).std(1, keepdim=True) / v.std(1, keepdim=True)
    return phi * keep + (1 - phi) * v


# %% jupyter={"source_hidden": true} tags=["hide-input"]
torch.manual_seed(7)
tamed = {"late": scores(late_only, 2), "rescaled": scores(rescaled, 2), "negative": scores(not_the_next, 2)}
louder = of(scores(guided(model, labels, 5.0), 1), 1) / feature[3.0].mean
by = lambda name: of(tamed[name], 1) / feature[3.0].mean
quiet = f"scale 1: {feature[1.0].mean / feature[3.0].mean:.2f}, 1.2: {feature[1.2].mean / feature[3.0].mean:.2f}"
verify(f"scale 3 for t above ½ only: feature distance, divided by that of scale 3 throughout ({quiet})", by("late"), at_most=0.6, wrong={"scale 5 throughout": louder})  # fmt: skip
verify("scale 3, rescaled, the same ratio", by("rescaled"), at_most=0.95, wrong={"scale 5": louder})  # fmt: skip
interval_width = width(lambda t, x: v_class(t, x) + (s - 1) * (t >= 0.5).double()[:, None] * (v_class(t, x) - v_all(t, x)))  # fmt: skip
at_half = lambda w: (0.25 * w**2 + 0.25) ** 0.5
verify("scale 3 with the next digit in the place of none", by("negative"), at_least=4.0, wrong={"with none": of(read[3.0], 1) / feature[3.0].mean})  # fmt: skip
verify("Gaussians, scale 3 for t above ½: the width is still a formula", interval_width, q * ((q / at_half(q)) / (S / at_half(S))) ** (s - 1), limit=0.005, wrong={"scale 3 throughout": guided_width})  # fmt: skip

# %% [markdown]
# Compare with scale 1 and 1.2, in brackets in the first row: at scale 3 late guidance undoes nearly all of the damage, rescaling a good part. As set here, untuned, neither beats a well chosen scale. (Kynkäänniemi et al. switch guidance off at *both* ends, on large pictures.) A negative *class* fails at this scale: two classes differ more than a class and the crowd, so the same number pushes harder.
#
# **Which of them samples something that one can write down?** For centred Gaussians one can: a negative class of width $r$ gives $q^s r^{1-s}$, and guidance from $t = \frac12$ on gives $q\,\bigl(\frac{q/q_{1/2}}{S/S_{1/2}}\bigr)^{s-1}$ with the widths at $t = \frac12$, as the last row checks. For real data nobody can. They are chosen by measuring and looking.
#
# | name | idea in one line | source |
# |---|---|---|
# | interval | guide only during a part of the journey, neither at the start nor at the end | Kynkäänniemi et al. 2024, arXiv 2404.07724 |
# | CFG rescale | give the guided prediction, in part, the spread of the unguided one | Lin et al. 2023, arXiv 2305.08891, section 3.4 |
# | negative prompt | another condition in the place of "none" | practice of Stable Diffusion's users |
# | autoguidance | a worse model in the place of "none" | Karras et al. 2024, arXiv 2406.02507 |
# | CFG++ | guide the data prediction with a scale below 1, but add back the *unconditional* noise | Chung et al. 2024, arXiv 2406.08070 |
# | APG | weaken the part of the push that is parallel to the prediction: it makes colours too strong | Sadat et al. 2024, arXiv 2410.02416 |
#
# ## Traps
#
# - **"CFG samples $p(x\mid c)^s\,p(x)^{1-s}$."** True for $s = 0$ and 1, and for Gaussians of equal width.
# - **$s$ or $w$?** $s = 1 + w$.
# - **Forgetting to drop labels.** Then "no class" was never trained, and $v_\varnothing$ is arbitrary.
# - **A scale because the classifier likes it.** From 1.5 on it likes every scale that we tried.
# - **Twice the price.** Two fields a step; `interval` saves a part, and a distilled model has the guidance baked in.
#
# ## Your turn
#
# Replace `return None` by your answer and run the cell. Any right answer is accepted; a wrong one is told what is wrong.
#
# **1. Write classifier-free guidance (screen, 5 minutes).** The guided velocity with scale `s`, where $s = 1$ is no guidance. `model(t, x, label)`; `label` [B] are integers, the integer `null` means "no class".


# %%
def my_cfg(model, t, x, label, null, s):
    return None


check("cfg", my_cfg)

# %% [markdown]
# <details><summary>Hint</summary>
#
# `torch.full_like(label, null)` makes the labels of the second call.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def my_cfg(model, t, x, label, null, s):
#     v_none = model(t, x, torch.full_like(label, null))
#     return v_none + s * (model(t, x, label) - v_none)
# ```
#
# </details>
#
# **2. The width that guidance gives (research, 8 minutes).** Centred Gaussians: all data have the standard deviation `S`, the class has `q`. Return the standard deviation of the guided samples at scale `s`.


# %%
def cfg_std(S, q, s):
    return None


check("cfg_std", cfg_std)

# %% [markdown]
# <details><summary>Hint</summary>
#
# $v = x\,\frac{d}{dt}\log\operatorname{std}_t$ for each; guidance mixes the two.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def cfg_std(S, q, s):
#     return S ** (1 - s) * q**s
# ```
#
# </details>
#
# ## Interview walkthrough
#
# Say your answer aloud before you open a card. Each has the 30-second answer, the usual mistake, and the section that proves it.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
interview_cards("cfg-formula", "cfg-training", "cfg-samples-what", "cfg-scale-effect", "copies-check")

# %% [markdown]
# ## You can now …
#
# 1. write CFG in one line, train its network with label dropout, and translate $s = 1 + w$;
# 2. derive $S^{1-s} q^s$, and say why it is not the tilted density;
# 3. draw the U, and say why a classifier cannot find its bottom;
# 4. name autoguidance, interval, rescale, negative condition, CFG++ and APG in a line each.
#
# Next: [10 · Production](10_production.ipynb). What the large models add.
#
# ## Further: are these copies?
#
# <details><summary>The distance to the nearest training digit</summary>
#
# A model that has memorised scores well everywhere above. So turn the measure round: how far is a generated digit from the nearest *training* digit, over the same for held-out digits? 1 says: as far as new real digits are. Far below 1 is a reason to suspect copies. A few copies among many samples hide in a mean; the small quantiles of the same distance show them.
#
# </details>

# %% jupyter={"source_hidden": true} tags=["hide-input"]
generated = heun_sampler(guided(model, labels, 1.2), torch.randn(len(train), 64), steps=5)
copied = lambda x: nearest_distance(x, train) / real_to_train
verify("distance to the nearest training digit, over that of held-out digits", copied(generated), at_least=0.85, wrong={"the training digits with a little noise": copied(train + 0.02 * torch.randn_like(train))})  # fmt: skip

# %% [markdown]
# ## References
#
# - J. Ho, T. Salimans, *Classifier-Free Diffusion Guidance*, 2022, arXiv 2207.12598: equation 6, algorithm 1.
# - A. Bradley, P. Nakkiran, *Classifier-Free Guidance is a Predictor-Corrector*, 2024, arXiv 2408.09000.
# - The table's rows name theirs. M. Heusel et al., 2017, arXiv 1706.08500: the Fréchet distance. E. Alpaydin, C. Kaynak, 1998: the digits (UCI).
