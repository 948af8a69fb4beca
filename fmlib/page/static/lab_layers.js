// The layers of a lab: what is drawn of a scene, the same in the plane and over t. `map` is one of the two.

import { arrow } from "./arrows.js";
import { DATA, MODEL, NOISE, OTHER, PATH, THIRD, WRONG, blend } from "./colors.js";
import { locate } from "./frames.js";
import { drawBox } from "./lab_box.js";
import { jump, oneStep, pairsThrough, quantities } from "./lab_point.js";
import { dots, label, polyline, strokes } from "./strokes.js";

const FAN = 60; // pairs of the probe that are drawn
const rgb = (color) => `rgb(${color})`;

// Particle k of a trajectory from its start until t, as coordinates in the picture.
function curve(map, { ts, states }, k, t = Infinity) {
  const [frame, w] = locate(ts, t);
  const points = [];
  for (let f = 0; f <= frame; f++) map.put(points, ts[f], states[f], k);
  const last = [];
  map.put(last, ts[frame], states[frame], k);
  map.put(last, ts[frame + 1], states[frame + 1], k);
  points.push(last[0] * (1 - w) + last[2] * w, last[1] * (1 - w) + last[3] * w);
  return points;
}

function curves(map, color, width, alpha, count, of) {
  strokes(map.view, color, width, alpha, (c) => {
    for (let k = 0; k < count; k++) polyline(map.view, c, of(k));
  });
}

// All particles at t, flat.
export function positions({ ts, states }, t, out) {
  const [frame, w] = locate(ts, t);
  const [a, b] = [states[frame], states[frame + 1]];
  out = out?.length === a.length ? out : new Float64Array(a.length);
  for (let i = 0; i < a.length; i++) out[i] = a[i] * (1 - w) + b[i] * w;
  return out;
}

const at = (map, t, x) => Array.from(map.places(t, Float64Array.from(x)));

// A thick arrow from x at t by `move` in the time dt; its name stands at its tip.
function thick(map, color, t, x, dt, move, name = "") {
  const { view } = map;
  const [x0, y0] = at(map, t, x);
  const [x1, y1] = at(map, t + dt, x.map((v, j) => v + move[j]));
  const [u, v] = [view.x(x1) - view.x(x0), view.y(y1) - view.y(y0)];
  strokes(view, color, 3, 1, (c) => arrow(c, view.x(x0), view.y(y0), u, v, 12 * view.ratio));
  if (name) label(view, name, x1, y1);
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

function fan(map, scene, { x0, x1 }, count, alpha) {
  curves(map, PATH, 1, alpha, count, (i) => curve(map, scene.curve({ x0, x1 }, i), 0));
  const first = (t, x) => map.places(t, x.subarray(0, count * scene.d));
  dots(map.view, first(0, x0), 2.2, rgb(NOISE));
  dots(map.view, first(1, x1), 2.2, rgb(DATA));
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

// The fan of pairs through the point, the cloud of their velocities, and the mean of these, which is the arrow.
function probe(map, scene, colors) {
  const { t, probe: point } = scene.state;
  const seen = pairsThrough(scene);
  fan(map, scene, seen.pairs, FAN, 0.55);
  const tips = seen.velocities.map((v, i) => point[i % scene.d] + map.reach * v);
  dots(map.view, map.places(t + map.reach, tips), 1.4, colors.ink, 0.35);
  thick(map, colors.ink, t, point, map.reach, seen.exact.map((v) => map.reach * v));
}

function fiveQuantities(map, scene, colors) {
  const { t, probe: point } = scene.state;
  const { x0, x1, u, score, vDiff } = quantities(scene);
  for (const [end, guess, color, name] of [[0, x0, rgb(NOISE), "x₀ = ε"], [1, x1, rgb(DATA), "x₁"]]) {
    curves(map, color, 1.5, 1, 1, () => [...at(map, t, point), ...at(map, end, guess)]);
    dots(map.view, map.places(end, guess), 5, color, 1);
    label(map.view, name, ...at(map, end, guess));
  }
  const short = (v) => v.map((x) => (map.reach * x) / Math.max(1, Math.hypot(...v) / 4));
  thick(map, THIRD, t, point, 0, short(vDiff), "v of diffusion");
  thick(map, OTHER, t, point, 0, short(score), "score");
  thick(map, colors.ink, t, point, map.reach, short(u), "u");
}

// k1 to k4 of one step from the probe, where each is evaluated; the step's end, and the flow's.
function fourStages(map, scene, colors) {
  const step = oneStep(scene);
  if (!step) return;
  step.calls.forEach(({ t, x, k }, i) => {
    thick(map, MODEL, t, x, step.dt / 2, k.map((v) => (step.dt / 2) * v), `k${"₁₂₃₄"[i]}`);
  });
  const [begin, end] = [at(map, step.t, scene.state.probe), at(map, step.next, step.end)];
  curves(map, MODEL, 1, 1, 1, () => [...begin, ...end]);
  dots(map.view, end, 5, MODEL, 1);
  dots(map.view, at(map, step.next, step.exact), 3.5, colors.ink, 1);
}

// The flow map from the probe, its average velocity as one straight line, and the Euler step that misses.
function jumps(map, scene, colors) {
  const made = jump(scene);
  if (!made) return;
  const [from, to, off] = [at(map, made.t, made.point), at(map, made.until, made.end), at(map, made.until, made.euler)];
  curves(map, colors.ink, 1.2, 0.7, 1, () => curve(map, made.trajectory, 0));
  curves(map, WRONG, 1.5, 1, 1, () => [...from, ...off]);
  thick(map, colors.ink, made.t, made.point, made.until - made.t, made.end.map((v, j) => v - made.point[j]));
  dots(map.view, off, 5, WRONG, 1);
  dots(map.view, to, 5, colors.ink, 1);
}

// Another setting behind the present one, in grey.
function drawGhost(map, ghost, layers) {
  const { t } = ghost.state;
  const until = map.overTime ? Infinity : t;
  const count = layers.includes("trajectories") ? ghost.counts.trajectories : 0;
  curves(map, PATH, 1.4, 0.9, count, (k) => curve(map, ghost.cloud(), k, until));
  dots(map.view, map.places(t, positions(ghost.cloud(), t)), 2.4, PATH, 0.6);
}

const needsProbe = (layer) => (map, scene, colors) => scene.state.probe && layer(map, scene, colors);

const ORDER = {
  density: (map, scene, colors) => map.density(scene, colors),
  tilted: (map, scene) => map.tilted(scene),
  field: (map, scene, colors) => map.field(scene, colors),
  classes: (map, scene) => map.classes(scene),
  pairs,
  trajectories,
  ticks,
  particles,
  box: drawBox,
  probe: needsProbe(probe), // its fan lies below the names of the others
  jump: needsProbe(jumps),
  stages: needsProbe(fourStages),
  quantities: needsProbe(fiveQuantities),
};

export function drawLayers(map, scene, ghost, colors) {
  map.view.clear();
  map.view.colors = colors;
  const { layers } = scene.state;
  for (const [name, layer] of Object.entries(ORDER)) {
    if (name === "trajectories") {
      dots(map.view, map.places(1, scene.points), 2.6, rgb(DATA), 1);
      if (ghost) drawGhost(map, ghost, layers);
    }
    if (layers.includes(name)) layer(map, scene, colors);
  }
  launched(map, scene, colors);
}
