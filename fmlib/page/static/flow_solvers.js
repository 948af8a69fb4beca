// Solvers: dx/dt = v(t, x) from noise at t = 0 to data at t = 1. The twin of fmlib/samplers.py.
//
// A field is a function (t, x, out) that writes the velocities of all points of the flat array x into out.
// A trajectory is { ts, states }: steps + 1 times, and for each of them all points in one flat array.
// The ends of a step are passed as they are: t + (next - t) can miss `next` by a rounding error, and leave [0, 1].

import { checkChoice, checkInt, checkNumber } from "./flow_checks.js";

// y = x + h k
function add(y, x, h, k) {
  for (let i = 0; i < y.length; i++) y[i] = x[i] + h * k[i];
}

// Each takes x at t to y at `next`; k1 ... k4 are as long as x.
const STEPS = {
  euler(v, t, next, x, y, [k1]) {
    v(t, x, k1);
    add(y, x, next - t, k1);
  },

  midpoint(v, t, next, x, y, [k1]) {
    const dt = next - t;
    v(t, x, k1);
    add(y, x, dt / 2, k1);
    v(t + dt / 2, y, k1);
    add(y, x, dt, k1);
  },

  heun(v, t, next, x, y, [k1, k2]) {
    const dt = next - t;
    v(t, x, k1);
    add(y, x, dt, k1);
    v(next, y, k2);
    for (let i = 0; i < y.length; i++) y[i] = x[i] + (dt / 2) * (k1[i] + k2[i]);
  },

  rk4(v, t, next, x, y, [k1, k2, k3, k4]) {
    const dt = next - t;
    v(t, x, k1);
    add(y, x, dt / 2, k1);
    v(t + dt / 2, y, k2);
    add(y, x, dt / 2, k2);
    v(t + dt / 2, y, k3);
    add(y, x, dt, k3);
    v(next, y, k4);
    for (let i = 0; i < y.length; i++) y[i] = x[i] + (dt / 6) * (k1[i] + 2 * k2[i] + 2 * k3[i] + k4[i]);
  },

  // Song et al. 2020 (arXiv 2010.02502, eq. 12 at eta = 0): x_1 and x_0 are held fixed during a step.
  ddim(v, t, next, x, y, [k1], { path }) {
    const [alpha, sigma, dAlpha, dSigma] = [path.alpha(t), path.sigma(t), path.dAlpha(t), path.dSigma(t)];
    const [endAlpha, endSigma] = [path.alpha(next), path.sigma(next)];
    const determinant = alpha * dSigma - dAlpha * sigma; // never 0, see fmlib/conversions.py
    v(t, x, k1);
    for (let i = 0; i < y.length; i++) {
      const x1 = (dSigma * x[i] - sigma * k1[i]) / determinant;
      const x0 = (alpha * k1[i] - dAlpha * x[i]) / determinant;
      y[i] = endAlpha * x1 + endSigma * x0;
    }
  },

  // Euler-Maruyama for dx = [v + (noise g^2 / 2) score] dt + sqrt(noise) g dW, g^2 = 2 (alpha' sigma^2 / alpha - sigma
  // sigma'): the densities are those of the ODE for any noise. With the score taken from v, the correction of the drift
  // is noise (v - alpha' x / alpha); corrected = false leaves it out, and the densities are others. Where alpha = 0 g is
  // infinite: that step is taken without noise.
  sde(v, t, next, x, y, [k1], { path, noise, corrected, random }) {
    const dt = next - t;
    const alpha = path.alpha(t);
    const amount = alpha > 0 ? noise : 0;
    const rate = path.dAlpha(t) / (alpha > 0 ? alpha : 1);
    const gSquared = 2 * (rate * path.sigma(t) ** 2 - path.halfDSigmaSq(t));
    const spread = Math.sqrt(Math.max(amount * gSquared * dt, 0));
    v(t, x, k1);
    for (let i = 0; i < y.length; i++) {
      const drift = corrected ? k1[i] + amount * (k1[i] - rate * x[i]) : k1[i];
      y[i] = x[i] + dt * drift + (spread ? spread * random.normal() : 0);
    }
  },
};

export const SOLVER_NAMES = ["euler", "midpoint", "heun", "rk4", "ddim"];

// Evaluations of the field that one step takes.
export const CALLS = { euler: 1, midpoint: 2, heun: 2, rk4: 4, ddim: 1, sde: 1 };

// A grid for `solve`: SD3's shifted times, more of them near the noise for a shift above 1; 1 is the uniform grid.
// Esser et al. 2024 (arXiv 2403.03206), eq. 23, whose time runs from data to noise.
export function shiftGrid(shift) {
  checkNumber("shift", shift, 1e-6);
  return (u) => Math.min(1, Math.max(0, 1 - (shift * (1 - u)) / (1 + (shift - 1) * (1 - u))));
}

