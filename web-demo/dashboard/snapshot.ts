/**
 * What `/admin/latency` says, with a default for what is absent or of another type: a relay newer
 * or older than the page must not break it.
 */

import { isRecord, list, number, record, text } from '../client/protocol';

type Fields = Readonly<Record<string, unknown>>;

export interface Measure {
  readonly name: string;
  readonly isHop: boolean;
  readonly count: number;
  readonly estimated: number;
  readonly p50: number;
  readonly p90: number;
  readonly p95: number;
  readonly p99: number;
  readonly max: number;
  readonly over: number;
  /** Percentile and milliseconds, the lowest first. */
  readonly curve: readonly Point[];
}

export type Point = readonly [number, number];

export interface Budget {
  readonly percentile: number;
  readonly objective: number;
  readonly limits: Readonly<Record<string, number>>;
}

export interface Culprit {
  readonly hop: string;
  readonly percentileMs: number;
  readonly limitMs: number;
  readonly overMs: number;
  readonly says: string;
}

export interface Burn {
  readonly window: string;
  readonly turns: number;
  readonly over: number;
  readonly rate: number;
}

/** End to end over the minute before `at`. */
export interface Moment {
  readonly at: number;
  readonly p50: number;
  readonly p95: number;
  readonly turns: number;
}

export interface Session {
  readonly id: string;
  readonly state: string;
  readonly transport: string;
  readonly link: string;
  readonly rung: string;
  readonly beganAt: number;
  readonly turns: number;
  readonly lastTurns: readonly number[];
}

export interface Turn {
  readonly session: string;
  readonly turn: number;
  readonly at: number;
  readonly transport: string;
  readonly total: number;
  readonly hops: Readonly<Record<string, number>>;
  readonly estimated: readonly string[];
  readonly uncertainty: number;
  readonly culprit: string | null;
}

export interface Breaker {
  readonly name: string;
  readonly provider: string;
  readonly state: string;
  readonly slow: number;
}

export interface Alert {
  readonly name: string;
  readonly since: number;
  readonly says: string;
}

export interface Snapshot {
  readonly at: number;
  readonly uptimeS: number;
  readonly window: string;
  readonly providers: readonly string[];
  readonly transports: readonly string[];
  readonly budget: Budget;
  readonly measures: readonly Measure[];
  readonly culprit: Culprit | null;
  readonly burn: readonly Burn[];
  readonly series: readonly Moment[];
  readonly sessions: readonly Session[];
  readonly moreSessions: number;
  readonly turns: readonly Turn[];
  readonly counters: Readonly<Record<string, number>>;
  readonly breakers: readonly Breaker[];
  readonly alerts: readonly Alert[];
}

/** How long points are kept: what the relay keeps, too. */
const SERIES_MS = 3_600_000;

/** Parses a snapshot; `null` if it is none. */
export function parseSnapshot(data: string): Snapshot | null {
  let value: unknown;
  try {
    value = JSON.parse(data);
  } catch {
    return null;
  }
  if (!isRecord(value) || number(value, 'at') === 0) return null;
  return {
    at: number(value, 'at'),
    uptimeS: number(value, 'uptime_s'),
    window: text(value, 'window'),
    providers: texts(value, 'providers'),
    transports: texts(value, 'transports'),
    budget: budget(record(value, 'budget')),
    measures: records(value, 'measures').map(measure),
    culprit: culprit(value['culprit']),
    burn: records(value, 'burn').map(burn),
    series: moments(value),
    sessions: records(value, 'sessions').map(session),
    moreSessions: number(value, 'sessions_more'),
    turns: records(value, 'turns').map(turn),
    counters: numbers(record(value, 'counters')),
    breakers: records(value, 'breakers').map(breaker),
    alerts: records(value, 'alerts').map(alert),
  };
}

/** The next snapshot of a stream, which brings only the points that are new. */
export function follow(before: Snapshot | null, next: Snapshot): Snapshot {
  if (before === null) return next;
  const last = before.series.at(-1)?.at ?? 0;
  const fresh = next.series.filter(({ at }) => at > last);
  const kept = before.series.filter(({ at }) => at > next.at - SERIES_MS);
  return { ...next, series: [...kept, ...fresh] };
}

/** Points are five seconds apart; a longer way between two is a time without turns. */
const STEP_MS = 5_000;

