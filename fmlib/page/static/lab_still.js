// The still picture of a lab, for pages where no lab lives.

// It is the output before the lab. Returns what shows it again.
export function hideStill(el, alt) {
  const before = el.closest(".jp-OutputArea-child")?.previousElementSibling;
  const still = before?.querySelector("img")?.getAttribute("alt") === alt ? before : null;
  if (still) still.style.display = "none";
  return () => still?.style.removeProperty("display");
}
