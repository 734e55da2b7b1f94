// The served page in a real browser against a real relay: a spoken, interrupted call over each
// transport, and what the page says when something is wrong.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { openPage } from './chromium.mjs';
import { startRelay } from './relay.mjs';
import { INTERRUPTION, SENTENCE, writeMicrophone } from './speech.mjs';

/** Sound counts as audible above this (RMS of full scale), and as silence below the other. */
const AUDIBLE = 0.01;
const SILENT = 0.002;

const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'voxline-browser-'));
const microphone = path.join(scratch, 'microphone.wav');
const screenshots = process.env.SCREENSHOTS;

let relay;

before(async () => {
  // A sentence, time for an answer to sound, words over it, and time for another answer.
  writeMicrophone(microphone, [1.5, SENTENCE, 4, INTERRUPTION, 12]);
  relay = await startRelay();
});

after(async () => {
  await relay?.stop();
  fs.rmSync(scratch, { recursive: true, force: true });
});

for (const [transport, name] of [
  ['webrtc', 'WebRTC'],
  ['websocket', 'WebSocket'],
]) {
  describe(`a call over ${name}`, () => {
    let browser;
    let page;
    let heard;
    let cut;

    before(async () => {
      browser = await openPage({ microphone });
      page = browser.page;
      await open(page, relay.url);
      await call(page, transport);
      await page.waitForSelector('.cut', { timeout: 45_000 });
      await page.waitForTimeout(1200);
      ({ sound: heard, marks: cut } = await page.evaluate(() => ({
        sound: window.probe.sound,
        marks: window.probe.marks.find(({ cuts }) => cuts > 0),
      })));
    });

    after(() => browser?.close());

    it('says what carries it', async () => {
      assert.equal(await page.textContent('#path'), name);
    });

    it('makes an answer heard', () => {
      const before = loudest(heard, cut.at - 800, cut.at);
      assert.ok(before > AUDIBLE, `loudest before the interruption: ${before}`);
    });

    it('falls silent when the person speaks', () => {
      const after = loudest(heard, cut.at + 300, cut.at + 1100);
      assert.ok(after < SILENT, `loudest after the interruption: ${after}`);
    });

    it('marks the interruption with how much was heard', async () => {
      assert.match(await page.textContent('.cut'), /^interrupted after \d+\.\d s$/);
    });

    it('shows both sides in writing', async () => {
      await page.waitForFunction(() => {
        const said = [...document.querySelectorAll('[data-side=person] .words')];
        return said.some(({ textContent }) => /\w{2,}/.test(textContent));
      });
      const answer = await page.textContent('[data-side=assistant] .words');
      assert.match(answer, /\w+ \w+/);
    });

    it('shows the first-audio latency of an answer, and its parts', async () => {
      await page.waitForSelector('.latency', { timeout: 20_000 });
      const summary = await page.textContent('.latency summary');
      assert.match(summary, /^first audio \d+ ms$/);
      const parts = await page.$$eval('.latency dl div', (rows) =>
        rows.map((row) => [row.querySelector('dt').textContent, row.querySelector('dd').textContent]),
      );
      assert.equal(parts.length, 8, `${parts}`);
      const sum = parts.reduce((total, [, ms]) => total + Number(/\d+/.exec(ms)[0]), 0);
      // Each is rounded.
      assert.ok(Math.abs(sum - Number(/\d+/.exec(summary)[0])) <= 4, `${parts} in ${summary}`);
    });

    it('goes through the states of a conversation', async () => {
      const states = await page.evaluate(() => window.probe.marks.map(({ state }) => state));
      for (const state of ['listening', 'thinking', 'speaking']) {
        assert.ok(states.includes(state), `${state} in ${states}`);
      }
    });

    it('answers again after the interruption', async () => {
      await page.waitForSelector('.cut', { timeout: 1000 });
      await inState(page, 'speaking');
      if (screenshots) await takeScreenshots(page, transport);
    });

    it('releases the microphone and the connection on hanging up', async () => {
      await page.click('#call');
      await page.waitForSelector('body[data-call=off]');
      const left = await page.evaluate(() => ({
        tracks: window.probe.tracks.map(({ readyState }) => readyState),
        peers: window.probe.peers.map(({ connectionState }) => connectionState),
      }));
      assert.deepEqual([...new Set(left.tracks)], ['ended']);
      assert.deepEqual([...new Set(left.peers)], transport === 'webrtc' ? ['closed'] : []);
      assert.equal(await page.isHidden('#alert'), true);
    });

    it('ends the session at the relay on hanging up', async () => {
      const count = (words) => relay.log().split(words).length - 1;
      for (let tries = 0; count('Session opened') !== count('Session closed'); tries++) {
        assert.ok(tries < 50, relay.log());
        await page.waitForTimeout(100);
      }
    });
  });
}

