// The components of a lab's mixture under the hand: moved, widened, weighed, added and removed.

import { Handle } from "./lab_handles.js";

const NARROWEST = 0.03; // of a width that a hand makes
const MOST = 12; // components that a hand adds

// The two handles of component k: its centre, and its width.
export function componentHandles(lab, k) {
  const { view, box, plane } = lab;
  const name = `component ${k + 1}`;
  const change = (part) => {
    const { means, stds, weights } = lab.state.mixture;
    const copy = { means: means.map((m) => [...m]), stds: [...stds], weights: [...weights] };
    part(copy);
    lab.set({ mixture: copy });
  };
  const widen = (factor) => () => change(({ stds }) => (stds[k] = Math.max(NARROWEST, stds[k] * factor)));
  const weigh = (factor) => () => change(({ weights }) => (weights[k] *= factor));
  const keys = { "+": widen(1.1), "=": widen(1.1), "-": widen(1 / 1.1), "]": weigh(1.2), "[": weigh(1 / 1.2) };
  const removal = () => removeComponent(lab, k);
  const start = () => lab.keep();
  const done = () => lab.commit();
  const centre = new Handle(view, box, `${name}, centre`, "centre", {
    spot: () => plane.spotOfMean(lab.state.mixture.means[k]),
    move: (x, y) => change(({ means }) => (means[k] = plane.meanOf(x, y))),
    start, done, keys: { ...keys, Delete: removal, Backspace: removal },
  });
  const width = new Handle(view, box, `${name}, width`, "width", {
    spot: () => plane.spotOfWidth(lab.state.mixture.means[k], lab.state.mixture.stds[k]),
    move: (x, y) => change(({ means, stds }) => (stds[k] = Math.max(NARROWEST, plane.widthOf(means[k], x, y)))),
    start, done, keys,
  });
  centre.node.addEventListener("wheel", (event) => {
    event.preventDefault();
    widen(event.deltaY < 0 ? 1.05 : 1 / 1.05)();
    done();
  }, { passive: false });
  return [centre, width];
}

export function addComponent(lab) {
  const { means, stds, weights } = lab.state.mixture;
  if (means.length >= MOST) return lab.say(`there are ${MOST} components already`);
  const mean = weights.reduce((a, b) => a + b) / weights.length;
  lab.change({ mixture: { means: [...means, means[0].map(() => 0)], stds: [...stds, 0.4], weights: [...weights, mean] } });
  lab.handles.find((handle) => handle.node.title === `component ${means.length + 1}, centre`)?.node.focus();
}

function removeComponent(lab, k) {
  const { means, stds, weights } = lab.state.mixture;
  if (means.length === 1) return lab.say("one component must stay");
  const without = (list) => list.filter((_, i) => i !== k);
  lab.change({ mixture: { means: without(means), stds: without(stds), weights: without(weights) } });
  lab.handles[0].node.focus(); // not nowhere, for those who use keys
}
