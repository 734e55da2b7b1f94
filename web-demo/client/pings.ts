const PING_MS = 500;
/** What is promised to the relay: it hears of this side so often, also where timers are slowed. */
const PROMISE_MS = 1000;
/** Without a word for so long, the connection is in doubt. */
const SILENT_MS = 1250;
/** Pings that may be answered yet, at most; the answer to an older one says nothing. */
const MAX_UNANSWERED = 8;

/** A ping and its answer, by this side's clock. */
export interface Exchange {
  readonly id: number;
  readonly sent_ms: number;
  readonly received_ms: number;
}

export interface Ping {
  readonly id: number;
  readonly every_ms: number;
  readonly sent_ms: number;
  /** The newest exchange that is complete: with what the relay knows of it, its clock and this one
   *  can be compared. */
  readonly last?: Exchange;
}

/** Numbered pings: they measure round trips, compare clocks, and notice a network that is dead. */
export class Pings {
  readonly #timer: ReturnType<typeof setInterval>;
  readonly #send: (ping: Ping) => void;
  readonly #silent: (silent: boolean) => void;
  readonly #unanswered = new Map<number, number>();
  #last: Exchange | null = null;
  #id = 0;
  #tickedAt = performance.now();
  #heardAt = performance.now();
  #isSilent = false;

  constructor(send: (ping: Ping) => void, silent: (silent: boolean) => void) {
    this.#send = send;
    this.#silent = silent;
    this.#timer = setInterval(() => this.#tick(), PING_MS);
  }

  /** What the newest exchange took, in milliseconds. */
  get roundTrip(): number | null {
    return this.#last && this.#last.received_ms - this.#last.sent_ms;
  }

  /** Something was heard of the relay. */
  heard(): void {
    this.#heardAt = performance.now();
    this.#judge(false);
  }

  /** The round trip in milliseconds, if this answers a ping; `at` is when the answer came. */
  pong(id: number, at: number): number | null {
    const sent = this.#unanswered.get(id);
    if (sent === undefined) return null;
    this.#unanswered.delete(id);
    if (id > (this.#last?.id ?? 0)) this.#last = { id, sent_ms: sent, received_ms: at };
    return at - sent;
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #tick(): void {
    const now = performance.now();
    // A page that was held up has not listened, either.
    if (now - this.#tickedAt > 3 * PING_MS) this.#heardAt = now;
    this.#tickedAt = now;
    this.#judge(now - this.#heardAt > SILENT_MS);
    this.#ping();
  }

  #ping(): void {
    const id = ++this.#id;
    this.#unanswered.delete(id - MAX_UNANSWERED);
    const last = this.#last ? { last: this.#last } : {};
    const sent = performance.now();
    this.#unanswered.set(id, sent);
    this.#send({ id, every_ms: PROMISE_MS, sent_ms: sent, ...last });
  }

  #judge(silent: boolean): void {
    if (silent === this.#isSilent) return;
    this.#isSilent = silent;
    this.#silent(silent);
  }
}
