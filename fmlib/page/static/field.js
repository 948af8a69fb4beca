// A vector field as arrows, one in each cell of a grid.

import { arrowCells } from "./arrows.js";
import { locate } from "./frames.js";
import { uniform } from "./player_frames.js";

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
    const [i, w] = locate(this.times, t);
    const [a, b] = [i, i + 1].map((f) => Math.min(f, frames - 1) * rows * columns * 2);
    const between = (k) => values[a + k] * (1 - w) + values[b + k] * w;
    arrowCells(view, rows, columns, color, (k, longest) => {
      const reach = longest / this.longest;
      return [between(k) * reach, between(k + 1) * reach];
    });
  }
}
