/**
 * A call's line to its session: one connection after another, and the credentials that open them.
 *
 * **Invariants**: a new connection is there before the old one is left, if that still stands;
 * events are handled in the session's order, the old connection's before the new one's.
 */

import type { Carrier, Hub } from './call';
import { Credentials, type Duty } from './credentials';
import { CallError, fromClose, mayResume, type LastWords } from './failure';
import { isRecord, text, type ClientEvent, type ServerEvent } from './protocol';
import { Recovery, type RecoveryOrder } from './recovery';
import { freshToken, rest, type TokenSource } from './token-source';
import type { Levels, Listener, Target, Transport, TransportKind, Wish } from './transport';

/** How long the relay may take from the connection to the provider's `session.created`. */
const SESSION_MS = 15_000;
/** How long one attempt to come back may take. */
const ATTACH_MS = 10_000;
/** How long the new connection's events wait for the old connection's last ones. */
const HOLD_MS = 300;
/** How long the old connection stays for the sound that it has received. */
const LINGER_MS = 500;
/** Events that wait for a connection, at most; what comes on top is not sent. */
const MAX_UNSENT = 64;
/** Tokens of the page's server that are presented for one renewal, at most. */
const MAX_TRIES = 3;

export interface Setup {
  readonly baseUrl: string;
  readonly device: string | null;
  readonly source: TokenSource;
  readonly credentials: Credentials;
}

/** The token is being fetched, or is presented and not judged yet. */
interface Renewal {
  readonly until: number;
  readonly tries: number;
}

export class Line implements Carrier {
  readonly #setup: Setup;
  readonly #hub: Hub;
  readonly #recovery = new Recovery();
  readonly #over = new AbortController();
  /** Left behind, but there may be sound in them. */
  readonly #lingering = new Set<Transport>();
  #transport: Transport;
  #leg: Leg;
  #unsent: ClientEvent[] = [];
  #adrift = false;
  #unsteady = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #renewal: Renewal | null = null;

  /** Opens a session. Rejects with a `CallError`, or with the signal's reason. */
  static async open(
    connect: (target: Target, listener: Listener) => Promise<Transport>,
    wish: Wish,
    setup: Setup,
    hub: Hub,
    signal: AbortSignal,
  ): Promise<Line> {
    const leg = new Leg();
    const transport = await connect(target(setup, setup.credentials.token, wish, signal), leg);
    try {
      const late = new CallError('provider-gone', 'the provider opened no session');
      await within(leg.ready, SESSION_MS, late, signal);
    } catch (error) {
      transport.close();
      throw error;
    }
    return new Line(setup, hub, transport, leg);
  }

