// A page of a few lines without our library, on another origin, as one would write it for OpenAI.

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
const AUDIBLE = 0.01;

const PAGE = `<!doctype html>
<link rel="icon" href="data:," />
<script type="module">
  window.begin = async (calls) => {
    const { value } = await (await fetch('/token', { method: 'POST', body: '{}' })).json();
    const peer = new RTCPeerConnection();
    const [microphone] = (await navigator.mediaDevices.getUserMedia({ audio: true })).getTracks();
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
    const authorization = { Authorization: 'Bearer ' + value };
    const answer = await fetch(calls, {
      method: 'POST',
      headers: { ...authorization, 'Content-Type': 'application/sdp' },
      body: peer.localDescription.sdp,
    });
    window.call = new URL(answer.headers.get('Location'), calls);
    await peer.setRemoteDescription({ type: 'answer', sdp: await answer.text() });
    window.hangUp = async () =>
      (await fetch(window.call, { method: 'DELETE', headers: authorization })).status;
  };
  window.ready = true;
</script>
`;

const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'voxline-plain-'));
const microphone = path.join(scratch, 'microphone.wav');

let relay;
let app;

before(async () => {
  writeMicrophone(microphone, [1.5, SENTENCE, 30]);
  relay = await startRelay({ VOXLINE_API_KEY: KEY });
  app = await startApp({ relay: relay.url, key: KEY, pages: { 'plain.html': PAGE } });
});

after(async () => {
  await app?.stop();
  await relay?.stop();
  fs.rmSync(scratch, { recursive: true, force: true });
});

describe('a plain page on another origin', () => {
  let relayPort;

  it('holds a spoken turn, and hangs up', async () => {
    await withCall('relay', async (page) => {
      await takesATurn(page);
      relayPort = await mediaPort(page);
      await hangsUp(page);
    });
  });

  it('holds it with the provider directly, while the relay follows', async () => {
    await withCall('direct', async (page) => {
      await takesATurn(page);
      assert.notEqual(await mediaPort(page), relayPort);
      await page.waitForFunction(() => window.events.some(({ type }) => type === 'response.done'));
      const metrics = await (await fetch(`${relay.url}/metrics`)).text();
      assert.match(metrics, /^voxline_sessions 1$/m);
      const billed = [...metrics.matchAll(/^voxline_provider_tokens_total{.*output.*} (\d+)$/gm)];
      assert.ok(
        billed.some(([, tokens]) => tokens > 0),
        metrics,
      );
      await hangsUp(page);
    });
  });
});

async function withCall(media, act) {
  const { page, close } = await openPage({ microphone });
  try {
    await page.goto(`${app.url}/plain.html`);
    await page.waitForFunction(() => window.ready);
    const calls = `${relay.url}/v1/realtime/calls?model=gpt-realtime-2.1&media=${media}`;
    await page.evaluate((url) => window.begin(url), calls);
    await act(page);
  } finally {
    await close();
  }
}

/** The person speaks, and hears the answer; the page hears of it in OpenAI's events alone. */
async function takesATurn(page) {
  await page.waitForFunction(
    (audible) => window.probe.sound.some(({ rms }) => rms > audible),
    AUDIBLE,
    { timeout: 20_000 },
  );
  const types = await page.evaluate(() => window.events.map(({ type }) => type));
  for (const type of [
    'session.created',
    'input_audio_buffer.speech_started',
    'input_audio_buffer.speech_stopped',
    'response.created',
    'output_audio_buffer.started',
  ]) {
    assert.ok(types.includes(type), `${type} in ${types}`);
  }
  assert.ok(!types.some((type) => type.startsWith('voxline.')), `${types}`);
}

/** To which UDP port the sound goes. */
async function mediaPort(page) {
  return page.evaluate(async () => {
    const stats = [...(await window.probe.peers[0].getStats()).values()];
    const { selectedCandidatePairId } = stats.find(({ type }) => type === 'transport');
    const pair = stats.find(({ id }) => id === selectedCandidatePairId);
    return stats.find(({ id }) => id === pair.remoteCandidateId).port;
  });
}

/** By the call's `Location`, which the page can read across origins. */
async function hangsUp(page) {
  const location = await page.evaluate(() => window.call.pathname);
  assert.match(location, /^\/v1\/realtime\/calls\/rtc_\w+$/);
  assert.ok((await page.evaluate(() => window.hangUp())) < 300);
  for (let tries = 0; !closed(); tries++) {
    assert.ok(tries < 50, relay.log());
    await page.waitForTimeout(100);
  }
}

function closed() {
  const count = (words) => relay.log().split(words).length;
  return count('Session opened') === count('Session closed');
}
