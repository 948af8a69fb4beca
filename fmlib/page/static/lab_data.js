// Data out of data: a class of a mixture, points, and two numbers about them.

import { cellCentres } from "./flow_grids.js";

export const NEAR_POINT = 0.05;

// The components of a class alone, as a mixture of their own.
export function classOf({ means, stds, weights }, condition) {
  const of = (values) => condition.map((k) => values[k]);
  return { means: of(means), stds: of(stds), weights: of(weights) };
}

// n points, flat, as a mixture of components without a width.
export function pointsAsMixture(flat, d) {
  const n = flat.length / d;
  const means = Array.from({ length: n }, (_, i) => Array.from(flat.subarray(d * i, d * (i + 1))));
  return { means, stds: Array(n).fill(0), weights: Array(n).fill(1 / n) };
}

export function spreadOf({ means, stds, weights }) {
  const average = (f) => weights.reduce((sum, w, k) => sum + w * f(means[k], stds[k]), 0);
  const centre = means[0].map((_, j) => average((mean) => mean[j]));
  return Math.sqrt(average((mean, std) => mean.reduce((sum, v, j) => sum + (v - centre[j]) ** 2 + std ** 2, 0)));
}

// p(x | c)^s p(x)^(1 - s) out of both densities, not scaled to the mass 1.
export function tilt(one, all, s) {
  return s ? one.map((p, i) => (p && all[i] ? p * (p / all[i]) ** (s - 1) : 0)) : all;
}

// The same number as spreadOf, of a density on a grid. of(xs, ys): the density; ranges: [low, high] of each coordinate.
// It looks three times, the last times at what has mass alone, so that a narrow one is met as well as a wide one.
export function spreadOnGrid(of, ranges, looks = 3) {
  const cells = ranges[1] ? 128 : 512;
  const axes = ranges.map((range) => cellCentres(...range, cells));
  const p = of(axes[0], axes[1] ?? null);
  const closer = [];
  const spreads = axes.map((axis, j) => {
    const sums = new Float64Array(cells);
    p.forEach((v, i) => (sums[j ? (i / cells) | 0 : i % cells] += v));
    const average = (f) => sums.reduce((sum, v, i) => sum + v * f(axis[i]), 0);
    const mass = average(() => 1);
    const centre = average((x) => x) / mass;
    const seen = axis.filter((_, i) => sums[i] > 1e-12 * mass);
    const cell = axis[1] - axis[0];
    closer.push([seen[0] - cell, seen[seen.length - 1] + cell]);
    return Math.sqrt(average((x) => (x - centre) ** 2) / mass);
  });
  return looks > 1 ? spreadOnGrid(of, closer, looks - 1) : Math.hypot(...spreads) || 0; // nothing was met: a point
}

// The share of the points x that lie near one of `points`; both flat.
export function shareNear(x, points, d) {
  let count = 0;
  for (let i = 0; i < x.length; i += d) {
    let near = false;
    for (let k = 0; k < points.length && !near; k += d) {
      near = Math.hypot(x[i] - points[k], d === 2 ? x[i + 1] - points[k + 1] : 0) < NEAR_POINT;
    }
    count += near;
  }
  return (d * count) / x.length;
}
