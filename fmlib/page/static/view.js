// A canvas that shows a rectangle of the plane.

import { element } from "./controls.js";

export class View {
  // limits: [left, right, bottom, top]. name: for screen readers.
  constructor(limits, parent, name) {
    const [left, right, bottom, top] = limits;
    this.limits = { left, right, bottom, top };
    this.canvas = element("canvas", { role: "img", tabindex: "0", "aria-label": name }, parent);
    this.canvas.style.aspectRatio = `${right - left} / ${top - bottom}`;
    this.context = this.canvas.getContext("2d");
  }

  // An empty canvas with one pixel for each of the screen.
  clear() {
    const { canvas, context } = this;
    this.ratio = window.devicePixelRatio || 1; // canvas pixels per CSS pixel
    this.width = Math.max(1, Math.round(canvas.clientWidth * this.ratio));
    this.height = Math.max(1, Math.round(canvas.clientHeight * this.ratio));
    if (canvas.width !== this.width || canvas.height !== this.height) {
      canvas.width = this.width;
      canvas.height = this.height;
    }
    const { left, right, bottom, top } = this.limits;
    this.toX = this.width / (right - left);
    this.toY = this.height / (top - bottom);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
  }

  // Canvas pixels of a coordinate.
  x(coordinate) {
    return (coordinate - this.limits.left) * this.toX;
  }
  y(coordinate) {
    return (this.limits.top - coordinate) * this.toY;
  }

  // Canvas pixels of a place in the window, as events tell it.
  pixel(clientX, clientY) {
    const box = this.canvas.getBoundingClientRect();
    return [(clientX - box.left) * this.ratio, (clientY - box.top) * this.ratio];
  }

  // The coordinates of a place in the window.
  point(clientX, clientY) {
    const box = this.canvas.getBoundingClientRect();
    const { left, right, bottom, top } = this.limits;
    const across = (clientX - box.left) / box.width;
    const down = (clientY - box.top) / box.height;
    return [left + (right - left) * across, top - (top - bottom) * down];
  }
}
