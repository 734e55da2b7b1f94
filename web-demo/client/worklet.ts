/**
 * The audio thread's part of the WebSocket transport: a module of its own, loaded by
 * `audioWorklet.addModule`, so that it works under `default-src 'self'`.
 */

import { PlayQueue } from './play-queue';
import { SAMPLE_RATE, toInt16 } from './pcm';
import { Resampler } from './resample';

declare const sampleRate: number;
declare const currentTime: number;
declare function registerProcessor(name: string, processor: unknown): void;
declare class AudioWorkletProcessor {
  readonly port: MessagePort;
}

/** Page to speaker: samples for a position of the timeline, or `flush`. */
export type ToSpeaker =
  { readonly position: number; readonly samples: Int16Array<ArrayBuffer> } | 'flush';
/** Speaker to page: how far playback has got, or where a flush cut it. */
export type FromSpeaker = Played | { readonly flushed: number };

export interface Played {
  /** The position where what was played ends, ... */
  readonly played: number;
  /** ... when that is, in seconds of the context's time, and how many samples wait behind it. */
  readonly at: number;
  readonly queued: number;
}

/** A microphone block of 30 ms: small enough for latency, large enough for the socket. */
const BLOCK = (SAMPLE_RATE * 30) / 1000;

class Microphone extends AudioWorkletProcessor {
  readonly #resampler = sampleRate === SAMPLE_RATE ? null : new Resampler(sampleRate, SAMPLE_RATE);
  #block = new Int16Array(BLOCK);
  #filled = 0;

  process([input]: Float32Array[][]): boolean {
    const channel = input?.[0];
    if (!channel) return true;
    for (const sample of this.#resampler?.process(channel) ?? channel) {
      this.#block[this.#filled++] = toInt16(sample);
      if (this.#filled === BLOCK) {
        this.port.postMessage(this.#block, [this.#block.buffer]);
        this.#block = new Int16Array(BLOCK);
        this.#filled = 0;
      }
    }
    return true;
  }
}

class Speaker extends AudioWorkletProcessor {
  readonly #queue = new PlayQueue();
  #reported = 0;

  constructor() {
    super();
    this.port.addEventListener('message', ({ data }: MessageEvent<ToSpeaker>) => {
      if (data === 'flush') this.#queue.flush();
      else this.#queue.push(data.position, data.samples);
    });
    this.port.start();
  }

  process(_inputs: Float32Array[][], [output]: Float32Array[][]): boolean {
    const channel = output?.[0];
    if (!channel) return true;
    for (const flushed of this.#queue.pull(channel)) this.#say({ flushed });
    const { position, queued } = this.#queue;
    const due = position - this.#reported >= SAMPLE_RATE / 10 || queued === 0;
    if (due && position !== this.#reported) {
      this.#reported = position;
      const at = currentTime + channel.length / sampleRate;
      this.#say({ played: position, at, queued });
    }
    return true;
  }

  #say(message: FromSpeaker): void {
    this.port.postMessage(message);
  }
}

registerProcessor('voxline-microphone', Microphone);
registerProcessor('voxline-speaker', Speaker);
