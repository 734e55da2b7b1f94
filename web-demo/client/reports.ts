/**
 * What the relay is told of a peer connection's ear: ten times a second how far it has got, and once
 * a second what its parts take (`stats.ts`).
 */

import type { ClientEvent } from './protocol';
import { device, figures, STATS_MS, totals, type Totals } from './stats';

/** No multiple of a packet, nor of a block of sound: else all reports show the same part of one. */
const PLAYOUT_MS = 97;
/** A packet counts as played when it is decoded, and up to 10 ms of the one before sound first. */
const DECODED_AHEAD_MS = 5;
/** Opus looks 6.5 ms ahead; the rest is its work, and the way to the socket. */
const CODEC_MS = 8;

export class Reports {
  readonly #peer: RTCPeerConnection;
  readonly #send: (event: ClientEvent) => void;
  readonly #outputLatency: () => number;
  readonly #timers: ReturnType<typeof setInterval>[];
  #lastPlayed: number | null = null;
  #before: Totals | null = null;
  /** From the jitter buffer to the ear, in milliseconds, as `getStats` last said. */
  #playingMs: number | null = null;

  /** `outputLatency` says what the speaker takes where `getStats` does not, in milliseconds. */
  constructor(
    peer: RTCPeerConnection,
    outputLatency: () => number,
    send: (event: ClientEvent) => void,
  ) {
    this.#peer = peer;
    this.#outputLatency = outputLatency;
    this.#send = send;
    this.#timers = [
      setInterval(() => this.#reportPlayout(), PLAYOUT_MS),
      setInterval(() => void this.#reportStats().catch(() => {}), STATS_MS),
    ];
  }

  /** The RTP timestamp of what was played last; `null` before the first sound. */
  get lastPlayed(): number | null {
    return this.#lastPlayed;
  }

  stop(): void {
    this.#timers.forEach(clearInterval);
  }

  #reportPlayout(): void {
    const source = this.#peer.getReceivers()[0]?.getSynchronizationSources()[0];
    if (!source || source.rtpTimestamp === this.#lastPlayed) return;
    this.#lastPlayed = source.rtpTimestamp;
    this.#send({
      type: 'voxline.playout',
      rtp_timestamp: source.rtpTimestamp,
      at_ms: sinceStart(source.timestamp),
      output_latency_ms: DECODED_AHEAD_MS + (this.#playingMs ?? this.#outputLatency()),
    });
  }

  async #reportStats(): Promise<void> {
    const report = await this.#peer.getStats();
    const track = this.#peer.getSenders()[0]?.track;
    if (!track) return;
    const now = totals(report.values());
    const told = figures(this.#before, now, device(track), CODEC_MS);
    this.#before = now;
    this.#playingMs = told.output_latency_ms ?? null;
    this.#send({ type: 'voxline.stats', output_latency_ms: this.#outputLatency(), ...told });
  }
}

/** By `performance.now()`'s clock; some browsers count this timestamp from 1970. */
function sinceStart(timestamp: number): number {
  const at = timestamp > 1e12 ? timestamp - performance.timeOrigin : timestamp;
  return Math.min(at, performance.now());
}
