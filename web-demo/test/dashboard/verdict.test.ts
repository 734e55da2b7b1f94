import { describe, expect, it } from 'vitest';
import { HOPS, labelOf } from '../../dashboard/hops';
import { verdict } from '../../dashboard/verdict';
import { snapshot } from './fixture';

const plain = (text: string): string => text.replaceAll('\u00a0', ' ');

const blame = (hop: string): object => ({
  culprit: { hop, percentile_ms: 912, limit_ms: 700, over_ms: 212, says: '`relay_in` is slow.' },
});

describe('the verdict', () => {
  it('is that people are answered in time', () => {
    const { mood, title, detail, culprit } = verdict(snapshot());
    expect([mood, culprit]).toEqual(['good', null]);
    expect(title).toBe('People are answered in time.');
    expect(plain(detail)).toBe(
      'The p95 of the first sound is 1,012 ms, the limit 1,500 ms; every hop is within its own, over 12 turns in the last 5 minutes.',
    );
  });

  it('names whichever hop is to blame', () => {
    for (const hop of HOPS) {
      const late = verdict(snapshot({ [hop]: 2000 }, blame(hop)));
      expect([late.mood, late.culprit]).toEqual(['bad', hop]);
      expect(late.title).toBe(`People wait too long. ${labelOf(hop)} is to blame.`);
    }
  });

  it('says when a hop is slow and people do not feel it yet', () => {
    const { mood, title, detail } = verdict(snapshot({ inference: 710 }, blame('inference')));
    expect(mood).toBe('warn');
    expect(title).toBe('People are answered in time, but Inference is over its limit.');
    expect(detail).toBe('Relay in is slow.');
  });

  it('claims nothing of the hops that the figures do not show', () => {
    const { mood, detail } = verdict(snapshot({ relay_in: 61 }));
    expect(mood).toBe('good');
    expect(detail).not.toContain('every hop');
  });

  it('is still one when nobody is blamed', () => {
    const { mood, title, culprit } = verdict(snapshot({ inference: 2000 }));
    expect([mood, culprit]).toEqual(['bad', null]);
    expect(title).toBe('People wait too long.');
  });

  it('passes over a culprit that it does not know', () => {
    const { title, culprit } = verdict(snapshot({ inference: 2000 }, blame('teleport')));
    expect(culprit).toBeNull();
    expect(title).toBe('People wait too long.');
  });

  it('is none without a turn, and says who is there', () => {
    const none = { measures: [], series: [] };
    expect(verdict(snapshot({}, none)).mood).toBe('none');
    expect(verdict(snapshot({}, none)).detail).toContain('No call is on.');
    const calls = { ...none, sessions: [{ id: 's' }], sessions_more: 2 };
    expect(verdict(snapshot({}, calls)).detail).toContain('3 calls are on');
  });
});
