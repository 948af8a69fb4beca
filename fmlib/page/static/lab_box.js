// A box in a lab: its handles, its walls with what flows through them, and its balance in words.

import { arrow } from "./arrows.js";
import { fluxIntoBox, massInBox, massRate } from "./flow_box.js";
import { logProb } from "./flow_mixture.js";
import { Handle } from "./lab_handles.js";
import { polyline, strokes } from "./strokes.js";

const ARROWS_ON_WALL = 7; // arrows
const LEAST = 0.1; // side of a box that a hand makes

// The places on the walls: { x, axis, inwards } of each.
function walls(box) {
  const d = box.length / 2;
  return Array.from({ length: 2 * d }, (_, side) => side).flatMap((side) => {
    const axis = side >> 1;
    const [low, high] = box.slice(2 - 2 * axis, 4 - 2 * axis);
    return Array.from({ length: d === 2 ? ARROWS_ON_WALL : 1 }, (_, i) => {
      const along = low + ((high - low) * (i + 0.5)) / ARROWS_ON_WALL;
      const x = d === 1 ? [box[side]] : axis ? [along, box[side]] : [box[side], along];
      return { x, axis, inwards: side % 2 ? -1 : 1 };
    });
  });
}

export function drawBox(map, scene, colors) {
  const { view } = map;
  const { t, box } = scene.state;
  if (!box) return;
  const [[left, bottom], [right, top]] = map.cornersOfBox(scene.state);
  strokes(view, colors.ink, 2.5, 1, (c) => polyline(view, c, [left, bottom, right, bottom, right, top, left, top, left, bottom]));
  const places = walls(box);
  const points = Float64Array.from(places.flatMap(({ x }) => x));
  const u = scene.field(t, points, new Float64Array(points.length));
  const density = logProb(scene.data, scene.path, t, points);
  const flux = places.map(({ axis }, i) => Math.exp(density[i]) * u[scene.d * i + axis]);
  const most = Math.max(...flux.map(Math.abs), 1e-12);
  strokes(view, colors.ink, 2, 1, (c) => {
    places.forEach(({ x, axis }, i) => {
      const length = (30 * view.ratio * flux[i]) / most;
      if (Math.abs(length) < 2 * view.ratio) return;
      const [px, py] = map.places(t, Float64Array.from(x));
      const [across, up] = scene.d === 2 && axis === 0 ? [length, 0] : [0, length];
      arrow(c, view.x(px) - across / 2, view.y(py) + up / 2, across, -up);
    });
  });
}

export function boxInWords(scene) {
  const { t, box } = scene.state;
  const { data } = scene;
  if (!box) return "";
  const [mass, rate] = [massInBox, massRate].map((f) => f(data, scene.path, t, box));
  const flux = fluxIntoBox(data, scene.path, scene.field, t, box);
  const signed = (v) => (v < 0 ? "" : "+") + v.toFixed(3);
  const verdict = Math.abs(rate - flux) > 0.005 ? " They differ: this field does not make this density." : "";
  return `The box holds ${(100 * mass).toFixed(1)} % of the mass. It gains ${signed(rate)} per unit of time; ` +
    `through the walls flows ${signed(flux)}.${verdict}`;
}

// The middle moves the box, its upper right corner makes it larger or smaller.
export function boxHandles(lab) {
  const { view, box, map } = lab;
  const corners = () => map.cornersOfBox(lab.state);
  const set = (low, high) => lab.set({ box: map.boxOf(low, high) });
  const of = (name, kind, spot, move) => new Handle(view, box, name, kind, {
    spot, move, start: () => lab.keep(), done: () => lab.commit(),
  });
  const middle = () => corners().reduce(([a, b], [x, y]) => [a + x / 2, b + y / 2], [0, 0]);
  return [
    of("box", "box", middle, (x, y) => {
      const [mx, my] = middle();
      set(...corners().map(([a, b]) => [a + x - mx, b + y - my]));
    }),
    of("box, upper corner", "corner", () => corners()[1], (x, y) => {
      const [low] = corners();
      set(low, [Math.max(x, low[0] + LEAST), Math.max(y, low[1] + LEAST)]);
    }),
  ];
}
