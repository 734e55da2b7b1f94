// The latency budget against the truth: what the relay says of the hops of each turn, and what became
// of the sound in fact, by stamps in the page, at a network of known delays, and before the provider
// (`truth.mjs`). `TURNS=40` measures more.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { clockOf } from './clock.mjs';
import { startApp } from './app.mjs';
import { openPage } from './chromium.mjs';
import { hears, news, openCall, startBoth } from './library.mjs';
import { startSim } from './relay.mjs';
import { CUT_SHORT, writeMicrophone } from './speech.mjs';
import { HOPS, THRESHOLDS, Traffic, turns, watchFrames } from './truth.mjs';
import { freePort, startUdpProxy } from './udp-proxy.mjs';
import { startWiretap } from './wiretap.mjs';

const TURNS = Number(process.env.TURNS ?? 16);
/** How far what is measured may be off the truth, at p50, in milliseconds. */
const BOUND = 10;
/**
 * Which of two packets holds the last sound is open where it ends between them, so that these may be a
 * packet off; together they may not.
 */
const OF_A_PACKET = ['capture', 'relay_in', 'silence_wait'];
const PACKET = 20;
/** How far the hops of a turn may be off its total. */
const SUM = 2;
/** How long the provider waits for more (`turn_detection`). */
const SILENCE = 200;
const NETWORK = 40;
const INFERENCE = 300;
/** Where the way down becomes so long. */
const FAR = 120;
const ANSWER = '800ms';
const ADMIN_KEY = 'an-admin-key-of-sixteen-or-more';

const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'voxline-latency-'));
const microphone = path.join(scratch, 'microphone.wav');

let traffic = new Traffic();
let both;
let sim;
let tap;
let port;

before(async () => {
  // Pauses of different lengths: turns end anywhere in a packet.
  const pauses = Array.from({ length: TURNS }, (_, turn) => 2.6 + (turn % 7) * 0.013);
  writeMicrophone(microphone, [2, ...pauses.flatMap((pause) => [CUT_SHORT, pause]), 30]);
  sim = await startSim({
    VOXLINE_SIM_AGENT: 'tone',
    VOXLINE_SIM_TONE_LENGTH: ANSWER,
    VOXLINE_SIM_FIRST_AUDIO: `${INFERENCE}ms`,
  });
  tap = await startWiretap(sim.url, (event) => traffic.providerEvent(event));
  port = await freePort();
  both = await startBoth(settings());
});

function settings() {
  return {
    OPENAI_API_KEY: 'any-key-will-do',
    VOXLINE_OPENAI_BASE_URL: `${tap.url}/v1`,
    VOXLINE_UDP: `127.0.0.1:${port}`,
    VOXLINE_ADMIN_KEY: ADMIN_KEY,
  };
}

after(async () => {
  await both?.stop();
  await tap?.stop();
  await sim?.stop();
  fs.rmSync(scratch, { recursive: true, force: true });
});

describe('the hops of a turn', () => {
  it(`are the true ones over WebRTC, ${NETWORK} ms each way`, async () => {
    const { truth, told } = await overWebRtc({ up: NETWORK, down: NETWORK });
    judge(`WebRTC, ${NETWORK} ms each way`, truth, told);
  });

  it('are the true ones where one way has grown longer in mid-call', async () => {
    const { truth, told } = await overWebRtc({ up: NETWORK, down: NETWORK }, { down: FAR });
    judge(`WebRTC, ${NETWORK} ms up, ${FAR} ms down since the clocks were compared`, truth, told);
  });

  it(`are the true ones over WebSocket, ${NETWORK} ms each way`, async () => {
    const { truth, told } = await overWebSocket({ up: NETWORK, down: NETWORK });
    judge(`WebSocket, ${NETWORK} ms each way`, truth, told);
  });
});

describe('the hops of a turn of a client that reports nothing', () => {
  it('are told all the same, as estimates', async () => {
    const truth = await overPlainWebRtc({ up: NETWORK, down: NETWORK });
    const rows = [];
    for (const hop of [...HOPS, 'total']) {
      const real = truth.map(({ hops, total }) => hops[hop] ?? total);
      const measured = await medianOf(hop === 'total' ? 'end_to_end' : hop);
      const middle = percentile(real, 0.5);
      rows.push({ hop, truth: middle, measured, off: measured - middle });
    }
    const estimated = await estimates();
    print(`WebRTC without reports, ${NETWORK} ms each way`, rows, truth.length, estimated);
    assert.deepEqual(estimated, ['capture', 'uplink', 'downlink', 'playback']);
  });
});

