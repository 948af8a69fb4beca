// The controls below a lab: sliders, lists and buttons, those that its lesson asks for.

import { chooser, clamp, element, onKeys, row, slider } from "./controls.js";
import { PREDICTED_NAMES } from "./flow_errors.js";
import { ADDED_NAMES } from "./flow_maps.js";
import { PATH_NAMES } from "./flow_paths.js";
import { SOLVER_NAMES } from "./flow_solvers.js";
import { addComponent } from "./lab_components.js";
import { PRESETS, drawing } from "./lab_shapes.js";
import { toFragment } from "./lab_state.js";
import { playback } from "./playback.js";

export const WORDS = {
  rectified_flow: "rectified flow", vp_cosine: "VP cosine", vp_linear: "VP linear", ve: "VE",
  velocity: "u", epsilon: "ε", x1: "x₁", v_diff: "v of diffusion",
};
const OWN = "this one"; // the data that the lab began with

// Sliders over a few counts: [the name in the state, the word beside it, the counts, the word for 0].
const LISTED = [
  ["points", "training points", [0, 1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000], "the distribution"],
  ["steps", "steps", [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 50, 100]],
];

// Sliders for one number of the state: [its name, the word beside it, low, high, step].
const SLIDERS = [
  ["guidance_scale", "guidance scale", 0, 8, 0.05],
  ["strength", "strength", -2, 2, 0.02],
  ["noise", "noise", 0, 2, 0.01],
  ["shift", "shift", 0.2, 6, 0.05],
  ["until", "jump to", 0, 1, 0.01],
  ["error", "error", 0, 0.5, 0.01],
];

// Lists: [the name in the state, the word beside it, what is in it].
const CHOSEN = [
  ["solver", "solver", SOLVER_NAMES],
  ["path", "path", PATH_NAMES],
  ["added", "add", ADDED_NAMES],
  ["predicted", "predict", PREDICTED_NAMES],
];

// Buttons that stay pressed: [its control, its name in the state, the value when pressed, its words].
const TOGGLES = [
  ["correction", "corrected", false, "forget the correction"],
  ["match", "matched", true, "match the signal-to-noise ratio"],
];

export class Controls {
  constructor(lab) {
    this.lab = lab;
    const above = row(lab.root);
    const below = row(lab.root);
    this.sliders = {};
    this.lists = {};
    if (lab.has("t")) this.time(above);
    this.shows = []; // functions of the state
    for (const [name, word, counts, none] of LISTED) {
      if (!lab.has(name)) continue;
      const { input, show } = slider(below, word, { min: 0, max: counts.length - 1, step: 1 });
      this.drag(input, (place) => ({ [name]: counts[place] }));
      this.shows.push(({ [name]: value }) => {
        const gaps = counts.map((count) => Math.abs(count - value));
        show(gaps.indexOf(Math.min(...gaps)), value ? String(value) : none, value ? `${value} ${word}` : none);
      });
    }
    for (const [name, word, min, max, step] of SLIDERS) {
      if (!lab.has(name)) continue;
      this.sliders[name] = slider(below, word, { min, max, step });
      this.drag(this.sliders[name].input, (value) => ({ [name]: value }));
    }
    const { means } = lab.state.mixture;
    for (const [name, word, values] of CHOSEN) {
      if (!lab.has(name)) continue;
      this.choose(below, word, values, (value) => ({ [name]: value }));
      this.shows.push((state) => (this.lists[word].value = state[name]));
    }
    if (lab.has("condition")) {
      const classes = ["none", ...means.map((_, k) => String(k + 1))];
      this.choose(below, "class", classes, (k) => ({ condition: k === "none" ? [] : [k - 1] }));
    }
    if (lab.has("presets")) {
      const of = (name) => (name === OWN ? lab.begin.mixture : PRESETS[name]());
      const names = [OWN, ...Object.keys(PRESETS)];
      this.choose(below, "data", names, (name) => ({ mixture: of(name), condition: [] }));
      const text = ({ means: points, stds }) => JSON.stringify([points, stds]);
      const known = names.map((name) => [name, of(name).means.length, text(of(name))]);
      const is = (mixture) => ([, n, words]) => n === mixture.means.length && words === text(mixture);
      this.nameOf = (mixture) => known.find(is(mixture))?.[0];
    }
    this.buttons(row(lab.root));
  }

