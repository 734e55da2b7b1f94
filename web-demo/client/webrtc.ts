/**
 * A call over WebRTC: sound on the media tracks, events on the data channel `oai-events`, the
 * relay's own on `voxline`, and on `voxline.timing` what is worthless when late. The relay owns
 * the playback; what it needs to know for that is what this side reports: how far the ear has got.
 */

import { CallError, fromHttp } from './failure';
import { meter, type Meter } from './levels';
import type { Microphone } from './microphone';
import { Inbox } from './inbox';
import { Pings } from './pings';
import { number, parseEvent, type ClientEvent, type ServerEvent } from './protocol';
import { Reports } from './reports';
import { fragment, renewed } from './sdp';
import type { Levels, Listener, Target, Transport } from './transport';

/** How often this side looks whether its connection was closed. */
const LOOK_MS = 100;
/** One packet of sound. */
const PACKET_MS = 20;
const TICKS_PER_MS = 48;
const FRAGMENT = 'application/trickle-ice-sdpfrag';

export async function connectWebRtc(
  target: Target,
  microphone: Microphone,
  listener: Listener,
): Promise<Transport> {
  if (typeof RTCPeerConnection === 'undefined') {
    throw new CallError('unsupported', 'this browser has no WebRTC');
  }
  const transport = new WebRtcTransport(target, microphone, listener);
  try {
    await transport.open();
  } catch (error) {
    // An attempt to come back must not end the session for the next one.
    if (target.wish) transport.close();
    else transport.leave();
    throw error;
  }
  return transport;
}

class WebRtcTransport implements Transport {
  readonly kind = 'webrtc';
  readonly #target: Target;
  readonly #listener: Listener;
  readonly #peer = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
  readonly #inbox: Inbox;
  readonly #events: RTCDataChannel;
  readonly #notices: RTCDataChannel;
  readonly #timing: RTCDataChannel;
  readonly #context = new AudioContext({ latencyHint: 'interactive' });
  readonly #sender: RTCRtpSender;
  readonly #speaker = new Audio();
  readonly #microphoneMeter: Meter;
  readonly #pings: Pings;
  readonly #reports: Reports;
  readonly #look: ReturnType<typeof setInterval>;
  #assistantMeter: Meter = () => 0;
  /** The RTP timestamp of the timeline's beginning. */
  #origin: number | null = null;
  #track: MediaStreamTrack | null = null;
  #silent = false;
  #unsteady = false;
  /** The call's own URL, from `Location`, the ICE session there, and the answer. */
  #call: URL | null = null;
  #etag: string | null = null;
  #answer = '';
  #established = false;
  #closed = false;

  constructor(target: Target, microphone: Microphone, listener: Listener) {
    this.#target = target;
    this.#listener = listener;
    this.#inbox = new Inbox((event) => listener.event(event));
    const { stream } = microphone;
    const sound = stream ?? this.#context.createMediaStreamDestination().stream;
    this.#sender = this.#peer.addTrack(sound.getAudioTracks()[0]!, sound);
    this.#microphoneMeter = stream ? meter(this.#context.createMediaStreamSource(stream)) : () => 0;
    this.#events = this.#channel('oai-events', {});
    this.#notices = this.#channel('voxline', {});
    this.#timing = this.#channel('voxline.timing', { ordered: false, maxRetransmits: 0 });
    this.#pings = new Pings(
      (ping) => this.#time({ type: 'voxline.ping', ...ping }),
      (silent) => this.#doubt(silent),
    );
    const latency = () => (this.#context.outputLatency || this.#context.baseLatency) * 1000;
    this.#reports = new Reports(this.#peer, latency, (event) => this.#time(event));
    this.#look = setInterval(() => this.#lookAround(), LOOK_MS);
    this.#peer.addEventListener('track', ({ track }) => this.#play(track));
    this.#peer.addEventListener('connectionstatechange', () => this.#watch());
  }

  get callId(): string | null {
    return this.#call?.pathname.split('/').at(-1) ?? null;
  }

