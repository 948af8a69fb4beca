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

// One arrow in the middle of each cell of a grid over the view. of(k, longest): u and v, in canvas pixels, of the cell
// whose numbers begin at k, row by row from the bottom; an arrow of the length `longest` fills its cell.
export function arrowCells(view, rows, columns, color, of) {
  const c = view.context;
  const cellX = view.width / columns;
  const cellY = view.height / rows;
  const longest = 1.1 * Math.min(cellX, cellY);
  c.strokeStyle = color;
  c.lineWidth = view.ratio;
  c.beginPath();
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const [u, up] = of(2 * (row * columns + column), longest);
      arrow(c, (column + 0.5) * cellX - u / 2, view.height - (row + 0.5) * cellY + up / 2, u, -up);
    }
  }
  c.stroke();
}

// The largest speed among the values u and v of all cells.
export function fastest(values) {
  let most = 0;
  for (let k = 0; k < values.length; k += 2) most = Math.max(most, Math.hypot(values[k], values[k + 1]));
  return most;
}

// The same for values u and v of each cell, with lengths that grow as the square root of the speed; `most` is the speed
// of an arrow that fills its cell.
export function arrowGrid(view, rows, columns, values, color, most = fastest(values)) {
  arrowCells(view, rows, columns, color, (k, longest) => {
    const length = longest / Math.sqrt((most || 1) * (Math.hypot(values[k], values[k + 1]) || 1));
    return [values[k] * length, values[k + 1] * length];
  });
}