  time(parent) {
    const { lab } = this;
    const button = element("button", { type: "button" }, parent);
    this.tSlider = slider(parent, "t", { min: 0, max: 1, step: 0.001 });
    const time = { first: 0, last: 1, get: () => lab.state.t, set: (t) => lab.set({ t: Math.min(1, t) }) };
    this.play = playback(button, { value: "1" }, time, () => lab.commit());
    this.drag(this.tSlider.input, (t) => (this.play.pause(), { t }));
    const to = (goal) => (fine) => lab.change({ t: clamp(goal(fine ? 0.002 : 0.02), 0, 1) });
    const by = (count) => to((small) => lab.state.t + count * small);
    onKeys(this.tSlider.input, {
      ArrowLeft: by(-1), ArrowRight: by(1), ArrowDown: by(-1), ArrowUp: by(1), PageDown: by(-5), PageUp: by(5),
      Home: to(() => 0), End: to(() => 1),
    });
  }

  buttons(parent) {
    const { lab } = this;
    const button = (words, action) => {
      const node = element("button", { type: "button" }, parent, words);
      if (action) node.addEventListener("click", action);
      return node;
    };
    if (lab.has("mixture")) button("add a component", () => addComponent(lab));
    if (lab.has("draw")) this.draw = drawing(lab, button("draw"));
    for (const [control, name, pressed, words] of TOGGLES) {
      if (!lab.has(control)) continue;
      const node = button(words, () => lab.change({ [name]: !lab.state[name] }));
      this.shows.push((state) => node.setAttribute("aria-pressed", state[name] === pressed));
    }
    if (lab.has("launch")) button("clear trajectories", () => lab.change({ launched: [] }));
    if (lab.has("ghost")) {
      this.ghost = button("", () => {
        const { t, layers, ghost, ...setting } = lab.state;
        lab.change({ ghost: ghost ? null : setting });
      });
    }
    button("undo", () => lab.undo());
    button("reset", () => lab.change(lab.begin));
    if (!document.body.dataset.jpThemeName) button("link", () => this.link());
  }

  // The address of this page, with the present picture.
  link() {
    const { lab } = this;
    window.history.replaceState(null, "", toFragment(lab.meta.name, lab.state));
    navigator.clipboard?.writeText(window.location.href).catch(() => {});
    lab.say("The address of this page now leads to this picture.");
  }

  // A control that moves the picture while it is dragged.
  drag(input, part) {
    let moving = false;
    input.addEventListener("input", () => {
      if (!moving) this.lab.keep();
      moving = true;
      this.lab.set(part(Number(input.value)));
    });
    input.addEventListener("change", () => {
      moving = false;
      this.lab.commit();
    });
  }

  choose(parent, name, values, part) {
    const list = chooser(parent, name, values, (value) => WORDS[value] || value);
    list.addEventListener("change", () => this.lab.change(part(list.value)));
    this.lists[name] = list;
  }

  // The state that they show.
  show(state) {
    this.tSlider?.show(state.t, `t = ${state.t.toFixed(2)}`);
    for (const [name, control] of Object.entries(this.sliders)) control.show(state[name], state[name].toFixed(2));
    for (const show of this.shows) show(state);
    const { class: condition, data } = this.lists;
    if (condition) condition.value = state.condition.length ? state.condition[0] + 1 : "none";
    if (data && state.mixture !== this.named) {
      data.value = this.nameOf(state.mixture) ?? ""; // none of them, so that each can be chosen again
      this.named = state.mixture;
    }
    if (this.ghost) this.ghost.textContent = state.ghost ? "remove the ghost" : "leave a ghost";
  }
}
