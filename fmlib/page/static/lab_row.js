// The pictures of a lab: one, or a row of them, one for each path. In a row all hold one mixture, one noise and one
// clock, and positions are divided by the root of alpha^2 + sigma^2, as VE lives at 50 times the scale of the others.

import { element } from "./controls.js";
import { angleOf, timeAt } from "./flow_paths.js";
import { WORDS } from "./lab_controls.js";
import { drawLayers, positions } from "./lab_layers.js";
import { Line } from "./lab_line.js";
import { Plane } from "./lab_plane.js";
import { Scene } from "./lab_scene.js";
import { View } from "./view.js";

const IN_ROW = ["density", "field", "trajectories", "particles"]; // layers
const SOLVED = { solver: "rk4", steps: 40, shift: 1, noise: 0, ghost: null, launched: [] }; // particles that coincide look so

function pictureOf(parent, { limits, counts, alt }, dim, path) {
  const around = path ? element("figure", { class: "fm-panel" }, parent) : parent;
  const caption = path && element("figcaption", {}, around);
  const box = element("div", { class: "fm-scene" }, around);
  const view = new View(limits, box, path ? `${WORDS[path]}, positions divided by the root of alpha² + sigma²` : alt);
  view.canvas.tabIndex = -1; // it has no keys of its own
  const map = dim === 2 ? new Plane(view) : new Line(view);
  box.style.setProperty("--fm-aspect", view.canvas.style.aspectRatio);
  return { path, caption, box, view, map, scene: new Scene(limits, counts, Boolean(path)) };
}

export function picturesOf(root, meta, dim) {
  const { row = [] } = meta;
  if (!row.length) return [pictureOf(root, meta, dim)];
  const around = element("div", { class: "fm-panels", style: `--fm-columns: ${row.length}` }, root);
  return row.map((path) => pictureOf(around, meta, dim, path));
}

// The first path's t is the clock. Matched, the others stand where their alpha / sigma is the same.
export function drawRow(pictures, state, colors) {
  const layers = state.layers.filter((layer) => IN_ROW.includes(layer));
  pictures.forEach(({ path, scene, map, caption }, i) => {
    scene.set({ ...state, ...SOLVED, layers, path });
    const { path: first } = pictures[0].scene;
    const t = i && state.matched ? timeAt(scene.path, angleOf(first, state.t)) : state.t;
    scene.state.t = t;
    caption.textContent = `${WORDS[path]}, t = ${t.toFixed(2)}`;
    drawLayers(map, scene, null, colors);
  });
}

// How far each path's particles are from those of the first, on average.
export function rowInWords(pictures) {
  const [first, ...others] = pictures.map(({ scene }) => positions(scene.cloud(), scene.state.t));
  const far = (x) => {
    let sum = 0;
    for (let i = 0; i < x.length; i += 2) sum += Math.hypot(x[i] - first[i], x[i + 1] - first[i + 1]);
    return (2 * sum) / x.length;
  };
  const each = others.map((x, i) => `${far(x).toFixed(2)} (${WORDS[pictures[i + 1].path]})`);
  return `On average the particles are ${each.join(", ")} from those of ${WORDS[pictures[0].path]}. ` +
    "Positions are divided by √(α² + σ²).";
}
