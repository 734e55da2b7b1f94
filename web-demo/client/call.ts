import {
  Conversation,
  type Interruption,
  type RelayError,
  type TranscriptLine,
  type TurnLatency,
  type Update,
} from './conversation';
import { Emitter } from './emitter';
import type { TokenRenewal } from './credentials';
import type { CallError } from './failure';
import type { ClientEvent, ServerEvent, State } from './protocol';
import type { Reconnection, Step } from './recovery';
import type { Levels, TransportKind } from './transport';

export interface CallEvents {
  state: State;
  transcript: TranscriptLine;
  interrupted: Interruption;
  latency: TurnLatency;
  /** Round trip to the relay in milliseconds. */
  roundTrip: number;
  /** An `error` event of the relay or the provider; the call goes on unless `closed` follows. */
  error: RelayError;
  /** The call's token was renewed. */
  token: TokenRenewal;
  /** The connection is gone or in doubt, and this is tried to find the way back. */
  recovering: { readonly step: Step };
  /** The call goes on over another connection, or has found another path for the same one. */
  reconnected: Reconnection;
  /** The relay has lost its provider, and looks for it: `lost`, `expired`, `silent`, ... */
  degraded: { readonly reason: string };
  /** There is a provider again; the conversation goes on. */
  restored: { readonly afterMs: number };
  /** The relay ends the call within this time. */
  closing: { readonly reason: string; readonly withinMs: number };
  /** The call has ended; `failure` is `null` if `close()` ended it. */
  closed: { readonly failure: CallError | null };
  /** Every event, as it came. */
  event: ServerEvent;
}

/** What carries a call, over one connection or several in turn. */
export interface Carrier {
  readonly kind: TransportKind;
  readonly callId: string | null;
  send(event: ClientEvent): void;
  /** Silence, now; `active` is the response that runs. */
  interrupt(active: string | null): void;
  mute(muted: boolean): void;
  levels(): Levels;
}

/** A running call. */
export class Call {
  /** Why `auto` is not using WebRTC. */
  readonly fallback: CallError | null;
  readonly #carrier: Carrier;
  readonly #hub: Hub;

  /** @internal Calls are made by `connect`. */
  constructor(carrier: Carrier, hub: Hub, fallback: CallError | null) {
    this.#carrier = carrier;
    this.#hub = hub;
    this.fallback = fallback;
  }

  get transport(): TransportKind {
    return this.#carrier.kind;
  }

  /** The relay's name for the call (`rtc_...`), where it gives one. */
  get id(): string | null {
    return this.#carrier.callId;
  }

  get state(): State {
    return this.#hub.state;
  }

  /** Calls `listener` for each event of this name until the returned function is called. */
  on<Name extends keyof CallEvents>(
    name: Name,
    listener: (event: CallEvents[Name]) => void,
  ): () => void {
    return this.#hub.emitter.on(name, listener);
  }

  /** Sends any event of OpenAI's Realtime API. */
  send(event: ClientEvent): void {
    this.#carrier.send(event);
  }

  /** Says something in writing, and asks for an answer. An answer that is sounding is cut. */
  say(text: string): void {
    const content = [{ type: 'input_text', text }];
    if (this.#hub.conversation.activeResponse !== null || this.state === 'speaking')
      this.interrupt();
    this.send({
      type: 'conversation.item.create',
      item: { type: 'message', role: 'user', content },
    });
    this.#hub.whenFree(() => this.send({ type: 'response.create' }));
  }

  /** Stops the answer that is sounding. */
  interrupt(): void {
    const active = this.#hub.conversation.activeResponse;
    if (active !== null) this.#hub.conversation.cut(active);
    this.#carrier.interrupt(active);
  }

  /** Muted, the microphone stays open and gives silence. */
  mute(muted: boolean): void {
    this.#carrier.mute(muted);
  }

  levels(): Levels {
    return this.#carrier.levels();
  }

  /** Hangs up and releases everything: microphone, connections, audio. */
  close(): void {
    this.#hub.end(null);
  }
}

/** Where the news of a call's connections become its events. */
export class Hub {
  readonly emitter = new Emitter<CallEvents>();
  readonly conversation = new Conversation();
  #told: State = 'idle';
  #unsteady = false;
  #shown: State = 'idle';
  #waiting: (() => void) | null = null;
  readonly #release: (() => void)[] = [];
  #ended = false;

  get state(): State {
    return this.#shown;
  }

  /** Nobody speaks, and no answer is on its way. */
  get quiet(): boolean {
    const { personSpeaks, activeResponse } = this.conversation;
    const waiting = this.#told === 'listening' || this.#told === 'idle';
    return waiting && !personSpeaks && activeResponse === null;
  }

  /** Has this called when the call ends. */
  releases(release: () => void): void {
    if (this.#ended) release();
    else this.#release.push(release);
  }

  /** Calls `act` once no response runs. */
  whenFree(act: () => void): void {
    if (this.conversation.activeResponse === null) act();
    else this.#waiting = act;
  }

  event(event: ServerEvent): void {
    if (this.#ended) return;
    this.emitter.emit('event', event);
    this.#apply(this.conversation.handle(event));
    if (this.#waiting && this.conversation.activeResponse === null) {
      this.#waiting();
      this.#waiting = null;
    }
  }

  roundTrip(ms: number): void {
    this.emitter.emit('roundTrip', ms);
  }

  unsteady(unsteady: boolean): void {
    this.#unsteady = unsteady;
    this.#show();
  }

  tokenRenewed(renewal: TokenRenewal): void {
    if (!this.#ended) this.emitter.emit('token', renewal);
  }

  recovering(step: Step): void {
    if (!this.#ended) this.emitter.emit('recovering', { step });
  }

  reconnected(reconnection: Reconnection): void {
    if (!this.#ended) this.emitter.emit('reconnected', reconnection);
  }

  /** The microphone was unplugged or taken away; the call goes on without. */
  microphoneLost(): void {
    this.trouble('microphone_lost', 'The microphone was unplugged or taken away.');
  }

  /** Something went wrong on this side; the call goes on. */
  trouble(code: string, message: string): void {
    if (!this.#ended) this.emitter.emit('error', { code, message, param: null, eventId: null });
  }

  end(failure: CallError | null): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const release of this.#release) release();
    this.#shown = 'idle';
    this.emitter.emit('closed', { failure });
  }

  #apply(updates: Update[]): void {
    for (const update of updates) {
      switch (update.kind) {
        case 'state':
          this.#told = update.state;
          this.#show();
          break;
        case 'transcript':
          this.emitter.emit('transcript', update.line);
          break;
        case 'interrupted':
          this.emitter.emit('interrupted', update.interruption);
          break;
        case 'latency':
          this.emitter.emit('latency', update.latency);
          break;
        case 'error':
          this.emitter.emit('error', update.error);
          break;
        case 'degraded':
          this.emitter.emit('degraded', { reason: update.reason });
          break;
        case 'restored':
          this.emitter.emit('restored', { afterMs: update.afterMs });
          break;
        case 'closing':
          this.emitter.emit('closing', { reason: update.reason, withinMs: update.withinMs });
          break;
      }
    }
  }

  /** The relay's state, unless this side knows that it cannot be told. */
  #show(): void {
    const state = this.#unsteady ? 'recovering' : this.#told;
    if (state === this.#shown || this.#ended) return;
    this.#shown = state;
    this.emitter.emit('state', state);
  }
}
