// The player: particles, fields, densities and trajectories on a canvas, drawn in the page.
//
// Python sends the arrays once (fmlib/page/player.py says how they are packed). Dragging redraws here and talks to the
// kernel only on release. On a page without a kernel the same `render` runs on embedded data.

const CSS = `
.fm-player { --fm-ink: var(--jp-content-font-color1, light-dark(#1b1b1b, #e8e8e8));
  --fm-faint: var(--jp-content-font-color3, light-dark(#777, #999)); color: var(--fm-ink);
  font: 13px/1.4 var(--jp-content-font-family, system-ui, sans-serif); max-width: 840px; }
.fm-panels { display: flex; flex-wrap: wrap; gap: 8px; }
.fm-panel { flex: 0 1 calc((100% - 8px * (var(--fm-columns) - 1)) / var(--fm-columns)); max-width: 560px;
  margin: 0; min-width: min(200px, 100%); }
.fm-panel figcaption { text-align: center; }
.fm-panel canvas { width: 100%; display: block; border-radius: 4px; cursor: crosshair; }
.fm-row { display: flex; flex-wrap: wrap; align-items: center; gap: 6px 12px; margin-top: 6px; }
.fm-row label { display: flex; align-items: center; gap: 6px; flex: 1 1 260px; min-width: 0; }
.fm-row label.fm-small { flex: 0 0 auto; }
.fm-row input[type=range] { flex: 1; min-width: 80px; accent-color: #0072B2; }
.fm-row button, .fm-row select { font: inherit; color: inherit; background: transparent; padding: 2px 10px;
  border: 1px solid var(--fm-faint); border-radius: 4px; min-height: 28px; }
.fm-row select option { color: #1b1b1b; background: #fff; }
.fm-row output { min-width: 5.5em; font-variant-numeric: tabular-nums; }
.fm-player :focus-visible { outline: 3px solid #E69F00; outline-offset: 2px; }
.fm-readout { min-height: 1.4em; color: var(--fm-faint); font-variant-numeric: tabular-nums; }
`;

const NOISE = [0, 114, 178];
const DATA = [230, 159, 0];
const MODEL = "#009E73";
const HOVER_RADIUS = 14; // CSS pixels

// From noise blue over the page's ink to data orange.
function blend(progress, ink) {
  const [a, b] = progress < 0.5 ? [NOISE, ink] : [ink, DATA];
  const w = progress < 0.5 ? 2 * progress : 2 * progress - 1;
  return a.map((v, i) => Math.round(v + (b[i] - v) * w));
}

function element(tag, attributes = {}, parent = null, text = "") {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text) node.textContent = text;
  if (parent) parent.append(node);
  return node;
}

// Where a time lies on a grid of `count` equal intervals or on explicit times: [index, weight of the next one].
function locate(times, t) {
  let hi = times.length - 1;
  if (t >= times[hi]) return [hi - 1, 1];
  if (t <= times[0]) return [0, 0];
  let lo = 0;
  while (hi - lo > 1) {
    const mid = (lo + hi) >> 1;
    if (times[mid] <= t) lo = mid;
    else hi = mid;
  }
  return [lo, (t - times[lo]) / (times[hi] - times[lo])];
}

function uniform(first, last, count) {
  return Float64Array.from({ length: count }, (_, i) => first + ((last - first) * i) / (count - 1));
}

class Panel {
  constructor(meta, buffer, ts, parent, name) {
    this.meta = meta;
    const figure = element("figure", { class: "fm-panel" }, parent);
    this.figure = figure;
    if (meta.title) element("figcaption", {}, figure, meta.title);
    this.canvas = element("canvas", { role: "img", tabindex: "0", "aria-label": name }, figure);
    this.context = this.canvas.getContext("2d");
    const [left, right, bottom, top] = meta.limits;
    this.limits = { left, right, bottom, top };
    this.canvas.style.aspectRatio = `${right - left} / ${top - bottom}`;

    const { origin, scale } = meta; // coordinate = origin + scale * integer
    this.origin = origin;
    this.scale = scale;
    const track = (entry, times) => ({
      times,
      particles: entry.shape[1],
      values: new Uint16Array(buffer, entry.offset, entry.shape[0] * entry.shape[1] * 2),
    });
    this.base = meta.particles && track(meta.particles, Float64Array.from(ts));
    this.bySteps = new Map(
      (meta.by_steps || []).map((e) => [e.steps, track(e, uniform(ts[0], ts[ts.length - 1], e.shape[0]))])
    );
    this.field = meta.field && {
      ...meta.field,
      times: uniform(ts[0], ts[ts.length - 1], Math.max(2, meta.field.shape[0])),
      values: new Int8Array(buffer, meta.field.offset, meta.field.shape.reduce((a, b) => a * b)),
    };
    this.densities = meta.density ? this.readDensities(meta.density, buffer, ts) : null;
    this.track = null;
  }

