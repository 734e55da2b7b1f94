/**
 * The axis of a percentile curve: as far from 90 to 99 as from 99 to 99.9, so that the tail, which
 * people feel, has as much room as the rest.
 */

import type { Point } from './snapshot';

const MARKS = [50, 90, 99, 99.9, 99.99, 99.999];

/** How many nines a percentile has; 100 has no end. */
export function nines(percentile: number): number {
  return percentile >= 100 ? Infinity : Math.log10(100 / (100 - Math.max(0, percentile)));
}

export interface Curve {
  readonly x: number[];
  readonly y: number[];
  readonly percentiles: number[];
}

/** The curve on this axis; the greatest value stands half a nine beyond the last one. */
export function curveOf(points: readonly Point[]): Curve {
  const finite = points.filter(([percentile]) => percentile < 100);
  const last = nines(finite.at(-1)?.[0] ?? 0);
  const x = points.map(([percentile]) => (percentile < 100 ? nines(percentile) : last + 0.5));
  return { x, y: points.map(([, value]) => value), percentiles: points.map(([first]) => first) };
}

/** The marks of the axis up to `end`, with what is written at them. */
export function marks(end: number): { readonly at: number; readonly label: string }[] {
  return MARKS.map((mark) => ({ at: nines(mark), label: `p${mark}` })).filter(
    ({ at }) => at <= end + 1e-9,
  );
}
