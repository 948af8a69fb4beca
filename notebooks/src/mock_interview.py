# %% [markdown]
# # Mock interview
#
# Can you say it without notes? The interviewer below asks, waits for your answer, and remembers what you missed.
#
# **You will be able to**
#
# 1. answer the screening questions in 30 seconds each;
# 2. derive on a blank sheet what you should know first;
# 3. write the loss, a sampler, a conversion, reflow and guidance from a blank cell;
# 4. come back in a week and find exactly what you forgot.
#
# *Before:* as many of the lessons 01–10 as you like. *Time:* 15 minutes a day are worth more than one long evening. It runs in 8 seconds. Begin with *Run ▸ Run All Cells*: then the interviewer asks.

# %%
from fmlib.study import *
from fmlib.study.bank import questions

interview = MockInterview()
interview

# %% [markdown]
# How to use it: answer *before* you look, aloud or in writing. Then compare, and rate yourself. **Missed**: I could not answer, or it was wrong. **Hard**: right, but slow or with a gap. **Good**: right, in about 30 seconds. **Easy**: I could teach it. The next question follows from the one before if you take the follow-up, as in a real interview.
#
# Your answers stay on this computer, in `interview_results.json` beside this notebook. To begin anew, rename that file.
#
# ## Where you stand

# %%
interview.progress()

# %% [markdown]
# Run this cell again after a round. Each of the last four columns counts the questions by their latest rating.
#
# ## When a question comes back
#
# Looking at a card again tomorrow is a waste if you know it, and too late if you do not. FSRS estimates for each card the chance that you still know it, and asks again when that chance has fallen to 90 %. So a card that you know comes back after longer and longer gaps, and one that you miss starts again.
#
# > **Predict, then run.** You rate a question Good each time that it comes back. How long is the gap after the fifth time? And if the fifth time is a Missed?

# %% jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output"]
from datetime import UTC, datetime

from fsrs import Card

from fmlib.study.interview import RATINGS, SCHEDULER, when


def gaps(ratings):
    card, now, found = Card(), datetime(2030, 1, 1, tzinfo=UTC), []
    for rating in ratings:
        card, _ = SCHEDULER.review_card(card, RATINGS[rating], now)
        found.append(when(card.due, now))
        now = card.due
    return found


histories = {
    "always Good": ["Good"] * 6,
    "always Easy": ["Easy"] * 6,
    "Missed the fifth time": ["Good"] * 4 + ["Missed", "Good"],
    "always Missed": ["Missed"] * 6,
}
print(f"{'answer':22}" + "".join(f"{i:>12}" for i in range(1, 7)))
for name, ratings in histories.items():
    print(f"{name:22}" + "".join(f"{gap.removeprefix('in '):>12}" for gap in gaps(ratings)))

# %% [markdown]
# ## The whiteboard round
#
# Take a blank sheet. Derive, say each step aloud, and only then open the card. If you get stuck, write down the step that you could not make: that is what to read again.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
interview_cards(*[q.id for q in questions().values() if q.derive and q.must])

# %% [markdown]
# ## The coding round
#
# Interviewers ask for these from a blank page. Choose one, start the clock, write it without looking. The arguments are as in the lessons' exercises: `t` is a tensor [B] in `cfm_loss`, `eps_to_v` and `cfg`, and a number in the solvers.
#
# | name | write | minutes |
# |---|---|---|
# | `cfm_loss` | the CFM loss on the straight line, `x0` noise and `x1` data [B, d] | 5 |
# | `euler_sampler` | the Euler sampler from noise to data, `steps` steps | 5 |
# | `heun` | one step of Heun's method from `t` to `t_next` | 5 |
# | `eps_to_v` | the velocity from a prediction of the noise, on any path | 5 |
# | `reflow` | the pairs for the next round, with `steps` Euler steps; `model` takes a number as time | 5 |
# | `cfg` | the guided velocity; `null` is the integer for "no class" | 5 |
# | `sde_step` | one Euler–Maruyama step with the densities of the flow `v`, diffusion `g` | 8 |
#
# Write another name into the first line, run the cell, then write the function in the cell below it.

# %%
task = "cfm_loss"
start(task)


# %%
def answer(model, t, x0, x1):
    return None


check(task, answer)

# %% [markdown]
# The checker runs your function on fresh random inputs beside the right one, and names the mistakes that it knows. The solutions are folded in the lessons' "Your turn", and on the [sheet below](#The-whole-sheet).
#
# ## All cards
#
# The whole bank, by lesson, for reading without a kernel.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
from IPython.display import Markdown, display

from fmlib.study.interview import topic_name

for lesson in sorted({q.lesson for q in questions().values()}):
    display(Markdown(f"### {topic_name(lesson)}"))
    interview_cards(*[q.id for q in questions().values() if q.lesson == lesson])

# %% [markdown]
# ## The whole sheet
#
# Everything on one page, each line with the section that proves it. `make site` writes it as `site/cheat_sheet.html`, which prints on two pages.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
cheat_sheet()

# %% [markdown]
# ## You can now …
#
# 1. say in 30 seconds what each card asks, and name the usual mistake;
# 2. derive on a blank sheet;
# 3. write the code against the clock;
# 4. trust the file to bring back what you missed.
#
# ## References
#
# - J. Ye, J. Su, Y. Cao, *A Stochastic Shortest Path Algorithm for Optimizing Spaced Repetition Scheduling*, KDD 2022: the model of memory behind FSRS.
# - H. Roediger, J. Karpicke, *Test-Enhanced Learning*, Psychological Science 2006: answering from memory beats reading again.