  private constructor(setup: Setup, hub: Hub, transport: Transport, leg: Leg) {
    this.#setup = setup;
    this.#hub = hub;
    this.#transport = transport;
    this.#leg = leg;
    hub.releases(() => this.#end());
    leg.serve(this.#owner(leg));
    transport.begin();
  }

  get kind(): TransportKind {
    return this.#transport.kind;
  }

  get callId(): string | null {
    return this.#transport.callId;
  }

  send(event: ClientEvent): void {
    if (!this.#transport.send(event)) this.#keep(event);
  }

  interrupt(active: string | null): void {
    this.#transport.interrupt(active);
  }

  mute(muted: boolean): void {
    this.#transport.mute(muted);
  }

  levels(): Levels {
    return this.#transport.levels();
  }

  #owner(leg: Leg): Owner {
    const current = () => leg === this.#leg;
    return {
      event: (event) => {
        this.#hub.event(event);
        for (const duty of this.#setup.credentials.handle(event)) this.#fulfil(duty);
        this.#noticeQuiet();
      },
      unsent: (event) => this.#keep(event),
      interrupted: (responseId, heardMs) => this.#hub.interrupted(responseId, heardMs),
      sounding: (sounding) => {
        this.#hub.sounding(sounding);
        this.#noticeQuiet();
      },
      roundTrip: (ms) => {
        if (current()) this.#hub.roundTrip(ms);
      },
      unsteady: (unsteady) => {
        if (current()) this.#show({ unsteady });
      },
      ended: (failure, resumable) => {
        if (current()) this.#broken(failure, resumable);
      },
    };
  }

  #broken(failure: CallError | null, resumable: boolean): void {
    if (!failure) return this.#hub.end(null);
    const windowMs = resumable ? this.#setup.credentials.resumeWindowMs : 0;
    this.#carryOut(this.#recovery.broken(failure, windowMs, performance.now()));
  }

  #carryOut(orders: RecoveryOrder[]): void {
    for (const order of orders) {
      switch (order.do) {
        case 'attach':
          void this.#attach();
          break;
        case 'adrift':
          this.#show({ adrift: order.adrift });
          break;
        case 'tell':
          this.#hub.reconnected(order.reconnection);
          break;
        case 'stay':
          this.#hub.trouble('reconnect_failed', order.failure.message);
          break;
        case 'give-up':
          this.#hub.end(order.failure);
          break;
      }
    }
    this.#schedule();
  }

  #schedule(): void {
    clearTimeout(this.#timer);
    const { due } = this.#recovery;
    if (due === null || this.#over.signal.aborted) return;
    const tick = () => this.#carryOut(this.#recovery.tick(performance.now()));
    this.#timer = setTimeout(tick, Math.max(0, due - performance.now()) + 1);
  }

  async #attach(): Promise<void> {
    const { credentials } = this.#setup;
    const attempt = new AbortController();
    const abort = () => attempt.abort(new CallError('lost', 'the call was closed'));
    this.#over.signal.addEventListener('abort', abort);
    const late = new CallError('unreachable', 'the relay did not take the call back in time');
    const timer = setTimeout(() => attempt.abort(late), ATTACH_MS);
    const leg = new Leg();
    let transport: Transport | null = null;
    try {
      const door = target(this.#setup, credentials.resume ?? '', null, attempt.signal);
      transport = await this.#transport.successor(door, leg);
      await within(leg.ready, ATTACH_MS, late, attempt.signal);
    } catch (error) {
      if (this.#over.signal.aborted) return transport?.close();
      transport?.leave();
      const failed = this.#recovery.failed(asCallError(error), Math.random(), performance.now());
      return this.#carryOut(failed);
    } finally {
      clearTimeout(timer);
      this.#over.signal.removeEventListener('abort', abort);
    }
    await this.#switchTo(transport, leg);
  }

  async #switchTo(transport: Transport, leg: Leg): Promise<void> {
    const old = { transport: this.#transport, leg: this.#leg };
    this.#transport = transport;
    this.#leg = leg;
    leg.serve(this.#owner(leg));
    this.#lingering.add(old.transport);
    this.#show({ unsteady: false });
    this.#carryOut(this.#recovery.attached(performance.now()));
    const unsent = this.#unsent;
    this.#unsent = [];
    for (const event of unsent) this.send(event);
    await Promise.race([old.leg.gone, rest(HOLD_MS, this.#over.signal)]);
    transport.begin();
    await rest(LINGER_MS, this.#over.signal);
    this.#lingering.delete(old.transport);
    old.transport.leave();
  }

  #fulfil(duty: Duty): void {
    switch (duty.do) {
      case 'send':
        this.#transport.send(duty.event);
        break;
      case 'tell':
        this.#renewal = null;
        this.#hub.tokenRenewed(duty.renewal);
        break;
      case 'fetch':
        void this.#present({ until: performance.now() + duty.withinMs, tries: 0 });
        break;
      case 'fetch-again':
        if (this.#renewal && this.#renewal.tries < MAX_TRIES) void this.#present(this.#renewal);
        else this.#renewal = null;
        break;
      case 'reconnect': {
        const { quiet } = this.#hub;
        this.#carryOut(this.#recovery.asked(duty.withinMs, quiet, performance.now()));
        break;
      }
    }
  }

  /** Gets a token from the page's own server, and presents it. */
  async #present(renewal: Renewal): Promise<void> {
    const { source, credentials } = this.#setup;
    const next = { ...renewal, tries: renewal.tries + 1 };
    this.#renewal = next;
    const token = await freshToken(source, next.until - performance.now(), this.#over.signal);
    if (this.#renewal !== next) return;
    if (token === null) this.#renewal = null;
    else this.send(credentials.present(token));
  }

  #noticeQuiet(): void {
    if (this.#hub.quiet) this.#carryOut(this.#recovery.quiet());
  }

  /** Keeps an event for the next connection. */
  #keep(event: ClientEvent): void {
    if (this.#over.signal.aborted) return;
    if (this.#unsent.length < MAX_UNSENT) this.#unsent.push(event);
    else this.#hub.trouble('not_sent', `There is no connection: ${event.type} was not sent.`);
  }

  #show({ adrift = this.#adrift, unsteady = this.#unsteady }): void {
    this.#adrift = adrift;
    this.#unsteady = unsteady;
    this.#hub.unsteady(adrift || unsteady);
  }

  #end(): void {
    this.#recovery.end();
    this.#over.abort();
    clearTimeout(this.#timer);
    this.#transport.close();
    for (const transport of this.#lingering) transport.leave();
  }
}

/** What a leg's news are for. */
interface Owner extends Omit<Listener, 'arrived' | 'ended'> {
  /** `failure` is `null` if the person hung up; `resumable` if the session may still be there. */
  ended(failure: CallError | null, resumable: boolean): void;
}

/** One connection, as far as it tells whether the session is there, and why it went. */
class Leg implements Listener {
  /** Resolves when the session is there; rejects when the connection ends before. */
  readonly ready: Promise<void>;
  /** Resolves when the connection has ended. */
  readonly gone: Promise<void>;
  #owner: Owner | null = null;
  #end: { readonly failure: CallError | null; readonly resumable: boolean } | null = null;
  #words: LastWords = { error: null, closing: null };
  #resolveReady!: () => void;
  #rejectReady!: (failure: CallError) => void;
  #resolveGone!: () => void;

  constructor() {
    this.ready = new Promise((resolve, reject) => {
      this.#resolveReady = resolve;
      this.#rejectReady = reject;
    });
    this.ready.catch(() => {});
    this.gone = new Promise((resolve) => (this.#resolveGone = resolve));
  }

  /** Has the news told from here on; an end that has come before is told now. */
  serve(owner: Owner): void {
    this.#owner = owner;
    if (this.#end) owner.ended(this.#end.failure, this.#end.resumable);
  }

  arrived(event: ServerEvent): void {
    if (event.type === 'session.created') this.#resolveReady();
    if (event.type === 'voxline.closing') {
      this.#words = { ...this.#words, closing: text(event, 'reason') };
    }
    if (event.type === 'error' && isRecord(event['error'])) {
      const { error } = event;
      const said = { code: text(error, 'code') || null, message: text(error, 'message') };
      this.#words = { ...this.#words, error: said };
    }
  }

  event(event: ServerEvent): void {
    this.#owner?.event(event);
  }

  unsent(event: ClientEvent): void {
    this.#owner?.unsent(event);
  }

  interrupted(responseId: string, heardMs: number): void {
    this.#owner?.interrupted(responseId, heardMs);
  }

  sounding(sounding: boolean): void {
    this.#owner?.sounding(sounding);
  }

  roundTrip(ms: number): void {
    this.#owner?.roundTrip(ms);
  }

  unsteady(unsteady: boolean): void {
    this.#owner?.unsteady(unsteady);
  }

  ended({ code, reason }: { readonly code: number | null; readonly reason: string }): void {
    const failure = fromClose(this.#words, code, reason);
    this.#rejectReady(failure);
    this.#resolveGone();
    const hungUp = this.#words.closing === 'hangup';
    this.#end = { failure: hungUp ? null : failure, resumable: mayResume(this.#words, code) };
    this.#owner?.ended(this.#end.failure, this.#end.resumable);
  }
}

function target(setup: Setup, bearer: string, wish: Wish | null, signal: AbortSignal): Target {
  const { baseUrl, device, credentials } = setup;
  return { baseUrl, device, bearer, wish, token: () => credentials.token, signal };
}

async function within(
  event: Promise<void>,
  ms: number,
  late: CallError,
  signal: AbortSignal,
): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const given = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(late), ms);
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
  try {
    await Promise.race([event, given]);
  } finally {
    clearTimeout(timer);
  }
}

function asCallError(error: unknown): CallError {
  if (error instanceof CallError) return error;
  return new CallError('lost', error instanceof Error ? error.message : String(error));
}
