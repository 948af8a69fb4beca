// The layers of a lab that show what is known at its probe. `map` is the plane or the line.

import { arrow } from "./arrows.js";
import { DATA, MODEL, NOISE, OTHER, PATH, THIRD, WRONG } from "./colors.js";
import { curve, curves, fan, rgb } from "./lab_curves.js";
import { errors, jump, oneStep, pairsThrough, quantities, threeFields } from "./lab_point.js";
import { dots, label, polyline, strokes } from "./strokes.js";

const LONGEST = 3; // of the arrows of guidance, as the scale may be large
const LATE = 0.75; // there is no room for their names behind them
const FAN = 60; // pairs of the probe that are drawn

const at = (map, t, x) => Array.from(map.places(t, Float64Array.from(x)));

// A thick arrow from x at t by `move` in the time dt; its name stands at its tip.
function thick(map, color, t, x, dt, move, name = "") {
  const { view } = map;
  const [x0, y0] = at(map, t, x);
  const [x1, y1] = at(map, t + dt, x.map((v, j) => v + move[j]));
  const [u, v] = [view.x(x1) - view.x(x0), view.y(y1) - view.y(y0)];
  strokes(view, color, 3, 1, (c) => arrow(c, view.x(x0), view.y(y0), u, v, 12 * view.ratio));
  if (name) label(view, name, x1, y1);
}

// Names in the picture, [words, x, y, before] of each; those that would lie upon each other stand below each other.
function names(view, list) {
  const high = (16 * view.ratio) / view.toY;
  const taken = [];
  for (const [words, x, y, before] of list.sort((a, b) => b[2] - a[2])) {
    let free = Math.min(y, view.limits.top - high);
    for (const [otherX, otherY] of taken) {
      if (Math.abs(x - otherX) * view.toX < 110 * view.ratio && otherY - free < high) free = otherY - high;
    }
    taken.push([x, free]);
    label(view, words, x, free, before);
  }
}

// What is within an error of a place; over t the error is one of x alone.
function disc({ view, overTime }, color, [x, y], error) {
  if (!error) return;
  strokes(view, color, 1.2, 1, (c) => {
    const most = view.width + view.height; // without a limit: all of the picture
    const across = overTime ? 6 * view.ratio : Math.min(error * view.toX, most);
    c.ellipse(view.x(x), view.y(y), across, Math.min(error * view.toY, most), 0, 0, 7);
    c.fillStyle = color;
    c.globalAlpha = 0.1;
    c.fill();
    c.globalAlpha = 0.9;
  });
}

// The fan of pairs through the point, the cloud of their velocities, and the mean of these, which is the arrow.
function probe(map, scene, colors) {
  const { t, probe: point } = scene.state;
  const seen = pairsThrough(scene);
  fan(map, scene, seen.pairs, FAN, 0.55);
  const tips = seen.velocities.map((v, i) => point[i % scene.d] + map.reach * v);
  dots(map.view, map.places(t + map.reach, tips), 1.4, colors.ink, 0.35);
  thick(map, colors.ink, t, point, map.reach, seen.exact.map((v) => map.reach * v));
}

// The guesses of noise and data are places; the others are arrows. Around each what is within its error.
function fiveQuantities(map, scene, colors) {
  const { t, probe: point } = scene.state;
  const { x0, x1, u, score, vDiff } = quantities(scene);
  const off = errors(scene);
  const named = [
    [x0, rgb(NOISE), "x₀ = ε", off.epsilon, 0],
    [x1, rgb(DATA), "x₁", off.x1, 1],
    [vDiff, THIRD, "v of diffusion", off.v_diff],
    [score, OTHER, "score", off.score],
    [u, colors.ink, "u", off.velocity],
  ].map(([v, color, name, error, end]) => {
    const scale = map.reach / Math.max(1, Math.hypot(...v) / 4);
    const dt = v === u ? map.reach : 0;
    const guess = end >= 0;
    const move = v.map((x) => scale * x);
    const tip = guess ? at(map, end, v) : at(map, t + dt, point.map((x, j) => x + move[j]));
    disc(map, color, tip, guess ? error : scale * error);
    if (guess) {
      curves(map, color, 1.5, 1, 1, () => [...at(map, t, point), ...tip]);
      dots(map.view, tip, 5, color, 1);
    } else thick(map, color, t, point, dt, move);
    return [name, ...tip];
  });
  names(map.view, named);
}

// The velocities without the class, with it and guided, which lies on the line through the tips of the first two.
function threeArrows(map, scene, colors) {
  const { t, probe: point } = scene.state;
  const { view } = map;
  const fields = threeFields(scene);
  const fastest = Math.max(...fields.map((v) => Math.hypot(...v)));
  const reach = Math.min(map.reach, map.overTime ? Math.max(0.05, 1 - t) : LONGEST / fastest);
  const tips = fields.map((v) => at(map, t + reach, v.map((u, j) => point[j] + reach * u)));
  fields.forEach((v, i) => thick(map, [PATH, rgb(DATA), colors.ink][i], t, point, reach, v.map((u) => reach * u)));
  strokes(view, colors.ink, 1.2, 0.9, (c) => polyline(view, c, tips.flat()));
  const late = map.overTime && t > LATE;
  const [middle] = at(map, t, point); // names do not lie on the arrows
  names(view, tips.map(([x, y], i) => [["v", "v with class", "guided"][i], late ? t - 0.02 : x, y, late || x < middle]));
}

// k1 to k4 of one step from the probe, where each is evaluated; the step's end, and the flow's.
function fourStages(map, scene, colors) {
  const step = oneStep(scene);
  if (!step) return;
  step.calls.forEach(({ t, x, k }, i) => {
    thick(map, MODEL, t, x, step.dt / 2, k.map((v) => (step.dt / 2) * v), `k${"₁₂₃₄"[i]}`);
  });
  const [begin, end] = [at(map, step.t, scene.state.probe), at(map, step.next, step.end)];
  curves(map, MODEL, 1, 1, 1, () => [...begin, ...end]);
  dots(map.view, end, 5, MODEL, 1);
  dots(map.view, at(map, step.next, step.exact), 3.5, colors.ink, 1);
}

// The flow map from the probe, its average velocity as one straight line, and the Euler step that misses.
function jumps(map, scene, colors) {
  const made = jump(scene);
  if (!made) return;
  const [from, to, off] = [at(map, made.t, made.point), at(map, made.until, made.end), at(map, made.until, made.euler)];
  curves(map, colors.ink, 1.2, 0.7, 1, () => curve(map, made.trajectory, 0));
  curves(map, WRONG, 1.5, 1, 1, () => [...from, ...off]);
  thick(map, colors.ink, made.t, made.point, made.until - made.t, made.end.map((v, j) => v - made.point[j]));
  dots(map.view, off, 5, WRONG, 1);
  dots(map.view, to, 5, colors.ink, 1);
}

// In the order in which they lie upon each other: the fan below the names of the others.
export const AROUND_PROBE = { probe, jump: jumps, stages: fourStages, quantities: fiveQuantities, guidance: threeArrows };
export const AT_PROBE = Object.keys(AROUND_PROBE);
