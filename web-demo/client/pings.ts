const PING_MS = 2000;

/** Round trips, measured by numbered pings. */
export class Pings {
  readonly #timer: ReturnType<typeof setInterval>;
  readonly #send: (id: number) => void;
  #id = 0;
  #sentAt = 0;

  constructor(send: (id: number) => void) {
    this.#send = send;
    this.#timer = setInterval(() => this.#ping(), PING_MS);
  }

  /** The round trip in milliseconds, if this answers the last ping. */
  pong(id: number): number | null {
    return id === this.#id ? performance.now() - this.#sentAt : null;
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #ping(): void {
    this.#id += 1;
    this.#sentAt = performance.now();
    this.#send(this.#id);
  }
}
