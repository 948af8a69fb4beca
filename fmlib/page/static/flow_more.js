// What pages ask of the engine and a lab does not: a lab is stored with every notebook, and each byte of it too.

import { gridPoints } from "./flow_grids.js";
import { flowMap } from "./flow_maps.js";
import { velocity } from "./flow_mixture.js";

// (X_{s,t}(x) - x) / (t - s); at t = s its limit, the velocity.
export function averageVelocity(field, x, s, t, { out = new Float64Array(x.length), ...options } = {}) {
  flowMap(field, x, s, t, { ...options, out });
  if (s === t) field(t, x, out);
  else for (let i = 0; i < x.length; i++) out[i] = (out[i] - x[i]) / (t - s);
  return out;
}

// u_t at the points of gridPoints(xs, ys), which may be handed in as `points`.
export function gridField(mixture, path, t, xs, ys, out, points = gridPoints(xs, ys)) {
  return velocity(mixture, path, t, points, out);
}
