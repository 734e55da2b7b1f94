const PING_MS = 500;
/** What is promised to the relay: it hears of this side so often, also where timers are slowed. */
const PROMISE_MS = 1000;
/** Without a word for so long, the connection is in doubt. */
const SILENT_MS = 1250;

/** Numbered pings: they measure round trips, and notice a network that is dead. */
export class Pings {
  readonly #timer: ReturnType<typeof setInterval>;
  readonly #send: (ping: { id: number; every_ms: number }) => void;
  readonly #silent: (silent: boolean) => void;
  #id = 0;
  #sentAt = 0;
  #tickedAt = performance.now();
  #heardAt = performance.now();
  #isSilent = false;

  constructor(
    send: (ping: { id: number; every_ms: number }) => void,
    silent: (silent: boolean) => void,
  ) {
    this.#send = send;
    this.#silent = silent;
    this.#timer = setInterval(() => this.#tick(), PING_MS);
  }

  /** Something was heard of the relay. */
  heard(): void {
    this.#heardAt = performance.now();
    this.#judge(false);
  }

  /** The round trip in milliseconds, if this answers the last ping. */
  pong(id: number): number | null {
    return id === this.#id ? performance.now() - this.#sentAt : null;
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
    this.#id += 1;
    this.#sentAt = now;
    this.#send({ id: this.#id, every_ms: PROMISE_MS });
  }

  #judge(silent: boolean): void {
    if (silent === this.#isSilent) return;
    this.#isSilent = silent;
    this.#silent(silent);
  }
}
