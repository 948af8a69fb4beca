// A text box. What is typed goes to Python in messages, never into the widget's state, which a notebook would save.

const CSS = `
.fm-answer { display: block; font: 13px/1.4 var(--jp-content-font-family, system-ui, sans-serif); margin: 4px 2px;
  color: var(--jp-content-font-color1, inherit); }
.fm-answer textarea { display: block; box-sizing: border-box; width: 100%; min-height: 90px; margin-top: 2px;
  padding: 6px 8px; resize: vertical; font: inherit; font-size: 14px; border-radius: 4px;
  color: var(--jp-content-font-color1, #1b1b1b); background: var(--jp-layout-color1, #fff);
  border: 1px solid var(--jp-content-font-color2, #777); }
.fm-answer textarea::placeholder { color: var(--jp-content-font-color2, #666); opacity: 1; }
.fm-answer textarea:disabled { background: var(--jp-layout-color2, #eee); }
.fm-answer textarea:focus-visible { outline: 3px solid #E69F00; outline-offset: 1px; }
`;

function render({ model, el }) {
  const style = document.createElement("style");
  style.textContent = CSS;
  const label = document.createElement("label");
  label.className = "fm-answer";
  label.dataset.lmSuppressShortcuts = ""; // JupyterLab has shortcuts on the same keys
  label.append(model.get("label"));
  const box = document.createElement("textarea");
  box.setAttribute("autocomplete", "off");
  label.append(box);
  el.append(style, label);

  const show = () => {
    box.placeholder = model.get("placeholder");
    box.disabled = model.get("disabled");
  };
  const hear = (message) => {
    if (typeof message.text === "string" && box.value !== message.text) box.value = message.text;
  };
  box.addEventListener("input", () => model.send({ text: box.value }));
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      model.send({ text: box.value, submit: true });
    }
  });
  model.on("change:placeholder change:disabled", show);
  model.on("msg:custom", hear);
  show();
  model.send({ ask: true });
  return () => {
    model.off("change:placeholder change:disabled", show);
    model.off("msg:custom", hear);
  };
}

export default { render };
