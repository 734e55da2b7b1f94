import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Call, Hub, type CallEvents } from '../client/call';
import { CallError } from '../client/failure';
import { Line } from '../client/line';
import type { Ways } from '../client/recovery';
import type { TokenSource } from '../client/token-source';
import type { TransportKind } from '../client/transport';
import { setup, Wire } from './wire';

const SESSION = { type: 'voxline.session', resume_token: 'rt_1', resume_window_ms: 30_000 };
const RECONNECT = { type: 'voxline.reconnect', resume_token: 'rt_2', within_ms: 10_000 };
const LISTENING = { type: 'voxline.state', state: 'listening' };
const SPEAKING = { type: 'voxline.state', state: 'speaking' };
const GONE = new CallError('session-gone', 'no such session', 'session_not_found');

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
});

async function begin({
  source = 'ek_1' as TokenSource,
  next = [] as (Wire | CallError)[],
  kind = 'websocket' as TransportKind,
  ways = kind as Ways,
} = {}) {
  const wire = new Wire(kind);
  wire.next = next;
  const hub = new Hub();
  const wish = { model: 'm', session: null };
  const { signal } = new AbortController();
  const line = await Line.open(wire.connect, kind, ways, wish, setup(source), hub, signal);
  hub.emitter.release();
  const call = new Call(line, hub, null);
  const heard: [keyof CallEvents, unknown][] = [];
  const names = ['state', 'error', 'token', 'recovering', 'reconnected', 'closed'] as const;
  for (const name of names) {
    call.on(name, (event) => heard.push([name, event]));
  }
  const transcript: string[] = [];
  call.on('event', (event) => transcript.push(event.type));
  wire.say(SESSION);
  wire.say(LISTENING);
  heard.length = 0;
  return { wire, line, call, heard, transcript };
}

