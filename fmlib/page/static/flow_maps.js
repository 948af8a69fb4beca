// Fields out of fields, and the maps that a field makes: guidance, X_{s,t}.

import { checkChoice, checkNumber } from "./flow_checks.js";
import { score } from "./flow_mixture.js";
import { solve } from "./flow_solvers.js";

// The guided field v_none + s (v_c - v_none) out of { conditional, unconditional }. scale: s, a number or a function of
// t. 1 is the conditional field, 0 the unconditional one. Ho & Salimans 2022 (arXiv 2207.12598).
export function guided({ conditional, unconditional }, scale) {
  let none = new Float64Array(0);
  return (t, x, out = new Float64Array(x.length)) => {
    const s = checkNumber("scale", typeof scale === "function" ? scale(t) : scale);
    if (s === 1) conditional(t, x, out); // not through the formula: the other field may be infinite where s = 1
    else if (s === 0) unconditional(t, x, out);
    else {
      if (none.length !== x.length) none = new Float64Array(x.length);
      conditional(t, x, out);
      unconditional(t, x, none);
      for (let i = 0; i < x.length; i++) out[i] = none[i] + s * (out[i] - none[i]);
    }
    return out;
  };
}

// X_{s,t}(x): where the flow carries, until time t, what is at x at time s; either may be the later one.
// options: solver ("rk4"), steps (50), path, as for `solve`.
export function flowMap(field, x, s, t, { solver = "rk4", steps = 50, path, out = new Float64Array(x.length) } = {}) {
  checkNumber("s", s, 0, 1), checkNumber("t", t, 0, 1);
  if (s === t) out.set(x);
  else out.set(solve(field, x, { solver, steps, path, tStart: s, tEnd: t }).states[steps]);
  return out;
}

// What may be added to a velocity field, each a function of (x, s, d, out), s the score there: does it keep p_t? The
// turned score does: div(p J grad log p) = div(J grad p) = 0. A field without divergence alone need not.
const ADDED = {
  none: (x, s, d, out) => out.fill(0),
  "turned score": (x, s, d, out) => turned(s, d, out),
  rotation: (x, s, d, out) => turned(x, d, out),
  "constant drift": (x, s, d, out) => out.forEach((_, i) => (out[i] = i % d ? 0 : 1)),
  score: (x, s, d, out) => out.set(s),
};

export const ADDED_NAMES = Object.keys(ADDED);

// J v, v turned by 90 degrees; in one dimension there is nothing to turn to.
function turned(v, d, out) {
  for (let i = 0; i < v.length; i += d) {
    if (d === 2) [out[i], out[i + 1]] = [-v[i + 1], v[i]];
    else out[i] = 0;
  }
}

// field + strength * the candidate of this name, whose score is that of the mixture on the path.
export function withAdded(field, name, strength, mixture, path) {
  const add = ADDED[checkChoice("added", name, ADDED_NAMES)];
  checkNumber("strength", strength);
  const d = mixture.means[0].length;
  let [slopes, more] = [new Float64Array(0), new Float64Array(0)];
  return (t, x, out = new Float64Array(x.length)) => {
    if (more.length !== x.length) [slopes, more] = [new Float64Array(x.length), new Float64Array(x.length)];
    field(t, x, out);
    if (name === "turned score" || name === "score") score(mixture, path, t, x, slopes);
    add(x, slopes, d, more);
    for (let i = 0; i < x.length; i++) out[i] += strength * more[i];
    return out;
  };
}
