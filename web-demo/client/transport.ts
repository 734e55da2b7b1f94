import type { ClientEvent, ServerEvent } from './protocol';

export type TransportKind = 'webrtc' | 'websocket';

/** How loud each side is, from 0 (silence) to 1. */
export interface Levels {
  readonly microphone: number;
  readonly assistant: number;
}

/** What carries a call: one of these for each way to reach the relay. */
export interface Transport {
  readonly kind: TransportKind;
  /** The relay's name for the call (`rtc_...`), where it gives one. */
  readonly callId: string | null;
  send(event: ClientEvent): void;
  /** Silence, now; `active` is the response that runs. */
  interrupt(active: string | null): void;
  mute(muted: boolean): void;
  levels(): Levels;
  /** Releases everything; safe to call again. */
  close(): void;
}

/** What a transport tells the call. */
export interface Listener {
  event(event: ServerEvent): void;
  /** Where the client owns the playback: a response was cut after this much was heard. */
  interrupted(responseId: string, heardMs: number): void;
  /** Where the client owns the playback: whether an answer is sounding. */
  sounding(sounding: boolean): void;
  roundTrip(ms: number): void;
  /** The connection is gone, and is being looked for, or is back. */
  unsteady(unsteady: boolean): void;
  /** The transport has ended, and not because of `close()`. `code` is WebSocket's. */
  ended(end: { readonly code: number | null; readonly reason: string }): void;
}

export interface Target {
  readonly baseUrl: string;
  readonly token: string;
  readonly model: string;
  readonly session: Readonly<Record<string, unknown>> | null;
  /** Aborted when the page no longer wants the call. */
  readonly signal: AbortSignal;
}
