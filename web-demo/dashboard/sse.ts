/**
 * Server-sent events out of a stream of text, as the HTML standard has them (9.2.6).
 *
 * `EventSource` takes no headers, so the page reads the stream itself.
 */

export interface Message {
  readonly event: string;
  readonly data: string;
}

export class Parser {
  #rest = '';
  #event = '';
  #data: string[] = [];
  #began = false;

  /** Takes what has come; gives back the messages that are now complete. */
  push(chunk: string): Message[] {
    let text = this.#rest + chunk;
    if (!this.#began && text !== '') {
      this.#began = true;
      text = text.replace(/^\uFEFF/, '');
    }
    // The second half of a line's end may be in the next chunk.
    const held = text.endsWith('\r') ? 1 : 0;
    const lines = text.slice(0, text.length - held).split(/\r\n|\n|\r/);
    this.#rest = (lines.pop() ?? '') + text.slice(text.length - held);
    return lines.flatMap((line) => this.#line(line));
  }

  #line(line: string): Message[] {
    if (line === '') return this.#dispatch();
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'data') this.#data.push(value);
    else if (field === 'event') this.#event = value;
    return [];
  }

  #dispatch(): Message[] {
    const message = { event: this.#event || 'message', data: this.#data.join('\n') };
    const isEmpty = this.#data.length === 0;
    this.#event = '';
    this.#data = [];
    return isEmpty ? [] : [message];
  }
}
