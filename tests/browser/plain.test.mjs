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
    const headers = { Authorization: 'Bearer ' + value, 'Content-Type': 'application/sdp' };
    const body = peer.localDescription.sdp;
    const answer = await fetch(calls, { method: 'POST', headers, body });
    window.location_ = answer.headers.get('Location');
    await peer.setRemoteDescription({ type: 'answer', sdp: await answer.text() });
    window.hangUp = async () => {
      const url = new URL(window.location_, calls);
      const { status } = await fetch(url, { method: 'DELETE', headers: { Authorization: headers.Authorization } });
      return status;
    };
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
  for (const media of ['relay', 'direct']) {
    it(`holds a spoken turn, and hangs up (media=${media})`, async () => {
      const { page, close } = await openPage({ microphone });
      try {
        await page.goto(`${app.url}/plain.html`);
        await page.waitForFunction(() => window.ready);
        await page.evaluate(
          (calls) => window.begin(calls),
          `${relay.url}/v1/realtime/calls?model=gpt-realtime-2.1&media=${media}`,
        );
        assert.match(
          await page.evaluate(() => window.location_),
          /^\/v1\/realtime\/calls\/rtc_\w+$/,
        );
        await page.waitForFunction(
          (audible) => window.probe.sound.some(({ rms }) => rms > audible),
          AUDIBLE,
          { timeout: 20_000 },
        );
        const types = await page.evaluate(() => window.events.map(({ type }) => type));
        for (const type of [
          'session.created',
          'input_audio_buffer.speech_started',
          'response.created',
        ])
          assert.ok(types.includes(type), `${type} in ${types}`);
        assert.ok(!types.some((type) => type.startsWith('voxline.')), `${types}`);
        assert.ok((await page.evaluate(() => window.hangUp())) < 300);
        for (let tries = 0; !closed(); tries++) {
          assert.ok(tries < 50, relay.log());
          await page.waitForTimeout(100);
        }
      } finally {
        await close();
      }
    });
  }
});

function closed() {
  const count = (words) => relay.log().split(words).length;
  return count('Session opened') === count('Session closed');
}