describe('Line', () => {
  it('rejects with what the relay said when no session comes', async () => {
    const wire = new Wire();
    const open: typeof wire.connect = (_kind, _target, listener) => {
      listener.arrived({ type: 'error', error: { code: 'token_expired', message: 'Too late.' } });
      listener.ended({ code: 3000, reason: '' });
      return Promise.resolve(wire);
    };
    const signal = new AbortController().signal;
    const wish = { model: 'm', session: null };
    const opening = Line.open(open, 'websocket', 'auto', wish, setup(), new Hub(), signal);
    await expect(opening).rejects.toMatchObject({ kind: 'token-expired', message: 'Too late.' });
    expect(wire.parted).toBe('closed');
  });

  it('acknowledges a renewed token, and hangs up with it', async () => {
    const { wire, heard } = await begin();
    wire.say({ type: 'voxline.token', token_id: 't2', token: 'ek_2', expires_at: 7 });
    expect(wire.sent).toEqual([{ type: 'voxline.token_ack', token_id: 't2' }]);
    expect(heard).toEqual([['token', { tokenId: 't2', expiresAt: 7000 }]]);
    expect(wire.target?.token()).toBe('ek_2');
  });

  it('presents a token of the page’s own server when the relay asks for one', async () => {
    const source = vi.fn().mockRejectedValueOnce(new Error('down')).mockResolvedValue('ek_9');
    const { wire } = await begin({ source });
    wire.say({ type: 'voxline.token_expiring', within_ms: 3000 });
    await vi.advanceTimersByTimeAsync(1000);
    expect(source).toHaveBeenCalledTimes(2);
    expect(wire.sent).toMatchObject([{ type: 'voxline.token_present', token: 'ek_9' }]);
  });

  it('presents another one when the relay refuses it, three at most', async () => {
    const source = vi.fn().mockResolvedValue('ek_9');
    const { wire } = await begin({ source });
    wire.say({ type: 'voxline.token_expiring', within_ms: 3000 });
    for (let tries = 0; tries < 5; tries++) {
      await vi.advanceTimersByTimeAsync(0);
      wire.say({ type: 'error', error: { code: 'token_signature', message: 'No.' } });
    }
    expect(source).toHaveBeenCalledTimes(3);
  });

  it('asks nobody when it holds a token and no way to get one', async () => {
    const { wire } = await begin();
    wire.say({ type: 'voxline.token_expiring', within_ms: 3000 });
    await vi.advanceTimersByTimeAsync(5000);
    expect(wire.sent).toEqual([]);
  });

  it('moves to a new connection when the relay asks for it, and leaves the old one', async () => {
    const next = new Wire();
    const { wire, call, heard } = await begin({ next: [next] });
    wire.say(RECONNECT);
    await vi.advanceTimersByTimeAsync(0);
    expect(next.target).toMatchObject({ bearer: 'rt_2', wish: null });
    expect(heard).toEqual([['reconnected', { reason: 'token', by: 'websocket', gapMs: 0 }]]);
    call.send({ type: 'response.create' });
    expect(next.sent).toEqual([{ type: 'response.create' }]);
    await vi.advanceTimersByTimeAsync(1000);
    expect(wire.parted).toBe('left');
    expect(next.parted).toBeNull();
    call.close();
    expect(next.parted).toBe('closed');
  });

  it('waits for the end of what is being said before it moves', async () => {
    const next = new Wire();
    const { wire } = await begin({ next: [next] });
    wire.say(SPEAKING);
    wire.say(RECONNECT);
    await vi.advanceTimersByTimeAsync(1000);
    expect(next.target).toBeNull();
    wire.say(LISTENING);
    expect(next.target).not.toBeNull();
  });

  it('moves in the middle of it when it does not end', async () => {
    const next = new Wire();
    const { wire } = await begin({ next: [next] });
    wire.say(SPEAKING);
    wire.say(RECONNECT);
    await vi.advanceTimersByTimeAsync(5100);
    expect(next.target).not.toBeNull();
  });

  it('handles the old connection’s last events before the new one’s first', async () => {
    const next = new Wire();
    next.nextEvent = 3;
    const { wire, transcript } = await begin({ next: [next] });
    wire.say(RECONNECT);
    await vi.advanceTimersByTimeAsync(0);
    transcript.length = 0;
    next.say({ type: 'new' });
    wire.say({ type: 'old' });
    wire.end(1000);
    await vi.advanceTimersByTimeAsync(0);
    next.say({ type: 'newer' });
    expect(transcript).toEqual(['old', 'session.created', 'new', 'newer']);
  });

  it('does not wait for a last event that never comes', async () => {
    const next = new Wire();
    const { wire, transcript } = await begin({ next: [next] });
    wire.say(RECONNECT);
    await vi.advanceTimersByTimeAsync(0);
    next.say({ type: 'new' });
    await vi.advanceTimersByTimeAsync(400);
    expect(transcript.slice(-2)).toEqual(['session.created', 'new']);
  });

  it('stays where it is, and says so, when the relay does not let it move', async () => {
    const { wire, call, heard } = await begin({ next: [GONE] });
    wire.say(RECONNECT);
    await vi.advanceTimersByTimeAsync(0);
    expect(heard).toMatchObject([['error', { code: 'reconnect_failed' }]]);
    call.send({ type: 'response.create' });
    expect(wire.sent).toHaveLength(1);
    expect(wire.parted).toBeNull();
  });

  it('comes back after a broken connection, and sends what was said meanwhile', async () => {
    const next = new Wire();
    const away = new CallError('unreachable', 'no answer');
    const { wire, call, heard } = await begin({ next: [away, next] });
    wire.end(1006);
    expect(call.state).toBe('recovering');
    call.send({ type: 'response.create' });
    await vi.advanceTimersByTimeAsync(1000);
    expect(next.sent).toEqual([{ type: 'response.create' }]);
    expect(call.state).toBe('listening');
    expect(heard.filter(([name]) => name === 'reconnected')).toMatchObject([
      ['reconnected', { reason: 'connection' }],
    ]);
    expect(heard.some(([name]) => name === 'closed')).toBe(false);
  });

  it('keeps a bounded number of events, and says what it does not send', async () => {
    const { wire, call, heard } = await begin();
    wire.end(1006);
    for (let count = 0; count < 65; count++) call.send({ type: 'response.create' });
    expect(heard.filter(([name]) => name === 'error')).toMatchObject([
      ['error', { code: 'not_sent' }],
    ]);
  });

  it('says that the session is gone when it is', async () => {
    const { wire, heard } = await begin({ next: [GONE] });
    wire.end(1006);
    await vi.advanceTimersByTimeAsync(0);
    expect(heard.at(-1)).toEqual(['closed', { failure: GONE }]);
    expect(wire.parted).toBe('closed');
  });

  it('gives up when the relay no longer keeps the session', async () => {
    const { wire, heard } = await begin();
    wire.end(1006);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(heard.at(-1)).toMatchObject(['closed', { failure: { kind: 'lost' } }]);
  });

  it.each([
    ['shutdown', 'shutdown'],
    ['revoked', 'revoked'],
    ['too_long', 'too-long'],
  ])('does not come back to a session that the relay has closed (%s)', async (reason, kind) => {
    const next = new Wire();
    const { wire, heard } = await begin({ next: [next] });
    wire.say({ type: 'voxline.closing', reason, within_ms: 100 });
    wire.end(null);
    await vi.advanceTimersByTimeAsync(1000);
    expect(next.target).toBeNull();
    expect(heard.at(-1)).toMatchObject(['closed', { failure: { kind } }]);
  });

  it('takes hanging up elsewhere for no failure', async () => {
    const { wire, heard } = await begin();
    wire.say({ type: 'voxline.closing', reason: 'hangup', within_ms: 100 });
    wire.end(1000);
    expect(heard.at(-1)).toEqual(['closed', { failure: null }]);
  });

  it('comes back again when the new connection breaks as well', async () => {
    const [second, third] = [new Wire(), new Wire()];
    const { wire, call, heard } = await begin({ next: [second, third] });
    wire.end(1006);
    await vi.advanceTimersByTimeAsync(0);
    second.end(1006);
    await vi.advanceTimersByTimeAsync(2000);
    expect(heard.filter(([name]) => name === 'reconnected')).toHaveLength(2);
    call.send({ type: 'response.create' });
    expect(third.sent).toEqual([{ type: 'response.create' }]);
    expect([wire.parted, second.parted, third.parted]).toEqual(['left', 'left', null]);
  });

  it('lets go of everything when it is closed while it comes back', async () => {
    const { wire, call, heard } = await begin();
    wire.end(1006);
    call.close();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(heard.at(-1)).toEqual(['closed', { failure: null }]);
    expect(wire.parted).toBe('closed');
    expect(vi.getTimerCount()).toBe(0);
  });

  it('acknowledges events soon, and many at once', async () => {
    const { wire } = await begin();
    expect(wire.acknowledged).toEqual([]);
    await vi.advanceTimersByTimeAsync(250);
    expect(wire.acknowledged).toEqual([1]);
    for (let count = 0; count < 70; count++) wire.say({ type: 'x' });
    expect(wire.acknowledged).toEqual([1, 65]);
    await vi.advanceTimersByTimeAsync(250);
    expect(wire.acknowledged).toEqual([1, 65, 71]);
    await vi.advanceTimersByTimeAsync(5000);
    expect(wire.acknowledged).toHaveLength(3);
  });

  it('tells the page of no event twice, and acknowledges it on the new connection', async () => {
    const next = new Wire();
    next.nextEvent = 2;
    const { wire, transcript } = await begin({ next: [next] });
    wire.say({ type: 'one' });
    wire.say({ type: 'two' });
    wire.end(1006);
    await vi.advanceTimersByTimeAsync(400);
    for (const type of ['one', 'two', 'three']) next.say({ type });
    await vi.advanceTimersByTimeAsync(250);
    const told = transcript.filter((type) => !type.includes('.'));
    expect(told).toEqual(['one', 'two', 'three']);
    expect(next.acknowledged.at(-1)).toBe(4);
  });

  it('falls silent where its connection broke, and says up to where it was heard', async () => {
    const next = new Wire();
    const { wire } = await begin({ next: [next] });
    wire.heardMs = 1234;
    wire.end(1006);
    await vi.advanceTimersByTimeAsync(0);
    expect(next.target?.heardMs).toBe(1234);
    expect(wire.hushed).toBe(true);
  });

  it('restarts ICE on a connection in doubt, and goes on with it', async () => {
    const { wire, heard, call } = await begin({ kind: 'webrtc', ways: 'auto' });
    wire.doubt(true);
    expect(call.state).toBe('recovering');
    await vi.advanceTimersByTimeAsync(701);
    expect(wire.restarts).toBe(1);
    wire.doubt(false);
    expect(heard.filter(([name]) => name !== 'state')).toMatchObject([
      ['recovering', { step: 'ice-restart' }],
      ['reconnected', { reason: 'connection', by: 'ice-restart' }],
    ]);
    expect(call.state).toBe('listening');
    expect(wire.hushed).toBe(false);
  });

  it('rebuilds the connection, and then goes over WebSocket, where that does not help', async () => {
    const blocked = new CallError('udp-blocked', 'no media path');
    const next = new Wire('websocket');
    const { wire, heard } = await begin({ kind: 'webrtc', ways: 'auto', next: [blocked, next] });
    wire.heardMs = 500;
    wire.doubt(true);
    await vi.advanceTimersByTimeAsync(4000);
    expect(wire.asked).toEqual(['webrtc', 'webrtc', 'websocket']);
    expect(next.target?.heardMs).toBe(500);
    expect(heard.filter(([name]) => name !== 'state')).toMatchObject([
      ['recovering', { step: 'ice-restart' }],
      ['recovering', { step: 'webrtc' }],
      ['recovering', { step: 'websocket' }],
      ['reconnected', { reason: 'connection', by: 'websocket' }],
    ]);
  });

  it('goes back to WebRTC when it can, without a gap', async () => {
    const blocked = new CallError('udp-blocked', 'no media path');
    const next = new Wire('webrtc');
    const ways = 'auto' as const;
    const { wire, line, heard } = await begin({ ways, next: [blocked, next] });
    await vi.advanceTimersByTimeAsync(15_100);
    expect(heard).toEqual([]);
    await vi.advanceTimersByTimeAsync(30_100);
    expect(heard).toEqual([['reconnected', { reason: 'upgrade', by: 'webrtc', gapMs: 0 }]]);
    expect(line.kind).toBe('webrtc');
    await vi.advanceTimersByTimeAsync(1000);
    expect(wire.parted).toBe('left');
  });
});
