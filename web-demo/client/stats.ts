/**
 * What a device knows of its part of the way, which it tells the relay once a second as
 * `voxline.stats`: how long its microphone, jitter buffer and speaker take, and what it lost.
 *
 * Pure: `getStats` gives totals, and what passed between two of them is said. What a browser does
 * not tell, or what makes no sense, is left out.
 */

import { isRecord } from './protocol';

/** `voxline.stats`, in milliseconds; counts are totals of the connection. */
export interface Figures {
  readonly capture_ms?: number;
  readonly jitter_buffer_ms?: number;
  readonly output_latency_ms?: number;
  readonly packets_lost?: number;
  readonly packets_received?: number;
  readonly concealed_samples?: number;
  readonly total_samples?: number;
  readonly round_trip_ms?: number;
}

/** What `getStats` has counted of a connection. */
export interface Totals {
  /** Seconds that packets waited to be sent. */
  readonly sending: Mean;
  /** Seconds that samples waited in the jitter buffer. */
  readonly waiting: Mean;
  /** Seconds from the jitter buffer to the ear. */
  readonly playing: Mean;
  readonly packetsLost: number | null;
  readonly packetsReceived: number | null;
  readonly concealedSamples: number | null;
  readonly totalSamples: number | null;
  readonly roundTrip: number | null;
}

/** A sum of delays, and of how many. */
interface Mean {
  readonly sum: number | null;
  readonly of: number | null;
}

/** What a microphone's track tells of itself: `getSettings()`, and in some browsers `stats`. */
export interface Device {
  /** The length of its blocks, in seconds. */
  readonly block: number | null;
  /** From the beginning of a block's sound to the track, in milliseconds. */
  readonly delayMs: number | null;
  /** What the browser does with the sound. */
  readonly cancelsEcho: boolean;
  readonly suppressesNoise: boolean;
}

export const STATS_MS = 1000;
/** Where a browser tells nothing of its microphone. */
const UNKNOWN_DEVICE_MS = 10;
/** How much later each makes the sound; browsers do not tell. Measured in Chromium. */
const ECHO_CANCELLATION_MS = 6;
const NOISE_SUPPRESSION_MS = 6;
/** A delay that is longer is a mistake. */
const MAX_DELAY_MS = 10_000;

/** Reads the entries of an `RTCStatsReport`, of a connection with one sound each way. */
export function totals(report: Iterable<unknown>): Totals {
  const entries = [...report].filter(isRecord);
  const find = (type: string) =>
    entries.find((entry) => entry['type'] === type && entry['kind'] === 'audio') ?? {};
  const transport = entries.find((entry) => entry['type'] === 'transport') ?? {};
  const isInUse = (entry: Readonly<Record<string, unknown>>) =>
    // Firefox has no such id, and says `selected`.
    entry['id'] === transport['selectedCandidatePairId'] || entry['selected'] === true;
  const sent = find('outbound-rtp');
  const received = find('inbound-rtp');
  const played = find('media-playout');
  const pair = entries.find((entry) => entry['type'] === 'candidate-pair' && isInUse(entry)) ?? {};
  return {
    sending: mean(sent['totalPacketSendDelay'], sent['packetsSent']),
    waiting: mean(received['jitterBufferDelay'], received['jitterBufferEmittedCount']),
    playing: mean(played['totalPlayoutDelay'], played['totalSamplesCount']),
    packetsLost: count(received['packetsLost']),
    packetsReceived: count(received['packetsReceived']),
    concealedSamples: count(received['concealedSamples']),
    totalSamples: count(received['totalSamplesReceived']),
    roundTrip: finite(pair['currentRoundTripTime']),
  };
}

/** What is known of a microphone. */
export function device(track: MediaStreamTrack): Device {
  const settings: Readonly<Record<string, unknown>> = { ...track.getSettings() };
  const stats: unknown = 'stats' in track ? track.stats : null;
  return {
    block: finite(settings['latency']),
    delayMs: isRecord(stats) ? finite(stats['averageLatency']) : null,
    cancelsEcho: settings['echoCancellation'] === true,
    suppressesNoise: settings['noiseSuppression'] === true,
  };
}

/** What is to be said of the time between two readings; `codecMs` is what coding the sound takes. */
export function figures(
  before: Totals | null,
  now: Totals,
  microphone: Device,
  codecMs: number,
): Figures {
  const since = (of: 'sending' | 'waiting' | 'playing') => average(before?.[of], now[of]);
  return known({
    capture_ms: captureMs(microphone) + codecMs + (since('sending') ?? 0),
    jitter_buffer_ms: since('waiting'),
    output_latency_ms: since('playing'),
    packets_lost: now.packetsLost,
    packets_received: now.packetsReceived,
    concealed_samples: now.concealedSamples,
    total_samples: now.totalSamples,
    round_trip_ms: inMs(now.roundTrip),
  });
}

/**
 * From a sound to the track, if it is the last one of its block: that a block has to fill is part of
 * the wait for a packet to fill.
 */
export function captureMs(microphone: Device): number {
  const { block, delayMs, cancelsEcho, suppressesNoise } = microphone;
  const beyondBlock = delayMs === null ? UNKNOWN_DEVICE_MS : delayMs - (block ?? 0) * 1000;
  const cleaning =
    (cancelsEcho ? ECHO_CANCELLATION_MS : 0) + (suppressesNoise ? NOISE_SUPPRESSION_MS : 0);
  return Math.min(Math.max(0, beyondBlock), MAX_DELAY_MS) + cleaning;
}

/** Leaves out what is not known. */
export function known(all: { [Name in keyof Figures]: number | null }): Figures {
  return Object.fromEntries(Object.entries(all).filter(([, figure]) => figure !== null));
}

/** Of what has been added, in milliseconds; `null` if that is nothing, or makes no sense. */
function average(before: Mean | undefined, now: Mean): number | null {
  if (now.sum === null || now.of === null) return null;
  const of = now.of - (before?.of ?? 0);
  const sum = now.sum - (before?.sum ?? 0);
  return of > 0 ? inMs(sum / of) : null;
}

function inMs(seconds: number | null): number | null {
  if (seconds === null) return null;
  const ms = seconds * 1000;
  return ms >= 0 && ms <= MAX_DELAY_MS ? ms : null;
}

function mean(sum: unknown, of: unknown): Mean {
  return { sum: finite(sum), of: finite(of) };
}

/** Browsers count lost packets below zero when some come twice. */
function count(value: unknown): number | null {
  const known = finite(value);
  return known === null ? null : Math.max(0, Math.round(known));
}

function finite(value: unknown): number | null {
  return typeof value === 'number' && Number.isFinite(value) ? value : null;
}
