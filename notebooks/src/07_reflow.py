# %% [markdown]
# # 07 · Reflow
#
# A flow that bends needs many steps. Reflow teaches a second flow the ends of the first, and the second is almost straight. Then one step lands where many landed before – nearly, and here you will see what "nearly" costs.
#
# **You will be able to**
#
# 1. explain why one Euler step of a 1-rectified flow collapses, and what crossing has to do with it;
# 2. write reflow in five lines, and say what is proved about it: cost and straightness;
# 3. measure what it gains and what it loses, with floors and several seeds;
# 4. tell reflow from optimal transport and from minibatch OT, and say who really uses it.
#
# *Before:* lessons 03–05. *Time:* 20 minutes to read, about 85 seconds to run; 15 more for 2 exercises and 5 cards. Begin with *Run ▸ Run All Cells*: until its cell has run, a player is a still picture.

# %%
import torch

from fmlib import *
from fmlib.page import *
from fmlib.study import *

torch.set_num_threads(1)  # these tensors are tiny: a second thread costs more than it brings
torch.manual_seed(0)
plots.use_style()

path = rectified_flow_path()
data = eight_gaussians()


def first_flow(t, x):
    """The exact 1-rectified flow: what a perfect network learns from independent pairs."""
    return data.velocity(path, t, x)


def strays(x):
    """The share of points where the data's density is lower than at all but 1 % of real data."""
    return off_support_share(x, reference, lambda x: data.log_prob(path, 1.0, x))


reference = data.sample(20_000)


def train_on(pairs, seed, steps=900, **kwargs):
    """A network trained on fixed pairs, or with a coupling."""
    torch.manual_seed(seed)
    net = VectorFieldMLP(2, 64)
    return train_flow_matching(net, pairs, path, total_steps=steps, log_every=0, **kwargs)[1]


# %% [markdown]
# ## Reflow in five lines
#
# 1. Take noise $x_0$. Follow the flow to its end $x_1$.
# 2. Keep the *pair* $(x_0, x_1)$.
# 3. Train a new flow on such pairs, with the same straight line and the same loss.
# 4. The lines of *these* pairs hardly cross, so their mean is nearly a straight flow.
# 5. Repeat if needed.

# %%
noise = torch.randn(20_000, 2)
pairs = reflow_pairs(first_flow, noise, steps=40)  # lines 1 and 2
second_flow = train_on(PairBatches(*pairs, batch=256), seed=1)  # line 3

# %% [markdown]
# The player starts with **one** Euler step of the second flow. Change to the first: it collapses onto one place. At $t = 0$ the position says nothing about the data, so $v_0(x) = \mathbb E[x_1] - x$, and one step lands on the mean $\mathbb E[x_1]$ from everywhere. ("$k$-rectified" means trained $k$ times; 1 is ordinary training with independent pairs.)

# %%
start = torch.randn(500, 2)
counts = [1, 2, 4, 8, 32]
flows = {"1-rectified flow": first_flow, "2-rectified flow": second_flow}
choices = [
    Panel(
        by_steps={n: euler_sampler(v, start, steps=n, return_trajectory=True) for n in counts}, trails=60, choice=name
    )
    for name, v in flows.items()
]
player = FlowPlayer(
    torch.linspace(0, 1, 2),
    choices,
    limits=(-4.2, 4.2, -4.2, 4.2),
    steps=1,
    choice_label="flow",
    steps_label="Euler steps",
    alt="Ways from noise to eight clumps on a circle. With one step the first flow sends all points to the centre; the second reaches the clumps.",
)
player.selection = "2-rectified flow"
player

# %% [markdown]
# ## Why it straightens
#
# > **Predict, then run (1).** Take random independent pairs, and the pairs of step 2. At the same place and time, how much do the directions of the lines through it differ? Which number of lesson 02 measures that?
#
# Lines between independent pairs cross everywhere, and at a crossing the flow can only follow the mean. But ways of one ODE never cross: from a place there is one way on. So the *pairs* that the flow makes are sorted, and straight lines between them hardly cross, though the ways that made the pairs were bent.
#
# The number is the variance of the target given $x_t$, $\mathbb E\operatorname{tr}\operatorname{Var}$. It is zero exactly if no two lines cross. Liu et al. call the flow *straight* if and only if this holds (Theorem 3.6), and then a **single** Euler step is exact. The loss of a network is this variance plus the network's own mean squared error (lesson 02), so the loss is an upper bound.


