// Talks to the relay with OpenAI's own client for Node.js, over TLS: spoken turns, interruptions,
// client secrets, transcription, refusals. `run.mjs` starts it.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import OpenAI from 'openai';
import { OpenAIRealtimeWebSocket } from 'openai/realtime/websocket';
import { OpenAIRealtimeWS } from 'openai/realtime/ws';
import { Talk, loudness, speech } from './talk.mjs';

const model = 'gpt-realtime-2.1';
const client = new OpenAI({ maxRetries: 0 });

describe("OpenAI's client", { concurrency: true }, () => {
  for (const Connection of [OpenAIRealtimeWS, OpenAIRealtimeWebSocket]) {
    describe(Connection.name, () => {
      it('holds a spoken turn, and is interrupted', async (test) => {
        await withTalk(new Connection({ model }, client), async (talk) => {
          await listenPatiently(talk);
          await spokenTurn(talk, test);
          await interruption(talk, test);
        });
      });

      it('opens a session with a client secret, as its maker wants it', async () => {
      const secret = await client.realtime.clientSecrets.create({
        expires_after: { anchor: 'created_at', seconds: 60 },
        session: { type: 'realtime', model, instructions: 'Speak of the sea.' },
      });
      assert.match(secret.value, /^ek_/);
      const life = secret.expires_at - Date.now() / 1000;
      assert.ok(life > 0 && life <= 61, `it is valid for ${life} s`);
      const holder = client.withOptions({ apiKey: secret.value });
      await withTalk(new Connection({ model }, holder), async (talk, created) => {
        assert.equal(created.session.instructions, 'Speak of the sea.');
        talk.send({ type: 'response.create' });
        const { response } = (await talk.heard('response.done')).event;
        assert.equal(response.status, 'completed');
        assert.ok(loudness(talk.answers.get(response.id)) > 100, 'the answer is silent');
      });
    });

    it('has speech transcribed', async (test) => {
      const connection = new Connection({ intent: 'transcription' }, client);
      await withTalk(connection, async (talk) => {
        const transcription = { model: 'gpt-4o-transcribe' };
        const turn_detection = { type: 'server_vad', silence_duration_ms: 700 };
        const audio = { input: { transcription, turn_detection } };
        talk.send({ type: 'session.update', session: { type: 'transcription', audio } });
        await talk.heard('session.updated');
        const finished = await talk.say(speech());
        const kind = 'conversation.item.input_audio_transcription.completed';
        const written = await talk.heard(kind);
        assert.ok(written.event.transcript);
        assert.equal(talk.answers.size, 0, 'a transcription was answered');
        test.diagnostic(`end of speech -> transcript: ${ms(written.at - finished)}`);
      });
    });

    it('is told of a wrong key', async () => {
        const stranger = client.withOptions({ apiKey: 'not-a-key' });
        await refused(new Connection({ model }, stranger), 'invalid_api_key', 3000);
      });
    });
  }
});

it('may not make a client secret with another', async () => {
  const { value } = await client.realtime.clientSecrets.create({});
  const creating = client.withOptions({ apiKey: value }).realtime.clientSecrets.create({});
  await assert.rejects(creating, (error) => {
    assert.ok(error instanceof OpenAI.PermissionDeniedError, String(error));
    assert.equal(error.code, 'insufficient_permissions');
    return true;
  });
});

it('is told what is wrong with an offer', async () => {
  const creating = client.realtime.calls.create({
    sdp: 'v=0',
    session: { type: 'realtime', model },
  });
  await assert.rejects(creating, (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError, String(error));
    assert.equal(error.type, 'invalid_request_error');
    assert.match(error.requestID, /^req_/);
    return true;
  });
});

async function withTalk(connection, body) {
  const talk = new Talk(connection);
  try {
    const created = await talk.heard('session.created');
    const speaking = talk.speak();
    await body(talk, created.event);
    talk.close();
    await speaking;
  } finally {
    talk.close();
  }
}

/** A reader pauses within a sentence for longer than the provider waits by default. */
async function listenPatiently(talk) {
  const turn_detection = { type: 'server_vad', silence_duration_ms: 700 };
  const session = { type: 'realtime', audio: { input: { turn_detection } } };
  talk.send({ type: 'session.update', session });
  const { event } = await talk.heard('session.updated');
  assert.equal(event.session.audio.input.turn_detection.silence_duration_ms, 700);
}

async function spokenTurn(talk, test) {
  const finished = await talk.say(speech());
  await talk.heard('input_audio_buffer.speech_started');
  const stopped = await talk.heard('input_audio_buffer.speech_stopped');
  await talk.heard('input_audio_buffer.committed');
  await talk.heard('response.created');
  const first = await talk.heard('response.output_audio.delta');
  const done = await talk.heard('response.done');
  const { response } = done.event;
  assert.equal(response.status, 'completed');
  assert.ok(talk.seconds(response.id) > 0.5, `${talk.seconds(response.id)} s of answer`);
  assert.ok(loudness(talk.answers.get(response.id)) > 100, 'the answer is silent');
  assert.ok(response.usage.total_tokens > 0);
  test.diagnostic(`end of speech -> speech_stopped: ${ms(stopped.at - finished)}`);
  test.diagnostic(`speech_stopped -> first audio:   ${ms(first.at - stopped.at)}`);
  test.diagnostic(`end of speech -> first audio:    ${ms(first.at - finished)}`);
}

async function interruption(talk, test) {
  await talk.say(speech());
  const first = await talk.heard('response.output_audio.delta');
  const { response_id: cut, item_id } = first.event;
  await sleep(500);
  const began = performance.now();
  const saying = talk.say(speech());
  const started = await talk.heard('input_audio_buffer.speech_started');
  // The client owns playback here: it stops, and says how much was heard.
  const played = Math.min((started.at - first.at) / 1000, talk.seconds(cut));
  const audio_end_ms = Math.floor(played * 1000);
  talk.send({ type: 'conversation.item.truncate', item_id, content_index: 0, audio_end_ms });
  const done = await talk.heard('response.done');
  assert.equal(done.event.response.id, cut);
  const { status, status_details: details } = done.event.response;
  if (status === 'cancelled') assert.equal(details.reason, 'turn_detected');
  else assert.equal(status, 'completed');
  const truncated = await talk.heard('conversation.item.truncated');
  assert.equal(truncated.event.item_id, item_id);
  const received = talk.seconds(cut);
  await saying;
  const next = await talk.heard('response.output_audio.delta');
  assert.notEqual(next.event.response_id, cut);
  assert.equal(talk.seconds(cut), received, 'a cut answer went on');
  const last = await talk.heard('response.done');
  assert.equal(last.event.response.status, 'completed');
  test.diagnostic(`speech over the answer -> speech_started: ${ms(started.at - began)}`);
  test.diagnostic(`the answer: ${status}, truncated at ${truncated.event.audio_end_ms} ms`);
}

async function refused(connection, code, close) {
  const talk = new Talk(connection);
  const { event } = await talk.heard('error');
  assert.equal(event.error.code, code);
  const closed = await talk.heard('closed');
  assert.equal(closed.event.code, close);
}

function ms(time) {
  return `${Math.round(time)} ms`;
}
