# %% [markdown]
# # 07 · Reflow
#
# **A flow that bends needs many steps. Could we teach a second flow to go straight, so that one step is enough? And what does "enough" cost?**

# %% jupyter={"source_hidden": true} tags=["hide-input"]
import torch
from torch import nn

from fmlib import *
from fmlib.page import *
from fmlib.study import *

torch.set_num_threads(1)  # these tensors are tiny: a second thread costs more than it brings
torch.manual_seed(0)
plots.use_style()

SORTED = (
    "Straight lines between noise and data: of random pairs, which cross everywhere, and of the pairs that the flow makes, "
    "which hardly do. A dot can be dragged; from it the flow bends to its end and one Euler step goes straight and misses."
)
TOUR = [
    {
        "caption": "From the dot the flow bends to the black end. One Euler step goes straight, and lands on the red one. "
        "The arrow to the black end is the step that we want. Drag the dot: black moves, red stays. Which place is that?",
        "layers": ["density", "jump"], "t": 0.0, "until": 1.0, "probe": [-0.8, 1.4],
    },
    {
        "caption": "These are the pairs that a flow is trained on: any noise point with any data point. Many meet: at the same place at the same time. There the flow can only take their mean, so it bends.",
        "layers": ["pairs"], "t": 1.0,
    },
    {
        "caption": "Now join each noise point to the end to which the flow itself carries it. Neighbours now go side by side, and hardly any two lines meet. Train a second flow on these pairs, and it has little reason to bend.",
        "layers": ["coupled"], "t": 1.0,
    },
    {
        "caption": "The trajectories that made these pairs. They bend, and no two ever meet. Drag a clump, go back one picture, and see whether the lines stay side by side.",
        "layers": ["trajectories"], "t": 1.0, "steps": 32, "solver": "rk4",
    },
]  # fmt: skip

# %%
lab = FlowLab(eight_gaussians(), SORTED, layers=["density", "jump"], controls=["t", "until", "mixture"], tour=TOUR)
lab

# %% [markdown]
# *Nothing has to run first. You need lessons [03](03_paths.ipynb) to [05](05_ode_solvers.ipynb).* *Time:* 15 minutes to read, about 20 seconds to run; 15 more for 2 exercises and 5 cards.
#
# **You will be able to** write reflow in five lines, say what is proved about it, see what a distance does not see, train a one-step model that hardly strays, and tell reflow from its relatives.
#
# First a look back.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
predict(
    "From lesson 06: after training on pairs that depend on each other, which conversion is wrong?",
    "velocity to score",
    choices=["velocity to noise", "velocity to data", "velocity to score"],
    because="Tweedie's formula needs noise that is independent of the data. The other two need only the line between the pair.",
)

# %% [markdown]
# ## Reflow in five lines
#
# Think of a crowd in a station hall. Everybody is told a random exit, and all walk straight: chaos in the middle. Now let them walk as they like, without bumping into each other, and write down who left where. Next morning, tell everybody *that* exit. Now all can walk straight.
#
# 1. Take noise $x_0$. Follow the flow to its end $x_1$.
# 2. Keep the **pair** $(x_0, x_1)$.
# 3. Train a new flow on such pairs, along the same straight lines.
# 4. These lines hardly meet, so the new flow is nearly straight.
# 5. Repeat if you like. Round 1 is the first flow, round $k$ the flow after $k - 1$ reflows, called *$k$-rectified*.
#
# Why do they hardly meet? Two trajectories of one flow never do: from one place at one time there is one velocity. So neighbours in the noise stay neighbours, but for those on the two sides of a border between clumps. The straight lines between the same ends may still meet, at the same place *and the same time*, but they have much less reason to.

# %%
path, data = rectified_flow_path(), eight_gaussians()
first_flow = lambda t, x: data.velocity(path, t, x)  # the exact flow of independent pairs: round one, perfectly learned
noise = torch.randn(5000, 2)
pairs = reflow_pairs(first_flow, noise, steps=40)


