// The error of one prediction as the error of another. The twin of fmlib/conversions.py.

export const PREDICTED_NAMES = ["velocity", "epsilon", "x1", "score", "v_diff"];

const ALMOST = 1e-15;
const NO_LIMIT = 1e6;

// What an error of one of these is in each of them, at the time t and a given x_t; Infinity where it has no limit. At an
// end, where two of the slopes may be 0, it is that of a time beside it.
export function errorsOf(path, time, predicted, error) {
  const t = Math.min(1 - ALMOST, Math.max(ALMOST, time));
  const [alpha, sigma] = [path.alpha(t), path.sigma(t)];
  const slopes = { // of each when epsilon changes, times alpha sigma: so none of them divides
    velocity: Math.abs(alpha * path.halfDSigmaSq(t) - path.dAlpha(t) * sigma ** 2), // sigma' is infinite at an end
    epsilon: alpha * sigma,
    x1: sigma ** 2,
    score: alpha,
    v_diff: (alpha ** 2 + sigma ** 2) * sigma,
  };
  const own = slopes[predicted];
  for (const name in slopes) slopes[name] = error && (slopes[name] < NO_LIMIT * own ? (error * slopes[name]) / own : Infinity);
  return slopes;
}
