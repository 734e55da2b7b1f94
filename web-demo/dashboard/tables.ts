/** The lists of the page: turns, calls, counters, breakers, alerts. */

import { el, get, icon, Rows, write, type Row } from './dom';
import { brief, clock, count, ms, percent, some, span } from './format';
import { ofTurn, type Fall } from './geometry';
import { isHop, labelOf } from './hops';
import type { Alert, Breaker, Budget, Session, Snapshot, Turn } from './snapshot';
import { Sequence, Waterfall } from './waterfall';

const TRANSPORTS: Readonly<Record<string, string>> = {
  webrtc: 'WebRTC',
  websocket: 'WebSocket',
  direct: 'Direct',
};

export function transport(name: string): string {
  return TRANSPORTS[name] ?? name;
}

/** Turns on the page at most. */
const TURNS = 12;

interface Shown {
  readonly turn: Turn;
  readonly budget: Budget;
  readonly fall: Fall;
}

export class Turns {
  readonly #rows = new Rows<Shown>(
    get('turns'),
    ({ turn }) => `${turn.session} ${turn.turn} ${turn.at}`,
    turnRow,
  );

  show({ turns, budget }: Snapshot): void {
    get('turns-empty').hidden = turns.length > 0;
    const latest = [...turns].sort((one, other) => other.at - one.at).slice(0, TURNS);
    // One scale for all, or their bars would say nothing beside each other.
    const least = Math.max(...latest.map(({ total }) => total), 0);
    const fallen = latest.map((turn) => ({ turn, budget, fall: ofTurn(turn, budget, least) }));
    this.#rows.show(fallen);
  }
}

function turnRow({ turn }: Shown): Row<Shown> {
  const id = `turn-${crypto.randomUUID()}`;
  const mini = new Sequence();
  const waterfall = new Waterfall(`Hops of turn ${turn.turn}`);
  const total = el('b', {});
  const blame = el('span', { class: 'blame' });
  const button = el(
    'button',
    { type: 'button', class: 'turn', 'aria-expanded': 'false', 'aria-controls': id },
    icon('open'),
    el('span', { class: 'when' }, clock(turn.at)),
    total,
    mini.element,
    blame,
    el('span', { class: 'whose' }, `${brief(turn.session)} · ${transport(turn.transport)}`),
  );
  const facts = el('p', { class: 'note' });
  const detail = el('div', { class: 'detail', id }, facts, waterfall.element);
  detail.hidden = true;
  let last: Shown | null = null;
  const fill = (): void => {
    if (last && !detail.hidden) waterfall.show(ofTurn(last.turn, last.budget));
  };
  button.addEventListener('click', () => {
    detail.hidden = !detail.hidden;
    button.setAttribute('aria-expanded', String(!detail.hidden));
    fill();
  });
  return {
    element: el('li', {}, button, detail),
    show(shown) {
      last = shown;
      const limit = shown.fall.limit;
      const late = shown.turn.total > limit;
      write(total, ms(shown.turn.total));
      write(blame, blamed(shown.turn, late));
      button.classList.toggle('late', late);
      mini.show(shown.fall);
      write(facts, story(shown.turn));
      fill();
    },
  };
}

function blamed({ culprit }: Turn, late: boolean): string {
  if (culprit !== null && isHop(culprit)) return labelOf(culprit);
  return late ? 'late' : 'in time';
}

/** Where a turn is from, and how far its figures can be trusted. */
function story(turn: Turn): string {
  const sum = Object.values(turn.hops).reduce((all, one) => all + one, 0);
  const parts = [
    `Turn ${turn.turn} of ${brief(turn.session)}`,
    transport(turn.transport),
    `hops add up to ${ms(sum)} of ${ms(turn.total)}`,
    `client’s clock within ± ${ms(turn.uncertainty)}`,
  ];
  if (turn.estimated.length > 0) parts.push('≈ marks what is estimated');
  return `${parts.join(' · ')}.`;
}

export class Sessions {
  readonly #rows = new Rows<Timed>(get('sessions'), ({ session }) => session.id, sessionRow);

  show(snapshot: Snapshot): void {
    const { sessions, moreSessions, at } = snapshot;
    const limit = snapshot.budget.limits['end_to_end'] ?? Infinity;
    const all = sessions.length + moreSessions;
    get('sessions-empty').hidden = all > 0;
    write(get('sessions-count'), all > 0 ? count(all) : '');
    write(get('sessions-more'), moreSessions > 0 ? `And ${count(moreSessions)} more.` : '');
    this.#rows.show(sessions.map((session) => ({ session, now: at, limit })));
  }
}

interface Timed {
  readonly session: Session;
  readonly now: number;
  readonly limit: number;
}