def half_at_zero(n, device=None):  # the training times of line 3: half of them are 0, for a reason given below
    return torch.rand(n, device=device) * (torch.rand(n, device=device) < 0.5)


# %% [markdown]
# How much do the lines through one place, at one time, still disagree? That variance (lesson 02) belongs to the *pairs*. The flow of these pairs is *straight* exactly if it is zero (Liu et al. 2022, Theorem 3.6), and then one Euler step is exact. The loss of any network on these pairs is at least as large.


# %% jupyter={"source_hidden": true} tags=["hide-input"]
def all_at_zero(n, device=None):
    return torch.zeros(n, device=device)


def rounds(nets):
    """Round two and a student from the exact flow's pairs, round three from round two's."""
    path, data = rectified_flow_path(), eight_gaussians()
    torch.manual_seed(5)
    noise = torch.randn(40_000, 2)
    pairs = reflow_pairs(lambda t, x: data.velocity(path, t, x), noise, steps=40)

    def train(net, pairs, steps, times):
        batches = PairBatches(*pairs, batch=512)
        return train_flow_matching(net, batches, path, total_steps=steps, lr=1e-2, t_dist=times, log_every=0)[1]

    second = train(nets["second"], pairs, 6000, half_at_zero)
    student = train(nets["student"], pairs, 4000, all_at_zero)
    third = train(nets["third"], reflow_pairs(second, noise, steps=40), 6000, half_at_zero)
    return nn.ModuleDict({"second": second, "third": third, "student": student})


def plain(net):
    """Round two as most first attempts are: a small network, squared loss, uniform times."""
    path, data = rectified_flow_path(), eight_gaussians()
    torch.manual_seed(5)
    start = torch.randn(20_000, 2)
    x0, x1 = reflow_pairs(lambda t, x: data.velocity(path, t, x), start, steps=40)
    return train_flow_matching(net, PairBatches(x0, x1, batch=256), path, total_steps=900, log_every=0)[1]


torch.manual_seed(4)
make = lambda: FourierMLP(2, path, data_std=2.1)
nets = trained("07-rounds", nn.ModuleDict({name: make() for name in ("second", "third", "student")}), rounds)
naive = trained("07-plain", VectorFieldMLP(2, 64), plain)


def left_loss(v, x0, x1):
    t = torch.rand(len(x0))
    return estimate((v(t, path.sample_xt(t, x0, x1)) - (x1 - x0)).square().sum(1))


real = data.sample(5000).float()
independent = left_loss(first_flow, noise, real)
verify("the loss that is left on the flow's pairs, divided by that on independent pairs", left_loss(nets["second"], *pairs).mean / independent.mean, at_most=0.05, wrong={"the same noise and ends, paired anew at random, and the flow of random pairs": left_loss(first_flow, pairs[0], pairs[1].roll(1, 0)).mean / independent.mean})  # fmt: skip

# %% [markdown]
# ## What is proved
#
# Follow the flow from $x_0$ to its end $x_1$, and compare its velocity with the straight line all along: $S = \int_0^1 \mathbb E\,\|(x_1 - x_0) - v_t(x_t)\|^2 dt$. $S = 0$ says that everybody keeps one constant velocity. Liu et al. prove, for exact fields:
#
# - **Theorem 3.5:** for *every* convex cost $c$, $\mathbb E\,c(x_1 - x_0)$ does not grow from round to round.
# - **Theorem 3.7:** among the first $K$ rounds the straightest has $S$ at most a constant over $K$.
#
# Here a single reflow, round 2, is nearly enough:

# %% jupyter={"source_hidden": true} tags=["hide-input"]
x0 = noise[:2000]
ends = {name: rk4_sampler(v, x0, steps=30) for name, v in {"exact": first_flow, "second": nets["second"]}.items()}
cost = lambda x1, p: (x1 - x0).norm(dim=1).pow(p).mean()
share = lambda x1: torch.stack([cost(x1, p) / cost(real[:2000], p) for p in (1, 2, 4)])
mirrored = rk4_sampler(first_flow, -x0, steps=30)
verify("cost of the flow's pairs, divided by that of independent ones, for |d|, |d|² and |d|⁴", share(ends["exact"]), at_most=0.95, wrong={"each point with the end of its mirror image": share(mirrored)})  # fmt: skip
bend = lambda v: straightness(v, x0[:500], steps=40)
verify("S of round two, divided by S of round one", bend(nets["second"]) / bend(first_flow), at_most=0.05, wrong={"another flow of independent pairs, to three clumps": bend(lambda t, x: three_gaussians().velocity(path, t, x)) / bend(first_flow)})  # fmt: skip

