/**
 * Streaming sample-rate conversion by a windowed sinc, for browsers that cannot capture at
 * 24 kHz themselves. Block boundaries leave no trace: the same input gives the same output
 * however it is cut.
 */
export class Resampler {
  readonly #step: number;
  readonly #cutoff: number;
  readonly #reach: number;
  #history: Float32Array;
  /** Where the next output sample lies, in input samples from the start of the history. */
  #at: number;

  constructor(from: number, to: number, zeroCrossings = 16) {
    this.#step = from / to;
    this.#cutoff = Math.min(1, to / from) * 0.95;
    this.#reach = Math.ceil(zeroCrossings / this.#cutoff);
    this.#history = new Float32Array(this.#reach);
    this.#at = this.#reach;
  }

  process(input: Float32Array): Float32Array {
    const samples = new Float32Array(this.#history.length + input.length);
    samples.set(this.#history);
    samples.set(input, this.#history.length);
    const output: number[] = [];
    for (; this.#at + this.#reach < samples.length; this.#at += this.#step) {
      output.push(this.#convolve(samples, this.#at));
    }
    const drop = Math.max(0, Math.floor(this.#at) - this.#reach);
    this.#history = samples.slice(drop);
    this.#at -= drop;
    return Float32Array.from(output);
  }

  #convolve(samples: Float32Array, at: number): number {
    let sum = 0;
    const first = Math.max(0, Math.ceil(at - this.#reach));
    const last = Math.min(samples.length - 1, Math.floor(at + this.#reach));
    for (let i = first; i <= last; i++) {
      const distance = i - at;
      const window = 0.5 + 0.5 * Math.cos((Math.PI * distance) / this.#reach);
      sum += samples[i]! * this.#cutoff * sinc(distance * this.#cutoff) * window;
    }
    return sum;
  }
}

function sinc(x: number): number {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}