  readDensities(entry, buffer, ts) {
    const [frames, height, width] = entry.shape;
    const bytes = new Uint8Array(buffer, entry.offset, frames * height * width);
    const images = [];
    for (let f = 0; f < frames; f++) {
      const image = element("canvas");
      image.width = width;
      image.height = height;
      const pixels = new ImageData(width, height);
      for (let row = 0; row < height; row++) {
        for (let column = 0; column < width; column++) {
          const to = 4 * ((height - 1 - row) * width + column); // row 0 is the bottom
          pixels.data.set([128, 128, 128, 0.45 * bytes[(f * height + row) * width + column]], to);
        }
      }
      image.getContext("2d").putImageData(pixels, 0, 0);
      images.push(image);
    }
    return { images, times: uniform(ts[0], ts[ts.length - 1], Math.max(2, frames)) };
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    const width = Math.max(1, Math.round(this.canvas.clientWidth * ratio));
    const height = Math.max(1, Math.round(this.canvas.clientHeight * ratio));
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    const { left, right, bottom, top } = this.limits;
    this.ratio = ratio;
    this.toX = width / (right - left);
    this.toY = height / (top - bottom);
  }

  // Pixel coordinates of the coordinate integers.
  px(integer) {
    return (this.origin[0] + this.scale[0] * integer - this.limits.left) * this.toX;
  }
  py(integer) {
    return (this.limits.top - this.origin[1] - this.scale[1] * integer) * this.toY;
  }
  at(track, t) {
    const [i, w] = locate(track.times, t);
    const a = 2 * i * track.particles;
    return { i, w, a, b: a + 2 * track.particles };
  }
  position(track, where, k) {
    const { a, b, w } = where;
    const v = track.values;
    const x = v[a + 2 * k] * (1 - w) + v[b + 2 * k] * w;
    const y = v[a + 2 * k + 1] * (1 - w) + v[b + 2 * k + 1] * w;
    return [this.px(x), this.py(y)];
  }

  draw(state, style) {
    this.resize();
    const c = this.context;
    const { canvas, ratio } = this;
    c.setTransform(1, 0, 0, 1, 0, 0);
    c.clearRect(0, 0, canvas.width, canvas.height);
    if (this.densities) this.drawDensity(c, state.t);
    if (this.field) this.drawField(c, state.t, style);
    const chosen = this.bySteps.size ? this.bySteps.get(state.steps) : null;
    this.track = chosen || this.base;
    if (chosen && this.base) {
      this.drawTrails(c, this.base, state.t, style.ink, 1, 0.8); // exact
      this.drawTrails(c, this.track, state.t, MODEL, 1.6, 0.85); // what a solver or a network makes of it
    } else this.drawTrails(c, this.track, state.t, style.ink, 1.2, 0.55);
    this.drawDots(c, this.track, state, style);
    if (state.hover >= 0 && state.hover < this.track.particles) this.drawHover(c, state, style);
  }

  drawDensity(c, t) {
    const { images, times } = this.densities;
    const [i, w] = locate(times, t);
    const next = images[Math.min(i + 1, images.length - 1)];
    c.imageSmoothingEnabled = true;
    c.globalAlpha = 1 - w;
    c.drawImage(images[Math.min(i, images.length - 1)], 0, 0, this.canvas.width, this.canvas.height);
    c.globalAlpha = w;
    c.drawImage(next, 0, 0, this.canvas.width, this.canvas.height);
    c.globalAlpha = 1;
  }

