// The closed forms: mixtures of Gaussians and finite data sets on every path. The twin of fmlib/gaussians.py.
//
// If x_1 ~ sum_k w_k N(m_k, s_k^2 I), x_0 ~ N(0, I) and x_t = alpha x_1 + sigma x_0, then
// p_t = sum_k w_k N(alpha m_k, V_k I) with V_k = alpha^2 s_k^2 + sigma^2. Given x_t = x and the component k, every mean
// is a m_k + g_k (x - alpha m_k) with an a for all and a gain g_k; the rest is an average with the weights r_k(x).

import { checkNumber, checkPoints } from "./flow_checks.js";
import { BEYOND, expWeight } from "./flow_exp.js";

// A component narrower than 1e-12 is a data point: no digits are left of x - alpha m_k there. Its x_1 is known, and
// nothing is known of its x_0; only density and score see a width, this one.
const NARROWEST = 1e-24;

// Memory that all calls share, as allocating it anew in each would keep the garbage collector busy during a drag.
let terms = memory(64);

function memory(size) {
  const [x, y, s, v, log, half] = Array.from({ length: 6 }, () => new Float64Array(size));
  const [l, baseX, baseY, gain] = Array.from({ length: 4 }, () => new Float64Array(size));
  return { x, y, s, v, log, half, l, baseX, baseY, gain, size, count: 0, d: 0, alpha: 0, sigma: 0 };
}

// What all of the forms share at t, for each component: alpha m_k (x, y), s_k, V_k, the log of its factor w_k / (2 pi
// V_k)^(d / 2), and 1 / (2 V_k). In one dimension y stays 0. Valid until the next call.
export function termsAt(mixture, path, t) {
  const { means, stds, weights } = mixture;
  const count = means.length;
  const d = means[0].length;
  checkNumber("t", t, 0, 1);
  if (terms.size < count) terms = memory(count);
  const [alpha, sigma] = [path.alpha(t), path.sigma(t)];
  let total = 0;
  for (let k = 0; k < count; k++) total += weights[k];
  for (let k = 0; k < count; k++) {
    const v = alpha * alpha * stds[k] * stds[k] + sigma * sigma;
    const width = Math.max(v, NARROWEST);
    terms.x[k] = alpha * means[k][0];
    terms.y[k] = d === 2 ? alpha * means[k][1] : 0;
    terms.s[k] = stds[k];
    terms.v[k] = v < NARROWEST ? 0 : v;
    terms.log[k] = Math.log(weights[k] / total) - 0.5 * d * Math.log(2 * Math.PI * width);
    terms.half[k] = 0.5 / width;
  }
  return Object.assign(terms, { count, d, alpha, sigma });
}

// l_k, the log of the joint density of one point and the component k, for all k. Returns the largest: exp(l_k - max l)
// are the posterior weights but for their sum, and exp(l_k) alone would underflow far from all components.
function logJoint(q, px, py) {
  const { x, y, log, half, l, count } = q;
  let best = -Infinity;
  for (let k = 0; k < count; k++) {
    const dx = px - x[k];
    const dy = py - y[k];
    const value = log[k] - (dx * dx + dy * dy) * half[k];
    l[k] = value;
    if (value > best) best = value;
  }
  return best;
}

// The posterior weights of one point, not divided by their sum, in place of the l_k.
export function weigh(q, px, py) {
  const best = logJoint(q, px, py);
  for (let k = 0; k < q.count; k++) q.l[k] = expWeight(q.l[k] - best);
  return q.l;
}

// log p_t(x), n numbers, in nats. x: flat, n d numbers; t: a number in [0, 1]; so for all of them. The answer is
// written to `out` if there is one.
export function logProb(mixture, path, t, x, out) {
  const q = termsAt(mixture, path, t);
  const n = checkPoints("x", x, q.d);
  out ??= new Float64Array(n);
  for (let i = 0; i < n; i++) {
    const best = logJoint(q, x[q.d * i], q.d === 2 ? x[2 * i + 1] : 0);
    let sum = 0;
    for (let k = 0; k < q.count; k++) sum += expWeight(q.l[k] - best);
    out[i] = best + Math.log(sum);
  }
  return out;
}

// sum_k r_k (a m_k + g_k (x - alpha m_k)) for every point, with g_k = gain(V_k, s_k^2).
function average(mixture, q, x, out, a, gain) {
  const n = checkPoints("x", x, q.d);
  out ??= new Float64Array(x.length);
  const { count, d, l, baseX, baseY, x: mx, y: my, gain: g } = q;
  for (let k = 0; k < count; k++) {
    baseX[k] = a * mixture.means[k][0];
    baseY[k] = d === 2 ? a * mixture.means[k][1] : 0;
    g[k] = gain(q.v[k], q.s[k] * q.s[k]);
  }
  for (let i = 0; i < n; i++) {
    const px = x[d * i];
    const py = d === 2 ? x[2 * i + 1] : 0;
    const best = logJoint(q, px, py);
    let sum = 0;
    let ux = 0;
    let uy = 0;
    for (let k = 0; k < count; k++) {
      if (l[k] - best < BEYOND) continue; // most of many components, near the data
      const w = expWeight(l[k] - best);
      sum += w;
      ux += w * (baseX[k] + g[k] * (px - mx[k]));
      uy += w * (baseY[k] + g[k] * (py - my[k]));
    }
    out[d * i] = ux / sum;
    if (d === 2) out[2 * i + 1] = uy / sum;
  }
  return out;
}

// The score, grad_x log p_t(x): n d numbers, as all that follow.
export function score(mixture, path, t, x, out) {
  return average(mixture, termsAt(mixture, path, t), x, out, 0, (v) => -1 / Math.max(v, NARROWEST));
}

// E[x_1 given x_t = x]: the best guess of the data.
export function posteriorMeanX1(mixture, path, t, x, out) {
  const q = termsAt(mixture, path, t);
  return average(mixture, q, x, out, 1, (v, s2) => (v ? (q.alpha * s2) / v : 0));
}

// E[x_0 given x_t = x]: the best guess of the noise, = -sigma(t) score.
export function posteriorMeanX0(mixture, path, t, x, out) {
  const q = termsAt(mixture, path, t);
  return average(mixture, q, x, out, 0, (v) => (v ? q.sigma / v : 0));
}

// The marginal velocity u_t(x) = E[alpha' x_1 + sigma' x_0 given x_t = x]. Lipman et al. 2023 (arXiv 2210.02747),
// eq. 8. sigma' is needed only in the product sigma sigma', so that it is finite at both ends of every path.
export function velocity(mixture, path, t, x, out) {
  const q = termsAt(mixture, path, t);
  const dAlpha = path.dAlpha(t);
  const halfDSigmaSq = path.halfDSigmaSq(t);
  return average(mixture, q, x, out, dAlpha, (v, s2) => (v ? (q.alpha * dAlpha * s2 + halfDSigmaSq) / v : 0));
}

// The velocity as a field (t, x, out), which the solvers take.
export function velocityField(mixture, path) {
  return (t, x, out) => velocity(mixture, path, t, x, out);
}
