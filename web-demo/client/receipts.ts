/**
 * Which of the session's events have come, over whichever connection: the relay sends again what
 * was not acknowledged when a connection ended, and what has come is passed over.
 *
 * Pure. The session's events (all but `voxline.*`) are counted from 1. On a connection that attaches
 * to a session that runs, `session.created` says which of them is the next one.
 *
 * Invariants: no event is handled twice; what is acknowledged has been handled.
 */

import { number, record, text, type ClientEvent, type ServerEvent } from './protocol';

/** How long an event waits to be acknowledged, at most, and how many do. */
export const ACK_MS = 250;
export const ACK_EVENTS = 64;

export class Receipts {
  /** The number of the latest event that was handled. */
  #has = 0;

  /** Counts what comes on one more connection. */
  connection(): Connection {
    return new Connection(this.#has, (event) => {
      if (event <= this.#has) return false;
      this.#has = event;
      return true;
    });
  }
}

/** What has come on one connection. */
export class Connection {
  readonly #isNew: (event: number) => boolean;
  #received = 0;
  #acknowledged = 0;
  #last = '';
  /** The number of the latest event; until the relay says where it begins, nothing was missed. */
  #event: number;

  constructor(before: number, isNew: (event: number) => boolean) {
    this.#event = before;
    this.#isNew = isNew;
  }

  /** How many events wait to be acknowledged. */
  get due(): number {
    return this.#received - this.#acknowledged;
  }

  /** Counts an event; false if it has come before, on another connection. */
  take(event: ServerEvent): boolean {
    if (event.type.startsWith('voxline.')) return true;
    this.#received += 1;
    this.#last = text(event, 'event_id') || this.#last;
    const next = number(record(event, 'voxline'), 'next_event');
    if (event.type === 'session.created' && next > 0) {
      this.#event = next - 1;
      return true;
    }
    this.#event += 1;
    return this.#isNew(this.#event);
  }

  /** Acknowledges what has come, if that can be sent. */
  acknowledge(send: (event: ClientEvent) => boolean): boolean {
    const received = this.#received;
    if (!send({ type: 'voxline.ack', event_id: this.#last, received })) return false;
    this.#acknowledged = received;
    return true;
  }
}
