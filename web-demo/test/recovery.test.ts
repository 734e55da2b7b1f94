import { describe, expect, it } from 'vitest';
import { CallError } from '../client/failure';
import { Recovery } from '../client/recovery';

const ATTACH = { do: 'attach', by: 'websocket', dead: false };
const REPLACE = { do: 'attach', by: 'websocket', dead: true };
const LOST = new CallError('lost', 'the connection broke');
const AWAY = new CallError('unreachable', 'no answer');
const GONE = new CallError('session-gone', 'no such session', 'session_not_found');
const EXPIRED = new CallError('token-expired', 'too late', 'token_expired');

describe('Recovery, asked by the relay', () => {
  it('attaches at once when nobody speaks', () => {
    expect(new Recovery('websocket', 'websocket').asked(10_000, true, 0)).toEqual([ATTACH]);
  });

  it('waits for a moment of silence', () => {
    const recovery = new Recovery('websocket', 'websocket');
    expect(recovery.asked(10_000, false, 0)).toEqual([]);
    expect(recovery.quiet()).toEqual([ATTACH]);
    expect(recovery.quiet()).toEqual([]);
  });

  it('waits no longer than half of the time that it has', () => {
    const recovery = new Recovery('websocket', 'websocket');
    recovery.asked(10_000, false, 0);
    expect(recovery.due).toBe(5000);
    expect(recovery.tick(4999, true)).toEqual([]);
    expect(recovery.tick(5000, true)).toEqual([ATTACH]);
  });

  it('tells of no gap when the old connection stood until the new one was there', () => {
    const recovery = new Recovery('websocket', 'websocket');
    recovery.asked(10_000, true, 0);
    expect(recovery.attached(200)).toEqual([
      { do: 'tell', reconnection: { reason: 'token', by: 'websocket', gapMs: 0 } },
    ]);
  });

  it('tells of the gap when the old connection went before', () => {
    const recovery = new Recovery('websocket', 'websocket');
    recovery.asked(10_000, true, 0);
    expect(recovery.broken(LOST, 30_000, 150)).toEqual([{ do: 'adrift', adrift: true }]);
    expect(recovery.attached(200)).toEqual([
      { do: 'adrift', adrift: false },
      { do: 'tell', reconnection: { reason: 'token', by: 'websocket', gapMs: 50 } },
    ]);
  });

  it('stays on the connection that stands when the new one is refused', () => {
    const recovery = new Recovery('websocket', 'websocket');
    recovery.asked(10_000, true, 0);
    expect(recovery.failed(EXPIRED, 0, 100)).toEqual([{ do: 'stay', failure: EXPIRED }]);
    expect(recovery.due).toBeNull();
    expect(recovery.asked(10_000, true, 200)).toEqual([ATTACH]);
  });

  it('tries until the time is over, then stays', () => {
    const recovery = new Recovery('websocket', 'websocket');
    recovery.asked(2000, true, 0);
    let now = 0;
    let orders = recovery.failed(AWAY, 1, now);
    while (recovery.due !== null) {
      now = recovery.due;
      expect(recovery.tick(now, true)).toEqual([ATTACH]);
      orders = recovery.failed(AWAY, 1, now);
    }
    expect(now).toBe(250 + 500 + 1000);
    expect(orders).toEqual([{ do: 'stay', failure: AWAY }]);
  });

  it('is not disturbed by being asked twice', () => {
    const recovery = new Recovery('websocket', 'websocket');
    recovery.asked(10_000, true, 0);
    expect(recovery.asked(10_000, true, 1)).toEqual([]);
  });
});