# %% [markdown]
# ## Rounds, side by side
#
# Run the cell and move the steps. With one Euler step round one falls into a heap: from $t = 0$ everybody aims at the mean of the data (lesson 03). Rounds two and three, which were trained with care (the recipe comes below), hit the clumps.

# %%
start, steps = torch.randn(500, 2), [1, 2, 4, 8, 32]
three = {"round 1": first_flow, "round 2": nets["second"], "round 3": nets["third"]}
run = lambda v: {n: euler_sampler(v, start, steps=n, return_trajectory=True) for n in steps}

# %% jupyter={"source_hidden": true} tags=["hide-input"]
FlowPlayer(
    torch.linspace(0, 1, 2),
    [Panel(by_steps=run(v), trails=60, title=name) for name, v in three.items()],
    limits=(-4.2, 4.2, -4.2, 4.2),
    steps=1,
    steps_label="Euler steps",
    alt="Three pictures side by side, from noise to eight clumps on a circle. With one step round one sends all points to the centre; rounds two and three reach the clumps.",
)

# %% [markdown]
# ## A small distance can hide many strays
#
# Now take another round two: a **first attempt**, with a small network, few pairs and few steps. Judge one step of it with the energy distance: how far two crowds are from each other, compared with how far each is from itself. For equal distributions it is 0, up to chance. The first attempt reads very little too.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
reference = data.sample(20_000)
fresh, held_out = torch.randn(5000, 2), data.sample(5000).float()
strays = lambda x: 100 * off_support_share(x, reference, lambda x: data.log_prob(path, 1.0, x)).mean
gap = lambda x: energy_distance(x[:2500], held_out[:2500])
one = {name: euler_sampler(v, fresh, steps=1) for name, v in {"naive": naive, "second": nets["second"], "third": nets["third"], "student": nets["student"]}.items()}  # fmt: skip
predict(
    "One step of the first attempt. Take the density of the data at many real points: 1 % of them lie below some threshold. A point whose density is below it is a stray. Of real data 1 % are strays. How many of the first attempt?",
    strays(one["naive"]),
    low=0,
    high=100,
    step=1,
    unit=" %",
    because="More than one point in five lies in the gaps between the clumps. The distance compares crowds, and a thin spread of wrong points hardly moves it.",
)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
verify(f"one step of the first attempt: energy distance to data (other real data: {gap(data.sample(5000).float()):.4f})", gap(one["naive"]), at_most=0.02, wrong={"one step of round one": gap(euler_sampler(first_flow, fresh, steps=1))})  # fmt: skip
verify("its strays, percent", strays(one["naive"]), at_least=12.0, wrong={"real data": strays(held_out)})

# %% [markdown]
# ## A recipe that is good by both
#
# Why the strays? The noise is divided like a cake: each piece goes to its own clump, and a small move of $x_0$ across the border lets its end jump from one clump to the next. A smooth network cannot jump. It joins the two by a slope, a ramp, and who starts on the ramp ends in the gap. So make the ramp steep:
#
# - **Look where it matters.** One step uses the network at $t = 0$ only. So let half of the training times be exactly 0: `half_at_zero`, above.
# - **Give it edges.** `FourierMLP` (lesson 04) sees waves of $x$, and can turn within a short distance.
# - **Take your time**: 40,000 pairs and 6,000 steps of 512, instead of 20,000 and 900 of 256.
#
# We change all three together (and the learning rate); which does how much is not measured here. You will often read that the squared loss is to blame. It stays the square here, and most of the strays go.


