// FlowLab: a mixture of Gaussians, its flow, and a hand that changes both. The page computes everything by itself.

import { onNewTheme, themeColors } from "./colors.js";
import { element, stage } from "./controls.js";
import { componentHandles } from "./lab_components.js";
import { Controls } from "./lab_controls.js";
import { Handle } from "./lab_handles.js";
import { Line } from "./lab_line.js";
import { Plane } from "./lab_plane.js";
import { Scene } from "./lab_scene.js";
import { History, checkState, fromFragment } from "./lab_state.js";
import { tour } from "./lab_tour.js";
import { View } from "./view.js";

const TRAITS = ["mixture", "t", "path", "steps", "solver", "noise", "probe", "launched", "layers"]; // in step with Python

class Lab {
  constructor(model, el) {
    this.model = model;
    this.meta = model.get("_meta");
    this.state = checkState(Object.fromEntries(TRAITS.map((name) => [name, model.get(name)])));
    this.begin = this.state;
    this.history = new History();
    this.frame = 0;
    this.colors = null;
    this.root = stage(el, this.meta.alt);
    this.root.classList.add("fm-lab");
    if (this.meta.tour.length) tour(this.root, this.meta.tour, (part) => this.change(part));
    this.scene = new Scene(this.meta.limits, this.meta.counts);
    this.box = element("div", { class: "fm-scene" }, this.root);
    this.view = new View(this.meta.limits, this.box, this.meta.alt);
    this.plane = this.state.mixture.means[0].length === 2 ? new Plane(this.view) : new Line(this.view);
    this.handles = [];
    this.controls = new Controls(this);
    this.refused = element("div", { class: "fm-refused", role: "alert" }, this.root);
    this.readout = element("div", { class: "fm-readout", role: "status", "aria-live": "polite" }, this.root);
    this.followPicture();
    this.endings = [hideStill(el, this.meta.alt), this.followPython(), this.followSize(), onNewTheme(() => this.recolor())];
    this.startFromAddress();
    this.buildHandles();
    this.redraw();
  }

  has(control) {
    return this.meta.controls.includes(control);
  }

  // --- state

  // Take part of a state, at once; refused with a message if it is not one.
  set(part) {
    try {
      this.state = checkState(part, this.state);
    } catch (error) {
      this.refuse(error.message);
      return false;
    }
    this.refuse("");
    this.redraw();
    return true;
  }

  // The same as one movement of its own: it can be undone, and Python hears of it.
  change(part) {
    this.keep();
    if (!this.set(part)) return;
    this.buildHandles();
    this.commit();
  }

  keep() {
    this.history.keep(this.state);
  }

  undo() {
    const before = this.history.back(this.state);
    if (!before || !this.set(before)) return;
    this.buildHandles();
    this.commit();
  }

  // Tell Python, once a movement has ended.
  commit() {
    for (const name of TRAITS) {
      if (JSON.stringify(this.model.get(name)) !== JSON.stringify(this.state[name])) this.model.set(name, this.state[name]);
    }
    this.model.save_changes();
  }

  startFromAddress() {
    try {
      const part = fromFragment(this.meta.name, window.location.hash);
      if (part !== null) this.state = checkState(part, this.state);
    } catch (error) {
      this.refuse(`the link holds no state of this lab: ${error.message}`);
    }
  }

  say(text) {
    this.readout.textContent = text;
  }

  refuse(text) {
    this.refused.textContent = text;
  }

  // --- picture

  redraw() {
    this.frame ||= requestAnimationFrame(() => this.draw());
  }

  draw() {
    const began = performance.now();
    const { state } = this;
    this.frame = 0;
    if (!this.root.isConnected) return; // JupyterLab takes cells out of the page; the canvas tells when it is back
    this.colors ??= themeColors(this.root);
    this.scene.set(state);
    const seen = this.plane.draw(this.scene, state.layers, this.colors);
    for (const handle of this.handles) handle.place();
    this.controls.show(state);
    if (seen) this.sayProbe(seen);
    const { dataset } = this.root;
    dataset.drawn = Number(dataset.drawn || 0) + 1;
    dataset.t = state.t;
    dataset.ms = (performance.now() - began).toFixed(2);
  }

  sayProbe({ pairs, mean, exact, spread }) {
    const pair = (v) => `(${Array.from(v, (n) => n.toFixed(2)).join(", ")})`;
    this.say(
      `${pairs.x0.length / this.scene.d} pairs pass here; their velocities average to ${pair(mean)}, ` +
        `the field is ${pair(exact)}. Their spread, the loss that no training removes here: ${spread.toFixed(2)}.`,
    );
  }

  recolor() {
    this.colors = null;
    this.redraw();
  }

  // --- the hand on the picture

  buildHandles() {
    for (const handle of this.handles) handle.remove();
    this.handles = [];
    if (this.has("mixture")) this.state.mixture.means.forEach((_, k) => this.handles.push(...componentHandles(this, k)));
    if (this.state.layers.includes("probe") && this.state.probe) {
      const spot = () => this.plane.spotOfProbe(this.state);
      const move = (x, y) => this.set(this.plane.probeOf(x, y));
      this.handles.push(new Handle(this.view, this.box, "probe", "probe", {
        spot, move, start: () => this.keep(), done: () => this.commit(),
      }));
    }
  }

  // A click puts the probe there, or launches a trajectory.
  followPicture() {
    this.view.canvas.addEventListener("click", (event) => {
      const x = this.view.point(event.clientX, event.clientY);
      if (this.state.layers.includes("probe")) return this.change(this.plane.probeOf(...x));
      const start = this.plane.startOf(...x, this.state.t);
      if (this.has("launch")) this.change({ launched: [...this.state.launched, start].slice(-10) });
    });
  }

  // --- what else moves it

  followPython() {
    const listeners = TRAITS.map((name) => {
      const listener = () => {
        if (JSON.stringify(this.model.get(name)) === JSON.stringify(this.state[name])) return;
        if (this.set({ [name]: this.model.get(name) })) this.buildHandles();
      };
      this.model.on(`change:${name}`, listener);
      return [`change:${name}`, listener];
    });
    return () => listeners.forEach(([event, listener]) => this.model.off(event, listener));
  }

  followSize() {
    const sizes = new ResizeObserver(() => this.redraw());
    sizes.observe(this.view.canvas);
    return () => sizes.disconnect();
  }

  close() {
    this.controls.play?.pause();
    cancelAnimationFrame(this.frame);
    for (const end of this.endings) end();
    this.root.remove();
  }
}

// The still picture of a lab is the output before it, for pages where no lab lives. Returns what shows it again.
function hideStill(el, alt) {
  const before = el.closest(".jp-OutputArea-child")?.previousElementSibling;
  const still = before?.querySelector("img")?.getAttribute("alt") === alt ? before : null;
  if (still) still.style.display = "none";
  return () => still?.style.removeProperty("display");
}

function render({ model, el }) {
  const lab = new Lab(model, el);
  return () => lab.close();
}

export default { render };
