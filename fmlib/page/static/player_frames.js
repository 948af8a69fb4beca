// What comes from Python: frames, their times and their bytes.

// `count` equally spaced times from the first of ts to the last.
export function uniform(ts, count) {
  const [first, last] = [ts[0], ts[ts.length - 1]];
  return Float64Array.from({ length: count }, (_, i) => first + ((last - first) * i) / (count - 1));
}

// A copy of the bytes of a DataView. Typed arrays need an aligned start; a comm's buffer may begin anywhere.
export function aligned(view) {
  return view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
}
