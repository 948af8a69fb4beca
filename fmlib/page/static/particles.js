// Particles that move: as dots, with the trails behind them, and one of them held under the pointer.

import { DATA, NOISE } from "./colors.js";
import { locate } from "./frames.js";

const HOVER_RADIUS = 14; // CSS pixels
const TURN = 6.2832;

export class Particles {
  // entry: shape [frames, particles, 2] and offset of its bytes in the buffer. coordinate = origin + scale * integer.
  constructor(entry, buffer, times, origin, scale) {
    this.times = times;
    this.count = entry.shape[1];
    this.values = new Uint16Array(buffer, entry.offset, entry.shape[0] * this.count * 2);
    this.origin = origin;
    this.scale = scale;
  }

  // Where t lies: frame i, weight w of the next one, and where these two begin among the values.
  at(t) {
    const [i, w] = locate(this.times, t);
    const a = 2 * i * this.count;
    return { i, w, a, b: a + 2 * this.count };
  }

  // One coordinate of particle k, d = 0 or 1.
  coordinate(k, d, { a, b, w }) {
    const j = 2 * k + d;
    return this.origin[d] + this.scale[d] * (this.values[a + j] * (1 - w) + this.values[b + j] * w);
  }

  pixel(view, k, where) {
    return [view.x(this.coordinate(k, 0, where)), view.y(this.coordinate(k, 1, where))];
  }

  // The trajectory of particle k from the first frame, as lines of the canvas.
  trace(view, k, where) {
    const c = view.context;
    const { values: v, origin, scale } = this;
    for (let f = 0; f <= where.i; f++) {
      const j = 2 * (f * this.count + k);
      const x = view.x(origin[0] + scale[0] * v[j]);
      const y = view.y(origin[1] + scale[1] * v[j + 1]);
      if (f) c.lineTo(x, y);
      else c.moveTo(x, y);
    }
    c.lineTo(...this.pixel(view, k, where));
  }

  // The trajectories of the first `most` particles until t.
  drawTrails(view, t, most, color, width, alpha) {
    const count = Math.min(most, this.count);
    if (!count) return;
    const c = view.context;
    const where = this.at(t);
    c.strokeStyle = color;
    c.globalAlpha = alpha;
    c.lineWidth = width * view.ratio;
    c.beginPath();
    for (let k = 0; k < count; k++) this.trace(view, k, where);
    c.stroke();
    c.globalAlpha = 1;
  }

  drawDots(view, t, size, color) {
    const c = view.context;
    const where = this.at(t);
    const radius = size * view.ratio;
    c.fillStyle = color;
    c.globalAlpha = 0.8;
    c.beginPath();
    for (let k = 0; k < this.count; k++) {
      const [x, y] = this.pixel(view, k, where);
      c.moveTo(x + radius, y);
      c.arc(x, y, radius, 0, TURN);
    }
    c.fill();
    c.globalAlpha = 1;
  }

  // The whole trajectory of particle k, its two ends and where it is.
  drawWay(view, t, k, ink) {
    const c = view.context;
    const [start, end] = [this.at(-Infinity), this.at(Infinity)];
    c.strokeStyle = ink;
    c.lineWidth = 2 * view.ratio;
    c.beginPath();
    this.trace(view, k, end);
    c.stroke();
    c.lineWidth = view.ratio;
    const marks = [[start, 5, `rgb(${NOISE})`], [end, 5, `rgb(${DATA})`], [this.at(t), 3.5, ink]];
    for (const [where, radius, color] of marks) {
      c.fillStyle = color;
      c.beginPath();
      c.arc(...this.pixel(view, k, where), radius * view.ratio, 0, TURN);
      c.fill();
      c.stroke();
    }
  }

  // The particle nearest to a point in canvas pixels, or -1.
  nearest(view, x, y, t) {
    const where = this.at(t);
    let best = -1;
    let least = (HOVER_RADIUS * view.ratio) ** 2;
    for (let k = 0; k < this.count; k++) {
      const [px, py] = this.pixel(view, k, where);
      const d = (px - x) ** 2 + (py - y) ** 2;
      if (d < least) [least, best] = [d, k];
    }
    return best;
  }

  describe(k) {
    const show = (t) => [0, 1].map((d) => this.coordinate(k, d, this.at(t)).toFixed(2)).join(", ");
    return `particle ${k}: x₀ = (${show(-Infinity)}) → x₁ = (${show(Infinity)})`;
  }
}
