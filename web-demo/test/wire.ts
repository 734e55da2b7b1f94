import { Credentials } from '../client/credentials';
import type { CallError } from '../client/failure';
import { Inbox } from '../client/inbox';
import type { TokenSource } from '../client/token-source';
import type { ClientEvent, ServerEvent } from '../client/protocol';
import type { Listener, Target, Transport, TransportKind } from '../client/transport';

/** A connection without a network: the test says what the relay does. */
export class Wire implements Transport {
  readonly kind: TransportKind;
  readonly callId = null;
  readonly sent: ClientEvent[] = [];
  readonly acknowledged: number[] = [];
  /** What each attempt to come back meets: another connection, or why there is none. */
  next: (Wire | CallError)[] = [];
  /** The kinds of connections that were asked for. */
  readonly asked: TransportKind[] = [];
  /** How many of the session's events it has brought, and which one comes first. */
  said = 0;
  nextEvent = 0;
  target: Target | null = null;
  interrupts = 0;
  parted: 'left' | 'closed' | null = null;
  up = true;
  /** Where its ear is. */
  heardMs: number | null = null;
  hushed = false;
  restarts = 0;
  /** Why ICE cannot be restarted. */
  stuck: CallError | null = null;
  #listener: Listener | null = null;
  #inbox = new Inbox((event) => this.#listener?.event(event));

  constructor(kind: TransportKind = 'websocket') {
    this.kind = kind;
  }

  /** Opens this one at first, and then whatever is next. */
  readonly connect = (
    kind: TransportKind,
    target: Target,
    listener: Listener,
  ): Promise<Transport> => {
    this.asked.push(kind);
    if (!target.wish) return this.#successor(target, listener);
    this.#open(target, listener, 0);
    return Promise.resolve(this);
  };

  #open(target: Target, listener: Listener, next: number): void {
    this.target = target;
    this.#listener = listener;
    const voxline = next > 0 ? { voxline: { next_event: next } } : {};
    this.say({ type: 'session.created', session: {}, ...voxline });
  }

  #successor(target: Target, listener: Listener): Promise<Transport> {
    const next = this.next.shift();
    if (next instanceof Wire) {
      next.#open(target, listener, next.nextEvent || this.said + 1);
      return Promise.resolve(next);
    }
    if (next) return Promise.reject(next);
    return new Promise((_resolve, reject) => {
      target.signal.addEventListener('abort', () => reject(target.signal.reason));
    });
  }

  /** The relay says this. */
  say(event: ServerEvent): void {
    if (!event.type.startsWith('voxline.')) this.said += 1;
    this.#listener?.arrived(event);
    this.#inbox.receive(event);
  }

  /** The connection is in doubt, or steady again. */
  doubt(unsteady: boolean): void {
    this.#listener?.unsteady(unsteady);
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
    if (this.up && event.type === 'voxline.ack') {
      this.acknowledged.push(event['received'] as number);
    } else if (this.up) {
      this.sent.push(event);
    }
    return this.up;
  }
  interrupt(): void {
    this.interrupts += 1;
  }
  restart(): Promise<void> {
    this.restarts += 1;
    return this.stuck ? Promise.reject(this.stuck) : Promise.resolve();
  }
  hush(): Promise<number | null> {
    this.hushed = true;
    return Promise.resolve(this.heardMs);
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
