// A tour: captions, each of which sets the lab to a state of its own.

import { element } from "./controls.js";

// stops: [{ caption, ...part of a state }]. go(part): shows it. Returns { at() }.
export function tour(parent, stops, go) {
  const root = element("div", { class: "fm-tour", role: "group", "aria-label": "tour" }, parent);
  const back = element("button", { type: "button", "aria-label": "back" }, root, "‹");
  const words = element("p", { "aria-live": "polite" }, root);
  const next = element("button", { type: "button", "aria-label": "next" }, root, "next ›");
  back.hidden = next.hidden = stops.length === 1; // a caption alone
  let at = 0;

  function show() {
    words.textContent = stops[at].caption;
    back.disabled = at === 0;
    next.disabled = at === stops.length - 1;
    root.dataset.at = at;
  }

  function to(place) {
    at = place;
    show();
    const { caption, ...part } = stops[at];
    go(part);
  }

  back.addEventListener("click", () => to(at - 1));
  next.addEventListener("click", () => to(at + 1));
  show();
}
