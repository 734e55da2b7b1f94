import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Pings, type Ping } from '../client/pings';

let sent: Ping[];
let pings: Pings;

beforeEach(() => {
  vi.useFakeTimers();
  sent = [];
  pings = new Pings(
    (ping) => sent.push(ping),
    () => {},
  );
});

afterEach(() => {
  pings.stop();
  vi.useRealTimers();
});

/** Waits for the next ping. */
function next(): Ping {
  vi.advanceTimersByTime(500);
  return sent.at(-1)!;
}

describe('Pings', () => {
  it('say when they were sent', () => {
    const started = performance.now();
    expect(next().sent_ms - started).toBe(500);
    expect(next().sent_ms - started).toBe(1000);
  });

  it('carry the newest exchange that is complete', () => {
    const first = next();
    expect(first.last).toBeUndefined();
    const at = performance.now() + 27;
    expect(pings.pong(first.id, at)).toBe(27);
    const exchange = { id: first.id, sent_ms: first.sent_ms, received_ms: at };
    expect(next().last).toEqual(exchange);
    // That one was not answered.
    expect(next().last).toEqual(exchange);
  });

  it('are answered after the next was sent, and in any order', () => {
    const [first, second] = [next(), next()];
    expect(pings.pong(second.id, second.sent_ms + 620)).toBe(620);
    expect(pings.pong(first.id, first.sent_ms + 1130)).toBe(1130);
    expect(next().last?.id).toBe(second.id);
  });

  it('are answered once, and not at any time', () => {
    const first = next();
    expect(pings.pong(99, 0)).toBeNull();
    for (let i = 0; i < 7; i++) next();
    expect(pings.pong(first.id, performance.now())).toBe(3500);
    expect(pings.pong(first.id, performance.now())).toBeNull();
    const late = sent[1]!;
    for (let i = 0; i < 2; i++) next();
    expect(pings.pong(late.id, performance.now())).toBeNull();
  });
});
