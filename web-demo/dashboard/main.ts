/** The latency dashboard: shows what the relay says each second, and that it says nothing. */

import { OverTime, Percentiles } from './charts';
import { el, get, write } from './dom';
import { Feed, type Standing } from './feed';
import { count, ms, percent, span } from './format';
import { ofWindow } from './geometry';
import { HOPS, labelOf, SIDES } from './hops';
import { limitOf, measureOf, type Quantile, type Snapshot } from './snapshot';
import { Counters, Guards, Sessions, transport, Turns } from './tables';
import { verdict } from './verdict';
import { Waterfall } from './waterfall';

/** In this tab, and no longer than it. */
const KEY = 'voxline-admin-key';

/** Headlines of a page that does not know. */
const DOUBTS = {
  lost: 'How it is now is not known.',
  locked: 'The figures are under lock.',
  barred: 'There is nothing to see here.',
};

const page = {
  title: get('verdict'),
  detail: get('detail'),
  sign: get('sign'),
  link: get('link'),
  uptime: get('uptime'),
  notice: get('notice'),
  noticeSign: get('notice-sign'),
  noticeTitle: get('notice-title'),
  noticeText: get('notice-text'),
  unlock: get<HTMLFormElement>('unlock'),
  key: get<HTMLInputElement>('key'),
  retry: get<HTMLButtonElement>('retry'),
  filters: get<HTMLFormElement>('filters'),
  provider: get<HTMLSelectElement>('provider'),
  transport: get<HTMLSelectElement>('transport'),
  quantiles: get('quantiles'),
  measure: get<HTMLSelectElement>('measure'),
  falls: get('falls'),
};

const waterfall = new Waterfall('Hops');
const overTime = new OverTime();
const percentiles = new Percentiles();
const turns = new Turns();
const sessions = new Sessions();
const counters = new Counters();
const guards = new Guards();

let latest: { readonly snapshot: Snapshot; readonly at: number } | null = null;
let standing: Standing = { is: 'connecting' };
/** The measure that the curve shows; until somebody chooses it is the one to blame. */
let chosen: string | null = null;

const feed = new Feed({
  standing(now) {
    standing = now;
    showStanding();
    if (now.is === 'locked') page.key.focus();
  },
  snapshot(snapshot) {
    latest = { snapshot, at: performance.now() };
    show(snapshot);
  },
});

function show(snapshot: Snapshot): void {
  showVerdict(snapshot);
  showKeys(snapshot);
  choices(page.provider, snapshot.providers, (name) => name);
  choices(page.transport, snapshot.transports, transport);
  showFall(snapshot);
  showCurve(snapshot);
  overTime.show(snapshot);
  turns.show(snapshot);
  sessions.show(snapshot);
  counters.show(snapshot);
  guards.show(snapshot);
  write(page.uptime, `up for ${span(snapshot.uptimeS)}`);
  showStanding();
}

function showVerdict(snapshot: Snapshot): void {
  const { mood, title, detail, culprit } = verdict(snapshot);
  document.body.dataset['culprit'] = culprit ?? '';
  headline(mood, title, detail);
}

function headline(mood: string, title: string, detail: string): void {
  document.body.dataset['mood'] = mood;
  page.sign.setAttribute('href', `#i-${mood}`);
  write(page.title, title);
  write(page.detail, detail);
}

function showKeys(snapshot: Snapshot): void {
  const whole = measureOf(snapshot, 'end_to_end');
  const { objective } = snapshot.budget;
  const known = whole !== null && whole.count > 0;
  const limit = limitOf(snapshot.budget, 'end_to_end');
  write(get('whole'), known ? ms(whole.p95) : '–');
  get('whole').classList.toggle('bad', known && whole.p95 > limit);
  write(get('whole-limit'), `limit ${ms(limit)}`);
  const inTime = known ? 1 - whole.over / whole.count : 1;
  write(get('in-time'), known ? percent(inTime) : '–');
  get('in-time').classList.toggle('bad', inTime < objective);
  const of = known ? `of ${count(whole.count)}; ` : '';
  write(get('objective'), `${of}aim ${percent(objective)}`);
  const [short, long] = snapshot.burn;
  write(get('burn'), short && short.turns > 0 ? `${short.rate.toFixed(1)}×` : '–');
  get('burn').classList.toggle('bad', (short?.rate ?? 0) > 1);
  const burnt = long && long.turns > 0 ? `, ${long.rate.toFixed(1)}× in ${long.window}` : '';
  write(get('burn-long'), short ? `in ${short.window}${burnt}` : '');
}

function showFall(snapshot: Snapshot): void {
  const fall = ofWindow(snapshot, quantileChosen());
  const known = fall.bars.some(({ took }) => took !== null);
  get('falls-empty').hidden = known;
  get('falls-note').hidden = !known;
  page.falls.hidden = !known;
  if (known) waterfall.show(fall);
}

function showCurve(snapshot: Snapshot): void {
  const measured = snapshot.measures.filter(({ name }) => name !== '').map(({ name }) => name);
  const names = ['end_to_end', ...HOPS, ...measured.filter((name) => !isListed(name))];
  choices(page.measure, names, labelOf, false);
  const name = chosen ?? snapshot.culprit?.hop ?? 'end_to_end';
  page.measure.value = names.includes(name) ? name : 'end_to_end';
  percentiles.show(snapshot, page.measure.value);
}

