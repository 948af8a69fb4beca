// What the layers of a lab show, computed from its state. All of it anew in every frame: nothing waits for release.

import { cellCentres, gridDensity, gridPoints } from "./flow_grids.js";
import { guided, withAdded } from "./flow_maps.js";
import { velocityField } from "./flow_mixture.js";
import { angleOf, makePath, normalised, timeAt } from "./flow_paths.js";
import { sample, samplePrior } from "./flow_samples.js";
import { shiftGrid, solve, solveSde } from "./flow_solvers.js";
import { classOf, pointsAsMixture, shareNear, spreadOf, tilt } from "./lab_data.js";
import { makeRandom } from "./random.js";

const CELLS = 48;
export const ARROWS = 14;
export const CLASS_ARROWS = 9; // two fields share the place
const EXACT = { solver: "rk4", steps: 30 }; // as the eye can tell
const MANY = 50; // components
const HASTY = 8; // steps for so many while a hand moves; when it rests they are as exact as all
const BEND = 16; // straight pieces of a curve between a pair

export class Scene {
  // limits: [left, right, bottom, top]. counts: { particles, trajectories, pairs } that are drawn. scaled: whether positions
  // are divided by sqrt(alpha^2 + sigma^2).
  constructor(limits, counts, scaled) {
    const [left, right, bottom, top] = limits;
    Object.assign(this, { counts, scaled });
    this.height = [bottom, top];
    this.edges = [[left, right], [bottom, top]];
    this.dense = [cellCentres(left, right, CELLS), cellCentres(bottom, top, CELLS)];
    const sparse = (n) => gridPoints(cellCentres(left, right, n), cellCentres(bottom, top, n));
    this.sparse = { [ARROWS]: sparse(ARROWS), [CLASS_ARROWS]: sparse(CLASS_ARROWS) };
    this.memory = {}; // arrays of the last frame, to be written over
    this.made = {}; // by name: what it was made of
  }

  // Whether anything that `name` is made of has changed since it was made.
  stale(name, ...parts) {
    const before = this.made[name];
    this.made[name] = parts;
    return !before || parts.some((part, i) => part !== before[i]);
  }

  set(state) {
    this.state = state;
    const { mixture, points, path, condition, guidance_scale, added, strength } = state;
    this.d = mixture.means[0].length;
    if (this.stale("data", mixture, points)) this.takeData(mixture, points);
    if (!this.stale("field", this.data, path, String(condition), guidance_scale, added, strength)) return;
    this.path = this.scaled ? normalised(makePath(path)) : makePath(path);
    this.own = velocityField(this.data, this.path); // u_t itself
    this.class = condition.length && !points ? classOf(mixture, condition) : null;
    this.conditional = this.class && velocityField(this.class, this.path);
    const fields = { conditional: this.conditional, unconditional: this.own };
    this.guided = this.class ? guided(fields, guidance_scale) : this.own;
    this.field = strength ? withAdded(this.guided, added, strength, this.data, this.path) : this.guided; // what the particles follow
  }

  // The data: the mixture, or n points of it. The first n of more points are the same ones.
  takeData(mixture, n) {
    this.points = n ? sample(mixture, n, makeRandom(5)) : [];
    this.data = n ? pointsAsMixture(this.points, this.d) : mixture;
    const cell = (this.height[1] - this.height[0]) / CELLS;
    this.seen = n ? { ...this.data, stds: Array(n).fill(cell / 2) } : mixture; // a point is as wide as a cell of the picture
  }

  // p_t on a grid; xs, ys: as for gridDensity.
  density(t = this.state.t, xs = this.dense[0], ys = this.dense[1], out = this.memory.density) {
    return (this.memory.density = gridDensity(this.seen, this.path, t, xs, ys, out));
  }

  // p_t(x | c)^s p_t(x)^(1 - s): what guidance is often said to sample. Not scaled to the mass 1.
  tilted(t = this.state.t, xs = this.dense[0], ys = this.dense[1]) {
    const all = this.density(t, xs, ys);
    if (!this.class) return all;
    this.memory.tilted = gridDensity(this.class, this.path, t, xs, ys, this.memory.tilted);
    return tilt(this.memory.tilted, all, this.state.guidance_scale);
  }

  // A field at the points of an n x n grid.
  arrows(n = ARROWS, field = this.field) {
    return field(this.state.t, this.sparse[n], new Float64Array(2 * n * n));
  }

  // In one dimension: a density over (t, x), each time by its own maximum; null where nothing has changed.
  overTime(name, columns, rows) {
    const { guidance_scale, condition } = this.state;
    if (!this.stale(name, this.data, this.path, guidance_scale, String(condition))) return null;
    const xs = cellCentres(...this.height, rows);
    const values = new Float64Array(columns * rows);
    Object.assign(this.memory, { density: undefined, tilted: undefined }); // of another size
    cellCentres(0, 1, columns).forEach((t, column) => {
      const density = this[name](t, xs, null);
      const most = Math.max(...density, 1e-300);
      density.forEach((p, row) => (values[row * columns + column] = p / most));
    });
    return values;
  }

