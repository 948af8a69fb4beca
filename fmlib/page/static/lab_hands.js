// All handles of a lab: the mixture's, the box's, the probe's.

import { AT_PROBE } from "./lab_arrows.js";
import { boxHandles } from "./lab_box.js";
import { mixtureHandles } from "./lab_components.js";
import { Handle } from "./lab_handles.js";

// New ones in the place of the old; the one that had the focus has it again.
export function handlesOf(lab) {
  const held = document.activeElement;
  const name = lab.box.contains(held) && held.classList.contains("fm-handle") ? held.title : null;
  for (const handle of lab.handles) handle.remove();
  const { layers, probe, box } = lab.state;
  const handles = lab.has("mixture") ? mixtureHandles(lab) : [];
  if (layers.includes("box") && box) handles.push(...boxHandles(lab));
  if (probe && layers.some((layer) => AT_PROBE.includes(layer))) {
    handles.push(new Handle(lab.view, lab.box, "probe", "probe", {
      spot: () => lab.map.spotOfProbe(lab.state),
      move: (x, y) => lab.set(lab.map.probeOf(x, y)),
      start: () => lab.keep(),
      done: () => lab.commit(),
    }));
  }
  if (name) handles.find((handle) => handle.node.title === name)?.node.focus({ preventScroll: true });
  return handles;
}