  async open(): Promise<void> {
    await this.#context.resume();
    await this.#peer.setLocalDescription();
    this.#answer = await this.#exchange(this.#peer.localDescription!.sdp);
    const opened = this.#opened();
    await this.#peer.setRemoteDescription({ type: 'answer', sdp: this.#answer });
    await opened;
    this.#pings.heard();
    this.#established = true;
  }

  begin(): void {
    this.#inbox.open();
  }

  async restart(): Promise<void> {
    if (!this.#call) throw new CallError('unsupported', 'the call has no URL');
    this.#peer.restartIce();
    await this.#peer.setLocalDescription();
    const url = new URL(this.#call);
    const heard = this.#heard();
    if (heard !== null) url.searchParams.set('heard_ms', String(heard));
    const headers = {
      ...authorization(this.#target.token(), this.#target.device),
      'Content-Type': FRAGMENT,
      'If-Match': this.#etag ?? '*',
    };
    const body = fragment(this.#peer.localDescription!.sdp);
    const response = await fetch(url, { method: 'PATCH', headers, body });
    const answer = await response.text();
    if (!response.ok) throw fromHttp(response.status, answer, response.headers.get('Retry-After'));
    this.#etag = response.headers.get('ETag');
    this.#answer = renewed(this.#answer, answer);
    await this.#peer.setRemoteDescription({ type: 'answer', sdp: this.#answer });
  }

  hush(): Promise<number | null> {
    const heard = this.#heard();
    if (this.#track) this.#track.enabled = false;
    return Promise.resolve(heard);
  }

  send(event: ClientEvent): boolean {
    const channel = event.type.startsWith('voxline.') ? this.#notices : this.#events;
    if (channel.readyState !== 'open' || !this.#established) return false;
    channel.send(JSON.stringify(event));
    return true;
  }

  interrupt(active: string | null): void {
    if (active !== null) this.send({ type: 'response.cancel', response_id: active });
    this.send({ type: 'output_audio_buffer.clear' });
  }

  mute(muted: boolean): void {
    if (this.#sender.track) this.#sender.track.enabled = !muted;
  }

  levels(): Levels {
    return { microphone: this.#microphoneMeter(), assistant: this.#assistantMeter() };
  }

  close(): void {
    this.#hangUp();
    this.leave();
  }

  leave(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#look);
    this.#reports.stop();
    this.#pings.stop();
    this.#peer.close();
    this.#speaker.srcObject = null;
    if (this.#context.state !== 'closed') void this.#context.close();
  }

  /** Sends the offer and gives the answer; afterwards the relay holds a call for us. */
  async #exchange(offer: string): Promise<string> {
    const { baseUrl, bearer, device, wish, heardMs, signal } = this.#target;
    const url = new URL('/v1/realtime/calls', baseUrl);
    if (heardMs !== null) url.searchParams.set('heard_ms', String(heardMs));
    const headers = authorization(bearer, device);
    let body: BodyInit = offer;
    if (wish?.session) {
      body = new FormData();
      body.set('sdp', new Blob([offer], { type: 'application/sdp' }));
      body.set('session', json({ type: 'realtime', model: wish.model, ...wish.session }));
    } else {
      if (wish) url.searchParams.set('model', wish.model);
      headers['Content-Type'] = 'application/sdp';
    }
    let response: Response;
    let answer: string;
    try {
      response = await fetch(url, { method: 'POST', headers, body, signal });
      answer = await response.text();
    } catch (error) {
      signal.throwIfAborted();
      throw new CallError('unreachable', error instanceof Error ? error.message : String(error));
    }
    if (!response.ok) {
      throw fromHttp(response.status, answer, response.headers.get('Retry-After'));
    }
    const location = response.headers.get('Location');
    this.#call = location ? new URL(location, url) : null;
    this.#etag = response.headers.get('ETag');
    if (this.#closed && wish) this.#hangUp();
    return answer;
  }

  #opened(): Promise<void> {
    return new Promise((resolve, reject) => {
      const blocked = (why: string) => reject(new CallError('udp-blocked', why));
      const { pathMs, signal } = this.#target;
      const timer = setTimeout(() => blocked(`no media path within ${pathMs / 1000} s`), pathMs);
      this.#events.addEventListener('open', () => {
        clearTimeout(timer);
        resolve();
      });
      this.#peer.addEventListener('connectionstatechange', () => {
        if (this.#peer.connectionState === 'failed') blocked('no media path could be opened');
      });
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
  }

  #channel(label: string, options: RTCDataChannelInit): RTCDataChannel {
    const channel = this.#peer.createDataChannel(label, options);
    channel.addEventListener('message', ({ data }) => this.#receive(data, performance.now()));
    channel.addEventListener('close', () => this.#end());
    return channel;
  }

  #receive(data: unknown, at: number): void {
    const event = parseEvent(data);
    if (!event || this.#closed) return;
    this.#pings.heard();
    switch (event.type) {
      case 'voxline.pong': {
        const ms = this.#pings.pong(number(event, 'id'), at);
        if (ms !== null) this.#listener.roundTrip(ms);
        return;
      }
      case 'voxline.waiting':
        return this.#sayWhatWasHeard();
      case 'voxline.session':
        this.#origin = originIn(event);
        break;
    }
    this.#listener.arrived(event);
    this.#inbox.receive(event);
  }

  #play(track: MediaStreamTrack): void {
    this.#track = track;
    const stream = new MediaStream([track]);
    // Chromium gives a remote track to Web Audio only while an element plays it.
    this.#speaker.srcObject = stream;
    void this.#speaker.play().catch(() => {});
    this.#assistantMeter = meter(this.#context.createMediaStreamSource(stream));
  }

  #watch(): void {
    const state = this.#peer.connectionState;
    if (!this.#established) return;
    // What has failed can be restarted, as long as somebody does.
    if (state === 'closed') return this.#end();
    this.#doubt(this.#silent);
  }

  /** Nothing is heard of the relay, or the browser has found that the path is gone. */
  #doubt(silent: boolean): void {
    this.#silent = silent;
    const state = this.#peer.connectionState;
    const unsteady = silent || state === 'disconnected' || state === 'failed';
    if (!this.#established || unsteady === this.#unsteady) return;
    this.#unsteady = unsteady;
    if (!unsteady && this.#track) this.#track.enabled = true;
    this.#listener.unsteady(unsteady);
  }

  #end(): void {
    if (this.#closed || !this.#established) return;
    this.#established = false;
    this.#listener.ended({ code: null, reason: '' });
  }

  #time(event: ClientEvent): void {
    if (this.#timing.readyState === 'open') this.#timing.send(JSON.stringify(event));
  }

  /** A connection that is closed on this side fires no event. */
  #lookAround(): void {
    if (this.#peer.connectionState === 'closed') this.#end();
  }

  /** Where on the relay's timeline the last sound was; `null` if that is not known. */
  #heard(): number | null {
    const { lastPlayed } = this.#reports;
    if (lastPlayed === null || this.#origin === null) return null;
    const ticks = (lastPlayed - this.#origin + 2 ** 32) % 2 ** 32;
    return ticks / TICKS_PER_MS + PACKET_MS;
  }

  /** The relay has not heard of this side for a while, and waits to know where to go on. */
  #sayWhatWasHeard(): void {
    this.send({ type: 'voxline.heard', position_ms: this.#heard() ?? 0 });
  }

  /** Ends the call at the relay, even while the page goes away. */
  #hangUp(): void {
    if (!this.#call) return;
    const headers = authorization(this.#target.token(), this.#target.device);
    void fetch(this.#call, { method: 'DELETE', headers, keepalive: true }).catch(() => {});
    this.#call = null;
  }
}

function authorization(bearer: string, device: string | null): Record<string, string> {
  const headers = { Authorization: `Bearer ${bearer}` };
  return device === null ? headers : { ...headers, 'Voxline-Device': device };
}

function originIn(event: ServerEvent): number | null {
  return typeof event['rtp_origin'] === 'number' ? event['rtp_origin'] : null;
}

function json(value: unknown): Blob {
  return new Blob([JSON.stringify(value)], { type: 'application/json' });
}