  // In one dimension: [t, x, u_t(x)] on a grid.
  arrowsOverTime(field = this.field) {
    const xs = cellCentres(...this.height, ARROWS);
    return Array.from(cellCentres(0, 1, ARROWS)).flatMap((t) => {
      const u = field(t, xs, new Float64Array(ARROWS));
      return Array.from(xs, (x, i) => [t, x, u[i]]);
    });
  }

  // n points of noise, the same in every frame: what moves is what the hand changed.
  noise(n) {
    return samplePrior(this.path, n, this.d, makeRandom(1));
  }

  // Heun and RK4 ask the field where they end; points have none there.
  landing(solver = EXACT.solver) {
    return { path: this.path, landing: this.state.points > 0 && ["heun", "rk4"].includes(solver) };
  }

  // The times of a solver: where all paths are to be compared, equal steps of the angle, the same for each of them.
  grid() {
    const [from, to] = [0, 1].map((t) => angleOf(this.path, t));
    if (this.scaled) return (u) => (u < 1 ? timeAt(this.path, from + u * (to - from)) : 1);
    return this.state.shift === 1 ? undefined : shiftGrid(this.state.shift);
  }

  // The particles' trajectories, by the solver of the state; with noise by the SDE.
  cloud(n = this.counts.particles) {
    const { solver, steps, noise, corrected, shift } = this.state;
    if (!this.stale("cloud", this.field, solver, steps, noise, corrected, shift, n)) return this.memory.cloud;
    const options = { solver, steps, grid: this.grid(), ...this.landing(solver), out: this.memory.cloud };
    this.made.near = null;
    const random = makeRandom(2);
    this.memory.cloud = noise
      ? solveSde(this.field, this.noise(n), { ...options, noise, corrected, random })
      : solve(this.field, this.noise(n), options);
    return this.memory.cloud;
  }

  // The first n of them without the solver's error.
  exact(n = this.counts.trajectories) {
    const { points, mixture } = this.state;
    const steps = this.hasty && !points && mixture.means.length > MANY ? HASTY : EXACT.steps;
    if (!this.stale("exact", this.field, n) && this.memory.exact.ts.length > steps) return this.memory.exact;
    const options = { ...EXACT, steps, ...this.landing(), out: this.memory.exact };
    return (this.memory.exact = solve(this.field, this.noise(n), options));
  }

  // How far from their exact ends the first n end, the middle one of them.
  endError(cloud = this.cloud()) {
    const [exact, made] = [this.exact(), cloud].map(({ states }) => states[states.length - 1]);
    const { d } = this;
    const gap = (i) => exact[i] - made[i];
    const off = Float64Array.from({ length: exact.length / d }, (_, i) => Math.hypot(gap(d * i), d === 2 ? gap(2 * i + 1) : 0));
    return off.sort()[off.length >> 1];
  }

  // The root mean square distance from their centre of the particles at their end, and of the data.
  spreads() {
    const { states } = this.cloud();
    return [pointsAsMixture(states[states.length - 1], this.d), this.data].map(spreadOf);
  }

  // The shares of the particles at their end, and of as many new samples of the mixture, that are near one of the points.
  nearPoints() {
    const { states } = this.cloud();
    if (!this.stale("near")) return this.memory.near;
    const ends = states[states.length - 1];
    const fresh = sample(this.state.mixture, ends.length / this.d, makeRandom(6));
    return (this.memory.near = [ends, fresh].map((x) => shareNear(x, this.points, this.d)));
  }

  // Through a point at a time, backwards to the noise and forwards to the data: [trajectory, trajectory].
  through({ t, x }, ends = [0, 1]) {
    const points = Float64Array.from(x);
    const options = { ...EXACT, ...this.landing(), tStart: t };
    return ends.filter((tEnd) => tEnd !== t).map((tEnd) => solve(this.field, points, { ...options, tEnd }));
  }

  // Pairs of noise and data, independent of each other.
  independent(n = this.counts.pairs) {
    const random = makeRandom(4);
    return { x0: this.noise(n).map((v) => v / this.path.priorStd), x1: sample(this.data, n, random) };
  }

  // Noise with the ends to which the flow carries it.
  coupled() {
    const { states } = this.exact();
    return { x0: states[0].map((v) => v / this.path.priorStd), x1: states[states.length - 1] };
  }

  // The curve alpha(t) x_1 + sigma(t) x_0 of pair i as a trajectory: straight on rectified flow.
  curve({ x0, x1 }, i) {
    const { path, d } = this;
    const ts = Float64Array.from({ length: BEND + 1 }, (_, s) => s / BEND);
    const at = (t, j) => path.alpha(t) * x1[d * i + j] + path.sigma(t) * x0[d * i + j];
    return { ts, states: Array.from(ts, (t) => Array.from({ length: d }, (_, j) => at(t, j))) };
  }
}
