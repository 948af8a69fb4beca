// What a lab shows, as plain JSON: what is in it, how it is checked, undone and put into a link.

import { checkChoice, checkInt, checkMixture, checkNumber, checkPoints } from "./flow_checks.js";
import { PREDICTED_NAMES } from "./flow_errors.js";
import { ADDED_NAMES } from "./flow_maps.js";
import { PATH_NAMES } from "./flow_paths.js";
import { SOLVER_NAMES } from "./flow_solvers.js";
import { LAYERS } from "./lab_layers.js";

// All but the mixture. The names are those of the traits in Python.
export const START = {
  points: 0, // of the data; 0: the mixture itself
  matched: false, // the paths of a row, by their signal-to-noise ratios
  t: 0.5, path: "rectified_flow", // what is shown when
  steps: 8, solver: "euler", shift: 1, noise: 0, corrected: true, // how it is solved
  condition: [], guidance_scale: 1, added: "none", strength: 0, // what is added to the field
  predicted: "velocity", error: 0, // of the quantities at the probe
  probe: null, until: 1, box: null, launched: [], // what was put into the picture
  ghost: null, // another setting to compare with: a part of a state
  layers: ["density", "field", "particles"],
};
export const TRAITS = ["mixture", ...Object.keys(START)]; // in step with Python
const MOST_STEPS = 200;
const MOST_POINTS = 1000;
const MOST_LAUNCHED = 40;
const MOST_CLASSES = 2000; // as many as there may be components
const MOST_PARTICLES = 1e5; // particles
const FAR = 1e3; // coordinates beyond are a mistake

function point(name, value, d) {
  if (!Array.isArray(value) || checkPoints(name, value, d) !== 1) throw new Error(`${name} must be one point of ${d} numbers`);
  return value.map((v) => checkNumber(name, v, -FAR, FAR));
}

function list(name, value, most, check) {
  if (!Array.isArray(value) || value.length > most) throw new Error(`${name} must be a list of at most ${most}`);
  return value.map(check);
}

// [low, high] of each coordinate.
function checkBox(box, d) {
  const sides = point("box", box, 2 * d);
  for (let i = 0; i < sides.length; i += 2) {
    if (!(sides[i] < sides[i + 1])) throw new Error(`box must be [low, high] of each coordinate, got ${sides}`);
  }
  return sides;
}

// What a ghost changes of the state, checked.
function checkGhost(ghost, state) {
  if (typeof ghost !== "object" || Array.isArray(ghost)) throw new Error("ghost must be a part of a state");
  const names = Object.keys(ghost);
  for (const name of names) checkChoice("ghost", name, TRAITS.filter((trait) => trait !== "ghost"));
  const full = checkState({ ...ghost, ghost: null }, state);
  return Object.fromEntries(names.map((name) => [name, full[name]]));
}

// A complete, checked state out of part of one; what is missing comes from `base`. Throws Error that says what is wrong.
export function checkState(part, base) {
  if (part === null || typeof part !== "object" || Array.isArray(part)) throw new Error("state must be an object");
  const state = { ...START, ...base, ...part };
  const mixture = base && part.mixture === undefined ? base.mixture : checkMixture(state.mixture); // checked before
  const [count, d] = [mixture.means.length, mixture.means[0].length];
  if (mixture !== base?.mixture) mixture.means.forEach((mean) => point("means", mean, d));
  const before = base?.mixture.means[0].length ?? d; // the picture is made for one of them
  if (before !== d) throw new Error(`mixture must stay in ${before} dimensions, got ${d}`);
  const number = (name, low, high) => checkNumber(name, state[name], low, high);
  const whole = (name, low, high) => number(name, low, high) && checkInt(name, state[name], low);
  const yesOrNo = (name) => checkChoice(name, state[name], [true, false]);
  const checked = {
    mixture,
    points: whole("points", 0, MOST_POINTS),
    matched: yesOrNo("matched"),
    t: number("t", 0, 1),
    path: checkChoice("path", state.path, PATH_NAMES),
    steps: whole("steps", 1, MOST_STEPS),
    solver: checkChoice("solver", state.solver, SOLVER_NAMES),
    shift: number("shift", 0.1, 10),
    noise: number("noise", 0, 10),
    corrected: yesOrNo("corrected"),
    condition: list("condition", state.condition, MOST_CLASSES, (k) => checkInt("condition", k, 0)).filter((k) => k < count),
    guidance_scale: number("guidance_scale", -10, 20),
    added: checkChoice("added", state.added, ADDED_NAMES),
    strength: number("strength", -10, 10),
    predicted: checkChoice("predicted", state.predicted, PREDICTED_NAMES),
    error: number("error", 0, 1),
    probe: state.probe === null ? null : point("probe", state.probe, d),
    until: number("until", 0, 1),
    box: state.box === null ? null : checkBox(state.box, d),
    launched: list("launched", state.launched, MOST_LAUNCHED, (p) => (
      { t: checkNumber("launched", p?.t, 0, 1), x: point("launched", p?.x, d) }
    )),
    layers: list("layers", state.layers, LAYERS.length, (layer) => checkChoice("layers", layer, LAYERS)),
  };
  return { ...checked, ghost: state.ghost === null ? null : checkGhost(state.ghost, checked) };
}

// A state out of what a notebook has stored, trait by trait: stored(name) reads one, `refuse` hears of each that does
// not fit. What a lab is made of, `meta`, has no substitute: throws Error.
export function restore(stored, { limits, counts, controls, tour, row = [] }, refuse) {
  const [left, right, bottom, top] = point("limits", limits, 4);
  if (!(left < right && bottom < top)) throw new Error(`limits must be left, right, bottom, top, got ${limits}`);
  for (const name of ["particles", "trajectories", "pairs"]) checkNumber(name, checkInt(name, counts?.[name]), 1, MOST_PARTICLES);
  if (counts.trajectories > counts.particles) throw new Error("trajectories must be at most particles");
  if (![controls, tour, row].every(Array.isArray)) throw new Error("controls, tour and row must be lists");
  for (const path of row) checkChoice("row", path, PATH_NAMES);
  const overTime = left > -0.5 && right < 1.5;
  const three = [[-1.5, 0], [0, 1.5], [1.5, 0]].map((mean) => (overTime ? mean.slice(0, 1) : mean));
  let state = checkState({ mixture: { means: three, stds: 0.4 } });
  try {
    state = checkState({ mixture: stored("mixture") });
  } catch (error) {
    refuse(error.message);
  }
  for (const name of Object.keys(START)) {
    try {
      if (stored(name) !== undefined) state = checkState({ [name]: stored(name) }, state);
    } catch (error) {
      refuse(error.message);
    }
  }
  return state;
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
  if (!hash.startsWith(start)) return null;
  if (hash.length > 20_000) throw new Error(`${hash.length} characters are too many`);
  return JSON.parse(decodeURIComponent(hash.slice(start.length)));
}
