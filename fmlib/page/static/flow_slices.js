// Long work in slices: between two of them the page hears the hand and draws.

// A pause that lets events through. A message, as a timer waits at least 4 ms after a few rounds.
function breath() {
  return new Promise((go) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      go();
    };
    port2.postMessage(null);
  });
}

// Run an iterator to its end, at most budgetMs at a time (and never less than one of its pieces). Returns a promise of
// the value it returns; undefined if `signal`, an AbortSignal, ends it before. An error in a piece rejects the promise.
//   const trajectory = await inSlices(solving(field, x0, { steps: 100, group: 128 }), 6, drag.signal);
export const inSlices = async (work, budgetMs = 6, signal = null) => {
  while (!signal?.aborted) {
    const until = performance.now() + budgetMs;
    do {
      const piece = work.next();
      if (piece.done) return piece.value;
    } while (performance.now() < until);
    await breath();
  }
  work.return?.();
  return undefined;
};
