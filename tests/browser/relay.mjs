// The relay under test, as a process of its own.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout } from 'node:timers/promises';

const ROOT = path.resolve(import.meta.dirname, '../..');
const BINARY = process.env.RELAY_BIN ?? path.join(ROOT, 'target/debug/voxline');
const START_MS = 20_000;

/** Starts the relay with its embedded provider; `variables` are settings from the environment. */
export function startRelay(variables = {}) {
  return start('serve', { VOXLINE_UDP: '127.0.0.1:0', ...variables });
}

/** Starts the embedded provider as a process of its own. */
export function startSim(variables = {}) {
  return start('sim', variables);
}

async function start(command, variables) {
  const relay = spawn(BINARY, [command, '--listen', variables.VOXLINE_LISTEN ?? '127.0.0.1:0'], {
    env: { ...unrelated(process.env), ...variables },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const log = [];
  relay.stderr.on('data', (data) => log.push(data));
  const exited = once(relay, 'exit');
  const urls = await addresses(relay, exited, log);
  return {
    url: urls.find((url) => url.startsWith('http:')),
    /** The same over TLS, with `VOXLINE_TLS_LISTEN` set. */
    secureUrl: urls.find((url) => url.startsWith('https:')),
    log: () => Buffer.concat(log).toString(),
    /** Ends it; resolves once it is gone. */
    stop: async (signal = 'SIGTERM') => {
      relay.kill(signal);
      await exited;
    },
  };
}

/** The environment without what would configure the relay. */
function unrelated(environment) {
  const kept = Object.entries(environment).filter(([name]) => !/^(VOXLINE|OPENAI)_/.test(name));
  return Object.fromEntries(kept);
}

async function addresses(relay, exited, log) {
  const lines = createInterface({ input: relay.stdout });
  const printed = new Promise((resolve) => {
    const urls = [];
    lines.on('line', (line) => {
      urls.push(...(line.match(/https?:\/\/127\.0\.0\.1:\d+/g) ?? []));
      // The last line of the greeting.
      if (/^ *key |for any key$/.test(line)) resolve(urls);
    });
  });
  const ended = exited.then(([code, signal]) =>
    Promise.reject(new Error(`it ended: ${code ?? signal}`)),
  );
  const timer = new AbortController();
  const late = setTimeout(START_MS, null, { signal: timer.signal }).then(() =>
    Promise.reject(new Error('no address')),
  );
  try {
    return await Promise.race([printed, ended, late]);
  } catch (error) {
    relay.kill('SIGKILL');
    throw new Error(`${BINARY} did not start\n${Buffer.concat(log)}`, { cause: error });
  } finally {
    timer.abort();
    ended.catch(() => {});
    late.catch(() => {});
  }
}
