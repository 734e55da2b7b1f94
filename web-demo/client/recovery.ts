/**
 * When and how a call attaches anew to its session: because the relay asks for it, because the
 * connection broke or is in doubt, or because a better way may be open again.
 *
 * A connection in doubt is waited for briefly, then ICE is restarted on it, then another one is
 * opened beside it: over WebRTC, and where that fails over WebSocket. A call that has come to
 * WebSocket like that tries WebRTC from time to time.
 *
 * Pure: news and the time go in, orders come out. One attempt runs at a time. An attempt that
 * nothing forces never costs the call the connection that it still has.
 */

import { CallError, type FailureKind } from './failure';
import type { TransportKind } from './transport';

/** Why the call attached anew: the relay asked, the connection was gone, or to be better off. */
export type ReconnectReason = 'token' | 'connection' | 'upgrade';

/** What is being done to find the way back. */
export type Step = 'ice-restart' | TransportKind;

export interface Reconnection {
  readonly reason: ReconnectReason;
  /** How the call came back: by an ICE restart, or another connection of this kind. */
  readonly by: Step;
  /** How long the call had no connection; 0 if the new one was there before the old one went. */
  readonly gapMs: number;
}

export type RecoveryOrder =
  /** Look for another way for the connection that there is. */
  | { readonly do: 'restart' }
  /** Open the next connection to the session; `dead` if the one before has nothing more to say. */
  | { readonly do: 'attach'; readonly by: TransportKind; readonly dead: boolean }
  /** Whether the call has no connection now. */
  | { readonly do: 'adrift'; readonly adrift: boolean }
  | { readonly do: 'tell'; readonly reconnection: Reconnection }
  /** The old connection stays, although the relay has asked for a new one. */
  | { readonly do: 'stay'; readonly failure: CallError }
  | { readonly do: 'give-up'; readonly failure: CallError };

/** The ways that a call may go. */
export type Ways = TransportKind | 'auto';

/** How long a connection in doubt is waited for. */
const DOUBT_MS: Record<TransportKind, number> = { webrtc: 700, websocket: 1500 };
/** How long restarted ICE may take to find a path. */
const RESTART_MS = 2500;
/** The pause before the second attempt; it doubles, up to the other. */
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 4000;
/** How much of the time that the relay gives is spent on waiting for a moment of silence. */
const PATIENCE = 0.5;
/** The pause before WebRTC is tried again; it doubles, and there is an end to it. */
const FIRST_UPGRADE_MS = 15_000;
const MAX_UPGRADES = 6;

interface Effort {
  readonly reason: ReconnectReason;
  /** Attempts so far, this one included. */
  readonly attempts: number;
  readonly until: number;
  readonly by: TransportKind;
  /** Since when there is no connection, and why. */
  readonly down: { readonly since: number; readonly failure: CallError } | null;
}

interface Doubt {
  readonly since: number;
  readonly next: number;
  readonly windowMs: number;
}

type Phase =
  | { readonly is: 'steady' }
  | { readonly is: 'patient'; readonly start: number; readonly until: number }
  | ({ readonly is: 'doubtful' } & Doubt)
  | ({ readonly is: 'restarting' } & Doubt)
  | ({ readonly is: 'attaching' } & Effort)
  | ({ readonly is: 'resting'; readonly next: number } & Effort)
  | { readonly is: 'over' };

export class Recovery {
  readonly #ways: Ways;
  #kind: TransportKind;
  #phase: Phase = { is: 'steady' };
  /** When WebRTC is tried again, and how often it was. */
  #upgrade: { readonly at: number; readonly tries: number } | null = null;

  /** For a call that has begun like this, and may go these ways. */
  constructor(kind: TransportKind, ways: Ways, now = 0) {
    this.#kind = kind;
    this.#ways = ways;
    this.#planUpgrade(0, now);
  }

