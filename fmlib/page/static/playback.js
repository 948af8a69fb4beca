// Play: time runs by itself, from where it is to the last moment, the whole range in three seconds at speed 1.

const [PLAY, PAUSE] = ["▶ play", "❚❚ pause"];

// button, speed: the controls. time: { first, last, get, set }. ended: called when it stops by itself or by the button.
export function playback(button, speed, time, ended) {
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  const range = time.last - time.first;
  let since = 0; // the time stamp of the last step while playing, else 0

  function pause() {
    since = 0;
    button.textContent = PLAY;
  }

  function stop() {
    if (!since) return;
    pause();
    ended();
  }

  function tick(now) {
    if (!since || !button.isConnected) return;
    const elapsed = (now - since) / 1000;
    if (!calm) {
      time.set(time.get() + elapsed * ((Number(speed.value) * range) / 3));
      since = now;
    } else if (elapsed > 0.8) {
      time.set(time.get() + range / 8); // with reduced motion: eight stills
      since = now;
    }
    if (time.get() >= time.last) stop();
    else requestAnimationFrame(tick);
  }

  function toggle() {
    if (since) return stop();
    if (time.get() >= time.last) time.set(time.first);
    button.textContent = PAUSE;
    since = performance.now();
    requestAnimationFrame(tick);
  }

  pause();
  button.addEventListener("click", toggle);
  return { pause, stop, toggle };
}
