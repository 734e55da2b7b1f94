import { describe, expect, it } from 'vitest';
import { curveOf, marks, nines } from '../../dashboard/nines';

describe('the axis of nines', () => {
  it('is as long from 90 to 99 as from 99 to 99.9', () => {
    expect(nines(0)).toBe(0);
    expect(nines(90)).toBeCloseTo(1);
    expect(nines(99)).toBeCloseTo(2);
    expect(nines(99.9)).toBeCloseTo(3);
    expect(nines(100)).toBe(Infinity);
  });

  it('puts the greatest value a little beyond the last percentile', () => {
    const curve = curveOf([
      [0, 5],
      [99, 20],
      [100, 31],
    ]);
    expect(curve.x[2]).toBeCloseTo(2.5);
    expect(curve.y).toEqual([5, 20, 31]);
    expect(curve.x.every(Number.isFinite)).toBe(true);
    expect(curveOf([]).x).toEqual([]);
  });

  it('has marks as far as it goes', () => {
    expect(marks(2).map(({ label }) => label)).toEqual(['p50', 'p90', 'p99']);
  });
});
