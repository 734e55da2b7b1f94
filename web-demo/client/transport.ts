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
   * Looks for another way through the network for this same connection. Resolves once that is
   * agreed with the relay; rejects where it cannot be.
   */
  restart(): Promise<void>;
  /**
   * Falls silent, and tells up to where on the relay's timeline it was heard, in milliseconds;
   * `null` if that is not known. Should the connection be steady again it sounds as before.
   */
  hush(): Promise<number | null>;
  /** Gives up this connection only: the session is its successor's. Safe to call again. */
  leave(): void;
  /** Hangs up and releases everything; safe to call again. */
  close(): void;
}

/** Opens a connection of this kind. */
export type Connect = (
  kind: TransportKind,
  target: Target,
  listener: Listener,
) => Promise<Transport>;

/** What a transport tells the call. */
export interface Listener {
  /** An event has come; `event` has it once the transport has begun. */
  arrived(event: ServerEvent): void;
  event(event: ServerEvent): void;
  roundTrip(ms: number): void;
  /** The connection is gone, and may come back, or is back. */
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
  /** Where the ear has got to, if nothing more is heard of the connection before. */
  readonly heardMs: number | null;
  /** How long a media path may take to open. */
  readonly pathMs: number;
  /** The newest token, for requests about the call once it runs. */
  readonly token: () => string;
  /** Aborted when the page no longer wants the connection. */
  readonly signal: AbortSignal;
}

export interface Wish {
  readonly model: string;
  readonly session: Readonly<Record<string, unknown>> | null;
}
