// The fake microphone: recorded human speech with silences, as a WAV file for Chromium.
//
// The recordings are LibriVox readings from Debian's package `pocketsphinx-testdata`: 16-bit,
// 16 kHz, mono.

import fs from 'node:fs';
import path from 'node:path';

const FOLDER = process.env.VOXLINE_SPEECH ?? '/usr/share/pocketsphinx/test/data';
const RATE = 16_000;
const HEADER = 44;

/** "He was not an ill disposed young man." */
export const SENTENCE = 'librivox/sense_and_sensibility_01_austen_64kb-0880.wav';
/** "He might even have been made amiable himself." */
export const INTERRUPTION = 'librivox/sense_and_sensibility_01_austen_64kb-0930.wav';

/** "He was not an ill dispo": it ends in the middle of a vowel, so that nobody can mistake where. */
export const CUT_SHORT = { name: SENTENCE, seconds: 1.96 };

/**
 * Writes a WAV file of the parts in order: seconds of silence, the name of a recording, or
 * `{ name, seconds }`, its beginning.
 */
export function writeMicrophone(file, parts) {
  const pcm = Buffer.concat(
    parts.map((part) => {
      if (typeof part === 'number') return silence(part);
      if (typeof part === 'string') return speech(part);
      return speech(part.name).subarray(0, Math.round(part.seconds * RATE) * 2);
    }),
  );
  const header = Buffer.alloc(HEADER);
  header.write('RIFF', 0);
  header.writeUInt32LE(HEADER - 8 + pcm.length, 4);
  header.write('WAVEfmt ', 8);
  header.writeUInt32LE(16, 16);
  header.writeUInt16LE(1, 20); // PCM
  header.writeUInt16LE(1, 22); // channels
  header.writeUInt32LE(RATE, 24);
  header.writeUInt32LE(RATE * 2, 28);
  header.writeUInt16LE(2, 32);
  header.writeUInt16LE(16, 34);
  header.write('data', 36);
  header.writeUInt32LE(pcm.length, 40);
  fs.writeFileSync(file, Buffer.concat([header, pcm]));
}

/** The first samples of a recording, of full scale, at this rate. */
export function startOf(name, rate, length) {
  const pcm = speech(name);
  const sample = (index) => (2 * index + 1 < pcm.length ? pcm.readInt16LE(2 * index) / 0x8000 : 0);
  return Float32Array.from({ length }, (_, i) => {
    const at = (i * RATE) / rate;
    const before = Math.floor(at);
    return sample(before) + (sample(before + 1) - sample(before)) * (at - before);
  });
}

function silence(seconds) {
  return Buffer.alloc(Math.round(seconds * RATE) * 2);
}

function speech(name) {
  const file = path.join(FOLDER, name);
  if (!fs.existsSync(file)) {
    throw new Error(`${file} is missing: install Debian's package pocketsphinx-testdata`);
  }
  const bytes = fs.readFileSync(file);
  return bytes.subarray(bytes.indexOf('data') + 8);
}
