import { describe, expect, it } from 'vitest';
import {
  CallError,
  fromClose,
  fromHttp,
  fromMedia,
  mayResume,
  type FailureKind,
} from '../client/failure';
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

  it.each<[string, FailureKind]>([
    ['token_expired', 'token-expired'],
    ['token_revoked', 'revoked'],
    ['session_revoked', 'revoked'],
    ['token_wrong_device', 'unauthorized'],
    ['origin_not_allowed', 'origin-refused'],
    ['model_not_allowed', 'refused'],
    ['rate_limit_exceeded', 'busy'],
    ['session_not_found', 'session-gone'],
    ['session_too_long', 'too-long'],
  ])('names the code %s %s', (code, kind) => {
    const body = JSON.stringify({ error: { code, message: 'No.' } });
    expect(fromHttp(418, body, '7')).toMatchObject({ kind, code, retryAfterMs: 7000 });
    expect(fromClose({ error: { code, message: 'No.' }, closing: null }, 4000).kind).toBe(kind);
  });

  it.each<[number | null, string | null, boolean]>([
    [null, null, true],
    [1006, null, true],
    [1012, null, true],
    [1013, null, true],
    [1000, null, false],
    [1008, null, false],
    [3000, null, false],
    [4000, null, false],
    [null, 'shutdown', false],
    [1006, 'revoked', false],
  ])('an end with code %s after the closing %s: may it be resumed? %s', (code, closing, may) => {
    expect(mayResume({ error: null, closing }, code)).toBe(may);
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
    ['revoked', 'revoked'],
    ['shutdown', 'shutdown'],
    ['too_long', 'too-long'],
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