  drawField(c, t, style) {
    const { shape, times, values, longest } = this.field;
    const [frames, rows, columns] = shape;
    const [i, w] = locate(times, t);
    const size = rows * columns * 2;
    const a = Math.min(i, frames - 1) * size;
    const b = Math.min(i + 1, frames - 1) * size;
    const cellX = this.canvas.width / columns;
    const cellY = this.canvas.height / rows;
    const reach = (1.1 * Math.min(cellX, cellY)) / longest; // pixels per integer; the longest arrow fills its cell
    c.strokeStyle = style.faint;
    c.lineWidth = this.ratio;
    c.beginPath();
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const k = 2 * (row * columns + column);
        const u = (values[a + k] * (1 - w) + values[b + k] * w) * reach;
        const v = -(values[a + k + 1] * (1 - w) + values[b + k + 1] * w) * reach;
        const x = (column + 0.5) * cellX - u / 2;
        const y = this.canvas.height - (row + 0.5) * cellY - v / 2;
        c.moveTo(x, y);
        c.lineTo(x + u, y + v);
        const back = 0.35; // two short strokes make the head
        c.lineTo(x + u - back * (u - 0.6 * v), y + v - back * (v + 0.6 * u));
        c.moveTo(x + u, y + v);
        c.lineTo(x + u - back * (u + 0.6 * v), y + v - back * (v - 0.6 * u));
      }
    }
    c.stroke();
  }

  drawTrails(c, track, t, color, width, alpha) {
    const count = Math.min(this.meta.trails, track.particles);
    if (!count) return;
    const where = this.at(track, t);
    c.strokeStyle = color;
    c.globalAlpha = alpha;
    c.lineWidth = width * this.ratio;
    c.beginPath();
    for (let k = 0; k < count; k++) this.trace(c, track, k, where);
    c.stroke();
    c.globalAlpha = 1;
  }

  trace(c, track, k, where) {
    const v = track.values;
    const stride = 2 * track.particles;
    c.moveTo(this.px(v[2 * k]), this.py(v[2 * k + 1]));
    for (let f = 1; f <= where.i; f++) c.lineTo(this.px(v[f * stride + 2 * k]), this.py(v[f * stride + 2 * k + 1]));
    c.lineTo(...this.position(track, where, k));
  }

  drawDots(c, track, state, style) {
    const where = this.at(track, state.t);
    const radius = this.meta.dot * this.ratio;
    const color = this.meta.color || `rgb(${blend(state.progress, style.dots)})`;
    c.fillStyle = color;
    c.globalAlpha = 0.8;
    c.beginPath();
    for (let k = 0; k < track.particles; k++) {
      const [x, y] = this.position(track, where, k);
      c.moveTo(x + radius, y);
      c.arc(x, y, radius, 0, 6.2832);
    }
    c.fill();
    c.globalAlpha = 1;
  }

  drawHover(c, state, style) {
    const { track } = this;
    const last = this.at(track, Infinity);
    const ends = [this.position(track, this.at(track, -Infinity), state.hover), this.position(track, last, state.hover)];
    c.strokeStyle = style.ink;
    c.lineWidth = 2 * this.ratio;
    c.beginPath();
    this.trace(c, track, state.hover, last);
    c.stroke();
    const here = this.position(track, this.at(track, state.t), state.hover);
    [...ends, here].forEach(([x, y], i) => {
      c.fillStyle = i === 2 ? style.ink : `rgb(${[NOISE, DATA][i]})`;
      c.strokeStyle = style.ink;
      c.lineWidth = this.ratio;
      c.beginPath();
      c.arc(x, y, (i === 2 ? 3.5 : 5) * this.ratio, 0, 6.2832);
      c.fill();
      c.stroke();
    });
  }

  // The particle nearest to a point in CSS pixels, or -1.
  nearest(x, y, t) {
    if (!this.track) return -1;
    const where = this.at(this.track, t);
    let best = -1;
    let least = (HOVER_RADIUS * this.ratio) ** 2;
    for (let k = 0; k < this.track.particles; k++) {
      const [px, py] = this.position(this.track, where, k);
      const d = (px - x * this.ratio) ** 2 + (py - y * this.ratio) ** 2;
      if (d < least) [least, best] = [d, k];
    }
    return best;
  }

  describe(k) {
    const { track } = this;
    const show = (t) => {
      const { a, b, w } = this.at(track, t);
      return [0, 1].map((d) => {
        const raw = track.values[a + 2 * k + d] * (1 - w) + track.values[b + 2 * k + d] * w;
        return (this.origin[d] + this.scale[d] * raw).toFixed(2);
      }).join(", ");
    };
    return `particle ${k}: x₀ = (${show(-Infinity)}) → x₁ = (${show(Infinity)})`;
  }
}

