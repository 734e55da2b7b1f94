interface Piece {
  position: number;
  samples: Int16Array;
}

/**
 * What waits for the speaker, in the order of the relay's timeline. It runs in the audio thread.
 *
 * Positions are samples on that timeline, which also runs through silence. The relay sends each
 * piece a little ahead of its time, and what is here when something is missing plays first: what
 * comes late is played late, and the delay that this makes ends with the next silence.
 *
 * Invariants: the timeline only goes forward, so nothing is played twice; what lies between two
 * pieces is silence; after a flush nothing is played that was here before.
 */
export class PlayQueue {
  readonly #prime: number;
  readonly #patience: number;
  readonly #limit: number;
  #pieces: Piece[] = [];
  /** What a flush has come upon, and the next block fades out. */
  #doomed: Piece[] = [];
  #queued = 0;
  /** Where what has come ends on the timeline. */
  #end = 0;
  /** Where what was played ends. */
  #position = 0;
  #sounding = false;
  #waited = 0;
  #flushes = 0;

  /**
   * Sound starts once `prime` samples are queued, so that the first jitter is not heard, or once
   * what is queued has waited as long as `patience` and no more came. At most `limit` samples wait.
   */
  constructor(prime = 960, patience = 2400, limit = 30 * 24_000) {
    this.#prime = prime;
    this.#patience = patience;
    this.#limit = limit;
  }

  /** Where on the timeline the last sound was. */
  get position(): number {
    return this.#position;
  }

  get queued(): number {
    return this.#queued;
  }

  /** Where on the timeline the last sound is that has come. */
  get end(): number {
    return this.#end;
  }

  push(position: number, samples: Int16Array): void {
    // A sample more or less is rounding.
    const start = Math.abs(position - this.#end) <= 2 ? this.#end : position;
    const late = Math.max(0, this.#end - start);
    const rest = samples.subarray(Math.min(late, samples.length));
    if (rest.length === 0 || this.#queued + rest.length > this.#limit) return;
    this.#pieces.push({ position: start + late, samples: rest });
    this.#queued += rest.length;
    this.#end = start + late + rest.length;
  }

  /** Drops what is queued now; the next block fades out. */
  flush(): void {
    this.#doomed.push(...this.#pieces);
    this.#pieces = [];
    this.#queued = 0;
    this.#flushes += 1;
  }

  /** Fills a block. Gives, for each flush that it carries out, the position of the last sound. */
  pull(block: Float32Array): number[] {
    block.fill(0);
    if (this.#flushes > 0) return this.#fadeOut(block);
    if (!this.#sounding) {
      this.#waited = this.#queued > 0 ? this.#waited + block.length : 0;
      this.#sounding = this.#queued >= this.#prime || this.#waited > this.#patience;
      // The silence before is over.
      if (this.#sounding) this.#position = this.#pieces[0]!.position;
    }
    if (this.#sounding) this.#queued -= this.#take(this.#pieces, block);
    if (this.#queued === 0) this.#sounding = false;
    return [];
  }

  #fadeOut(block: Float32Array): number[] {
    if (this.#sounding) this.#take(this.#doomed, block);
    for (let i = 0; i < block.length; i++) block[i]! *= 1 - (i + 1) / block.length;
    const heard = Array.from({ length: this.#flushes }, () => this.#position);
    this.#doomed = [];
    this.#flushes = 0;
    this.#sounding = false;
    this.#waited = 0;
    return heard;
  }

  /** Fills a block from these pieces; gives how many samples that took. */
  #take(pieces: Piece[], block: Float32Array): number {
    let filled = 0;
    let taken = 0;
    while (filled < block.length) {
      const piece = pieces[0];
      if (!piece) break;
      const gap = Math.min(piece.position - this.#position, block.length - filled);
      const count = Math.min(block.length - filled - gap, piece.samples.length);
      for (let i = 0; i < count; i++) block[filled + gap + i] = piece.samples[i]! / 0x8000;
      filled += gap + count;
      taken += count;
      this.#position += gap + count;
      piece.samples = piece.samples.subarray(count);
      piece.position += count;
      if (piece.samples.length === 0) pieces.shift();
    }
    return taken;
  }
}
