// What a lab shows, as plain JSON: what is in it, how it is checked, undone and put into a link.

import { checkChoice, checkInt, checkMixture, checkNumber, checkPoints } from "./flow_checks.js";
import { PATH_NAMES } from "./flow_paths.js";
import { SOLVER_NAMES } from "./flow_solvers.js";

export const START = { t: 0.5, path: "rectified_flow", steps: 8, solver: "euler", noise: 0, probe: null, launched: [], layers: ["density", "field", "particles"] };
export const LAYERS = ["density", "field", "pairs", "trajectories", "particles", "probe"];
const MOST_STEPS = 200;
const MOST_LAUNCHED = 40;
const FAR = 1e3; // coordinates beyond are a mistake

function point(name, value, d) {
  if (!Array.isArray(value) || checkPoints(name, value, d) !== 1) throw new Error(`${name} must be one point of ${d} numbers`);
  return value.map((v) => checkNumber(name, v, -FAR, FAR));
}

// A complete, checked state out of part of one; what is missing comes from `base`. Throws Error that says what is wrong.
export function checkState(part, base) {
  if (part === null || typeof part !== "object" || Array.isArray(part)) throw new Error("state must be an object");
  const state = { ...START, ...base, ...part };
  const mixture = base && part.mixture === undefined ? base.mixture : checkMixture(state.mixture); // checked before
  const d = mixture.means[0].length;
  if (mixture !== base?.mixture) mixture.means.forEach((mean) => point("means", mean, d));
  if (!Array.isArray(state.launched) || state.launched.length > MOST_LAUNCHED) {
    throw new Error(`launched must be a list of at most ${MOST_LAUNCHED} points`);
  }
  checkInt("steps", state.steps), checkNumber("steps", state.steps, 1, MOST_STEPS);
  return {
    mixture,
    t: checkNumber("t", state.t, 0, 1),
    path: checkChoice("path", state.path, PATH_NAMES),
    steps: state.steps,
    solver: checkChoice("solver", state.solver, SOLVER_NAMES),
    noise: checkNumber("noise", state.noise, 0, 10),
    probe: state.probe === null ? null : point("probe", state.probe, d),
    layers: Array.from(state.layers, (layer) => checkChoice("layers", layer, LAYERS)),
    launched: state.launched.map((p) => ({ t: checkNumber("launched", p?.t, 0, 1), x: point("launched", p?.x, d) })),
  };
}

// The states that a reader has left behind, for undo.
export class History {
  constructor() {
    this.past = [];
  }

  keep(state) {
    const text = JSON.stringify(state);
    if (this.past[this.past.length - 1] !== text) this.past.push(text);
    if (this.past.length > 100) this.past.shift();
  }

  // The state before `now`, or null.
  back(now) {
    const text = JSON.stringify(now);
    while (this.past.length) {
      const before = this.past.pop();
      if (before !== text) return JSON.parse(before);
    }
    return null;
  }
}

const round = (value) => (typeof value === "number" ? Math.round(value * 1e3) / 1e3 : value);

// A state as the end of an address, and back; null where there is none. What comes back is not checked yet.
export function toFragment(name, state) {
  return `#lab-${name}=${encodeURIComponent(JSON.stringify(state, (_, value) => round(value)))}`;
}

export function fromFragment(name, hash) {
  const start = `#lab-${name}=`;
  if (!hash.startsWith(start) || hash.length > 20_000) return null;
  return JSON.parse(decodeURIComponent(hash.slice(start.length)));
}