/** A call over WebRTC; the network is `shape`, and from the first turn on `later`. */
async function overWebRtc(shape, later = {}) {
  traffic = new Traffic();
  const proxy = await startUdpProxy(port, (datagram) => traffic.datagram(datagram));
  try {
    proxy.shape(shape);
    const options = { baseUrl: both.relay.url, transport: 'webrtc' };
    return await talk(options, `(${throughProxy})(${proxy.port});`, () => proxy.shape(later));
  } finally {
    await proxy.stop();
  }
}

async function overWebSocket(shape) {
  traffic = new Traffic();
  const proxy = await startWiretap(both.relay.url, (event) => traffic.clientEvent(event));
  try {
    proxy.shape(shape);
    return await talk({ baseUrl: proxy.url, transport: 'websocket' }, '');
  } finally {
    await proxy.stop();
  }
}

/** A call of a page that speaks WebRTC, and nothing of ours; in a relay that has had no other. */
async function overPlainWebRtc(shape) {
  traffic = new Traffic();
  await both.stop();
  both = await startBoth(settings());
  const proxy = await startUdpProxy(port, (datagram) => traffic.datagram(datagram));
  const { page, context, close } = await openPage({ microphone });
  try {
    proxy.shape(shape);
    await context.addInitScript({ content: scripts(`(${throughProxy})(${proxy.port});`) });
    await page.goto(`${both.app.url}/call.html`);
    const calls = `${both.relay.url}/v1/realtime/calls?model=gpt-realtime-2.1`;
    await page.evaluate(callPlainly, calls);
    const answered = (count) =>
      window.events.filter(({ type }) => type === 'output_audio_buffer.stopped').length >= count;
    await page.waitForFunction(answered, TURNS, { timeout: TURNS * 8_000 });
    return turns(traffic, await framesOf(page), await page.evaluate(outputLatency));
  } finally {
    await close();
    await proxy.stop();
  }
}

/** Runs in the page. */
async function callPlainly(calls) {
  const { value } = await (await fetch('/token', { method: 'POST', body: '{}' })).json();
  const peer = new RTCPeerConnection();
  const [microphone] = (await navigator.mediaDevices.getUserMedia({ audio: {} })).getTracks();
  peer.addTrack(microphone);
  peer.ontrack = ({ track }) => {
    const speaker = document.createElement('audio');
    speaker.srcObject = new MediaStream([track]);
    void speaker.play();
  };
  window.events = [];
  const channel = peer.createDataChannel('oai-events');
  channel.onmessage = ({ data }) => window.events.push(JSON.parse(data));
  await peer.setLocalDescription();
  const answer = await fetch(calls, {
    method: 'POST',
    headers: { Authorization: `Bearer ${value}`, 'Content-Type': 'application/sdp' },
    body: peer.localDescription.sdp,
  });
  await peer.setRemoteDescription({ type: 'answer', sdp: await answer.text() });
}

/** What the relay has measured, at p50, in milliseconds. */
async function medianOf(measure) {
  const url = `${both.relay.url}/admin/latency/histograms/${measure}?format=percentiles&window=all`;
  const answer = await fetch(url, { headers: { Authorization: `Bearer ${ADMIN_KEY}` } });
  const text = await answer.text();
  assert.equal(answer.status, 200, text);
  const steps = text.split('\n').map((line) => line.trim().split(/\s+/).map(Number));
  return steps.find(([, quantile]) => quantile >= 0.5)?.[0];
}

/** The hops that the relay has estimated. */
async function estimates() {
  const text = await (await fetch(`${both.relay.url}/metrics`)).text();
  const counted = text.split('\n').filter((line) => line.startsWith('voxline_hop_seconds_count'));
  return HOPS.filter((hop) =>
    counted.some((line) => line.includes(`hop="${hop}"`) && line.includes('source="estimated"')),
  );
}

/** What became of the turns of a call in fact, and what the relay told of them. */
async function talk(options, before, spoken = () => {}) {
  const call = { microphone, before: { content: scripts(before) }, wish: {}, ...options };
  const { page, close } = await openCall(both, call);
  try {
    await hears(page, 'event', ({ type }) => type === 'input_audio_buffer.speech_started');
    spoken();
    await page.waitForFunction(
      (count) => window.news.filter(({ what }) => what.type === 'voxline.latency').length >= count,
      TURNS,
      { timeout: TURNS * 8_000 },
    );
    await page.waitForTimeout(500);
    const frames = await framesOf(page);
    const events = await news(page, 'event');
    const told = events.map(({ what }) => what).filter(({ type }) => type === 'voxline.latency');
    return { truth: turns(traffic, frames, await page.evaluate(outputLatency)), told };
  } finally {
    await page.evaluate(() => window.call.close()).catch(() => {});
    await close();
  }
}

