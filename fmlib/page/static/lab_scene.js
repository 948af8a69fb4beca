// What the layers of a lab show, computed from its state. All of it anew in every frame: nothing waits for release.

import { cellCentres, gridDensity, gridField, gridPoints } from "./flow_grids.js";
import { velocityField } from "./flow_mixture.js";
import { makePath } from "./flow_paths.js";
import { sample, samplePairs, samplePrior } from "./flow_samples.js";
import { solve, solveSde } from "./flow_solvers.js";
import { makeRandom } from "./random.js";

const CELLS = 48;
export const ARROWS = 14;
const PAIRS = 400; // of the probe: enough for its mean
const EXACT = { solver: "midpoint", steps: 30 }; // as the eye can tell
const BEND = 16; // straight pieces of a curve between a pair

export class Scene {
  // limits: [left, right, bottom, top]. counts: { particles, trajectories, pairs } that are drawn.
  constructor(limits, counts) {
    const [left, right, bottom, top] = limits;
    this.counts = counts;
    this.height = [bottom, top];
    this.dense = [cellCentres(left, right, CELLS), cellCentres(bottom, top, CELLS)];
    this.sparse = [cellCentres(left, right, ARROWS), cellCentres(bottom, top, ARROWS)];
    this.sparsePoints = gridPoints(...this.sparse);
    this.memory = {}; // arrays of the last frame, to be written over
    this.made = {}; // by name: what a trajectory was made of
  }

  // Whether anything that `name` is made of has changed since it was made.
  stale(name, ...parts) {
    const before = this.made[name];
    this.made[name] = parts;
    return !before || parts.some((part, i) => part !== before[i]);
  }

  set(state) {
    this.state = state;
    this.path = makePath(state.path);
    this.field = velocityField(state.mixture, this.path);
    this.d = state.mixture.means[0].length;
  }

  density() {
    const { mixture, t } = this.state;
    this.memory.density = gridDensity(mixture, this.path, t, ...this.dense, this.memory.density);
    return this.memory.density;
  }

  arrows() {
    const { mixture, t } = this.state;
    this.memory.arrows = gridField(mixture, this.path, t, ...this.sparse, this.memory.arrows, this.sparsePoints);
    return this.memory.arrows;
  }

  // In one dimension: the density over (t, x), each time by its own maximum; null where nothing has changed.
  densityOverTime(columns, rows) {
    const { mixture, path } = this.state;
    if (!this.stale("over time", mixture, path)) return null;
    const xs = cellCentres(...this.height, rows);
    const values = new Float64Array(columns * rows);
    cellCentres(0, 1, columns).forEach((t, column) => {
      const density = gridDensity(mixture, this.path, t, xs, null);
      const most = Math.max(...density, 1e-300);
      density.forEach((p, row) => (values[row * columns + column] = p / most));
    });
    return values;
  }

  // In one dimension: [t, x, u_t(x)] on a grid.
  arrowsOverTime() {
    const xs = cellCentres(...this.height, ARROWS);
    return Array.from(cellCentres(0, 1, ARROWS)).flatMap((t) => {
      const u = this.field(t, xs);
      return Array.from(xs, (x, i) => [t, x, u[i]]);
    });
  }

  // n points of noise, the same in every frame: what moves is what the hand changed.
  noise(n) {
    return samplePrior(this.path, n, this.d, makeRandom(1));
  }

  // The particles' trajectories, by the solver of the state; with noise by the SDE.
  cloud(n = this.counts.particles) {
    const { mixture, path, solver, steps, noise } = this.state;
    if (!this.stale("cloud", mixture, path, solver, steps, noise, n)) return this.memory.cloud;
    const options = { solver, steps, path: this.path, out: this.memory.cloud };
    const random = makeRandom(2);
    this.memory.cloud = noise
      ? solveSde(this.field, this.noise(n), { ...options, noise, random })
      : solve(this.field, this.noise(n), options);
    return this.memory.cloud;
  }

  // The first n of them without the solver's error.
  exact(n = this.counts.trajectories) {
    const { mixture, path } = this.state;
    if (!this.stale("exact", mixture, path, n)) return this.memory.exact;
    this.memory.exact = solve(this.field, this.noise(n), { ...EXACT, out: this.memory.exact });
    return this.memory.exact;
  }

  // Through a point at a time, backwards to the noise and forwards to the data: [trajectory, trajectory].
  through({ t, x }) {
    const ends = [0, 1].filter((end) => end !== t);
    return ends.map((tEnd) => solve(this.field, Float64Array.from(x), { ...EXACT, tStart: t, tEnd }));
  }

  // At the probe: the pairs that pass there, their velocities, the mean of these with its error, and u_t itself.
  probe() {
    const { mixture, t, probe } = this.state;
    const point = Float64Array.from(probe);
    const pairs = samplePairs(mixture, this.path, t, point, PAIRS, makeRandom(3), this.memory.pairs);
    this.memory.pairs = pairs;
    const [a, b] = [this.path.dAlpha(t), this.path.dSigma(t)];
    const velocities = pairs.x1.map((x1, i) => a * x1 + b * pairs.x0[i]);
    const mean = new Float64Array(this.d);
    velocities.forEach((v, i) => (mean[i % this.d] += v / PAIRS));
    let spread = 0;
    velocities.forEach((v, i) => (spread += (v - mean[i % this.d]) ** 2 / (PAIRS - 1)));
    return { pairs, velocities, mean, spread, error: Math.sqrt(spread / PAIRS), exact: this.field(t, point) };
  }

  // Pairs of noise and data, independent of each other.
  independent(n = this.counts.pairs) {
    const random = makeRandom(4);
    return { x0: this.noise(n).map((v) => v / this.path.priorStd), x1: sample(this.state.mixture, n, random) };
  }

  // The curve alpha(t) x_1 + sigma(t) x_0 of pair i, flat: straight on rectified flow.
  curve({ x0, x1 }, i) {
    const { path, d } = this;
    const points = new Float64Array(d * (BEND + 1));
    for (let s = 0; s <= BEND; s++) {
      const [alpha, sigma] = [path.alpha(s / BEND), path.sigma(s / BEND)];
      for (let j = 0; j < d; j++) points[d * s + j] = alpha * x1[d * i + j] + sigma * x0[d * i + j];
    }
    return points;
  }

  // In one dimension the same curve as points (t, x).
  curveOverTime(pairs, i) {
    return Array.from(this.curve(pairs, i)).flatMap((x, s) => [s / BEND, x]);
  }
}
