// Probability paths x_t = alpha(t) x_1 + sigma(t) x_0, from noise (t = 0) to data (t = 1). The twin of fmlib/paths.py.

import { checkChoice, checkNumber } from "./flow_checks.js";

const QUARTER = Math.PI / 2;

// x_t = (1 - t) x_0 + t x_1. Liu et al. 2022 (arXiv 2209.03003), eq. 1.
function rectifiedFlow() {
  return {
    alpha: (t) => t,
    sigma: (t) => 1 - t,
    dAlpha: () => 1,
    dSigma: () => -1,
    halfDSigmaSq: (t) => t - 1,
  };
}

// Variance preserving: alpha^2 + sigma^2 = 1. Albergo & Vanden-Eijnden 2022 (arXiv 2209.15571).
function vpCosine() {
  const alpha = (t) => Math.sin(QUARTER * t);
  const sigma = (t) => Math.sin(QUARTER * (1 - t)); // exactly 0 at t = 1, where cos(pi / 2) in floating point is not
  return {
    alpha,
    sigma,
    dAlpha: (t) => QUARTER * sigma(t),
    dSigma: (t) => -QUARTER * alpha(t),
    halfDSigmaSq: (t) => -QUARTER * alpha(t) * sigma(t),
  };
}

// The VP SDE of DDPM and Song et al. 2021 (arXiv 2011.13456, eqs. 32-33), with tau = 1 - t and
// T = betaMin tau + (betaMax - betaMin) tau^2 / 2: alpha = exp(-T / 2), sigma = sqrt(1 - exp(-T)).
function vpLinear({ betaMin = 0.1, betaMax = 20 }) {
  checkNumber("betaMin", betaMin), checkNumber("betaMax", betaMax);
  if (!(betaMin > 0 && betaMin <= betaMax)) {
    throw new Error(`betaMin and betaMax must satisfy 0 < betaMin <= betaMax, got ${betaMin} and ${betaMax}`);
  }
  const beta = (tau) => betaMin + (betaMax - betaMin) * tau;
  const bigT = (tau) => betaMin * tau + 0.5 * (betaMax - betaMin) * tau * tau;
  const alpha = (t) => Math.exp(-0.5 * bigT(1 - t));
  return {
    alpha,
    sigma: (t) => Math.sqrt(-Math.expm1(-bigT(1 - t))), // expm1 keeps the digits of a small T
    dAlpha: (t) => 0.5 * beta(1 - t) * alpha(t),
    // It tends to -infinity at t = 1, so it is evaluated at tau >= 1e-5, the cut-off of Song et al. (appendix C).
    dSigma: (t) => {
      const tau = Math.max(1 - t, 1e-5);
      return (-0.5 * beta(tau) * Math.exp(-bigT(tau))) / Math.sqrt(-Math.expm1(-bigT(tau)));
    },
    halfDSigmaSq: (t) => -0.5 * beta(1 - t) * alpha(t) ** 2,
  };
}

// x_t = x_1 + sigma(t) x_0 with sigma falling log-linearly. Song et al. 2021, eq. 30.
function ve({ sigmaMin = 0.01, sigmaMax = 50 }) {
  checkNumber("sigmaMin", sigmaMin), checkNumber("sigmaMax", sigmaMax);
  if (!(sigmaMin > 0 && sigmaMin < sigmaMax)) {
    throw new Error(`sigmaMin and sigmaMax must satisfy 0 < sigmaMin < sigmaMax, got ${sigmaMin} and ${sigmaMax}`);
  }
  const [least, most] = [Math.log(sigmaMin), Math.log(sigmaMax)];
  const sigma = (t) => Math.exp(most * (1 - t) + least * t);
  return {
    alpha: () => 1,
    sigma,
    dAlpha: () => 0,
    dSigma: (t) => (least - most) * sigma(t),
    halfDSigmaSq: (t) => (least - most) * sigma(t) ** 2,
  };
}

const PATHS = { rectified_flow: rectifiedFlow, vp_cosine: vpCosine, vp_linear: vpLinear, ve };

export const PATH_NAMES = Object.keys(PATHS);

// x_t / sqrt(alpha^2 + sigma^2) is itself on a path, a variance preserving one with the same alpha / sigma.
export function normalised(path) {
  const size = (t) => Math.hypot(path.alpha(t), path.sigma(t));
  const alpha = (t) => path.alpha(t) / size(t);
  const sigma = (t) => path.sigma(t) / size(t);
  const dAlpha = (t) => (path.dAlpha(t) * path.sigma(t) ** 2 - path.alpha(t) * path.halfDSigmaSq(t)) / size(t) ** 3;
  const halfDSigmaSq = (t) => -alpha(t) * dAlpha(t);
  return { ...path, alpha, sigma, dAlpha, halfDSigmaSq, dSigma: (t) => halfDSigmaSq(t) / sigma(t), priorStd: sigma(0) };
}

// The angle whose tangent is alpha / sigma, the root of the signal-to-noise ratio: it grows with t, to at most pi / 2.
export const angleOf = (path, t) => Math.atan2(path.alpha(t), path.sigma(t));

// The time at which a path has this angle, by bisection; the nearer end if it never has.
export function timeAt(path, angle) {
  let [low, high] = [0, 1];
  for (const end of [low, high]) if ((end ? 1 : -1) * (angle - angleOf(path, end)) >= 0) return end;
  while (high - low > 1e-12) {
    const middle = (low + high) / 2;
    if (angleOf(path, middle) < angle) low = middle;
    else high = middle;
  }
  return low;
}

// A path: { name, alpha, sigma, dAlpha, dSigma, halfDSigmaSq, priorStd }, functions of a number t in [0, 1].
// halfDSigmaSq: sigma sigma', finite where sigma' is not. priorStd: the standard deviation of the noise at t = 0.
// params: { betaMin, betaMax } for "vp_linear", { sigmaMin, sigmaMax } for "ve". Throws an Error that names what does
// not fit.
export function makePath(name, params = {}) {
  const path = PATHS[checkChoice("path", name, PATH_NAMES)](params ?? {});
  return { name, ...path, priorStd: path.sigma(0) };
}
