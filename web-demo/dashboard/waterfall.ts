/** A waterfall on the page: the whole as one bar, and below it each hop against its limit. */

import { el, place, Rows, write, type Row } from './dom';
import { ms } from './format';
import { share, ticks, type Bar, type Fall } from './geometry';
import { ABOUT } from './hops';

export class Waterfall {
  readonly element = el('div', { class: 'waterfall' });
  readonly #sequence = new Sequence();
  readonly #whole = new Figures();
  readonly #scale = el('span', { class: 'scale', 'aria-hidden': 'true' });
  readonly #row: HTMLElement;
  readonly #rows: Rows<Step>;

  constructor(name: string) {
    this.#row = el(
      'div',
      { class: 'step whole' },
      el('span', { class: 'name' }, el('strong', {}, 'Total'), el('em', {}, 'end to end')),
      el('span', { class: 'track' }, this.#sequence.element, this.#scale),
      this.#whole.element,
    );
    const list = el('ol', { class: 'steps', 'aria-label': name });
    this.element.append(this.#row, list);
    this.#rows = new Rows(list, ({ bar }) => bar.hop, step);
  }

  show(fall: Fall): void {
    const { total, limit, end } = fall;
    this.#sequence.show(fall);
    const over = Math.max(0, (total ?? 0) - limit);
    this.#whole.show({ took: total, limit, over, estimated: 0 });
    this.#row.classList.toggle('is-over', over > 0);
    place(this.element, { '--whole': share(limit, end) });
    // The last mark has no room for what is written at it.
    const marks = ticks(end, 5).filter((tick) => tick / end < 0.82);
    this.#scale.replaceChildren(
      ...marks.map((tick) => {
        const mark = el('span', {}, tick === 0 ? '0' : ms(tick));
        place(mark, { '--at': share(tick, end) });
        return mark;
      }),
    );
    this.#rows.show(fall.bars.map((bar) => ({ bar, end })));
  }
}

/** How long it took, of how much, and by how much that was too long. */
class Figures {
  readonly #took = el('b', {});
  readonly #limit = el('span', { class: 'limit' });
  readonly #over = el('span', { class: 'overrun' });
  readonly #guess = el('span', { class: 'guess' });
  readonly element = el(
    'span',
    { class: 'figures' },
    this.#took,
    this.#limit,
    el('span', { class: 'remarks' }, this.#over, this.#guess),
  );

  show({ took, limit, over, estimated }: Pick<Bar, 'took' | 'limit' | 'over' | 'estimated'>): void {
    write(this.#took, took === null ? 'unknown' : ms(took));
    write(this.#limit, Number.isFinite(limit) ? `of ${ms(limit)}` : '');
    write(this.#over, over > 0 ? `+${ms(over)}` : '');
    write(this.#guess, guessed(estimated));
  }
}

/** All hops as one bar, with the limit of the whole. */
export class Sequence {
  readonly element = el('div', { class: 'sequence', role: 'img' });
  readonly #parts: Rows<Step>;
  readonly #limit = el('i', { class: 'whole-limit' });
  readonly #total = el('i', { class: 'whole-total' });

  constructor() {
    const bar = el('div', { class: 'parts' });
    this.element.append(bar, this.#limit, this.#total);
    this.#parts = new Rows(bar, ({ bar }) => bar.hop, part);
  }

  show(fall: Fall): void {
    this.#parts.show(fall.bars.map((bar) => ({ bar, end: fall.end })));
    place(this.#limit, { '--at': share(fall.limit, fall.end) });
    this.#limit.hidden = !Number.isFinite(fall.limit);
    this.#limit.dataset['label'] = `limit ${ms(fall.limit)}`;
    this.#total.hidden = fall.total === null;
    place(this.#total, { '--at': share(fall.total ?? 0, fall.end) });
    this.element.classList.toggle('early', fall.limit / fall.end < 0.2);
    this.element.setAttribute('aria-label', inWords(fall));
  }
}

/** The whole in one sentence, for those who do not see the bar. */
function inWords(fall: Fall): string {
  const hops = fall.bars.map((bar) => {
    const took = bar.took === null ? 'unknown' : ms(bar.took);
    const over = bar.over > 0 ? `, ${ms(bar.over)} over its limit` : '';
    return `${ABOUT[bar.hop].label} ${took}${over}`;
  });
  const whole = fall.total === null ? '' : `End to end ${ms(fall.total)}. `;
  return `${whole}${hops.join('; ')}.`;
}

interface Step {
  readonly bar: Bar;
  readonly end: number;
}

function part({ bar }: Step): Row<Step> {
  const label = el('span', {}, ABOUT[bar.hop].label);
  const over = el('i', { class: 'over' });
  const element = el('div', { class: 'part', 'data-side': ABOUT[bar.hop].side }, label, over);
  element.dataset['hop'] = bar.hop;
  return {
    element,
    show({ bar, end }) {
      const took = bar.within + bar.over;
      place(element, { '--size': share(took, end) });
      place(over, { '--size': share(bar.over, took) });
      over.hidden = bar.over === 0;
      element.hidden = took === 0;
      // A name has room or is left out; it stands below once more.
      const room = took / end / ABOUT[bar.hop].label.length;
      element.classList.toggle('narrow', room < 0.0145);
      element.classList.toggle('close', room < 0.03);
      element.classList.toggle('estimated', bar.estimated > 0.5);
    },
  };
}

function step({ bar }: Step): Row<Step> {
  const about = ABOUT[bar.hop];
  const figures = new Figures();
  const budget = el('i', { class: 'budget' });
  const within = el('i', { class: 'within' });
  const beyond = el('i', { class: 'over' });
  const name = el(
    'span',
    { class: 'name' },
    el('strong', {}, about.label),
    el('em', {}, about.what),
  );
  const element = el(
    'li',
    { class: 'step', 'data-side': about.side },
    name,
    el('span', { class: 'track', 'aria-hidden': 'true' }, budget, within, beyond),
    figures.element,
  );
  element.dataset['hop'] = bar.hop;
  return {
    element,
    show({ bar, end }) {
      figures.show(bar);
      element.classList.toggle('is-over', bar.over > 0);
      element.classList.toggle('estimated', bar.estimated > 0.5);
      const start = share(bar.start, end);
      const limit = Number.isFinite(bar.limit) ? bar.limit : 0;
      place(budget, { '--at': start, '--size': share(limit, end) });
      place(within, { '--at': start, '--size': share(bar.within, end) });
      place(beyond, { '--at': share(bar.start + bar.within, end), '--size': share(bar.over, end) });
      beyond.hidden = bar.over === 0;
      within.hidden = bar.took === null;
    },
  };
}

function guessed(part: number): string {
  if (part === 0) return '';
  return part > 0.5 ? '≈ estimated' : '≈ in part';
}