# %% jupyter={"source_hidden": true} tags=["hide-input"]
counts = (1, 2, 4, 32)
flows = {"first attempt": naive, "round 2": nets["second"], "round 3": nets["third"]}
table = {name: [strays(euler_sampler(v, fresh, steps=n)) for n in counts] for name, v in flows.items()}
distances = {name: [gap(euler_sampler(v, fresh, steps=n)) for n in counts] for name, v in flows.items()}
fig, (left, right) = panels(2, 2.5)
for name, role in {"first attempt": "wrong", "round 2": "model", "round 3": "third"}.items():
    left.plot(range(4), table[name], "o-", color=COLORS[role], markersize=4), right.plot(range(4), distances[name], "o-", color=COLORS[role], markersize=4, label=name)  # fmt: skip
student_gap, student_strays = gap(one["student"]), strays(one["student"])
left.plot(0, student_strays, "*", color=COLORS["other"], markersize=10), right.plot(0, student_gap, "*", color=COLORS["other"], markersize=10, label="student")  # fmt: skip
left.axhline(strays(held_out), color=COLORS["exact"], linewidth=1), left.text(3.06, strays(held_out), "real data", va="center", fontsize=8)  # fmt: skip
right.axhline(0, color=COLORS["exact"], linewidth=1), right.legend(fontsize=8)
for ax, title in ((left, "strays, %"), (right, "energy distance to data")):
    ax.set(title=title, xlabel="Euler steps", xticks=range(4), xticklabels=counts)
left.set_ylim(0, None)
show(fig, "Left, the share of strays over the number of Euler steps: more than a fifth for the first attempt with one step, a few percent for rounds two and three and for the student. Right, energy distances, all close to zero.")  # fmt: skip
verify("round two, one step: strays, percent", strays(one["second"]), at_most=4.0, wrong={"the first attempt": strays(one["naive"])})  # fmt: skip
verify("round two, 32 steps: strays, percent (a perfect flow: 1)", table["round 2"][-1], at_most=2.2, wrong={"the first attempt": table["first attempt"][-1]})  # fmt: skip

# %% [markdown]
# Left you see what the right picture hides. One step of round two strays by two or three percent, and 32 steps of the *same* network hardly more than real data. The price is training: nearly seven times the steps, of batches twice as large. The star comes below.
#
# ## What it costs: the ends drift
#
# A trained round reaches *almost* the ends of the flow before it, its **teacher**. The next round learns from these.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
predict(
    "Follow each flow with many steps and measure how far its ends are from the exact flow's. Which round is nearer?",
    "round 2",
    choices=["round 2", "round 3", "no difference"],
    because="In this training by a little: round 3 learned from round 2, with all its errors, and nothing corrects it towards the data. Reflow saves steps and pays with accuracy: stop early.",
)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
goal = rk4_sampler(first_flow, fresh, steps=40)
drift = {name: (heun_sampler(nets[name], fresh, steps=30) - goal).norm(dim=1) for name in ("second", "third")}
more = estimate(drift["third"] - drift["second"])
verify(f"mean distance to the exact ends: round three minus round two, here {more.mean:.3f}, in standard errors", more.mean / more.std_error, at_least=4.0, wrong={"round two, its two halves compared": ((drift["second"][:2500].mean() - drift["second"][2500:].mean()) / estimate(drift["second"]).std_error / 2)})  # fmt: skip

# %% [markdown]
# ## One step only: distillation
#
# **Distillation** means: a *student* learns to do in one step, or few, what its teacher does in many. Here it learns the jump $x_0 \mapsto x_0 + v_\theta(x_0)$ alone: all training times are 0. It is the star in the picture, trained for 4,000 steps. What you give up: at $t = \frac12$ it was never trained, so a second step is nonsense. (At the size of Stable Diffusion a direct student failed; with a reflow first it worked: InstaFlow.)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
two = strays(euler_sampler(nets["student"], fresh, steps=2))
verify("the student, one step: strays, percent", student_strays, at_most=4.0, wrong={"two steps of it": two})  # fmt: skip

