// Elements of the page: the root of a widget, and what a hand moves in it.

import { CSS } from "./look.js";

export function element(tag, attributes = {}, parent = null, text = "") {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text) node.textContent = text;
  if (parent) parent.append(node);
  return node;
}

// The element that holds a widget. alt: what the widget shows, in words. css: more than all widgets have.
export function stage(parent, alt, css = "") {
  const root = element("div", { class: "fm-player", role: "group", "aria-label": alt }, parent);
  root.dataset.lmSuppressShortcuts = ""; // JupyterLab has shortcuts on the same keys
  element("style", {}, root, CSS + css);
  return root;
}

export const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

export function row(parent) {
  return element("div", { class: "fm-row" }, parent);
}

// A slider between a label and its value: show(value, text beside it, text for screen readers).
export function slider(parent, label, range) {
  const around = element("label", {}, parent, label);
  const input = element("input", { type: "range", ...range }, around);
  const output = element("output", {}, around);
  const show = (value, text, spoken = text) => {
    input.value = value;
    output.textContent = text;
    input.setAttribute("aria-valuetext", spoken);
  };
  return { input, show };
}

// A list to choose from. words: what stands there for a value.
export function chooser(parent, label, values, words = String) {
  const list = element("select", {}, element("label", { class: "fm-small" }, parent, label));
  for (const value of values) element("option", { value }, list, words(value));
  return list;
}

// actions: by the name of a key; each is called with true while Shift is held.
export function onKeys(target, actions) {
  target.addEventListener("keydown", (event) => {
    const action = actions[event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    action(event.shiftKey);
  });
}
