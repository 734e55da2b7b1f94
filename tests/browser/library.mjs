// A page of somebody else's app, with our client library in it.

import assert from 'node:assert/strict';
import { startApp } from './app.mjs';
import { openPage } from './chromium.mjs';
import { startRelay } from './relay.mjs';
import { watchArrivals } from './timeline.mjs';

export const KEY = 'a-key-of-sixteen-or-more';

const PAGE = `<!doctype html>
<link rel="icon" href="data:," />
<script type="module">
  import { connect } from './voxline/voxline.js';

  window.begin = async ({ wish, token, ...options }) => {
    if (!token) {
      const answer = await fetch('/token', { method: 'POST', body: JSON.stringify(wish) });
      token = (await answer.json()).value;
    }
    const call = await connect({ token, model: 'gpt-realtime-2.1', ...options });
    window.call = call;
    window.news = [];
    const names = ['state', 'transcript', 'token', 'recovering', 'reconnected', 'error', 'event'];
    for (const name of [...names, 'closed'])
      call.on(name, (what) => {
        const failure = what.failure && { kind: what.failure.kind, message: what.failure.message };
        const at = performance.timeOrigin + performance.now();
        window.news.push({ at, name, what: failure ? { failure } : what });
      });
  };
  window.ready = true;
</script>
`;

/** Starts a relay with a key, and an app that uses it. */
export async function startBoth(variables = {}) {
  const relay = await startRelay({ VOXLINE_API_KEY: KEY, ...variables });
  try {
    const app = await startApp({ relay: relay.url, key: KEY, pages: { 'call.html': PAGE } });
    const stop = async () => {
      await app.stop();
      await relay.stop();
    };
    return { relay, app, stop };
  } catch (error) {
    await relay.stop();
    throw error;
  }
}

/**
 * Opens the app's page and a call in it. `wish` is the body of the request for its token;
 * `before` runs in the page before its own scripts.
 */
export async function openCall({ relay, app }, { microphone, before = () => {}, ...options }) {
  const browser = await openPage({ microphone });
  const { page, context } = browser;
  try {
    await context.addInitScript(watchArrivals);
    await context.addInitScript(before);
    await beginCall(page, { relay, app }, options);
  } catch (error) {
    await browser.close();
    throw error;
  }
  return browser;
}

/** Begins a call in a page of a browser that has one, too. */
export async function beginCall(page, { relay, app }, options) {
  await page.goto(`${app.url}/call.html`);
  await page.waitForFunction(() => window.ready);
  await page.evaluate((all) => window.begin(all), { baseUrl: relay.url, ...options });
}

/** What the library told of the call, by the name of its events. */
export async function news(page, name) {
  const told = await page.evaluate(() => window.news);
  return told.filter((entry) => entry.name === name);
}

/** Waits for an event of the library that fits; `matches` runs in the page. */
export function hears(page, name, matches = () => true, timeout = 30_000) {
  return page.waitForFunction(
    ([event, fits]) => {
      const check = new Function(`return (${fits})`)();
      return window.news.find((entry) => entry.name === event && check(entry.what));
    },
    [name, matches.toString()],
    { timeout },
  );
}

/** The provider still has this item of the conversation. */
export async function remembers(page, itemId) {
  await page.evaluate((id) => {
    window.call.send({ type: 'conversation.item.retrieve', item_id: id });
  }, itemId);
  const retrieved = await hears(
    page,
    'event',
    ({ type }) => type === 'conversation.item.retrieved' || type === 'error',
  );
  const { what } = await retrieved.jsonValue();
  assert.equal(what.item?.id, itemId, JSON.stringify(what));
}

/** Another turn is spoken, and answered, after this event. */
export async function goesOn(page, name) {
  await page.waitForFunction(
    (event) => {
      const then = window.news.findLast((entry) => entry.name === event).at;
      const since = window.news.filter(({ at }) => at > then);
      const spoke = since.findIndex(
        ({ what }) => what.type === 'input_audio_buffer.speech_stopped',
      );
      return since.slice(spoke + 1).some(({ name, what }) => {
        return spoke >= 0 && name === 'transcript' && what.side === 'assistant';
      });
    },
    name,
    { timeout: 40_000 },
  );
}

/** The sum of a counter over its labels. */
export async function metric(relay, name) {
  const text = await (await fetch(`${relay.url}/metrics`)).text();
  const lines = text.split('\n').filter((line) => new RegExp(`^\\w*${name}[ {]`).test(line));
  return lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
}
