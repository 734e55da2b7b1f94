import { describe, expect, it } from 'vitest';
import { loudness } from '../client/levels';
import { decodeBase64, encodeBase64, samplesToMs, toInt16 } from '../client/pcm';
import { Resampler } from '../client/resample';

function tone(frequency: number, rate: number, length: number): Float32Array {
  return Float32Array.from({ length }, (_, i) => Math.sin((2 * Math.PI * frequency * i) / rate));
}

function rms(samples: Float32Array): number {
  return Math.sqrt(samples.reduce((sum, sample) => sum + sample ** 2, 0) / samples.length);
}

describe('PCM', () => {
  it('survives base64', () => {
    const samples = Int16Array.from([0, 1, -1, 32767, -32768, 256, -257]);
    expect(decodeBase64(encodeBase64(samples))).toEqual(samples);
  });

  it('is little-endian', () => {
    expect(encodeBase64(Int16Array.from([1]))).toBe('AQA=');
  });

  it('drops half a sample and refuses what is not base64', () => {
    expect(decodeBase64('AQAB')).toEqual(Int16Array.from([1]));
    expect(decodeBase64('*')).toBeNull();
  });

  it('clips instead of wrapping around', () => {
    expect([2, 1, 0, -1, -2].map(toInt16)).toEqual([32767, 32767, 0, -32768, -32768]);
  });

  it('has 24 samples in a millisecond', () => {
    expect(samplesToMs(36)).toBe(1.5);
  });
});

describe('Resampler', () => {
  it.each([44_100, 48_000, 16_000])('keeps a tone of 1 kHz from %i Hz', (rate) => {
    const output = new Resampler(rate, 24_000).process(tone(1000, rate, rate));
    expect(Math.abs(output.length - 24_000)).toBeLessThan(60);
    expect(rms(output.subarray(500, -500))).toBeCloseTo(Math.SQRT1_2, 2);
  });

  it('keeps out what 24 kHz cannot carry', () => {
    const output = new Resampler(48_000, 24_000).process(tone(15_000, 48_000, 48_000));
    expect(rms(output.subarray(500))).toBeLessThan(0.002);
  });

  it('gives the same however the input is cut', () => {
    const input = tone(440, 44_100, 4410);
    const whole = new Resampler(44_100, 24_000).process(input);
    const resampler = new Resampler(44_100, 24_000);
    const parts: number[] = [];
    for (let at = 0; at < input.length; at += 128) {
      parts.push(...resampler.process(input.subarray(at, at + 128)));
    }
    expect(parts.length).toBe(whole.length);
    for (const [i, sample] of parts.entries()) expect(sample).toBeCloseTo(whole[i]!, 5);
  });
});

describe('loudness', () => {
  it('runs from silence to full scale', () => {
    expect(loudness(new Float32Array(100))).toBe(0);
    expect(loudness(new Float32Array(100).fill(1))).toBe(1);
    expect(loudness(new Float32Array(100).fill(0.0316))).toBeCloseTo(0.5, 2);
  });
});
