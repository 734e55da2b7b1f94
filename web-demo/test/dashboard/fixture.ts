/** A snapshot as the relay writes it, with what a test wants otherwise. */

import { parseSnapshot, type Snapshot } from '../../dashboard/snapshot';

const LIMITS = {
  capture: 150,
  uplink: 150,
  relay_in: 60,
  silence_wait: 600,
  inference: 700,
  relay_out: 40,
  downlink: 120,
  playback: 250,
  end_to_end: 1500,
};

const USUAL: Readonly<Record<string, number>> = {
  capture: 40,
  uplink: 30,
  relay_in: 20,
  silence_wait: 500,
  inference: 300,
  relay_out: 2,
  downlink: 30,
  playback: 90,
};

export const AT = 1_764_090_000_000;

/** The hops take these milliseconds in every turn. */
export function written(took: Readonly<Record<string, number>> = {}, more: object = {}): string {
  const hops: Readonly<Record<string, number>> = { ...USUAL, ...took };
  const total = Object.values(hops).reduce((sum, one) => sum + one, 0);
  return JSON.stringify({
    at: AT,
    uptime_s: 60,
    window: '5m',
    providers: ['embedded'],
    transports: ['webrtc'],
    budget: { percentile: 95, objective: 0.95, limits_ms: LIMITS },
    measures: [
      ...Object.entries(hops).map(([name, value]) => measure(name, value, true)),
      measure('end_to_end', total, false),
    ],
    culprit: null,
    burn: [{ window: '5m', turns: 12, over: 0, rate: 0 }],
    series: [[AT - 5000, total, total, 12]],
    sessions: [],
    turns: [],
    counters: { rotations: 1 },
    breakers: [],
    alerts: [],
    ...more,
  });
}

export function snapshot(took: Readonly<Record<string, number>> = {}, more: object = {}): Snapshot {
  const parsed = parseSnapshot(written(took, more));
  if (!parsed) throw new Error('the fixture is no snapshot');
  return parsed;
}

function measure(name: string, value: number, hop: boolean): object {
  return {
    name,
    hop,
    count: 12,
    estimated: name === 'capture' ? 3 : 0,
    p50_ms: value,
    p90_ms: value,
    p95_ms: value,
    p99_ms: value,
    max_ms: value,
    over: value > (LIMITS[name as keyof typeof LIMITS] ?? Infinity) ? 12 : 0,
    curve: [
      [0, value],
      [95, value],
      [100, value],
    ],
  };
}
