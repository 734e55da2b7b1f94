import { Call, Hub } from './call';
import { Connector } from './connector';
import { Credentials } from './credentials';
import { CallError } from './failure';
import { Line, type Setup } from './line';
import { checkBrowser, openMicrophone, type Microphone, type MicrophoneChoice } from './microphone';
import { firstToken, type TokenSource } from './token-source';
import type { Ways } from './recovery';
import type { TransportKind, Wish } from './transport';

export interface ConnectOptions {
  /** The relay; the page's own origin if absent. */
  readonly baseUrl?: string;
  /**
   * A client secret (`ek_...`) or a key of the relay, or a function that gets a client secret from
   * the page's own server: for the beginning, and whenever the relay cannot renew it by itself.
   */
  readonly token: TokenSource;
  /** The device that the client secret is bound to, if it is. */
  readonly device?: string;
  readonly model: string;
  /** `auto` takes WebRTC, and WebSocket where UDP is blocked, also in mid-call. */
  readonly transport?: Ways;
  readonly microphone?: MicrophoneChoice;
  /** OpenAI's session object: instructions, voice, transcription, tools, ... */
  readonly session?: Readonly<Record<string, unknown>>;
  /** Abort to give up while connecting: `connect` rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Told of each transport that is tried, and why the one before failed. */
  readonly onAttempt?: (transport: TransportKind, after: CallError | null) => void;
}

/** RFC 9110's token: what fits into a WebSocket subprotocol. */
const DEVICE = /^[\w!#$%&'*+.^`|~-]+$/;

/** Starts a call. Rejects with a `CallError` that says why it could not. */
export async function connect(options: ConnectOptions): Promise<Call> {
  checkBrowser();
  const device = options.device ?? null;
  if (device !== null && !DEVICE.test(device)) {
    const allowed = "letters, digits and !#$%&'*+-.^_`|~";
    throw new CallError('refused', `a device's name consists of ${allowed}`);
  }
  const signal = options.signal ?? new AbortController().signal;
  const wish: Wish = { model: options.model, session: options.session ?? null };
  const microphone = await openMicrophone(options.microphone ?? true);
  const ways = options.transport ?? 'auto';
  try {
    const setup: Setup = {
      baseUrl: options.baseUrl ?? location.origin,
      device,
      source: options.token,
      credentials: new Credentials(await firstToken(options.token, signal)),
    };
    const attempt = (transport: TransportKind, after: CallError | null) => {
      options.onAttempt?.(transport, after);
      return start(transport, ways, wish, setup, microphone, after, signal);
    };
    signal.throwIfAborted();
    if (ways !== 'auto') return await attempt(ways, null);
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
  ways: Ways,
  wish: Wish,
  setup: Setup,
  microphone: Microphone,
  fallback: CallError | null,
  signal: AbortSignal,
): Promise<Call> {
  const hub = new Hub();
  const connector = new Connector(microphone);
  let line: Line;
  try {
    line = await Line.open(connector.open, kind, ways, wish, setup, hub, signal);
  } catch (error) {
    connector.close();
    throw error;
  }
  const goodbye = () => hub.end(null);
  addEventListener('pagehide', goodbye);
  hub.releases(() => removeEventListener('pagehide', goodbye));
  hub.releases(watchNetwork(() => line.hurry()));
  hub.releases(() => connector.close());
  hub.releases(() => microphone.release());
  for (const track of microphone.stream?.getAudioTracks() ?? []) {
    track.addEventListener('ended', () => hub.microphoneLost());
  }
  // What has happened meanwhile is told once the caller has had the time to listen.
  setTimeout(() => hub.emitter.release());
  return new Call(line, hub, fallback);
}

/** Has `changed` called when the network is another one, or there again, as far as browsers say. */
function watchNetwork(changed: () => void): () => void {
  const { connection } = navigator as { connection?: EventTarget };
  addEventListener('online', changed);
  connection?.addEventListener('change', changed);
  return () => {
    removeEventListener('online', changed);
    connection?.removeEventListener('change', changed);
  };
}