function render({ model, el }) {
  const meta = model.get("_meta");
  const raw = model.get("_data");
  // The views need an aligned start; a comm's buffer may begin anywhere.
  const buffer = raw.buffer.slice(raw.byteOffset, raw.byteOffset + raw.byteLength);
  const { ts, label, choices, step_values: stepValues } = meta;
  const [first, last] = [ts[0], ts[ts.length - 1]];
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;

  const state = { t: model.get("t"), steps: model.get("steps"), selection: model.get("selection"), hover: -1 };
  const root = element("div", { class: "fm-player", role: "group", "aria-label": meta.alt }, el);
  root.dataset.lmSuppressShortcuts = ""; // JupyterLab has shortcuts on the same keys
  element("style", {}, root, CSS);
  const panelRow = element("div", { class: "fm-panels" }, root);
  const panels = meta.panels.map((p) => new Panel(p, buffer, ts, panelRow, p.title || meta.alt));

  const row = element("div", { class: "fm-row" }, root);
  const play = element("button", { type: "button" }, row, "▶ play");
  const tLabel = element("label", {}, row, label);
  const tSlider = element("input", { type: "range", min: first, max: last, step: (last - first) / 1000 }, tLabel);
  const tOut = element("output", {}, tLabel);
  const speedLabel = element("label", { class: "fm-small" }, row, "speed");
  const speed = element("select", {}, speedLabel);
  for (const factor of [0.25, 0.5, 1, 2]) element("option", { value: factor }, speed, `${factor} ×`);
  speed.value = "1";

  let stepSlider = null;
  let stepOut = null;
  let chooser = null;
  const second = element("div", { class: "fm-row" }, root);
  if (stepValues.length > 1) {
    const stepLabel = element("label", {}, second, meta.steps_label);
    stepSlider = element("input", { type: "range", min: 0, max: stepValues.length - 1, step: 1 }, stepLabel);
    stepOut = element("output", {}, stepLabel);
  }
  if (choices.length > 1) {
    const chooserLabel = element("label", { class: "fm-small" }, second, meta.choice_label);
    chooser = element("select", {}, chooserLabel);
    for (const choice of choices) element("option", { value: choice }, chooser, choice);
  }
  const readout = element("div", { class: "fm-readout", role: "status", "aria-live": "polite" }, root);

  let frame = 0;
  let playing = 0; // the time stamp of the last drawn frame while playing
  let dragging = false;
  let style = null;

  function readStyle() {
    const computed = getComputedStyle(root);
    style = { ink: computed.color, faint: computed.getPropertyValue("--fm-faint").trim() || "#888" };
    const probe = element("span", { style: "color: var(--fm-faint)" }, root); // resolves light-dark()
    style.faint = getComputedStyle(probe).color;
    probe.remove();
    const ink = style.ink.match(/[\d.]+/g).slice(0, 3).map(Number);
    style.dots = ink.map((v) => 0.7 * v + 0.3 * 128);
  }

  function draw() {
    frame = 0;
    if (!style) readStyle();
    state.progress = (state.t - first) / (last - first);
    const visible = panels.filter((panel) => !panel.meta.choice || panel.meta.choice === state.selection);
    const columns = visible.length <= 3 ? visible.length : Math.ceil(visible.length / 2);
    panelRow.style.setProperty("--fm-columns", columns);
    for (const panel of panels) panel.figure.style.display = visible.includes(panel) ? "" : "none";
    for (const panel of visible) panel.draw(state, style);
    tSlider.value = state.t;
    const decimals = last - first > 20 ? 0 : 2;
    tOut.textContent = `${label} = ${state.t.toFixed(decimals)}`;
    tSlider.setAttribute("aria-valuetext", tOut.textContent);
    if (stepSlider) {
      stepSlider.value = stepValues.indexOf(state.steps);
      stepOut.textContent = String(state.steps);
      stepSlider.setAttribute("aria-valuetext", `${meta.steps_label} ${state.steps}`);
    }
    if (chooser) chooser.value = state.selection;
    root.dataset.drawn = Number(root.dataset.drawn || 0) + 1; // counted by the browser tests and the benchmark
    root.dataset.t = state.t;
    root.dataset.steps = state.steps;
  }

  function redraw() {
    if (!frame) frame = requestAnimationFrame(draw);
  }

  function announce() {
    const parts = [`${label} = ${state.t.toFixed(2)}`];
    if (stepSlider) parts.push(`${meta.steps_label} ${state.steps}`);
    if (chooser) parts.push(state.selection);
    readout.textContent = parts.join(", ");
  }

  // Tell Python, once a movement has ended.
  function commit() {
    for (const name of ["t", "steps", "selection"]) {
      if (model.get(name) !== state[name]) model.set(name, state[name]);
    }
    model.save_changes();
    announce();
  }

  function setT(t) {
    state.t = Math.min(last, Math.max(first, t));
    redraw();
  }

  function stop() {
    if (!playing) return;
    playing = 0;
    play.textContent = "▶ play";
    commit();
  }

  function tick(now) {
    if (!playing || !root.isConnected) return;
    const elapsed = (now - playing) / 1000;
    const rate = (Number(speed.value) * (last - first)) / 3; // the whole range in three seconds
    if (!calm) {
      setT(state.t + elapsed * rate);
      playing = now;
    } else if (elapsed > 0.8) {
      setT(state.t + (last - first) / 8); // with reduced motion: eight stills
      playing = now;
    }
    if (state.t >= last) stop();
    else requestAnimationFrame(tick);
  }

  function toggle() {
    if (playing) return stop();
    if (state.t >= last) setT(first);
    play.textContent = "❚❚ pause";
    playing = performance.now();
    requestAnimationFrame(tick);
  }

  play.addEventListener("click", toggle);
  tSlider.addEventListener("input", () => {
    dragging = true;
    playing = 0;
    play.textContent = "▶ play";
    setT(Number(tSlider.value));
  });
  tSlider.addEventListener("change", () => {
    dragging = false;
    commit();
  });
  stepSlider?.addEventListener("input", () => {
    dragging = true;
    state.steps = stepValues[Number(stepSlider.value)];
    redraw();
  });
  stepSlider?.addEventListener("change", () => {
    dragging = false;
    commit();
  });
  chooser?.addEventListener("change", () => {
    state.selection = chooser.value;
    redraw();
    commit();
  });

  // Keys, on a focused canvas and on the slider of t: 1/50 of the range, with Shift 1/500. The slider's own step is as
  // fine as a hand can drag, too fine for a key.
  function keys(target, moves) {
    target.addEventListener("keydown", (event) => {
      const move = moves[event.key];
      if (!move || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      event.stopPropagation();
      if (event.key !== " ") stop();
      move(((last - first) / 50) * (event.shiftKey ? 0.1 : 1));
      if (event.key !== " ") commit();
    });
  }
  const left = (small) => setT(state.t - small);
  const right = (small) => setT(state.t + small);
  const far = {
    Home: () => setT(first),
    End: () => setT(last),
    PageDown: (small) => setT(state.t - 5 * small),
    PageUp: (small) => setT(state.t + 5 * small),
  };
  keys(tSlider, { ArrowLeft: left, ArrowDown: left, ArrowRight: right, ArrowUp: right, ...far });
  const canvasKeys = { ...far, ArrowDown: far.PageDown, ArrowUp: far.PageUp, " ": toggle };
  keys(panelRow, { ArrowLeft: left, ArrowRight: right, ...canvasKeys });

  for (const panel of panels) {
    panel.canvas.addEventListener("pointermove", (event) => {
      const box = panel.canvas.getBoundingClientRect();
      const found = panel.nearest(event.clientX - box.left, event.clientY - box.top, state.t);
      if (found === state.hover) return;
      state.hover = found;
      if (found >= 0) readout.textContent = panel.describe(found);
      redraw();
    });
    panel.canvas.addEventListener("pointerleave", () => {
      state.hover = -1;
      redraw();
    });
  }

  const fromPython = { "change:t": "t", "change:steps": "steps", "change:selection": "selection" };
  const listeners = Object.entries(fromPython).map(([event, name]) => {
    const listener = () => {
      if (dragging) return;
      state[name] = model.get(name);
      redraw();
      announce();
    };
    model.on(event, listener);
    return [event, listener];
  });

  const sizes = new ResizeObserver(redraw);
  panels.forEach((panel) => sizes.observe(panel.canvas));
  const themes = new MutationObserver(() => {
    style = null;
    redraw();
  });
  themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-name", "class"] });
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const retheme = () => {
    style = null;
    redraw();
  };
  dark.addEventListener("change", retheme);
  redraw();

  return () => {
    playing = 0;
    cancelAnimationFrame(frame);
    sizes.disconnect();
    themes.disconnect();
    dark.removeEventListener("change", retheme);
    for (const [event, listener] of listeners) model.off(event, listener);
    root.remove();
  };
}

export default { render };
