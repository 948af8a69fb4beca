// A density as grey shade, frame by frame.

import { element } from "./controls.js";
import { locate, uniform } from "./frames.js";

export class Density {
  // entry: shape [frames, rows, columns] and offset of its bytes in the buffer; row 0 is the bottom.
  constructor(entry, buffer, ts) {
    const [frames, height, width] = entry.shape;
    const bytes = new Uint8Array(buffer, entry.offset, frames * height * width);
    this.times = uniform(ts, Math.max(2, frames));
    this.images = [];
    for (let f = 0; f < frames; f++) {
      this.images.push(picture(bytes.subarray(f * height * width, (f + 1) * height * width), width, height));
    }
  }

  draw(view, t) {
    const { images, times } = this;
    const c = view.context;
    const [i, w] = locate(times, t);
    const [before, after] = [i, i + 1].map((f) => images[Math.min(f, images.length - 1)]);
    c.imageSmoothingEnabled = true;
    c.globalAlpha = 1 - w;
    c.drawImage(before, 0, 0, view.width, view.height);
    c.globalAlpha = w;
    c.drawImage(after, 0, 0, view.width, view.height);
    c.globalAlpha = 1;
  }
}

function picture(bytes, width, height) {
  const image = element("canvas");
  image.width = width;
  image.height = height;
  const pixels = new ImageData(width, height);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const to = 4 * ((height - 1 - row) * width + column); // an image begins at its top
      pixels.data.set([128, 128, 128, 0.45 * bytes[row * width + column]], to);
    }
  }
  image.getContext("2d").putImageData(pixels, 0, 0);
  return image;
}
