/**
 * What a page shows of a conversation, from the events of the relay.
 *
 * Pure: an event goes in, updates come out. Nothing of a cut response reaches the transcript
 * after the cut.
 */

import { HOPS, type Hop } from './hops';
import {
  list,
  number,
  record,
  isRecord,
  stateOf,
  text,
  type ServerEvent,
  type State,
} from './protocol';

export type Side = 'person' | 'assistant';

/** A line of the transcript, whole; it replaces what was shown for its `itemId` before. */
export interface TranscriptLine {
  readonly side: Side;
  readonly itemId: string;
  /** The response that an assistant's line belongs to. */
  readonly responseId: string | null;
  readonly text: string;
  /** What this event added to the text. */
  readonly delta: string;
  readonly done: boolean;
  /** The text stands for speech that nobody has transcribed, as in `[speech, 2.3 s]`. */
  readonly placeholder: boolean;
}

export interface Interruption {
  readonly responseId: string;
  /** How much of the response was really heard. */
  readonly heardMs: number;
}

/** How long a turn took, from the person's last sound to the first sound of the answer at the ear. */
export interface TurnLatency {
  readonly turn: number;
  /** The response that was on its way, where known. */
  readonly responseId: string | null;
  readonly totalMs: number;
  /** What each part took, which sum to the total; one that nobody can know is missing. */
  readonly hops: { readonly [Part in Hop]?: number };
  /** The parts that nobody has reported: the relay has reckoned them. */
  readonly estimated: readonly Hop[];
  /** How well this side's clock is known to the relay, and so where the network's parts end. */
  readonly uncertaintyMs: number;
}

export interface RelayError {
  readonly code: string | null;
  readonly message: string;
  readonly param: string | null;
  /** The `event_id` of the client's event that caused it. */
  readonly eventId: string | null;
}

export type Update =
  | { readonly kind: 'state'; readonly state: State }
  | { readonly kind: 'transcript'; readonly line: TranscriptLine }
  | { readonly kind: 'interrupted'; readonly interruption: Interruption }
  | { readonly kind: 'latency'; readonly latency: TurnLatency }
  | { readonly kind: 'error'; readonly error: RelayError }
  | { readonly kind: 'degraded'; readonly reason: string }
  | { readonly kind: 'restored'; readonly afterMs: number }
  | { readonly kind: 'closing'; readonly reason: string; readonly withinMs: number };

/** Lines that can still change, at most; the oldest is forgotten. */
const MAX_OPEN_LINES = 64;

/** What stands for speech that nobody has transcribed, whether this side or the provider says so. */
const STAND_IN = /^\[speech, [\d.]+ s\]$/;

/** There was nothing to cancel; an answer was lost with its provider, and is given anew. */
const HARMLESS: ReadonlySet<string> = new Set(['response_cancel_not_active', 'provider_lost']);

export class Conversation {
  readonly #open = new Map<string, TranscriptLine>();
  readonly #speechStarts = new Map<string, number>();
  readonly #cut = new Set<string>();
  /** What a detected speech is longer than what was said. */
  #padding = 0;
  #response: string | null = null;
  #active = false;
  #personSpeaks = false;

  /** The response that runs now: the provider has begun it and not said that it is done. */
  get activeResponse(): string | null {
    return this.#active ? this.#response : null;
  }

  get personSpeaks(): boolean {
    return this.#personSpeaks;
  }

