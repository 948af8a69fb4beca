// Data out of data: a class of a mixture, points, and two numbers about them.

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