# %% [markdown]
# ## Straight is not optimal
#
# Optimal transport, the cheapest pairing, is straight. From two dimensions on the reverse is false (Liu et al. 2022, section 3). Turn every noise point by 60°, $x_1 = R\,x_0$. On paper the lines cross, but no two are at one place at the same time. So the flow is straight, and reflow keeps it. Both ends are $\mathcal N(0, I)$; the cheapest is not to move at all. (For the eight clumps the flow's pairs are, among 1,000 points, the cheapest.)

# %%
turn, eye = torch.tensor([[0.5, -(3**0.5) / 2], [3**0.5 / 2, 0.5]]).double(), torch.eye(2).double()


def turning(t, x):  # the velocity (R - I) x_0, with x_0 found from x_t
    return torch.linalg.solve(eye + t[0] * (turn - eye), x.T).T @ (turn - eye).T


x0 = torch.randn(1000, 2).double()
turned = euler_sampler(turning, x0, steps=1)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
verify("the turning flow: S, zero if it is straight", straightness(turning, x0), 0.0, limit=1e-9, wrong={"the exact flow to the eight clumps": bend(first_flow)})  # fmt: skip
verify("its cost, divided by that of the cheapest pairing of the same points", transport_cost(x0, turned) / transport_cost(*minibatch_ot(x0, turned)), at_least=8.0, wrong={"the pairs of the flow to the clumps": transport_cost(pairs[0][:1000], pairs[1][:1000]) / transport_cost(*minibatch_ot(pairs[0][:1000], pairs[1][:1000]))})  # fmt: skip

