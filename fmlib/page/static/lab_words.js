// What a lab says below its picture: what the layers show, in numbers.

import { CALLS } from "./flow_solvers.js";
import { AT_PROBE } from "./lab_arrows.js";
import { boxInWords } from "./lab_box.js";
import { sameCalls, tiltedSpread } from "./lab_compare.js";
import { WORDS } from "./lab_controls.js";
import { NEAR_POINT } from "./lab_data.js";
import { errors, jump, oneStep, pairsThrough, quantities, threeFields } from "./lab_point.js";
import { rowInWords } from "./lab_row.js";

const vector = (v) => `(${Array.from(v, (n) => n.toFixed(2)).join(", ")})`;

function otherSolvers(scene, calls) {
  const each = sameCalls(scene).map(([name, error]) => `${name} ${error.toFixed(3)}`);
  return each.length ? `\nWith ${calls === 1 ? "this evaluation" : `these ${calls} evaluations`}: ${each.join(", ")}.` : "";
}

const said = (name) => WORDS[name] ?? `the ${name}`;

function errorsInWords(scene) {
  const { predicted, error } = scene.state;
  const { [predicted]: own, ...others } = errors(scene);
  const each = Object.entries(others).map(([name, e]) => `${e < Infinity ? e.toFixed(2) : "without limit"} in ${said(name)}`);
  return `\nAn error of ${error.toFixed(2)} in ${said(predicted)} is ${each.join(", ")}.`;
}

const SAYS = {
  points(scene) {
    const { points } = scene.state;
    if (!points) return "";
    const [made, fresh] = scene.nearPoints().map((share) => `${(100 * share).toFixed(0)} %`);
    return `${points} training point${points === 1 ? "" : "s"}: ${made} of the particles end within ${NEAR_POINT} of one ` +
      `of them; of new samples of the distribution, ${fresh}.`;
  },
  trajectories(scene, compare) {
    const { steps, solver, noise } = scene.state;
    const calls = steps * CALLS[noise ? "sde" : solver];
    if (noise) return `${calls} evaluations of the field, and noise: each particle ends elsewhere on purpose.`;
    return `${calls} evaluations of the field: half of ${scene.counts.trajectories} trajectories end within ` +
      `${scene.endError().toFixed(3)} of their exact ends.${compare ? otherSolvers(scene, calls) : ""}`;
  },
  tilted(scene) {
    const { guidance_scale: s } = scene.state;
    if (!scene.class || s < 0) return ""; // below 0 it may have no width
    return `At scale ${s.toFixed(2)} the particles end with width ${scene.spreads()[0].toFixed(2)} about their centre; ` +
      `the tilted density has ${tiltedSpread(scene).toFixed(2)}.`;
  },
  particles(scene) {
    if (!scene.state.noise) return "";
    const [made, data] = scene.spreads();
    return `With noise ${scene.state.corrected ? "and its correction" : "but without its correction"} the particles spread ` +
      `by ${made.toFixed(2)} about their centre at t = 1, the data by ${data.toFixed(2)}.`;
  },
  box: boxInWords,
  jump(scene) {
    const made = jump(scene);
    if (!made) return "";
    return `From t = ${made.t.toFixed(2)} to ${made.until.toFixed(2)}: the flow leads to ${vector(made.end)}, ` +
      `one Euler step to ${vector(made.euler)}, ${made.miss.toFixed(2)} off.`;
  },
  stages(scene) {
    const step = oneStep(scene);
    if (!step) return "";
    const miss = Math.hypot(...step.end.map((v, j) => v - step.exact[j]));
    const often = `${step.calls.length} time${step.calls.length === 1 ? "" : "s"}`;
    return `One ${scene.state.solver} step of ${step.dt.toFixed(2)} asks the field ${often} ` +
      `and ends ${miss.toPrecision(2)} from the flow.`;
  },
  quantities(scene) {
    const { x0, x1, u, score, vDiff } = quantities(scene);
    return `The guesses here: data ${vector(x1)}, noise ${vector(x0)}; velocity ${vector(u)}, ` +
      `score ${vector(score)}, v of diffusion ${vector(vDiff)}.${scene.state.error ? errorsInWords(scene) : ""}`;
  },
  guidance(scene) {
    const [none, one, both] = threeFields(scene).map(vector);
    const more = one ? `, with it ${one}; at scale ${scene.state.guidance_scale.toFixed(2)}: ${both}` : "";
    return `Without class ${none}${more}.`;
  },
  probe(scene) {
    const { count, mean, exact, spread } = pairsThrough(scene);
    return `${count} pairs pass here; their velocities average to ${vector(mean)}, the field is ${vector(exact)}. ` +
      `Their variance, the loss that no training removes here: ${spread.toFixed(2)}.`;
  },
};


// compare: whether the solvers are.
export function inWords(pictures, compare) {
  const [{ scene }] = pictures;
  const { layers, probe } = scene.state;
  const inRow = pictures[1] ? rowInWords(pictures) : "";
  const shown = (name) => name === "points" || !inRow && layers.includes(name) && (probe || !AT_PROBE.includes(name));
  return [inRow, ...Object.keys(SAYS).filter(shown).map((name) => SAYS[name](scene, compare))].filter(Boolean).join("\n"); // a line each
}
