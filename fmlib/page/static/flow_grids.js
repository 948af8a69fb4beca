// Densities and fields on a grid, as a picture needs them: rows of ys, from the bottom, with all xs in each.

import { termsAt } from "./flow_mixture.js";

// The centres of n equal cells between low and high.
export function cellCentres(low, high, n) {
  return Float64Array.from({ length: n }, (_, i) => low + ((high - low) * (i + 0.5)) / n);
}

// All points (x, y) of the grid, flat, row by row.
export function gridPoints(xs, ys, out) {
  out ??= new Float64Array(2 * xs.length * ys.length);
  let at = 0;
  for (let i = 0; i < ys.length; i++) {
    for (let j = 0; j < xs.length; j++) {
      out[at++] = xs[j];
      out[at++] = ys[i];
    }
  }
  return out;
}

// p_t at the points of the grid: not the logarithm, and 0 where it is below the smallest number. A Gaussian of a grid
// is a product of one of xs and one of ys, so that it takes few exponentials. In one dimension leave out ys (null).
export function gridDensity(mixture, path, t, xs, ys, out) {
  const q = termsAt(mixture, path, t);
  if ((q.d === 2) !== Boolean(ys)) throw new Error(`ys must be ${q.d === 2 ? "numbers" : "null"} in ${q.d} dimensions`);
  const [width, height] = [xs.length, ys ? ys.length : 1];
  out ??= new Float64Array(width * height);
  out.fill(0, 0, width * height);
  const across = new Float64Array(width);
  for (let k = 0; k < q.count; k++) {
    for (let j = 0; j < width; j++) across[j] = Math.exp(q.log[k] - (xs[j] - q.x[k]) ** 2 * q.half[k]);
    for (let i = 0; i < height; i++) {
      const up = ys ? Math.exp(-((ys[i] - q.y[k]) ** 2) * q.half[k]) : 1;
      if (up === 0) continue; // most rows of a narrow component
      const row = i * width;
      for (let j = 0; j < width; j++) out[row + j] += across[j] * up;
    }
  }
  return out;
}