describe('a call without a microphone', () => {
  it('says that there is none', async () => {
    await withPage({ microphone: 'none' }, async (page) => {
      await open(page, relay.url);
      await page.click('#call');
      assert.equal(await alert(page), 'no-microphone');
    });
  });

  it('says that it is not allowed, and goes on by typing', async () => {
    await withPage({ microphone: 'refused' }, async (page) => {
      await open(page, relay.url);
      await page.click('#call');
      assert.equal(await alert(page), 'microphone-denied');
      if (screenshots) await page.screenshot({ path: path.join(screenshots, 'failure.png') });
      await page.click('#alert-actions button:has-text("typing")');
      await page.waitForSelector('body[data-call=live]');
      await page.fill('#text', 'Hello there');
      await page.press('#text', 'Enter');
      await page.waitForSelector('[data-side=person]:has-text("Hello there")');
      await page.waitForSelector('[data-side=assistant] .words');
    });
  });
});

describe('a network without UDP', () => {
  it('gets its call over WebSocket, and is told why', async () => {
    const flags = ['--webrtc-ip-handling-policy=disable_non_proxied_udp'];
    await withPage({ microphone, flags }, async (page) => {
      await open(page, relay.url);
      await call(page, 'auto');
      assert.equal(await page.textContent('#path'), 'WebSocket');
      assert.match(await page.textContent('#transcript'), /blocks WebRTC \(UDP\)/);
    });
  });

  it('says so when WebRTC was asked for', async () => {
    const flags = ['--webrtc-ip-handling-policy=disable_non_proxied_udp'];
    await withPage({ microphone, flags }, async (page) => {
      await open(page, relay.url);
      await page.selectOption('#transport', 'webrtc');
      await page.click('#call');
      assert.equal(await alert(page), 'udp-blocked');
    });
  });
});

describe('a relay with keys', () => {
  for (const transport of ['webrtc', 'websocket']) {
    it(`asks for one, and says when it is wrong (${transport})`, async () => {
      const guarded = await startRelay({ VOXLINE_API_KEY: 'a-key-of-sixteen-or-more' });
      try {
        await withPage({ microphone }, async (page) => {
          await open(page, guarded.url);
          await page.fill('#key', 'not-the-key-of-this-relay');
          await page.selectOption('#transport', transport);
          await page.click('#call');
          assert.equal(await alert(page), 'unauthorized');
          await page.fill('#key', 'a-key-of-sixteen-or-more');
          await call(page, transport);
        });
      } finally {
        await guarded.stop();
      }
    });
  }
});

describe('a relay that goes away', () => {
  for (const transport of ['webrtc', 'websocket']) {
    it(`in mid-call, without a word (${transport})`, async () => {
      assert.equal(await goneAfter('SIGKILL', transport), 'lost');
    });

    it(`in mid-call, shutting down (${transport})`, async () => {
      assert.equal(await goneAfter('SIGTERM', transport), 'shutdown');
    });

    it(`before the call (${transport})`, async () => {
      const doomed = await startRelay();
      await withPage({ microphone }, async (page) => {
        await open(page, doomed.url);
        await doomed.stop('SIGKILL');
        await page.selectOption('#transport', transport);
        await page.click('#call');
        assert.equal(await alert(page), 'unreachable');
      });
    });
  }

  async function goneAfter(signal, transport) {
    // For so long the page tries to come back.
    const doomed = await startRelay({ VOXLINE_SESSION_RESUME_WINDOW: '3s' });
    return withPage({ microphone }, async (page) => {
      await open(page, doomed.url);
      await call(page, transport);
      await doomed.stop(signal);
      return alert(page);
    });
  }
});

