import { CallError } from './failure';
import { meter, type Meter } from './levels';
import { SAMPLE_RATE } from './pcm';
import { captureMs, device } from './stats';
import type { Levels } from './transport';
import type { FromSpeaker, ToSpeaker } from './worklet';
import workletUrl from './worklet?worker&url';

/** From a microphone's track to the audio thread. Measured in Chromium. */
const GRAPH_MS = 25;

/** The microphone and the speaker of the WebSocket transport. */
export class Audio {
  readonly #context: AudioContext;
  /** Where the browser can only capture at the device's own rate; else the same context. */
  readonly #captureContext: AudioContext | null;
  readonly #speaker: AudioWorkletNode;
  readonly #microphone: AudioWorkletNode | null;
  readonly #stream: MediaStream | null;
  readonly #meters: { readonly microphone: Meter; readonly assistant: Meter };

  static async open(stream: MediaStream | null): Promise<Audio> {
    const context = new AudioContext({ sampleRate: SAMPLE_RATE, latencyHint: 'interactive' });
    let capture: Capture | null;
    try {
      await loadWorklet(context);
      await context.resume();
      capture = stream && (await openCapture(context, stream));
    } catch (error) {
      void context.close();
      throw error;
    }
    return new Audio(context, stream, capture);
  }

  private constructor(context: AudioContext, stream: MediaStream | null, capture: Capture | null) {
    this.#context = context;
    this.#stream = stream;
    this.#captureContext = capture?.context ?? null;
    this.#microphone = capture?.node ?? null;
    this.#speaker = new AudioWorkletNode(context, 'voxline-speaker', {
      numberOfInputs: 0,
      outputChannelCount: [1],
    });
    this.#speaker.connect(context.destination);
    this.#meters = { microphone: capture?.meter ?? (() => 0), assistant: meter(this.#speaker) };
  }

  start(heard: (samples: Int16Array) => void, said: (message: FromSpeaker) => void): void {
    listen<Int16Array>(this.#microphone?.port, heard);
    listen<FromSpeaker>(this.#speaker.port, said);
  }

  /** Queues samples for a position of the relay's timeline, in samples. */
  play(position: number, samples: Int16Array<ArrayBuffer>): void {
    const message: ToSpeaker = { position, samples };
    this.#speaker.port.postMessage(message, [samples.buffer]);
  }

  /** From the audio thread to the ear, in milliseconds. */
  get latencyMs(): number {
    return (this.#context.outputLatency || this.#context.baseLatency) * 1000;
  }

  /** When what the audio thread made for this time of the context is heard, by `performance.now()`. */
  heardAt(contextTime: number): number {
    const { contextTime: heard = 0, performanceTime: at = 0 } = this.#context.getOutputTimestamp();
    // Before the first sound there is no such stamp.
    if (heard === 0 || at === 0) return performance.now() + this.latencyMs;
    return at + (contextTime - heard) * 1000;
  }

  /** What the microphone takes, in milliseconds, without the wait for a block to fill. */
  get captureMs(): number | null {
    const track = this.#stream?.getAudioTracks()[0];
    return track ? captureMs(device(track)) + GRAPH_MS : null;
  }

  flush(): void {
    this.#speaker.port.postMessage('flush');
  }

  mute(muted: boolean): void {
    for (const track of this.#stream?.getAudioTracks() ?? []) track.enabled = !muted;
  }

  levels(): Levels {
    return { microphone: this.#meters.microphone(), assistant: this.#meters.assistant() };
  }

  close(): void {
    this.#speaker.disconnect();
    this.#microphone?.disconnect();
    for (const context of new Set([this.#context, this.#captureContext])) {
      if (context && context.state !== 'closed') void context.close();
    }
  }
}

interface Capture {
  readonly context: AudioContext;
  readonly node: AudioWorkletNode;
  readonly meter: Meter;
}

/** The worklet comes from where the page came from. */
async function loadWorklet(context: AudioContext): Promise<void> {
  try {
    await context.audioWorklet.addModule(workletUrl);
  } catch {
    throw new CallError('unreachable', `no answer to ${new URL(workletUrl, location.href).href}`);
  }
}

async function openCapture(playback: AudioContext, stream: MediaStream): Promise<Capture> {
  let context = playback;
  let source: MediaStreamAudioSourceNode;
  try {
    source = context.createMediaStreamSource(stream);
  } catch (error) {
    // Firefox does not bring a microphone to another rate: then it is done in the worklet.
    if (!(error instanceof DOMException && error.name === 'NotSupportedError')) throw error;
    context = new AudioContext();
    await loadWorklet(context);
    source = context.createMediaStreamSource(stream);
  }
  const node = new AudioWorkletNode(context, 'voxline-microphone', { numberOfOutputs: 0 });
  source.connect(node);
  return { context, node, meter: meter(source) };
}

function listen<T>(port: MessagePort | undefined, handle: (data: T) => void): void {
  port?.addEventListener('message', ({ data }: MessageEvent<T>) => handle(data));
  port?.start();
}
