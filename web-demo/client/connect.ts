import { Call, Hub } from './call';
import { CallError } from './failure';
import { checkBrowser, openMicrophone, type Microphone, type MicrophoneChoice } from './microphone';
import type { Target, Transport, TransportKind } from './transport';
import { connectWebRtc } from './webrtc';
import { connectWebSocket } from './websocket';

/** How long the relay may take from the connection to the provider's `session.created`. */
const SESSION_MS = 15_000;

export interface ConnectOptions {
  /** The relay; the page's own origin if absent. */
  readonly baseUrl?: string;
  /** A key of the relay, or a client secret (`ek_...`). */
  readonly token: string;
  readonly model: string;
  /** `auto` takes WebRTC, and WebSocket where UDP is blocked. */
  readonly transport?: TransportKind | 'auto';
  readonly microphone?: MicrophoneChoice;
  /** OpenAI's session object: instructions, voice, transcription, tools, ... */
  readonly session?: Readonly<Record<string, unknown>>;
  /** Abort to give up while connecting: `connect` rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Told of each transport that is tried, and why the one before failed. */
  readonly onAttempt?: (transport: TransportKind, after: CallError | null) => void;
}

/** Starts a call. Rejects with a `CallError` that says why it could not. */
export async function connect(options: ConnectOptions): Promise<Call> {
  checkBrowser();
  const microphone = await openMicrophone(options.microphone ?? true);
  const kind = options.transport ?? 'auto';
  const target: Target = {
    baseUrl: options.baseUrl ?? location.origin,
    token: options.token,
    model: options.model,
    session: options.session ?? null,
    signal: options.signal ?? new AbortController().signal,
  };
  const attempt = (transport: TransportKind, after: CallError | null) => {
    options.onAttempt?.(transport, after);
    return start(transport, target, microphone, after);
  };
  try {
    target.signal.throwIfAborted();
    if (kind !== 'auto') return await attempt(kind, null);
    try {
      return await attempt('webrtc', null);
    } catch (error) {
      if (!(error instanceof CallError && isAboutThePath(error))) throw error;
      return await attempt('websocket', error);
    }
  } catch (error) {
    microphone.release();
    throw error;
  }
}

/** Whether WebSocket may work where WebRTC failed. */
function isAboutThePath({ kind }: CallError): boolean {
  return kind === 'udp-blocked' || kind === 'unsupported';
}

async function start(
  kind: TransportKind,
  target: Target,
  microphone: Microphone,
  fallback: CallError | null,
): Promise<Call> {
  const hub = new Hub();
  const open = kind === 'webrtc' ? connectWebRtc : connectWebSocket;
  let transport: Transport;
  try {
    transport = await open(target, microphone, hub);
    hub.releases(() => transport.close());
    await sessionReady(hub, target.signal);
  } catch (error) {
    hub.end(null);
    throw error;
  }
  const goodbye = () => hub.end(null);
  addEventListener('pagehide', goodbye);
  hub.releases(() => removeEventListener('pagehide', goodbye));
  hub.releases(() => microphone.release());
  for (const track of microphone.stream?.getAudioTracks() ?? []) {
    track.addEventListener('ended', () => hub.microphoneLost());
  }
  // What has happened meanwhile is told once the caller has had the time to listen.
  setTimeout(() => hub.emitter.release());
  return new Call(transport, hub, fallback);
}

async function sessionReady(hub: Hub, signal: AbortSignal): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const given = new Promise<never>((_resolve, reject) => {
    const late = () => reject(new CallError('provider-gone', 'the provider opened no session'));
    timer = setTimeout(late, SESSION_MS);
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
  try {
    await Promise.race([hub.ready, given]);
  } finally {
    clearTimeout(timer);
  }
}
