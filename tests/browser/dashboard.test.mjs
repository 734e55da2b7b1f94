// The dashboard in a real browser: it names the hop that was slowed down on purpose, and says when it
// has no figures, no key, no relay.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { openPage } from './chromium.mjs';
import { beginCall, startBoth } from './library.mjs';
import { startRelay } from './relay.mjs';
import { SENTENCE, writeMicrophone } from './speech.mjs';

const ADMIN_KEY = 'an-admin-key-for-tests';
const TURN_MS = 60_000;

const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'voxline-dashboard-'));
const microphone = path.join(scratch, 'microphone.wav');

before(() => writeMicrophone(microphone, [1.5, SENTENCE, 6]));
after(() => fs.rmSync(scratch, { recursive: true, force: true }));

describe('the dashboard', () => {
  it('names inference, if the provider is slow to answer', async () => {
    await names('inference', 'Inference', { VOXLINE_SIM_FIRST_AUDIO: '1400ms' });
  });

  it('names the wait for silence, if turns end late', async () => {
    const session = {
      audio: { input: { turn_detection: { type: 'server_vad', silence_duration_ms: 1800 } } },
    };
    await names('silence_wait', 'Silence wait', {}, { session });
  });

  it('names playback, if the device holds sound back', async () => {
    await names('playback', 'Playback', {}, {}, () => {
      const { RTCPeerConnection } = window;
      window.RTCPeerConnection = class extends RTCPeerConnection {
        constructor(...options) {
          super(...options);
          this.addEventListener('track', ({ receiver }) => (receiver.jitterBufferTarget = 900));
        }
      };
    });
  });

  it('says that there is nothing to say yet', async () => {
    const relay = await startRelay();
    const browser = await openPage({ microphone: 'none' });
    try {
      const problems = listen(browser.page);
      await browser.page.goto(`${relay.url}/dashboard`);
      await mood(browser.page, 'none');
      assert.match(await title(browser.page), /^Nobody was answered/);
      assert.match(await text(browser.page, '#detail'), /No call is on\./);
      for (const id of ['falls', 'time', 'turns', 'sessions']) {
        assert.ok(await browser.page.isVisible(`#${id}-empty`), id);
      }
      assert.match(await text(browser.page, '#breakers'), /voice · embedded.*closed/);
      assert.deepEqual(problems, []);
    } finally {
      await browser.close();
      await relay.stop();
    }
  });

  it('says that the relay is gone, for how long, and when it is back', async () => {
    let relay = await startRelay();
    const browser = await openPage({ microphone: 'none' });
    const { page } = browser;
    try {
      await page.goto(`${relay.url}/dashboard`);
      await mood(page, 'none');
      await relay.stop('SIGKILL');
      await mood(page, 'lost');
      assert.match(await title(page), /not known/);
      await page.waitForFunction(() =>
        /\d+ s ago/.test(document.querySelector('#detail').innerText),
      );
      assert.match(await text(page, '#notice'), /connection to the relay is lost.*Trying again/is);
      await page.waitForFunction(() => {
        const { opacity } = getComputedStyle(document.querySelector('#panels'));
        return Number(opacity) < 0.6;
      });
      assert.ok(await page.isVisible('#retry'));
      relay = await startRelay({ VOXLINE_LISTEN: new URL(relay.url).host });
      await mood(page, 'none');
      assert.ok(await page.isHidden('#notice'));
    } finally {
      await browser.close();
      await relay.stop();
    }
  });

  it('asks for the admin key where it is needed, and keeps it in the tab alone', async () => {
    const relay = await startRelay({ VOXLINE_ADMIN_KEY: ADMIN_KEY });
    const browser = await openPage({ microphone: 'none' });
    const { page, context } = browser;
    try {
      // As behind a proxy.
      await context.setExtraHTTPHeaders({ 'X-Forwarded-For': '192.0.2.1' });
      await page.goto(`${relay.url}/dashboard`);
      await page.getByText('This needs the admin key').waitFor();
      assert.ok(await page.isHidden('#panels'), 'nothing is shown before');
      await page.keyboard.type('not-the-key');
      await page.keyboard.press('Enter');
      await page.getByText('That is not the admin key').waitFor();
      await page.keyboard.type(ADMIN_KEY);
      await page.keyboard.press('Enter');
      await mood(page, 'none');
      await page.reload();
      await mood(page, 'none');
      const kept = await page.evaluate(() => [localStorage.length, document.cookie, location.href]);
      assert.equal(kept[0], 0);
      assert.equal(kept[1], '');
      assert.ok(!kept[2].includes(ADMIN_KEY));
      const other = await context.newPage();
      await other.goto(`${relay.url}/dashboard`);
      await other.getByText('This needs the admin key').waitFor();
    } finally {
      await browser.close();
      await relay.stop();
    }
  });
});

