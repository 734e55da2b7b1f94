// Calls that outlive their tokens and their connections: the client library, in a page of an app
// on another origin, against a real relay.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { mint } from './app.mjs';
import { openPage } from './chromium.mjs';
import {
  beginCall,
  goesOn,
  hears,
  KEY,
  metric,
  news,
  openCall,
  remembers,
  startBoth,
} from './library.mjs';
import { startProxy } from './proxy.mjs';
import { INTERRUPTION, SENTENCE, writeMicrophone } from './speech.mjs';
import { largest, packetGaps } from './timeline.mjs';

/** What one rotation may cost at most, in milliseconds of sound. */
const LARGEST_GAP = 40;
const CALL_SECONDS = 62;
/** What a caller may hear of an attachment anew, in milliseconds. */
const PAUSE = 2000;
const TEN_SECONDS = {
  expires_after: { anchor: 'created_at', seconds: 10 },
  voxline: { user: 'u' },
};

const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'voxline-rotation-'));
const story = path.join(scratch, 'story.wav');
const turns = path.join(scratch, 'turns.wav');
const screenshots = process.env.SCREENSHOTS;

let both;

before(async () => {
  // The partner greets, echoes, and from then on tells a story of more than a minute.
  writeMicrophone(story, [1, SENTENCE, 3, INTERRUPTION, 3, SENTENCE, 20, INTERRUPTION, 40]);
  writeMicrophone(turns, [1, SENTENCE, 9, SENTENCE, 9, SENTENCE, 9, SENTENCE, 9]);
  both = await startBoth();
});

after(async () => {
  await both?.stop();
  fs.rmSync(scratch, { recursive: true, force: true });
});

// A minute of rotations leaves a minute for the others beside it.
describe('a call', { concurrency: 2 }, () => {
  it('has no gap where a token is renewed', async () => {
    const wish = seconds(10);
    const rotated = { microphone: story, transport: 'webrtc', wish };
    await withCall(both, rotated, async (page, context) => {
      // One more over WebSocket; and one with a key, which has no tokens, to compare with.
      const socket = await context.newPage();
      await beginCall(socket, both, { transport: 'websocket', wish });
      const steady = await context.newPage();
      await beginCall(steady, both, { transport: 'webrtc', token: KEY });
      await page.waitForTimeout(CALL_SECONDS * 1000);
      assert.deepEqual(await news(steady, 'token'), []);
      const beside = await gaps(steady);
      for (const [tab, name] of [
        [page, 'WebRTC'],
        [socket, 'WebSocket'],
      ]) {
        assert.deepEqual(await news(tab, 'closed'), []);
        assert.deepEqual(await news(tab, 'reconnected'), []);
        const renewals = times(await news(tab, 'token'));
        const found = largest(await gaps(tab), renewals, beside);
        const ms = (gap) => `${gap.toFixed(1)} ms`;
        console.log(
          `${name}: rotations: ${renewals.length}, largest gap: ${ms(found.own)} ` +
            `(with what the machine held up: ${ms(found.all)}, elsewhere ${ms(found.elsewhere)}; ` +
            `${found.seen} pieces of sound about rotations)`,
        );
        assert.ok(renewals.length >= 5, `${renewals.length} rotations`);
        assert.ok(found.seen > 250, `${found.seen} pieces of sound about rotations`);
        assert.ok(found.own <= Math.max(LARGEST_GAP, found.elsewhere), `a gap of ${found.own} ms`);
        await hangsUp(tab, both.relay);
      }
    });
  });

  it('that acknowledges no token attaches anew in mid-answer, and goes on', async () => {
    // Short, so that the library cannot wait for a moment of silence.
    const { relay, app, stop } = await startBoth({ VOXLINE_SESSION_RESUME_WINDOW: '6s' });
    const options = { microphone: story, transport: 'webrtc', wish: seconds(22) };
    const before = loseAcknowledgements;
    try {
      await withCall({ relay, app }, { ...options, before }, async (page) => {
        await hears(page, 'transcript', ({ side }) => side === 'assistant');
        const [first] = await news(page, 'transcript');
        const [{ at, what }] = [await (await hears(page, 'reconnected')).jsonValue()];
        assert.equal(what.reason, 'token');
        assert.equal(await metric(relay, 'session_rotate_fail_total'), 1);
        await page.waitForTimeout(2000);
        const { all: near, seen } = largest(await gaps(page), [at]);
        console.log(
          `reconnected in mid-answer: no connection for ${what.gapMs.toFixed(0)} ms, ` +
            `largest gap: ${near.toFixed(0)} ms (of ${seen} packets)`,
        );
        assert.ok(seen > 60, `${seen} packets about the reconnection`);
        assert.ok(near < PAUSE, `a pause of ${near} ms`);
        await remembers(page, first.what.itemId);
        await goesOn(page, 'reconnected');
        assert.deepEqual(await news(page, 'closed'), []);
        await hangsUp(page, relay);
      });
    } finally {
      await stop();
    }
  });

  it('whose WebSocket breaks comes back to its conversation', async () => {
    const proxy = await startProxy(both.relay.url);
    try {
      const through = { ...both, relay: { ...both.relay, url: proxy.url } };
      await comesBack('websocket', through, () => proxy.cut());
    } finally {
      await proxy.stop();
    }
  });

  it('whose peer connection breaks comes back to its conversation', async () => {
    const closePeer = (page) => page.evaluate(() => window.probe.peers.at(-1).close());
    await comesBack('webrtc', both, closePeer);
  });

  it('says on the page, in one quiet line, that its connection was renewed', async () => {
    const { value } = await mint({ relay: both.relay.url, key: KEY }, seconds(10));
    const { page, context, close } = await openPage({ microphone: turns });
    try {
      await context.addInitScript(loseAcknowledgements);
      await page.goto(both.relay.url);
      await page.fill('#key', value);
      await page.click('#call');
      await page.waitForSelector('[data-side=assistant] .words', { timeout: 20_000 });
      const said = await page.textContent('[data-side=assistant] .words');
      await page.waitForSelector('.note:has-text("Connection renewed")', { timeout: 30_000 });
      assert.equal(await page.getAttribute('body', 'data-call'), 'live');
      const shown = await page.textContent('#transcript');
      assert.ok(shown.includes(said.slice(0, 20)), shown);
      assert.match(await page.textContent('#token'), /^token renewed/);
      if (screenshots) await page.screenshot({ path: path.join(screenshots, 'renewed.png') });
    } finally {
      await close();
    }
  });
});