  handle(event: ServerEvent): Update[] {
    const itemId = text(event, 'item_id');
    switch (event.type) {
      case 'session.created':
      case 'session.updated':
        this.#padding = padding(event);
        return [];
      case 'voxline.state': {
        const state = stateOf(event);
        return state ? [{ kind: 'state', state }] : [];
      }
      case 'voxline.interrupted':
        return this.interrupted(text(event, 'response_id'), number(event, 'heard_ms'));
      case 'voxline.latency':
        return [{ kind: 'latency', latency: latency(event, this.#response) }];
      case 'voxline.degraded':
        return [{ kind: 'degraded', reason: text(event, 'reason') }];
      case 'voxline.restored':
        return [{ kind: 'restored', afterMs: number(event, 'after_ms') }];
      case 'voxline.closing':
        return [
          {
            kind: 'closing',
            reason: text(event, 'reason'),
            withinMs: number(event, 'within_ms'),
          },
        ];
      case 'error':
        return errors(record(event, 'error'));

      case 'input_audio_buffer.speech_started':
        this.#personSpeaks = true;
        remember(this.#speechStarts, itemId, number(event, 'audio_start_ms'));
        return this.#person(itemId, '', { placeholder: true, done: false });
      case 'input_audio_buffer.speech_stopped':
        this.#personSpeaks = false;
        return this.#speechStopped(itemId, number(event, 'audio_end_ms'));
      case 'conversation.item.input_audio_transcription.delta':
        return this.#hear(itemId, text(event, 'delta'));
      case 'conversation.item.input_audio_transcription.completed': {
        const said = text(event, 'transcript').trim();
        const placeholder = STAND_IN.test(said);
        return said === '' ? [] : this.#person(itemId, said, { placeholder, done: true });
      }
      case 'conversation.item.added':
        return this.#typed(record(event, 'item'));

      case 'response.created':
        this.#response = text(record(event, 'response'), 'id');
        this.#active = true;
        return [];
      case 'response.output_audio_transcript.delta':
      case 'response.output_text.delta':
        return this.#speak(event, itemId);
      case 'response.output_audio_transcript.done':
        return this.#spoken(event, itemId, text(event, 'transcript'));
      case 'response.output_text.done':
        return this.#spoken(event, itemId, text(event, 'text'));
      case 'response.done':
        return this.#responseDone(record(event, 'response'));
      default:
        return [];
    }
  }

  /** A response was cut; whoever owns the playback knows how much of it was heard. */
  interrupted(responseId: string, heardMs: number): Update[] {
    remember(this.#cut, responseId);
    return [{ kind: 'interrupted', interruption: { responseId, heardMs } }];
  }

  /** A response is being cut: nothing of it is shown from here on. */
  cut(responseId: string): void {
    remember(this.#cut, responseId);
  }

  #speechStopped(itemId: string, endMs: number): Update[] {
    const started = this.#speechStarts.get(itemId);
    const line = this.#open.get(itemId);
    if (started === undefined || (line && !line.placeholder)) return [];
    this.#speechStarts.delete(itemId);
    const seconds = (Math.max(0, endMs - started - this.#padding) / 1000).toFixed(1);
    return this.#person(itemId, `[speech, ${seconds} s]`, { placeholder: true, done: false });
  }

  #hear(itemId: string, delta: string): Update[] {
    const line = this.#open.get(itemId);
    const before = line && !line.placeholder ? line.text : '';
    return this.#person(itemId, before + delta, { placeholder: false, done: false });
  }

  #typed(item: Readonly<Record<string, unknown>>): Update[] {
    const said = list(item, 'content')
      .filter(isRecord)
      .filter((part) => part['type'] === 'input_text')
      .map((part) => text(part, 'text'))
      .join(' ');
    if (item['role'] !== 'user' || said === '') return [];
    return this.#person(text(item, 'id'), said, { placeholder: false, done: true });
  }

  #person(
    itemId: string,
    said: string,
    { placeholder, done }: { placeholder: boolean; done: boolean },
  ): Update[] {
    return this.#show({ side: 'person', itemId, responseId: null, text: said, done, placeholder });
  }

  #speak(event: ServerEvent, itemId: string): Update[] {
    const said = (this.#open.get(itemId)?.text ?? '') + text(event, 'delta');
    return this.#assistant(event, itemId, said, false);
  }

  #spoken(event: ServerEvent, itemId: string, said: string): Update[] {
    return this.#assistant(event, itemId, said, true);
  }

  #assistant(event: ServerEvent, itemId: string, said: string, done: boolean): Update[] {
    const responseId = text(event, 'response_id');
    if (this.#cut.has(responseId)) return [];
    return this.#show({
      side: 'assistant',
      itemId,
      responseId,
      text: said,
      done,
      placeholder: false,
    });
  }

  #responseDone(response: Readonly<Record<string, unknown>>): Update[] {
    const id = text(response, 'id');
    if (id === this.#response) this.#active = false;
    const closed = [...this.#open.values()].filter((line) => line.responseId === id && !line.done);
    const updates = closed.flatMap((line) => this.#show({ ...line, done: true }));
    if (text(response, 'status') === 'cancelled') remember(this.#cut, id);
    if (text(response, 'status') !== 'failed') return updates;
    return [...updates, ...errors(record(record(response, 'status_details'), 'error'))];
  }

  #show(line: Omit<TranscriptLine, 'delta'>): Update[] {
    const before = this.#open.get(line.itemId)?.text ?? '';
    const delta = line.text.startsWith(before) ? line.text.slice(before.length) : line.text;
    const shown = { ...line, delta };
    if (line.done) this.#open.delete(line.itemId);
    else remember(this.#open, line.itemId, shown);
    return [{ kind: 'transcript', line: shown }];
  }
}

/** Detected speech begins some time before the first sound and ends some time after the last. */
function padding(event: ServerEvent): number {
  const input = record(record(record(event, 'session'), 'audio'), 'input');
  const detection = record(input, 'turn_detection');
  return number(detection, 'prefix_padding_ms') + number(detection, 'silence_duration_ms');
}

function latency(event: ServerEvent, responseId: string | null): TurnLatency {
  const hops = record(event, 'hops');
  const known = HOPS.filter((hop) => typeof hops[`${hop}_ms`] === 'number');
  const estimated = list(event, 'estimated');
  return {
    turn: number(event, 'turn'),
    responseId: text(event, 'response_id') || responseId,
    totalMs: number(event, 'total_ms'),
    hops: Object.fromEntries(known.map((hop) => [hop, number(hops, `${hop}_ms`)])),
    estimated: HOPS.filter((hop) => estimated.includes(hop)),
    uncertaintyMs: number(event, 'uncertainty_ms'),
  };
}

function errors(error: Readonly<Record<string, unknown>>): Update[] {
  const code = text(error, 'code') || null;
  if (code !== null && HARMLESS.has(code)) return [];
  return [
    {
      kind: 'error',
      error: {
        code,
        message: text(error, 'message') || 'The relay reported an error without saying which.',
        param: text(error, 'param') || null,
        eventId: text(error, 'event_id') || null,
      },
    },
  ];
}

function remember<K, V>(kept: Map<K, V>, key: K, value: V): void;
function remember<K>(kept: Set<K>, key: K): void;
function remember<K, V>(kept: Map<K, V> | Set<K>, key: K, value?: V): void {
  if (kept instanceof Map) kept.set(key, value as V);
  else kept.add(key);
  if (kept.size > MAX_OPEN_LINES) {
    const oldest = kept.keys().next();
    if (!oldest.done) kept.delete(oldest.value);
  }
}
