/** The page: one call at a time, through the client library only. */

import { CallError, connect, listMicrophones, type Call, type CallEvents } from '../client';
import { VoiceLine } from './line';
import {
  about,
  ACTIONS,
  FAILURES,
  providerBack,
  reconnection,
  renewals,
  STATES,
  STEPS,
  type Action,
  type Shown,
} from './messages';
import { Transcript } from './transcript';

const MODEL = 'gpt-realtime-2.1';
/** A shorter absence of the provider is not worth a word. */
const NOTICEABLE_MS = 1000;
const SESSION = {
  instructions:
    'You are on the phone with someone who is trying out a voice line. Be warm and brief: one to three sentences, unless you are asked for more.',
  audio: {
    input: {
      transcription: { model: 'gpt-transcribe' },
      // People pause at commas; half a second is OpenAI's documented default.
      turn_detection: { type: 'server_vad', silence_duration_ms: 500 },
    },
  },
};

type Live =
  | { readonly is: 'off' }
  | { readonly is: 'connecting'; readonly abort: AbortController }
  | { readonly is: 'live'; readonly call: Call };

let live: Live = { is: 'off' };
let muted = false;

const get = <T extends HTMLElement>(id: string): T => {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no #${id}`);
  return element as T;
};
const meta = (name: string): string =>
  document.querySelector<HTMLMetaElement>(`meta[name="${name}"]`)?.content ?? '';

const page = {
  state: get('state'),
  hint: get('hint'),
  trail: get('trail'),
  glyph: get('glyph'),
  call: get<HTMLButtonElement>('call'),
  callLabel: get('call-label'),
  mute: get<HTMLButtonElement>('mute'),
  interrupt: get<HTMLButtonElement>('interrupt'),
  alert: get('alert'),
  microphone: get<HTMLSelectElement>('microphone'),
  transport: get<HTMLSelectElement>('transport'),
  key: get<HTMLInputElement>('key'),
  text: get<HTMLInputElement>('text'),
  send: get<HTMLButtonElement>('send'),
  meters: { microphone: get('microphone-level'), assistant: get('assistant-level') },
};
const transcript = new Transcript(get('transcript'));
const line = new VoiceLine(get<HTMLCanvasElement>('line'));
const provider = about(meta('voxline-provider'));

async function start(microphone: boolean): Promise<void> {
  if (live.is !== 'off') return;
  const token = meta('voxline-key') || page.key.value.trim();
  if (token === '') {
    page.key.focus();
    return say('Ready', 'First enter a key of this relay.');
  }
  const abort = new AbortController();
  enter({ is: 'connecting', abort });
  page.alert.hidden = true;
  show('connecting');
  transcript.clear();
  try {
    const call = await connect({
      token,
      model: MODEL,
      session: SESSION,
      transport: page.transport.value as 'auto',
      microphone: microphone && { deviceId: page.microphone.value },
      signal: abort.signal,
      onAttempt: (transport, after) => {
        const name = { webrtc: 'WebRTC', websocket: 'WebSocket' }[transport];
        if (after) say('Connecting', `The network blocks WebRTC; trying ${name}.`);
        else say('Connecting', `Opening the line over ${name}.`);
      },
    });
    began(call);
  } catch (error) {
    enter({ is: 'off' });
    show('off');
    if (!abort.signal.aborted) fail(asCallError(error));
  }
  await offerMicrophones();
}

function began(call: Call): void {
  enter({ is: 'live', call });
  show(call.state);
  get('about').hidden = true;
  showPath(call);
  if (provider.reminder) transcript.note(provider.reminder);
  if (call.fallback) {
    transcript.note('The network blocks WebRTC (UDP), so this call goes over WebSocket.');
  }
  let renewed = 0;
  const listeners: { [Name in keyof CallEvents]?: (event: CallEvents[Name]) => void } = {
    state: show,
    transcript: (shown) => transcript.show(shown),
    interrupted: (cut) => transcript.interrupted(cut),
    latency: (latency) => {
      transcript.latency(latency);
      get('legend').hidden = false;
    },
    roundTrip: (ms) => {
      get('round-trip').textContent = `${Math.round(ms)} ms round trip`;
    },
    token: ({ expiresAt }) => {
      renewed += 1;
      const token = get('token');
      token.textContent = renewals(renewed);
      token.title = `Valid until ${new Date(expiresAt).toLocaleTimeString()}`;
    },
    recovering: ({ step }) => say('Recovering', STEPS[step]),
    reconnected: (how) => {
      transcript.note(reconnection(how));
      showPath(call);
    },
    degraded: () => say('Recovering', 'The voice provider is gone; connecting to it anew.'),
    restored: ({ afterMs }) => {
      if (afterMs > NOTICEABLE_MS) transcript.note(providerBack(afterMs));
    },
    error: ({ message }) => transcript.note(message),
    closing: () => say('Closing', 'The relay is ending this call.'),
    closed: ({ failure }) => ended(failure),
  };
  for (const [name, listener] of Object.entries(listeners)) {
    call.on(name as keyof CallEvents, listener as (event: unknown) => void);
  }
  requestAnimationFrame(animate);
}

