import type { ClientEvent, ServerEvent } from './protocol';

export type TransportKind = 'webrtc' | 'websocket';

/** How loud each side is, from 0 (silence) to 1. */
export interface Levels {
  readonly microphone: number;
  readonly assistant: number;
}

/** One connection that carries a call: an implementation for each way to reach the relay. */
export interface Transport {
  readonly kind: TransportKind;
  /** The relay's name for the call (`rtc_...`), where it gives one. */
  readonly callId: string | null;
  /** False if nothing can be sent now. */
  send(event: ClientEvent): boolean;
  /** Silence, now; `active` is the response that runs. */
  interrupt(active: string | null): void;
  mute(muted: boolean): void;
  levels(): Levels;
  /** Hands on the events that have come, and from here on each as it comes. */
  begin(): void;
  /**
   * Opens another connection of this kind, to the same session. It takes over the microphone, and
   * the playback where the client owns it, once the session is there.
   */
  successor(target: Target, listener: Listener): Promise<Transport>;
  /** Gives up this connection only: the session is its successor's. Safe to call again. */
  leave(): void;
  /** Hangs up and releases everything; safe to call again. */
  close(): void;
}

/** What a transport tells the call. */
export interface Listener {
  /** An event has come; `event` has it once the transport has begun. */
  arrived(event: ServerEvent): void;
  event(event: ServerEvent): void;
  /** There was no connection for this event of the transport's own. */
  unsent(event: ClientEvent): void;
  /** Where the client owns the playback: a response was cut after this much was heard. */
  interrupted(responseId: string, heardMs: number): void;
  /** Where the client owns the playback: whether an answer is sounding. */
  sounding(sounding: boolean): void;
  roundTrip(ms: number): void;
  /** The connection is gone, and is being looked for, or is back. */
  unsteady(unsteady: boolean): void;
  /** The transport has ended, and not by this side's will. `code` is WebSocket's. */
  ended(end: { readonly code: number | null; readonly reason: string }): void;
}

export interface Target {
  readonly baseUrl: string;
  /** Opens the door: a token or a resume token. */
  readonly bearer: string;
  readonly device: string | null;
  /** What the session is to be; `null` attaches to the one that the resume token names. */
  readonly wish: Wish | null;
  /** The newest token, for requests about the call once it runs. */
  readonly token: () => string;
  /** Aborted when the page no longer wants the connection. */
  readonly signal: AbortSignal;
}

export interface Wish {
  readonly model: string;
  readonly session: Readonly<Record<string, unknown>> | null;
}