# %%
def remaining_loss(net, x0, x1):
    t = torch.rand(len(x0))
    with torch.no_grad():
        return estimate((net(t, path.sample_xt(t, x0, x1)) - (x1 - x0)).square().sum(1))


fresh = torch.randn(20_000, 2)
x1 = data.sample(20_000).float()
independent = remaining_loss(first_flow, fresh, x1)
coupled = remaining_loss(second_flow, *reflow_pairs(first_flow, fresh[:5000], steps=40))
print(f"remaining variance of the target: independent pairs {independent},  reflow pairs at most {coupled}")
assert coupled.mean < 0.02 * independent.mean

# %% [markdown]
# ## The ledger, three seeds
#
# How straight is a flow? Compare its velocity with the straight way from start to end: $S = \int_0^1 \mathbb E\,\|(x_1 - x_0) - v_t(x_t)\|^2 dt$, where $x_t$ follows the flow from $x_0$ to its end $x_1$. Two statements are proved (Liu et al. 2022):
#
# - **Theorem 3.5:** for *every* convex cost $c$, $\mathbb E\,c(x_1 - x_0)$ does not increase from one round to the next.
# - **Theorem 3.7:** over $K$ rounds the smallest $S$ is $O(1/K)$. So "straightening is only intuition", as the interview sheet has it, is wrong.
#
# Here the first flow is exact, the second is trained. $d$ stands for $x_1 - x_0$. The seeds change the network and the test points, not the pairs.


# %%
def cost(x0, x1, power):
    return (x1 - x0).norm(dim=1).pow(power).mean().item()


n = 2000
floor = sampling_floor(energy_distance, data.sample, n)
columns = ("E|d|", "E|d|^2", "E|d|^4", "S", "1 step", "2 steps", "4 steps", "20 steps")
stray = {}
print(f"{'':26}" + "".join(f"{c:>10}" for c in columns))
ledger = {}
for seed in (1, 2, 3):
    torch.manual_seed(100 + seed)
    x0, real = torch.randn(n, 2), data.sample(n).float()
    rounds = {
        "independent pairs": None,
        "1-rectified (exact)": first_flow,
        "2-rectified": second_flow if seed == 1 else train_on(PairBatches(*pairs, batch=256), seed=seed),
    }
    for name, v in rounds.items():
        if v is None:
            row = [cost(x0, real, p) for p in (1, 2, 4)]
        else:
            end = rk4_sampler(v, x0, steps=20)
            row = [cost(x0, end, p) for p in (1, 2, 4)] + [straightness(v, x0[:500], steps=40)]
            few = {k: euler_sampler(v, x0, steps=k) for k in (1, 2, 4, 20)}
            row += [energy_distance(x, real) for x in few.values()]
            stray[seed, name] = {**{f"{k} Euler": strays(x) for k, x in few.items()}, "solved": strays(end)}
        ledger[seed, name] = row
        print(f"seed {seed} {name:19}" + "".join(f"{value:10.3f}" for value in row))
print(f"the last four columns are energy distances; sampling floor {floor}")
for seed in (1, 2, 3):
    before, first, second = (ledger[seed, name] for name in rounds)
    assert all(a > b for a, b in zip(before[:3], first[:3], strict=True))
    assert all(b < 1.01 * a for a, b in zip(first[:3], second[:3], strict=True))
    assert second[3] < first[3] / 100 and first[4] > 2 and second[4] < first[4] / 20

# %% [markdown]
# All three costs fall far from the independent pairs to the flow. In the next round they hardly change: by a few percent, and part of that is the drift that the next section measures. $S$ falls by a factor of more than a hundred. By the energy distance one step goes from useless to near the floor.
#
# **A distance near its floor is not the truth.** It compares crowds, and a few percent of points between the clumps hardly move it. So count them: what share of the samples lies where the data's density is lower than at all but 1 % of real data? Real data read 1 %.

