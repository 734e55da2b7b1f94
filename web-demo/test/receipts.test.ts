import { describe, expect, it } from 'vitest';
import type { ClientEvent } from '../client/protocol';
import { Receipts, type Connection } from '../client/receipts';

/** What a relay has said, and what is on the way over each connection. */
const event = (number: number) => ({ type: 'x', event_id: `e${number}` });
const created = (next: number) => ({ type: 'session.created', voxline: { next_event: next } });

function handled(connection: Connection, numbers: number[]): number[] {
  return numbers.filter((number) => connection.take(event(number)));
}

function acknowledged(connection: Connection): ClientEvent {
  let sent: ClientEvent = { type: '' };
  connection.acknowledge((event) => {
    sent = event;
    return true;
  });
  return sent;
}

describe('Receipts', () => {
  it('counts what comes on a connection, and names the last of it', () => {
    const connection = new Receipts().connection();
    connection.take(event(1));
    connection.take({ type: 'voxline.state' });
    connection.take(event(2));
    expect(connection.due).toBe(2);
    expect(connection.acknowledge(() => false)).toBe(false);
    expect(connection.due).toBe(2);
    expect(acknowledged(connection)).toEqual({
      type: 'voxline.ack',
      event_id: 'e2',
      received: 2,
    });
    expect(connection.due).toBe(0);
  });

  it('passes over what has come on the connection before', () => {
    const receipts = new Receipts();
    expect(handled(receipts.connection(), [1, 2, 3])).toEqual([1, 2, 3]);
    const next = receipts.connection();
    expect(next.take(created(2))).toBe(true);
    expect(handled(next, [2, 3, 4, 5])).toEqual([4, 5]);
    expect(acknowledged(next)['received']).toBe(5);
  });

  it('handles late events of the old connection once, whichever brings them first', () => {
    const receipts = new Receipts();
    const old = receipts.connection();
    handled(old, [1, 2]);
    const next = receipts.connection();
    next.take(created(3));
    expect(handled(next, [3])).toEqual([3]);
    expect(handled(old, [3, 4])).toEqual([4]);
    expect(handled(next, [4, 5])).toEqual([5]);
  });

  it('loses and repeats nothing, wherever connections break and acknowledgements are lost', () => {
    let seed = 7;
    const below = (bound: number) => {
      seed = (seed * 48271) % 0x7fffffff;
      return seed % bound;
    };
    for (let run = 0; run < 300; run++) {
      const receipts = new Receipts();
      const seen: number[] = [];
      let said = 0;
      let known = 0;
      let connection = receipts.connection();
      let before = 0;
      let introduced = 0;
      let arrived = 0;
      for (let step = 0; step < 60; step++) {
        said += below(4);
        while (arrived < said && below(5) > 0) {
          arrived += 1;
          if (connection.take(event(arrived))) seen.push(arrived);
        }
        if (below(3) === 0) {
          const received = acknowledged(connection)['received'] as number;
          // It may be lost on the way.
          if (below(2) === 0) known = Math.max(known, before + received - introduced);
        }
        if (below(6) === 0) {
          connection = receipts.connection();
          connection.take(created(known + 1));
          [before, introduced, arrived] = [known, 1, known];
        }
      }
      while (arrived < said) {
        arrived += 1;
        if (connection.take(event(arrived))) seen.push(arrived);
      }
      expect(seen).toEqual(Array.from({ length: said }, (_, i) => i + 1));
    }
  });
});
