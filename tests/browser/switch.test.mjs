// Calls that cross a change of their network: over the same connection by an ICE restart, over
// another one, and over WebSocket. The answer that sounds is a rising tone, so that what is lost
// or comes twice can be told from what the ear gets.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { goesOn, hears, metric, news, openCall, remembers, startBoth } from './library.mjs';
import { SENTENCE, writeMicrophone } from './speech.mjs';
import { disturbance, moments, SWEEP_SECONDS, watchTone } from './sweep.mjs';
import { freePort, startUdpProxy } from './udp-proxy.mjs';

/** How well the height of the tone tells the moment, with what a jitter buffer makes up, in ms. */
const BLUR = 250;

const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'voxline-switch-'));
const microphone = path.join(scratch, 'microphone.wav');

let both;
let port;

before(async () => {
  // The answers last as long as the pauses, and the silence of a change.
  writeMicrophone(microphone, [1, SENTENCE, 28, SENTENCE, 30]);
  port = await freePort();
  both = await startBoth({
    VOXLINE_SIM_AGENT: 'sweep',
    VOXLINE_SIM_TONE_LENGTH: `${SWEEP_SECONDS}s`,
    VOXLINE_UDP: `127.0.0.1:${port}`,
  });
});

after(async () => {
  await both?.stop();
  fs.rmSync(scratch, { recursive: true, force: true });
});

describe('a call whose network changes', () => {
  it('goes on after an ICE restart', async () => {
    await crosses('ice-restart', (proxy) => proxy.abandon());
  });

  it('goes on over another peer connection where ICE cannot be restarted', async () => {
    await crosses('webrtc', async (proxy, page) => {
      await page.route('**/v1/realtime/calls/**', (route) => {
        const patch = route.request().method() === 'PATCH';
        return patch ? route.abort() : route.continue();
      });
      proxy.abandon();
    });
  });

  it('goes on over WebSocket where UDP gets through no more', async () => {
    await crosses('websocket', (proxy) => proxy.drop());
  });
});

/** Has a call cross what `change` does to its network in the middle of an answer. */
async function crosses(by, change) {
  const proxy = await startUdpProxy(port);
  const through = `(${throughProxy})(${proxy.port}); (${watchTone})();`;
  const options = { microphone, before: { content: through }, transport: 'auto', wish: {} };
  const { page, close } = await openCall(both, options);
  try {
    const started = await answer(page, 'started', 1);
    await page.waitForTimeout(4000);
    const [spoken] = await itemsOf(page);
    const changed = Date.now();
    await change(proxy, page);
    const { what } = await (await hears(page, 'reconnected')).jsonValue();
    assert.equal(what.by, by, JSON.stringify(await news(page, 'recovering')));
    assert.equal(what.reason, 'connection');
    const stopped = await answer(page, 'stopped', 1);

    const heard = await page.evaluate(() => window.heard);
    const found = disturbance(moments(heard, started, stopped + 500));
    const ms = (value) => `${value.toFixed(0)} ms`;
    console.log(
      `${by}: silence at the ear ${ms(found.silence)}, heard twice ${ms(Math.max(0, found.twice))}, ` +
        `lost ${ms(Math.max(0, found.lost))}; the library: ${ms(what.gapMs)} without a connection`,
    );
    assert.ok(found.silence > 0, 'there was something to cross');
    assert.ok(found.twice < BLUR, `${found.twice} ms were heard twice`);
    assert.ok(found.lost < BLUR, `${found.lost} ms were lost`);
    assert.ok(found.reached > SWEEP_SECONDS * 1000 - 2 * BLUR, `heard up to ${found.reached} ms`);

    assert.ok(stopped > changed);
    assert.equal(new Set(await sessions(page)).size, 1);
    assert.equal(await metric(both.relay, 'voxline_sessions'), 1);
    await remembers(page, spoken);
    await goesOn(page, 'reconnected');
    assert.deepEqual(await repeated(page), []);
    assert.deepEqual(await news(page, 'closed'), []);
  } finally {
    await page.evaluate(() => window.call.close()).catch(() => {});
    await close();
    await proxy.stop();
  }
}

/** Runs in the page: the relay is found where the proxy is. */
function throughProxy(port) {
  const { setRemoteDescription } = RTCPeerConnection.prototype;
  RTCPeerConnection.prototype.setRemoteDescription = function ({ type, sdp }) {
    const moved = sdp.replace(/^(a=candidate:\S+ \d \S+ \d+ \S+) \d+ /gm, `$1 ${port} `);
    return setRemoteDescription.call(this, { type, sdp: moved });
  };
}

/** Waits until so many answers have started, or stopped, and tells when the last of them did. */
async function answer(page, what, count) {
  const found = await page.waitForFunction(
    ([type, wanted]) =>
      window.news.filter(({ what }) => what.type === type).map(({ at }) => at)[wanted - 1],
    [`output_audio_buffer.${what}`, count],
    { timeout: 60_000 },
  );
  return found.jsonValue();
}

/** The items that the conversation has got. */
async function itemsOf(page) {
  const events = await news(page, 'event');
  const added = events.filter(({ what }) => what.type === 'conversation.item.added');
  return added.map(({ what }) => what.item.id);
}

async function sessions(page) {
  const events = await news(page, 'event');
  const named = events.filter(({ what }) => what.type === 'voxline.session');
  return named.map(({ what }) => what.session_id);
}

/** Events that the page was told of twice. */
async function repeated(page) {
  const events = await news(page, 'event');
  const ids = events.map(({ what }) => what.event_id).filter((id) => id !== undefined);
  return ids.filter((id, i) => ids.indexOf(id) !== i);
}
