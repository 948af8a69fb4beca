"""fmlib: the mathematics of the lessons. Noise at t = 0, data at t = 1, models called as model(t, x).

It needs torch, scipy and torchdiffeq alone. What draws (`fmlib.page`), asks (`fmlib.study`) and trains at scale
(`fmlib.engine`) is imported by name; docs/architecture.md shows the house.
"""

import types

from fmlib.batches import PairBatches, Pairs, SampledBatches, SampledPairs
from fmlib.conventions import CONVENTIONS, Convention, adapt
from fmlib.conversions import (
    epsilon_to_score,
    epsilon_to_velocity,
    epsilon_to_x1,
    score_to_epsilon,
    score_to_velocity,
    score_to_x1,
    v_diff_to_velocity,
    velocity_to_epsilon,
    velocity_to_score,
    velocity_to_v_diff,
    velocity_to_x1,
    x1_to_epsilon,
    x1_to_score,
    x1_to_velocity,
)
from fmlib.couplings import minibatch_ot, reflow_pairs
from fmlib.data import (
    MoonDataset,
    eight_gaussians,
    moons_mixture,
    sample_checkerboard,
    sample_eight_gaussians,
    sample_moons,
    three_gaussians,
)
from fmlib.diffusion import ddim_sampler, dpm_solver_sampler, edm_grid, log_snr_grid
from fmlib.digits import DigitClassifier, Digits, dequantise, load_digits_flow, train_digit_classifier
from fmlib.gaussians import EmpiricalDistribution, GaussianMixture
from fmlib.grids import cosine_grid, scheduler_grid, shift_grid, uniform_grid
from fmlib.guidance import drop_labels, guided
from fmlib.learner import ema_warmup, make_ema, update_ema
from fmlib.metrics import (
    Estimate,
    energy_distance,
    estimate,
    frechet_distance,
    missed_share,
    nearest_distance,
    normalized_path_energy,
    off_support_share,
    path_energy,
    sampling_floor,
    sliced_w2,
    straightness,
    transport_cost,
    wasserstein2,
)
from fmlib.nets import FourierMLP, Normaliser, ResidualMLP, SinusoidalTimeEmbed, VectorFieldMLP
from fmlib.paths import FlowPath, rectified_flow_path, ve_path, vp_cosine_path, vp_linear_path
from fmlib.samplers import (
    CountCalls,
    dopri5_sampler,
    euler_sampler,
    heun_sampler,
    log_likelihood,
    midpoint_sampler,
    rk4_sampler,
    sde_sampler,
)
from fmlib.training import (
    History,
    cfm_loss,
    late_t,
    logit_normal_t,
    stratified_t,
    train_flow_matching,
    uniform_t,
)
from fmlib.weights import trained

# The names above without the rooms themselves, so that a lesson's `import *` brings no module.
__all__ = [n for n, value in list(vars().items()) if n[0] != "_" and not isinstance(value, types.ModuleType)]
