// Makes a screenshot smaller: fewer colours than anybody sees, and packed as well as it goes.

import zlib from 'node:zlib';

const SIGNATURE = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);

/** Takes what Chromium writes: 8 bits a channel, RGB or RGBA, not interlaced. */
export function shrink(png) {
  const { width, height, channels, rows } = decode(png);
  const lines = rows.map((row) => {
    // Unfiltered: flat areas and letters repeat as they are.
    const line = Buffer.alloc(1 + width * 3);
    for (let x = 0; x < width; x++) {
      for (let channel = 0; channel < 3; channel++) {
        line[1 + x * 3 + channel] = coarse(row[x * channels + channel]);
      }
    }
    return line;
  });
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 2, 0, 0, 0], 8); // 8 bits, RGB
  return Buffer.concat([
    SIGNATURE,
    chunk('IHDR', header),
    chunk('IDAT', zlib.deflateSync(Buffer.concat(lines), { level: 9, memLevel: 9 })),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

/** Full and none stay what they are. */
function coarse(value) {
  return Math.min(255, Math.round(value / 5) * 5);
}

function decode(png) {
  const parts = [];
  let header;
  for (let at = SIGNATURE.length; at < png.length;) {
    const length = png.readUInt32BE(at);
    const name = png.toString('latin1', at + 4, at + 8);
    const data = png.subarray(at + 8, at + 8 + length);
    if (name === 'IHDR') header = data;
    if (name === 'IDAT') parts.push(data);
    at += length + 12;
  }
  const [width, height] = [header.readUInt32BE(0), header.readUInt32BE(4)];
  const channels = { 2: 3, 6: 4 }[header[9]];
  if (header[8] !== 8 || !channels || header[12] !== 0) throw new Error('not a PNG of ours');
  const raw = zlib.inflateSync(Buffer.concat(parts));
  const size = width * channels;
  const rows = [];
  for (let y = 0; y < height; y++) {
    const row = Buffer.from(raw.subarray(y * (size + 1) + 1, (y + 1) * (size + 1)));
    unfilter(raw[y * (size + 1)], row, rows[y - 1] ?? Buffer.alloc(size), channels);
    rows.push(row);
  }
  return { width, height, channels, rows };
}

/** RFC 2083, chapter 6. */
function unfilter(filter, row, above, channels) {
  for (let at = 0; at < row.length; at++) {
    const left = at >= channels ? row[at - channels] : 0;
    const corner = at >= channels ? above[at - channels] : 0;
    const up = above[at];
    const guess = [0, left, up, (left + up) >> 1, paeth(left, up, corner)][filter];
    row[at] = row[at] + guess;
  }
}

function paeth(left, up, corner) {
  const [a, b, c] = [up - corner, left - corner, left + up - 2 * corner].map(Math.abs);
  if (a <= b && a <= c) return left;
  return b <= c ? up : corner;
}

function chunk(name, data) {
  const whole = Buffer.alloc(data.length + 12);
  whole.writeUInt32BE(data.length, 0);
  whole.write(name, 4, 'latin1');
  data.copy(whole, 8);
  whole.writeUInt32BE(checksum(whole.subarray(4, data.length + 8)), data.length + 8);
  return whole;
}

const TABLE = Array.from({ length: 256 }, (_, index) => {
  let value = index;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value >>> 0;
});

function checksum(bytes) {
  let sum = 0xffffffff;
  for (const byte of bytes) sum = TABLE[(sum ^ byte) & 0xff] ^ (sum >>> 8);
  return (sum ^ 0xffffffff) >>> 0;
}
