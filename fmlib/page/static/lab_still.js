// The still picture of a lab, for pages where no lab lives.

// It is the output before the lab, told by its width, as JupyterLab drops its words. Returns what shows it again.
export function hideStill(el, width) {
  const before = el.closest(".jp-OutputArea-child")?.previousElementSibling;
  const still = before?.querySelector("img")?.getAttribute("width") === String(width) ? before : null;
  if (still) still.style.display = "none";
  return () => still?.style.removeProperty("display");
}
