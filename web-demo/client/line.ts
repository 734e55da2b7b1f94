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
import { ACK_EVENTS, ACK_MS, Receipts, type Connection } from './receipts';
import { Recovery, type RecoveryOrder, type Ways } from './recovery';
import { freshToken, rest, type TokenSource } from './token-source';
import type {
  Connect,
  Levels,
  Listener,
  Target,
  Transport,
  TransportKind,
  Wish,
} from './transport';

/** How long the relay may take from the connection to the provider's `session.created`. */
const SESSION_MS = 15_000;
/** How long one attempt to come back may take. */
const ATTACH_MS = 10_000;
/** How long a media path may take to open before UDP counts as blocked: at first, and later. */
const FIRST_PATH_MS = 6000;
const PATH_MS = 3000;
/** How long the new connection's events wait for the old connection's last ones. */
const HOLD_MS = 300;
/** How long the old connection stays for the events that are on their way. */
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
  readonly #connect: Connect;
  readonly #recovery: Recovery;
  readonly #receipts = new Receipts();
  readonly #over = new AbortController();
  /** Left behind, but there may be events in them. */
  readonly #lingering = new Set<Transport>();
  #transport: Transport;
  #leg: Leg;
  #connection: Connection;
  #acknowledging: ReturnType<typeof setTimeout> | undefined;
  /** What was heard when the call was last without a connection. */
  #heardMs: number | null = null;
  #muted = false;
  #unsent: ClientEvent[] = [];
  #adrift = false;
  #unsteady = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #renewal: Renewal | null = null;

  /** Opens a session. Rejects with a `CallError`, or with the signal's reason. */
  static async open(
    connect: Connect,
    kind: TransportKind,
    ways: Ways,
    wish: Wish,
    setup: Setup,
    hub: Hub,
    signal: AbortSignal,
  ): Promise<Line> {
    const leg = new Leg();
    const first = { bearer: setup.credentials.token, wish, heardMs: null, pathMs: FIRST_PATH_MS };
    const transport = await connect(kind, target(setup, first, signal), leg);
    try {
      const late = new CallError('provider-gone', 'the provider opened no session');
      await within(leg.ready, SESSION_MS, late, signal);
    } catch (error) {
      transport.close();
      throw error;
    }
    return new Line(connect, ways, setup, hub, transport, leg);
  }

  private constructor(
    connect: Connect,
    ways: Ways,
    setup: Setup,
    hub: Hub,
    transport: Transport,
    leg: Leg,
  ) {
    this.#connect = connect;
    this.#recovery = new Recovery(transport.kind, ways, performance.now());
    this.#setup = setup;
    this.#hub = hub;
    this.#transport = transport;
    this.#leg = leg;
    this.#connection = this.#receipts.connection();
    hub.releases(() => this.#end());
    leg.serve(this.#owner(leg, this.#connection));
    transport.begin();
    this.#schedule();
  }

  /** The network has changed, or is there again. */
  hurry(): void {
    this.#carryOut(this.#recovery.hurry(performance.now()));
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
    this.#muted = muted;
    this.#transport.mute(muted);
  }

  levels(): Levels {
    return this.#transport.levels();
  }

  #owner(leg: Leg, connection: Connection): Owner {
    const current = () => leg === this.#leg;
    return {
      event: (event) => {
        const isNew = connection.take(event);
        if (current()) this.#count();
        if (!isNew) return;
        this.#hub.event(event);
        for (const duty of this.#setup.credentials.handle(event)) this.#fulfil(duty);
        this.#noticeQuiet();
      },
      roundTrip: (ms) => {
        if (current()) this.#hub.roundTrip(ms);
      },
      unsteady: (unsteady) => {
        if (!current()) return;
        this.#show({ unsteady });
        const { resumeWindowMs } = this.#setup.credentials;
        this.#carryOut(this.#recovery.unsteady(unsteady, resumeWindowMs, performance.now()));
      },
      ended: (failure, resumable) => {
        if (current()) this.#broken(failure, resumable);
      },
    };
  }

  /** Has what was received acknowledged soon. */
  #count(): void {
    if (this.#connection.due >= ACK_EVENTS) return this.#acknowledge();
    if (this.#connection.due > 0) {
      this.#acknowledging ??= setTimeout(() => this.#acknowledge(), ACK_MS);
    }
  }

  #acknowledge(): void {
    clearTimeout(this.#acknowledging);
    this.#acknowledging = undefined;
    const sent = this.#connection.acknowledge((event) => this.#transport.send(event));
    if (!sent) this.#acknowledging = setTimeout(() => this.#acknowledge(), ACK_MS);
  }

  #broken(failure: CallError | null, resumable: boolean): void {
    if (!failure) return this.#hub.end(null);
    const windowMs = resumable ? this.#setup.credentials.resumeWindowMs : 0;
    this.#carryOut(this.#recovery.broken(failure, windowMs, performance.now()));
  }

  #carryOut(orders: RecoveryOrder[]): void {
    for (const order of orders) {
      switch (order.do) {
        case 'restart':
          this.#hub.recovering('ice-restart');
          this.#transport.restart().catch(() => {
            this.#carryOut(this.#recovery.notRestarted(performance.now()));
          });
          break;
        case 'attach':
          if (order.dead) this.#hub.recovering(order.by);
          void this.#attach(order.by, order.dead);
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
    const tick = () => this.#carryOut(this.#recovery.tick(performance.now(), this.#hub.quiet));
    this.#timer = setTimeout(tick, Math.max(0, due - performance.now()) + 1);
  }

  /** Opens the next connection; a `dead` one before it falls silent, so that nothing sounds twice. */
  async #attach(by: TransportKind, dead: boolean): Promise<void> {
    const { credentials } = this.#setup;
    const attempt = new AbortController();
    const abort = () => attempt.abort(new CallError('lost', 'the call was closed'));
    this.#over.signal.addEventListener('abort', abort);
    const late = new CallError('unreachable', 'the relay did not take the call back in time');
    const timer = setTimeout(() => attempt.abort(late), ATTACH_MS);
    const leg = new Leg();
    let transport: Transport | null = null;
    try {
      const heard = dead ? await this.#transport.hush() : null;
      // Where the last connection has brought no sound, it is as it was before.
      const heardMs = dead ? (heard ?? this.#heardMs) : null;
      this.#heardMs = heardMs;
      const back = { bearer: credentials.resume ?? '', wish: null, heardMs, pathMs: PATH_MS };
      transport = await this.#connect(by, target(this.#setup, back, attempt.signal), leg);
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
    // What it still has to sound, the relay sends again on this one.
    void old.transport.hush();
    this.#transport = transport;
    this.#leg = leg;
    this.#connection = this.#receipts.connection();
    clearTimeout(this.#acknowledging);
    this.#acknowledging = undefined;
    transport.mute(this.#muted);
    leg.serve(this.#owner(leg, this.#connection));
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
    clearTimeout(this.#acknowledging);
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

function target(
  { baseUrl, device, credentials }: Setup,
  door: Pick<Target, 'bearer' | 'wish' | 'heardMs' | 'pathMs'>,
  signal: AbortSignal,
): Target {
  return { baseUrl, device, ...door, token: () => credentials.token, signal };
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
