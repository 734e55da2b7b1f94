/**
 * When a call attaches anew to its session: because the relay asks for it, or because the
 * connection broke.
 *
 * Pure: news and the time go in, orders come out. One attempt runs at a time. An attempt that the
 * relay asked for never costs the call the connection that it still has.
 */

import { CallError, type FailureKind } from './failure';

/** Why the call attached anew: the relay asked for it, or the connection was gone. */
export type ReconnectReason = 'token' | 'connection';

export interface Reconnection {
  readonly reason: ReconnectReason;
  /** How long the call had no connection; 0 if the new one was there before the old one went. */
  readonly gapMs: number;
}

export type RecoveryOrder =
  /** Open the next connection to the session. */
  | { readonly do: 'attach' }
  /** Whether the call has no connection now. */
  | { readonly do: 'adrift'; readonly adrift: boolean }
  | { readonly do: 'tell'; readonly reconnection: Reconnection }
  /** The old connection stays, although the relay has asked for a new one. */
  | { readonly do: 'stay'; readonly failure: CallError }
  | { readonly do: 'give-up'; readonly failure: CallError };

/** The pause before the second attempt; it doubles, up to the other. */
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 4000;
/** How much of the time that the relay gives is spent on waiting for a moment of silence. */
const PATIENCE = 0.5;

interface Effort {
  readonly reason: ReconnectReason;
  /** Attempts so far, this one included. */
  readonly attempts: number;
  readonly until: number;
  /** Since when there is no connection, and why. */
  readonly down: { readonly since: number; readonly failure: CallError } | null;
}

type Phase =
  | { readonly is: 'steady' }
  | { readonly is: 'patient'; readonly start: number; readonly until: number }
  | ({ readonly is: 'attaching' } & Effort)
  | ({ readonly is: 'resting'; readonly next: number } & Effort)
  | { readonly is: 'over' };

export class Recovery {
  #phase: Phase = { is: 'steady' };

  /** When `tick` is due. */
  get due(): number | null {
    if (this.#phase.is === 'patient') return this.#phase.start;
    return this.#phase.is === 'resting' ? this.#phase.next : null;
  }

  /** The relay wants the call to attach anew within this time; `quiet` if nobody speaks. */
  asked(withinMs: number, quiet: boolean, now: number): RecoveryOrder[] {
    if (this.#phase.is !== 'steady') return [];
    const start = now + withinMs * PATIENCE;
    this.#phase = { is: 'patient', start, until: now + withinMs };
    return quiet ? this.quiet() : [];
  }

  /** Nobody speaks now. */
  quiet(): RecoveryOrder[] {
    if (this.#phase.is !== 'patient') return [];
    return this.#attach({ reason: 'token', attempts: 0, until: this.#phase.until, down: null });
  }

  /** The connection is gone; the relay keeps the session for this long (0: not at all). */
  broken(failure: CallError, windowMs: number, now: number): RecoveryOrder[] {
    const phase = this.#phase;
    const down = { since: now, failure };
    switch (phase.is) {
      case 'over':
        return [];
      case 'steady':
      case 'patient': {
        if (windowMs <= 0) return this.#giveUp(failure);
        const effort = { reason: 'connection', attempts: 0, until: now + windowMs, down } as const;
        return [{ do: 'adrift', adrift: true }, ...this.#attach(effort)];
      }
      case 'attaching':
      case 'resting': {
        if (phase.down) return [];
        const until = Math.max(phase.until, now + windowMs);
        const adrift: RecoveryOrder = { do: 'adrift', adrift: true };
        if (phase.is === 'resting') return [adrift, ...this.#attach({ ...phase, until, down })];
        this.#phase = { ...phase, until, down };
        return [adrift];
      }
    }
  }

  /** The new connection is up. */
  attached(now: number): RecoveryOrder[] {
    if (this.#phase.is !== 'attaching') return [];
    const { reason, down } = this.#phase;
    this.#phase = { is: 'steady' };
    const reconnection = { reason, gapMs: down ? now - down.since : 0 };
    const tell: RecoveryOrder = { do: 'tell', reconnection };
    return down ? [{ do: 'adrift', adrift: false }, tell] : [tell];
  }

  /** The attempt failed; `random` is from 0 to 1. */
  failed(failure: CallError, random: number, now: number): RecoveryOrder[] {
    const phase = this.#phase;
    if (phase.is !== 'attaching') return [];
    const next = now + pause(phase.attempts, failure.retryAfterMs, random);
    if (!isFinal(failure) && next < phase.until) {
      this.#phase = { ...phase, is: 'resting', next };
      return [];
    }
    if (phase.down) return this.#giveUp(isFinal(failure) ? failure : phase.down.failure);
    this.#phase = { is: 'steady' };
    return [{ do: 'stay', failure }];
  }

  /** What was due is done. */
  tick(now: number): RecoveryOrder[] {
    const { due } = this;
    if (due === null || now < due) return [];
    return this.#phase.is === 'resting' ? this.#attach(this.#phase) : this.quiet();
  }

  /** The call is over. */
  end(): void {
    this.#phase = { is: 'over' };
  }

  #attach(effort: Effort): RecoveryOrder[] {
    const { reason, attempts, until, down } = effort;
    this.#phase = { is: 'attaching', reason, attempts: attempts + 1, until, down };
    return [{ do: 'attach' }];
  }

  #giveUp(failure: CallError): RecoveryOrder[] {
    this.#phase = { is: 'over' };
    return [{ do: 'give-up', failure }];
  }
}

/** Half of a pause is by chance, so that not all calls of a relay come back in one moment. */
function pause(attempts: number, retryAfterMs: number | null, random: number): number {
  const longest = Math.min(FIRST_PAUSE_MS * 2 ** (attempts - 1), LONGEST_PAUSE_MS);
  return Math.max(longest * (0.5 + 0.5 * random), retryAfterMs ?? 0);
}

/** Whether another attempt at the same session could end in another way. */
function isFinal({ kind }: CallError): boolean {
  return !PASSING.has(kind);
}

const PASSING: ReadonlySet<FailureKind> = new Set<FailureKind>([
  'udp-blocked',
  'unreachable',
  'busy',
  'provider-gone',
  'shutdown',
  'lost',
]);
