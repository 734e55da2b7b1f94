import { describe, expect, it } from 'vitest';
import { fall, ofTurn, ofWindow, share, ticks } from '../../dashboard/geometry';
import { AT, snapshot } from './fixture';

describe('a waterfall', () => {
  it('begins each hop where the one before ends', () => {
    const { bars, sum } = ofWindow(snapshot(), 95);
    let end = 0;
    for (const bar of bars) {
      expect(bar.start, bar.hop).toBeCloseTo(end);
      expect(bar.within + bar.over, bar.hop).toBeCloseTo(bar.took ?? 0);
      end += bar.took ?? 0;
    }
    expect(sum).toBeCloseTo(end);
    expect(sum).toBe(1012);
  });

  it('cuts what is over its limit off from what is within', () => {
    const { bars } = ofWindow(snapshot({ inference: 912 }), 95);
    const over = bars.filter((bar) => bar.over > 0);
    expect(over).toEqual([expect.objectContaining({ hop: 'inference', within: 700, over: 212 })]);
  });

  it('gives what nobody knows no length, and says so', () => {
    const { bars, sum } = fall(
      [
        { hop: 'capture', took: null, limit: 150, estimated: 0 },
        { hop: 'uplink', took: 20, limit: Infinity, estimated: 1 },
      ],
      null,
      1500,
    );
    expect(bars[0]).toMatchObject({ took: null, within: 0, over: 0 });
    expect(bars[1]).toMatchObject({ start: 0, within: 20, over: 0 });
    expect(sum).toBe(20);
  });

  it('has room for its end, its limit and whatever it is compared with', () => {
    const lengths = { sum: 1012, total: 1900, limit: 1500, least: 2600 };
    for (const total of [null, 200, lengths.total]) {
      for (const least of [0, lengths.least]) {
        const { end } = fall(ofWindow(snapshot(), 95).bars, total, lengths.limit, least);
        expect(end).toBeGreaterThanOrEqual(Math.max(1012, total ?? 0, 1500, least));
        expect(end).toBeLessThan(Math.max(1012, total ?? 0, 1500, least) * 1.3);
      }
    }
  });

  it('of a turn marks what is estimated', () => {
    const turn = {
      session: 's',
      turn: 1,
      at: AT,
      transport: 'webrtc',
      total: 300,
      hops: { capture: 100, inference: 200 },
      estimated: ['capture'],
      uncertainty: 1,
      culprit: null,
    };
    const { bars, total } = ofTurn(turn, snapshot().budget);
    const known = bars.filter(({ took }) => took !== null);
    expect(known.map(({ hop, estimated }) => [hop, estimated])).toEqual([
      ['capture', 1],
      ['inference', 0],
    ]);
    expect(total).toBe(300);
  });

  it('tells the share of a window that is estimated', () => {
    expect(ofWindow(snapshot(), 95).bars[0]?.estimated).toBe(0.25);
  });
});

describe('the scale', () => {
  it('has round marks from zero, and not too many', () => {
    expect(ticks(1600)).toEqual([0, 500, 1000, 1500]);
    for (const end of [1, 90, 100, 333, 1600, 2500, 61_000]) {
      const marks = ticks(end, 5);
      expect(marks[0]).toBe(0);
      expect(marks.length, `${end}`).toBeLessThanOrEqual(6);
      expect(marks.length, `${end}`).toBeGreaterThanOrEqual(2);
    }
  });

  it('never leaves the bar', () => {
    expect(share(500, 1000)).toBe('50%');
    expect(share(2000, 1000)).toBe('100%');
    expect(share(-1, 1000)).toBe('0%');
    expect(share(1, 0)).toBe('0%');
  });
});
