// Pictures of the dashboard for docs/images: a relay under load, first well, then with a provider that has
// become slow. `make screenshots` runs it; it takes some four minutes.

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { openPage } from './chromium.mjs';
import { beginCall, startBoth } from './library.mjs';
import { shrink } from './png.mjs';
import { startSim } from './relay.mjs';
import { INTERRUPTION, SENTENCE, writeMicrophone } from './speech.mjs';

const IMAGES = path.resolve(import.meta.dirname, '../../docs/images');
const SECONDS = Number(process.env.SHOTS_SECONDS ?? 100);
/** How long the provider takes once it has become slow. */
const SLOW_MS = 1150;
/** Tokens that are renewed while one watches. */
const WISH = { expires_after: { anchor: 'created_at', seconds: 60 } };
const CALLS = ['webrtc', 'webrtc', 'webrtc', 'websocket', 'webrtc', 'websocket'];

const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'voxline-shots-'));
const microphone = path.join(scratch, 'microphone.wav');
writeMicrophone(microphone, [1, SENTENCE, 5, INTERRUPTION, 4]);

const sim = await startSim({ VOXLINE_SIM_FIRST_AUDIO: '320ms' });
const both = await startBoth({
  OPENAI_API_KEY: 'sk-any-will-do',
  VOXLINE_OPENAI_BASE_URL: `${sim.url}/v1`,
}).catch(async (error) => {
  await sim.stop();
  throw error;
});
const callers = await openPage({ microphone });
try {
  for (const transport of CALLS) {
    const page = await callers.context.newPage();
    await beginCall(page, both, { transport, wish: WISH });
    await setTimeout(2500);
  }
  console.log(`${CALLS.length} calls for ${2 * SECONDS} s`);
  await setTimeout(SECONDS * 1000);
  await picture('dashboard-light', { colorScheme: 'light' });
  await fetch(`${sim.url}/sim/faults`, {
    method: 'POST',
    headers: { Authorization: 'Bearer any', 'Content-Type': 'application/json' },
    body: JSON.stringify({ faults: [{ kind: 'slow_first_audio', delay_ms: SLOW_MS }] }),
  });
  await setTimeout(SECONDS * 1000);
  await picture('dashboard-dark', { colorScheme: 'dark' });
  const size = { width: 390, height: 1500 };
  const phone = { colorScheme: 'light', size, deviceScaleFactor: 2, isMobile: true };
  await picture('dashboard-phone', phone, true);
} finally {
  await callers.close();
  await both.stop();
  await sim.stop();
  fs.rmSync(scratch, { recursive: true, force: true });
}

async function picture(name, look, firstView = false) {
  const browser = await openPage({
    microphone: 'none',
    size: { width: 1280, height: 800 },
    ...look,
  });
  try {
    await browser.page.goto(`${both.relay.url}/dashboard?window=1m`);
    await browser.page.waitForFunction(() => document.body.dataset.standing === 'live');
    // The charts have drawn themselves, and one more second of figures has come.
    await setTimeout(1500);
    const file = path.join(IMAGES, `${name}.png`);
    const taken = await browser.page.screenshot({ fullPage: !firstView });
    fs.writeFileSync(file, shrink(taken));
    console.log(`${file}: ${Math.round(fs.statSync(file).size / 1024)} KB`);
  } finally {
    await browser.close();
  }
}