  /** When `tick` is due. */
  get due(): number | null {
    switch (this.#phase.is) {
      case 'steady':
        return this.#upgrade?.at ?? null;
      case 'patient':
        return this.#phase.start;
      case 'doubtful':
      case 'restarting':
      case 'resting':
        return this.#phase.next;
      case 'attaching':
      case 'over':
        return null;
    }
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
    return this.#attach({ ...this.#first('token'), until: this.#phase.until });
  }

  /** The connection is in doubt, or is steady again; see `broken` for `windowMs`. */
  unsteady(unsteady: boolean, windowMs: number, now: number): RecoveryOrder[] {
    const phase = this.#phase;
    if (unsteady) {
      if (phase.is !== 'steady' && phase.is !== 'patient') return [];
      this.#phase = { is: 'doubtful', since: now, next: now + DOUBT_MS[this.#kind], windowMs };
      return [];
    }
    if (phase.is !== 'doubtful' && phase.is !== 'restarting') return [];
    this.#phase = { is: 'steady' };
    if (phase.is === 'doubtful') return [];
    const gapMs = now - phase.since;
    return [
      { do: 'adrift', adrift: false },
      { do: 'tell', reconnection: { reason: 'connection', by: 'ice-restart', gapMs } },
    ];
  }

  /** ICE cannot be restarted. */
  notRestarted(now: number): RecoveryOrder[] {
    return this.#phase.is === 'restarting' ? this.#rebuild(this.#phase, now) : [];
  }

