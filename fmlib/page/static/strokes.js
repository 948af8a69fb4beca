// What views draw with: dots, and lines of one stroke, in coordinates of the view.

const TURN = 2 * Math.PI;

// points: flat, x and y of each.
export function dots(view, points, radius, color, alpha = 0.8) {
  const c = view.context;
  c.fillStyle = color;
  c.globalAlpha = alpha;
  c.beginPath();
  for (let i = 0; i < points.length; i += 2) {
    const [x, y] = [view.x(points[i]), view.y(points[i + 1])];
    c.moveTo(x + radius * view.ratio, y);
    c.arc(x, y, radius * view.ratio, 0, TURN);
  }
  c.fill();
  c.globalAlpha = 1;
}

// One stroke for all the lines that `lines` adds to the canvas's path.
export function strokes(view, color, width, alpha, lines) {
  const c = view.context;
  c.strokeStyle = color;
  c.lineWidth = width * view.ratio;
  c.globalAlpha = alpha;
  c.beginPath();
  lines(c);
  c.stroke();
  c.globalAlpha = 1;
}

export function polyline(view, c, points) {
  for (let i = 0; i < points.length; i += 2) {
    if (i) c.lineTo(view.x(points[i]), view.y(points[i + 1]));
    else c.moveTo(view.x(points[i]), view.y(points[i + 1]));
  }
}
