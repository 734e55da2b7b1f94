import { describe, expect, it } from 'vitest';
import { CallError } from '../client/failure';
import { Recovery } from '../client/recovery';

const LOST = new CallError('lost', 'the connection broke');
const AWAY = new CallError('unreachable', 'no answer');
const GONE = new CallError('session-gone', 'no such session', 'session_not_found');
const EXPIRED = new CallError('token-expired', 'too late', 'token_expired');

describe('Recovery, asked by the relay', () => {
  it('attaches at once when nobody speaks', () => {
    expect(new Recovery().asked(10_000, true, 0)).toEqual([{ do: 'attach' }]);
  });

  it('waits for a moment of silence', () => {
    const recovery = new Recovery();
    expect(recovery.asked(10_000, false, 0)).toEqual([]);
    expect(recovery.quiet()).toEqual([{ do: 'attach' }]);
    expect(recovery.quiet()).toEqual([]);
  });

  it('waits no longer than half of the time that it has', () => {
    const recovery = new Recovery();
    recovery.asked(10_000, false, 0);
    expect(recovery.due).toBe(5000);
    expect(recovery.tick(4999)).toEqual([]);
    expect(recovery.tick(5000)).toEqual([{ do: 'attach' }]);
  });

  it('tells of no gap when the old connection stood until the new one was there', () => {
    const recovery = new Recovery();
    recovery.asked(10_000, true, 0);
    expect(recovery.attached(200)).toEqual([
      { do: 'tell', reconnection: { reason: 'token', gapMs: 0 } },
    ]);
  });

  it('tells of the gap when the old connection went before', () => {
    const recovery = new Recovery();
    recovery.asked(10_000, true, 0);
    expect(recovery.broken(LOST, 30_000, 150)).toEqual([{ do: 'adrift', adrift: true }]);
    expect(recovery.attached(200)).toEqual([
      { do: 'adrift', adrift: false },
      { do: 'tell', reconnection: { reason: 'token', gapMs: 50 } },
    ]);
  });

  it('stays on the connection that stands when the new one is refused', () => {
    const recovery = new Recovery();
    recovery.asked(10_000, true, 0);
    expect(recovery.failed(EXPIRED, 0, 100)).toEqual([{ do: 'stay', failure: EXPIRED }]);
    expect(recovery.due).toBeNull();
    expect(recovery.asked(10_000, true, 200)).toEqual([{ do: 'attach' }]);
  });

  it('tries until the time is over, then stays', () => {
    const recovery = new Recovery();
    recovery.asked(2000, true, 0);
    let now = 0;
    let orders = recovery.failed(AWAY, 1, now);
    while (recovery.due !== null) {
      now = recovery.due;
      expect(recovery.tick(now)).toEqual([{ do: 'attach' }]);
      orders = recovery.failed(AWAY, 1, now);
    }
    expect(now).toBe(250 + 500 + 1000);
    expect(orders).toEqual([{ do: 'stay', failure: AWAY }]);
  });

  it('is not disturbed by being asked twice', () => {
    const recovery = new Recovery();
    recovery.asked(10_000, true, 0);
    expect(recovery.asked(10_000, true, 1)).toEqual([]);
  });
});

describe('Recovery of a broken connection', () => {
  it('gives up at once where no session is kept', () => {
    expect(new Recovery().broken(LOST, 0, 0)).toEqual([{ do: 'give-up', failure: LOST }]);
  });

  it('attaches at once, and tells how long the call had no connection', () => {
    const recovery = new Recovery();
    expect(recovery.broken(LOST, 30_000, 1000)).toEqual([
      { do: 'adrift', adrift: true },
      { do: 'attach' },
    ]);
    expect(recovery.attached(1800)).toEqual([
      { do: 'adrift', adrift: false },
      { do: 'tell', reconnection: { reason: 'connection', gapMs: 800 } },
    ]);
  });

  it('tries again with growing pauses until the relay has forgotten the session', () => {
    const recovery = new Recovery();
    recovery.broken(LOST, 30_000, 0);
    const pauses: number[] = [];
    let now = 0;
    let orders = recovery.failed(AWAY, 1, now);
    while (recovery.due !== null) {
      pauses.push(recovery.due - now);
      now = recovery.due;
      expect(recovery.tick(now)).toEqual([{ do: 'attach' }]);
      orders = recovery.failed(AWAY, 1, now);
    }
    expect(pauses.slice(0, 6)).toEqual([250, 500, 1000, 2000, 4000, 4000]);
    expect(now).toBeLessThan(30_000);
    expect(orders).toEqual([{ do: 'give-up', failure: LOST }]);
  });

  it('leaves up to half of a pause to chance', () => {
    const recovery = new Recovery();
    recovery.broken(LOST, 30_000, 0);
    recovery.failed(AWAY, 0, 0);
    expect(recovery.due).toBe(125);
  });

  it('waits as long as the relay asks for', () => {
    const recovery = new Recovery();
    recovery.broken(LOST, 30_000, 0);
    recovery.failed(new CallError('busy', 'full', 'rate_limit_exceeded', 5000), 0, 0);
    expect(recovery.due).toBe(5000);
  });

  it.each([GONE, EXPIRED])('gives up when the relay refuses for good (%#)', (refusal) => {
    const recovery = new Recovery();
    recovery.broken(LOST, 30_000, 0);
    expect(recovery.failed(refusal, 0, 50)).toEqual([{ do: 'give-up', failure: refusal }]);
    expect(recovery.broken(LOST, 30_000, 60)).toEqual([]);
  });

  it('attaches at once when the last connection goes while an attempt is waited for', () => {
    const recovery = new Recovery();
    recovery.asked(10_000, true, 0);
    recovery.failed(AWAY, 1, 0);
    expect(recovery.broken(LOST, 30_000, 100)).toEqual([
      { do: 'adrift', adrift: true },
      { do: 'attach' },
    ]);
  });

  it('no longer waits for silence when the connection is gone', () => {
    const recovery = new Recovery();
    recovery.asked(10_000, false, 0);
    recovery.broken(LOST, 30_000, 100);
    expect(recovery.attached(300)).toContainEqual({
      do: 'tell',
      reconnection: { reason: 'connection', gapMs: 200 },
    });
  });

  it('does nothing more once the call is over', () => {
    const recovery = new Recovery();
    recovery.broken(LOST, 30_000, 0);
    recovery.end();
    expect(recovery.failed(AWAY, 0, 10)).toEqual([]);
    expect(recovery.attached(10)).toEqual([]);
    expect(recovery.due).toBeNull();
  });
});
