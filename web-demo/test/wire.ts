import { Credentials } from '../client/credentials';
import type { CallError } from '../client/failure';
import { Inbox } from '../client/inbox';
import type { TokenSource } from '../client/token-source';
import type { ClientEvent, ServerEvent } from '../client/protocol';
import type { Listener, Target, Transport } from '../client/transport';

/** A connection without a network: the test says what the relay does. */
export class Wire implements Transport {
  readonly kind = 'websocket';
  readonly callId = null;
  readonly sent: ClientEvent[] = [];
  /** What each attempt to come back meets: another connection, or why there is none. */
  next: (Wire | CallError)[] = [];
  target: Target | null = null;
  interrupts = 0;
  parted: 'left' | 'closed' | null = null;
  up = true;
  #listener: Listener | null = null;
  #inbox = new Inbox((event) => this.#listener?.event(event));

  open(target: Target, listener: Listener): Promise<Transport> {
    this.target = target;
    this.#listener = listener;
    this.say({ type: 'session.created', session: {} });
    return Promise.resolve(this);
  }

  successor(target: Target, listener: Listener): Promise<Transport> {
    const next = this.next.shift();
    if (next instanceof Wire) {
      next.next = this.next;
      return next.open(target, listener);
    }
    if (next) return Promise.reject(next);
    return new Promise((_resolve, reject) => {
      target.signal.addEventListener('abort', () => reject(target.signal.reason));
    });
  }

  /** The relay says this. */
  say(event: ServerEvent): void {
    this.#listener?.arrived(event);
    this.#inbox.receive(event);
  }

  /** The connection ends. */
  end(code: number | null, reason = ''): void {
    this.up = false;
    this.#listener?.ended({ code, reason });
  }

  begin(): void {
    this.#inbox.open();
  }
  send(event: ClientEvent): boolean {
    if (this.up) this.sent.push(event);
    return this.up;
  }
  interrupt(): void {
    this.interrupts += 1;
  }
  mute(): void {}
  levels() {
    return { microphone: 0, assistant: 0 };
  }
  leave(): void {
    this.parted ??= 'left';
  }
  close(): void {
    this.parted ??= 'closed';
  }
}

export function setup(source: TokenSource = 'ek_1') {
  const token = typeof source === 'string' ? source : 'ek_1';
  const credentials = new Credentials(token);
  return { baseUrl: 'http://relay.test', device: null, source, credentials };
}
