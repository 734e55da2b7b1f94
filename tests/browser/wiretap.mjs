// A TCP proxy that reads the WebSockets which pass: a client's line to the relay, or the relay's to
// its provider. It can make the way longer.

import { once } from 'node:events';
import net from 'node:net';
import { now } from './clock.mjs';

/** `watch` is told of each event that was sent on: `{ up, event, at, left }`, when it came and left. */
export async function startWiretap(target, watch) {
  const { hostname, port } = new URL(target);
  const sockets = new Set();
  const delays = { up: 0, down: 0 };
  const server = net.createServer((from) => {
    const to = net.connect(Number(port), hostname);
    for (const [one, other, up] of [
      [from, to, true],
      [to, from, false],
    ]) {
      const read = reader();
      sockets.add(one);
      one.setNoDelay(true);
      one.on('data', (data) => {
        const at = now();
        carry(up, () => {
          other.write(data);
          const left = now();
          for (const text of read(data)) watch({ up, event: JSON.parse(text), at, left });
        });
      });
      one.on('end', () => carry(up, () => other.end()));
      one.on('error', () => {});
      one.on('close', () => {
        sockets.delete(one);
        carry(up, () => other.destroy());
      });
    }
  });
  const carry = (up, act) => {
    const delay = up ? delays.up : delays.down;
    if (delay === 0) act();
    else setTimeout(act, delay);
  };
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    /** From now on all takes so many milliseconds more. */
    shape: (longer) => Object.assign(delays, longer),
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

/** Reads one direction: an HTTP head, then WebSocket frames (RFC 6455, section 5.2). */
function reader() {
  let rest = Buffer.alloc(0);
  let kind = 'head';
  let message = [];
  return (data) => {
    if (kind === 'other') return [];
    rest = Buffer.concat([rest, data]);
    if (kind === 'head') {
      const end = rest.indexOf('\r\n\r\n');
      if (end < 0) return [];
      const upgrades = /^upgrade: *websocket/im.test(rest.subarray(0, end).toString());
      kind = upgrades ? 'socket' : 'other';
      if (!upgrades) return [];
      rest = rest.subarray(end + 4);
    }
    const texts = [];
    for (let frame = firstFrame(rest); frame; frame = firstFrame(rest)) {
      rest = rest.subarray(frame.size);
      if (frame.opcode > 2) continue; // ping, pong, close
      message.push(frame.payload);
      if (!frame.last) continue;
      texts.push(Buffer.concat(message).toString());
      message = [];
    }
    return texts;
  };
}

function firstFrame(bytes) {
  if (bytes.length < 2) return null;
  const masked = bytes[1] >= 128;
  const short = bytes[1] & 127;
  const head = { 126: 4, 127: 10 }[short] ?? 2;
  if (bytes.length < head) return null;
  let length = short;
  if (short === 126) length = bytes.readUInt16BE(2);
  if (short === 127) length = Number(bytes.readBigUInt64BE(2));
  const mask = masked ? bytes.subarray(head, head + 4) : null;
  const from = head + (masked ? 4 : 0);
  if (bytes.length < from + length) return null;
  const payload = Buffer.from(bytes.subarray(from, from + length));
  if (mask) for (let i = 0; i < length; i++) payload[i] ^= mask[i % 4];
  return { payload, opcode: bytes[0] & 15, last: bytes[0] >= 128, size: from + length };
}
