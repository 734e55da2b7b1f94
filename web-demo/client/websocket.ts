/**
 * A call over WebSocket, for networks that let no UDP through: sound travels inside the events,
 * and this side owns the playback (see `Playback`). Both outlive a socket: what the next one
 * brings is played after what this one has brought.
 */

import { Audio } from './audio';
import { CallError } from './failure';
import { Inbox } from './inbox';
import type { Microphone } from './microphone';
import { encodeBase64, SAMPLE_RATE } from './pcm';
import { Pings } from './pings';
import { Playback, type Order } from './playback';
import { parseEvent, number, type ClientEvent, type ServerEvent } from './protocol';
import type { Levels, Listener, Target, Transport, Wish } from './transport';
import type { FromSpeaker } from './worklet';

/** Sound that waits for a slow uplink at most; what comes on top is dropped, as in a gap. */
const MAX_BUFFERED_BYTES = 512 * 1024;
/** Closes one connection of several to a session; hanging up is 1000. */
const LEFT = 4001;
const PCM = { type: 'audio/pcm', rate: SAMPLE_RATE };

export async function connectWebSocket(
  target: Target,
  microphone: Microphone,
  listener: Listener,
): Promise<Transport> {
  const sound = new Sound(await Audio.open(microphone.stream));
  try {
    return await WebSocketTransport.open(target, sound, listener);
  } catch (error) {
    sound.close();
    throw error;
  }
}

/** Microphone and speaker, which one socket after another has the use of. */
class Sound {
  readonly playback = new Playback();
  readonly audio: Audio;
  #user: WebSocketTransport | null = null;

  constructor(audio: Audio) {
    this.audio = audio;
  }

  get user(): WebSocketTransport | null {
    return this.#user;
  }

  use(user: WebSocketTransport): void {
    const first = this.#user === null;
    this.#user = user;
    if (!first) return;
    this.audio.start(
      (samples) => this.#user?.hear(samples),
      (message) => this.#user?.speakerSays(message),
    );
  }

  close(): void {
    this.audio.close();
  }
}

class WebSocketTransport implements Transport {
  readonly kind = 'websocket';
  readonly callId = null;
  readonly #socket: WebSocket;
  readonly #sound: Sound;
  readonly #listener: Listener;
  readonly #inbox: Inbox;
  readonly #pings: Pings;
  #sounding = false;
  #closed = false;

  static async open(target: Target, sound: Sound, listener: Listener): Promise<Transport> {
    const socket = dial(target);
    const transport = new WebSocketTransport(socket, sound, listener, target.wish);
    try {
      await opened(socket, target.signal);
    } catch (error) {
      transport.leave();
      throw error;
    }
    return transport;
  }

  private constructor(socket: WebSocket, sound: Sound, listener: Listener, wish: Wish | null) {
    this.#socket = socket;
    this.#sound = sound;
    this.#listener = listener;
    this.#inbox = new Inbox((event) => this.#handle(event));
    this.#pings = new Pings((id) => this.send({ type: 'voxline.ping', id }));
    socket.addEventListener('open', () => {
      if (!wish) return;
      this.send({ type: 'session.update', session: withPcm(wish.session) });
      sound.use(this);
    });
    socket.addEventListener('message', ({ data }) => this.#receive(data));
    socket.addEventListener('close', ({ code, reason }) => {
      if (!this.#closed) listener.ended({ code, reason });
    });
  }

  begin(): void {
    this.#inbox.open();
  }

  successor(target: Target, listener: Listener): Promise<Transport> {
    return WebSocketTransport.open(target, this.#sound, listener);
  }

  send(event: ClientEvent): boolean {
    if (this.#socket.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(event));
    return true;
  }

  interrupt(): void {
    this.#carryOut(this.#sound.playback.interrupt());
  }

  mute(muted: boolean): void {
    this.#sound.audio.mute(muted);
  }

  levels(): Levels {
    return this.#sound.audio.levels();
  }

  close(): void {
    this.#part(1000);
    this.#sound.close();
  }

  leave(): void {
    this.#part(LEFT);
  }

  hear(samples: Int16Array): void {
    if (this.#socket.bufferedAmount > MAX_BUFFERED_BYTES) return;
    this.send({ type: 'input_audio_buffer.append', audio: encodeBase64(samples) });
  }

  speakerSays(message: FromSpeaker): void {
    const { playback } = this.#sound;
    if ('flushed' in message) this.#carryOut(playback.flushed(message.flushed));
    else playback.played(message.played);
    this.#tellSounding();
  }

  #receive(data: unknown): void {
    const event = parseEvent(data);
    if (!event || this.#closed) return;
    if (event.type === 'voxline.pong') {
      const ms = this.#pings.pong(number(event, 'id'));
      if (ms !== null) this.#listener.roundTrip(ms);
      return;
    }
    if (event.type === 'session.created') this.#sound.use(this);
    this.#listener.arrived(event);
    this.#inbox.receive(event);
  }

  #handle(event: ServerEvent): void {
    const orders = this.#sound.playback.handle(event);
    this.#listener.event(event);
    this.#carryOut(orders);
  }

  #carryOut(orders: Order[]): void {
    for (const order of orders) {
      switch (order.do) {
        case 'play':
          this.#sound.audio.play(order.samples);
          break;
        case 'flush':
          this.#sound.audio.flush();
          break;
        case 'send':
          if (!this.#sound.user?.send(order.event)) this.#listener.unsent(order.event);
          break;
        case 'interrupted':
          this.#listener.interrupted(order.responseId, order.heardMs);
          break;
      }
    }
    this.#tellSounding();
  }

  #tellSounding(): void {
    const { sounding } = this.#sound.playback;
    if (this.#sounding === sounding) return;
    this.#sounding = sounding;
    this.#listener.sounding(sounding);
  }

  #part(code: number): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#pings.stop();
    this.#socket.close(code);
  }
}

function dial({ baseUrl, bearer, device, wish }: Target): WebSocket {
  const url = new URL('/v1/realtime', baseUrl);
  url.protocol = url.protocol.replace('http', 'ws');
  if (wish) url.searchParams.set('model', wish.model);
  const protocols = ['realtime', `openai-insecure-api-key.${bearer}`, 'voxline.v1'];
  if (device !== null) protocols.push(`voxline-device.${device}`);
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
function withPcm(session: Wish['session']): Record<string, unknown> {
  const audio = (session?.['audio'] ?? {}) as { input?: object; output?: object };
  return {
    type: 'realtime',
    ...session,
    audio: { input: { ...audio.input, format: PCM }, output: { ...audio.output, format: PCM } },
  };
}
