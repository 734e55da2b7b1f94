/** What people call the hops of a turn. */

import { HOPS, type Hop } from '../client/hops';

export { HOPS, type Hop };

/** Who has a hop in hand: the way is the same to the provider and back. */
export type Side = 'device' | 'network' | 'relay' | 'provider';

export const SIDES: Record<Side, string> = {
  device: 'Device',
  network: 'Network',
  relay: 'Relay',
  provider: 'Provider',
};

export interface About {
  readonly label: string;
  readonly side: Side;
  readonly what: string;
}

export const ABOUT: Record<Hop, About> = {
  capture: { label: 'Capture', side: 'device', what: 'microphone to packet' },
  uplink: { label: 'Uplink', side: 'network', what: 'device to relay' },
  relay_in: { label: 'Relay in', side: 'relay', what: 'packet to provider' },
  silence_wait: { label: 'Silence wait', side: 'provider', what: 'until the turn counts as over' },
  inference: { label: 'Inference', side: 'provider', what: 'until the first sound' },
  relay_out: { label: 'Relay out', side: 'relay', what: 'sound to packet' },
  downlink: { label: 'Downlink', side: 'network', what: 'relay to device' },
  playback: { label: 'Playback', side: 'device', what: 'jitter buffer and speaker' },
};

/** What is timed beside the hops. */
const OTHERS: Readonly<Record<string, string>> = {
  end_to_end: 'End to end',
  first_byte: 'First word of the provider',
  full_turn: 'Whole turn',
  silence: 'Interruption to silence',
  rotation: 'Token renewal',
  recovery: 'Provider recovery',
  return: 'Client return',
  jitter_buffer: 'Jitter buffer',
  packet_in: 'Each packet, in',
  packet_out: 'Each packet, out',
};

export function isHop(name: string): name is Hop {
  return (HOPS as readonly string[]).includes(name);
}

/** Also of what a newer relay times: its own name for it. */
export function labelOf(name: string): string {
  return isHop(name) ? ABOUT[name].label : (OTHERS[name] ?? name.replaceAll('_', ' '));
}