/** The line, with a point that is none where it is to be broken. */
export function timeline(series: readonly Moment[]): Moment[] {
  return series.flatMap((moment, index) => {
    const before = series[index - 1];
    const gap = before !== undefined && moment.at - before.at > 1.5 * STEP_MS;
    const hole = gap ? [{ at: before.at + STEP_MS, p50: 0, p95: 0, turns: 0 }] : [];
    return [...hole, moment];
  });
}

export function measureOf(snapshot: Snapshot, name: string): Measure | null {
  return snapshot.measures.find((one) => one.name === name) ?? null;
}

/** The limit of a hop, or end to end; infinite if it has none. */
export function limitOf(budget: Budget, name: string): number {
  return budget.limits[name] ?? Infinity;
}

/** One of the percentiles that every measure has. */
export type Quantile = 50 | 95 | 99;

export function quantile(measure: Measure, of: Quantile): number {
  switch (of) {
    case 50:
      return measure.p50;
    case 95:
      return measure.p95;
    case 99:
      return measure.p99;
  }
}

function budget(from: Fields): Budget {
  return {
    percentile: number(from, 'percentile') || 95,
    objective: number(from, 'objective') || 0.95,
    limits: numbers(record(from, 'limits_ms')),
  };
}

function measure(from: Fields): Measure {
  return {
    name: text(from, 'name'),
    isHop: from['hop'] === true,
    count: number(from, 'count'),
    estimated: number(from, 'estimated'),
    p50: number(from, 'p50_ms'),
    p90: number(from, 'p90_ms'),
    p95: number(from, 'p95_ms'),
    p99: number(from, 'p99_ms'),
    max: number(from, 'max_ms'),
    over: number(from, 'over'),
    curve: list(from, 'curve').filter(isPoint),
  };
}

function culprit(from: unknown): Culprit | null {
  if (!isRecord(from) || text(from, 'hop') === '') return null;
  return {
    hop: text(from, 'hop'),
    percentileMs: number(from, 'percentile_ms'),
    limitMs: number(from, 'limit_ms'),
    overMs: number(from, 'over_ms'),
    says: text(from, 'says'),
  };
}

function burn(from: Fields): Burn {
  return {
    window: text(from, 'window'),
    turns: number(from, 'turns'),
    over: number(from, 'over'),
    rate: number(from, 'rate'),
  };
}

function moments(from: Fields): Moment[] {
  const rows = list(from, 'series').filter((row) => Array.isArray(row));
  return rows.flatMap((row) => {
    const [at, p50, p95, turns] = row.map((value: unknown) => Number(value ?? 0));
    return at ? [{ at, p50: p50 ?? 0, p95: p95 ?? 0, turns: turns ?? 0 }] : [];
  });
}

function session(from: Fields): Session {
  return {
    id: text(from, 'id'),
    state: text(from, 'state'),
    transport: text(from, 'transport'),
    link: text(from, 'link'),
    rung: text(from, 'rung'),
    beganAt: number(from, 'began_at'),
    turns: number(from, 'turns'),
    lastTurns: list(from, 'last_turns_ms').filter((value) => typeof value === 'number'),
  };
}

function turn(from: Fields): Turn {
  return {
    session: text(from, 'session'),
    turn: number(from, 'turn'),
    at: number(from, 'at'),
    transport: text(from, 'transport'),
    total: number(from, 'total_ms'),
    hops: numbers(record(from, 'hops_ms')),
    estimated: texts(from, 'estimated'),
    uncertainty: number(from, 'uncertainty_ms'),
    culprit: text(from, 'culprit') || null,
  };
}

function breaker(from: Fields): Breaker {
  return {
    name: text(from, 'name'),
    provider: text(from, 'provider'),
    state: text(from, 'state'),
    slow: number(from, 'slow'),
  };
}

function alert(from: Fields): Alert {
  return { name: text(from, 'name'), since: number(from, 'since'), says: text(from, 'says') };
}

function records(from: Fields, field: string): Fields[] {
  return list(from, field).filter(isRecord);
}

function texts(from: Fields, field: string): string[] {
  return list(from, field).filter((value) => typeof value === 'string');
}

function numbers(from: Fields): Record<string, number> {
  const entries = Object.entries(from).filter(([, value]) => typeof value === 'number');
  return Object.fromEntries(entries) as Record<string, number>;
}

function isPoint(value: unknown): value is Point {
  return Array.isArray(value) && typeof value[0] === 'number' && typeof value[1] === 'number';
}
