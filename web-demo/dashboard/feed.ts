/**
 * The stream of snapshots: opens it, notices that it is gone, and opens it again, later and later.
 *
 * The key is sent as a header, so the stream is read by `fetch`.
 */

import { isRecord, record, text } from '../client/protocol';
import { follow, parseSnapshot, type Snapshot } from './snapshot';
import { Parser } from './sse';

/** The relay speaks each second; one that says nothing for so long is gone. */
export const SILENCE_MS = 5_000;

const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 15_000;

/** How it stands with the relay. */
export type Standing =
  | { readonly is: 'connecting' }
  | { readonly is: 'live' }
  /** It is tried again at `retryAt`, by `performance.now()`. */
  | { readonly is: 'lost'; readonly retryAt: number; readonly why: string }
  /** The relay wants a key, or another than the one it was shown. */
  | { readonly is: 'locked'; readonly refused: boolean }
  /** Trying again does not help. */
  | { readonly is: 'barred'; readonly why: string };

export interface Listener {
  standing(standing: Standing): void;
  snapshot(snapshot: Snapshot): void;
}

/** What a feed touches; tests have one of their own. */
export interface World {
  readonly fetch: (url: string, init: RequestInit) => Promise<Response>;
  readonly now: () => number;
  readonly random: () => number;
  /** Calls back once, unless it is cancelled by what this gives back. */
  readonly after: (ms: number, then: () => void) => () => void;
}

export const BROWSER: World = {
  fetch: (url, init) => fetch(url, init),
  now: () => performance.now(),
  random: () => Math.random(),
  after: (ms, then) => {
    const timer = setTimeout(then, ms);
    return () => clearTimeout(timer);
  },
};

/** Why a stream ended. */
type End =
  | { readonly is: 'lost'; readonly why: string; readonly afterMs?: number }
  | { readonly is: 'locked' }
  | { readonly is: 'barred'; readonly why: string };

export class Feed {
  readonly #world: World;
  readonly #listener: Listener;
  #url = '';
  #key: string | null = null;
  #failures = 0;
  #abort = new AbortController();
  #cancelRetry = (): void => {};

  constructor(listener: Listener, world: World = BROWSER) {
    this.#listener = listener;
    this.#world = world;
  }

  /** Follows this URL from now on. */
  open(url: string, key: string | null): void {
    this.#url = url;
    this.#key = key;
    this.#failures = 0;
    this.#listener.standing({ is: 'connecting' });
    this.#connect();
  }

  /** Does not wait for the next attempt; does nothing while the stream flows. */
  retry(): void {
    if (this.#url === '') return;
    this.#listener.standing({ is: 'connecting' });
    this.#connect();
  }

  close(): void {
    this.#cancelRetry();
    this.#abort.abort();
  }

  #connect(): void {
    this.close();
    const abort = new AbortController();
    this.#abort = abort;
    void this.#follow(abort).then((end) => {
      // Whoever has taken its place says what comes next.
      if (this.#abort === abort) this.#ended(end);
    });
  }

  #ended(end: End): void {
    if (end.is === 'locked') {
      this.#listener.standing({ is: 'locked', refused: this.#key !== null });
    } else if (end.is === 'barred') {
      this.#listener.standing(end);
    } else {
      const pause = end.afterMs ?? pauseMs(this.#failures, this.#world.random());
      this.#failures += 1;
      const retryAt = this.#world.now() + pause;
      this.#listener.standing({ is: 'lost', retryAt, why: end.why });
      this.#cancelRetry = this.#world.after(pause, () => this.#connect());
    }
  }

  async #follow(abort: AbortController): Promise<End> {
    let silent = false;
    let cancel = (): void => {};
    const expect = (): void => {
      cancel();
      cancel = this.#world.after(SILENCE_MS, () => {
        silent = true;
        abort.abort();
      });
    };
    try {
      expect();
      const headers: Record<string, string> = { Accept: 'text/event-stream' };
      if (this.#key !== null) headers['Authorization'] = `Bearer ${this.#key}`;
      const signal = abort.signal;
      const answer = await this.#world.fetch(this.#url, { headers, signal, cache: 'no-store' });
      if (!answer.ok || answer.body === null) return await refusal(answer);
      await this.#read(answer.body, expect);
      return { is: 'lost', why: 'The relay has ended the connection.' };
    } catch {
      const why = silent ? 'The relay has fallen silent.' : 'The relay does not answer.';
      return { is: 'lost', why };
    } finally {
      cancel();
    }
  }

  async #read(body: ReadableStream<Uint8Array>, heard: () => void): Promise<void> {
    const parser = new Parser();
    const decoder = new TextDecoder();
    const reader = body.getReader();
    let latest: Snapshot | null = null;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      heard();
      for (const { data } of parser.push(decoder.decode(value, { stream: true }))) {
        const next = parseSnapshot(data);
        if (next === null) continue;
        if (latest === null) {
          this.#failures = 0;
          this.#listener.standing({ is: 'live' });
        }
        latest = follow(latest, next);
        this.#listener.snapshot(latest);
      }
    }
  }
}

/** Twice as long each time, and never at the same time as all others. */
export function pauseMs(failures: number, random: number): number {
  const longest = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failures);
  return longest * (0.5 + random / 2);
}

async function refusal(answer: Response): Promise<End> {
  const body: unknown = await answer.json().catch(() => null);
  const error = isRecord(body) ? record(body, 'error') : {};
  const why = text(error, 'message') || `The relay answers ${answer.status}.`;
  if (answer.status === 401) return { is: 'locked' };
  if (answer.status === 403 || answer.status === 404) return { is: 'barred', why };
  const seconds = Number(answer.headers.get('Retry-After') ?? NaN);
  return seconds > 0
    ? { is: 'lost', why, afterMs: Math.min(seconds * 1000, LONGEST_PAUSE_MS) }
    : { is: 'lost', why };
}