# %%
torch.manual_seed(12)
first_net = train_on(SampledBatches(sample_eight_gaussians, 256), seed=4)
x0 = torch.randn(n, 2)
shown = {
    "fresh real data": strays(data.sample(n)),
    "1-rectified, exact, solved": stray[1, "1-rectified (exact)"]["solved"],
}
shown["1-rectified, trained, solved"] = strays(rk4_sampler(first_net, x0, steps=20))
shown |= {f"2-rectified, {how}": share for how, share in stray[1, "2-rectified"].items()}
for name, share in shown.items():
    print(f"{name:30} {100 * share.mean:5.1f} % ± {100 * share.std_error:.1f} off the support")
for seed in (1, 2, 3):
    one, solved = (stray[seed, "2-rectified"][how].mean for how in ("1 Euler", "solved"))
    assert one > 0.10 and one > 1.3 * solved
assert shown["fresh real data"].mean < 0.025 > shown["1-rectified, exact, solved"].mean

# %% [markdown]
# The exact flow loses nothing. Each trained round strays: one network already puts several percent of its points between the clumps, and one step of the second flow many more. A smooth network cannot jump from one clump to the next, so what starts near a border ends in the gap. "One step is enough" is true of the distance, and not of these points.
#
# ## What it costs: the ends drift
#
# Theorem 3.5 speaks of exact fields. A trained second flow reaches *almost* the ends of the first, and each round adds its error. We compare, particle by particle, with the exact ends.
#
# > **Predict, then run (2).** Round 2 trained on pairs of the exact flow, against round 2 trained on pairs of a *trained* first flow. Which drifts more?

# %%
pairs_of_net = reflow_pairs(first_net, noise, steps=40)
second_of_net = train_on(PairBatches(*pairs_of_net, batch=256), seed=1)

torch.manual_seed(6)
x0 = torch.randn(2000, 2)
truth = rk4_sampler(first_flow, x0, steps=60)
drift = {}
for name, v in {
    "round 1, trained": first_net,
    "round 2, from the exact flow": second_flow,
    "round 2, from the trained flow": second_of_net,
}.items():
    distance = (heun_sampler(v, x0, steps=40) - truth).norm(dim=1)
    drift[name] = estimate(distance)
    print(f"{name:32} mean distance to the exact end {drift[name]},  median {distance.median():.3f}")
a, b = drift["round 2, from the trained flow"], drift["round 2, from the exact flow"]
assert a.mean - b.mean > 3 * (a.std_error**2 + b.std_error**2) ** 0.5

# %% [markdown]
# Round 2 from the *trained* flow drifts most: it inherits the error of round 1 and adds its own. (The same noise, sampler, seed and budget; the ± is over particles.) Reflow buys steps with accuracy; stop after one or two rounds, and start from the best first flow that you can afford.
#
# ## Straight is not optimal
#
# Optimal transport flows are straight. The reverse is false (Liu et al., Theorem 3.8). A small counter-example that you can draw: turn every noise point by 60°, $x_1 = R\,x_0$. Both ends are $\mathcal N(0, I)$. (*Optimal transport* is the pairing with the smallest mean squared distance.) The lines from $x_0$ to $R\,x_0$ do not cross, because $I + t(R - I)$ is invertible for all $t$. So this flow is straight, and reflow keeps it. Optimal transport from $\mathcal N(0, I)$ to itself does not move at all.

# %%
turn = torch.tensor([[0.5, -(3**0.5) / 2], [3**0.5 / 2, 0.5]], dtype=torch.float64)
eye = torch.eye(2, dtype=torch.float64)


def turning(t, x):
    """The velocity of the straight flow from x_0 to R x_0: (R - I) x_0, with x_0 found from x_t."""
    x0 = torch.linalg.solve(eye + t[0] * (turn - eye), x.T).T
    return x0 @ (turn - eye).T


torch.manual_seed(7)
x0 = torch.randn(1500, 2, dtype=torch.float64)
ends = euler_sampler(turning, x0, steps=1)
s, own, best = straightness(turning, x0), transport_cost(x0, ends), transport_cost(*minibatch_ot(x0, ends))
print(
    f"turned by 60 degrees: straightness {s:.0e}; E|x1 - x0|^2 is {own:.3f}, the best pairing of the same points costs {best:.3f}"
)
own_pairs = reflow_pairs(second_flow, x0.float())
second_cost, second_best = transport_cost(*own_pairs), transport_cost(*minibatch_ot(*own_pairs))
print(f"the 2-rectified flow on the eight Gaussians: {second_cost:.3f}, best pairing {second_best:.3f}")
assert s < 1e-12 and own > 1.5 and best < 0.1