describe('Recovery of a broken connection', () => {
  it('gives up at once where no session is kept', () => {
    expect(new Recovery('websocket', 'websocket').broken(LOST, 0, 0)).toEqual([
      { do: 'give-up', failure: LOST },
    ]);
  });

  it('attaches at once, and tells how long the call had no connection', () => {
    const recovery = new Recovery('websocket', 'websocket');
    expect(recovery.broken(LOST, 30_000, 1000)).toEqual([{ do: 'adrift', adrift: true }, REPLACE]);
    expect(recovery.attached(1800)).toEqual([
      { do: 'adrift', adrift: false },
      { do: 'tell', reconnection: { reason: 'connection', by: 'websocket', gapMs: 800 } },
    ]);
  });

  it('tries again with growing pauses until the relay has forgotten the session', () => {
    const recovery = new Recovery('websocket', 'websocket');
    recovery.broken(LOST, 30_000, 0);
    const pauses: number[] = [];
    let now = 0;
    let orders = recovery.failed(AWAY, 1, now);
    while (recovery.due !== null) {
      pauses.push(recovery.due - now);
      now = recovery.due;
      expect(recovery.tick(now, true)).toEqual([REPLACE]);
      orders = recovery.failed(AWAY, 1, now);
    }
    expect(pauses.slice(0, 6)).toEqual([250, 500, 1000, 2000, 4000, 4000]);
    expect(now).toBeLessThan(30_000);
    expect(orders).toEqual([{ do: 'give-up', failure: LOST }]);
  });

  it('leaves up to half of a pause to chance', () => {
    const recovery = new Recovery('websocket', 'websocket');
    recovery.broken(LOST, 30_000, 0);
    recovery.failed(AWAY, 0, 0);
    expect(recovery.due).toBe(125);
  });

  it('waits as long as the relay asks for', () => {
    const recovery = new Recovery('websocket', 'websocket');
    recovery.broken(LOST, 30_000, 0);
    recovery.failed(new CallError('busy', 'full', 'rate_limit_exceeded', 5000), 0, 0);
    expect(recovery.due).toBe(5000);
  });

  it.each([GONE, EXPIRED])('gives up when the relay refuses for good (%#)', (refusal) => {
    const recovery = new Recovery('websocket', 'websocket');
    recovery.broken(LOST, 30_000, 0);
    expect(recovery.failed(refusal, 0, 50)).toEqual([{ do: 'give-up', failure: refusal }]);
    expect(recovery.broken(LOST, 30_000, 60)).toEqual([]);
  });

  it('attaches at once when the last connection goes while an attempt is waited for', () => {
    const recovery = new Recovery('websocket', 'websocket');
    recovery.asked(10_000, true, 0);
    recovery.failed(AWAY, 1, 0);
    expect(recovery.broken(LOST, 30_000, 100)).toEqual([{ do: 'adrift', adrift: true }, REPLACE]);
  });

  it('no longer waits for silence when the connection is gone', () => {
    const recovery = new Recovery('websocket', 'websocket');
    recovery.asked(10_000, false, 0);
    recovery.broken(LOST, 30_000, 100);
    expect(recovery.attached(300)).toContainEqual({
      do: 'tell',
      reconnection: { reason: 'connection', by: 'websocket', gapMs: 200 },
    });
  });

  it('does nothing more once the call is over', () => {
    const recovery = new Recovery('websocket', 'websocket');
    recovery.broken(LOST, 30_000, 0);
    recovery.end();
    expect(recovery.failed(AWAY, 0, 10)).toEqual([]);
    expect(recovery.attached(10)).toEqual([]);
    expect(recovery.due).toBeNull();
  });
});

