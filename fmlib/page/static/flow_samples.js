// Samples: of the data, of the noise, and of the pairs (x_0, x_1) whose paths cross one point.

import { checkInt, checkPoints } from "./flow_checks.js";
import { termsAt, weigh } from "./flow_mixture.js";

// The running sums of weights, and a draw from them by bisection.
function picker(weights, count, random) {
  const sums = new Float64Array(count);
  let total = 0;
  for (let k = 0; k < count; k++) sums[k] = total += weights[k];
  return () => {
    const u = random.uniform() * total;
    let low = 0;
    let high = count - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sums[middle] > u) high = middle; // strictly: a component of weight 0 is never drawn
      else low = middle + 1;
    }
    return low;
  };
}

// n independent samples of x_1, flat. random: from makeRandom.
export function sample(mixture, n, random, out) {
  checkInt("n", n);
  const { means, stds, weights } = mixture;
  const d = means[0].length;
  const pick = picker(weights, means.length, random);
  out ??= new Float64Array(n * d);
  for (let i = 0; i < n; i++) {
    const k = pick();
    for (let j = 0; j < d; j++) out[d * i + j] = means[k][j] + stds[k] * random.normal();
  }
  return out;
}

// Where sampling starts: n points of N(0, priorStd^2 I) in d dimensions, flat.
export function samplePrior(path, n, d, random, out) {
  out ??= new Float64Array(checkInt("n", n) * checkInt("d", d));
  for (let i = 0; i < n * d; i++) out[i] = path.priorStd * random.normal();
  return out;
}

// n pairs { x0, x1 }, flat, of noise and data given alpha(t) x_1 + sigma(t) x_0 = point: d numbers.
//
// Exact: first the component from its posterior weights, then the pair, which given the component is Gaussian. One
// normal number z a coordinate drives both, as the point leaves one freedom: what x_1 gains x_0 must lose.
//   x_1 = m + (alpha s^2 / V) (point - alpha m) + (s sigma / sqrt V) z
//   x_0 =     (sigma / V)     (point - alpha m) - (alpha s / sqrt V) z
// Neither divides by alpha or sigma, so that both ends are as good as the middle. A data point at sigma = 0 (V = 0)
// leaves x_0 free.
export function samplePairs(mixture, path, t, point, n, random, out) {
  const q = termsAt(mixture, path, t);
  const { d, alpha, sigma } = q;
  if (checkPoints("point", point, d) !== 1) throw new Error(`point must be ${d} numbers, got ${point.length}`);
  checkInt("n", n);
  const pick = picker(weigh(q, point[0], d === 2 ? point[1] : 0), q.count, random);
  out ??= { x0: new Float64Array(n * d), x1: new Float64Array(n * d) };
  for (let i = 0; i < n; i++) {
    const k = pick();
    const [s, v] = [q.s[k], q.v[k]];
    const root = Math.sqrt(v);
    for (let j = 0; j < d; j++) {
      const mean = mixture.means[k][j];
      const offset = point[j] - alpha * mean;
      const z = random.normal();
      out.x1[d * i + j] = v ? mean + ((alpha * s * s) / v) * offset + ((s * sigma) / root) * z : mean;
      out.x0[d * i + j] = v ? (sigma / v) * offset - ((alpha * s) / root) * z : z;
    }
  }
  return out;
}
