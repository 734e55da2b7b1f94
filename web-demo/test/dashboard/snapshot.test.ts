import { describe, expect, it } from 'vitest';
import { follow, limitOf, parseSnapshot, timeline } from '../../dashboard/snapshot';
import { AT, snapshot, written } from './fixture';

describe('a snapshot', () => {
  it('is read as the relay writes it', () => {
    const read = snapshot(
      {},
      {
        turns: [{ session: 's', turn: 3, total_ms: 812, hops_ms: { capture: 12 }, culprit: null }],
        sessions: [{ id: 's', state: 'speaking', last_turns_ms: [812, null] }],
        sessions_more: 4,
      },
    );
    expect(read.measures.find(({ name }) => name === 'inference')?.p95).toBe(300);
    expect(read.turns[0]).toMatchObject({ turn: 3, total: 812, hops: { capture: 12 } });
    expect(read.sessions[0]).toMatchObject({ state: 'speaking', lastTurns: [812] });
    expect(read.moreSessions).toBe(4);
    expect(read.counters['rotations']).toBe(1);
    expect(limitOf(read.budget, 'inference')).toBe(700);
    expect(limitOf(read.budget, 'teleport')).toBe(Infinity);
  });

  it('is none, if it is something else', () => {
    for (const text of ['', 'x', 'null', '[]', '{}', '{"at":"now"}', written().slice(0, -1)]) {
      expect(parseSnapshot(text), text).toBeNull();
    }
  });

  it('does without what is absent or of another type', () => {
    const bare = parseSnapshot(`{"at":${AT},"measures":[1,null,{}],"turns":{},"culprit":{}}`);
    expect(bare?.measures).toHaveLength(1);
    expect(bare?.turns).toEqual([]);
    expect(bare?.culprit).toBeNull();
    expect(bare?.budget.percentile).toBe(95);
  });

  it('brings only new points after the first, and old ones are let go', () => {
    const point = (at: number): number[] => [at, 1, 1, 1];
    const hour = 3_600_000;
    const first = snapshot({}, { series: [point(AT - hour), point(AT)] });
    const next = snapshot({}, { at: AT + 5000, series: [point(AT), point(AT + 5000)] });
    const times = follow(first, next).series.map(({ at }) => at);
    expect(times).toEqual([AT, AT + 5000]);
    expect(follow(null, first)).toBe(first);
  });
});

describe('the line over time', () => {
  it('is broken where there is no point', () => {
    const at = (second: number, turns = 1): object =>
      ({ at: AT + second * 1000, p50: 1, p95: 2, turns }) as const;
    const moments = [at(0), at(5), at(60), at(65, 0)] as never;
    expect(timeline(moments).map((moment) => [(moment.at - AT) / 1000, moment.turns])).toEqual([
      [0, 1],
      [5, 1],
      [10, 0],
      [60, 1],
      [65, 0],
    ]);
  });
});
