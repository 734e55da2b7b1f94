/** Where the bars of a waterfall lie, in milliseconds from its beginning. */

import { HOPS, type Hop } from './hops';
import {
  limitOf,
  quantile,
  type Budget,
  type Quantile,
  type Snapshot,
  type Turn,
} from './snapshot';

export interface Stretch {
  readonly hop: Hop;
  /** `null`: nobody can know. */
  readonly took: number | null;
  readonly limit: number;
  /** The share of it that is estimated, 0 to 1. */
  readonly estimated: number;
}

export interface Bar extends Stretch {
  readonly start: number;
  /** What of it is within its limit, and what is beyond. */
  readonly within: number;
  readonly over: number;
}

export interface Fall {
  readonly bars: readonly Bar[];
  /** Where the last bar ends. */
  readonly sum: number;
  /** The whole as it was measured; `null` if it was not. */
  readonly total: number | null;
  readonly limit: number;
  /** Where the scale ends. */
  readonly end: number;
}

/** Lays the hops one after the other, each begins where the one before ends. */
export function fall(
  stretches: readonly Stretch[],
  total: number | null,
  limit: number,
  least = 0,
): Fall {
  let start = 0;
  const bars = stretches.map((stretch) => {
    const took = Math.max(0, stretch.took ?? 0);
    const over = Math.max(0, took - stretch.limit);
    const bar = { ...stretch, start, within: took - over, over };
    start += took;
    return bar;
  });
  const shown = [start, total ?? 0, Number.isFinite(limit) ? limit : 0, least];
  return { bars, sum: start, total, limit, end: nice(Math.max(...shown) * 1.04) };
}

/** The hops of a window, at one percentile each. */
export function ofWindow(snapshot: Snapshot, at: Quantile): Fall {
  const stretches = HOPS.map((hop): Stretch => {
    const measure = snapshot.measures.find(({ name }) => name === hop);
    const known = measure !== undefined && measure.count > 0;
    return {
      hop,
      took: known ? quantile(measure, at) : null,
      limit: limitOf(snapshot.budget, hop),
      estimated: known ? measure.estimated / measure.count : 0,
    };
  });
  const whole = snapshot.measures.find(({ name }) => name === 'end_to_end');
  const total = whole && whole.count > 0 ? quantile(whole, at) : null;
  return fall(stretches, total, limitOf(snapshot.budget, 'end_to_end'));
}

export function ofTurn(turn: Turn, budget: Budget, least = 0): Fall {
  const stretches = HOPS.map((hop): Stretch => ({
    hop,
    took: turn.hops[hop] ?? null,
    limit: limitOf(budget, hop),
    estimated: turn.estimated.includes(hop) ? 1 : 0,
  }));
  return fall(stretches, turn.total, limitOf(budget, 'end_to_end'), least);
}

/** A length on the scale, as CSS has it. */
export function share(value: number, end: number): string {
  const part = end > 0 ? (Math.max(0, value) / end) * 100 : 0;
  return `${Number(Math.min(100, part).toFixed(3))}%`;
}

/** Marks of the scale: round figures, at most `most` of them beside zero. */
export function ticks(end: number, most = 6): number[] {
  const step = rounded(end / most);
  return Array.from({ length: Math.floor(end / step) + 1 }, (_, index) => index * step);
}

/** A scale that ends a little beyond what it has to show, and does not twitch. */
function nice(value: number): number {
  const step = rounded(Math.max(value, 100) / 20);
  return Math.ceil(value / step) * step || 100;
}

function rounded(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  const digit = [1, 2, 5, 10].find((one) => one * power >= value) ?? 10;
  return digit * power;
}
