import { describe, expect, it } from 'vitest';
import { Call, Hub, type CallEvents } from '../client/call';
import { Wire } from './wire';

function newCall() {
  const wire = new Wire();
  const hub = new Hub();
  hub.releases(() => wire.close());
  const call = new Call(wire, hub, null);
  const heard: [keyof CallEvents, unknown][] = [];
  for (const name of ['state', 'interrupted', 'error', 'closed'] as const) {
    call.on(name, (event) => heard.push([name, event]));
  }
  return { call, hub, wire, heard };
}

const RUNNING = { type: 'response.created', response: { id: 'r1' } };
const DONE = { type: 'response.done', response: { id: 'r1', status: 'cancelled' } };

describe('Call', () => {
  it('tells what happened before anyone listened, in order, once released', () => {
    const { hub, heard } = newCall();
    hub.event({ type: 'voxline.state', state: 'listening' });
    hub.event({ type: 'voxline.state', state: 'thinking' });
    expect(heard).toEqual([]);
    hub.emitter.release();
    expect(heard).toEqual([
      ['state', 'listening'],
      ['state', 'thinking'],
    ]);
  });

  it('is recovering while the connection is being looked for', () => {
    const { call, hub } = newCall();
    hub.event({ type: 'voxline.state', state: 'thinking' });
    hub.unsteady(true);
    expect(call.state).toBe('recovering');
    hub.unsteady(false);
    expect(call.state).toBe('thinking');
  });

  it('asks for an answer to typed words at once when nothing runs', () => {
    const { call, wire } = newCall();
    call.say('Hello');
    expect(wire.sent.map(({ type }) => type)).toEqual([
      'conversation.item.create',
      'response.create',
    ]);
    expect(wire.interrupts).toBe(0);
  });

  it('cuts the answer that runs first, and asks for the next when it is done', () => {
    const { call, hub, wire } = newCall();
    hub.event(RUNNING);
    call.say('Hello');
    expect(wire.interrupts).toBe(1);
    expect(wire.sent.map(({ type }) => type)).toEqual(['conversation.item.create']);
    hub.event(DONE);
    expect(wire.sent.at(-1)).toEqual({ type: 'response.create' });
  });

  it('is quiet when neither side speaks and no answer is on its way', () => {
    const { hub } = newCall();
    hub.event({ type: 'voxline.state', state: 'listening' });
    expect(hub.quiet).toBe(true);
    hub.event({ type: 'input_audio_buffer.speech_started', item_id: 'i1', audio_start_ms: 0 });
    expect(hub.quiet).toBe(false);
    hub.event({ type: 'input_audio_buffer.speech_stopped', item_id: 'i1', audio_end_ms: 900 });
    hub.event({ type: 'voxline.state', state: 'thinking' });
    expect(hub.quiet).toBe(false);
    hub.event(RUNNING);
    hub.event({ type: 'voxline.state', state: 'listening' });
    expect(hub.quiet).toBe(false);
    hub.event(DONE);
    expect(hub.quiet).toBe(true);
  });

  it('releases everything once, and says that it was closed', () => {
    const { call, hub, wire, heard } = newCall();
    hub.emitter.release();
    call.close();
    call.close();
    expect(wire.parted).toBe('closed');
    expect(heard).toEqual([['closed', { failure: null }]]);
  });
});
