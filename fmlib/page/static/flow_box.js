// A box and its walls: how much of the mass is inside, how fast that changes, and what flows in through the walls. The
// continuity equation says that the last two are the same.

import { logProb, termsAt } from "./flow_mixture.js";

const ON_WALL = 128; // points on each wall
const MOMENT = 1e-4; // for the rate: a difference in time

// The normal distribution function. erf by its series of positive terms, which loses no digits.
export function normalCdf(z) {
  if (Math.abs(z) > 8.5) return z > 0 ? 1 : 0;
  let [term, sum] = [z, z];
  for (let n = 3; Math.abs(term) > 1e-17; n += 2) sum += term *= (z * z) / n;
  return 0.5 + (sum * Math.exp((-z * z) / 2)) / Math.sqrt(2 * Math.PI);
}

// The share of the mass of p_t in the box [low, high] or [left, right, bottom, top].
export function massInBox(mixture, path, t, box) {
  const q = termsAt(mixture, path, t);
  let total = 0;
  for (let k = 0; k < q.count; k++) {
    const width = Math.sqrt(1 / (2 * q.half[k]));
    const between = (low, high, mean) => normalCdf((high - mean) / width) - normalCdf((low - mean) / width);
    total += mixture.weights[k] * between(box[0], box[1], q.x[k]) * (q.d === 2 ? between(box[2], box[3], q.y[k]) : 1);
  }
  return total;
}

// d/dt of that share.
export function massRate(mixture, path, t, box) {
  const [before, after] = [Math.max(0, t - MOMENT), Math.min(1, t + MOMENT)];
  return (massInBox(mixture, path, after, box) - massInBox(mixture, path, before, box)) / (after - before);
}

// The mass that `field` carries into the box through its walls, in units of mass a unit of time: the integral of
// -p_t u . n over the walls.
export function fluxIntoBox(mixture, path, field, t, box) {
  const d = mixture.means[0].length;
  let total = 0;
  for (let side = 0; side < 2 * d; side++) {
    const axis = side >> 1;
    const inwards = side % 2 ? -1 : 1;
    const n = d === 2 ? ON_WALL : 1;
    const [low, high] = d === 2 ? box.slice(2 - 2 * axis, 4 - 2 * axis) : [0, 1];
    const points = new Float64Array(n * d);
    for (let i = 0; i < n; i++) {
      points[d * i + axis] = box[side];
      if (d === 2) points[2 * i + 1 - axis] = low + ((high - low) * (i + 0.5)) / n;
    }
    const density = logProb(mixture, path, t, points);
    const u = field(t, points, new Float64Array(n * d));
    for (let i = 0; i < n; i++) total += (inwards * Math.exp(density[i]) * u[d * i + axis] * (high - low)) / n;
  }
  return total;
}
