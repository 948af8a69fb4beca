// The line view of a lab, for data in one dimension: t to the right, x upwards, the density behind the curves.

import { arrow } from "./arrows.js";
import { DATA, PATH } from "./colors.js";
import { clamp } from "./controls.js";
import { Shade } from "./shade.js";
import { polyline, strokes } from "./strokes.js";

const SHADED = [64, 72]; // columns of t, rows of x

export class Line {
  constructor(view) {
    this.view = view;
    this.reach = 0.2;
    this.overTime = true;
    this.shades = {};
    view.canvas.style.aspectRatio = "1.7"; // the two axes have nothing in common
  }

  put(points, t, state, k) {
    points.push(t, state[k]);
  }
  places(t, state) {
    const points = new Float64Array(2 * state.length);
    state.forEach((x, k) => ((points[2 * k] = t), (points[2 * k + 1] = x)));
    return points;
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
  spotOfWeight(mean, length) {
    return [0.97, mean[0] + length];
  }
  weightOf(mean, _, y) {
    return y - mean[0];
  }
  spotOfProbe(state) {
    return [state.t, state.probe[0]];
  }
  probeOf(x, y) {
    return { t: clamp(x, 0, 1), probe: [y] };
  }
  startOf(x, y) {
    return { t: clamp(x, 0, 1), x: [y] };
  }
  cornersOfBox({ t, box: [low, high] }) {
    return [[t, low], [t, high]];
  }
  boxOf([, low], [, high]) {
    return [low, high];
  }

  density(scene, colors) {
    this.shade("density", scene);
    const { bottom, top } = this.view.limits;
    strokes(this.view, colors.faint, 1, 0.8, (c) => polyline(this.view, c, [scene.state.t, bottom, scene.state.t, top]));
  }

  tilted(scene) {
    this.shade("tilted", scene, DATA);
  }

  // Each time has its own scale: else the sharp end would leave nothing of the rest.
  shade(name, scene, color) {
    const values = scene.overTime(name, ...SHADED);
    this.shades[name] ??= new Shade(...SHADED, color);
    if (values) this.shades[name].fill((k) => Math.sqrt(values[k]));
    const c = this.view.context;
    c.imageSmoothingEnabled = true;
    const [from, to] = [this.view.x(0), this.view.x(1)];
    c.drawImage(this.shades[name].canvas, from, 0, to - from, this.view.height);
  }

  field(scene, colors) {
    this.arrows(scene.arrowsOverTime(), colors.faint);
  }

  classes(scene) {
    this.arrows(scene.arrowsOverTime(scene.own), PATH);
    this.arrows(scene.arrowsOverTime(scene.conditional ?? scene.own), `rgb(${DATA})`);
  }

  arrows(values, color) {
    const { view } = this;
    strokes(view, color, 1, 1, (c) => {
      for (const [t, x, u] of values) {
        const [dx, dy] = [0.03 * view.toX, -0.03 * u * view.toY];
        const length = Math.min(1, (18 * view.ratio) / Math.hypot(dx, dy));
        arrow(c, view.x(t) - (dx * length) / 2, view.y(x) - (dy * length) / 2, dx * length, dy * length);
      }
    });
  }
}
