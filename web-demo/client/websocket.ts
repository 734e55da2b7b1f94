/**
 * A call over WebSocket, for networks that let no UDP through: sound travels inside the events,
 * and this side owns the playback (see `Playback`).
 */

import { Audio } from './audio';
import { CallError } from './failure';
import type { Microphone } from './microphone';
import { encodeBase64, SAMPLE_RATE } from './pcm';
import { Pings } from './pings';
import { Playback, type Order } from './playback';
import { parseEvent, number, type ClientEvent } from './protocol';
import type { Levels, Listener, Target, Transport } from './transport';
import type { FromSpeaker } from './worklet';

/** Sound that waits for a slow uplink at most; what comes on top is dropped, as in a gap. */
const MAX_BUFFERED_BYTES = 512 * 1024;
const PCM = { type: 'audio/pcm', rate: SAMPLE_RATE };

export async function connectWebSocket(
  target: Target,
  microphone: Microphone,
  listener: Listener,
): Promise<Transport> {
  const audio = await Audio.open(microphone.stream);
  try {
    return await WebSocketTransport.open(target, audio, listener);
  } catch (error) {
    audio.close();
    throw error;
  }
}

class WebSocketTransport implements Transport {
  readonly kind = 'websocket';
  readonly callId = null;
  readonly #socket: WebSocket;
  readonly #audio: Audio;
  readonly #listener: Listener;
  readonly #playback = new Playback();
  readonly #pings: Pings;
  #sounding = false;
  #closed = false;

  static async open(target: Target, audio: Audio, listener: Listener): Promise<Transport> {
    const socket = dial(target);
    const transport = new WebSocketTransport(socket, audio, listener, target);
    try {
      await opened(socket, target.signal);
    } catch (error) {
      transport.close();
      throw error;
    }
    return transport;
  }

  private constructor(socket: WebSocket, audio: Audio, listener: Listener, target: Target) {
    this.#socket = socket;
    this.#audio = audio;
    this.#listener = listener;
    this.#pings = new Pings((id) => this.send({ type: 'voxline.ping', id }));
    socket.addEventListener('open', () => {
      this.send({ type: 'session.update', session: withPcm(target.session) });
      audio.start(
        (samples) => this.#hear(samples),
        (message) => this.#speakerSays(message),
      );
    });
    socket.addEventListener('message', ({ data }) => this.#receive(data));
    socket.addEventListener('close', ({ code, reason }) => {
      if (!this.#closed) listener.ended({ code, reason });
    });
  }

  send(event: ClientEvent): void {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(event));
  }

  interrupt(): void {
    this.#carryOut(this.#playback.interrupt());
  }

  mute(muted: boolean): void {
    this.#audio.mute(muted);
  }

  levels(): Levels {
    return this.#audio.levels();
  }

  close(): void {
    this.#closed = true;
    this.#pings.stop();
    this.#socket.close(1000);
    this.#audio.close();
  }

  #hear(samples: Int16Array): void {
    if (this.#socket.bufferedAmount > MAX_BUFFERED_BYTES) return;
    this.send({ type: 'input_audio_buffer.append', audio: encodeBase64(samples) });
  }

  #receive(data: unknown): void {
    const event = parseEvent(data);
    if (!event || this.#closed) return;
    if (event.type === 'voxline.pong') {
      const ms = this.#pings.pong(number(event, 'id'));
      if (ms !== null) this.#listener.roundTrip(ms);
      return;
    }
    const orders = this.#playback.handle(event);
    this.#listener.event(event);
    this.#carryOut(orders);
  }

  #speakerSays(message: FromSpeaker): void {
    if ('flushed' in message) this.#carryOut(this.#playback.flushed(message.flushed));
    else this.#playback.played(message.played);
    this.#tellSounding();
  }

  #carryOut(orders: Order[]): void {
    for (const order of orders) {
      switch (order.do) {
        case 'play':
          this.#audio.play(order.samples);
          break;
        case 'flush':
          this.#audio.flush();
          break;
        case 'send':
          this.send(order.event);
          break;
        case 'interrupted':
          this.#listener.interrupted(order.responseId, order.heardMs);
          break;
      }
    }
    this.#tellSounding();
  }

  #tellSounding(): void {
    if (this.#sounding === this.#playback.sounding) return;
    this.#sounding = this.#playback.sounding;
    this.#listener.sounding(this.#sounding);
  }
}

function dial({ baseUrl, token, model }: Target): WebSocket {
  const url = new URL('/v1/realtime', baseUrl);
  url.protocol = url.protocol.replace('http', 'ws');
  url.searchParams.set('model', model);
  const protocols = ['realtime', `openai-insecure-api-key.${token}`, 'voxline.v1'];
  try {
    return new WebSocket(url, protocols);
  } catch (error) {
    if (error instanceof DOMException && error.name === 'SyntaxError') {
      throw new CallError('unauthorized', 'the key has characters that no key of a relay has');
    }
    throw error;
  }
}

function opened(socket: WebSocket, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const settled = new AbortController();
    const once = { signal: settled.signal };
    const settle = (how: () => void) => {
      settled.abort();
      how();
    };
    socket.addEventListener('open', () => settle(resolve), once);
    socket.addEventListener(
      'close',
      () => settle(() => void whyNot(socket.url).then(reject)),
      once,
    );
    signal.addEventListener('abort', () => settle(() => reject(signal.reason)), once);
  });
}

/** A browser does not tell why a WebSocket did not open; whether the relay answers says some. */
async function whyNot(url: string): Promise<CallError> {
  try {
    await fetch(url.replace(/^ws/, 'http').replace(/\?.*/, ''));
  } catch {
    return new CallError('unreachable', `no answer from ${new URL(url).host}`);
  }
  return new CallError('busy', 'the relay answers, but it took no WebSocket');
}

/** The session with this transport's sound format, whatever it asked for. */
function withPcm(session: Target['session']): Record<string, unknown> {
  const audio = (session?.['audio'] ?? {}) as { input?: object; output?: object };
  return {
    type: 'realtime',
    ...session,
    audio: { input: { ...audio.input, format: PCM }, output: { ...audio.output, format: PCM } },
  };
}
