/**
 * A call over WebSocket, for networks that let no UDP through: sound travels inside the events. The
 * relay owns the playback, as over WebRTC: its sound has positions on the relay's timeline, is
 * dropped when the relay says so, and what has come out of the speaker is reported.
 */

import { Audio } from './audio';
import { CallError } from './failure';
import { Inbox } from './inbox';
import type { Microphone } from './microphone';
import { decodeBase64, encodeBase64, samplesToMs, SAMPLE_RATE } from './pcm';
import { Pings } from './pings';
import { parseEvent, number, text, type ClientEvent, type ServerEvent } from './protocol';
import { known, STATS_MS } from './stats';
import type { Levels, Listener, Target, Transport } from './transport';
import type { FromSpeaker, Played } from './worklet';

/** Sound that waits for a slow uplink at most; what comes on top is dropped, as in a gap. */
const MAX_BUFFERED_BYTES = 512 * 1024;
/** Closes one connection of several to a session; hanging up is 1000. */
const LEFT = 4001;
/** OpenAI's code for a session that is refused. */
const REFUSED = 4000;
/** The relay owns the playback. */
const PLAYOUT = 'voxline.playout';
/** How long the speaker may take to say where it has fallen silent. */
const SPEAKER_MS = 200;

/** Microphone and speaker, which one socket after another has the use of. */
export class Sound {
  readonly audio: Audio;
  #user: WebSocketTransport | null = null;
  /** Where the last sound was, in milliseconds; `null` before the first one. */
  #position: number | null = null;
  #flushes: ((position: number | null) => void)[] = [];

  static async open(microphone: Microphone): Promise<Sound> {
    return new Sound(await Audio.open(microphone.stream));
  }

  private constructor(audio: Audio) {
    this.audio = audio;
  }

  get user(): WebSocketTransport | null {
    return this.#user;
  }

