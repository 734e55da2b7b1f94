import { describe, expect, it } from 'vitest';
import { Conversation, type TranscriptLine, type Update } from '../client/conversation';

function lines(updates: Update[]): TranscriptLine[] {
  return updates.flatMap((update) => (update.kind === 'transcript' ? [update.line] : []));
}

function say(response: string, item: string, delta: string) {
  return {
    type: 'response.output_audio_transcript.delta',
    response_id: response,
    item_id: item,
    delta,
  };
}

describe('Conversation', () => {
  it('streams the assistant’s words', () => {
    const conversation = new Conversation();
    conversation.handle({ type: 'response.created', response: { id: 'r1' } });
    expect(lines(conversation.handle(say('r1', 'i1', 'Good ')))).toMatchObject([
      { side: 'assistant', itemId: 'i1', responseId: 'r1', text: 'Good ', done: false },
    ]);
    expect(lines(conversation.handle(say('r1', 'i1', 'day')))).toMatchObject([
      { text: 'Good day', delta: 'day' },
    ]);
    const end = {
      type: 'response.output_audio_transcript.done',
      response_id: 'r1',
      item_id: 'i1',
      transcript: 'Good day.',
    };
    expect(lines(conversation.handle(end))).toMatchObject([
      { text: 'Good day.', delta: '.', done: true },
    ]);
  });

  it('stands in for speech that nobody transcribes', () => {
    const conversation = new Conversation();
    const turn_detection = { prefix_padding_ms: 300, silence_duration_ms: 200 };
    conversation.handle({
      type: 'session.created',
      session: { audio: { input: { turn_detection } } },
    });
    const started = {
      type: 'input_audio_buffer.speech_started',
      item_id: 'u1',
      audio_start_ms: 1200,
    };
    expect(lines(conversation.handle(started))).toMatchObject([
      { side: 'person', text: '', placeholder: true, done: false },
    ]);
    const stopped = {
      type: 'input_audio_buffer.speech_stopped',
      item_id: 'u1',
      audio_end_ms: 4000,
    };
    expect(lines(conversation.handle(stopped))).toMatchObject([
      { itemId: 'u1', text: '[speech, 2.3 s]', placeholder: true },
    ]);
  });

  it('puts the transcription in the place of the stand-in', () => {
    const conversation = new Conversation();
    conversation.handle({ type: 'input_audio_buffer.speech_started', item_id: 'u1' });
    const type = 'conversation.item.input_audio_transcription';
    conversation.handle({ type: `${type}.delta`, item_id: 'u1', delta: 'Go ' });
    const more = conversation.handle({ type: `${type}.delta`, item_id: 'u1', delta: 'for' });
    expect(lines(more)).toMatchObject([{ text: 'Go for', placeholder: false }]);
    const stopped = { type: 'input_audio_buffer.speech_stopped', item_id: 'u1' };
    expect(conversation.handle(stopped)).toEqual([]);
    const whole = { type: `${type}.completed`, item_id: 'u1', transcript: ' Go forward. ' };
    expect(lines(conversation.handle(whole))).toMatchObject([{ text: 'Go forward.', done: true }]);
  });

  it('knows a stand-in when the provider sends one for a transcription', () => {
    const type = 'conversation.item.input_audio_transcription.completed';
    const event = { type, item_id: 'u1', transcript: '[speech, 2.4 s]' };
    expect(lines(new Conversation().handle(event))).toMatchObject([
      { text: '[speech, 2.4 s]', placeholder: true, done: true },
    ]);
  });

  it('keeps the stand-in when the transcription is empty', () => {
    const conversation = new Conversation();
    conversation.handle({ type: 'input_audio_buffer.speech_started', item_id: 'u1' });
    const type = 'conversation.item.input_audio_transcription.completed';
    expect(conversation.handle({ type, item_id: 'u1', transcript: '' })).toEqual([]);
  });

  it('shows what the person typed once the provider has it', () => {
    const item = {
      id: 'u1',
      type: 'message',
      role: 'user',
      content: [{ type: 'input_text', text: 'Hello' }],
    };
    const updates = new Conversation().handle({ type: 'conversation.item.added', item });
    expect(lines(updates)).toMatchObject([{ side: 'person', text: 'Hello', done: true }]);
  });

  it('shows nothing of a response after it was cut', () => {
    const conversation = new Conversation();
    conversation.handle({ type: 'response.created', response: { id: 'r1' } });
    conversation.handle(say('r1', 'i1', 'Once upon '));
    const cut = { type: 'voxline.interrupted', response_id: 'r1', heard_ms: 3100 };
    expect(conversation.handle(cut)).toEqual([
      { kind: 'interrupted', interruption: { responseId: 'r1', heardMs: 3100 } },
    ]);
    expect(conversation.handle(say('r1', 'i1', 'a time'))).toEqual([]);
    const done = { type: 'response.done', response: { id: 'r1', status: 'cancelled' } };
    expect(lines(conversation.handle(done))).toMatchObject([{ text: 'Once upon ', done: true }]);
  });

  it('knows the six states and no others', () => {
    const conversation = new Conversation();
    for (const state of ['idle', 'listening', 'thinking', 'speaking', 'cancelling', 'recovering']) {
      const updates = conversation.handle({ type: 'voxline.state', state });
      expect(updates).toEqual([{ kind: 'state', state }]);
    }
    expect(conversation.handle({ type: 'voxline.state', state: 'dreaming' })).toEqual([]);
    expect(conversation.handle({ type: 'voxline.state' })).toEqual([]);
  });

  it('ties a latency to the response that it belongs to', () => {
    const conversation = new Conversation();
    conversation.handle({ type: 'response.created', response: { id: 'r7' } });
    const event = {
      type: 'voxline.latency',
      turn: 2,
      total_ms: 451,
      hops: {
        silence_wait_ms: 200,
        inference_ms: 250.5,
        relay_out_ms: 0.5,
        tea_ms: 3,
        uplink_ms: '',
      },
      estimated: ['inference', 'tea', 7],
      uncertainty_ms: 1.5,
    };
    const latency = {
      turn: 2,
      responseId: 'r7',
      totalMs: 451,
      hops: { silence_wait: 200, inference: 250.5, relay_out: 0.5 },
      estimated: ['inference'],
      uncertaintyMs: 1.5,
    };
    expect(conversation.handle(event)).toEqual([{ kind: 'latency', latency }]);
    const [named] = conversation.handle({ ...event, response_id: 'r5' });
    expect(named).toMatchObject({ latency: { responseId: 'r5' } });
  });

  it('reports errors, and why a response failed', () => {
    const conversation = new Conversation();
    const error = { code: 'invalid_value', message: 'No.', param: 'type', event_id: 'e1' };
    const reported = { code: 'invalid_value', message: 'No.', param: 'type', eventId: 'e1' };
    expect(conversation.handle({ type: 'error', error })).toEqual([
      { kind: 'error', error: reported },
    ]);
    const response = { id: 'r1', status: 'failed', status_details: { error } };
    expect(conversation.handle({ type: 'response.done', response })).toEqual([
      { kind: 'error', error: reported },
    ]);
  });

  it('keeps quiet about a cancellation that came too late', () => {
    const error = { code: 'response_cancel_not_active', message: 'no active response found' };
    expect(new Conversation().handle({ type: 'error', error })).toEqual([]);
  });

  it('knows which response runs', () => {
    const conversation = new Conversation();
    expect(conversation.activeResponse).toBeNull();
    conversation.handle({ type: 'response.created', response: { id: 'r1' } });
    expect(conversation.activeResponse).toBe('r1');
    conversation.handle({ type: 'response.done', response: { id: 'r1', status: 'completed' } });
    expect(conversation.activeResponse).toBeNull();
  });

  it('survives events without their fields', () => {
    const conversation = new Conversation();
    for (const type of [
      'error',
      'response.created',
      'response.done',
      'response.output_text.delta',
      'response.output_audio_transcript.done',
      'conversation.item.added',
      'input_audio_buffer.speech_stopped',
      'voxline.latency',
      'voxline.closing',
      'voxline.interrupted',
      'tomorrow.event',
    ]) {
      expect(() => conversation.handle({ type })).not.toThrow();
      expect(() => conversation.handle({ type, response: 1, item: [], error: 'x' })).not.toThrow();
    }
  });

  it('tells that the provider is gone and back, and takes the answer that it lost for no error', () => {
    const conversation = new Conversation();
    const lost = {
      id: 'r1',
      status: 'failed',
      status_details: { error: { code: 'provider_lost' } },
    };
    expect(conversation.handle({ type: 'response.done', response: lost })).toEqual([]);
    expect(conversation.handle({ type: 'voxline.degraded', reason: 'silent' })).toEqual([
      { kind: 'degraded', reason: 'silent' },
    ]);
    expect(conversation.handle({ type: 'voxline.restored', after_ms: 120 })).toEqual([
      { kind: 'restored', afterMs: 120 },
    ]);
  });
});