# %% [markdown]
# ## Straighter pairs without a first flow: minibatch OT
#
# OT-CFM (Tong et al. 2023) re-pairs each batch by optimal transport before the loss. No first flow is needed. But the cheapest pairing of a small *batch* is dearer than that of the distributions, so the flow is less straight.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
paired = lambda b: estimate([transport_cost(*minibatch_ot(torch.randn(b, 2), sample_eight_gaussians(b))) for _ in range(2048 // b)]).mean  # fmt: skip
flow_cost = transport_cost(*pairs)
verify("cost of the pairs of a batch of 8, above that of the flow's pairs, relative", paired(8) / flow_cost - 1, at_least=0.1, wrong={"a batch of 512": paired(512) / flow_cost - 1})  # fmt: skip

# %% [markdown]
# ## What it is not
#
# | name | idea in one line | what it fixes | what it costs |
# |---|---|---|---|
# | progressive distillation (Salimans & Ho 2022, 2202.00512) | a student learns to do in one step what its teacher does in two; repeat | halves the steps each time | a training for every halving |
# | InstaFlow (Liu et al. 2023, 2309.06380) | reflow, *then* distil, at the size of Stable Diffusion | text to image in one step | two trainings, pairs of the teacher |
# | consistency models (Song et al. 2023, 2303.01469) | all points of one trajectory get the same answer: its end | no pairs have to be made in advance | delicate to train without a teacher |
# | shortcut models (Frans et al. 2024, 2410.12557) | tell the network the step size; two steps must equal one double step | one network for 1, 2, 4 … steps | extra targets in training |
# | MeanFlow (Geng et al. 2025, 2505.13447) | learn the average velocity over $[s, t]$ by an identity | one step from scratch | a derivative (JVP) in the loss |
# | DMD2 (Yin et al. 2024, 2405.14867) | match the *distribution* of the ends: go along the difference of two scores, of the data and of the student, with an adversary beside it | no pairs needed | a second network, less diversity |
# | ADD / LADD, adversarial diffusion distillation, in pixels / in the latent space (Sauer et al. 2023, 2311.17042; 2024, 2403.12015) | a second network learns to tell the student's pictures from good ones, real or the teacher's, and the student to fool it | sharp pictures in 1 to 4 steps | two networks that play against each other are delicate |
#
# SD3-Turbo and FLUX-schnell are made by the last row, not by reflow. Behind consistency, shortcut and MeanFlow stands one idea, the map from one time to another (consistency: to the end only).
#
# ## Traps
#
# - **"One step of a straight path is exact."** Of a straight *flow*. Round one has straight pairs and a bent flow.
# - **A distance alone.** Count the strays as well.
# - **Scores after reflow.** The pairs are no longer independent (lesson 06).
# - **One more round.** It learns the errors of the one before.
#
# ## Your turn
#
# Replace `return None` by your answer and run the cell. Any right answer is accepted; a wrong one is told what is wrong.
#
# **1. Write reflow's pairs (screen, 5 minutes).** Return the pair (noise, end of the flow), with `steps` Euler steps. `model(t, x)` takes a number as time here.


# %%
def my_reflow(model, x0, steps):
    return None


check("reflow", my_reflow)

# %% [markdown]
# <details><summary>Hint</summary>
#
# Keep `x0` as it was.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def my_reflow(model, x0, steps):
#     x1 = x0.clone()
#     for i in range(steps):
#         x1 = x1 + model(i / steps, x1) / steps
#     return x0, x1
# ```
#
# </details>
#
# **2. W2 on a line (on-site, 5 minutes).** Two sets of equally many numbers, `a` and `b` [N]. Return their Wasserstein-2 *distance*, the cost of optimal transport in the unit of length: the root of the smallest mean squared distance over all pairings.


# %%
def w2(a, b):
    return None


check("w2_line", w2)

# %% [markdown]
# <details><summary>Hint</summary>
#
# On a line the best pairing is by rank.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def w2(a, b):
#     return (a.sort().values - b.sort().values).square().mean().sqrt()
# ```
#
# </details>
#
# ## Interview walkthrough
#
# Say your answer aloud before you open a card. Each has the 30-second answer, the usual mistake, and the section that proves it.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
interview_cards("reflow-what", "reflow-theorem", "one-step-collapse", "straight-is-not-ot", "ot-classes")

# %% [markdown]
# ## You can now …
#
# 1. write reflow, and say why its pairs are sorted;
# 2. state what is proved: convex costs do not grow, and the smallest $S$ among $K$ rounds is $O(1/K)$; and the counter-example for optimality;
# 3. report a one-step model with its strays, and say what makes them fewer;
# 4. tell reflow, distillation, minibatch OT and their relatives apart in a line each.
#
# Next: [08 · Guidance](08_guidance.ipynb). How do you ask for something?
#
# ## Further: minibatch OT and classes
#
# <details><summary>Each class gets its own piece of the noise</summary>
#
# If noise and data are paired without regard to the class, the noise of one class is no longer $\mathcal N(0, I)$: the right half of the data gets the right half of the noise. But when you sample that class you start from all of $\mathcal N(0, I)$, also where its flow was never trained. The remedy is to pair within each class; `minibatch_ot(x0, x1, label)` does.
#
# </details>

# %% jupyter={"source_hidden": true} tags=["hide-input"]
x0, x1 = torch.randn(1500, 2), sample_eight_gaussians(1500)
right = (x1[:, 0] > 0).long()  # the class: the right half of the data
noise_of = lambda pair, label: estimate(pair[0][label == 1][:, 0])
within, across = minibatch_ot(x0, x1, right), minibatch_ot(x0, x1)
verify("paired within classes: mean of the noise of the right half", noise_of(within, (within[1][:, 0] > 0).long()), 0.0, limit=0.2, wrong={"paired across classes": noise_of(across, (across[1][:, 0] > 0).long())})  # fmt: skip

# %% [markdown]
# ## References
#
# - X. Liu, C. Gong, Q. Liu, *Flow Straight and Fast*, ICLR 2023, arXiv 2209.03003: Theorems 3.5 to 3.8.
# - S. Lee et al., *Improving the Training of Rectified Flows*, 2024, arXiv 2405.20320: times at the ends, and another loss; one round is enough.
# - A. Tong et al., *Improving and Generalizing Flow-Based Generative Models with Minibatch Optimal Transport*, 2023, arXiv 2302.00482.
# - The table's rows name theirs. FLUX-schnell: its model card.