function showPath({ transport }: Call): void {
  get('path').textContent = { webrtc: 'WebRTC', websocket: 'WebSocket' }[transport];
}

function ended(failure: CallError | null): void {
  enter({ is: 'off' });
  show('off');
  transcript.note('Call ended');
  for (const fact of ['path', 'round-trip', 'token']) get(fact).textContent = '';
  meters({ microphone: 0, assistant: 0 }, 0);
  if (failure) fail(failure);
}

function hangUp(): void {
  if (live.is === 'connecting') live.abort.abort();
  if (live.is === 'live') live.call.close();
}

function enter(next: Live): void {
  live = next;
  const isLive = live.is === 'live';
  document.body.dataset['call'] = live.is;
  page.callLabel.textContent = { off: 'Start the call', connecting: 'Cancel', live: 'Hang up' }[
    live.is
  ];
  page.mute.hidden = page.interrupt.hidden = !isLive;
  page.text.disabled = page.send.disabled = !isLive;
  page.microphone.disabled = page.transport.disabled = page.key.disabled = live.is !== 'off';
  mute(false);
}

function mute(next: boolean): void {
  muted = next;
  if (live.is === 'live') live.call.mute(muted);
  page.mute.setAttribute('aria-pressed', String(muted));
  page.mute.textContent = muted ? 'Unmute' : 'Mute';
}

function show(state: Shown): void {
  const { label, hint } = STATES[state];
  page.state.dataset['state'] = state;
  page.glyph.setAttribute('href', `#i-${state}`);
  page.interrupt.disabled = state !== 'speaking' && state !== 'thinking';
  say(label, hint);
  const past = state === 'off' || state === 'connecting' ? [] : trail;
  trail = [...past, label].slice(-4);
  page.trail.textContent = trail.length > 1 ? trail.join(' › ').toLowerCase() : '';
}
let trail: string[] = [];

function say(label: string, hint: string): void {
  page.state.textContent = label;
  page.hint.textContent = hint;
}

function fail(failure: CallError): void {
  const { title, advice, actions } = FAILURES[failure.kind];
  const wait = failure.retryAfterMs;
  get('alert-title').textContent = title;
  get('alert-advice').textContent = advice;
  get('alert-detail').textContent =
    wait === null
      ? failure.message
      : `${failure.message} (try again in ${Math.ceil(wait / 1000)} s)`;
  get('alert-actions').replaceChildren(...actions.map(actionButton));
  page.alert.dataset['kind'] = failure.kind;
  page.alert.hidden = false;
  if (failure.kind === 'unauthorized') get('key-field').hidden = false;
}

function actionButton(action: Action): HTMLButtonElement {
  const button = document.createElement('button');
  button.type = 'button';
  button.textContent = ACTIONS[action];
  button.addEventListener('click', () => {
    if (action === 'reload') return location.reload();
    if (action === 'websocket') page.transport.value = 'websocket';
    void start(action !== 'type');
  });
  return button;
}

function animate(now: number): void {
  if (live.is !== 'live') return;
  meters(live.call.levels(), now);
  requestAnimationFrame(animate);
}

function meters(levels: { microphone: number; assistant: number }, now: number): void {
  line.draw(levels, now);
  for (const side of ['microphone', 'assistant'] as const) {
    const percent = String(Math.round(levels[side] * 100));
    page.meters[side].setAttribute('aria-valuenow', percent);
    page.meters[side].style.setProperty('--level', percent);
  }
}

async function offerMicrophones(): Promise<void> {
  const chosen = page.microphone.value;
  const microphones = await listMicrophones().catch(() => []);
  const options = microphones
    .filter(({ deviceId }) => deviceId !== 'default')
    .map(({ deviceId, label }) => new Option(label || 'Unnamed microphone', deviceId));
  page.microphone.replaceChildren(new Option('Default', ''), ...options);
  page.microphone.value = options.some(({ value }) => value === chosen) ? chosen : '';
}

function asCallError(error: unknown): CallError {
  if (error instanceof CallError) return error;
  return new CallError('unsupported', error instanceof Error ? error.message : String(error));
}

page.call.addEventListener('click', () => {
  if (live.is === 'off') void start(true);
  else hangUp();
});
page.mute.addEventListener('click', () => mute(!muted));
page.interrupt.addEventListener('click', () => {
  if (live.is === 'live') live.call.interrupt();
});
get('settings').addEventListener('submit', (event) => {
  event.preventDefault();
  void start(true);
});
get('composer').addEventListener('submit', (event) => {
  event.preventDefault();
  const text = page.text.value.trim();
  if (live.is !== 'live' || text === '') return;
  live.call.say(text);
  page.text.value = '';
});
navigator.mediaDevices?.addEventListener('devicechange', () => void offerMicrophones());

get('provider').textContent = provider.name;
get('about-title').textContent = provider.title;
get('about-provider').textContent = provider.text;
get('about-try').replaceChildren(
  ...provider.tries.map((text) => {
    const item = document.createElement('li');
    item.textContent = text;
    return item;
  }),
);
get('key-field').hidden = meta('voxline-key') !== '';
enter(live);
void offerMicrophones();
