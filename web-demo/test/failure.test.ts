import { describe, expect, it } from 'vitest';
import { CallError, fromClose, fromHttp, fromMedia, type FailureKind } from '../client/failure';
import { FAILURES } from '../src/messages';

const named = (name: string) => Object.assign(new Error('no'), { name });
const silent = { error: null, closing: null };

describe('failures', () => {
  it.each<[string, FailureKind]>([
    ['NotAllowedError', 'microphone-denied'],
    ['NotFoundError', 'no-microphone'],
    ['OverconstrainedError', 'no-microphone'],
    ['NotReadableError', 'microphone-busy'],
    ['SecurityError', 'insecure-context'],
  ])('names %s of the microphone %s', (name, kind) => {
    expect(fromMedia(named(name)).kind).toBe(kind);
  });

  it.each<[number, FailureKind]>([
    [400, 'refused'],
    [401, 'unauthorized'],
    [403, 'unauthorized'],
    [429, 'busy'],
    [500, 'unreachable'],
    [502, 'provider-gone'],
    [503, 'busy'],
  ])('names HTTP status %i %s', (status, kind) => {
    expect(fromHttp(status, '', null).kind).toBe(kind);
  });

  it('takes the relay’s own word before the status', () => {
    const body = { error: { code: 'shutting_down', message: 'Soon again.', type: 'server_error' } };
    const failure = fromHttp(503, JSON.stringify(body), '2');
    expect(failure).toMatchObject({
      kind: 'shutdown',
      message: 'Soon again.',
      code: 'shutting_down',
      retryAfterMs: 2000,
    });
  });

  it.each(['', 'null', '[]', '{"error":null}', '{"error":{"message":7}}', '<html>'])(
    'reads nothing into the body %j',
    (body) => {
      expect(fromHttp(429, body, 'Wed, 21 Oct 2026 07:28:00 GMT')).toMatchObject({
        kind: 'busy',
        code: null,
        retryAfterMs: null,
      });
    },
  );

  it.each<[number | null, FailureKind]>([
    [null, 'lost'],
    [1006, 'lost'],
    [1001, 'shutdown'],
    [1012, 'shutdown'],
    [1013, 'provider-gone'],
    [1008, 'overrun'],
    [3000, 'unauthorized'],
    [4000, 'refused'],
  ])('names an end with WebSocket code %s %s', (code, kind) => {
    expect(fromClose(silent, code).kind).toBe(kind);
  });

  it.each<[string, FailureKind]>([
    ['idle', 'idle'],
    ['expired', 'expired'],
    ['overrun', 'overrun'],
    ['provider_gone', 'provider-gone'],
    ['shutdown', 'shutdown'],
  ])('takes the reason of voxline.closing, %s, before the code', (closing, kind) => {
    expect(fromClose({ error: null, closing }, 1000).kind).toBe(kind);
  });

  it('explains an end by the error that came before it', () => {
    const error = { code: 'session_expired', message: 'Sixty minutes.' };
    expect(fromClose({ error, closing: null }, 1001)).toMatchObject({
      kind: 'expired',
      message: 'Sixty minutes.',
    });
  });

  it('has something to say about each', () => {
    for (const [kind, { title, advice }] of Object.entries(FAILURES)) {
      expect(title, kind).not.toBe('');
      expect(advice, kind).toMatch(/[.:]$/);
    }
    expect(new CallError('lost', 'x')).toBeInstanceOf(Error);
  });
});
