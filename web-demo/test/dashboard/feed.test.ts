import { beforeEach, describe, expect, it } from 'vitest';
import { Feed, pauseMs, SILENCE_MS, type Standing, type World } from '../../dashboard/feed';
import type { Snapshot } from '../../dashboard/snapshot';
import { AT, written } from './fixture';

/** A relay and a clock in the test's hands. */
class Stage implements World {
  readonly asked: { readonly url: string; readonly headers: Record<string, string> }[] = [];
  answer: () => Response | Promise<Response> = () => Promise.reject(new TypeError('refused'));
  #now = 0;
  #timers: { readonly at: number; readonly then: () => void }[] = [];

  readonly now = (): number => this.#now;
  readonly random = (): number => 1;
  readonly fetch = async (url: string, init: RequestInit): Promise<Response> => {
    this.asked.push({ url, headers: init.headers as Record<string, string> });
    const aborted = new Promise<never>((_, reject) => {
      init.signal?.addEventListener('abort', () => reject(new DOMException('', 'AbortError')));
    });
    const answer = await Promise.race([this.answer(), aborted]);
    const body = answer.body;
    if (!answer.ok || !body) return answer;
    // As in a browser, an abort breaks the body, too.
    const reader = body.getReader();
    const broken = new ReadableStream<Uint8Array>({
      pull: async (controller) => {
        try {
          const { done, value } = await Promise.race([reader.read(), aborted]);
          if (done) controller.close();
          else controller.enqueue(value);
        } catch (error) {
          controller.error(error);
        }
      },
    });
    return new Response(broken);
  };
  readonly after = (ms: number, then: () => void): (() => void) => {
    const timer = { at: this.#now + ms, then };
    this.#timers.push(timer);
    return () => (this.#timers = this.#timers.filter((one) => one !== timer));
  };

  /** Lets time pass, and what follows from it happen. */
  async pass(ms: number): Promise<void> {
    this.#now += ms;
    const due = this.#timers.filter(({ at }) => at <= this.#now);
    this.#timers = this.#timers.filter(({ at }) => at > this.#now);
    for (const { then } of due) then();
    await settled();
  }
}

const settled = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0));

class Stream {
  #controller!: ReadableStreamDefaultController<Uint8Array>;
  readonly response = new Response(
    new ReadableStream<Uint8Array>({ start: (controller) => void (this.#controller = controller) }),
  );

  async say(text: string): Promise<void> {
    this.#controller.enqueue(new TextEncoder().encode(text));
    await settled();
  }

  async end(): Promise<void> {
    this.#controller.close();
    await settled();
  }
}

const event = (more: object = {}): string => `event: snapshot\ndata: ${written({}, more)}\n\n`;

const refusal = (status: number, code: string, headers: Record<string, string> = {}): Response =>
  new Response(JSON.stringify({ error: { code, message: `It is ${code}.` } }), { status, headers });

describe('Feed', () => {
  let stage: Stage;
  let feed: Feed;
  let standings: Standing[];
  let snapshots: Snapshot[];

  beforeEach(() => {
    stage = new Stage();
    standings = [];
    snapshots = [];
    const listener = {
      standing: (standing: Standing) => void standings.push(standing),
      snapshot: (snapshot: Snapshot) => void snapshots.push(snapshot),
    };
    feed = new Feed(listener, stage);
  });

  async function live(): Promise<Stream> {
    const stream = new Stream();
    stage.answer = () => stream.response;
    feed.open('/events', null);
    await settled();
    await stream.say(event());
    return stream;
  }

  it('tells each snapshot, and the points of all', async () => {
    const stream = await live();
    await stream.say(event({ at: AT + 1000, series: [[AT + 1000, 1, 1, 1]] }));
    expect(standings.at(-1)).toEqual({ is: 'live' });
    expect(snapshots.map(({ series }) => series.length)).toEqual([1, 2]);
  });

  it('shows the key as a bearer, and none if there is none', async () => {
    feed.open('/events', null);
    await settled();
    feed.open('/events', 'k');
    await settled();
    expect(stage.asked.map(({ headers }) => headers['Authorization'])).toEqual([
      undefined,
      'Bearer k',
    ]);
  });

  it('tries again after an end, later each time, and from the beginning once it was live', async () => {
    const stream = await live();
    stage.answer = () => Promise.reject(new TypeError('refused'));
    await stream.end();
    for (const pause of [1000, 2000, 4000, 8000, 15_000, 15_000]) {
      const last = standings.at(-1);
      expect(last).toMatchObject({ is: 'lost', retryAt: stage.now() + pause });
      await stage.pass(pause - 1);
      const before = stage.asked.length;
      await stage.pass(1);
      expect(stage.asked.length).toBe(before + 1);
    }
    const again = new Stream();
    stage.answer = () => again.response;
    await stage.pass(15_000);
    await again.say(event());
    expect(standings.at(-1)).toEqual({ is: 'live' });
    await again.end();
    expect(standings.at(-1)).toMatchObject({ is: 'lost', retryAt: stage.now() + 1000 });
  });

  it('takes a relay that falls silent for one that is gone', async () => {
    const stream = await live();
    await stage.pass(SILENCE_MS - 1);
    await stream.say(event());
    await stage.pass(SILENCE_MS - 1);
    expect(standings.at(-1)).toEqual({ is: 'live' });
    await stage.pass(1);
    expect(standings.at(-1)).toMatchObject({ is: 'lost', why: 'The relay has fallen silent.' });
  });

  it('does not try again before it has another key', async () => {
    stage.answer = () => refusal(401, 'invalid_api_key');
    feed.open('/events', null);
    await settled();
    expect(standings.at(-1)).toEqual({ is: 'locked', refused: false });
    feed.open('/events', 'wrong');
    await settled();
    expect(standings.at(-1)).toEqual({ is: 'locked', refused: true });
    await stage.pass(60_000);
    expect(stage.asked).toHaveLength(2);
  });

  it('says why the relay shows nothing', async () => {
    stage.answer = () => refusal(404, 'admin_disabled');
    feed.open('/events', null);
    await settled();
    expect(standings.at(-1)).toEqual({ is: 'barred', why: 'It is admin_disabled.' });
  });

  it('comes back when it is told to', async () => {
    stage.answer = () => refusal(429, 'too_many_viewers', { 'Retry-After': '5' });
    feed.open('/events', null);
    await settled();
    expect(standings.at(-1)).toMatchObject({ is: 'lost', retryAt: 5000 });
  });

  it('leaves a stream behind for the next, without a word about it', async () => {
    const first = await live();
    const second = new Stream();
    stage.answer = () => second.response;
    feed.open('/others', null);
    await settled();
    await first.say(event()).catch(() => {});
    expect(standings.at(-1)).toEqual({ is: 'connecting' });
    await second.say(event());
    expect(snapshots).toHaveLength(2);
    expect(stage.asked.at(-1)?.url).toBe('/others');
  });
});

describe('a pause', () => {
  it('is at least half of the longest, so that all do not come back at once', () => {
    expect(pauseMs(0, 0)).toBe(500);
    expect(pauseMs(2, 1)).toBe(4000);
    expect(pauseMs(50, 0)).toBe(7500);
  });
});
