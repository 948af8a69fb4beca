// The plane view of a lab: its layers, drawn one over the other on one canvas.

import { arrow, arrowGrid } from "./arrows.js";
import { DATA, MODEL, NOISE, PATH, blend } from "./colors.js";
import { locate } from "./frames.js";
import { ARROWS } from "./lab_scene.js";
import { Shade } from "./shade.js";
import { dots, polyline, strokes } from "./strokes.js";

const REACH = 0.25; // a velocity is drawn as what it moves in a quarter of the time
const FAN = 60; // pairs of the probe that are drawn

// Particle k of a trajectory from its start until t; all of it if t is left out.
function trace(view, c, { ts, states }, k, t = Infinity) {
  const [frame, w] = locate(ts, t);
  for (let f = 0; f <= frame; f++) {
    const [x, y] = [view.x(states[f][2 * k]), view.y(states[f][2 * k + 1])];
    if (f) c.lineTo(x, y);
    else c.moveTo(x, y);
  }
  c.lineTo(...between(states, frame, w, 2 * k).map((v, d) => (d ? view.y(v) : view.x(v))));
}

function between(states, frame, w, at) {
  return [0, 1].map((d) => states[frame][at + d] * (1 - w) + states[frame + 1][at + d] * w);
}

// All particles at t, flat.
export function positions({ ts, states }, t, out) {
  const [frame, w] = locate(ts, t);
  const [a, b] = [states[frame], states[frame + 1]];
  out = out?.length === a.length ? out : new Float64Array(a.length);
  for (let i = 0; i < a.length; i++) out[i] = a[i] * (1 - w) + b[i] * w;
  return out;
}

export class Plane {
  constructor(view) {
    this.view = view;
    this.shade = null;
  }

  // Where the hand holds things.
  spotOfMean(mean) {
    return mean;
  }
  meanOf(x, y) {
    return [x, y];
  }
  spotOfWidth(mean, std) {
    return [mean[0] + std * Math.SQRT1_2, mean[1] - std * Math.SQRT1_2];
  }
  widthOf(mean, x, y) {
    return Math.hypot(x - mean[0], y - mean[1]);
  }
  spotOfProbe(state) {
    return state.probe;
  }
  probeOf(x, y) {
    return { probe: [x, y] };
  }
  startOf(x, y, t) {
    return { t, x: [x, y] };
  }

  draw(scene, layers, colors) {
    const { state } = scene;
    this.view.clear();
    const has = (layer) => layers.includes(layer);
    const cloud = has("particles") || has("trajectories") ? scene.cloud() : null;
    if (has("density")) this.density(scene.density());
    if (has("field")) arrowGrid(this.view, ARROWS, ARROWS, scene.arrows(), colors.faint);
    if (has("pairs")) this.pairs(scene);
    if (has("trajectories")) this.trajectories(scene, cloud, colors);
    if (has("particles")) this.particles(cloud, state.t, colors);
    this.launched(scene, colors);
    return has("probe") && state.probe ? this.probe(scene, colors) : null;
  }

  density(values) {
    const side = Math.sqrt(values.length);
    this.shade ??= new Shade(side, side);
    let most = 1e-300;
    for (const value of values) most = Math.max(most, value);
    this.shade.fill((k) => Math.sqrt(values[k] / most)).draw(this.view);
  }

  particles(cloud, t, colors) {
    this.places = positions(cloud, t, this.places);
    dots(this.view, this.places, 1.5, `rgb(${blend(t, colors.dots)})`, 0.75);
  }

  // What the solver makes of them in green, and the exact ones in the page's ink behind.
  trajectories(scene, cloud, colors) {
    const { trajectories } = scene.counts;
    const { t } = scene.state;
    const all = (made, until) => (c) => {
      for (let k = 0; k < trajectories; k++) trace(this.view, c, made, k, until);
    };
    strokes(this.view, colors.ink, 1, 0.6, all(scene.exact(), t));
    strokes(this.view, MODEL, 1.4, 0.85, all(cloud, t));
  }

  // Pairs of noise and data as they are drawn in training, and the curve between each two.
  pairs(scene) {
    const pairs = scene.independent();
    strokes(this.view, PATH, 1, 0.7, (c) => {
      for (let i = 0; i < scene.counts.pairs; i++) polyline(this.view, c, scene.curve(pairs, i));
    });
    dots(this.view, pairs.x0, 2.2, `rgb(${NOISE})`);
    dots(this.view, pairs.x1, 2.2, `rgb(${DATA})`);
  }

  launched(scene, colors) {
    for (const start of scene.state.launched) {
      for (const made of scene.through(start)) {
        strokes(this.view, colors.ink, 2, 1, (c) => trace(this.view, c, made, 0));
        const end = made.states[made.states.length - 1];
        dots(this.view, end, 4.5, `rgb(${made.ts[made.ts.length - 1] > start.t ? DATA : NOISE})`, 1);
      }
    }
  }

  // The fan of pairs through the point, the cloud of their velocities, and the mean of these, which is the arrow.
  probe(scene, colors) {
    const { view } = this;
    const c = view.context;
    const [px, py] = scene.state.probe;
    const seen = scene.probe();
    const { pairs, velocities, exact } = seen;
    strokes(view, PATH, 1, 0.55, () => {
      for (let i = 0; i < FAN; i++) polyline(view, c, scene.curve(pairs, i));
    });
    dots(view, pairs.x0.subarray(0, 2 * FAN), 2.2, `rgb(${NOISE})`);
    dots(view, pairs.x1.subarray(0, 2 * FAN), 2.2, `rgb(${DATA})`);
    const tips = velocities.map((v, i) => (i % 2 ? py : px) + REACH * v);
    dots(view, tips, 1.4, colors.ink, 0.35);
    const [x, y] = [view.x(px), view.y(py)];
    const [u, v] = [view.x(px + REACH * exact[0]) - x, view.y(py + REACH * exact[1]) - y];
    strokes(view, colors.ink, 3, 1, () => arrow(c, x, y, u, v, 12 * view.ratio));
    return seen;
  }
}
