# %% [markdown]
# # A player
#
# Made for the tests: a player with two sliders and a choice, whatever the lessons have. And a formula, $x_t$.

# %%
import torch

from fmlib import *
from fmlib.page import *

torch.set_num_threads(1)
torch.manual_seed(0)
plots.use_style()
mixture, path = three_gaussians(), rectified_flow_path()
u = lambda t, x: mixture.velocity(path, t, x)
x0 = torch.randn(400, 2).double()
exact = rk4_sampler(u, x0, steps=40, return_trajectory=True)
player = FlowPlayer(
    torch.linspace(0, 1, 41),
    [
        Panel(
            exact,
            by_steps={n: solver(u, x0, steps=n, return_trajectory=True) for n in (1, 2, 4, 8, 16, 32)},
            trails=25,
            choice=name,
        )
        for name, solver in {"Euler": euler_sampler, "midpoint": midpoint_sampler}.items()
    ],
    limits=(-3.4, 3.4, -3.2, 3.4),
    steps=4,
    alt="Polylines of a solver over exact curves.",
)
player

# %% [markdown]
# What comes after it.
