// What really became of a turn, from stamps that owe nothing to the relay: of each frame of sound in
// the page, each datagram at a proxy before the relay, and each event at taps before it and before its provider.
// All are on one clock (`clock.mjs`).

export const HOPS = [
  'capture',
  'uplink',
  'relay_in',
  'silence_wait',
  'inference',
  'relay_out',
  'downlink',
  'playback',
];

/** Sound is what is louder than this, of full scale: at the microphone, and of an answer. */
const SPOKEN = 0.02;
const HEARD = 0.01;
const RATE = 24_000;
/** Opus looks 6.5 ms ahead, and works: what has left sooner after a sound cannot hold it. */
const CODEC_MS = 7.5;
/** Between two answers there are no packets for so long. */
const PAUSE_MS = 200;

/**
 * Runs in the page before its own scripts. `window.frames` gets an entry for each frame of a track
 * in which there is sound: `{ at, rate, length, first, last }`, its stamp in milliseconds of
 * `performance.now()` and its first and last loud samples. Chromium stamps a frame of the microphone
 * when its last sample is there, and one of a remote track when the speaker asks for it.
 */
export function watchFrames({ spoken, heard }) {
  window.frames = { microphone: [], speaker: [] };
  async function tap(track, into, threshold) {
    const { readable } = new MediaStreamTrackProcessor({ track, maxBufferSize: 200 });
    const reader = readable.getReader();
    for (;;) {
      const { value: frame, done } = await reader.read();
      if (done) return;
      const pcm = new Float32Array(frame.numberOfFrames);
      frame.copyTo(pcm, { planeIndex: 0, format: 'f32-planar' });
      const loud = (sample) => Math.abs(sample) > threshold;
      const first = pcm.findIndex(loud);
      const { timestamp, sampleRate: rate } = frame;
      if (first >= 0) {
        const last = pcm.findLastIndex(loud);
        into.push({ at: timestamp / 1000, rate, length: pcm.length, first, last });
      }
      frame.close();
    }
  }
  const { RTCPeerConnection } = window;
  window.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(...options) {
      super(...options);
      this.addEventListener('track', ({ track }) => tap(track, window.frames.speaker, heard));
    }
  };
  const { connect } = AudioNode.prototype;
  AudioNode.prototype.connect = function (to, ...rest) {
    if (to === this.context.destination) {
      const copy = this.context.createMediaStreamDestination();
      connect.call(this, copy);
      tap(copy.stream.getAudioTracks()[0], window.frames.speaker, heard);
      window.speaker = this.context;
    }
    return connect.call(this, to, ...rest);
  };
  const { mediaDevices } = navigator;
  const getUserMedia = mediaDevices.getUserMedia.bind(mediaDevices);
  // What a browser does to clean the sound takes time that cannot be seen from here, and blurs where
  // it ends: this is about the rest of the way.
  const untouched = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  mediaDevices.getUserMedia = async ({ audio }) => {
    const stream = await getUserMedia({ audio: { ...audio, ...untouched } });
    tap(stream.getAudioTracks()[0], window.frames.microphone, spoken);
    return stream;
  };
}

export const THRESHOLDS = { spoken: SPOKEN, heard: HEARD };

/** What passes the proxy, or the taps. */
export class Traffic {
  /** Packets with sound, or over WebSocket messages. */
  up = [];
  down = [];
  /** What the provider is given, and says. */
  appended = new Sound();
  stopped = [];
  deltas = [];
  /** Over WebSocket, what the relay is given. */
  #said = new Sound();

  datagram({ up, data, at, left }) {
    const type = data[1] & 127;
    const isRtp = data[0] >> 6 === 2 && (type < 64 || type > 95); // RFC 5761
    if (!isRtp) return;
    (up ? this.up : this.down).push({ at, left });
  }

  /** Between a client and the relay. */
  clientEvent({ event, at, left }) {
    if (event.type === 'input_audio_buffer.append') {
      this.up.push({ at, left, ...this.#said.append(event.audio) });
    }
    if (event.type === 'voxline.audio') this.down.push({ at, left });
  }

  /** Between the relay and the provider. */
  providerEvent({ event, at }) {
    switch (event.type) {
      case 'input_audio_buffer.append':
        return this.appended.pieces.push({ at, ...this.appended.append(event.audio) });
      case 'input_audio_buffer.speech_stopped':
        return this.stopped.push({ at, end: (event.audio_end_ms / 1000) * RATE });
      case 'response.output_audio.delta':
        return this.deltas.push({ at });
    }
  }
}

/** A stream of PCM in pieces; places in it are samples. */
class Sound {
  pieces = [];
  #position = 0;

  append(base64) {
    const bytes = Buffer.from(base64, 'base64');
    const from = this.#position;
    let last = null;
    for (let i = 0; i + 1 < bytes.length; i += 2) {
      const sample = bytes.readInt16LE(i) / 0x8000;
      if (Math.abs(sample) > SPOKEN) last = from + i / 2;
    }
    this.#position += bytes.length / 2;
    return { from, to: this.#position, last };
  }
}

/**
 * The turns, with what each hop took: `frames` are those of the page, by the clock of the traffic,
 * and `outputMs` is what the speaker takes. What was said before the provider listened is left out.
 */
export function turns(traffic, frames, outputMs) {
  const isSocket = traffic.up.some(({ from }) => from !== undefined);
  return traffic.stopped.flatMap((stopped, index) => {
    const end = traffic.stopped[index + 1]?.at ?? Infinity;
    const delta = traffic.deltas.find(({ at }) => at > stopped.at && at < end);
    const append = traffic.appended.pieces.findLast(
      ({ at, last }) => at < stopped.at && last !== null,
    );
    const spoken = frames.microphone.findLast(({ at }) => at < stopped.at);
    if (!delta || !append || !spoken) return [];
    const { length, last, rate } = spoken;
    const began = spoken.at - ((length - last) / rate) * 1000;
    const sent = isSocket
      ? traffic.up.findLast((message) => message.left < stopped.at && message.last !== null)
      : traffic.up.find(({ at }) => at > began + CODEC_MS);
    const answer = traffic.down.find(
      ({ at }, i) => at > delta.at && !(traffic.down[i - 1]?.at > at - PAUSE_MS),
    );
    const heard = frames.speaker.find(({ at }) => at > (answer?.left ?? Infinity));
    if (!sent || !heard) return [];
    const sounded = heard.at + (heard.first / heard.rate) * 1000 + outputMs;
    const marks = [
      began,
      sent.at,
      sent.left,
      append.at,
      stopped.at,
      delta.at,
      answer.at,
      answer.left,
      sounded,
    ];
    const hops = Object.fromEntries(HOPS.map((name, i) => [name, marks[i + 1] - marks[i]]));
    /** How late the provider puts the end of speech, with its silence. */
    const late = ((stopped.end - append.last) / RATE) * 1000;
    return [{ began, total: sounded - began, hops, late }];
  });
}
