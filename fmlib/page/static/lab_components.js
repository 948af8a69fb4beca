// The components of a lab's mixture under the hand: moved, widened, weighed, added and removed.

import { clamp } from "./controls.js";
import { Handle } from "./lab_handles.js";

const SLIMMEST = 0.03; // of a width that a hand makes
const MOST_HELD = 12; // components that have handles, and that a hand adds
const [NEAR, SHARE] = [0.35, 1.5]; // a weight handle stands so far above its centre, and more for its share of the mass

function change(lab, part) {
  const { means, stds, weights } = lab.state.mixture;
  const copy = { means: means.map((m) => [...m]), stds: [...stds], weights: [...weights] };
  part(copy);
  lab.set({ mixture: copy });
}

export function setWidth(lab, k, std) {
  change(lab, ({ stds }) => (stds[k] = Math.max(SLIMMEST, std)));
}

// The weight of component k so that it has this share of the mass; the others keep their ratios.
function setShare(lab, k, share) {
  change(lab, ({ weights }) => {
    const others = weights.reduce((sum, w, i) => (i === k ? sum : sum + w), 0);
    const s = clamp(share, 0.01, 0.99);
    if (others > 0) weights[k] = (others * s) / (1 - s);
  });
}

export const isCrowd = (means) => means.length > MOST_HELD;

export function moveMean(lab, k, x, y) {
  change(lab, ({ means }) => (means[k] = lab.map.meanOf(x, y)));
}

// The component whose centre is nearest to a place in the picture.
export function nearest(lab, [x, y]) {
  const far = lab.state.mixture.means.map((mean) => {
    const [px, py] = lab.map.spotOfMean(mean);
    return Math.hypot((px - x) * lab.view.toX, (py - y) * lab.view.toY);
  });
  return far.indexOf(Math.min(...far));
}

// The handles of all components: centre, width and, where the lesson asks for it, weight. None in a crowd.
export function mixtureHandles(lab) {
  const { means } = lab.state.mixture;
  return isCrowd(means) ? [] : means.flatMap((_, k) => componentHandles(lab, k));
}

function componentHandles(lab, k) {
  const { view, box, map } = lab;
  const of = () => lab.state.mixture;
  const name = `component ${k + 1}`;
  const widen = (factor) => () => setWidth(lab, k, of().stds[k] * factor);
  const weigh = (factor) => () => change(lab, ({ weights }) => (weights[k] *= factor));
  const keys = { "+": widen(1.1), "=": widen(1.1), "-": widen(1 / 1.1), "]": weigh(1.2), "[": weigh(1 / 1.2) };
  const removal = () => removeComponent(lab, k);
  const hand = { start: () => lab.keep(), done: () => lab.commit() };
  const centre = new Handle(view, box, `${name}, centre`, "centre", {
    ...hand, keys: { ...keys, Delete: removal, Backspace: removal },
    spot: () => map.spotOfMean(of().means[k]),
    move: (x, y) => moveMean(lab, k, x, y),
  });
  const width = new Handle(view, box, `${name}, width`, "width", {
    ...hand, keys,
    spot: () => map.spotOfWidth(of().means[k], of().stds[k]),
    move: (x, y) => setWidth(lab, k, map.widthOf(of().means[k], x, y)),
  });
  centre.node.addEventListener("wheel", (event) => {
    event.preventDefault();
    lab.keep();
    widen(event.deltaY < 0 ? 1.05 : 1 / 1.05)();
    lab.commit();
  }, { passive: false });
  if (!lab.has("weights")) return [centre, width];
  return [centre, width, new Handle(view, box, `${name}, weight`, "weight", {
    ...hand, keys,
    spot: () => map.spotOfWeight(of().means[k], NEAR + SHARE * of().weights[k]),
    move: (x, y) => setShare(lab, k, (map.weightOf(of().means[k], x, y) - NEAR) / SHARE),
  })];
}

export function addComponent(lab) {
  const { means, stds, weights } = lab.state.mixture;
  if (means.length >= MOST_HELD) return lab.say(`there are ${means.length} components already`);
  const mean = weights.reduce((a, b) => a + b) / weights.length;
  lab.change({ mixture: { means: [...means, means[0].map(() => 0)], stds: [...stds, 0.4], weights: [...weights, mean] } });
  lab.handles.find((handle) => handle.node.title === `component ${means.length + 1}, centre`)?.node.focus();
}

function removeComponent(lab, k) {
  const { means, stds, weights } = lab.state.mixture;
  if (means.length === 1) return lab.say("one component must stay");
  const without = (list) => list.filter((_, i) => i !== k);
  const mixture = { means: without(means), stds: without(stds), weights: without(weights) };
  lab.change({ mixture, condition: [] });
  lab.handles[0]?.node.focus(); // not nowhere, for those who use keys
}
