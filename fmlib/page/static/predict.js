// A question before the picture: the reader commits to a number or a choice, and only then sees the answer.
//
// What was said goes to Python in messages, never into the widget's state, which a notebook would save. Without a
// kernel it works all the same, and forgets.

import { element, onKeys, row, slider, stage } from "./controls.js";

const QUESTION = `
.fm-predict { border-left: 4px solid #56B4E9; padding: 2px 14px 8px; }
.fm-question { margin: 4px 0; font-size: 15px; max-width: 640px; } .fm-told { min-height: 1.4em; margin-top: 6px; max-width: 640px; }
.fm-choices label { display: block; padding: 3px 0; } .fm-choices .fm-right { font-weight: 600; }
`;

const CLOSE = 1.1; // a factor that counts as right

// How far off a number is, in words. unit: what stands behind a number.
export function verdict(said, answer, unit) {
  const shown = (v) => `${Number(v.toPrecision(3))}${unit}`;
  const is = `You said ${shown(said)}; it is ${shown(answer)}.`;
  if (shown(said) === shown(answer)) return `${is} Right.`;
  if (!(said * answer > 0)) return `${is} That is ${shown(Math.abs(said - answer))} off.`;
  const factor = Math.max(said / answer, answer / said);
  if (factor < CLOSE) return `${is} Right, within ${Math.ceil(100 * (factor - 1))} %.`;
  return `${is} That is ${factor.toPrecision(2)} times too ${Math.abs(said) > Math.abs(answer) ? "much" : "little"}.`;
}

// The two forms of a question: each builds its controls in `root`, and returns read() and tell(said), the words.
const FORMS = {
  number(root, { low, high, step, unit, answer }) {
    const control = slider(row(root), "your guess", { min: low, max: high, step });
    const show = (value) => control.show(value, `${Number(Number(value).toPrecision(4))}${unit}`);
    show((low + high) / 2);
    control.input.addEventListener("input", () => show(Number(control.input.value)));
    const say = (said) => (show(said), verdict(said, answer, unit));
    return { read: () => Number(control.input.value), say, inputs: [control.input] };
  },

  choice(root, { name, choices, answer }) {
    const box = element("div", { class: "fm-choices", role: "radiogroup", "aria-label": "your guess" }, root);
    const inputs = choices.map((words, i) => {
      const label = element("label", {}, box);
      const input = element("input", { type: "radio", name, value: i }, label);
      label.append(` ${words}`);
      return input;
    });
    const say = (said) => {
      inputs[said].checked = true;
      inputs.forEach((input, i) => input.parentNode.classList.toggle("fm-right", i === answer));
      return said === answer ? "Right." : `You said “${choices[said]}”. It is “${choices[answer]}”.`;
    };
    const read = () => inputs.findIndex((input) => input.checked);
    return { read, say, inputs };
  },
};

function render({ model, el }) {
  const meta = model.get("_meta");
  const root = stage(el, `Predict: ${meta.question}`, QUESTION);
  root.classList.add("fm-predict");
  element("p", { class: "fm-question" }, root, meta.question);
  const form = FORMS[meta.choices ? "choice" : "number"](root, meta);
  const commit = element("button", { type: "button" }, row(root), "I say so");
  const told = element("div", { class: "fm-told", role: "status" }, root);

  function show(said) {
    told.textContent = "";
    element("strong", {}, told, form.say(said));
    if (meta.because) told.append(` ${meta.because}`);
    for (const input of form.inputs) input.disabled = true;
    commit.hidden = true;
  }

  function say() {
    const said = form.read();
    if (said < 0 && meta.choices) {
      told.textContent = "Choose one first; a guess is enough.";
      return;
    }
    show(said);
    model.send?.({ said });
  }

  const hear = ({ said }) => {
    if (typeof said === "number") show(said);
  };
  commit.addEventListener("click", say);
  onKeys(root, { Enter: () => !commit.hidden && say() });
  model.on("msg:custom", hear);
  model.send?.({ ask: true });
  return () => {
    model.off("msg:custom", hear);
    root.remove();
  };
}

export default { render };
