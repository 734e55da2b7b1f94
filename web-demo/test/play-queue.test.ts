import { describe, expect, it } from 'vitest';
import { PlayQueue } from '../client/play-queue';

const ones = (length: number) => new Int16Array(length).fill(0x4000);

describe('PlayQueue', () => {
  it('waits for the first 40 ms before it sounds', () => {
    const queue = new PlayQueue(960);
    const block = new Float32Array(128);
    queue.push(ones(959));
    queue.pull(block);
    expect(block.every((sample) => sample === 0)).toBe(true);
    queue.push(ones(1));
    queue.pull(block);
    expect(block.every((sample) => sample === 0.5)).toBe(true);
    expect(queue.position).toBe(128);
  });

  it('plays a tail that is shorter than that once nothing more has come', () => {
    const queue = new PlayQueue(960, 256);
    const block = new Float32Array(128);
    queue.push(ones(64));
    for (let pulls = 0; pulls < 3; pulls++) queue.pull(block);
    expect(queue.position).toBe(64);
    expect(block.subarray(0, 64).every((sample) => sample === 0.5)).toBe(true);
    expect(block.subarray(64).every((sample) => sample === 0)).toBe(true);
  });

  it('does not count the silence of an underrun as played', () => {
    const queue = new PlayQueue(1);
    const block = new Float32Array(128);
    queue.push(ones(100));
    for (let pulls = 0; pulls < 5; pulls++) queue.pull(block);
    expect(queue.position).toBe(100);
  });

  it('fades out on a flush, says where, and skips what it dropped', () => {
    const queue = new PlayQueue(1);
    const block = new Float32Array(128);
    queue.push(ones(1000));
    queue.pull(block);
    queue.flush();
    expect(queue.pull(block)).toEqual([256]);
    expect(block[0]).toBeGreaterThan(0.4);
    expect(block[127]).toBe(0);
    expect(queue.position).toBe(1000);
    expect(queue.queued).toBe(0);
  });

  it('keeps what was pushed after the flush', () => {
    const queue = new PlayQueue(1);
    const block = new Float32Array(128);
    queue.push(ones(1000));
    queue.pull(block);
    queue.flush();
    queue.push(ones(500));
    queue.pull(block);
    expect(queue.queued).toBe(500);
    queue.pull(block);
    expect(queue.position).toBe(1128);
  });

  it('answers each of two flushes in one block', () => {
    const queue = new PlayQueue(1);
    queue.push(ones(300));
    queue.flush();
    queue.push(ones(300));
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
