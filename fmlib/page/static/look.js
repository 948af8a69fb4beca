// The style sheet of what is drawn in the page: panels with pictures, and rows of controls below them.

export const CSS = `
.fm-player { --fm-page: var(--jp-layout-color0, light-dark(#fff, #161616)); position: relative; --fm-ink: var(--jp-content-font-color1, light-dark(#1b1b1b, #e8e8e8));
  --fm-faint: var(--jp-content-font-color3, light-dark(#6b6b6b, #999)); color: var(--fm-ink);
  font: 13px/1.4 var(--jp-content-font-family, system-ui, sans-serif); max-width: 840px; }
.fm-panels { gap: 8px; }
.fm-panel figcaption { text-align: center; }
.fm-lab .fm-panels { display: grid; grid-template-columns: repeat(var(--fm-columns), 1fr); }
.fm-lab .fm-panel { margin: 0; min-width: 0; font-variant-numeric: tabular-nums; }
@media (max-width: 600px) { .fm-lab .fm-panels { grid-template-columns: 1fr 1fr; } }
.fm-row { display: flex; flex-wrap: wrap; align-items: center; gap: 6px 12px; margin-top: 6px; }
.fm-row label { display: flex; align-items: center; gap: 6px; flex: 1 1 20em; min-width: 0; }
.fm-row label.fm-small { flex: 0 0 auto; }
.fm-row input[type=range] { flex: 1; min-width: 80px; min-height: 24px; accent-color: #0072B2; }
.fm-row button, .fm-row select, .fm-tour button { font: inherit; color: inherit; background: transparent; padding: 2px 10px;
  border: 1px solid var(--fm-faint); border-radius: 4px; min-height: 28px; }
.fm-row select option { color: #1b1b1b; background: #fff; }
.fm-row output { min-width: 5.5em; font-variant-numeric: tabular-nums; }
.fm-player :focus-visible { outline: 3px solid #E69F00; outline-offset: 2px; }
.jupyter-widgets-disconnected:has(> .fm-player)::before { content: none; }
.fm-scene { position: relative; max-width: min(640px, 52vh * (var(--fm-aspect))); touch-action: manipulation; }
.fm-scene canvas { width: 100%; display: block; border-radius: 4px; cursor: crosshair; }
.fm-handle { position: absolute; width: 28px; height: 28px; margin: -14px 0 0 -14px; padding: 0; border: 0;
  background: transparent; cursor: grab; touch-action: none; border-radius: 50%; }
.fm-handle::before { content: ""; position: absolute; inset: 7px; border-radius: 50%; border: 2px solid #fff;
  background: #E69F00; box-shadow: 0 0 0 1px #1b1b1b; }
.fm-handle.fm-width::before { inset: 9px; background: #fff; border-color: #E69F00; }
.fm-panel .fm-centre { z-index: 1; } /* over the width, which is near */
.fm-handle.fm-probe::before { background: var(--fm-ink); }
.fm-handle.fm-weight::before { inset: 9px; border-radius: 2px; background: #fff; border-color: #E69F00; }
.fm-handle.fm-box::before, .fm-handle.fm-corner::before { border-radius: 2px; background: var(--fm-ink); }
.fm-drawing .fm-handle { display: none; } .fm-drawing canvas { touch-action: none; cursor: cell; }
.fm-spoken { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.fm-row button[aria-pressed=true] { background: #0072B2; color: #fff; border-color: #0072B2; }
@media (forced-colors: active) { .fm-handle::before { forced-color-adjust: none; }
  .fm-row button[aria-pressed=true] { forced-color-adjust: none; background: Highlight; color: HighlightText; } }
.fm-handle:active { cursor: grabbing; } .fm-handle.fm-outside { opacity: 0.4; }
.fm-tour { display: flex; gap: 8px; align-items: baseline; margin: 0 0 6px; max-width: 640px; }
.fm-tour p { flex: 1; margin: 0; min-height: 2.8em; font-size: 14px; }
.fm-tour button:disabled { opacity: 0.4; }
.fm-refused:empty { display: none; } .fm-refused { border-left: 4px solid #D55E00; padding-left: 8px; margin: 6px 0; }
.fm-readout { min-height: 1.4em; margin-top: 6px; white-space: pre-line; font-variant-numeric: tabular-nums; }
`;
