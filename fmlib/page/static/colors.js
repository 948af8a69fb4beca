// The palette, and the colours that follow the theme of the page.

export const NOISE = [0, 114, 178];
export const DATA = [230, 159, 0];
export const MODEL = "#009E73";
export const PATH = "#999999";
export const WRONG = "#D55E00";
export const OTHER = "#CC79A7";
export const THIRD = "#56B4E9";

// From noise blue over the page's ink to data orange.
export function blend(progress, ink) {
  const [a, b] = progress < 0.5 ? [NOISE, ink] : [ink, DATA];
  const w = progress < 0.5 ? 2 * progress : 2 * progress - 1;
  return a.map((v, i) => Math.round(v + (b[i] - v) * w));
}

// What the theme makes of a widget's ink, of its faint ink and of the page; and `dots`, the ink in the middle of `blend`.
export function themeColors(root) {
  const ink = getComputedStyle(root).color;
  const [faint, page] = ["--fm-faint", "--fm-page"].map((name) => {
    const probe = document.createElement("span"); // a canvas does not know light-dark() and variables
    probe.style.color = `var(${name})`;
    root.append(probe);
    const { color } = getComputedStyle(probe);
    probe.remove();
    return color;
  });
  const parts = ink.match(/[\d.]+/g).slice(0, 3).map(Number);
  return { ink, faint, page, dots: parts.map((v) => 0.7 * v + 0.3 * 128) };
}

// Call `changed` when JupyterLab or the system changes its theme. Returns a function that ends it.
export function onNewTheme(changed) {
  const themes = new MutationObserver(changed);
  themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-name", "class"] });
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", changed);
  return () => {
    themes.disconnect();
    dark.removeEventListener("change", changed);
  };
}
