// What a browser really plays of an answer that is interrupted, against what the provider is told.
//
// The answers are rows of tones, one for each packet of 20 ms: the last tone in the recording of the
// received track says how much was heard. What a jitter buffer makes up when packets stop is the last
// tone once more, and counts for nothing. `INTERRUPTIONS=20` measures more.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { startApp } from './app.mjs';
import { openPage } from './chromium.mjs';
import { startRelay } from './relay.mjs';
import { SENTENCE, writeMicrophone } from './speech.mjs';

const KEY = 'a-key-of-sixteen-or-more';
const INTERRUPTIONS = Number(process.env.INTERRUPTIONS ?? 4);
const MARK_MS = 20;
/** The first tone lasts so many marks. */
const FIRST = 5;
const HOP_MS = 5;

const PAGE = `<!doctype html>
<link rel="icon" href="data:," />
<script type="module">
  const RECORDER = \`registerProcessor('recorder', class extends AudioWorkletProcessor {
    process([[channel]]) {
      if (channel) this.port.postMessage(channel.slice());
      return true;
    }
  })\`;
  window.begin = async (calls, reports, target) => {
    const { value } = await (await fetch('/token', { method: 'POST', body: '{}' })).json();
    const context = new AudioContext({ sampleRate: 48000 });
    await context.audioWorklet.addModule(URL.createObjectURL(new Blob([RECORDER], { type: 'text/javascript' })));
    const peer = new RTCPeerConnection();
    const [microphone] = (await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    })).getTracks();
    peer.addTrack(microphone);
    window.recorded = [];
    peer.ontrack = ({ track, receiver }) => {
      receiver.jitterBufferTarget = target;
      const stream = new MediaStream([track]);
      const speaker = document.createElement('audio');
      speaker.srcObject = stream;
      void speaker.play();
      const recorder = new AudioWorkletNode(context, 'recorder');
      recorder.port.onmessage = ({ data }) => window.recorded.push(data);
      context.createMediaStreamSource(stream).connect(recorder);
    };
    window.events = [];
    const note = ({ data }) => window.events.push(JSON.parse(data));
    const channel = peer.createDataChannel('oai-events');
    channel.onmessage = note;
    if (reports) {
      peer.createDataChannel('voxline').onmessage = note;
      const timing = peer.createDataChannel('voxline.timing', { ordered: false, maxRetransmits: 0 });
      let last;
      setInterval(() => {
        const [source] = peer.getReceivers()[0].getSynchronizationSources();
        if (!source || source.rtpTimestamp === last || timing.readyState !== 'open') return;
        last = source.rtpTimestamp;
        const at = source.timestamp > 1e12 ? source.timestamp - performance.timeOrigin : source.timestamp;
        timing.send(JSON.stringify({
          type: 'voxline.playout',
          rtp_timestamp: last,
          age_ms: Math.max(0, performance.now() - at),
          output_latency_ms: (context.outputLatency || context.baseLatency) * 1000,
        }));
      }, 100);
    }
    await peer.setLocalDescription();
    const answer = await fetch(calls, {
      method: 'POST',
      headers: { Authorization: 'Bearer ' + value, 'Content-Type': 'application/sdp' },
      body: peer.localDescription.sdp,
    });
    await peer.setRemoteDescription({ type: 'answer', sdp: await answer.text() });
    window.peer = peer;
  };
  /** For each 5 ms, how loud it was, and which of the tones it was most. */
  window.analyse = (hop, tones) => {
    const all = new Float32Array(window.recorded.reduce((sum, { length }) => sum + length, 0));
    window.recorded.reduce((at, block) => (all.set(block, at), at + block.length), 0);
    const step = hop * 48;
    const found = [];
    for (let at = 0; at + 2 * step <= all.length; at += step) {
      const block = all.subarray(at, at + 2 * step);
      const rms = Math.sqrt(block.reduce((sum, sample) => sum + sample * sample, 0) / block.length);
      let best = -1;
      let most = 0;
      for (const [index, hz] of rms > 0.01 ? tones.entries() : []) {
        const turn = (2 * Math.PI * hz) / 48000;
        let [real, imaginary] = [0, 0];
        block.forEach((sample, n) => {
          real += sample * Math.cos(turn * n);
          imaginary += sample * Math.sin(turn * n);
        });
        const power = real * real + imaginary * imaginary;
        if (power > most) [best, most] = [index, power];
      }
      found.push([rms, best]);
    }
    return found;
  };
  window.ready = true;
</script>
`;

