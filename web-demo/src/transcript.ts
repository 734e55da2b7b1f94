/** The transcript on the page: one list entry for each item of the conversation. */

import { HOPS, type Interruption, type TranscriptLine, type TurnLatency } from '../client';
import { ABOUT } from '../dashboard/hops';
import { duration, interruption } from './messages';

/** Entries on the page at most; the oldest make room. */
const MAX_ENTRIES = 200;

const NAMES = { person: 'You', assistant: 'Assistant' };

interface Entry {
  readonly element: HTMLLIElement;
  readonly head: HTMLElement;
  readonly words: HTMLElement;
}

export class Transcript {
  readonly #list: HTMLElement;
  #entries = new Map<string, Entry>();
  /** A response's entry, for what is known of it only as a response. */
  #responses = new Map<string, Entry>();
  /** Latencies and interruptions that came before their entry. */
  #waiting = new Map<string, ((entry: Entry) => void)[]>();

  constructor(list: HTMLElement) {
    this.#list = list;
  }

  clear(): void {
    this.#list.replaceChildren();
    this.#entries.clear();
    this.#responses.clear();
    this.#waiting.clear();
  }

  show(line: TranscriptLine): void {
    this.#keepingTheEndInView(() => {
      const entry = this.#entries.get(line.itemId) ?? this.#add(line);
      entry.words.textContent = line.text || '…';
      entry.element.classList.toggle('placeholder', line.placeholder);
      entry.element.classList.toggle('open', !line.done && !line.placeholder);
    });
  }

  latency(latency: TurnLatency): void {
    if (latency.responseId === null) return;
    this.#annotate(latency.responseId, ({ head }) => head.append(latencyDetails(latency)));
  }

  interrupted({ responseId, heardMs }: Interruption): void {
    this.#annotate(responseId, ({ element }) => {
      if (element.querySelector('.cut')) return;
      element.classList.remove('open');
      element.append(make('p', 'cut', interruption(heardMs)));
    });
  }

  /** Something that happened to the call, between the lines. */
  note(text: string): void {
    this.#keepingTheEndInView(() => this.#list.append(make('li', 'note', text)));
  }

  #annotate(responseId: string, change: (entry: Entry) => void): void {
    const entry = this.#responses.get(responseId);
    if (entry) this.#keepingTheEndInView(() => change(entry));
    else this.#waiting.set(responseId, [...(this.#waiting.get(responseId) ?? []), change]);
  }

  #add(line: TranscriptLine): Entry {
    const element = make('li', line.side);
    const head = make('div', 'head');
    const words = make('p', 'words');
    head.append(make('span', 'who', NAMES[line.side]));
    element.append(head, words);
    element.dataset['side'] = line.side;
    this.#list.append(element);
    const entry = { element, head, words };
    this.#entries.set(line.itemId, entry);
    if (line.responseId !== null) {
      this.#responses.set(line.responseId, entry);
      for (const change of this.#waiting.get(line.responseId) ?? []) change(entry);
      this.#waiting.delete(line.responseId);
    }
    if (this.#list.childElementCount > MAX_ENTRIES) this.#list.firstElementChild?.remove();
    return entry;
  }

  /** Follows the conversation, unless the reader has scrolled back. */
  #keepingTheEndInView(change: () => void): void {
    const list = this.#list;
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 48;
    change();
    if (atEnd) list.scrollTop = list.scrollHeight;
  }
}

function latencyDetails({ totalMs, hops, estimated }: TurnLatency): HTMLElement {
  const details = make('details', 'latency');
  const bar = make('div', 'bar');
  const list = make('dl');
  for (const hop of HOPS) {
    const ms = hops[hop];
    if (ms === undefined) continue;
    const { label, side, what } = ABOUT[hop];
    const part = make('i');
    part.style.flexGrow = String(ms);
    const row = make('div');
    row.title = what;
    row.append(make('dt', '', label), make('dd', '', duration(ms, estimated.includes(hop))));
    for (const element of [part, row]) element.dataset['side'] = side;
    bar.append(part);
    list.append(row);
  }
  details.append(make('summary', '', `first audio ${Math.round(totalMs)} ms`), bar, list);
  return details;
}

function make<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  className = '',
  text = '',
): HTMLElementTagNameMap[Tag] {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}
