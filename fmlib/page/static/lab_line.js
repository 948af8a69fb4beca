// The line view of a lab, for data in one dimension: t to the right, x upwards, the density behind the curves.

import { arrow } from "./arrows.js";
import { DATA, MODEL, NOISE, PATH, blend } from "./colors.js";
import { locate } from "./frames.js";
import { Shade } from "./shade.js";
import { dots, polyline, strokes } from "./strokes.js";

const REACH = 0.2; // a velocity is drawn over so much time
const FAN = 60; // pairs of the probe that are drawn
const SHADED = [64, 72]; // columns of t, rows of x

// Particle k of a trajectory as points (t, x), until t.
function curve({ ts, states }, k, t = Infinity) {
  const [frame, w] = locate(ts, t);
  const points = [];
  for (let f = 0; f <= frame; f++) points.push(ts[f], states[f][k]);
  points.push(ts[frame] * (1 - w) + ts[frame + 1] * w, states[frame][k] * (1 - w) + states[frame + 1][k] * w);
  return points;
}

export class Line {
  constructor(view) {
    this.view = view;
    view.canvas.style.aspectRatio = "1.7"; // the two axes have nothing in common
    this.shade = new Shade(...SHADED);
  }

  // Where the hand holds things: the data at t = 1, the probe at its own time.
  spotOfMean(mean) {
    return [1, mean[0]];
  }
  meanOf(_, y) {
    return [y];
  }
  spotOfWidth(mean, std) {
    return [1.03, mean[0] + std];
  }
  widthOf(mean, _, y) {
    return Math.abs(y - mean[0]);
  }
  spotOfProbe(state) {
    return [state.t, state.probe[0]];
  }
  probeOf(x, y) {
    return { t: Math.min(1, Math.max(0, x)), probe: [y] };
  }
  startOf(x, y) {
    return { t: Math.min(1, Math.max(0, x)), x: [y] };
  }

  draw(scene, layers, colors) {
    const { view } = this;
    const { t } = scene.state;
    view.clear();
    const has = (layer) => layers.includes(layer);
    if (has("density")) this.density(scene);
    strokes(view, colors.faint, 1, 0.8, (c) => polyline(view, c, [t, view.limits.bottom, t, view.limits.top]));
    if (has("field")) this.field(scene, colors);
    if (has("pairs")) this.pairs(scene);
    const cloud = has("particles") || has("trajectories") ? scene.cloud() : null;
    if (has("trajectories")) this.trajectories(scene, cloud, colors);
    if (has("particles")) this.particles(cloud, t, colors);
    this.launched(scene, colors);
    return has("probe") && scene.state.probe ? this.probe(scene, colors) : null;
  }

  // Each time has its own scale: else the sharp end would leave nothing of the rest.
  density(scene) {
    const [columns, rows] = SHADED;
    const values = scene.densityOverTime(columns, rows);
    if (values) this.shade.fill((k) => Math.sqrt(values[k]));
    const c = this.view.context;
    c.imageSmoothingEnabled = true;
    const [from, to] = [this.view.x(0), this.view.x(1)];
    c.drawImage(this.shade.canvas, from, 0, to - from, this.view.height);
  }

  field(scene, colors) {
    const { view } = this;
    strokes(view, colors.faint, 1, 1, (c) => {
      for (const [t, x, u] of scene.arrowsOverTime()) {
        const [dx, dy] = [0.03 * view.toX, -0.03 * u * view.toY];
        const length = Math.min(1, (18 * view.ratio) / Math.hypot(dx, dy));
        arrow(c, view.x(t) - (dx * length) / 2, view.y(x) - (dy * length) / 2, dx * length, dy * length);
      }
    });
  }

  particles(cloud, t, colors) {
    const n = cloud.states[0].length;
    const [frame, w] = locate(cloud.ts, t);
    const points = new Float64Array(2 * n);
    for (let k = 0; k < n; k++) points.set([t, cloud.states[frame][k] * (1 - w) + cloud.states[frame + 1][k] * w], 2 * k);
    dots(this.view, points, 1.8, `rgb(${blend(t, colors.dots)})`, 0.5);
  }

  trajectories(scene, cloud, colors) {
    const { trajectories } = scene.counts;
    const all = (made) => (c) => {
      for (let k = 0; k < trajectories; k++) polyline(this.view, c, curve(made, k));
    };
    strokes(this.view, colors.ink, 1, 0.6, all(scene.exact()));
    strokes(this.view, MODEL, 1.4, 0.85, all(cloud));
  }

  pairs(scene) {
    const pairs = scene.independent();
    strokes(this.view, PATH, 1, 0.7, (c) => {
      for (let i = 0; i < scene.counts.pairs; i++) polyline(this.view, c, scene.curveOverTime(pairs, i));
    });
  }

  launched(scene, colors) {
    for (const start of scene.state.launched) {
      for (const made of scene.through(start)) {
        strokes(this.view, colors.ink, 2, 1, (c) => polyline(this.view, c, curve(made, 0)));
      }
    }
  }

  // The fan of pairs through the point, and the mean of their slopes, which is the arrow.
  probe(scene, colors) {
    const { view } = this;
    const { t, probe } = scene.state;
    const seen = scene.probe();
    strokes(view, PATH, 1, 0.55, (c) => {
      for (let i = 0; i < FAN; i++) polyline(view, c, scene.curveOverTime(seen.pairs, i));
    });
    const ends = (x, values) => Float64Array.from({ length: 2 * FAN }, (_, i) => (i % 2 ? values[i >> 1] : x));
    dots(view, ends(0, seen.pairs.x0), 2.2, `rgb(${NOISE})`);
    dots(view, ends(1, seen.pairs.x1), 2.2, `rgb(${DATA})`);
    const [u, v] = [REACH * view.toX, -REACH * seen.exact[0] * view.toY];
    strokes(view, colors.ink, 3, 1, (c) => arrow(c, view.x(t), view.y(probe[0]), u, v, 12 * view.ratio));
    return seen;
  }
}
