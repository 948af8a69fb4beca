// Frames and their times.

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
