/** What the page says in each situation. */

import type { FailureKind, Reconnection, State, Step } from '../client';

/** The states of a conversation, and those of the page around it. */
export type Shown = State | 'off' | 'connecting';

export const STATES: Record<Shown, { readonly label: string; readonly hint: string }> = {
  off: { label: 'Ready', hint: 'Press the button and talk.' },
  connecting: { label: 'Connecting', hint: 'Opening the line.' },
  idle: { label: 'Idle', hint: 'The line is open; the voice behind it is not there yet.' },
  listening: { label: 'Listening', hint: 'Go ahead, you are heard.' },
  thinking: { label: 'Thinking', hint: 'The answer is on its way.' },
  speaking: { label: 'Speaking', hint: 'Talk over it whenever you like: it stops.' },
  cancelling: { label: 'Cancelling', hint: 'You spoke up: the answer is being cut.' },
  recovering: { label: 'Recovering', hint: 'The line is disturbed; finding the way back.' },
};

/** What is being done about a connection that is gone or in doubt. */
export const STEPS: Record<Step, string> = {
  'ice-restart': 'The line is silent; looking for another path.',
  webrtc: 'The line is gone; opening another one.',
  websocket: 'UDP gets through no more; going over WebSocket.',
};

export type Action = 'retry' | 'websocket' | 'type' | 'reload';

export const ACTIONS: Record<Action, string> = {
  retry: 'Try again',
  websocket: 'Use WebSocket',
  type: 'Go on by typing',
  reload: 'Reload the page',
};

export interface Message {
  readonly title: string;
  readonly advice: string;
  readonly actions: readonly Action[];
}

export const FAILURES: Record<FailureKind, Message> = {
  'insecure-context': {
    title: 'The browser gives this page no microphone',
    advice:
      'It does so only over HTTPS, or on this very machine. Open http://localhost with the relay’s port, or put the relay behind HTTPS.',
    actions: [],
  },
  unsupported: {
    title: 'This browser is too old for a call',
    advice: 'It lacks what realtime sound needs. A current Firefox, Chrome, Edge or Safari has it.',
    actions: [],
  },
  'no-microphone': {
    title: 'No microphone found',
    advice: 'Plug one in, or switch it on in the system’s settings. You can also type.',
    actions: ['retry', 'type'],
  },
  'microphone-denied': {
    title: 'The microphone is not allowed',
    advice:
      'Allow it in the site settings, beside the address, and try again. If the browser did not ask, the system’s privacy settings may forbid it. You can also type.',
    actions: ['retry', 'type'],
  },
  'microphone-busy': {
    title: 'The microphone could not be opened',
    advice: 'Another program may hold it: close that program, or choose another microphone.',
    actions: ['retry', 'type'],
  },
  'udp-blocked': {
    title: 'The network blocks WebRTC',
    advice:
      'The relay answers, but no UDP packet reaches it. WebSocket gets through most networks; at the relay, open its UDP port and set its public address.',
    actions: ['websocket', 'retry'],
  },
  unreachable: {
    title: 'The relay does not answer',
    advice: 'See whether it is running and whether this machine is online.',
    actions: ['retry'],
  },
  unauthorized: {
    title: 'The relay refused the key',
    advice:
      'A development key changes when the relay starts again: reload the page to get the new one. Otherwise, enter a key from the relay’s configuration.',
    actions: ['reload', 'retry'],
  },
  'token-expired': {
    title: 'The token has expired',
    advice: 'A token opens calls for some minutes only. Enter a fresh one, or a key of the relay.',
    actions: ['retry'],
  },
  revoked: {
    title: 'Access was revoked',
    advice: 'Whoever runs the relay has ended this call, or withdrawn the token.',
    actions: [],
  },
  'no-token': {
    title: 'No token to call with',
    advice: 'The server of this page gave none. Try again soon.',
    actions: ['retry'],
  },
  'origin-refused': {
    title: 'The relay takes no calls from this page',
    advice: 'Whoever runs the relay can add this page’s origin to those it allows.',
    actions: [],
  },
  busy: {
    title: 'The relay is busy',
    advice: 'It holds as many calls as it may, or you have reached a limit. Wait, then try again.',
    actions: ['retry'],
  },
  'provider-gone': {
    title: 'The voice behind the relay is gone',
    advice: 'The relay runs, but its provider does not answer. Its log says why; try again soon.',
    actions: ['retry'],
  },
  shutdown: {
    title: 'The relay was shut down',
    advice: 'Calls end when it stops. Once it runs again, call again.',
    actions: ['retry'],
  },
  expired: {
    title: 'The call reached its maximum duration',
    advice: 'Providers limit how long one session lasts. A new call begins a new one.',
    actions: ['retry'],
  },
  'too-long': {
    title: 'The call reached the relay’s longest duration',
    advice: 'The relay limits how long one call lasts. A new call begins a new one.',
    actions: ['retry'],
  },
  'session-gone': {
    title: 'The call could not be taken up again',
    advice: 'The connection broke, and the relay no longer holds the call. Call anew.',
    actions: ['retry'],
  },
  idle: {
    title: 'The call ended because nobody spoke',
    advice: 'Call again when you want to go on.',
    actions: ['retry'],
  },
  overrun: {
    title: 'This device could not keep up',
    advice: 'Close other tabs and programs, then call again.',
    actions: ['retry'],
  },
  refused: {
    title: 'The relay refused the call',
    advice: 'It says what was wrong:',
    actions: ['retry'],
  },
  lost: {
    title: 'The connection is lost',
    advice: 'The network changed or broke, or the relay stopped. Try again.',
    actions: ['retry'],
  },
};

