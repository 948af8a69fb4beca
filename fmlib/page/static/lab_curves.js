// Curves of a lab, the same in the plane and over t. `map` is one of the two.

import { DATA, NOISE, PATH } from "./colors.js";
import { locate } from "./frames.js";
import { dots, polyline, strokes } from "./strokes.js";

export const rgb = (color) => `rgb(${color})`;

// Particle k of a trajectory from its start until t, as coordinates in the picture.
export function curve(map, { ts, states }, k, t = Infinity) {
  const [frame, w] = locate(ts, t);
  const points = [];
  for (let f = 0; f <= frame; f++) map.put(points, ts[f], states[f], k);
  const last = [];
  map.put(last, ts[frame], states[frame], k);
  map.put(last, ts[frame + 1], states[frame + 1], k);
  points.push(last[0] * (1 - w) + last[2] * w, last[1] * (1 - w) + last[3] * w);
  return points;
}

export function curves(map, color, width, alpha, count, of) {
  strokes(map.view, color, width, alpha, (c) => {
    for (let k = 0; k < count; k++) polyline(map.view, c, of(k));
  });
}

export function fan(map, scene, { x0, x1 }, count, alpha) {
  curves(map, PATH, 1, alpha, count, (i) => curve(map, scene.curve({ x0, x1 }, i), 0));
  const first = (t, x) => map.places(t, x.subarray(0, count * scene.d));
  dots(map.view, first(0, x0), 2.2, rgb(NOISE));
  dots(map.view, first(1, x1), 2.2, rgb(DATA));
}
