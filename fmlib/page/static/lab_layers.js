// The layers of a lab: what is drawn of a scene, the same in the plane and over t. `map` is one of the two.

import { DATA, MODEL, NOISE, PATH, blend } from "./colors.js";
import { locate } from "./frames.js";
import { AROUND_PROBE } from "./lab_arrows.js";
import { drawBox } from "./lab_box.js";
import { curve, curves, fan, rgb } from "./lab_curves.js";
import { dots, polyline, strokes } from "./strokes.js";

// All particles at t, flat.
export function positions({ ts, states }, t, out) {
  const [frame, w] = locate(ts, t);
  const [a, b] = [states[frame], states[frame + 1]];
  out = out?.length === a.length ? out : new Float64Array(a.length);
  for (let i = 0; i < a.length; i++) out[i] = a[i] * (1 - w) + b[i] * w;
  return out;
}

// What the solver makes of the particles in green, and the exact ones in the page's ink behind.
function trajectories(map, scene, colors) {
  const { trajectories: count } = scene.counts;
  const until = map.overTime ? Infinity : scene.state.t; // over t the whole of them is seen
  if (!scene.scaled) curves(map, colors.ink, 1, 0.6, count, (k) => curve(map, scene.exact(), k, until));
  curves(map, MODEL, 1.4, 0.85, count, (k) => curve(map, scene.cloud(), k, until));
}

// Where the solver stops: on its trajectories, and on a ruler of time along the lower edge.
function ticks(map, scene, colors) {
  const { ts, states } = scene.cloud();
  const { view } = map;
  const shown = Math.min(scene.counts.trajectories, 12);
  states.forEach((state, f) => dots(view, map.places(ts[f], state.subarray(0, shown * scene.d)), 2.2, MODEL, 1));
  const y = view.height - 9 * view.ratio;
  const x = (t) => (map.overTime ? view.x(t) : (0.04 + 0.92 * t) * view.width);
  strokes(view, colors.ink, 1.5, 1, (c) => {
    c.moveTo(x(0), y), c.lineTo(x(1), y);
    for (const t of ts) c.moveTo(x(t), y - 5 * view.ratio), c.lineTo(x(t), y + 5 * view.ratio);
  });
}

function particles(map, scene, colors) {
  const { t } = scene.state;
  scene.memory.places = positions(scene.cloud(), t, scene.memory.places);
  dots(map.view, map.places(t, scene.memory.places), 1.6, rgb(blend(t, colors.dots)), 0.7);
}

// Pairs of noise and data as they are drawn in training, and the curve between each two.
function pairs(map, scene) {
  fan(map, scene, scene.independent(), scene.counts.pairs, 0.7);
}

// The pairs that the flow makes, each noise point with its own end: what reflow is trained on.
function coupled(map, scene) {
  fan(map, scene, scene.coupled(), scene.counts.trajectories, 0.7);
}

function launched(map, scene, colors) {
  for (const start of scene.state.launched) {
    for (const made of scene.through(start)) {
      curves(map, colors.ink, 2, 1, 1, () => curve(map, made, 0));
      const last = made.ts.length - 1;
      dots(map.view, map.places(made.ts[last], made.states[last]), 4.5, rgb(made.ts[last] > start.t ? DATA : NOISE), 1);
    }
  }
}

// Another setting behind the present one, in grey.
function drawGhost(map, ghost, layers) {
  const { t } = ghost.state;
  const until = map.overTime ? Infinity : t;
  const count = layers.includes("trajectories") ? ghost.counts.trajectories : 0;
  curves(map, PATH, 1.4, 0.9, count, (k) => curve(map, ghost.cloud(), k, until));
  dots(map.view, map.places(t, positions(ghost.cloud(), t)), 2.4, PATH, 0.6);
}

const ORDER = {
  density: (map, scene, colors) => map.density(scene, colors),
  tilted: (map, scene) => map.tilted(scene),
  field: (map, scene, colors) => map.field(scene, colors),
  classes: (map, scene) => map.classes(scene),
  pairs,
  coupled,
  trajectories,
  ticks,
  particles,
  box: drawBox,
  ...AROUND_PROBE,
};

export const LAYERS = Object.keys(ORDER);

export function drawLayers(map, scene, ghost, colors) {
  map.view.clear();
  map.view.colors = colors;
  const { layers, probe } = scene.state;
  for (const [name, layer] of Object.entries(ORDER)) {
    if (name === "trajectories") {
      dots(map.view, map.places(1, scene.points), 2.6, rgb(DATA), 1);
      if (ghost) drawGhost(map, ghost, layers);
    }
    if (layers.includes(name) && (probe || !AROUND_PROBE[name])) layer(map, scene, colors);
  }
  launched(map, scene, colors);
}