# %% [markdown]
# The best pairing costs a little more than 0 because 1,500 points and their turned copies are two different samples. On the eight Gaussians the second flow is optimal as far as these digits tell. Theorem 3.8 gives no such guarantee in general.

# %% [markdown]
# ## One step further: distillation
#
# If only one step is wanted, train only that step: the same loss on the same pairs, with $t = 0$ always. This is *distillation*. The flow that made the pairs is the *teacher*; the network that jumps from $x_0$ to $x_0 + v_\theta(x_0)$ is the *student*. Liu et al. distil *after* reflow. Is the detour worth it? We compare each student with the ends of its own teacher.


# %%
def only_start(n, device=None):
    return torch.zeros(n, device=device)


torch.manual_seed(10)
x0 = torch.randn(n, 2)
pairs_2 = reflow_pairs(second_flow, noise, steps=20)
teachers = {"the first flow": (pairs, first_flow), "the second flow": (pairs_2, second_flow)}
print(f"{'':34}{'distance to own end':>22}{'energy distance':>18}{'off the support':>18}")
distance_to_end, student_strays = {}, {}
for name, (its_pairs, teacher) in teachers.items():
    student = train_on(PairBatches(*its_pairs, batch=256), seed=11, steps=600, t_dist=only_start)
    end, goal = euler_sampler(student, x0, steps=1), rk4_sampler(teacher, x0, steps=20)
    distance_to_end[name] = estimate((end - goal).norm(dim=1))
    student_strays[name] = strays(end).mean
    gap = energy_distance(end, data.sample(n).float())
    print(f"student of {name:23}{distance_to_end[name]!s:>22}{gap:18.3f}{100 * student_strays[name]:16.1f} %")
one_step = euler_sampler(second_flow, x0, steps=1)
gap = energy_distance(one_step, data.sample(n).float())
print(f"the second flow itself, one step{gap:42.3f}{100 * strays(one_step).mean:16.1f} %")
a, b = (distance_to_end[name] for name in teachers)
assert a.mean - b.mean > 3 * (a.std_error**2 + b.std_error**2) ** 0.5
assert min(student_strays.values()) > 0.08

# %% [markdown]
# By the energy distance both students sample the right distribution. The last column says otherwise: more than one point in ten lies in a gap. The squared loss is one reason: at a border between two clumps its best answer is the mean of both. The student of the second flow is nearer to the ends that its own teacher gives. A likely reason: the trained second flow is itself a smooth network, and so is its map. This matters for the next round, for editing, and for any use that needs the teacher's map and not just its distribution.

# %% [markdown]
# ## The one-round alternative: minibatch OT
#
# OT-CFM (Tong et al. 2023) re-pairs each batch by optimal transport before the loss. No first flow is needed. The pairing of a *finite* batch is not that of the distributions: it is biased, less so for larger batches. The bias shows in the cost of its pairs. (Here 400 training steps, because each solves an assignment; the flows above had 900.)

# %%
ot_net = train_on(SampledBatches(sample_eight_gaussians, 256), seed=8, steps=400, coupling=minibatch_ot)
x0, real = torch.randn(n, 2), data.sample(n).float()
one = energy_distance(euler_sampler(ot_net, x0, steps=1), real)
many = energy_distance(euler_sampler(ot_net, x0, steps=50), real)
print(
    f"minibatch OT: straightness {straightness(ot_net, x0[:500], steps=40):.3f}, energy distance 1 step {one:.3f}, 50 steps {many:.3f}"
)
print(f"sampling floor {floor}")

pair_cost = {}
for batch in (8, 32, 128, 512):
    repeats = 4096 // batch
    draws = [
        transport_cost(*minibatch_ot(torch.randn(batch, 2), sample_eight_gaussians(batch))) for _ in range(repeats)
    ]
    pair_cost[batch] = estimate(draws)
    print(f"batch {batch:4}: E|x1 - x0|^2 of its pairs {pair_cost[batch]}")
print(f"for comparison, the pairs of the 2-rectified flow: {transport_cost(*pairs_2):.4f}")
assert one < 0.2 and pair_cost[8].mean > pair_cost[32].mean > pair_cost[512].mean

