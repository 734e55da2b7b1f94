import { describe, expect, it } from 'vitest';
import { encodeBase64, SAMPLE_RATE } from '../client/pcm';
import { MAX_QUEUED_SAMPLES, Playback, type Order } from '../client/playback';
import type { ClientEvent } from '../client/protocol';

const SECOND = SAMPLE_RATE;
const STARTED = { type: 'input_audio_buffer.speech_started' };

function created(id: string) {
  return { type: 'response.created', response: { id } };
}

function done(id: string) {
  return { type: 'response.done', response: { id } };
}

function audio(response: string, item: string, samples: number) {
  return {
    type: 'response.output_audio.delta',
    response_id: response,
    item_id: item,
    content_index: 0,
    delta: encodeBase64(new Int16Array(samples)),
  };
}

function audioDone(item: string) {
  return { type: 'response.output_audio.done', item_id: item };
}

function sent(orders: Order[]): ClientEvent[] {
  return orders.flatMap((order) => (order.do === 'send' ? [order.event] : []));
}

function truncated(item: string, ms: number): ClientEvent {
  return {
    type: 'conversation.item.truncate',
    item_id: item,
    content_index: 0,
    audio_end_ms: ms,
  };
}

/** A response of one item that lasts two seconds and has arrived whole, before it was heard. */
function twoSecondsQueued(): Playback {
  const playback = new Playback();
  playback.handle(created('r1'));
  playback.handle(audio('r1', 'i1', 2 * SECOND));
  playback.handle(audioDone('i1'));
  playback.handle(done('r1'));
  return playback;
}

describe('Playback', () => {
  it('plays what arrives', () => {
    const orders = new Playback().handle(audio('r1', 'i1', 480));
    expect(orders).toMatchObject([{ do: 'play', samples: { length: 480 } }]);
  });

  it('stops at once when the person speaks, and truncates at what was heard', () => {
    const playback = twoSecondsQueued();
    playback.played(SECOND);
    expect(playback.handle(STARTED)).toEqual([{ do: 'flush' }]);
    const orders = playback.flushed(SECOND + 128);
    expect(sent(orders)).toEqual([truncated('i1', 1005)]);
    expect(orders.at(-1)).toEqual({ do: 'interrupted', responseId: 'r1', heardMs: 1005 });
  });

  it('deletes an item of which nothing was heard', () => {
    const playback = twoSecondsQueued();
    playback.handle(STARTED);
    expect(sent(playback.flushed(0))).toEqual([
      { type: 'conversation.item.delete', item_id: 'i1' },
    ]);
  });

  it('leaves an item alone that was heard whole', () => {
    const playback = twoSecondsQueued();
    playback.played(2 * SECOND);
    expect(playback.sounding).toBe(false);
    expect(playback.handle(STARTED)).toEqual([]);
  });

  it('leaves alone what was heard whole by the time the speaker fell silent', () => {
    const playback = twoSecondsQueued();
    playback.played(2 * SECOND - 10);
    playback.handle(STARTED);
    expect(playback.flushed(2 * SECOND)).toEqual([]);
  });

  it('covers every item that waits: one whole, one in part, one not at all', () => {
    const playback = new Playback();
    playback.handle(created('r1'));
    for (const item of ['i1', 'i2', 'i3']) {
      playback.handle(audio('r1', item, SECOND));
      playback.handle(audioDone(item));
    }
    playback.handle(STARTED);
    const orders = playback.flushed(1.5 * SECOND);
    expect(sent(orders)).toEqual([
      truncated('i2', 500),
      { type: 'conversation.item.delete', item_id: 'i3' },
    ]);
    expect(orders.at(-1)).toEqual({ do: 'interrupted', responseId: 'r1', heardMs: 500 });
  });

  it('truncates an item that is still arriving, never past what was received', () => {
    const playback = new Playback();
    playback.handle(created('r1'));
    playback.handle(audio('r1', 'i1', SECOND));
    playback.handle(STARTED);
    expect(sent(playback.flushed(5 * SECOND))).toEqual([truncated('i1', 1000)]);
  });

  it('drops what still arrives of a cut response, and plays the next', () => {
    const playback = new Playback();
    playback.handle(created('r1'));
    playback.handle(audio('r1', 'i1', SECOND));
    playback.handle(STARTED);
    expect(playback.handle(audio('r1', 'i1', SECOND))).toEqual([]);
    playback.handle(done('r1'));
    playback.handle(created('r2'));
    expect(playback.handle(audio('r2', 'i2', SECOND))).toHaveLength(1);
  });

  it('drops a cut response that had not begun to sound', () => {
    const playback = new Playback();
    playback.handle(created('r1'));
    expect(playback.handle(STARTED)).toEqual([]);
    expect(playback.handle(audio('r1', 'i1', SECOND))).toEqual([]);
  });

  it('counts an answer that follows a cut from its own beginning', () => {
    const playback = twoSecondsQueued();
    playback.handle(STARTED);
    playback.handle(created('r2'));
    playback.handle(audio('r2', 'i2', SECOND));
    expect(sent(playback.flushed(SECOND))).toEqual([truncated('i1', 1000)]);
    expect(playback.sounding).toBe(true);
    playback.handle(STARTED);
    expect(sent(playback.flushed(2.5 * SECOND))).toEqual([truncated('i2', 500)]);
  });

  it('is not fooled by a report that was on its way when the person spoke', () => {
    const playback = twoSecondsQueued();
    playback.handle(STARTED);
    playback.played(SECOND);
    playback.handle(audio('r2', 'i2', SECOND));
    expect(playback.sounding).toBe(true);
  });

  it('keeps playing while the person speaks if the session does not interrupt', () => {
    const playback = twoSecondsQueued();
    const turn_detection = { type: 'server_vad', interrupt_response: false };
    const session = { audio: { input: { turn_detection } } };
    playback.handle({ type: 'session.updated', session });
    expect(playback.handle(STARTED)).toEqual([]);
  });

  it('cancels upstream when the page interrupts a response that runs', () => {
    const playback = new Playback();
    playback.handle(created('r1'));
    playback.handle(audio('r1', 'i1', SECOND));
    expect(playback.interrupt()).toEqual([
      { do: 'send', event: { type: 'response.cancel', response_id: 'r1' } },
      { do: 'flush' },
    ]);
  });

  it('only stops the sound when the page interrupts a response that is done', () => {
    expect(twoSecondsQueued().interrupt()).toEqual([{ do: 'flush' }]);
  });

  it('ignores sound that is not base64', () => {
    const event = { ...audio('r1', 'i1', 4), delta: '%%%' };
    expect(new Playback().handle(event)).toEqual([]);
  });

  it('queues ten minutes and no more', () => {
    const playback = new Playback();
    const minute = audio('r1', 'i1', MAX_QUEUED_SAMPLES / 10);
    for (let minutes = 0; minutes < 10; minutes++) {
      expect(playback.handle(minute)).toHaveLength(1);
    }
    expect(playback.handle(audio('r1', 'i1', 1))).toEqual([]);
  });
});
