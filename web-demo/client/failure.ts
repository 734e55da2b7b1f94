/** Why a call could not start or ended: a closed list, so that a page can answer each kind. */
export type FailureKind =
  /** The page is not served over HTTPS or from localhost: browsers give it no microphone. */
  | 'insecure-context'
  /** The browser lacks WebRTC, WebSocket or AudioWorklet. */
  | 'unsupported'
  | 'no-microphone'
  | 'microphone-denied'
  /** Another program holds the microphone, or it failed. */
  | 'microphone-busy'
  /** Signaling worked, but no media path opened: UDP is blocked on the way. */
  | 'udp-blocked'
  /** The relay did not answer. */
  | 'unreachable'
  /** The key was refused. */
  | 'unauthorized'
  /** The token's life is over: the page's server makes the next one. */
  | 'token-expired'
  /** The token, or the running session, was revoked. */
  | 'revoked'
  /** The page's own server gave no token. */
  | 'no-token'
  /** The relay takes no calls from pages of this origin. */
  | 'origin-refused'
  /** The relay has no room for another call, or a limit is reached; see `retryAfterMs`. */
  | 'busy'
  /** The relay answers, the voice provider behind it does not. */
  | 'provider-gone'
  /** The relay is shutting down. */
  | 'shutdown'
  /** The session has reached its maximum duration. */
  | 'expired'
  /** The session has lasted as long as the relay lets one last. */
  | 'too-long'
  /** The session that the call wanted to come back to is over: a new call begins a new one. */
  | 'session-gone'
  /** Both sides were silent for too long. */
  | 'idle'
  /** This device did not keep up with the relay's messages. */
  | 'overrun'
  /** The relay understood the request and refused it. */
  | 'refused'
  /** The connection broke in mid-call. */
  | 'lost';

export class CallError extends Error {
  override readonly name = 'CallError';

  constructor(
    readonly kind: FailureKind,
    message: string,
    /** OpenAI's or voxline's `error.code`, where the relay gave one. */
    readonly code: string | null = null,
    /** How long the relay asks to wait before the next try. */
    readonly retryAfterMs: number | null = null,
  ) {
    super(message);
  }
}

const CODES: Record<string, FailureKind> = {
  invalid_api_key: 'unauthorized',
  token_malformed: 'unauthorized',
  token_algorithm: 'unauthorized',
  token_unknown_key: 'unauthorized',
  token_signature: 'unauthorized',
  token_not_yet_valid: 'unauthorized',
  token_wrong_audience: 'unauthorized',
  token_wrong_issuer: 'unauthorized',
  token_wrong_device: 'unauthorized',
  token_unknown_config: 'unauthorized',
  tenant_unknown: 'unauthorized',
  token_expired: 'token-expired',
  token_revoked: 'revoked',
  session_revoked: 'revoked',
  origin_not_allowed: 'origin-refused',
  insufficient_permissions: 'refused',
  model_not_allowed: 'refused',
  rate_limit_exceeded: 'busy',
  session_not_found: 'session-gone',
  session_too_long: 'too-long',
  provider_gone: 'provider-gone',
  provider_unavailable: 'provider-gone',
  session_expired: 'expired',
  shutting_down: 'shutdown',
};

/** The reasons of `voxline.closing`. */
const REASONS: Record<string, FailureKind> = {
  expired: 'expired',
  idle: 'idle',
  overrun: 'overrun',
  provider_gone: 'provider-gone',
  revoked: 'revoked',
  shutdown: 'shutdown',
  too_long: 'too-long',
};

/** What `getUserMedia` throws. */
export function fromMedia(error: unknown): CallError {
  const name = error instanceof Error ? error.name : '';
  const message = error instanceof Error ? error.message : String(error);
  switch (name) {
    case 'NotAllowedError':
      return new CallError('microphone-denied', message || 'permission denied');
    case 'SecurityError':
      return new CallError('insecure-context', message);
    case 'NotFoundError':
    case 'OverconstrainedError':
      return new CallError('no-microphone', message || 'no microphone found');
    default:
      return new CallError('microphone-busy', message || 'the microphone could not be opened');
  }
}

/** An HTTP answer that is not a success; `body` is its text, `retryAfter` that header. */
export function fromHttp(status: number, body: string, retryAfter: string | null): CallError {
  const error = errorIn(body);
  const seconds = retryAfter === null ? Number.NaN : Number.parseFloat(retryAfter);
  return new CallError(
    (error?.code && CODES[error.code]) || kindOfStatus(status),
    error?.message ?? `the relay answered with HTTP status ${status}`,
    error?.code ?? null,
    Number.isFinite(seconds) ? seconds * 1000 : null,
  );
}

function kindOfStatus(status: number): FailureKind {
  if (status === 401 || status === 403) return 'unauthorized';
  if (status === 429 || status === 503) return 'busy';
  if (status === 502 || status === 504) return 'provider-gone';
  return status >= 500 ? 'unreachable' : 'refused';
}

/** The last words of the relay before it went: its `error` event and `voxline.closing`. */
export interface LastWords {
  readonly error: { readonly code: string | null; readonly message: string } | null;
  readonly closing: string | null;
}

/** The end of a connection that the page did not ask for. `code` is WebSocket's, if it was one. */
export function fromClose(words: LastWords, code: number | null, reason = ''): CallError {
  const said = words.error;
  const detail = said?.message || reason;
  const kind = (words.closing && REASONS[words.closing]) || (said?.code && CODES[said.code]);
  if (kind) return new CallError(kind, detail || `the relay closed the call: ${kind}`, said?.code);
  switch (code) {
    case 3000:
      return new CallError('unauthorized', detail || 'the key was refused', said?.code);
    case 4000:
      return new CallError('refused', detail || 'the relay refused the session', said?.code);
    case 1001:
    case 1012:
      return new CallError('shutdown', detail || 'the relay is shutting down');
    case 1008:
      return new CallError('overrun', detail || 'this device did not keep up');
    case 1013:
      return new CallError('provider-gone', detail || 'the relay asks to try again later');
    default:
      return new CallError('lost', detail || 'the connection to the relay broke');
  }
}

/**
 * Whether a connection that ended so may only have broken: the relay has not said that the session
 * is over, and WebSocket's close code, if it was one, is none of a decision.
 */
export function mayResume(words: LastWords, code: number | null): boolean {
  if (words.closing !== null) return false;
  return code === null || BREAKS.has(code);
}

/** No status, abnormal, internal error, service restart, try again later (RFC 6455, IANA). */
const BREAKS: ReadonlySet<number> = new Set([1005, 1006, 1011, 1012, 1013]);

function errorIn(body: string): { code: string | null; message: string } | null {
  try {
    const { error } = JSON.parse(body) as { error?: { code?: unknown; message?: unknown } };
    if (typeof error?.message !== 'string') return null;
    return { code: typeof error.code === 'string' ? error.code : null, message: error.message };
  } catch {
    return null;
  }
}
