// Starts the relay with TLS, and the tests with Node.js trusting its certificate, which it only
// does from its own start.
//
//     node run.mjs [BINARY]

import { spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';

const ROOT = path.resolve(import.meta.dirname, '../..');
const BINARY = process.argv[2] ?? path.join(ROOT, 'target/debug/voxline');
const KEY = randomBytes(16).toString('hex');

const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'voxline-openai-node-'));
try {
  process.exitCode = await main();
} finally {
  fs.rmSync(scratch, { recursive: true });
}

async function main() {
  const certificate = path.join(scratch, 'certificate.pem');
  const made = spawnSync(BINARY, ['certificate', scratch], { env: environment() });
  if (made.status !== 0) throw new Error(`no certificate: ${made.stderr}`);
  const relay = start(certificate, path.join(scratch, 'key.pem'));
  const exited = once(relay, 'exit');
  const address = await addressOf(relay);
  const flags = typeof WebSocket === 'undefined' ? ['--experimental-websocket'] : [];
  const suite = ['--test', '--test-reporter=spec', 'talk.test.mjs'];
  const tests = spawn(process.execPath, [...flags, ...suite], {
    cwd: import.meta.dirname,
    env: {
      ...environment(),
      NODE_EXTRA_CA_CERTS: certificate,
      NODE_OPTIONS: flags.join(' '),
      OPENAI_API_KEY: KEY,
      OPENAI_BASE_URL: `${address}v1`,
    },
    stdio: 'inherit',
  });
  const [status] = await once(tests, 'exit');
  relay.kill();
  const [ended] = await exited;
  if (ended !== 0) console.error(`the relay ended with ${ended}`);
  return status === 0 && ended === 0 ? 0 : 1;
}

function start(certificate, key) {
  const flags = ['--listen=127.0.0.1:0', '--tls-listen=127.0.0.1:0', '--provider=embedded'];
  const files = [`--tls-certificate=${certificate}`, `--tls-key=${key}`];
  return spawn(BINARY, ['serve', ...flags, ...files, '--log-filter=warn'], {
    env: { ...environment(), VOXLINE_API_KEY: KEY },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
}

async function addressOf(relay) {
  for await (const line of createInterface({ input: relay.stdout })) {
    const found = /https:\/\/[^,]+/.exec(line);
    if (found) return found[0];
  }
  throw new Error('the relay did not start');
}

/** The environment without what would configure the relay or the client. */
function environment() {
  const kept = Object.entries(process.env).filter(([name]) => !/^(VOXLINE|OPENAI)_/.test(name));
  return Object.fromEntries(kept);
}
