// Arrows on a canvas, as strokes of the path that is begun.

const HEAD = 0.35; // length of an arrow's head, relative to the arrow

// From (x, y) by (u, v), in canvas pixels; two short strokes make the head, no longer than `limit`.
export function arrow(c, x, y, u, v, limit = Infinity) {
  const head = Math.min(HEAD, limit / (Math.hypot(u, v) || 1));
  c.moveTo(x, y);
  c.lineTo(x + u, y + v);
  c.lineTo(x + u - head * (u - 0.6 * v), y + v - head * (v + 0.6 * u));
  c.moveTo(x + u, y + v);
  c.lineTo(x + u - head * (u + 0.6 * v), y + v - head * (v - 0.6 * u));
}

// One arrow in the middle of each cell of a grid over the view, with lengths that grow as the square root of the speed.
// values: u and v of each cell, row by row from the bottom.
export function arrowGrid(view, rows, columns, values, color) {
  const c = view.context;
  const cellX = view.width / columns;
  const cellY = view.height / rows;
  let fastest = 0;
  for (let k = 0; k < 2 * rows * columns; k += 2) fastest = Math.max(fastest, Math.hypot(values[k], values[k + 1]));
  const reach = (1.1 * Math.min(cellX, cellY)) / Math.sqrt(fastest || 1); // the longest arrow fills its cell
  c.strokeStyle = color;
  c.lineWidth = view.ratio;
  c.beginPath();
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const k = 2 * (row * columns + column);
      const length = reach / Math.sqrt(Math.hypot(values[k], values[k + 1]) || 1);
      const [u, v] = [values[k] * length, -values[k + 1] * length];
      arrow(c, (column + 0.5) * cellX - u / 2, view.height - (row + 0.5) * cellY - v / 2, u, v);
    }
  }
  c.stroke();
}
