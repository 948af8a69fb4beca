// What is known at one point and one time: the pairs that pass there, five quantities, one step of a solver, a jump.

import { errorsOf } from "./flow_errors.js";
import { flowMap } from "./flow_maps.js";
import { posteriorMeanX0, posteriorMeanX1, score } from "./flow_mixture.js";
import { samplePairs } from "./flow_samples.js";
import { stages } from "./flow_solvers.js";
import { makeRandom } from "./random.js";

const PAIRS = 400; // enough for their mean

// The pairs that pass the point, their velocities, the mean of these with its spread, and u_t itself.
export function pairsThrough(scene) {
  const { t, path, probe } = scene.state;
  const { d, data } = scene;
  if (!scene.stale("probe", data, t, path, String(probe))) return scene.memory.probe;
  const point = Float64Array.from(probe);
  const pairs = samplePairs(data, scene.path, t, point, PAIRS, makeRandom(3), scene.memory.probe?.pairs);
  const [a, b] = [scene.path.dAlpha(t), scene.path.dSigma(t)];
  const velocities = pairs.x1.map((x1, i) => a * x1 + b * pairs.x0[i]);
  const mean = new Float64Array(d);
  velocities.forEach((v, i) => (mean[i % d] += v / PAIRS));
  let spread = 0;
  velocities.forEach((v, i) => (spread += (v - mean[i % d]) ** 2 / (PAIRS - 1)));
  const exact = scene.own(t, point, new Float64Array(d));
  return (scene.memory.probe = { pairs, velocities, mean, spread, exact, count: PAIRS });
}

// Five forms of the same knowledge: the guesses of data and noise, velocity, score, and diffusion's v = alpha eps -
// sigma x_1. Salimans & Ho 2022 (arXiv 2202.00512) for the last.
export function quantities(scene) {
  const { t, probe } = scene.state;
  const point = Float64Array.from(probe);
  const of = (form) => form(scene.data, scene.path, t, point);
  const [x1, x0] = [of(posteriorMeanX1), of(posteriorMeanX0)];
  const [alpha, sigma] = [scene.path.alpha(t), scene.path.sigma(t)];
  const vDiff = x1.map((v, j) => alpha * x0[j] - sigma * v);
  return { x1, x0, u: scene.own(t, point, new Float64Array(scene.d)), score: of(score), vDiff };
}

// The error of the predicted quantity as one of each of the five.
export function errors({ path, state: { t, predicted, error } }) {
  return errorsOf(path, t, predicted, error);
}

// The velocities without the class, with it, and pushed along their difference; without a class the first alone.
export function threeFields(scene) {
  const point = Float64Array.from(scene.state.probe);
  const fields = scene.class ? [scene.own, scene.conditional, scene.guided] : [scene.own];
  return fields.map((field) => field(scene.state.t, point, new Float64Array(scene.d)));
}

// One step of the solver from the probe: its stages, its end, and where the flow itself would be.
export function oneStep(scene) {
  const { t, probe, steps, solver } = scene.state;
  const next = Math.min(1, t + 1 / steps);
  if (next === t) return null;
  const point = Float64Array.from(probe);
  const made = stages(scene.field, point, t, next, { solver, path: scene.path });
  const exact = flowMap(scene.field, point, t, next);
  return exact.some(isNaN) ? null : { ...made, t, next, dt: next - t, exact }; // what is added may drive it to infinity
}

// From the probe at t to the time `until` in one jump: where the flow map leads, and where one Euler step would.
export function jump(scene) {
  const { t, probe, until } = scene.state;
  if (t === until) return null;
  const point = Float64Array.from(probe);
  const [trajectory] = scene.through({ t, x: probe }, [until]);
  const { states } = trajectory;
  const u = scene.field(t, point, new Float64Array(scene.d));
  const euler = point.map((x, j) => x + (until - t) * u[j]);
  const end = states[states.length - 1];
  return { trajectory, t, until, point, end, euler, miss: Math.hypot(...end.map((v, j) => v - euler[j])) };
}
