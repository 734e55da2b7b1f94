// One conversation through OpenAI's client: a microphone that never stops, and an ear for every
// event.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

export const RATE = 24_000;

const FRAME = (RATE / 50) * 2; // bytes in 20 ms
const PATIENCE_MS = 30_000; // for anything to happen
const SPEECH =
  '/usr/share/pocketsphinx/test/data/librivox/sense_and_sensibility_01_austen_64kb-0880.wav';

export class Talk {
  /** Sound received, by the response that it belongs to. */
  answers = new Map();
  #connection;
  #events = [];
  #waiting = () => {};
  #words = [];
  #isOver = false;

  /** `connection` is an `OpenAIRealtimeWS` or an `OpenAIRealtimeWebSocket`. */
  constructor(connection) {
    this.#connection = connection;
    connection.on('event', (event) => this.#hear({ event, at: performance.now() }));
    connection.on('error', (error) => {
      // An `error` event is among the events; what else fails is not.
      if (!error.error) this.#hear({ event: { type: 'broken', error }, at: performance.now() });
    });
    const closed = (code) => this.#hear({ event: { type: 'closed', code }, at: performance.now() });
    const { socket } = connection;
    if (socket.on) socket.on('close', closed);
    else socket.addEventListener('close', ({ code }) => closed(code));
  }

  #hear(heard) {
    const { event } = heard;
    if (event.type === 'response.output_audio.delta') {
      const sound = this.answers.get(event.response_id) ?? [];
      this.answers.set(event.response_id, [...sound, Buffer.from(event.delta, 'base64')]);
    }
    this.#events.push(heard);
    this.#waiting();
  }

  send(event) {
    this.#connection.send(event);
  }

  /** Waits for the next event of this type, and passes over the others, but for errors. */
  async heard(type) {
    const deadline = performance.now() + PATIENCE_MS;
    for (;;) {
      while (this.#events.length > 0) {
        const heard = this.#events.shift();
        if (heard.event.type === type) return heard;
        const failed = ['error', 'broken', 'closed'].includes(heard.event.type);
        assert.ok(!failed, `${type} was awaited: ${JSON.stringify(heard.event)}`);
      }
      await new Promise((resolve, reject) => {
        const left = deadline - performance.now();
        const timer = setTimeout(() => reject(new Error(`no ${type} came`)), left);
        this.#waiting = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  /** Says it, and resolves when the last of it was said. */
  say(sound) {
    return new Promise((resolve) => {
      for (let at = 0; at < sound.length; at += FRAME) {
        this.#words.push({ frame: sound.subarray(at, at + FRAME) });
      }
      this.#words.at(-1).said = resolve;
    });
  }

  /** Sends 20 ms every 20 ms, what is to be said or silence, until the talk is over. */
  async speak() {
    const began = performance.now();
    for (let count = 1; !this.#isOver; count++) {
      const { frame = Buffer.alloc(FRAME), said } = this.#words.shift() ?? {};
      this.send({ type: 'input_audio_buffer.append', audio: frame.toString('base64') });
      said?.(performance.now());
      await sleep(Math.max(0, began + count * 20 - performance.now()));
    }
  }

  close() {
    this.#isOver = true;
    this.#connection.close();
  }

  /** How long the answer received so far lasts. */
  seconds(response) {
    return Buffer.concat(this.answers.get(response) ?? []).length / 2 / RATE;
  }
}

/** A sentence spoken by a person, brought from 16 to 24 kHz. */
export function speech() {
  const file = fs.readFileSync(SPEECH);
  const body = file.subarray(file.indexOf('data') + 8);
  const from = new Int16Array(body.buffer.slice(body.byteOffset, body.byteOffset + body.length));
  const to = new Int16Array(Math.floor((from.length * 3) / 2) - 1);
  for (let at = 0; at < to.length; at++) {
    const place = (at * 2) / 3;
    const low = from[Math.floor(place)];
    const high = from[Math.min(Math.floor(place) + 1, from.length - 1)];
    to[at] = low + (high - low) * (place % 1);
  }
  return Buffer.from(to.buffer);
}

/** The loudness of 16-bit sound, as a root mean square. */
export function loudness(chunks) {
  const sound = Buffer.concat(chunks);
  let power = 0;
  for (let at = 0; at + 1 < sound.length; at += 2) power += sound.readInt16LE(at) ** 2;
  return Math.sqrt((power * 2) / sound.length);
}
