"""fmlib: the runnable core of the lessons. Noise at t = 0, data at t = 1, models called as model(t, x)."""

from fmlib.data import (
    Digits,
    MoonDataset,
    SampledBatches,
    dequantise,
    load_digits_flow,
    moons_mixture,
    sample_moons,
    three_gaussians,
)
from fmlib.gaussians import EmpiricalDistribution, GaussianMixture
from fmlib.metrics import Estimate, energy_distance, estimate, sampling_floor, sliced_w2, transport_cost, wasserstein2
from fmlib.nets import SinusoidalTimeEmbed, VectorFieldMLP
from fmlib.paths import FlowPath, rectified_flow_path, ve_path, vp_cosine_path, vp_linear_path
from fmlib.player import FlowPlayer, LiveFigure, Panel, density_frames, field_frames
from fmlib.samplers import euler_sampler, heun_sampler, midpoint_sampler, rk4_sampler
from fmlib.training import (
    History,
    cfm_loss,
    ema_warmup,
    logit_normal_t,
    make_ema,
    stratified_t,
    train_flow_matching,
    uniform_t,
    update_ema,
)
