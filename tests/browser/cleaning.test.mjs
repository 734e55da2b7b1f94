// How much later the browser makes the sound of the microphone by cleaning it. No browser tells;
// `web-demo/client/stats.ts` has what is found here.
//
// The fake microphone reads its file in blocks of 10 ms, and so does all that comes after it: what the
// sound of the track lies off the file's is the delay, up to whole blocks.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { startApp } from './app.mjs';
import { openPage } from './chromium.mjs';
import { SENTENCE, startOf, writeMicrophone } from './speech.mjs';

const RATE = 48_000;
const BLOCK_MS = 10;
/** How well the delay is found, in milliseconds. */
const BLUR = 2.5;
const SECONDS = 4;
const NOTHING = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };

const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'voxline-cleaning-'));
const microphone = path.join(scratch, 'microphone.wav');

let app;

before(async () => {
  writeMicrophone(microphone, [1, SENTENCE, 10]);
  app = await startApp({ relay: '', key: '', pages: { 'empty.html': '<!doctype html>' } });
});

after(async () => {
  await app?.stop();
  fs.rmSync(scratch, { recursive: true, force: true });
});

describe('cleaning the sound of the microphone', () => {
  for (const [name, cleaning, ms] of [
    ['by gain control alone', { autoGainControl: true }, 0],
    ['by echo cancellation', { echoCancellation: true }, 6],
    ['by noise suppression', { noiseSuppression: true }, 6],
    ['by all of it', { echoCancellation: true, noiseSuppression: true }, 12],
  ]) {
    it(`${name} takes ${ms} ms`, async () => {
      const found = await delay({ ...NOTHING, ...cleaning });
      console.log(`${name}: ${found.toFixed(2)} ms, up to whole blocks of ${BLOCK_MS} ms`);
      const off = (found - ms + 1.5 * BLOCK_MS) % BLOCK_MS;
      assert.ok(Math.abs(off - BLOCK_MS / 2) < BLUR, `${found} ms`);
    });
  }
});

async function delay(audio) {
  const { page, close } = await openPage({ microphone });
  try {
    await page.goto(`${app.url}/empty.html`);
    const heard = Float32Array.from(await page.evaluate(record, [audio, RATE * SECONDS]));
    // A second from the middle of the sentence, wherever the recording has begun.
    const [from, length] = [2 * RATE, RATE];
    const sample = startOf(SENTENCE, RATE, from - RATE + length).subarray(from - RATE);
    const place = find(sample, heard);
    return (((((place - from) % 480) + 480) % 480) * 1000) / RATE;
  } finally {
    await close();
  }
}

/** Runs in the page: the first samples of the microphone. */
async function record([audio, length]) {
  const stream = await navigator.mediaDevices.getUserMedia({ audio });
  const [track] = stream.getAudioTracks();
  const { readable } = new MediaStreamTrackProcessor({ track, maxBufferSize: 500 });
  const reader = readable.getReader();
  const heard = [];
  while (heard.length < length) {
    const { value: frame } = await reader.read();
    const pcm = new Float32Array(frame.numberOfFrames);
    frame.copyTo(pcm, { planeIndex: 0, format: 'f32-planar' });
    heard.push(...pcm);
    frame.close();
  }
  return heard;
}

/** Where in the recording the sample is most like it: roughly at first, then exactly. */
function find(sample, heard) {
  const likeness = (place, step) => {
    let [both, power] = [0, 1e-9];
    for (let i = 0; i < sample.length; i += step) {
      both += sample[i] * heard[place + i];
      power += heard[place + i] ** 2;
    }
    return Math.abs(both) / Math.sqrt(power);
  };
  const best = (places, step) => {
    const found = places.map((place) => [likeness(place, step), place]);
    return found.reduce((a, b) => (b[0] > a[0] ? b : a))[1];
  };
  const most = heard.length - sample.length;
  const rough = best(
    Array.from({ length: Math.floor(most / 8) }, (_, i) => i * 8),
    11,
  );
  const near = Array.from({ length: 33 }, (_, i) => Math.max(0, Math.min(most, rough - 16 + i)));
  return best(near, 1);
}
