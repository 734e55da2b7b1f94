/**
 * What waits for the speaker, and how much of it has left. It runs in the audio thread.
 *
 * `position` counts every sample taken from the queue since the beginning, played or dropped:
 * the same timeline as the order of appending, so one number says what was heard of each item.
 */
export class PlayQueue {
  readonly #prime: number;
  readonly #patience: number;
  #chunks: Int16Array[] = [];
  #offset = 0;
  #queued = 0;
  #position = 0;
  #sounding = false;
  #waited = 0;
  #doomed = 0;
  #flushes = 0;

  /**
   * Sound starts once `prime` samples are queued, so that the first jitter is not heard, or once
   * what is queued has waited as long as that and no more came.
   */
  constructor(prime = 960, patience = 2400) {
    this.#prime = prime;
    this.#patience = patience;
  }

  get position(): number {
    return this.#position;
  }

  get queued(): number {
    return this.#queued;
  }

  push(samples: Int16Array): void {
    if (samples.length === 0) return;
    this.#chunks.push(samples);
    this.#queued += samples.length;
  }

  /** Drops what is queued now; the next block fades out. */
  flush(): void {
    this.#doomed = this.#queued;
    this.#flushes += 1;
  }

  /** Fills a block. Gives, for each flush that it carries out, the position of the last sound. */
  pull(block: Float32Array): number[] {
    block.fill(0);
    if (this.#flushes > 0) return this.#fadeOut(block);
    if (!this.#sounding) {
      this.#waited = this.#queued > 0 ? this.#waited + block.length : 0;
      this.#sounding = this.#queued >= this.#prime || this.#waited > this.#patience;
    }
    if (this.#sounding) this.#sounding = this.#take(block, block.length) === block.length;
    return [];
  }

  #fadeOut(block: Float32Array): number[] {
    if (this.#sounding) this.#doomed -= this.#take(block, Math.min(block.length, this.#doomed));
    for (let i = 0; i < block.length; i++) block[i]! *= 1 - (i + 1) / block.length;
    const heard = Array.from({ length: this.#flushes }, () => this.#position);
    this.#take(new Float32Array(this.#doomed), this.#doomed);
    this.#doomed = 0;
    this.#flushes = 0;
    this.#sounding = false;
    this.#waited = 0;
    return heard;
  }

  #take(block: Float32Array, wanted: number): number {
    let filled = 0;
    while (filled < wanted) {
      const chunk = this.#chunks[0];
      if (!chunk) break;
      const count = Math.min(wanted - filled, chunk.length - this.#offset);
      for (let i = 0; i < count; i++) block[filled + i] = chunk[this.#offset + i]! / 0x8000;
      filled += count;
      this.#offset += count;
      if (this.#offset === chunk.length) {
        this.#chunks.shift();
        this.#offset = 0;
      }
    }
    this.#position += filled;
    this.#queued -= filled;
    return filled;
  }
}