# %% [markdown]
# One step is already close to fifty, in one round. The pairs of a batch of 8 cost far more than those of 512, which come near the flow's; the distance that remains at 50 steps is training error too.
#
# ## Its trap: classes
#
# If noise and data are paired without regard to the class, the *noise* of a class is no longer $\mathcal N(0, I)$: each class gets the part of the noise that lies near it. At sampling time you start every class from the whole $\mathcal N(0, I)$ – also from places where its flow was never trained. The remedy is to pair within each class. Below, a network with two classes, right and left, asked for 'right'; lesson 08 explains the class input and the function `guided`, which here does no more than fix the class. Printed: the mean of the first coordinate of the noise that 'right' was trained with (0 for $\mathcal N(0, I)$), and the energy distance of its samples to the right half.


# %%
def sample_halves(n):
    x = sample_eight_gaussians(n)
    return x, (x[:, 0] > 0).long()  # class 1 is the right half


couplings = {
    "independent": None,
    "pairing across classes": lambda x0, x1, label: minibatch_ot(x0, x1),
    "pairing within classes": minibatch_ot,
}
real, label = sample_halves(4000)
x0, right = torch.randn(n, 2), real[label == 1]
print(f"if the class were ignored: {energy_distance(real, right):.3f}")
by_class = {}
for name, coupling in couplings.items():
    torch.manual_seed(9)
    net = VectorFieldMLP(2, 64, num_classes=2)
    loader = SampledBatches(sample_halves, 128)
    _, ema = train_flow_matching(net, loader, path, 300, log_every=0, label_dropout=0.0, coupling=coupling)
    by_class[name] = energy_distance(heun_sampler(guided(ema, 1, 1.0), x0, steps=20), right)
    noise_of_right = x0 if coupling is None else coupling(x0, *[part[:n] for part in (real, label)])[0][label[:n] == 1]
    print(f"{name:23} noise of 'right': mean {estimate(noise_of_right[:, 0])},  samples: {by_class[name]:.3f}")
assert by_class["pairing within classes"] < 0.3 * by_class["pairing across classes"]

# %% [markdown]
# ## Who uses it
#
# InstaFlow is reflow *and* distillation, a student trained to jump where the teacher walks (Liu et al. 2023). SD3-Turbo and FLUX-schnell, which the interview sheet lists, are **not** reflow: they are made by latent adversarial diffusion distillation (Sauer et al. 2024; the model card of FLUX-schnell).
#
# ## Traps
#
# - **"One step of a straight path is exact."** Of a straight *flow*. The 1-rectified flow has straight pairs and a bent flow.
# - **Scores after reflow.** The coupling is no longer independent: the conversion to a score is wrong (lesson 06).
# - **Judging by a distance alone.** Look at the drift and at the stray points too.

# %% [markdown]
# ## Your turn
#
# Replace `return None` by your answer and run the cell. The checker tries random inputs and names the mistake that it recognises.

# %% [markdown]
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

# %% [markdown]
# **2. W2 on a line (on-site, 5 minutes).** Two sets of equally many numbers, `a` and `b` [N]. Return their Wasserstein-2 *distance*: the root of the smallest mean squared distance over all pairings.


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

# %% [markdown]
# ## Interview walkthrough
#
# Say your answer aloud before you open a card. Each has the 30-second answer, the usual mistake, and the section that proves it.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
interview_cards("reflow-what", "reflow-theorem", "one-step-collapse", "straight-is-not-ot", "ot-classes")

# %% [markdown]
# ## You can now …
#
# 1. explain the collapse: at $t = 0$ the mean direction points to the mean of the data;
# 2. write reflow, and cite Theorem 3.5 (every convex cost) and 3.7 (straightness, $O(1/K)$);
# 3. report cost, straightness, few-step quality and drift, with floors;
# 4. say why straight does not mean optimal, what minibatch OT trades, and how it harms classes.
#
# ## References
#
# - X. Liu, C. Gong, Q. Liu, *Flow Straight and Fast*, arXiv 2209.03003 (ICLR 2023): algorithm 1, Theorems 3.5–3.8.
# - A. Tong et al., 2023, arXiv 2302.00482: OT-CFM.
# - X. Liu et al., *InstaFlow*, 2023, arXiv 2309.06380. A. Sauer et al., 2024, arXiv 2403.12015.
