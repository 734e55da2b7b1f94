/**
 * Playback over WebSocket, where the client owns it: what to play, when to stop, and what to tell
 * the provider about how much was heard.
 *
 * Pure: events and positions go in, orders for the speaker and the socket come out. Positions are
 * those of `PlayQueue`: samples on one timeline through everything that was ever queued.
 *
 * Invariants: nothing of a cut response is played; no item is truncated past what was received;
 * an item that was heard whole is left alone.
 */

import { decodeBase64, samplesToMs, SAMPLE_RATE } from './pcm';
import { isRecord, number, record, text, type ClientEvent, type ServerEvent } from './protocol';

export type Order =
  | { readonly do: 'play'; readonly samples: Int16Array<ArrayBuffer> }
  | { readonly do: 'flush' }
  | { readonly do: 'send'; readonly event: ClientEvent }
  | { readonly do: 'interrupted'; readonly responseId: string; readonly heardMs: number };

/** What waits for the speaker at most; what a response adds beyond it is not played. */
export const MAX_QUEUED_SAMPLES = 10 * 60 * SAMPLE_RATE;

interface Span {
  readonly responseId: string;
  readonly itemId: string;
  readonly contentIndex: number;
  readonly start: number;
  length: number;
  /** All the audio of the item has arrived. */
  complete: boolean;
}

export class Playback {
  #appended = 0;
  #position = 0;
  #spans: Span[] = [];
  /** Cuts whose flush the speaker has not confirmed yet, oldest first. */
  #cuts: Span[][] = [];
  /** Responses that were cut and are not done: what still arrives of them is dropped. */
  readonly #cutResponses = new Set<string>();
  #active: string | null = null;
  #interrupts = true;

  /** Whether anything that was received has not been heard. */
  get sounding(): boolean {
    return this.#spans.length > 0 && this.#position < this.#appended;
  }

  handle(event: ServerEvent): Order[] {
    switch (event.type) {
      case 'session.created':
      case 'session.updated':
        this.#interrupts = interrupts(event);
        return [];
      case 'response.created':
        this.#active = text(record(event, 'response'), 'id');
        return [];
      case 'response.output_audio.delta':
        return this.#append(event);
      case 'response.output_audio.done':
        this.#complete((span) => span.itemId === text(event, 'item_id'));
        return [];
      case 'response.done': {
        const id = text(record(event, 'response'), 'id');
        this.#complete((span) => span.responseId === id);
        this.#cutResponses.delete(id);
        if (this.#active === id) this.#active = null;
        return [];
      }
      case 'input_audio_buffer.speech_started':
        return this.#interrupts ? this.#cut() : [];
      default:
        return [];
    }
  }

  /** The page wants silence: as a spoken interruption, and the provider is told to stop. */
  interrupt(): Order[] {
    const active = this.#active;
    const orders = this.#cut();
    if (active === null) return orders;
    return [{ do: 'send', event: { type: 'response.cancel', response_id: active } }, ...orders];
  }

  /** The speaker has got as far as this. */
  played(position: number): void {
    this.#position = Math.max(this.#position, position);
    this.#spans = this.#spans.filter(
      (span) => !span.complete || span.start + span.length > this.#position,
    );
  }

  /** The speaker has fallen silent after a flush; the last sound was at this position. */
  flushed(heardUntil: number): Order[] {
    const orders: Order[] = [];
    const heardMs = new Map<string, number>();
    for (const span of this.#cuts.shift() ?? []) {
      const heard = Math.max(0, Math.min(heardUntil - span.start, span.length));
      if (span.complete && heard === span.length) continue;
      const ms = Math.floor(samplesToMs(heard));
      heardMs.set(span.responseId, (heardMs.get(span.responseId) ?? 0) + ms);
      orders.push({ do: 'send', event: correction(span, ms) });
    }
    for (const [responseId, ms] of heardMs) {
      orders.push({ do: 'interrupted', responseId, heardMs: ms });
    }
    return orders;
  }

  #append(event: ServerEvent): Order[] {
    const responseId = text(event, 'response_id');
    const samples = decodeBase64(text(event, 'delta'));
    const queued = this.#appended - this.#position;
    if (
      !samples?.length ||
      this.#cutResponses.has(responseId) ||
      queued + samples.length > MAX_QUEUED_SAMPLES
    ) {
      return [];
    }
    const itemId = text(event, 'item_id');
    const contentIndex = number(event, 'content_index');
    const last = this.#spans.at(-1);
    if (last?.itemId === itemId && last.contentIndex === contentIndex) {
      last.length += samples.length;
    } else {
      this.#spans.push({
        responseId,
        itemId,
        contentIndex,
        start: this.#appended,
        length: samples.length,
        complete: false,
      });
    }
    this.#appended += samples.length;
    return [{ do: 'play', samples }];
  }

  #complete(which: (span: Span) => boolean): void {
    for (const span of this.#spans) if (which(span)) span.complete = true;
    this.played(this.#position);
  }

  #cut(): Order[] {
    if (this.#active !== null) this.#cutResponses.add(this.#active);
    if (this.#spans.length === 0) return [];
    this.#cuts.push(this.#spans);
    this.#spans = [];
    this.#position = this.#appended;
    return [{ do: 'flush' }];
  }
}

function correction({ itemId, contentIndex }: Span, heardMs: number): ClientEvent {
  if (heardMs === 0) return { type: 'conversation.item.delete', item_id: itemId };
  return {
    type: 'conversation.item.truncate',
    item_id: itemId,
    content_index: contentIndex,
    audio_end_ms: heardMs,
  };
}

/** Whether the provider cuts its response when the person speaks: not in push-to-talk. */
function interrupts(event: ServerEvent): boolean {
  const input = record(record(record(event, 'session'), 'audio'), 'input');
  const detection = input['turn_detection'];
  return isRecord(detection) ? detection['interrupt_response'] !== false : detection !== null;
}