function sessionRow({ session }: Timed): Row<Timed> {
  const state = el('span', { class: 'state' });
  const way = el('span', { class: 'way' });
  const turns = el('span', { class: 'last', 'aria-label': 'Last turns' });
  const element = el(
    'li',
    {},
    state,
    el('code', { title: session.id }, brief(session.id)),
    way,
    turns,
  );
  return {
    element,
    show({ session, now, limit }) {
      element.dataset['state'] = session.state;
      write(state, session.state || 'unknown');
      write(way, wayOf(session, now));
      const last = session.lastTurns.slice(-4);
      const chips = last.map((took) =>
        el('span', { class: took > limit ? 'chip late' : 'chip' }, ms(took)),
      );
      if (turns.textContent !== chips.map((chip) => chip.textContent).join('')) {
        turns.replaceChildren(...chips);
      }
    },
  };
}

function wayOf(session: Session, now: number): string {
  const parts = [
    transport(session.transport),
    session.rung === 'voice' ? '' : session.rung,
    session.link === 'up' ? '' : `provider ${session.link}`,
    some(session.turns, 'turn'),
    span(now / 1000 - session.beganAt),
  ];
  return parts.filter((part) => part !== '').join(' · ');
}

/** A figure, and the one that it is seen beside. */
interface Count {
  readonly name: string;
  readonly value: string;
  readonly of: string;
  readonly bad: boolean;
}

export class Counters {
  readonly #rows = new Rows<Count>(get('counters'), ({ name }) => name, counterRow);

  show({ counters }: Snapshot): void {
    const of = (name: string): number => counters[name] ?? 0;
    this.#rows.show([
      {
        name: 'Tokens renewed',
        value: count(of('rotations')),
        of: `${count(of('rotations_failed'))} failed`,
        bad: of('rotations_failed') > 0,
      },
      {
        name: 'Provider links lost',
        value: count(of('links_lost')),
        of: `${count(of('links_restored'))} restored`,
        bad: of('links_lost') > of('links_restored'),
      },
      {
        name: 'Clients lost',
        value: count(of('parked')),
        of: `${count(of('resumed'))} came back`,
        bad: false,
      },
      {
        name: 'Answers interrupted',
        value: count(of('interruptions')),
        of: `${count(of('interruptions_failed'))} unconfirmed`,
        bad: false,
      },
      { name: 'ICE restarts', value: count(of('ice_restarts')), of: '', bad: false },
    ]);
  }
}

function counterRow({ name }: Count): Row<Count> {
  const value = el('dd', {});
  const of = el('dd', { class: 'of' });
  const element = el('div', {}, el('dt', {}, name), value, of);
  return {
    element,
    show(item) {
      write(value, item.value);
      write(of, item.of);
      element.classList.toggle('bad', item.bad);
    },
  };
}

const STATES: Readonly<Record<string, string>> = {
  closed: 'closed: requests pass',
  open: 'open: left alone for now',
  half_open: 'half open: one request tells',
};

export class Guards {
  readonly #breakers = new Rows<Breaker>(get('breakers'), breakerKey, breakerRow);
  readonly #firing = new Rows<Since>(get('firing'), ({ alert }) => alert.name, alertRow);

  show({ breakers, alerts, at }: Snapshot): void {
    get('breakers-empty').hidden = breakers.length > 0;
    this.#breakers.show(breakers);
    const since = alerts.map((alert) => ({ alert, now: at }));
    this.#firing.show(since);
    const many = some(alerts.length, 'alert');
    const firing = `${many} ${alerts.length === 1 ? 'is' : 'are'} firing: see above.`;
    write(get('alerts'), alerts.length > 0 ? firing : 'No alert is firing.');
    get('alerts').classList.toggle('alarm', alerts.length > 0);
  }
}

function breakerKey({ name, provider }: Breaker): string {
  return `${name} ${provider}`;
}

function breakerRow(breaker: Breaker): Row<Breaker> {
  const state = el('span', { class: 'state' });
  const slow = el('span', { class: 'slow' });
  const name = `${breaker.name} · ${breaker.provider}`;
  const element = el('li', {}, el('strong', {}, name), state, slow);
  return {
    element,
    show(item) {
      element.dataset['state'] = item.state;
      write(state, STATES[item.state] ?? item.state);
      write(slow, item.slow > 0 ? `${percent(item.slow)} slow` : '');
    },
  };
}

interface Since {
  readonly alert: Alert;
  readonly now: number;
}

function alertRow({ alert }: Since): Row<Since> {
  const says = el('span', { class: 'says' });
  const since = el('span', { class: 'since' });
  const words = el('div', {}, el('strong', {}, alert.name), says, since);
  return {
    element: el('li', {}, icon('warn'), words),
    show({ alert, now }) {
      write(says, alert.says);
      write(since, `for ${span(now / 1000 - alert.since)}`);
    },
  };
}
