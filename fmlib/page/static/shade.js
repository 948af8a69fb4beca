// A density as grey shade: numbers on a grid become an image that is stretched over the view.

import { element } from "./controls.js";

const GREY = [128, 128, 128]; // reads on light and on dark pages
const STRONGEST = 0.45;

export class Shade {
  constructor(width, height, color = GREY) {
    this.canvas = element("canvas", { width, height });
    this.context = this.canvas.getContext("2d");
    this.pixels = new ImageData(width, height);
    this.pixels.data.forEach((_, i, data) => (data[i] = color[i % 4]));
  }

  // strength(k): of cell k, 0 to 1; the cells go row by row from the bottom.
  fill(strength) {
    const { width, height, data } = this.pixels;
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < width; column++) {
        const to = (height - 1 - row) * width + column; // an image begins at its top
        data[4 * to + 3] = 255 * STRONGEST * strength(row * width + column);
      }
    }
    this.context.putImageData(this.pixels, 0, 0);
    return this;
  }

  draw(view, alpha = 1) {
    view.context.imageSmoothingEnabled = true;
    view.context.globalAlpha = alpha;
    view.context.drawImage(this.canvas, 0, 0, view.width, view.height);
    view.context.globalAlpha = 1;
  }
}
