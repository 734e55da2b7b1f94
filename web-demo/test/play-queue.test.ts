import { describe, expect, it } from 'vitest';
import { PlayQueue } from '../client/play-queue';

const ones = (length: number) => new Int16Array(length).fill(0x4000);
const silent = (samples: Float32Array) => samples.every((sample) => sample === 0);
const loud = (samples: Float32Array) => samples.every((sample) => sample === 0.5);

function pull(queue: PlayQueue, blocks = 1): Float32Array {
  const sound = new Float32Array(128 * blocks);
  for (let at = 0; at < sound.length; at += 128) queue.pull(sound.subarray(at, at + 128));
  return sound;
}

describe('PlayQueue', () => {
  it('waits for the first 40 ms before it sounds', () => {
    const queue = new PlayQueue(960);
    queue.push(7000, ones(959));
    expect(silent(pull(queue))).toBe(true);
    queue.push(7959, ones(1));
    expect(loud(pull(queue))).toBe(true);
    expect(queue.position).toBe(7128);
  });

  it('plays a tail that is shorter than that once nothing more has come', () => {
    const queue = new PlayQueue(960, 256);
    queue.push(0, ones(64));
    const sound = pull(queue, 3);
    expect(queue.position).toBe(64);
    expect(loud(sound.subarray(256, 320))).toBe(true);
    expect(silent(sound.subarray(320))).toBe(true);
  });

  it('leaves silence where the timeline has none to play', () => {
    const queue = new PlayQueue(1);
    queue.push(0, ones(100));
    queue.push(164, ones(100));
    const sound = pull(queue, 2);
    expect(loud(sound.subarray(0, 100))).toBe(true);
    expect(silent(sound.subarray(100, 164))).toBe(true);
    expect(loud(sound.subarray(164, 256))).toBe(true);
    expect(queue.position).toBe(256);
  });

  it('plays late what comes late, and begins in time after a silence', () => {
    const queue = new PlayQueue(1);
    queue.push(0, ones(128));
    expect(silent(pull(queue, 4).subarray(128))).toBe(true);
    queue.push(128, ones(128));
    expect(loud(pull(queue))).toBe(true);
    queue.push(48_000, ones(128));
    expect(loud(pull(queue))).toBe(true);
    expect(queue.position).toBe(48_128);
  });

  it('plays nothing twice: the timeline only goes forward', () => {
    const queue = new PlayQueue(1);
    queue.push(0, ones(256));
    queue.push(0, ones(256));
    queue.push(200, ones(128));
    expect(queue.queued).toBe(328);
    expect(queue.end).toBe(328);
  });

  it('takes a sample more or less for rounding', () => {
    const queue = new PlayQueue(1);
    queue.push(10, ones(128));
    queue.push(139, ones(128));
    queue.push(264.6, ones(128));
    expect(loud(pull(queue, 3))).toBe(true);
  });

  it('takes no more than may wait', () => {
    const queue = new PlayQueue(1, 1, 300);
    queue.push(0, ones(200));
    queue.push(200, ones(200));
    expect(queue.queued).toBe(200);
  });

  it('fades out on a flush, says where, and plays nothing of what it dropped', () => {
    const queue = new PlayQueue(1);
    queue.push(0, ones(1000));
    pull(queue);
    queue.flush();
    const block = new Float32Array(128);
    expect(queue.pull(block)).toEqual([256]);
    expect(block[0]).toBeGreaterThan(0.4);
    expect(block[127]).toBe(0);
    queue.push(500, ones(100));
    expect(silent(pull(queue, 2))).toBe(true);
  });

  it('keeps what was pushed after the flush', () => {
    const queue = new PlayQueue(1);
    queue.push(0, ones(1000));
    pull(queue);
    queue.flush();
    queue.push(1000, ones(500));
    pull(queue);
    expect(queue.queued).toBe(500);
    expect(loud(pull(queue))).toBe(true);
    expect(queue.position).toBe(1128);
  });

  it('answers each of two flushes in one block', () => {
    const queue = new PlayQueue(1);
    queue.push(0, ones(300));
    queue.flush();
    queue.push(300, ones(300));
    queue.flush();
    expect(queue.pull(new Float32Array(128))).toHaveLength(2);
    expect(queue.queued).toBe(0);
  });

  it('says at once that a flush of silence cut nothing', () => {
    const queue = new PlayQueue();
    queue.flush();
    expect(queue.pull(new Float32Array(128))).toEqual([0]);
  });
});
