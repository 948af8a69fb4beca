// A vector field as arrows, one in each cell of a grid.

import { arrow } from "./arrows.js";
import { locate, uniform } from "./frames.js";

export class Field {
  // entry: shape [frames, rows, columns, 2], offset of its bytes in the buffer, and the integer of the longest arrow.
  constructor(entry, buffer, ts) {
    this.shape = entry.shape;
    this.longest = entry.longest;
    this.times = uniform(ts, Math.max(2, entry.shape[0]));
    this.values = new Int8Array(buffer, entry.offset, entry.shape.reduce((a, b) => a * b));
  }

  draw(view, t, color) {
    const [frames, rows, columns] = this.shape;
    const { values } = this;
    const c = view.context;
    const [i, w] = locate(this.times, t);
    const [a, b] = [i, i + 1].map((f) => Math.min(f, frames - 1) * rows * columns * 2);
    const cellX = view.width / columns;
    const cellY = view.height / rows;
    const reach = (1.1 * Math.min(cellX, cellY)) / this.longest; // the longest arrow fills its cell
    c.strokeStyle = color;
    c.lineWidth = view.ratio;
    c.beginPath();
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const k = 2 * (row * columns + column);
        const u = (values[a + k] * (1 - w) + values[b + k] * w) * reach;
        const v = -(values[a + k + 1] * (1 - w) + values[b + k + 1] * w) * reach;
        arrow(c, (column + 0.5) * cellX - u / 2, view.height - (row + 0.5) * cellY - v / 2, u, v);
      }
    }
    c.stroke();
  }
}
