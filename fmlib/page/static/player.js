// The player: panels that move along t, in the page.
//
// Python sends the arrays once (fmlib/page/panel.py says how they are packed). Dragging redraws here and talks to the
// kernel only on release. On a page without a kernel the same `render` runs on embedded data.

import { onNewTheme, themeColors } from "./colors.js";
import { chooser, element, onKeys, row, slider, stage } from "./controls.js";
import { PANELS, Panel } from "./panel.js";
import { playback } from "./playback.js";
import { aligned } from "./player_frames.js";

const TRAITS = ["t", "steps", "selection"]; // kept in step with Python

class Player {
  constructor(model, el) {
    this.model = model;
    this.meta = model.get("_meta");
    const { ts, alt } = this.meta;
    [this.first, this.last] = [ts[0], ts[ts.length - 1]];
    this.state = { hover: -1, ...Object.fromEntries(TRAITS.map((name) => [name, model.get(name)])) };
    this.frame = 0; // the frame that is asked for, or 0
    this.dragging = false;
    this.colors = null; // read when they are needed
    this.root = stage(el, alt, PANELS);
    this.buildPanels();
    this.buildControls();
    this.readout = element("div", { class: "fm-readout", role: "status", "aria-live": "polite" }, this.root);
    this.followHand();
    this.followKeys();
    this.followPointer();
    this.endings = [this.followPython(), this.followSizes(), onNewTheme(() => this.recolor())];
    this.redraw();
  }

  buildPanels() {
    const { meta } = this;
    const buffer = aligned(this.model.get("_data"));
    this.panelRow = element("div", { class: "fm-panels" }, this.root);
    this.panels = meta.panels.map((p) => new Panel(p, buffer, meta.ts, this.panelRow, p.title || meta.alt));
  }

  buildControls() {
    const { meta, first, last } = this;
    const above = row(this.root);
    const button = element("button", { type: "button" }, above);
    this.tSlider = slider(above, meta.label, { min: first, max: last, step: (last - first) / 1000 });
    const speed = chooser(above, "speed", [0.25, 0.5, 1, 2], (factor) => `${factor} ×`);
    speed.value = "1";
    const below = row(this.root);
    const values = meta.step_values;
    if (values.length > 1) this.stepSlider = slider(below, meta.steps_label, { min: 0, max: values.length - 1, step: 1 });
    if (meta.choices.length > 1) this.chooser = chooser(below, meta.choice_label, meta.choices);
    const time = { first, last, get: () => this.state.t, set: (t) => this.setT(t) };
    this.play = playback(button, speed, time, () => this.commit());
  }

  draw() {
    const { state, first, last } = this;
    this.frame = 0;
    if (!this.root.isConnected) return; // JupyterLab takes cells out of the page; the canvas tells when it is back
    this.colors ??= themeColors(this.root);
    state.progress = (state.t - first) / (last - first);
    const visible = this.panels.filter(({ meta }) => !meta.choice || meta.choice === state.selection);
    const columns = visible.length <= 3 ? visible.length : Math.ceil(visible.length / 2);
    this.panelRow.style.setProperty("--fm-columns", columns);
    for (const panel of this.panels) panel.figure.style.display = visible.includes(panel) ? "" : "none";
    for (const panel of visible) panel.draw(state, this.colors);
    this.showState();
  }

  showState() {
    const { state, meta, root } = this;
    const decimals = this.last - this.first > 20 ? 0 : 2;
    this.tSlider.show(state.t, `${meta.label} = ${state.t.toFixed(decimals)}`);
    const place = meta.step_values.indexOf(state.steps);
    this.stepSlider?.show(place, String(state.steps), `${meta.steps_label} ${state.steps}`);
    if (this.chooser) this.chooser.value = state.selection;
    root.dataset.drawn = Number(root.dataset.drawn || 0) + 1; // counted by the browser tests and the benchmark
    root.dataset.t = state.t;
    root.dataset.steps = state.steps;
  }

  redraw() {
    this.frame ||= requestAnimationFrame(() => this.draw());
  }

  recolor() {
    this.colors = null;
    this.redraw();
  }

  setT(t) {
    this.state.t = Math.min(this.last, Math.max(this.first, t));
    this.redraw();
  }

  announce() {
    const { state, meta } = this;
    const parts = [`${meta.label} = ${state.t.toFixed(2)}`];
    if (this.stepSlider) parts.push(`${meta.steps_label} ${state.steps}`);
    if (this.chooser) parts.push(state.selection);
    this.readout.textContent = parts.join(", ");
  }

  // Tell Python, once a movement has ended.
  commit() {
    for (const name of TRAITS) {
      if (this.model.get(name) !== this.state[name]) this.model.set(name, this.state[name]);
    }
    this.model.save_changes();
    this.announce();
  }

  followHand() {
    const drag = (control, move) => {
      control?.input.addEventListener("input", () => {
        this.dragging = true;
        move(Number(control.input.value));
      });
      control?.input.addEventListener("change", () => {
        this.dragging = false;
        this.commit();
      });
    };
    drag(this.tSlider, (t) => {
      this.play.pause();
      this.setT(t);
    });
    drag(this.stepSlider, (place) => {
      this.state.steps = this.meta.step_values[place];
      this.redraw();
    });
    this.chooser?.addEventListener("change", () => {
      this.state.selection = this.chooser.value;
      this.redraw();
      this.commit();
    });
  }

  // Keys, on a focused canvas and on the slider of t: 1/50 of the range, with Shift 1/500. The slider's own step is as
  // fine as a hand can drag, too fine for a key.
  followKeys() {
    const to = (goal) => (fine) => {
      this.play.stop();
      this.setT(goal(((this.last - this.first) / 50) * (fine ? 0.1 : 1)));
      this.commit();
    };
    const by = (count) => to((small) => this.state.t + count * small);
    const far = { Home: to(() => this.first), End: to(() => this.last), PageDown: by(-5), PageUp: by(5) };
    const near = { ArrowLeft: by(-1), ArrowRight: by(1), ...far };
    onKeys(this.tSlider.input, { ...near, ArrowDown: by(-1), ArrowUp: by(1) });
    onKeys(this.panelRow, { ...near, ArrowDown: by(-5), ArrowUp: by(5), " ": this.play.toggle });
  }

  followPointer() {
    const hold = (found) => {
      this.state.hover = found;
      this.redraw();
    };
    for (const panel of this.panels) {
      panel.view.canvas.addEventListener("pointermove", (event) => {
        const found = panel.nearest(event.clientX, event.clientY, this.state.t);
        if (found === this.state.hover) return;
        if (found >= 0) this.readout.textContent = panel.describe(found);
        hold(found);
      });
      panel.view.canvas.addEventListener("pointerleave", () => hold(-1));
    }
  }

  followPython() {
    const listeners = TRAITS.map((name) => {
      const listener = () => {
        if (this.dragging) return;
        this.state[name] = this.model.get(name);
        this.redraw();
        this.announce();
      };
      this.model.on(`change:${name}`, listener);
      return [`change:${name}`, listener];
    });
    return () => listeners.forEach(([event, listener]) => this.model.off(event, listener));
  }

  followSizes() {
    const sizes = new ResizeObserver(() => this.redraw());
    for (const panel of this.panels) sizes.observe(panel.view.canvas);
    return () => sizes.disconnect();
  }

  close() {
    this.play.pause();
    cancelAnimationFrame(this.frame);
    for (const end of this.endings) end();
    this.root.remove();
  }
}

function render({ model, el }) {
  const player = new Player(model, el);
  return () => player.close();
}

export default { render };