/** What runs in the page before its own scripts. */
function scripts(before) {
  return `${before}\n(${watchFrames})(${JSON.stringify(THRESHOLDS)});`;
}

/** The frames with sound, by this process's clock. */
async function framesOf(page) {
  const { offset } = await clockOf(page);
  const frames = await page.evaluate(() => window.frames);
  for (const frame of Object.values(frames).flat()) frame.at += offset;
  return frames;
}

/** Runs in the page: what the speaker takes, as the browser says; there is no ear to ask. */
async function outputLatency() {
  const [peer] = window.probe.peers;
  if (!peer) return window.speaker.outputLatency * 1000;
  const played = [...(await peer.getStats()).values()].find(({ type }) => type === 'media-playout');
  return (played.totalPlayoutDelay / played.totalSamplesCount) * 1000;
}

/** Runs in the page: the relay is found where the proxy is. */
function throughProxy(port) {
  const { setRemoteDescription } = RTCPeerConnection.prototype;
  RTCPeerConnection.prototype.setRemoteDescription = function ({ type, sdp }) {
    const moved = sdp.replace(/^(a=candidate:\S+ \d \S+ \d+ \S+) \d+ /gm, `$1 ${port} `);
    return setRemoteDescription.call(this, { type, sdp: moved });
  };
}

/** For each hop, and the total: the medians, and that of what is off turn by turn. */
function compare(truth, told) {
  assert.ok(truth.length >= TURNS, `${truth.length} turns were followed`);
  const pairs = truth.slice(0, told.length).map((real, turn) => [real, told[turn]]);
  const row = (hop, real, said) => {
    const known = pairs.filter(([, event]) => said(event) !== undefined);
    const middle = (of) => percentile(known.map(of), 0.5);
    const off = known.map(([turn, event]) => said(event) - real(turn));
    return {
      hop,
      truth: middle(([turn]) => real(turn)),
      measured: middle(([, event]) => said(event)),
      off: percentile(off, 0.5),
      p95: percentile(off.map(Math.abs), 0.95),
    };
  };
  return [
    ...HOPS.map((hop) =>
      row(
        hop,
        ({ hops }) => hops[hop],
        ({ hops }) => hops?.[`${hop}_ms`],
      ),
    ),
    row(
      'these three',
      ({ hops }) => OF_A_PACKET.reduce((sum, hop) => sum + hops[hop], 0),
      ({ hops }) => OF_A_PACKET.reduce((sum, hop) => sum + (hops?.[`${hop}_ms`] ?? 0), 0),
    ),
    row(
      'total',
      ({ total }) => total,
      ({ total_ms }) => total_ms,
    ),
  ];
}

function print(title, rows, count, estimated) {
  const ms = (value) => (value === undefined ? '-' : value.toFixed(1)).padStart(9);
  const head = ['truth', 'measured', 'off', 'p95 |off|'].map((name) => name.padStart(9));
  console.log(`\n${title}: ${count} turns, p50 in ms\n${'hop'.padEnd(13)}${head.join(' ')}`);
  for (const { hop, truth, measured, off, p95 } of rows) {
    const figures = [truth, measured, off, p95].map(ms).join(' ');
    console.log(`${hop.padEnd(13)}${figures}${estimated.includes(hop) ? '  estimated' : ''}`);
  }
}

function judge(title, truth, told) {
  const rows = compare(truth, told);
  const estimated = told.flatMap((event) => event.estimated);
  print(title, rows, told.length, estimated);
  const late = percentile(
    truth.map((turn) => turn.late - SILENCE),
    0.5,
  );
  console.log(`the provider puts the end of speech ${late.toFixed(1)} ms late`);
  for (const { turn, total_ms, hops } of told) {
    const sum = Object.values(hops).reduce((all, ms) => all + ms, 0);
    assert.ok(Math.abs(sum - total_ms) < SUM, `turn ${turn}: ${sum} of ${total_ms} ms`);
  }
  for (const { hop, off } of rows) {
    const bound = OF_A_PACKET.includes(hop) ? PACKET : BOUND;
    assert.ok(Math.abs(off) <= bound, `${hop} is ${off?.toFixed(1)} ms off the truth`);
  }
}

function percentile(values, part) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) * part)];
}
