// Two fingers on a lab: they make the component between them wider or narrower.

import { nearest, setWidth } from "./lab_components.js";

// grab: the drag of a crowd, which ends when the second finger comes.
export function pinching(lab, grab) {
  const fingers = new Map(); // by pointer: where it is
  let held = null; // { k, std, apart } when the second finger came

  const apart = () => {
    const [[ax, ay], [bx, by]] = fingers.values();
    return Math.hypot(ax - bx, ay - by);
  };

  function begin() {
    const [[ax, ay], [bx, by]] = fingers.values();
    const middle = lab.view.point((ax + bx) / 2, (ay + by) / 2);
    const k = nearest(lab, middle);
    for (const { drop } of [...lab.handles, grab]) drop();
    lab.keep();
    held = { k, std: lab.state.mixture.stds[k], apart: apart() };
  }

  const end = (event) => {
    fingers.delete(event.pointerId);
    if (!held) return;
    held = null;
    lab.commit();
  };
  lab.box.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "touch") return;
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    if (fingers.size === 2) begin();
  }, true);
  lab.box.addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId)) return;
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    if (held) setWidth(lab, held.k, (held.std * apart()) / held.apart);
  }, true);
  lab.box.addEventListener("pointerup", end, true);
  lab.box.addEventListener("pointercancel", end, true);
  for (const kind of ["touchstart", "touchmove"]) { // else the browser takes both fingers and makes the page larger
    lab.box.addEventListener(kind, (event) => event.touches.length > 1 && event.preventDefault(), { passive: false });
  }
}
