// Distributions to choose from, and one that a hand draws: its strokes become small Gaussians.

import { clamp } from "./controls.js";
import { onDrag } from "./lab_handles.js";

export const MOST_DRAWN = 200; // components
const APART = 0.12; // along a stroke
const WIDTH = 0.1;
const POINT = 0.01; // the width of what stands for a single point: a GaussianMixture of Python has none of width 0

const circle = (n, radius, std) => {
  const at = (k) => [radius * Math.cos((2 * Math.PI * k) / n), radius * Math.sin((2 * Math.PI * k) / n)];
  return equal(Array.from({ length: n }, (_, k) => at(k)), std);
};

function equal(means, std) {
  return { means, stds: means.map(() => std), weights: means.map(() => 1) };
}

const along = (n, point, std) => equal(Array.from({ length: n }, (_, k) => point((k + 0.5) / n)), std);

const moon = (s) => [Math.cos(Math.PI * s), Math.sin(Math.PI * s)];

export const PRESETS = {
  "two clumps": () => equal([[-1.5, 0], [1.5, 0]], 0.4),
  "eight on a circle": () => circle(8, 2, 0.2),
  "two moons": () => equal([...along(24, moon).means, ...along(24, (s) => moon(s).map((v, j) => (j ? 0.4 - v : 1 - v))).means]
    .map(([x, y]) => [1.5 * (x - 0.5), 1.5 * (y - 0.2)]), 0.12),
  spiral: () => along(60, (s) => [0.4 + 2 * s, 0].map((r, j, [radius]) => radius * (j ? Math.sin(9 * s) : Math.cos(9 * s))), 0.1),
  ring: () => circle(40, 1.8, 0.12),
  "nine points": () => equal([-1.6, 0, 1.6].flatMap((x) => [-1.6, 0, 1.6].map((y) => [x, y])), POINT),
};

// A button that lets the hand draw. While it is pressed, strokes on the picture become the data; the first one replaces
// what was there.
export function drawing(lab, button) {
  const { canvas } = lab.view;
  let [pen, fresh] = [null, true]; // where the stroke was last; whether the next one replaces the data
  const on = () => button.getAttribute("aria-pressed") === "true";
  button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", () => {
    fresh = !on();
    button.setAttribute("aria-pressed", String(fresh));
    lab.root.classList.toggle("fm-drawing", fresh);
    lab.say(fresh ? "Draw on the picture: the stroke becomes the data." : "");
  });
  const add = (point) => {
    pen = point;
    const { means } = fresh ? { means: [] } : lab.state.mixture;
    if (means.length >= MOST_DRAWN) return lab.say(`${MOST_DRAWN} small Gaussians are drawn: that is all`);
    fresh = false;
    lab.set({ mixture: equal([...means, point], WIDTH), condition: [] });
  };
  const place = (event) => {
    const { left, right, bottom, top } = lab.view.limits;
    const [x, y] = lab.view.point(event.clientX, event.clientY);
    return [clamp(x, left, right), clamp(y, bottom, top)];
  };
  const begin = (event) => {
    if (!on()) return false;
    lab.keep();
    add(place(event));
    return true;
  };
  onDrag(canvas, begin, (event) => {
    const to = place(event);
    for (let length = Math.hypot(to[0] - pen[0], to[1] - pen[1]); length >= APART; length -= APART) {
      add(pen.map((v, j) => v + ((to[j] - v) * APART) / length));
    }
  }, () => {
    lab.buildHandles();
    lab.commit();
  });
  return { on };
}
