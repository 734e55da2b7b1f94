/**
 * The events of OpenAI's Realtime API and of `voxline.v1`, as JSON objects with a `type`.
 *
 * Only what this library acts on is read, with a default for what is absent or of another type:
 * a relay newer than the page must not break it.
 */

export interface ServerEvent {
  readonly type: string;
  readonly [field: string]: unknown;
}

export interface ClientEvent {
  readonly type: string;
  readonly [field: string]: unknown;
}

export type State = 'idle' | 'listening' | 'thinking' | 'speaking' | 'cancelling' | 'recovering';

const STATES: ReadonlySet<string> = new Set<State>([
  'idle',
  'listening',
  'thinking',
  'speaking',
  'cancelling',
  'recovering',
]);

/** Parses a message; `null` if it is not an event. */
export function parseEvent(data: unknown): ServerEvent | null {
  if (typeof data !== 'string') return null;
  try {
    const value: unknown = JSON.parse(data);
    return isRecord(value) && typeof value['type'] === 'string' ? (value as ServerEvent) : null;
  } catch {
    return null;
  }
}

type Fields = Readonly<Record<string, unknown>>;

export function isRecord(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function text(from: Fields, field: string): string {
  const value = from[field];
  return typeof value === 'string' ? value : '';
}

export function number(from: Fields, field: string): number {
  const value = from[field];
  return typeof value === 'number' && Number.isFinite(value) ? value : 0;
}

export function record(from: Fields, field: string): Fields {
  const value = from[field];
  return isRecord(value) ? value : {};
}

export function list(from: Fields, field: string): readonly unknown[] {
  const value = from[field];
  return Array.isArray(value) ? value : [];
}

/** The `state` of a `voxline.state` event; `null` if it is one that this library does not know. */
export function stateOf(event: ServerEvent): State | null {
  const state = text(event, 'state');
  return STATES.has(state) ? (state as State) : null;
}
