// The door: what a page or a reader hands in is refused here, with what came and what was expected.

const MOST = 2000; // components
const LARGEST = 1e6; // of a coordinate or a width: their squares, over the narrowest variance, are still numbers

// What came, short enough for a message.
function shown(value) {
  if (typeof value === "number" || value === undefined) return String(value);
  if (typeof value === "function") return "a function";
  const number = (_, v) => (typeof v === "number" && !Number.isFinite(v) ? String(v) : v); // JSON has no NaN
  const text = JSON.stringify(value, number) ?? typeof value;
  return text.length > 60 ? `${text.slice(0, 60)} …` : text;
}

function refuse(name, expected, value) {
  throw new Error(`${name} must be ${expected}, got ${shown(value)}`);
}

// The same for a list, of which only the length matters.
function refuseList(name, expected, list) {
  throw new Error(`${name} must be ${expected}, got ${isList(list) ? `${list.length} numbers` : shown(list)}`);
}

export function checkNumber(name, value, low = -Infinity, high = Infinity) {
  if (typeof value === "number" && Number.isFinite(value) && value >= low && value <= high) return value;
  const range = low === -Infinity ? "" : high === Infinity ? ` of at least ${low}` : ` from ${low} to ${high}`;
  return refuse(name, `a finite number${range}`, value);
}

export function checkInt(name, value, minimum = 1) {
  if (Number.isSafeInteger(value) && value >= minimum) return value;
  return refuse(name, `a whole number of at least ${minimum}`, value);
}

export function checkChoice(name, value, choices) {
  if (choices.includes(value)) return value;
  return refuse(name, `one of ${choices.join(", ")}`, value);
}

// n points of d numbers each in one flat array: returns n.
export function checkPoints(name, x, d) {
  if (!isList(x) || x.length % d) refuseList(name, `a flat array of points of ${d} numbers`, x);
  return x.length / d;
}

function isList(value) {
  return Array.isArray(value) || value instanceof Float64Array || value instanceof Float32Array;
}

// A mixture as the closed forms take it: a copy { means, stds, weights } whose weights add up to 1.
// means: K lists of d numbers, d = 1 or 2. stds: K numbers >= 0, or one for all; 0 makes a component a data point.
// weights: K numbers >= 0 with a positive sum, or nothing for equal ones. Throws an Error that names what does not fit.
export function checkMixture(json) {
  if (typeof json !== "object" || json === null || isList(json)) refuse("mixture", "{ means, stds, weights }", json);
  const { means } = json;
  if (!isList(means) || !means.length) refuse("means", "a list of K points", means);
  const count = means.length;
  if (count > MOST) refuse("means", `at most ${MOST} points`, count);
  const d = isList(means[0]) ? means[0].length : 0;
  if (d !== 1 && d !== 2) refuse("means[0]", "a list of 1 or 2 numbers", means[0]);
  const points = Array.from(means, (mean, k) => {
    if (!isList(mean) || mean.length !== d) refuse(`means[${k}]`, `a list of ${d} numbers, as means[0]`, mean);
    return Array.from(mean, (v, j) => checkNumber(`means[${k}][${j}]`, v, -LARGEST, LARGEST));
  });
  const widths = typeof json.stds === "number" ? Array(count).fill(json.stds) : json.stds;
  const stds = numbers("stds", widths, count, LARGEST);
  const weights = numbers("weights", json.weights ?? Array(count).fill(1), count, Infinity);
  const total = weights.reduce((sum, w) => sum + w, 0);
  if (!(total > 0 && total < Infinity)) refuse("weights", "numbers with a positive, finite sum", weights);
  return { means: points, stds, weights: weights.map((w) => w / total) };
}

function numbers(name, list, count, most) {
  if (!isList(list) || list.length !== count) refuseList(name, `${count} numbers, one a component`, list);
  return Array.from(list, (v, k) => checkNumber(`${name}[${k}]`, v, 0, most));
}
