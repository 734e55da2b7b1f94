/** The page's own server as a source of tokens. */

import { CallError } from './failure';

/** A token, or how to get a fresh one. */
export type TokenSource = string | (() => Promise<string>);

/** How long the page's server may take for one token. */
const FETCH_MS = 10_000;
/** The pause before the next try; it doubles, up to the other. */
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 4000;

/** Gets the token for a call's beginning. */
export async function firstToken(source: TokenSource, signal: AbortSignal): Promise<string> {
  return typeof source === 'string' ? source : ask(source, FETCH_MS, signal);
}

/**
 * Gets a token within this time, trying again as often as fits; `null` if it cannot be had, or
 * the signal is aborted.
 */
export async function freshToken(
  source: TokenSource,
  withinMs: number,
  signal: AbortSignal,
): Promise<string | null> {
  if (typeof source === 'string') return null;
  const until = performance.now() + withinMs;
  for (let pause = FIRST_PAUSE_MS; !signal.aborted; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
    const left = until - performance.now();
    if (left <= 0) return null;
    try {
      return await ask(source, Math.min(left, FETCH_MS), signal);
    } catch {
      await rest(Math.min(pause, Math.max(0, until - performance.now())), signal);
    }
  }
  return null;
}

async function ask(
  source: () => Promise<string>,
  withinMs: number,
  signal: AbortSignal,
): Promise<string> {
  signal.throwIfAborted();
  const settled = new AbortController();
  const given = new Promise<never>((_resolve, reject) => {
    const late = () => reject(new Error(`no token within ${Math.round(withinMs / 1000)} s`));
    const timer = setTimeout(late, withinMs);
    settled.signal.addEventListener('abort', () => clearTimeout(timer));
    const given = { signal: settled.signal };
    signal.addEventListener('abort', () => reject(signal.reason), given);
  });
  try {
    const token: unknown = await Promise.race([source(), given]);
    if (typeof token === 'string' && token !== '') return token;
    throw new Error('the page’s token function gave no token');
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof CallError) throw error;
    throw new CallError('no-token', error instanceof Error ? error.message : String(error));
  } finally {
    settled.abort();
  }
}

export function rest(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done);
  });
}
