import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { firstToken, freshToken } from '../client/token-source';

const never = new AbortController().signal;

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
});

describe('a source of tokens', () => {
  it('is a token, or gets one', async () => {
    expect(await firstToken('ek_1', never)).toBe('ek_1');
    expect(await firstToken(async () => 'ek_2', never)).toBe('ek_2');
  });

  it.each([
    ['fails', () => Promise.reject(new Error('HTTP 500'))],
    ['gives nothing', () => Promise.resolve('')],
  ])('says so when it %s', async (_what, source) => {
    await expect(firstToken(source, never)).rejects.toMatchObject({ kind: 'no-token' });
  });

  it('says so when it does not answer', async () => {
    const token = firstToken(() => new Promise(() => {}), never);
    const refused = expect(token).rejects.toMatchObject({ kind: 'no-token' });
    await vi.advanceTimersByTimeAsync(10_000);
    await refused;
  });

  it('gives up with the page', async () => {
    const page = new AbortController();
    const token = firstToken(() => new Promise(() => {}), page.signal);
    page.abort(new Error('gone'));
    await expect(token).rejects.toThrow('gone');
  });

  it('tries again within the time that there is', async () => {
    const source = vi.fn().mockRejectedValueOnce(new Error('HTTP 500')).mockResolvedValue('ek_3');
    const token = freshToken(source, 2000, never);
    await vi.advanceTimersByTimeAsync(500);
    expect(await token).toBe('ek_3');
  });

  it('gives none when the time is over', async () => {
    const source = vi.fn().mockRejectedValue(new Error('HTTP 500'));
    const token = freshToken(source, 2000, never);
    await vi.advanceTimersByTimeAsync(2000);
    expect(await token).toBeNull();
    expect(source).toHaveBeenCalledTimes(3);
  });

  it('gives none where it is a token itself', async () => {
    expect(await freshToken('ek_1', 2000, never)).toBeNull();
  });
});
