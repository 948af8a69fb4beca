// One picture: density, arrows and particles on top of each other.

import { MODEL, blend } from "./colors.js";
import { element } from "./controls.js";
import { Density } from "./density.js";
import { Field } from "./field.js";
import { Particles } from "./particles.js";
import { uniform } from "./player_frames.js";
import { View } from "./view.js";

export const PANELS = `
.fm-panels { display: flex; flex-wrap: wrap; }
.fm-panel { flex: 0 1 calc((100% - 8px * (var(--fm-columns) - 1)) / var(--fm-columns)); max-width: 560px;
  margin: 0; min-width: min(200px, 100%); }
.fm-panel canvas { width: 100%; display: block; border-radius: 4px; cursor: crosshair; }
`;

export class Panel {
  // meta: the panel as fmlib/page/panel.py describes it. buffer: its arrays and those of the others.
  constructor(meta, buffer, ts, parent, name) {
    this.meta = meta;
    this.figure = element("figure", { class: "fm-panel" }, parent);
    if (meta.title) element("figcaption", {}, this.figure, meta.title);
    this.view = new View(meta.limits, this.figure, name);
    const particles = (entry, times) => new Particles(entry, buffer, times, meta.origin, meta.scale);
    this.base = meta.particles && particles(meta.particles, ts);
    this.bySteps = new Map(meta.by_steps.map((e) => [e.steps, particles(e, uniform(ts, e.shape[0]))]));
    this.field = meta.field && new Field(meta.field, buffer, ts);
    this.density = meta.density && new Density(meta.density, buffer, ts);
    this.shown = null; // the particles that were drawn last, as dots
  }

  draw({ t, progress, steps, hover }, colors) {
    const { view, meta, base } = this;
    view.clear();
    this.density?.draw(view, t);
    this.field?.draw(view, t, colors.faint);
    const chosen = this.bySteps.get(steps);
    this.shown = chosen || base;
    if (chosen && base) {
      base.drawTrails(view, t, meta.trails, colors.ink, 1, 0.8); // exact
      chosen.drawTrails(view, t, meta.trails, MODEL, 1.6, 0.85); // what a solver or a network makes of it
    } else this.shown.drawTrails(view, t, meta.trails, colors.ink, 1.2, 0.55);
    this.shown.drawDots(view, t, meta.dot, meta.color || `rgb(${blend(progress, colors.dots)})`);
    if (hover >= 0 && hover < this.shown.count) this.shown.drawWay(view, t, hover, colors.ink);
  }

  // The particle under a place in the window, or -1.
  nearest(clientX, clientY, t) {
    return this.shown ? this.shown.nearest(this.view, ...this.view.pixel(clientX, clientY), t) : -1;
  }

  describe(k) {
    return this.shown.describe(k);
  }
}
