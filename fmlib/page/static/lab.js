// FlowLab: a mixture of Gaussians, its flow, and a hand that changes both. The page computes everything by itself.

import { onNewTheme, themeColors } from "./colors.js";
import { chooser, element, onKeys, row, slider, stage } from "./controls.js";
import { PATH_NAMES, SOLVER_NAMES } from "./flow.js";
import { Handle } from "./lab_handles.js";
import { Plane } from "./lab_plane.js";
import { Scene } from "./lab_scene.js";
import { History, checkState, fromFragment } from "./lab_state.js";
import { tour } from "./lab_tour.js";
import { playback } from "./playback.js";
import { View } from "./view.js";

const TRAITS = ["mixture", "t", "path", "steps", "solver", "noise", "probe", "launched", "layers"]; // in step with Python
const WORDS = { rectified_flow: "rectified flow", vp_cosine: "VP cosine", vp_linear: "VP linear", ve: "VE" };
const STEPS = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 50, 100];
const NARROWEST = 0.03; // of a width that a hand makes
const MOST = 12; // components that a hand adds

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
    this.plane = new Plane(this.view);
    this.handles = [];
    this.buildControls();
    this.refused = element("div", { class: "fm-refused", role: "alert" }, this.root);
    this.readout = element("div", { class: "fm-readout", role: "status", "aria-live": "polite" }, this.root);
    this.followPicture();
    this.endings = [this.followPython(), this.followSize(), onNewTheme(() => this.recolor())];
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
    this.colors ??= themeColors(this.root);
    this.scene.set(state);
    const seen = this.plane.draw(this.scene, state.layers, this.colors);
    for (const handle of this.handles) handle.place();
    this.showControls(seen);
    const { dataset } = this.root;
    dataset.drawn = Number(dataset.drawn || 0) + 1;
    dataset.t = state.t;
    dataset.ms = (performance.now() - began).toFixed(2);
  }

  recolor() {
    this.colors = null;
    this.redraw();
  }

  // --- controls

  buildControls() {
    const above = row(this.root);
    const below = row(this.root);
    if (this.has("t")) {
      const button = element("button", { type: "button" }, above);
      this.tSlider = slider(above, "t", { min: 0, max: 1, step: 0.001 });
      const time = { first: 0, last: 1, get: () => this.state.t, set: (t) => this.set({ t: Math.min(1, t) }) };
      this.play = playback(button, { value: "1" }, time, () => this.commit());
      this.drag(this.tSlider.input, (value) => (this.play.pause(), this.set({ t: value })));
      const to = (goal) => (fine) => this.change({ t: Math.min(1, Math.max(0, goal(fine ? 0.002 : 0.02))) });
      const by = (count) => to((small) => this.state.t + count * small);
      onKeys(this.tSlider.input, {
        ArrowLeft: by(-1), ArrowRight: by(1), ArrowDown: by(-1), ArrowUp: by(1), PageDown: by(-5), PageUp: by(5),
        Home: to(() => 0), End: to(() => 1),
      });
    }
    if (this.has("steps")) {
      this.stepSlider = slider(below, "steps", { min: 0, max: STEPS.length - 1, step: 1 });
      this.drag(this.stepSlider.input, (place) => this.set({ steps: STEPS[place] }));
    }
    if (this.has("noise")) {
      this.noiseSlider = slider(below, "noise", { min: 0, max: 2, step: 0.01 });
      this.drag(this.noiseSlider.input, (noise) => this.set({ noise }));
    }
    if (this.has("solver")) this.solverList = this.choose(below, "solver", SOLVER_NAMES, (solver) => ({ solver }));
    if (this.has("path")) this.pathList = this.choose(below, "path", PATH_NAMES, (path) => ({ path }));
    this.buildButtons(row(this.root));
  }

  buildButtons(parent) {
    const button = (words, action) => element("button", { type: "button" }, parent, words).addEventListener("click", action);
    if (this.has("mixture")) button("add a component", () => this.add());
    if (this.has("launch")) button("clear trajectories", () => this.change({ launched: [] }));
    button("undo", () => this.undo());
    button("reset", () => this.change(this.begin));
  }

  // A control that moves the picture while it is dragged.
  drag(input, move) {
    let moving = false;
    input.addEventListener("input", () => {
      if (!moving) this.keep();
      moving = true;
      move(Number(input.value));
    });
    input.addEventListener("change", () => {
      moving = false;
      this.commit();
    });
  }

  choose(parent, name, values, part) {
    const list = chooser(parent, name, values, (value) => WORDS[value] || value);
    list.addEventListener("change", () => this.change(part(list.value)));
    return list;
  }

  showControls(seen) {
    const { state } = this;
    this.tSlider?.show(state.t, `t = ${state.t.toFixed(2)}`);
    const nearest = STEPS.reduce((best, n, i) => (Math.abs(n - state.steps) < Math.abs(STEPS[best] - state.steps) ? i : best), 0);
    this.stepSlider?.show(nearest, String(state.steps), `${state.steps} steps`);
    this.noiseSlider?.show(state.noise, state.noise.toFixed(2));
    if (this.solverList) this.solverList.value = state.solver;
    if (this.pathList) this.pathList.value = state.path;
    if (!seen) return;
    const pair = (v) => `(${Array.from(v, (n) => n.toFixed(2)).join(", ")})`;
    this.say(
      `${seen.pairs.x0.length / this.scene.d} pairs pass here; their velocities average to ${pair(seen.mean)}, ` +
        `the field is ${pair(seen.exact)}. Their spread, the loss that no training removes here: ${seen.spread.toFixed(2)}.`,
    );
  }

  // --- the hand on the picture

  buildHandles() {
    for (const handle of this.handles) handle.remove();
    this.handles = [];
    const done = () => this.commit();
    if (this.has("mixture")) this.state.mixture.means.forEach((_, k) => this.handles.push(...this.ofComponent(k, done)));
    if (this.state.layers.includes("probe") && this.state.probe) {
      const spot = () => this.state.probe;
      const move = (x, y) => this.set({ probe: [x, y] });
      this.handles.push(new Handle(this.view, this.box, "probe", "probe", { spot, move, done, start: () => this.keep() }));
    }
  }

  ofComponent(k, done) {
    const { view, box } = this;
    const name = `component ${k + 1}`;
    const change = (part) => {
      const { means, stds, weights } = this.state.mixture;
      const copy = { means: means.map((m) => [...m]), stds: [...stds], weights: [...weights] };
      part(copy);
      this.set({ mixture: copy });
    };
    const widen = (factor) => () => change(({ stds }) => (stds[k] = Math.max(NARROWEST, stds[k] * factor)));
    const weigh = (factor) => () => change(({ weights }) => (weights[k] *= factor));
    const keys = { "+": widen(1.1), "=": widen(1.1), "-": widen(1 / 1.1), "]": weigh(1.2), "[": weigh(1 / 1.2) };
    const removal = () => this.removeComponent(k);
    const start = () => this.keep();
    const centre = new Handle(view, box, `${name}, centre`, "centre", {
      spot: () => this.state.mixture.means[k],
      move: (x, y) => change(({ means }) => (means[k] = [x, y])),
      start, done, keys: { ...keys, Delete: removal, Backspace: removal },
    });
    const [across, up] = [Math.SQRT1_2, -Math.SQRT1_2];
    const width = new Handle(view, box, `${name}, width`, "width", {
      spot: () => {
        const { means, stds } = this.state.mixture;
        return [means[k][0] + stds[k] * across, means[k][1] + stds[k] * up];
      },
      move: (x, y) => change(({ means, stds }) => (stds[k] = Math.max(NARROWEST, Math.hypot(x - means[k][0], y - means[k][1])))),
      start, done, keys,
    });
    centre.node.addEventListener("wheel", (event) => {
      event.preventDefault();
      widen(event.deltaY < 0 ? 1.05 : 1 / 1.05)();
      done();
    }, { passive: false });
    return [centre, width];
  }

  add() {
    const { means, stds, weights } = this.state.mixture;
    if (means.length >= MOST) return this.say(`there are ${MOST} components already`);
    const mean = weights.reduce((a, b) => a + b) / weights.length;
    this.change({ mixture: { means: [...means, [0, 0]], stds: [...stds, 0.4], weights: [...weights, mean] } });
    this.handles.find((handle) => handle.node.title === `component ${means.length + 1}, centre`)?.node.focus();
  }

  removeComponent(k) {
    const { means, stds, weights } = this.state.mixture;
    if (means.length === 1) return this.say("one component must stay");
    const without = (list) => list.filter((_, i) => i !== k);
    this.change({ mixture: { means: without(means), stds: without(stds), weights: without(weights) } });
  }

  // A click puts the probe there, or launches a trajectory.
  followPicture() {
    this.view.canvas.addEventListener("click", (event) => {
      const x = this.view.point(event.clientX, event.clientY);
      if (this.state.layers.includes("probe")) this.change({ probe: x });
      else if (this.has("launch")) this.change({ launched: [...this.state.launched, { t: this.state.t, x }].slice(-10) });
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
    this.play?.pause();
    cancelAnimationFrame(this.frame);
    for (const end of this.endings) end();
    this.root.remove();
  }
}

function render({ model, el }) {
  const lab = new Lab(model, el);
  return () => lab.close();
}

export default { render };