function isListed(name: string): boolean {
  return name === 'end_to_end' || (HOPS as readonly string[]).includes(name);
}

/** Offers these; what is chosen stays, even while nobody has it. */
function choices(
  select: HTMLSelectElement,
  names: readonly string[],
  label: (name: string) => string,
  all = true,
): void {
  const value = select.value;
  const wanted = [...names];
  if (all && value !== '' && !wanted.includes(value)) wanted.push(value);
  const had = [...select.options].map((option) => option.value).filter((one) => one !== '');
  if (had.join() === wanted.join()) return;
  const options = wanted.map((name) => el('option', { value: name }, label(name)));
  select.replaceChildren(...(all ? [el('option', { value: '' }, 'All')] : []), ...options);
  select.value = value;
}

function showStanding(): void {
  document.body.dataset['standing'] = standing.is;
  const age = latest ? (performance.now() - latest.at) / 1000 : null;
  const old = age === null ? '' : `The figures below are ${span(age)} old.`;
  page.unlock.hidden = standing.is !== 'locked';
  page.retry.hidden = standing.is !== 'lost';
  page.notice.hidden = standing.is === 'live' || standing.is === 'connecting';
  switch (standing.is) {
    case 'connecting':
      write(page.link, 'connecting');
      break;
    case 'live':
      write(page.link, 'live');
      break;
    case 'lost': {
      const seconds = Math.max(0, Math.ceil((standing.retryAt - performance.now()) / 1000));
      write(page.link, 'not connected');
      notice('lost', 'The connection to the relay is lost', [
        standing.why,
        old,
        seconds > 0 ? `Trying again in ${seconds} s.` : 'Trying again.',
      ]);
      break;
    }
    case 'locked':
      write(page.link, 'locked');
      notice('key', standing.refused ? 'That is not the admin key' : 'This needs the admin key', [
        'It is `admin_key` in the relay’s configuration (VOXLINE_ADMIN_KEY).',
        old,
      ]);
      break;
    case 'barred':
      write(page.link, 'refused');
      notice('key', 'The relay shows no figures here', [standing.why, old]);
      break;
  }
  document.body.dataset['figures'] = latest === null ? 'none' : 'some';
  if (standing.is === 'connecting') {
    if (latest === null) headline('none', 'Asking the relay.', '');
  } else if (standing.is !== 'live') {
    showDoubt(standing.is);
  }
}

/** What was so is not what is so: an old answer is not left standing as if it were one. */
function showDoubt(why: keyof typeof DOUBTS): void {
  const age = latest ? span((performance.now() - latest.at) / 1000) : '';
  const then = latest ? `${age} ago: ${verdict(latest.snapshot).title}` : '';
  headline(why === 'lost' ? 'lost' : 'key', DOUBTS[why], then);
}

function notice(sign: string, title: string, sentences: readonly string[]): void {
  page.noticeSign.setAttribute('href', `#i-${sign}`);
  write(page.noticeTitle, title);
  write(page.noticeText, sentences.filter((sentence) => sentence !== '').join(' '));
}

function quantileChosen(): Quantile {
  const checked = page.quantiles.querySelector<HTMLInputElement>('input:checked');
  return Number(checked?.value ?? 95) as Quantile;
}

/** What is chosen stands in the address, so that it can be passed on. */
function wish(): URLSearchParams {
  const query = new URLSearchParams();
  for (const [name, value] of new FormData(page.filters)) {
    if (typeof value === 'string' && value !== '') query.set(name, value);
  }
  return query;
}

function open(): void {
  feed.open(`/admin/latency/events?${wish()}`, sessionStorage.getItem(KEY));
}

function restore(): void {
  const query = new URLSearchParams(location.search);
  const named = query.get('window') ?? '5m';
  for (const input of page.filters.querySelectorAll<HTMLInputElement>('input[name="window"]')) {
    input.checked = input.value === named;
  }
  if (!wish().has('window')) {
    const usual = page.filters.querySelector<HTMLInputElement>('input[value="5m"]');
    if (usual) usual.checked = true;
  }
  for (const select of [page.provider, page.transport]) {
    const value = query.get(select.name);
    if (value) {
      select.append(el('option', { value }, value));
      select.value = value;
    }
  }
}

page.filters.addEventListener('change', () => {
  history.replaceState(null, '', `?${wish()}`);
  open();
});
page.filters.addEventListener('submit', (event) => event.preventDefault());
page.quantiles.addEventListener('change', () => latest && showFall(latest.snapshot));
page.measure.addEventListener('change', () => {
  chosen = page.measure.value;
  if (latest) showCurve(latest.snapshot);
});
page.unlock.addEventListener('submit', (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, page.key.value.trim());
  page.key.value = '';
  open();
});
page.retry.addEventListener('click', () => feed.retry());
addEventListener('online', () => standing.is === 'lost' && feed.retry());
addEventListener('pagehide', () => feed.close());
addEventListener('pageshow', (event) => event.persisted && feed.retry());
// Ages and countdowns go on while nothing comes.
setInterval(() => standing.is !== 'live' && showStanding(), 1000);

get('sides').replaceChildren(
  ...Object.entries(SIDES).map(([side, name]) => el('li', { 'data-side': side }, name)),
  el('li', { class: 'beyond' }, 'Over its limit'),
);
page.falls.append(waterfall.element);
restore();
open();
