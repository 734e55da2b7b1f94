// Runs the code of docs/EMBEDDING.md: each example holds a spoken turn through a real relay.

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { openPage } from '../browser/chromium.mjs';
import { startRelay } from '../browser/relay.mjs';
import { SENTENCE, writeMicrophone } from '../browser/speech.mjs';
import { loudness, speech } from '../openai_node/talk.mjs';
import { writeExamples } from './example.mjs';

const ROOT = path.resolve(import.meta.dirname, '../..');
const BINARY = process.env.RELAY_BIN ?? path.join(ROOT, 'target/debug/voxline');
const KEY = 'a-key-for-your-server';
const AUDIBLE = 0.01;
const PATIENCE_MS = 30_000;

const run = promisify(execFile);
const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'voxline-embedding-'));
const file = (name) => path.join(scratch, name);

let relay;

before(async () => {
  await run(BINARY, ['certificate', file('tls')]);
  relay = await startRelay({
    VOXLINE_API_KEY: KEY,
    VOXLINE_TLS_LISTEN: '127.0.0.1:0',
    VOXLINE_TLS_CERTIFICATE: file('tls/certificate.pem'),
    VOXLINE_TLS_KEY: file('tls/key.pem'),
  });
  const names = writeExamples(scratch, relay.url);
  assert.equal(names.length, 8, String(names));
  fs.symlinkSync(path.join(ROOT, 'tests/openai_node/node_modules'), file('node_modules'));
  writeMicrophone(file('microphone.wav'), [1.5, SENTENCE, 30]);
  writeQuestion(file('question.wav'));
});

after(async () => {
  await relay?.stop();
  fs.rmSync(scratch, { recursive: true, force: true });
});

describe('the app server', () => {
  let app;
  let url;

  before(async () => {
    const vite = path.join(ROOT, 'web-demo/node_modules/vite/bin/vite.js');
    await run(process.execPath, [vite, 'build', file('library'), '--logLevel', 'error'], {
      env: { ...process.env, VOXLINE_SOURCE: ROOT },
    });
    app = spawn(process.execPath, [file('server.mjs')], {
      env: { ...process.env, PORT: 0, RELAY_KEY: KEY },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    [url] = await once(createInterface({ input: app.stdout }), 'line');
  });

  after(async () => {
    app?.kill();
    if (app) await once(app, 'exit');
  });

  it('gives a client secret to whoever is logged in, and to nobody else', async () => {
    const stranger = await fetch(`${url}token`, { method: 'POST' });
    assert.equal(stranger.status, 401);
    const page = await fetch(url);
    const cookie = page.headers.get('set-cookie').split(';')[0];
    const known = await fetch(`${url}token`, { method: 'POST', headers: { cookie } });
    const { token, expires_at } = await known.json();
    assert.match(token, /^ek_/);
    assert.ok(expires_at * 1000 > Date.now());
    assert.equal((await fetch(`${url}server.mjs`)).status, 404);
  });

  for (const [name, path] of [
    ['a page with nothing but WebRTC', ''],
    ['a page with the client library', 'library/'],
  ]) {
    it(`serves ${name}, which holds a spoken turn and hangs up`, async () => {
      const { page, close } = await openPage({ microphone: file('microphone.wav') });
      try {
        await page.goto(url + path);
        await page.click('#call');
        const heard = (audible) => window.probe.sound.some(({ rms }) => rms > audible);
        await page.waitForFunction(heard, AUDIBLE, { timeout: PATIENCE_MS });
        const written = () => /\w+ \w+/.test(document.querySelector('ol').textContent);
        await page.waitForFunction(written, null, { timeout: PATIENCE_MS });
        await page.click('#call:has-text("Hang up")');
        await page.waitForSelector('#call:has-text("Talk")');
        await everySessionCloses();
      } finally {
        await close();
      }
    });
  }
});

describe("OpenAI's clients", () => {
  it('hold a spoken turn in Python', async () => {
    const python = path.join(ROOT, 'target/openai_python/bin/python');
    await assertAnswered(python, ['ask.py', 'question.wav', 'python.wav'], {
      OPENAI_BASE_URL: `${relay.url}/v1`,
    });
  });

  it('hold a spoken turn in Node.js', async () => {
    await assertAnswered(process.execPath, ['ask.mjs', 'question.wav', 'node.wav'], {
      OPENAI_BASE_URL: `${relay.secureUrl}/v1`,
      NODE_EXTRA_CA_CERTS: file('tls/certificate.pem'),
    });
  });
});

/** Runs a program that asks and writes an answer, and listens to the answer. */
async function assertAnswered(program, [script, question, answer], variables) {
  const { stdout } = await run(program, [script, question, answer], {
    cwd: scratch,
    env: { ...process.env, OPENAI_API_KEY: KEY, ...variables },
    timeout: PATIENCE_MS,
  });
  assert.match(stdout, /\w+ \w+/);
  const wav = fs.readFileSync(file(answer));
  const sound = wav.subarray(44);
  assert.equal(wav.readUInt32LE(40), sound.length);
  assert.ok(sound.length > 24_000, `${sound.length} bytes of answer`);
  assert.ok(loudness([sound]) > 100, 'the answer is silent');
}

async function everySessionCloses() {
  const count = (words) => relay.log().split(words).length;
  for (let tries = 0; count('Session opened') !== count('Session closed'); tries++) {
    assert.ok(tries < 100, relay.log());
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** A recording of 24 kHz, 16 bit, mono. */
function writeQuestion(name) {
  const sound = speech();
  const head = Buffer.alloc(44);
  head.write('RIFF', 0);
  head.writeUInt32LE(36 + sound.length, 4);
  head.write('WAVEfmt ', 8);
  head.writeUInt32LE(16, 16);
  head.writeUInt16LE(1, 20); // PCM
  head.writeUInt16LE(1, 22); // channels
  head.writeUInt32LE(24_000, 24);
  head.writeUInt32LE(48_000, 28);
  head.writeUInt16LE(2, 32);
  head.writeUInt16LE(16, 34);
  head.write('data', 36);
  head.writeUInt32LE(sound.length, 40);
  fs.writeFileSync(name, Buffer.concat([head, sound]));
}
