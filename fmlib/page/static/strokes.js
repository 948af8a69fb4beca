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

// Words beside a place, in the page's ink and with a margin of the page's colour, so that they read on lines. before: they end
// at the place.
export function label(view, words, x, y, before = false) {
  const c = view.context;
  c.font = `600 ${13 * view.ratio}px system-ui, sans-serif`;
  c.lineWidth = 3 * view.ratio;
  c.lineJoin = "round";
  c.strokeStyle = view.colors.page;
  c.fillStyle = view.colors.ink;
  const room = c.measureText(words).width + 8 * view.ratio;
  const left = Math.max(2 * view.ratio, Math.min(view.x(x) + (before ? -room : 7 * view.ratio), view.width - room));
  const down = Math.max(14 * view.ratio, Math.min(view.y(y) - 6 * view.ratio, view.height - 4 * view.ratio));
  c.strokeText(words, left, down);
  c.fillText(words, left, down);
}