async function withCall(where, options, act) {
  const { page, context, close } = await openCall(where, options);
  try {
    await act(page, context);
  } finally {
    await close();
  }
}

async function comesBack(transport, where, cut) {
  await withCall(where, { microphone: turns, transport, wish: {} }, async (page) => {
    await hears(page, 'transcript', ({ side }) => side === 'assistant');
    const [first] = await news(page, 'transcript');
    await cut(page);
    await hears(page, 'state', (state) => state === 'recovering');
    const { what } = await (await hears(page, 'reconnected')).jsonValue();
    assert.equal(what.reason, 'connection');
    console.log(`${transport} broken: no connection for ${what.gapMs.toFixed(0)} ms`);
    await remembers(page, first.what.itemId);
    await goesOn(page, 'reconnected');
    await hangsUp(page, both.relay);
  });
}

/** Runs in the page: what acknowledges a token is lost on the way. */
function loseAcknowledgements() {
  const { send } = RTCDataChannel.prototype;
  RTCDataChannel.prototype.send = function (data) {
    if (!String(data).includes('voxline.token_ack')) send.call(this, data);
  };
}

/** Hanging up ends the session at the relay, whatever became of the first token. */
async function hangsUp(page, relay) {
  const closed = () => relay.log().split('Session closed').length;
  const before = closed();
  await page.evaluate(() => window.call.close());
  for (let tries = 0; closed() === before; tries++) {
    assert.ok(tries < 50, relay.log());
    await page.waitForTimeout(100);
  }
}

/** The gaps in what was received. */
async function gaps(page) {
  const arrivals = await page.evaluate(() => window.arrivals);
  const events = await news(page, 'event');
  const starts = events.filter(({ what }) => what.type === 'output_audio_buffer.started');
  return packetGaps(arrivals, times(starts));
}

/** The body of a request for a token of this life. */
function seconds(life) {
  return { expires_after: { anchor: 'created_at', seconds: life }, voxline: { user: 'u-1' } };
}

function times(entries) {
  return entries.map(({ at }) => at);
}
