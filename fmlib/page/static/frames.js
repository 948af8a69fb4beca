// Frames and their times: where a time lies between two of them, and how their bytes are read.

// Where t lies among increasing times: [index, weight of the next one].
export function locate(times, t) {
  let hi = times.length - 1;
  if (t >= times[hi]) return [hi - 1, 1];
  if (t <= times[0]) return [0, 0];
  let lo = 0;
  while (hi - lo > 1) {
    const mid = (lo + hi) >> 1;
    if (times[mid] <= t) lo = mid;
    else hi = mid;
  }
  return [lo, (t - times[lo]) / (times[hi] - times[lo])];
}

// `count` equally spaced times from the first of ts to the last.
export function uniform(ts, count) {
  const [first, last] = [ts[0], ts[ts.length - 1]];
  return Float64Array.from({ length: count }, (_, i) => first + ((last - first) * i) / (count - 1));
}

// A copy of the bytes of a DataView. Typed arrays need an aligned start; a comm's buffer may begin anywhere.
export function aligned(view) {
  return view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
}
