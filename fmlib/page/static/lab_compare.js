// What a scene is compared with in words: the other solvers, and the density that guidance is said to sample.

import { gridDensity } from "./flow_grids.js";
import { CALLS, SOLVER_NAMES, solve } from "./flow_solvers.js";
import { spreadOnGrid, tilt } from "./lab_data.js";

const COMPARED = 2e6; // terms of the field that all solvers together may take: 20 ms

// [solver, its error at the end] of each that takes a step with so many evaluations of the field as the present one
// takes; none where that would keep the hand waiting.
export function sameCalls(scene) {
  const { solver, steps, shift } = scene.state;
  const calls = steps * CALLS[solver];
  const n = scene.counts.trajectories;
  if (!scene.stale("same", scene.exact(), scene.field, calls, shift)) return scene.memory.same;
  const able = calls * n * scene.data.means.length * SOLVER_NAMES.length > COMPARED ? [] : SOLVER_NAMES;
  return (scene.memory.same = able.filter((name) => CALLS[name] <= calls).map((name) => {
    const options = { solver: name, steps: Math.floor(calls / CALLS[name]), grid: scene.grid(), ...scene.landing(name) };
    return [name, scene.endError(solve(scene.field, scene.noise(n), options))];
  }));
}

// The root mean square distance from its centre of the tilted density at t = 1, over all that has mass.
export function tiltedSpread(scene) {
  if (!scene.stale("width", scene.field)) return scene.memory.width;
  const ranges = scene.edges.slice(2 - scene.d).map(([low, high]) => [1.5 * low - high / 2, 1.5 * high - low / 2]);
  const density = (mixture, axes) => gridDensity(mixture, scene.path, 1, ...axes);
  const of = (...axes) => tilt(density(scene.class, axes), density(scene.data, axes), scene.state.guidance_scale);
  return (scene.memory.width = spreadOnGrid(of, ranges));
}
