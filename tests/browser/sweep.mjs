// Listens to the rising tone of the embedded provider (`sim.agent` = `sweep`): its height tells which moment of the answer is heard, so that what is lost or said twice can be told.

/** The tone begins here, in Hz, and rises so much in a second. */
const FIRST = 300;
const RISE = 150;
/** How long it is to last (`sim.tone_length`), in seconds. */
export const SWEEP_SECONDS = 16;

/** Runs in the page before its own scripts. `window.heard` gets `{ at, hz }` every 20 ms or so. */
export function watchTone() {
  const SIZE = 4096;
  const LOUD = -50; // dB of the peak
  window.heard = [];
  const analysers = [];
  const connect = AudioNode.prototype.connect;
  function listen(node) {
    const analyser = node.context.createAnalyser();
    analyser.fftSize = SIZE;
    analyser.smoothingTimeConstant = 0;
    connect.call(node, analyser);
    analysers.push({ analyser, bins: new Float32Array(analyser.frequencyBinCount) });
  }
  AudioNode.prototype.connect = function (to, ...rest) {
    if (to === this.context.destination) listen(this);
    return connect.call(this, to, ...rest);
  };
  const { RTCPeerConnection } = window;
  window.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(...options) {
      super(...options);
      this.addEventListener('track', ({ track }) => {
        const context = new AudioContext();
        listen(context.createMediaStreamSource(new MediaStream([track])));
      });
    }
  };
  /** The highest peak, between the bins: a parabola through three of them. */
  function tone({ analyser, bins }) {
    analyser.getFloatFrequencyData(bins);
    let top = 2;
    for (let i = 2; i < bins.length - 1; i++) if (bins[i] > bins[top]) top = i;
    const [before, peak, after] = [bins[top - 1], bins[top], bins[top + 1]];
    const shift = (before - after) / (2 * (before - 2 * peak + after)) || 0;
    return { level: peak, hz: ((top + shift) * analyser.context.sampleRate) / SIZE };
  }
  setInterval(() => {
    const loudest = analysers.map(tone).sort((a, b) => b.level - a.level)[0];
    const at = performance.timeOrigin + performance.now();
    if (loudest) window.heard.push({ at, hz: loudest.level > LOUD ? loudest.hz : null });
  }, 20);
}

/**
 * What was heard of one answer: moments `{ at, ms }`, where `ms` is the place in the answer, or
 * `null` in silence.
 */
export function moments(heard, from, to) {
  const inTime = heard.filter(({ at }) => at > from && at < to);
  return inTime.map(({ at, hz }) => {
    const ms = hz === null ? null : ((hz - FIRST) / RISE) * 1000;
    return { at, ms: ms !== null && ms > 200 && ms < SWEEP_SECONDS * 1000 ? ms : null };
  });
}

/**
 * What became of the answer where it was disturbed: `silence`, the longest; `twice`, how far it went
 * back; `lost`, how far it jumped ahead; all in milliseconds.
 */
export function disturbance(moments) {
  const worst = { silence: 0, twice: 0, lost: 0 };
  let before = null;
  let reached = 0;
  let silent = false;
  for (const { at, ms } of moments) {
    if (ms === null) {
      silent = true;
      continue;
    }
    if (before) {
      const elapsed = at - before.at;
      if (silent) worst.silence = Math.max(worst.silence, elapsed);
      // After a silence it goes on where it was; otherwise it has gone on while nobody looked.
      worst.lost = Math.max(worst.lost, ms - before.ms - (silent ? 0 : elapsed));
    }
    worst.twice = Math.max(worst.twice, reached - ms);
    reached = Math.max(reached, ms);
    before = { at, ms };
    silent = false;
  }
  return { ...worst, reached };
}