/**
 * Holds turns with something slowed down, and sees that the page blames it. `slow` runs in the page of the
 * call before its own scripts.
 */
async function names(hop, label, variables, options = {}, slow = () => {}) {
  const both = await startBoth(variables);
  const browser = await openPage({ microphone });
  const { page, context } = browser;
  try {
    await context.addInitScript(slow);
    await beginCall(page, both, options);
    const board = await context.newPage();
    const problems = listen(board);
    await board.goto(`${both.relay.url}/dashboard`);
    await board.waitForFunction((name) => document.body.dataset.culprit === name, hop, {
      timeout: TURN_MS,
    });
    assert.match(await title(board), new RegExp(label));
    const row = board.locator(`#falls .step[data-hop="${hop}"]`);
    assert.match(await row.getAttribute('class'), /is-over/);
    assert.match(await row.innerText(), /\+[\d,.]+\sm?s/, 'by how much');
    assert.ok(await row.locator('.over').isVisible(), 'not by its colour alone');

    await seesOneTurn(board, label, hop);
    assert.equal(await board.locator('#sessions > li').count(), 1);
    await fitsAPhone(board);
    await showsWhatIsAskedFor(board, hop);
    assert.deepEqual(problems, [], 'neither errors nor anything that the policy forbids');
    console.log(`${hop}: ${await title(board)} ${await text(board, '#detail')}`);
  } finally {
    await browser.close();
    await both.stop();
  }
}

/** By the keyboard alone. */
async function seesOneTurn(board, label, hop) {
  const turn = board.locator('#turns button').first();
  await turn.focus();
  assert.match(await turn.innerText(), new RegExp(label));
  await board.keyboard.press('Enter');
  assert.equal(await turn.getAttribute('aria-expanded'), 'true');
  const detail = board.locator(`#turns .detail:visible .step[data-hop="${hop}"]`);
  assert.match(await detail.getAttribute('class'), /is-over/);
  await board.keyboard.press('Enter');
  assert.equal(await turn.getAttribute('aria-expanded'), 'false');
}

async function fitsAPhone(board) {
  const before = board.viewportSize();
  await board.setViewportSize({ width: 390, height: 844 });
  await board.locator('#turns button').first().click();
  const beyond = await board.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(beyond <= 0, `${beyond} px are out of sight`);
  await board.setViewportSize(before);
}

/** Another transport has no turns; another window has. The address says what is shown. */
async function showsWhatIsAskedFor(board, hop) {
  await board.evaluate(() => {
    const select = document.querySelector('#transport');
    select.append(new Option('WebSocket', 'websocket'));
  });
  await board.selectOption('#transport', 'websocket');
  await mood(board, 'none');
  await board.selectOption('#transport', 'webrtc');
  await board.locator('input[value="5m"]').focus();
  await board.keyboard.press('ArrowRight');
  await board.waitForFunction((name) => document.body.dataset.culprit === name, hop);
  assert.match(await text(board, '#detail'), /./);
  assert.match(board.url(), /window=1h&transport=webrtc$/);
}

function listen(page) {
  const problems = [];
  page.on('console', (line) => {
    if (line.type() === 'error' || line.type() === 'warning') problems.push(line.text());
  });
  page.on('pageerror', (error) => problems.push(String(error)));
  return problems;
}

function mood(page, wanted) {
  return page.waitForFunction((name) => document.body.dataset.mood === name, wanted);
}

function title(page) {
  return text(page, 'h1');
}

async function text(page, selector) {
  return (await page.locator(selector).innerText()).replace(/\s+/g, ' ');
}