describe('the page', () => {
  it('fits a phone of 360 pixels', async () => {
    await withPage({ microphone, size: { width: 360, height: 640 } }, async (page) => {
      await open(page, relay.url);
      const width = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(width <= 360, `${width} pixels wide`);
    });
  });

  it('is used by keyboard alone', async () => {
    await withPage({ microphone }, async (page) => {
      await open(page, relay.url);
      await page.keyboard.press('Tab');
      assert.equal(await page.evaluate(() => document.activeElement.id), 'call');
      await page.keyboard.press('Enter');
      await page.waitForSelector('body[data-call=live]');
      const reached = new Set();
      for (let tabs = 0; tabs < 12; tabs++) {
        reached.add(await page.evaluate(() => document.activeElement.id));
        await page.keyboard.press('Tab');
      }
      for (const id of ['call', 'mute', 'text', 'send']) assert.ok(reached.has(id), id);
    });
  });

  it('loads under its policy, and asks nobody else for anything', async () => {
    await withPage({ microphone }, async (page) => {
      const elsewhere = [];
      const complaints = [];
      page.on('request', (request) => {
        if (!request.url().startsWith(relay.url)) elsewhere.push(request.url());
      });
      page.on('console', (message) => {
        if (message.type() === 'error') complaints.push(message.text());
      });
      page.on('pageerror', (error) => complaints.push(error.message));
      await open(page, relay.url);
      await call(page, 'websocket');
      await page.click('#call');
      await call(page, 'webrtc');
      assert.deepEqual({ elsewhere, complaints }, { elsewhere: [], complaints: [] });
    });
  });
});

async function withPage(options, act) {
  const { page, close } = await openPage(options);
  try {
    return await act(page);
  } finally {
    await close();
  }
}

async function open(page, url) {
  await page.goto(url, { waitUntil: 'load' });
}

/** Starts a call and waits until it stands. */
async function call(page, transport) {
  await page.selectOption('#transport', transport);
  await page.click('#call');
  await page.waitForFunction(
    () => document.body.dataset.call === 'live' || !document.querySelector('#alert').hidden,
    null,
    { timeout: 25_000 },
  );
  const trouble = await page.evaluate(
    () => document.querySelector('#alert:not([hidden])')?.innerText,
  );
  assert.equal(trouble, undefined);
}

/** The kind of the failure that the page shows. */
async function alert(page) {
  const shown = await page.waitForSelector('#alert:not([hidden])', { timeout: 30_000 });
  assert.notEqual((await shown.innerText()).trim(), '');
  assert.equal(await page.getAttribute('body', 'data-call'), 'off');
  return shown.getAttribute('data-kind');
}

function inState(page, state) {
  return page.waitForSelector(`#state[data-state=${state}]`, { timeout: 30_000 });
}

function loudest(sound, from, to) {
  const window = sound.filter(({ at }) => at >= from && at <= to);
  assert.ok(window.length > 3, `${window.length} readings between ${from} and ${to}`);
  return Math.max(...window.map(({ rms }) => rms));
}

async function takeScreenshots(page, transport) {
  fs.mkdirSync(screenshots, { recursive: true });
  await page.mouse.move(0, 0);
  await page.click('.latency summary');
  const take = async (name) => {
    await page.waitForTimeout(300); // until colors have faded over
    await page.screenshot({ path: path.join(screenshots, `${name}-${transport}.png`) });
  };
  await take('light');
  await page.emulateMedia({ colorScheme: 'dark' });
  await take('dark');
  await page.emulateMedia({ colorScheme: 'light' });
  await page.setViewportSize({ width: 390, height: 844 });
  await take('phone');
}
