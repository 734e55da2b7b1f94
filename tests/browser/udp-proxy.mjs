// A UDP proxy before the relay: a network that the test cuts, changes, mends and makes longer.

import dgram from 'node:dgram';
import { once } from 'node:events';
import { now } from './clock.mjs';

/**
 * Forwards to this port of the machine; each client has a way of its own, as behind a NAT. `watch` is
 * told of each datagram that was sent on: `{ up, data, at, left }`, when it came and when it left.
 */
export async function startUdpProxy(port, watch = () => {}) {
  const front = dgram.createSocket('udp4');
  const ways = new Map();
  const dead = new Set();
  let down = false;
  let stopped = false;
  const delays = { up: 0, down: 0 };

  /** Has a datagram take its time; they stay in their order while the delay does not change. */
  const carry = (up, data, send) => {
    const at = now();
    const leave = () => {
      // What was on its way when the network ended arrives nowhere.
      if (stopped) return;
      send();
      watch({ up, data, at, left: now() });
    };
    const delay = up ? delays.up : delays.down;
    if (delay === 0) leave();
    else setTimeout(leave, delay);
  };

  const upstream = (from) => {
    const socket = dgram.createSocket('udp4');
    socket.on('message', (message) => {
      if (down || dead.has(key(from))) return;
      carry(false, message, () => front.send(message, from.port, from.address));
    });
    socket.on('error', () => {});
    return socket;
  };
  front.on('message', (message, from) => {
    if (down || dead.has(key(from))) return;
    if (!ways.has(key(from))) ways.set(key(from), { from, socket: upstream(from) });
    carry(true, message, () => ways.get(key(from)).socket.send(message, port, '127.0.0.1'));
  });
  front.bind(0, '127.0.0.1');
  await once(front, 'listening');

  return {
    port: front.address().port,
    /** Nothing passes any more. */
    drop: () => (down = true),
    /** All passes again. */
    restore: () => (down = false),
    /** From now on each datagram takes so many milliseconds. */
    shape: (longer) => Object.assign(delays, longer),
    /** The client has changed its network: where it was, nothing passes any more. */
    abandon: () => {
      for (const way of ways.keys()) dead.add(way);
    },
    /** The NAT has forgotten its clients, and gives each another port. */
    rebind: () => {
      for (const way of ways.values()) {
        way.socket.close();
        way.socket = upstream(way.from);
      }
    },
    stop: async () => {
      stopped = true;
      for (const { socket } of ways.values()) socket.close();
      front.close();
      await once(front, 'close');
    },
  };
}

/** A port that nobody has. */
export async function freePort() {
  const socket = dgram.createSocket('udp4');
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const { port } = socket.address();
  socket.close();
  return port;
}

function key({ address, port }) {
  return `${address}:${port}`;
}
