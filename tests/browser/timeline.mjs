// When each piece of sound arrived, and where on the sender's timeline it belongs.

/** What is in one packet, in milliseconds. */
const PACKET = 20;
/** An event and the packets that it is about arrive within this time of each other. */
const NEAR = 200;
/** A machine that stalls holds up two calls within this time of each other. */
const SAME_MOMENT = 100;

/**
 * Runs in the page before its own scripts. `window.arrivals` gets an entry for each RTP packet of
 * received audio: `{ at, position, source }`, when the browser's network thread got it, in
 * milliseconds since 1970, and its place on the sender's timeline, both in milliseconds; for a call over
 * WebSocket the same for each piece of sound.
 */
export function watchArrivals() {
  window.arrivals = [];
  const { RTCPeerConnection, WebSocket } = window;
  window.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(options) {
      super({ ...options, encodedInsertableStreams: true });
      this.addEventListener('track', ({ receiver }) => pass(receiver, note));
    }

    addTrack(...track) {
      const sender = super.addTrack(...track);
      pass(sender, () => {});
      return sender;
    }
  };
  // Chromium's first form of encoded transforms: the standard one, with a worker, lets the sound
  // of a stream that the SDP does not announce pass by.
  function pass(end, look) {
    const { readable, writable } = end.createEncodedStreams();
    const transform = (frame, controller) => {
      look(frame.getMetadata());
      controller.enqueue(frame);
    };
    void readable.pipeThrough(new TransformStream({ transform })).pipeTo(writable);
  }
  function note({ receiveTime, rtpTimestamp, synchronizationSource }) {
    const position = rtpTimestamp / 48;
    const at = performance.timeOrigin + receiveTime;
    window.arrivals.push({ at, position, source: synchronizationSource });
  }
  window.WebSocket = class extends WebSocket {
    constructor(...options) {
      super(...options);
      this.addEventListener('message', ({ data }) => {
        const { type, position_ms: position } = JSON.parse(data);
        if (type !== 'voxline.audio') return;
        const at = performance.timeOrigin + performance.now();
        window.arrivals.push({ at, position, source: 'websocket' });
      });
    }
  };
}

/**
 * The gaps of the received sound, each `{ at, ms }`: how much more than its 20 ms lies between a
 * packet and the one before it, on the clock or on the sender's timeline. Not counted is what lies
 * before an answer's first packet: `starts` has the times of `output_audio_buffer.started`.
 */
export function packetGaps(arrivals, starts) {
  return arrivals.slice(1).flatMap((packet, i) => {
    const before = arrivals[i];
    if (starts.some((start) => start > before.at && start < packet.at + NEAR)) return [];
    // Each connection has a timeline of its own.
    const moved = packet.source === before.source ? packet.position - before.position : 0;
    const apart = Math.max(packet.at - before.at, moved);
    return [{ at: packet.at, ms: Math.max(0, apart - PACKET) }];
  });
}

/**
 * The largest of the gaps that are within a second of one of these times, and of the others.
 * `beside` are the gaps of another call at the same time: what it suffers in the same moment is
 * the machine's, and not counted.
 */
export function largest(gaps, times, beside = []) {
  const near = gaps.filter(({ at }) => times.some((time) => Math.abs(at - time) < 1000));
  const others = gaps.filter((gap) => !near.includes(gap));
  const own = near.map(({ at, ms }) => {
    const machine = most(beside.filter((gap) => Math.abs(gap.at - at) < SAME_MOMENT));
    return { at, ms: Math.max(0, ms - machine) };
  });
  const elsewhere = Math.max(most(others), most(beside));
  return { own: most(own), all: most(near), elsewhere, seen: near.length };
}

function most(gaps) {
  return gaps.reduce((longest, { ms }) => Math.max(longest, ms), 0);
}
