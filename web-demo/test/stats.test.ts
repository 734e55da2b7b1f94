import { describe, expect, it } from 'vitest';
import { captureMs, device, figures, totals, type Device } from '../client/stats';

const PLAIN = { cancelsEcho: false, suppressesNoise: false };
const MICROPHONE: Device = { block: 0.01, delayMs: 0.31, ...PLAIN };

/** What Chromium 156 has of a call, before and after a second of an answer. */
const BEFORE = [
  { id: 'T01', type: 'transport', selectedCandidatePairId: 'CP2' },
  { id: 'CP1', type: 'candidate-pair', nominated: true, currentRoundTripTime: 0.5 },
  { id: 'CP2', type: 'candidate-pair', nominated: true, currentRoundTripTime: 0 },
  {
    id: 'AP',
    type: 'media-playout',
    kind: 'audio',
    totalPlayoutDelay: 7518.729834,
    totalSamplesCount: 250929,
  },
  {
    id: 'IT01A653154727',
    type: 'inbound-rtp',
    kind: 'audio',
    packetsLost: 0,
    packetsReceived: 51,
    concealedSamples: 0,
    jitterBufferDelay: 2678.4,
    jitterBufferEmittedCount: 47040,
    totalSamplesReceived: 47040,
  },
  {
    id: 'OT01A2382315683',
    type: 'outbound-rtp',
    kind: 'audio',
    packetsSent: 280,
    totalPacketSendDelay: 0,
  },
];
const AFTER = [
  { id: 'T01', type: 'transport', selectedCandidatePairId: 'CP2' },
  { id: 'CP2', type: 'candidate-pair', nominated: true, currentRoundTripTime: 0.001 },
  {
    id: 'AP',
    type: 'media-playout',
    kind: 'audio',
    totalPlayoutDelay: 8868.189834,
    totalSamplesCount: 295911,
  },
  {
    id: 'IT01A653154727',
    type: 'inbound-rtp',
    kind: 'audio',
    packetsLost: 1,
    packetsReceived: 103,
    concealedSamples: 960,
    jitterBufferDelay: 5126.4,
    jitterBufferEmittedCount: 96000,
    totalSamplesReceived: 96960,
  },
  {
    id: 'OT01A2382315683',
    type: 'outbound-rtp',
    kind: 'audio',
    packetsSent: 331,
    totalPacketSendDelay: 0.051,
  },
];

const between = (before: object[], after: object[]) =>
  figures(totals(before), totals(after), MICROPHONE, 8);

describe('figures', () => {
  it('are of the time between two readings', () => {
    const told = between(BEFORE, AFTER);
    expect(told.capture_ms).toBeCloseTo(8 + 1);
    expect(told.jitter_buffer_ms).toBeCloseTo(50);
    expect(told.output_latency_ms).toBeCloseTo(30);
  });

  it('count what the connection has had in all', () => {
    expect(between(BEFORE, AFTER)).toMatchObject({
      packets_lost: 1,
      packets_received: 103,
      concealed_samples: 960,
      total_samples: 96960,
    });
  });

  it('have the round trip of the pair that is in use', () => {
    expect(between(AFTER, BEFORE).round_trip_ms).toBe(0);
    // As Firefox says it.
    const pairs = [
      { id: '{a}', type: 'candidate-pair', selected: false, currentRoundTripTime: 0.5 },
      { id: '{b}', type: 'candidate-pair', selected: true, currentRoundTripTime: 0.08 },
    ];
    expect(between([], pairs).round_trip_ms).toBe(80);
  });

  it('begin with the first reading', () => {
    const told = figures(null, totals(BEFORE), MICROPHONE, 8);
    expect(told.jitter_buffer_ms).toBeCloseTo((2678.4 / 47040) * 1000);
  });

  it('leave out what did not happen', () => {
    expect(between(BEFORE, BEFORE)).not.toHaveProperty('jitter_buffer_ms');
    expect(between(BEFORE, BEFORE)).not.toHaveProperty('output_latency_ms');
  });

  it('leave out what the browser does not tell', () => {
    expect(between([], [])).toEqual({ capture_ms: 8 });
  });

  it('leave out what makes no sense', () => {
    const senseless = AFTER.map((entry) => ({
      ...entry,
      jitterBufferDelay: Number.NaN,
      totalPlayoutDelay: 0,
      totalPacketSendDelay: 1e9,
      currentRoundTripTime: -1,
      packetsReceived: '103',
      packetsLost: -3,
    }));
    const told = between(BEFORE, senseless);
    expect(Object.keys(told).sort()).toEqual([
      'capture_ms',
      'concealed_samples',
      'packets_lost',
      'total_samples',
    ]);
    expect(told).toMatchObject({ capture_ms: 8, packets_lost: 0 });
  });
});

describe('a microphone', () => {
  it('takes what its track says, beyond the block that it fills', () => {
    expect(captureMs({ block: 0.01, delayMs: 25, ...PLAIN })).toBe(15);
    expect(captureMs({ block: 0.01, delayMs: 0.31, ...PLAIN })).toBe(0);
    expect(captureMs({ block: null, delayMs: 25, ...PLAIN })).toBe(25);
  });

  it('takes longer where the browser cleans the sound', () => {
    expect(captureMs({ block: 0.01, delayMs: 25, cancelsEcho: true, suppressesNoise: true })).toBe(
      27,
    );
  });

  it('takes 10 ms where nothing is known of it', () => {
    expect(captureMs({ block: null, delayMs: null, ...PLAIN })).toBe(10);
  });

  it('is read from its track', () => {
    const settings = { latency: 0.01, echoCancellation: true, noiseSuppression: true };
    const track = { getSettings: () => settings, stats: { averageLatency: 0.31 } };
    const known = { block: 0.01, delayMs: 0.31, cancelsEcho: true, suppressesNoise: true };
    expect(device(track as unknown as MediaStreamTrack)).toEqual(known);
    // As Firefox and Safari have it.
    const plain = { getSettings: () => ({ echoCancellation: false }) };
    const unknown = { block: null, delayMs: null, ...PLAIN };
    expect(device(plain as unknown as MediaStreamTrack)).toEqual(unknown);
  });
});
