// The plane view of a lab: two coordinates, at the time t.

import { arrowGrid, fastest } from "./arrows.js";
import { DATA, PATH } from "./colors.js";
import { ARROWS, CLASS_ARROWS } from "./lab_scene.js";
import { Shade } from "./shade.js";

export class Plane {
  constructor(view) {
    this.view = view;
    this.reach = 0.25; // a velocity is drawn as what it moves in so much time
    this.overTime = false;
    this.shades = {};
  }

  // Where point k of a state at time t is in the picture: two numbers more in `points`.
  put(points, t, state, k) {
    points.push(state[2 * k], state[2 * k + 1]);
  }
  places(t, state) {
    return state;
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
  spotOfWeight(mean, length) {
    return [mean[0] - length, mean[1]];
  }
  weightOf(mean, x) {
    return mean[0] - x;
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
  // A box: its corners in the picture, as [x, y] of the lower left and the upper right one, and back.
  cornersOfBox({ box: [left, right, bottom, top] }) {
    return [[left, bottom], [right, top]];
  }
  boxOf([left, bottom], [right, top]) {
    return [left, right, bottom, top];
  }

  density(scene) {
    this.shade("density", scene.density());
  }

  // What guidance is often said to sample, in orange.
  tilted(scene) {
    this.shade("tilted", scene.tilted(), DATA);
  }

  shade(name, values, color) {
    const side = Math.sqrt(values.length);
    this.shades[name] ??= new Shade(side, side, color);
    let most = 1e-300;
    for (const value of values) most = Math.max(most, value);
    this.shades[name].fill((k) => Math.sqrt(values[k] / most)).draw(this.view);
  }

  field(scene, colors) {
    arrowGrid(this.view, ARROWS, ARROWS, scene.arrows(), colors.faint);
  }

  // The fields without and with the class, to one scale.
  classes(scene) {
    const both = [scene.own, scene.conditional ?? scene.own].map((field) => scene.arrows(CLASS_ARROWS, field));
    const most = Math.max(...both.map(fastest));
    [PATH, `rgb(${DATA})`].forEach((color, i) => arrowGrid(this.view, CLASS_ARROWS, CLASS_ARROWS, both[i], color, most));
  }
}
