// Seeded random numbers: one seed gives the same points in every frame of a drag and on every machine.
//
// The generator is sfc32 (C. Doty-Humphrey, PractRand): four words of 32 bits, only integer additions and shifts.

const WARM_UP = 12; // rounds until the seed has reached every bit

// makeRandom(seed) -> { uniform(), normal(), normals(out) }. seed: a whole number below 2^53.
export function makeRandom(seed) {
  if (!Number.isSafeInteger(seed)) throw new Error(`seed must be a whole number, got ${String(seed)}`);
  let a = seed | 0;
  let b = Math.floor(seed / 2 ** 32) | 0;
  let c = 0x9e3779b9 | 0; // not zero, so that seed 0 is no special case
  let counter = 1;
  let spare = NaN; // the second of a pair of normal numbers

  const word = () => {
    const sum = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return sum >>> 0;
  };
  for (let i = 0; i < WARM_UP; i++) word();

  // In [0, 1), all 53 bits of it random.
  const uniform = () => {
    const high = word() >>> 5;
    return (high * 2 ** 26 + (word() >>> 6)) / 2 ** 53;
  };

  // N(0, 1), by Marsaglia's polar form of Box and Muller: it needs log and sqrt, but no cos, whose last digit differs
  // between browsers.
  const normal = () => {
    if (spare === spare) {
      const number = spare;
      spare = NaN;
      return number;
    }
    let x, y, square;
    do {
      x = 2 * uniform() - 1;
      y = 2 * uniform() - 1;
      square = x * x + y * y;
    } while (square >= 1 || square === 0);
    const radius = Math.sqrt((-2 * Math.log(square)) / square);
    spare = y * radius;
    return x * radius;
  };

  const normals = (out) => {
    for (let i = 0; i < out.length; i++) out[i] = normal();
    return out;
  };
  return { uniform, normal, normals };
}