describe('Recovery of a connection in doubt', () => {
  const attach = (by: string, dead = true) => ({ do: 'attach', by, dead });
  const ADRIFT = { do: 'adrift', adrift: true };
  const BACK = { do: 'adrift', adrift: false };
  const BLOCKED = new CallError('udp-blocked', 'no media path');

  it('waits briefly: most doubts are over soon', () => {
    const recovery = new Recovery('webrtc', 'auto');
    expect(recovery.unsteady(true, 30_000, 0)).toEqual([]);
    expect(recovery.due).toBe(700);
    expect(recovery.unsteady(false, 30_000, 600)).toEqual([]);
    expect(recovery.due).toBeNull();
  });

  it('restarts ICE, and tells how long that took', () => {
    const recovery = new Recovery('webrtc', 'auto');
    recovery.unsteady(true, 30_000, 0);
    expect(recovery.tick(700, true)).toEqual([ADRIFT, { do: 'restart' }]);
    const reconnection = { reason: 'connection', by: 'ice-restart', gapMs: 900 };
    expect(recovery.unsteady(false, 30_000, 900)).toEqual([BACK, { do: 'tell', reconnection }]);
    expect(recovery.due).toBeNull();
  });

  it('climbs the ladder: restart, rebuild, WebSocket, and then in turns', () => {
    const recovery = new Recovery('webrtc', 'auto');
    recovery.unsteady(true, 30_000, 0);
    recovery.tick(700, true);
    expect(recovery.tick(3200, true)).toEqual([ADRIFT, attach('webrtc')]);
    expect(recovery.failed(BLOCKED, 1, 6200)).toEqual([]);
    expect(recovery.due).toBe(6200);
    expect(recovery.tick(6200, true)).toEqual([attach('websocket')]);
    recovery.failed(AWAY, 1, 6300);
    expect(recovery.due).toBe(6800);
    expect(recovery.tick(6800, true)).toEqual([attach('webrtc')]);
    recovery.failed(BLOCKED, 1, 9800);
    expect(recovery.tick(10_800, true)).toEqual([attach('websocket')]);
    const reconnection = { reason: 'connection', by: 'websocket', gapMs: 11_000 };
    expect(recovery.attached(11_000)).toEqual([BACK, { do: 'tell', reconnection }]);
  });

  it('does not wait for a restart that cannot be', () => {
    const recovery = new Recovery('webrtc', 'auto');
    recovery.unsteady(true, 30_000, 0);
    recovery.tick(700, true);
    expect(recovery.notRestarted(750)).toEqual([ADRIFT, attach('webrtc')]);
    expect(recovery.notRestarted(760)).toEqual([]);
  });

  it('stays within the way that the page has asked for', () => {
    const recovery = new Recovery('webrtc', 'webrtc');
    recovery.broken(LOST, 30_000, 0);
    recovery.failed(BLOCKED, 1, 3000);
    expect(recovery.tick(3250, true)).toEqual([attach('webrtc')]);
    expect(recovery.attached(3300)).toHaveLength(2);
    expect(recovery.due).toBeNull();
  });

  it('restarts nothing on a WebSocket: it opens another one', () => {
    const recovery = new Recovery('websocket', 'websocket');
    recovery.unsteady(true, 30_000, 0);
    expect(recovery.due).toBe(1500);
    expect(recovery.tick(1500, true)).toEqual([ADRIFT, attach('websocket')]);
  });

  it('gives up when the window is over, counted from the first doubt', () => {
    const recovery = new Recovery('webrtc', 'auto');
    recovery.unsteady(true, 10_000, 0);
    let orders = recovery.tick(700, true);
    orders = recovery.tick(3200, true);
    let now = 3200;
    while (orders.every((order) => order.do !== 'give-up')) {
      now += 3000;
      orders = recovery.failed(BLOCKED, 1, now);
      if (recovery.due !== null) orders = recovery.tick((now = recovery.due), true);
    }
    expect(now).toBeLessThanOrEqual(13_000);
    expect(orders).toMatchObject([{ do: 'give-up', failure: { kind: 'lost' } }]);
  });

  it('gives up after the restart where no session is kept', () => {
    const recovery = new Recovery('webrtc', 'auto');
    recovery.unsteady(true, 0, 0);
    recovery.tick(700, true);
    expect(recovery.tick(3200, true)).toMatchObject([{ do: 'give-up' }]);
  });

  it('is hurried by a network that is there again', () => {
    const recovery = new Recovery('webrtc', 'auto');
    recovery.unsteady(true, 30_000, 0);
    expect(recovery.hurry(100)).toEqual([ADRIFT, { do: 'restart' }]);
    expect(recovery.hurry(150)).toEqual([]);
    recovery.notRestarted(200);
    recovery.failed(AWAY, 1, 300);
    expect(recovery.hurry(301)).toEqual([attach('websocket')]);
  });
});

describe('Recovery to a better way', () => {
  const UP = { do: 'attach', by: 'webrtc', dead: false };

  it('tries WebRTC from time to time, less and less often, and ends with it', () => {
    const recovery = new Recovery('websocket', 'auto');
    const tries: number[] = [];
    while (recovery.due !== null) {
      const now = recovery.due;
      tries.push(now);
      expect(recovery.tick(now, true)).toEqual([UP]);
      expect(recovery.failed(AWAY, 1, now)).toEqual([]);
    }
    expect(tries).toEqual([15, 45, 105, 225, 465, 945].map((seconds) => seconds * 1000));
  });

  it('does not do so in the middle of what is being said', () => {
    const recovery = new Recovery('websocket', 'auto');
    expect(recovery.tick(15_000, false)).toEqual([]);
    expect(recovery.tick(16_000, true)).toEqual([UP]);
  });

  it('costs nothing when it fails, and comes back when the old connection goes meanwhile', () => {
    const recovery = new Recovery('websocket', 'auto');
    recovery.tick(15_000, true);
    recovery.broken(LOST, 30_000, 15_100);
    recovery.failed(AWAY, 1, 15_200);
    expect(recovery.due).not.toBeNull();
    expect(recovery.tick(recovery.due!, true)).toMatchObject([{ do: 'attach', dead: true }]);
  });

  it('does not do so where the page wants it otherwise', () => {
    expect(new Recovery('websocket', 'websocket').due).toBeNull();
    expect(new Recovery('webrtc', 'auto').due).toBeNull();
  });
});
