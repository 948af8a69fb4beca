// The controls below a lab: sliders, lists and buttons, those that its lesson asks for.

import { chooser, element, onKeys, row, slider } from "./controls.js";
import { PATH_NAMES } from "./flow_paths.js";
import { SOLVER_NAMES } from "./flow_solvers.js";
import { addComponent } from "./lab_components.js";
import { playback } from "./playback.js";

const WORDS = { rectified_flow: "rectified flow", vp_cosine: "VP cosine", vp_linear: "VP linear", ve: "VE" };
const STEPS = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 50, 100];

export class Controls {
  constructor(lab) {
    this.lab = lab;
    const above = row(lab.root);
    const below = row(lab.root);
    if (lab.has("t")) {
      const button = element("button", { type: "button" }, above);
      this.tSlider = slider(above, "t", { min: 0, max: 1, step: 0.001 });
      const time = { first: 0, last: 1, get: () => lab.state.t, set: (t) => lab.set({ t: Math.min(1, t) }) };
      this.play = playback(button, { value: "1" }, time, () => lab.commit());
      this.drag(this.tSlider.input, (value) => (this.play.pause(), lab.set({ t: value })));
      const to = (goal) => (fine) => lab.change({ t: Math.min(1, Math.max(0, goal(fine ? 0.002 : 0.02))) });
      const by = (count) => to((small) => lab.state.t + count * small);
      onKeys(this.tSlider.input, {
        ArrowLeft: by(-1), ArrowRight: by(1), ArrowDown: by(-1), ArrowUp: by(1), PageDown: by(-5), PageUp: by(5),
        Home: to(() => 0), End: to(() => 1),
      });
    }
    if (lab.has("steps")) {
      this.stepSlider = slider(below, "steps", { min: 0, max: STEPS.length - 1, step: 1 });
      this.drag(this.stepSlider.input, (place) => lab.set({ steps: STEPS[place] }));
    }
    if (lab.has("noise")) {
      this.noiseSlider = slider(below, "noise", { min: 0, max: 2, step: 0.01 });
      this.drag(this.noiseSlider.input, (noise) => lab.set({ noise }));
    }
    if (lab.has("solver")) this.solverList = this.choose(below, "solver", SOLVER_NAMES, (solver) => ({ solver }));
    if (lab.has("path")) this.pathList = this.choose(below, "path", PATH_NAMES, (path) => ({ path }));
    this.buttons(row(lab.root));
  }

  buttons(parent) {
    const { lab } = this;
    const button = (words, action) => element("button", { type: "button" }, parent, words).addEventListener("click", action);
    if (lab.has("mixture")) button("add a component", () => addComponent(lab));
    if (lab.has("launch")) button("clear trajectories", () => lab.change({ launched: [] }));
    button("undo", () => lab.undo());
    button("reset", () => lab.change(lab.begin));
  }

  // A control that moves the picture while it is dragged.
  drag(input, move) {
    let moving = false;
    input.addEventListener("input", () => {
      if (!moving) this.lab.keep();
      moving = true;
      move(Number(input.value));
    });
    input.addEventListener("change", () => {
      moving = false;
      this.lab.commit();
    });
  }

  choose(parent, name, values, part) {
    const list = chooser(parent, name, values, (value) => WORDS[value] || value);
    list.addEventListener("change", () => this.lab.change(part(list.value)));
    return list;
  }

  // The state that they show.
  show(state) {
    this.tSlider?.show(state.t, `t = ${state.t.toFixed(2)}`);
    const gap = (n) => Math.abs(n - state.steps);
    const nearest = STEPS.reduce((best, n, i) => (gap(n) < gap(STEPS[best]) ? i : best), 0);
    this.stepSlider?.show(nearest, String(state.steps), `${state.steps} steps`);
    this.noiseSlider?.show(state.noise, state.noise.toFixed(2));
    if (this.solverList) this.solverList.value = state.solver;
    if (this.pathList) this.pathList.value = state.path;
  }
}
