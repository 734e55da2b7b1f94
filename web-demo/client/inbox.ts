import type { ServerEvent } from './protocol';

/** Events in their order, held back until it is opened. */
export class Inbox {
  readonly #handle: (event: ServerEvent) => void;
  #held: ServerEvent[] | null = [];

  constructor(handle: (event: ServerEvent) => void) {
    this.#handle = handle;
  }

  receive(event: ServerEvent): void {
    if (this.#held) this.#held.push(event);
    else this.#handle(event);
  }

  open(): void {
    const held = this.#held ?? [];
    this.#held = null;
    for (const event of held) this.#handle(event);
  }
}
