// A line of text from Python. Without an answer from a kernel it says that nobody is there.

const PATIENCE = 2500; // milliseconds

function render({ model, el }) {
  const line = document.createElement("div");
  line.setAttribute("role", "status");
  line.style.cssText = "min-height: 1.4em; font: 13px/1.4 var(--jp-content-font-family, system-ui, sans-serif);";
  line.style.color = "var(--jp-content-font-color1, inherit)";
  el.append(line);
  let asleep = false;
  const show = () => { line.textContent = asleep ? model.get("asleep") : model.get("value"); };
  const answered = () => {
    clearTimeout(timer);
    asleep = false;
    show();
  };
  const timer = setTimeout(() => {
    asleep = true;
    show();
  }, PATIENCE);
  model.on("msg:custom", answered);
  model.on("change:value", answered);
  show();
  model.send({ ask: true });
  return () => {
    clearTimeout(timer);
    model.off("msg:custom", answered);
    model.off("change:value", answered);
  };
}

export default { render };
