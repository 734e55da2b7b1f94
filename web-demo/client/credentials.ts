/**
 * What opens the relay's doors for one call: its token, and the resume token that attaches anew
 * to the session that runs. The relay renews both in mid-call.
 *
 * Pure: an event goes in, duties come out. A token is acknowledged only once it is kept, and
 * told to the page once, however often the relay repeats it.
 */

import { number, record, text, type ClientEvent, type ServerEvent } from './protocol';

export interface TokenRenewal {
  readonly tokenId: string;
  /** In milliseconds since 1970, by the relay's clock. */
  readonly expiresAt: number;
}

export type Duty =
  | { readonly do: 'send'; readonly event: ClientEvent }
  | { readonly do: 'tell'; readonly renewal: TokenRenewal }
  /** Get a token from the page's own server and present it. */
  | { readonly do: 'fetch'; readonly withinMs: number }
  /** The relay does not accept what was presented. */
  | { readonly do: 'fetch-again' }
  /** Attach anew: the relay gives up this connection's token. */
  | { readonly do: 'reconnect'; readonly withinMs: number };

export class Credentials {
  #token: string;
  #tokenId = '';
  #resume: string | null = null;
  #resumeWindowMs = 0;
  #presented = false;

  constructor(token: string) {
    this.#token = token;
  }

  /** The newest token: for requests about this call. */
  get token(): string {
    return this.#token;
  }

  /** Attaches to the session that runs; `null` if the relay has given none. */
  get resume(): string | null {
    return this.#resume;
  }

  /** How long the relay keeps a session whose connection broke. */
  get resumeWindowMs(): number {
    return this.#resume === null ? 0 : this.#resumeWindowMs;
  }

  /** The page's server has given a token; the relay answers with `voxline.token`, or an error. */
  present(token: string): ClientEvent {
    this.#presented = true;
    return { type: 'voxline.token_present', token };
  }

  handle(event: ServerEvent): Duty[] {
    switch (event.type) {
      case 'voxline.session':
        this.#keepResume(event);
        this.#resumeWindowMs = number(event, 'resume_window_ms');
        return [];
      case 'voxline.token':
        return this.#renewed(event);
      case 'voxline.token_expiring':
        return [{ do: 'fetch', withinMs: number(event, 'within_ms') }];
      case 'voxline.reconnect':
        this.#keepResume(event);
        return [{ do: 'reconnect', withinMs: number(event, 'within_ms') }];
      case 'error':
        return this.#presented && isRefusal(event) ? this.#refused() : [];
      default:
        return [];
    }
  }

  #renewed(event: ServerEvent): Duty[] {
    const tokenId = text(event, 'token_id');
    const token = text(event, 'token');
    if (tokenId === '' || token === '') return [];
    this.#keepResume(event);
    const acknowledgement = { type: 'voxline.token_ack', token_id: tokenId };
    const duties: Duty[] = [{ do: 'send', event: acknowledgement }];
    if (tokenId === this.#tokenId) return duties;
    this.#token = token;
    this.#tokenId = tokenId;
    this.#presented = false;
    const expiresAt = number(event, 'expires_at') * 1000;
    return [...duties, { do: 'tell', renewal: { tokenId, expiresAt } }];
  }

  #refused(): Duty[] {
    this.#presented = false;
    return [{ do: 'fetch-again' }];
  }

  #keepResume(event: ServerEvent): void {
    this.#resume = text(event, 'resume_token') || this.#resume;
  }
}

/** Whether an `error` event is about a token. */
function isRefusal(event: ServerEvent): boolean {
  const code = text(record(event, 'error'), 'code');
  return code.startsWith('token_') || ABOUT_TOKENS.has(code);
}

const ABOUT_TOKENS: ReadonlySet<string> = new Set([
  'insufficient_permissions',
  'invalid_api_key',
  'tenant_unknown',
]);