function emptyTrajectory(size, steps) {
  const all = new Float64Array((steps + 1) * size);
  const states = Array.from({ length: steps + 1 }, (_, i) => all.subarray(i * size, (i + 1) * size));
  return { ts: new Float64Array(steps + 1), states };
}

// `solve` in pieces for `inSlices`: an iterator that stops after every step of every group of points and gives the
// trajectory at its end. group: how many numbers of x go together, even, so that no point is torn.
export const solving = function* (field, x0, options = {}) {
  const { solver = "midpoint", steps = 50, tStart = 0, tEnd = 1, grid, path, out, group = Infinity, landing } = options;
  checkChoice("solver", solver, options.noise === undefined ? SOLVER_NAMES : ["sde"]);
  checkInt("steps", steps), checkNumber("tStart", tStart, 0, 1), checkNumber("tEnd", tEnd, 0, 1);
  if (tStart === tEnd) throw new Error(`tStart and tEnd must differ, got ${tStart} for both`);
  if ((solver === "ddim" || landing) && !path) throw new Error("path must be given for ddim, got none");
  if (group !== Infinity && checkInt("group", group) % 2) throw new Error(`group must be even, got ${group}`);
  const size = x0.length;
  const fits = out && out.ts.length === steps + 1 && out.states[0].length === size;
  const trajectory = fits ? out : emptyTrajectory(size, steps);
  const { ts, states } = trajectory;
  const [low, high] = [Math.min(tStart, tEnd), Math.max(tStart, tEnd)];
  for (let i = 0; i <= steps; i++) {
    const s = low + (high - low) * (grid ? grid(i / steps) : i / steps); // a run backwards meets the times of the run forwards
    ts[tStart < tEnd ? i : steps - i] = s;
  }
  states[0].set(x0);
  const scratch = Array.from({ length: 4 }, () => new Float64Array(Math.min(group, size)));
  for (let from = 0; from < size; from += group) {
    const to = Math.min(from + group, size);
    const part = (state) => state.subarray(from, to);
    const k = scratch.map((array) => array.subarray(0, to - from));
    for (let i = 0; i < steps; i++) {
      const last = landing && ts[i + 1] === 1;
      STEPS[last ? "ddim" : solver](field, ts[i], ts[i + 1], part(states[i]), part(states[i + 1]), k, options);
      yield;
    }
  }
  return trajectory;
};

function finished(iterator) {
  let step = iterator.next();
  while (!step.done) step = iterator.next();
  return step.value;
}

// The trajectory of all points of x0 from tStart to tEnd (backwards if tStart > tEnd) in equal steps, or in those of
// `grid`, an increasing function from [0, 1] onto itself.
// solver: "euler", "midpoint", "heun", "rk4", or "ddim", which needs `path`. out: an earlier trajectory of the same
// size, to be written over. Heun and RK4 ask the field at tEnd itself, and where the data are points it has no limit at
// t = 1: with `landing` the step that ends there is one of DDIM, which needs `path`, as the last step of Karras et al.
// 2022 (arXiv 2206.00364, algorithm 1) is one of Euler.
export function solve(field, x0, options = {}) {
  return finished(solving(field, x0, { ...options, noise: undefined }));
}

// The same for the SDE of `path`. noise: 0 is Euler, 1 the path's own SDE; corrected: whether the drift makes up for the
// noise; random: from makeRandom. Only forward.
export function solveSde(field, x0, options = {}) {
  const { noise = 1, corrected = true, steps = 250, tStart = 0, tEnd = 1, path, random } = options;
  checkNumber("noise", noise, 0);
  if (!path || !random) throw new Error(`path and random must be given for an SDE, got no ${path ? "random" : "path"}`);
  if (tStart > tEnd) throw new Error(`tStart must be below tEnd for an SDE, got ${tStart} and ${tEnd}`);
  return finished(solving(field, x0, { ...options, solver: "sde", noise, corrected, steps, tStart, tEnd }));
}

// One step of `solver` from x at t to `next`, laid open: { calls, end }. calls: the evaluations of the field in their
// order, k1 to k4, each { t, x, k }.
export function stages(field, x, t, next, { solver = "rk4", path } = {}) {
  const calls = [];
  const seen = (time, at, out) => {
    field(time, at, out);
    calls.push({ t: time, x: Float64Array.from(at), k: Float64Array.from(out) });
  };
  const { states } = solve(seen, x, { solver, path, steps: 1, tStart: t, tEnd: next });
  return { calls, end: states[1] };
}