  /** The network has changed, or is there again. */
  hurry(now: number): RecoveryOrder[] {
    switch (this.#phase.is) {
      case 'doubtful':
        this.#phase = { ...this.#phase, next: now };
        return this.tick(now, false);
      case 'resting':
        return this.#attach(this.#phase);
      case 'steady':
        if (this.#upgrade) this.#upgrade = { ...this.#upgrade, at: now };
        return [];
      case 'patient':
      case 'restarting':
      case 'attaching':
      case 'over':
        return [];
    }
  }

  /** The connection is gone; the relay keeps the session for this long (0: not at all). */
  broken(failure: CallError, windowMs: number, now: number): RecoveryOrder[] {
    const phase = this.#phase;
    const adrift: RecoveryOrder = { do: 'adrift', adrift: true };
    switch (phase.is) {
      case 'over':
        return [];
      case 'steady':
      case 'patient':
      case 'doubtful':
      case 'restarting': {
        if (windowMs <= 0) return this.#giveUp(failure);
        const since = 'since' in phase ? phase.since : now;
        const until = since + windowMs;
        return [
          adrift,
          ...this.#attach({ ...this.#first('connection'), until, down: { since, failure } }),
        ];
      }
      case 'attaching':
      case 'resting': {
        if (phase.down) return [];
        const down = { since: now, failure };
        const effort = { ...phase, reason: reasonOf(phase), until: now + windowMs, down };
        const until = Math.max(phase.until, effort.until);
        if (phase.is === 'resting') return [adrift, ...this.#attach({ ...effort, until })];
        this.#phase = { ...effort, is: 'attaching', until };
        return [adrift];
      }
    }
  }

  /** The new connection is up. */
  attached(now: number): RecoveryOrder[] {
    if (this.#phase.is !== 'attaching') return [];
    const { reason, by, down } = this.#phase;
    this.#phase = { is: 'steady' };
    this.#kind = by;
    this.#planUpgrade(0, now);
    const reconnection = { reason, by, gapMs: down ? now - down.since : 0 };
    const tell: RecoveryOrder = { do: 'tell', reconnection };
    return down ? [{ do: 'adrift', adrift: false }, tell] : [tell];
  }

  /** The attempt failed; `random` is from 0 to 1. */
  failed(failure: CallError, random: number, now: number): RecoveryOrder[] {
    const phase = this.#phase;
    if (phase.is !== 'attaching') return [];
    if (phase.reason === 'upgrade' && !phase.down) {
      this.#phase = { is: 'steady' };
      this.#planUpgrade((this.#upgrade?.tries ?? 0) + 1, now);
      return [];
    }
    const by = this.#way(phase.attempts + 1, phase.down !== null);
    // Another way is no repetition: there is nothing to wait for.
    const waits = by === phase.by || phase.attempts > 1;
    const next = now + (waits ? pause(phase.attempts, failure.retryAfterMs, random) : 0);
    if (!isFinal(failure) && next < phase.until) {
      this.#phase = { ...phase, is: 'resting', by, next };
      return [];
    }
    if (phase.down) return this.#giveUp(isFinal(failure) ? failure : phase.down.failure);
    this.#phase = { is: 'steady' };
    return [{ do: 'stay', failure }];
  }

  /** What was due is done; `quiet` if nobody speaks. */
  tick(now: number, quiet: boolean): RecoveryOrder[] {
    const { due } = this;
    if (due === null || now < due) return [];
    const phase = this.#phase;
    switch (phase.is) {
      case 'steady':
        return this.#tryUpgrade(quiet, now);
      case 'patient':
        return this.quiet();
      case 'doubtful':
        if (this.#kind !== 'webrtc') return this.#rebuild(phase, now);
        this.#phase = { ...phase, is: 'restarting', next: now + RESTART_MS };
        return [{ do: 'adrift', adrift: true }, { do: 'restart' }];
      case 'restarting':
        return this.#rebuild(phase, now);
      case 'resting':
        return this.#attach(phase);
      case 'attaching':
      case 'over':
        return [];
    }
  }

  /** The call is over. */
  end(): void {
    this.#phase = { is: 'over' };
  }

  #rebuild({ since, windowMs }: Doubt, now: number): RecoveryOrder[] {
    const failure = new CallError('lost', 'nothing is heard of the relay any more');
    if (windowMs <= 0) return this.#giveUp(failure);
    const until = Math.max(since + windowMs, now);
    const down = { since, failure };
    return [
      { do: 'adrift', adrift: true },
      ...this.#attach({ ...this.#first('connection'), until, down }),
    ];
  }

  #first(reason: ReconnectReason): Effort {
    return { reason, attempts: 0, until: 0, by: this.#kind, down: null };
  }

  /** By which way the next attempt goes: the one that the call has had, and then in turns. */
  #way(attempt: number, down: boolean): TransportKind {
    if (this.#ways !== 'auto' || !down || attempt % 2 === 1) return this.#kind;
    return this.#kind === 'webrtc' ? 'websocket' : 'webrtc';
  }

  #attach(effort: Effort): RecoveryOrder[] {
    const { reason, attempts, until, by, down } = effort;
    this.#phase = { is: 'attaching', reason, attempts: attempts + 1, until, by, down };
    return [{ do: 'attach', by, dead: down !== null }];
  }

  #tryUpgrade(quiet: boolean, now: number): RecoveryOrder[] {
    const tries = this.#upgrade?.tries ?? 0;
    // An answer that sounds is not disturbed for this.
    if (!quiet) this.#upgrade = { at: now + 1000, tries };
    return quiet ? this.#attach({ ...this.#first('upgrade'), by: 'webrtc' }) : [];
  }

  #planUpgrade(tries: number, now: number): void {
    const wanted = this.#ways === 'auto' && this.#kind === 'websocket' && tries < MAX_UPGRADES;
    this.#upgrade = wanted ? { at: now + FIRST_UPGRADE_MS * 2 ** tries, tries } : null;
  }

  #giveUp(failure: CallError): RecoveryOrder[] {
    this.#phase = { is: 'over' };
    return [{ do: 'give-up', failure }];
  }
}

/** An attempt to be better off that meets a broken connection is one to come back. */
function reasonOf({ reason }: Effort): ReconnectReason {
  return reason === 'upgrade' ? 'connection' : reason;
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