/** As the embedded provider's: the first, then sixteen in turn. */
const TONES = [300, ...Array.from({ length: 16 }, (_, index) => 500 + 200 * index)];
const toneOf = (mark) => (mark < FIRST ? 0 : 1 + (mark % 16));

const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'voxline-truncation-'));
const microphone = path.join(scratch, 'microphone.wav');

let relay;
let app;

before(async () => {
  const pauses = Array.from({ length: INTERRUPTIONS + 1 }, (_, turn) => 2.6 + (turn % 5) * 0.17);
  writeMicrophone(microphone, [1.5, SENTENCE, ...pauses.flatMap((pause) => [pause, SENTENCE]), 60]);
  relay = await startRelay({
    VOXLINE_API_KEY: KEY,
    VOXLINE_SIM_AGENT: 'marks',
    VOXLINE_SIM_TONE_LENGTH: '30s',
  });
  app = await startApp({ relay: relay.url, key: KEY, pages: { 'marks.html': PAGE } });
});

after(async () => {
  await app?.stop();
  await relay?.stop();
  fs.rmSync(scratch, { recursive: true, force: true });
});

describe('what the provider is told was heard', () => {
  for (const [name, reports, target] of [
    ['by a plain page, without reports', false, null],
    ['by a client that reports', true, null],
    ['by a client that reports, with a jitter buffer of 200 ms', true, 200],
  ]) {
    it(`is what was heard ${name}`, async (test) => {
      const { told, heard, notices } = await talk(reports, target);
      const errors = told.map((ms, index) => Math.abs(ms - heard[index])).sort((a, b) => a - b);
      const at = (part) => errors[Math.floor((errors.length - 1) * part)].toFixed(0);
      test.diagnostic(`told  ${told.map((ms) => ms.toFixed(0)).join(' ')}`);
      test.diagnostic(`heard ${heard.map((ms) => ms.toFixed(0)).join(' ')}`);
      test.diagnostic(`error p50 ${at(0.5)} ms, p95 ${at(0.95)} ms, most ${at(1)} ms`);
      test.diagnostic(notices.join(' '));
      assert.equal(told.length, INTERRUPTIONS);
      assert.equal(heard.length >= told.length, true);
    });
  }
});

async function talk(reports, target) {
  const { page, close } = await openPage({ microphone });
  try {
    await page.goto(`${app.url}/marks.html`);
    await page.waitForFunction(() => window.ready);
    const calls = `${relay.url}/v1/realtime/calls?model=gpt-realtime-2.1`;
    await page.evaluate(([url, ...how]) => window.begin(url, ...how), [calls, reports, target]);
    await page.waitForFunction(
      (count) =>
        window.events.filter(({ type }) => type === 'conversation.item.truncated').length >= count,
      INTERRUPTIONS,
      { timeout: 120_000 },
    );
    await page.waitForTimeout(1_000);
    const events = await page.evaluate(() => window.events);
    const analysed = await page.evaluate(
      ([hop, tones]) => window.analyse(hop, tones),
      [HOP_MS, TONES],
    );
    const truncated = events.filter(({ type }) => type === 'conversation.item.truncated');
    const told = truncated.slice(0, INTERRUPTIONS).map(({ audio_end_ms }) => audio_end_ms);
    const notices = events
      .filter(({ type }) => type === 'voxline.interrupted')
      .map(({ source, uncertainty_ms }) => `${source}±${uncertainty_ms}`);
    return { told, heard: ends(analysed).slice(0, INTERRUPTIONS), notices };
  } finally {
    await close();
  }
}

/** How much of each answer sounded, in ms: the first tone of all begins one. */
function ends(analysed) {
  const loudest = Math.max(...analysed.map(([rms]) => rms));
  const answers = [];
  let mark = null;
  for (const [rms, tone] of analysed) {
    if (rms < loudest / 2) continue;
    if (tone === 0) {
      if (mark !== null && mark >= 2 * FIRST) answers.push(mark);
      if (mark === null || mark >= FIRST) mark = FIRST - 1;
    } else if (mark !== null && tone !== toneOf(mark)) {
      // A mark or two may be lost to a change of speed; what is none of the next was misread.
      mark = [1, 2, 3, 4].map((more) => mark + more).find((next) => toneOf(next) === tone) ?? mark;
    }
  }
  if (mark !== null) answers.push(mark);
  return answers.map((last) => (last + 1) * MARK_MS);
}
