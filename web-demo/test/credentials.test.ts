import { describe, expect, it } from 'vitest';
import { Credentials } from '../client/credentials';

const SESSION = {
  type: 'voxline.session',
  session_id: 'rtc_1',
  resume_token: 'rt_1',
  resume_window_ms: 30_000,
};
const TOKEN = {
  type: 'voxline.token',
  token_id: 't2',
  token: 'ek_2',
  expires_at: 1_900_000_000,
  resume_token: 'rt_2',
};

describe('Credentials', () => {
  it('cannot come back before the relay has said how', () => {
    const credentials = new Credentials('ek_1');
    expect(credentials.resume).toBeNull();
    expect(credentials.resumeWindowMs).toBe(0);
  });

  it('keeps how to come back, and for how long', () => {
    const credentials = new Credentials('ek_1');
    expect(credentials.handle(SESSION)).toEqual([]);
    expect(credentials.resume).toBe('rt_1');
    expect(credentials.resumeWindowMs).toBe(30_000);
    expect(credentials.token).toBe('ek_1');
  });

  it('keeps a renewed token, acknowledges it, and tells of it', () => {
    const credentials = new Credentials('ek_1');
    expect(credentials.handle(TOKEN)).toEqual([
      { do: 'send', event: { type: 'voxline.token_ack', token_id: 't2' } },
      { do: 'tell', renewal: { tokenId: 't2', expiresAt: 1_900_000_000_000 } },
    ]);
    expect(credentials.token).toBe('ek_2');
    expect(credentials.resume).toBe('rt_2');
  });

  it('acknowledges a repeated token again, and tells of it once', () => {
    const credentials = new Credentials('ek_1');
    credentials.handle(TOKEN);
    expect(credentials.handle(TOKEN).map((duty) => duty.do)).toEqual(['send']);
  });

  it('acknowledges nothing that it cannot keep', () => {
    const credentials = new Credentials('ek_1');
    expect(credentials.handle({ ...TOKEN, token: 7 })).toEqual([]);
    expect(credentials.handle({ ...TOKEN, token_id: '' })).toEqual([]);
    expect(credentials.token).toBe('ek_1');
  });

  it('keeps the resume token when the relay sends a token without one', () => {
    const credentials = new Credentials('ek_1');
    credentials.handle(SESSION);
    credentials.handle({ ...TOKEN, resume_token: undefined });
    expect(credentials.resume).toBe('rt_1');
  });

  it('fetches a token when the relay asks for one, and presents it', () => {
    const credentials = new Credentials('ek_1');
    expect(credentials.handle({ type: 'voxline.token_expiring', within_ms: 3000 })).toEqual([
      { do: 'fetch', withinMs: 3000 },
    ]);
    expect(credentials.present('ek_9')).toEqual({ type: 'voxline.token_present', token: 'ek_9' });
    expect(credentials.token).toBe('ek_1');
    credentials.handle({ ...TOKEN, token: 'ek_9' });
    expect(credentials.token).toBe('ek_9');
  });

  it.each(['token_signature', 'token_wrong_device', 'insufficient_permissions'])(
    'fetches another one when the relay answers %s',
    (code) => {
      const credentials = new Credentials('ek_1');
      const error = { type: 'error', error: { code, message: 'No.' } };
      expect(credentials.handle(error)).toEqual([]);
      credentials.present('ek_9');
      expect(credentials.handle({ type: 'error', error: { code: 'invalid_value' } })).toEqual([]);
      expect(credentials.handle(error)).toEqual([{ do: 'fetch-again' }]);
      expect(credentials.handle(error)).toEqual([]);
    },
  );

  it('attaches anew when the relay asks for it, with the token that it gives', () => {
    const credentials = new Credentials('ek_1');
    credentials.handle(SESSION);
    const event = { type: 'voxline.reconnect', resume_token: 'rt_7', within_ms: 20_000 };
    expect(credentials.handle(event)).toEqual([{ do: 'reconnect', withinMs: 20_000 }]);
    expect(credentials.resume).toBe('rt_7');
  });
});
