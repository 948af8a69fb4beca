// FlowLab: a mixture of Gaussians, its flow, and a hand that changes both. The page computes everything by itself.

import { onNewTheme, themeColors } from "./colors.js";
import { element, stage } from "./controls.js";
import { AT_PROBE } from "./lab_arrows.js";
import { Controls } from "./lab_controls.js";
import { grabbing } from "./lab_grab.js";
import { handlesOf } from "./lab_hands.js";
import { drawLayers } from "./lab_layers.js";
import { drawRow, picturesOf } from "./lab_row.js";
import { Scene } from "./lab_scene.js";
import { History, TRAITS, checkState, fromFragment, restore } from "./lab_state.js";
import { hideStill } from "./lab_still.js";
import { pinching } from "./lab_touch.js";
import { tour } from "./lab_tour.js";
import { inWords } from "./lab_words.js";

class Lab {
  constructor(model, el) {
    this.model = model;
    this.meta = model.get("_meta");
    const damaged = [];
    this.begin = this.state = restore((name) => model.get(name), this.meta, (words) => damaged.push(words));
    this.history = new History();
    this.frame = 0;
    this.root = stage(el, this.meta.alt);
    this.root.classList.add("fm-lab");
    if (this.meta.tour.length) tour(this.root, this.meta.tour, (part) => this.change(part));
    this.pictures = picturesOf(this.root, this.meta, this.state.mixture.means[0].length);
    Object.assign(this, this.pictures[0]); // where the hand is: box, view, map, scene
    this.handles = [];
    this.controls = new Controls(this);
    this.refused = element("div", { class: "fm-refused", role: "alert" }, this.root);
    this.readout = element("div", { class: "fm-readout" }, this.root);
    this.spoken = element("div", { class: "fm-spoken", role: "status" }, this.root);
    this.followPicture();
    if (this.has("mixture")) pinching(this, grabbing(this));
    this.endings = [this.followPython(), this.followSize(), onNewTheme(() => ((this.colors = null), this.redraw()))];
    if (damaged.length) this.refuse(`what is stored of this lab is damaged: ${damaged.join("; ")}`);
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
    const before = this.state.mixture.means.length;
    try {
      this.state = checkState(part, this.state);
    } catch (error) {
      this.refuse(error.message);
      return false;
    }
    this.refuse("");
    if (this.state.mixture.means.length !== before) this.buildHandles();
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
    this.moving = true, this.history.keep(this.state);
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
    [this.moving, this.telling] = [false, true];
    this.redraw(); // the last picture of the movement may be drawn already
  }

  startFromAddress() {
    try {
      const part = fromFragment(this.meta.name, window.location.hash);
      if (part !== null) this.state = checkState(part, this.state);
    } catch (error) {
      this.refuse(`the link holds no state of this lab: ${error.message}`);
    }
  }

  // Words for a reader who does not see the picture, and for all others below it.
  say(text) {
    this.readout.textContent = text;
    this.spoken.textContent = text;
  }

  refuse(text) {
    this.refused.textContent = text;
  }

  // --- picture

  redraw() {
    this.frame ||= requestAnimationFrame(() => this.draw());
  }

  draw() {
    const [began, { state }] = [performance.now(), this];
    this.frame = 0;
    if (!this.root.isConnected) return; // JupyterLab takes cells out of the page; the canvas tells when it is back
    this.showStill ??= hideStill(this.root, this.meta.still);
    this.colors ??= themeColors(this.root);
    if (this.path) drawRow(this.pictures, state, this.colors);
    else this.drawOne(state);
    for (const handle of this.handles) handle.place();
    this.controls.show(state);
    this.tell();
    const { dataset } = this.root;
    dataset.drawn = Number(dataset.drawn || 0) + 1;
    dataset.t = state.t;
    dataset.ms = (performance.now() - began).toFixed(2);
  }

  drawOne(state) {
    this.scene.set(state);
    this.scene.hasty = this.moving;
    if (state.ghost) (this.ghost ??= new Scene(this.meta.limits, this.meta.counts)).set({ ...state, ...state.ghost });
    drawLayers(this.map, this.scene, state.ghost && this.ghost, this.colors);
  }

  // The numbers of the picture; spoken once a movement has ended, as one word a frame is too many.
  tell() {
    const words = inWords(this.pictures, this.has("solver"));
    if (words || this.said) this.readout.textContent = words; // what was said of another picture goes
    this.said = words;
    if (words && this.telling) this.spoken.textContent = words;
    this.telling = false;
  }

  // --- the hand on the picture

  buildHandles() {
    this.handles = handlesOf(this);
  }

  // A click puts the probe there, or launches a trajectory.
  followPicture() {
    this.view.canvas.addEventListener("click", (event) => {
      if (this.controls.draw?.on()) return;
      const x = this.view.point(event.clientX, event.clientY);
      if (this.state.layers.some((layer) => AT_PROBE.includes(layer))) return this.change(this.map.probeOf(...x));
      const start = this.map.startOf(...x, this.state.t);
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
    this.showStill?.();
    this.root.remove();
  }
}

// What cannot be shown says why; the still picture beside it stays.
function render({ model, el }) {
  try {
    const lab = new Lab(model, el);
    return () => lab.close();
  } catch (error) {
    const words = `This lab cannot be shown, what is stored of it is damaged: ${error.message}`;
    el.replaceChildren(element("div", { class: "fm-refused", role: "alert" }, null, words));
  }
}

export default { render };
