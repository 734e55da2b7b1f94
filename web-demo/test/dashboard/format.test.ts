import { describe, expect, it } from 'vitest';
import { brief, count, ms, percent, some, span } from '../../dashboard/format';

/** With spaces that may break. */
const plain = (text: string): string => text.replaceAll('\u00a0', ' ');

describe('figures', () => {
  it('have no more digits than they can mean', () => {
    expect([0, 0.84, 3, 9.94, 9.96, 12.4, 912, 1610.4, 9999, 12_340].map(ms).map(plain)).toEqual([
      '0 ms',
      '0.8 ms',
      '3 ms',
      '9.9 ms',
      '10 ms',
      '12 ms',
      '912 ms',
      '1,610 ms',
      '9,999 ms',
      '12.3 s',
    ]);
    expect(ms(Infinity)).toBe('–');
  });

  it('show only what is whole as whole', () => {
    expect([0, 0.0001, 0.0345, 0.95, 0.9999, 1].map(percent).map(plain)).toEqual([
      '0 %',
      '< 0.1 %',
      '3.5 %',
      '95 %',
      '> 99.9 %',
      '100 %',
    ]);
  });

  it('tell spans of time in their two largest units', () => {
    expect([-1, 59.4, 60, 125, 3600, 3660, 90_000].map(span)).toEqual([
      '0 s',
      '59 s',
      '1 min',
      '2 min 5 s',
      '1 h',
      '1 h 1 min',
      '1 d 1 h',
    ]);
  });

  it('count in the right number', () => {
    expect(some(1, 'turn')).toBe('1 turn');
    expect(some(2140, 'turn')).toBe('2,140 turns');
    expect(count(1e6)).toBe('1,000,000');
  });

  it('keep enough of an id to know it again', () => {
    expect(brief('sess_1')).toBe('sess_1');
    expect(brief('rtc_0123456789abcdef')).toBe('rtc_0…abcdef');
  });
});
