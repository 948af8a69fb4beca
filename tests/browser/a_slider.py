# %% [markdown]
# # A slider
#
# Made for the tests: a figure that the kernel draws anew whenever its slider moves.

# %%
import ipywidgets
import torch

from fmlib import *
from fmlib.page import *

torch.set_num_threads(1)
torch.manual_seed(0)
plots.use_style()
mixture, path = three_gaussians(), rectified_flow_path()
classes = [GaussianMixture(m[None], s) for m, s in zip(mixture.means, mixture.stds, strict=True)]
fields = lambda t, x: torch.stack([g.velocity(path, t, x) for g in (*classes, mixture)])
exact = lambda t, x, label: fields(t, x)[label, torch.arange(len(x))]
start = torch.randn(400, 2, dtype=torch.float64)
fig, (ax,) = panels(1, 4.2, width=5)
dots = cloud(ax, start, "data", size=8)
bare(ax, (-3.4, 3.4, -3.2, 3.4))


def redraw(guidance_scale):
    dots.set_offsets(heun_sampler(guided(exact, 0, guidance_scale, null_label=3), start, steps=12).numpy())


LiveFigure(
    fig,
    redraw,
    alt="Guided samples of one of three classes.",
    guidance_scale=ipywidgets.FloatSlider(value=3, min=0, max=8, step=0.25),
)
