/** Opens a call's connections, of either kind, with one microphone. */

import type { Microphone } from './microphone';
import type { Connect, Listener, Target, Transport } from './transport';
import { connectWebRtc } from './webrtc';
import { Sound, WebSocketTransport } from './websocket';

export class Connector {
  readonly #microphone: Microphone;
  /** Of the call's WebSockets; each takes it over from the one before. */
  #sound: Promise<Sound> | null = null;
  #closed = false;

  constructor(microphone: Microphone) {
    this.#microphone = microphone;
  }

  readonly open: Connect = (kind, target, listener) =>
    kind === 'webrtc'
      ? connectWebRtc(target, this.#microphone, listener)
      : this.#overWebSocket(target, listener);

  close(): void {
    this.#closed = true;
    void this.#sound?.then((sound) => sound.close()).catch(() => {});
  }

  async #overWebSocket(target: Target, listener: Listener): Promise<Transport> {
    this.#sound ??= Sound.open(this.#microphone);
    let sound: Sound;
    try {
      sound = await this.#sound;
    } catch (error) {
      this.#sound = null;
      throw error;
    }
    if (this.#closed) sound.close();
    target.signal.throwIfAborted();
    return WebSocketTransport.open(target, sound, listener);
  }
}
