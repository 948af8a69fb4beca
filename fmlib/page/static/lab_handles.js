// Handles: small buttons over the picture that a pointer drags and keys move. In the tab order, with names.

import { element, onKeys } from "./controls.js";

const STEP = 0.1; // of a key; with Shift a tenth of it

// A drag on a node with the first button. start(event): whether it begins; move(event) while it lasts; end() after it.
// Returns { on(), drop() }: whether it lasts, and to end it without `end`.
export function onDrag(node, start, move, end) {
  let on = false;
  node.addEventListener("pointerdown", (event) => {
    if (event.button || !start(event)) return;
    on = true;
    node.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  node.addEventListener("pointermove", (event) => on && move(event));
  const stop = () => {
    const was = on;
    on = false;
    if (was) end();
  };
  node.addEventListener("pointerup", stop);
  node.addEventListener("pointercancel", stop);
  return { on: () => on, drop: () => (on = false) };
}

// One handle. spot(): where it is, in coordinates. move(x, y): called while it is dragged or moved by keys; start() and
// done(): before and after. keys: more actions by the name of a key.
export class Handle {
  constructor(view, layer, name, kind, { spot, move, start, done, keys = {} }) {
    this.view = view;
    this.spot = spot;
    this.node = element("button", { type: "button", class: `fm-handle fm-${kind}`, "aria-label": name, title: name }, layer);
    const by = (dx, dy) => (fine) => {
      const [x, y] = this.spot();
      const size = fine ? STEP / 10 : STEP;
      start();
      move(x + size * dx, y + size * dy);
      done();
    };
    const more = Object.entries(keys).map(([key, action]) => [key, (fine) => (start(), action(fine), done())]);
    onKeys(this.node, {
      ArrowLeft: by(-1, 0), ArrowRight: by(1, 0), ArrowUp: by(0, 1), ArrowDown: by(0, -1), ...Object.fromEntries(more),
    });
    this.drag(move, start, done);
    this.place();
  }

  drag(move, start, done) {
    let offset; // from the pointer to the handle's place, so that it does not jump
    const begin = ({ clientX, clientY }) => {
      const [x, y] = this.spot();
      const [px, py] = this.view.point(clientX, clientY);
      offset = [x - px, y - py];
      start();
      this.node.focus({ preventScroll: true });
      return true;
    };
    this.drop = onDrag(this.node, begin, ({ clientX, clientY }) => {
      const [px, py] = this.view.point(clientX, clientY);
      move(px + offset[0], py + offset[1]);
    }, done).drop; // what it did before it was dropped stays; a pinch goes on
  }

  // Where the picture has the handle's spot now.
  place() {
    const [x, y] = this.spot();
    const { left, right, bottom, top } = this.view.limits;
    const [across, down] = [(x - left) / (right - left), (top - y) / (top - bottom)];
    const inside = across >= 0 && across <= 1 && down >= 0 && down <= 1;
    this.node.style.left = `${100 * Math.min(1, Math.max(0, across))}%`;
    this.node.style.top = `${100 * Math.min(1, Math.max(0, down))}%`;
    this.node.classList.toggle("fm-outside", !inside);
  }

  remove() {
    this.node.remove();
  }
}
