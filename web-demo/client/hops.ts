/** The parts of a turn, in the order in which they follow each other. */
export const HOPS = [
  'capture',
  'uplink',
  'relay_in',
  'silence_wait',
  'inference',
  'relay_out',
  'downlink',
  'playback',
] as const;

export type Hop = (typeof HOPS)[number];