export interface About {
  /** For the head of the page. */
  readonly name: string;
  readonly title: string;
  readonly text: string;
  /** Said once more at the beginning of each transcript. */
  readonly reminder: string | null;
  readonly tries: readonly string[];
}

const LINE_TEST: About = {
  name: 'built-in line test',
  title: 'A line test, not an AI',
  text: 'No provider is configured, so you will be talking to voxline’s built-in line test. It is not an AI model and does not understand what you say. It hears when you speak and answers with speech, so that you can try the line itself.',
  reminder: 'This is the built-in line test, not an AI model.',
  tries: [
    'Say a sentence, then wait: it plays your voice back, and you see how soon the first sound came.',
    'Talk over the answer: it stops at once, and the relay notes how much you had heard.',
    'Choose WebSocket, and compare.',
  ],
};

/** What to say about the voice behind the relay; `provider` is the relay’s name for it. */
export function about(provider: string): About {
  if (provider === 'embedded') return LINE_TEST;
  const name = provider === 'openai' ? 'OpenAI' : provider || 'the relay’s provider';
  return {
    name,
    title: `A voice model of ${name}`,
    reminder: null,
    text: `You will be talking to a voice model. What you say is sent to ${name}.`,
    tries: [
      'Ask something, and see how soon the first sound of the answer comes.',
      'Talk over the answer: it stops at once, and the model knows how much you had heard.',
    ],
  };
}

export function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

/** How long a part of a turn took; `reckoned` if nobody has reported it. */
export function duration(ms: number, reckoned: boolean): string {
  return `${reckoned ? '≈ ' : ''}${Math.round(ms)} ms`;
}

export function interruption(heardMs: number): string {
  return heardMs === 0
    ? 'interrupted before it was heard'
    : `interrupted after ${seconds(heardMs)}`;
}

/** How often the call's token was renewed. */
export function renewals(count: number): string {
  return `token renewed ${['', 'once', 'twice'][count] ?? `${count} times`}`;
}

/** The provider was gone for so long. */
export function providerBack(afterMs: number): string {
  return `The voice provider is back after ${seconds(afterMs)}`;
}

export function reconnection({ reason, by, gapMs }: Reconnection): string {
  const gap = gapMs < 50 ? 'without a gap' : `after ${seconds(gapMs)}`;
  if (reason === 'token') return `Connection renewed ${gap}`;
  if (reason === 'upgrade') return `Back on WebRTC ${gap}`;
  const how = { 'ice-restart': ' on another path', webrtc: '', websocket: ' over WebSocket' }[by];
  return `Connection back${how} ${gap}`;
}