  /** The sound is this socket's from here on; what another one has brought, the relay sends again. */
  use(user: WebSocketTransport): void {
    if (this.#user === user) return;
    const first = this.#user === null;
    this.#user = user;
    this.#position = null;
    if (first) {
      this.audio.start(
        (samples) => this.#user?.hear(samples),
        (message) => this.#speakerSays(message),
      );
    } else {
      this.audio.flush();
      this.#flushes.push(() => {});
    }
  }

  /** Drops what waits, and tells where the last sound was. */
  flush(): Promise<number | null> {
    this.audio.flush();
    return new Promise((resolve) => {
      this.#flushes.push(resolve);
      setTimeout(() => resolve(this.#position), SPEAKER_MS);
    });
  }

  close(): void {
    this.audio.close();
  }

  #speakerSays(message: FromSpeaker): void {
    if ('played' in message) {
      this.#position = samplesToMs(message.played);
      return this.#user?.played(message);
    }
    // Before the first sound for this socket it is another one's.
    if (this.#position !== null) this.#position = samplesToMs(message.flushed);
    this.#flushes.shift()?.(this.#position);
  }
}

export class WebSocketTransport implements Transport {
  readonly kind = 'websocket';
  readonly callId = null;
  readonly #socket: WebSocket;
  readonly #sound: Sound;
  readonly #listener: Listener;
  readonly #inbox: Inbox;
  readonly #pings: Pings;
  readonly #stats: ReturnType<typeof setInterval>;
  /** What waited for the speaker when it last told. */
  #queuedMs: number | null = null;
  #closed = false;

  static async open(target: Target, sound: Sound, listener: Listener): Promise<Transport> {
    const socket = dial(target);
    const transport = new WebSocketTransport(socket, sound, listener, target);
    try {
      await opened(socket, target.signal);
      return transport;
    } catch (error) {
      transport.leave();
      throw error;
    }
  }

  private constructor(socket: WebSocket, sound: Sound, listener: Listener, { wish }: Target) {
    this.#socket = socket;
    this.#sound = sound;
    this.#listener = listener;
    this.#inbox = new Inbox((event) => this.#listener.event(event));
    this.#pings = new Pings(
      (ping) => this.send({ type: 'voxline.ping', ...ping }),
      (silent) => listener.unsteady(silent),
    );
    this.#stats = setInterval(() => this.#reportStats(), STATS_MS);
    socket.addEventListener('open', () => {
      this.#pings.heard();
      if (!wish) return;
      this.send({ type: 'session.update', session: { type: 'realtime', ...wish.session } });
      sound.use(this);
    });
    socket.addEventListener('message', ({ data }) => this.#receive(data, performance.now()));
    socket.addEventListener('close', ({ code, reason }) => {
      this.#stop();
      if (!this.#closed) listener.ended({ code, reason });
    });
  }

  begin(): void {
    this.#inbox.open();
  }

  restart(): Promise<void> {
    return Promise.reject(new CallError('unsupported', 'a WebSocket has one way only'));
  }

  async hush(): Promise<number | null> {
    return this.#sound.user === this ? await this.#sound.flush() : null;
  }

  send(event: ClientEvent): boolean {
    if (this.#socket.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(event));
    return true;
  }

  interrupt(active: string | null): void {
    void this.hush();
    if (active !== null) this.send({ type: 'response.cancel', response_id: active });
    this.send({ type: 'output_audio_buffer.clear' });
  }

  mute(muted: boolean): void {
    this.#sound.audio.mute(muted);
  }

  levels(): Levels {
    return this.#sound.audio.levels();
  }

  close(): void {
    this.#part(1000);
  }

  leave(): void {
    this.#part(LEFT);
  }

  hear(samples: Int16Array): void {
    if (this.#socket.bufferedAmount > MAX_BUFFERED_BYTES) return;
    this.send({ type: 'input_audio_buffer.append', audio: encodeBase64(samples) });
  }

  /** The speaker has got as far as this. */
  played({ played, at, queued }: Played): void {
    const { audio } = this.#sound;
    this.#queuedMs = samplesToMs(queued);
    const heardAt = audio.heardAt(at);
    // The audio thread is ahead by the rest of what the device asks for at once.
    const madeAt = Math.min(heardAt - audio.latencyMs, performance.now());
    this.send({
      type: 'voxline.playout',
      position_ms: samplesToMs(played),
      at_ms: madeAt,
      output_latency_ms: heardAt - madeAt,
    });
  }

  #reportStats(): void {
    const { audio } = this.#sound;
    if (this.#sound.user !== this) return;
    const told = known({
      capture_ms: audio.captureMs,
      jitter_buffer_ms: this.#queuedMs,
      output_latency_ms: audio.latencyMs,
      round_trip_ms: this.#pings.roundTrip,
    });
    this.#queuedMs = null;
    this.send({ type: 'voxline.stats', ...told });
  }

  #receive(data: unknown, at: number): void {
    const event = parseEvent(data);
    if (!event || this.#closed) return;
    this.#pings.heard();
    switch (event.type) {
      case 'voxline.audio':
        return this.#play(event);
      case 'voxline.flush':
        return void this.hush();
      case 'voxline.waiting':
        return void this.#sayWhatWasHeard();
      case 'voxline.pong': {
        const ms = this.#pings.pong(number(event, 'id'), at);
        if (ms !== null) this.#listener.roundTrip(ms);
        return;
      }
    }
    if (event.type === 'session.created') {
      // Who is turned away is told so first.
      if (this.#socket.protocol !== PLAYOUT) return this.#isOld();
      this.#sound.use(this);
    }
    this.#listener.arrived(event);
    this.#inbox.receive(event);
  }

  #play(event: ServerEvent): void {
    const samples = decodeBase64(text(event, 'audio'));
    const position = Math.round((number(event, 'position_ms') / 1000) * SAMPLE_RATE);
    if (samples?.length && this.#sound.user === this) this.#sound.audio.play(position, samples);
  }

  /** The relay has not heard of this side for a while, and waits to know where to go on. */
  async #sayWhatWasHeard(): Promise<void> {
    const position = await this.hush();
    this.send({ type: 'voxline.heard', position_ms: position ?? 0 });
  }

  /** The relay is older than this page, or the session is one that the page would play itself. */
  #isOld(): void {
    this.leave();
    this.#listener.ended({ code: REFUSED, reason: 'the relay does not own playback' });
  }

  #part(code: number): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#stop();
    this.#socket.close(code);
  }

  #stop(): void {
    this.#pings.stop();
    clearInterval(this.#stats);
  }
}

function dial({ baseUrl, bearer, device, wish, heardMs }: Target): WebSocket {
  const url = new URL('/v1/realtime', baseUrl);
  url.protocol = url.protocol.replace('http', 'ws');
  if (wish) url.searchParams.set('model', wish.model);
  if (heardMs !== null) url.searchParams.set('heard_ms', String(heardMs));
  const protocols = ['realtime', `openai-insecure-api-key.${bearer}`, 'voxline.v1', PLAYOUT];
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
