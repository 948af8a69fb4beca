// A density as grey shade, frame by frame.

import { locate } from "./frames.js";
import { uniform } from "./player_frames.js";
import { Shade } from "./shade.js";

export class Density {
  // entry: shape [frames, rows, columns] and offset of its bytes in the buffer; row 0 is the bottom.
  constructor(entry, buffer, ts) {
    const [frames, height, width] = entry.shape;
    const bytes = new Uint8Array(buffer, entry.offset, frames * height * width);
    this.times = uniform(ts, Math.max(2, frames));
    this.images = Array.from({ length: frames }, (_, f) =>
      new Shade(width, height).fill((k) => bytes[f * height * width + k] / 255),
    );
  }

  draw(view, t) {
    const { images, times } = this;
    const [i, w] = locate(times, t);
    const [before, after] = [i, i + 1].map((f) => images[Math.min(f, images.length - 1)]);
    before.draw(view, 1 - w);
    after.draw(view, w);
  }
}
