// In a crowd, which has no handles, the hand takes the component that is nearest to it.

import { isCrowd, moveMean, nearest } from "./lab_components.js";
import { onDrag } from "./lab_handles.js";

const REACH = 24; // CSS pixels
const CLICK = 4; // less is none of a drag

export function grabbing(lab) {
  const { view, map } = lab;
  const { canvas } = view;
  let held = null; // where it began, the component, and from the pointer to its centre
  let moved = false;

  const begin = ({ clientX, clientY }) => {
    moved = false;
    const { means } = lab.state.mixture;
    if (!isCrowd(means) || lab.controls.draw?.on()) return false;
    const at = view.point(clientX, clientY);
    const k = nearest(lab, at);
    const offset = map.spotOfMean(means[k]).map((v, j) => v - at[j]);
    held = { k, offset, clientX, clientY };
    return Math.hypot(offset[0] * view.toX, offset[1] * view.toY) < REACH * view.ratio;
  };
  const move = ({ clientX, clientY }) => {
    if (!moved && Math.hypot(clientX - held.clientX, clientY - held.clientY) < CLICK) return;
    if (!moved) lab.keep();
    moved = true;
    const [x, y] = view.point(clientX, clientY);
    moveMean(lab, held.k, x + held.offset[0], y + held.offset[1]);
  };
  const drag = onDrag(canvas, begin, move, () => moved && lab.commit());
  canvas.addEventListener("click", (event) => moved && event.stopImmediatePropagation(), true);
  canvas.addEventListener("touchmove", (event) => drag.on() && event.preventDefault(), { passive: false }); // no scrolling
  return drag;
}
