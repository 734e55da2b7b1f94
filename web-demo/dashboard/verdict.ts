/** The answer to the one question: are people answered in time, and which hop is to blame? */

import { ms, some } from './format';
import { isHop, labelOf, type Hop } from './hops';
import { limitOf, measureOf, type Snapshot } from './snapshot';

export type Mood = 'good' | 'warn' | 'bad' | 'none';

export interface Verdict {
  readonly mood: Mood;
  /** Changes only when the answer does: it is read aloud. */
  readonly title: string;
  readonly detail: string;
  readonly culprit: Hop | null;
}

export const WINDOWS: Readonly<Record<string, string>> = {
  '1m': 'the last minute',
  '5m': 'the last 5 minutes',
  '1h': 'the last hour',
  all: 'all the time since the start',
};

export function verdict(snapshot: Snapshot): Verdict {
  const whole = measureOf(snapshot, 'end_to_end');
  const within = WINDOWS[snapshot.window] ?? snapshot.window;
  if (whole === null || whole.count === 0) return silence(snapshot, within);
  const { percentile } = snapshot.budget;
  const limit = limitOf(snapshot.budget, 'end_to_end');
  const reached = at(whole.curve, percentile) ?? whole.p95;
  const blamed = snapshot.culprit;
  const hop = blamed && isHop(blamed.hop) ? blamed.hop : null;
  const measured = `p${percentile} of the first sound is ${ms(reached)}, the limit ${ms(limit)}`;
  const turns = `${some(whole.count, 'turn')} in ${within}`;
  if (reached > limit) {
    return {
      mood: 'bad',
      title: hop ? `People wait too long. ${labelOf(hop)} is to blame.` : 'People wait too long.',
      detail: sentence(blamed?.says, `${measured}, over ${turns}.`),
      culprit: hop,
    };
  }
  if (blamed !== null && hop !== null) {
    return {
      mood: 'warn',
      title: `People are answered in time, but ${labelOf(hop)} is over its limit.`,
      detail: sentence(blamed.says, `${measured}, over ${turns}.`),
      culprit: hop,
    };
  }
  const all = isEachWithin(snapshot) ? '; every hop is within its own' : '';
  return {
    mood: 'good',
    title: 'People are answered in time.',
    detail: `The ${measured}${all}, over ${turns}.`,
    culprit: null,
  };
}

function silence(snapshot: Snapshot, within: string): Verdict {
  const calls = snapshot.sessions.length + snapshot.moreSessions;
  const now =
    calls === 0
      ? 'No call is on. Figures come with the first answer that is heard.'
      : `${some(calls, 'call')} ${calls === 1 ? 'is' : 'are'} on; figures come with the next answer that is heard.`;
  return {
    mood: 'none',
    title: 'Nobody was answered, so there is nothing to measure.',
    detail: `No turn in ${within}. ${now}`,
    culprit: null,
  };
}

/** What the relay says, else our own words. */
function sentence(said: string | undefined, own: string): string {
  if (!said) return `The ${own}`;
  // A hop is named as in the settings; people begin a sentence otherwise.
  const named = said.replace(/`(\w+)`/g, (_, name: string) => labelOf(name));
  return named.replaceAll('`', '');
}

function isEachWithin({ measures, budget }: Snapshot): boolean {
  return measures.every(
    ({ name, isHop, curve, p95 }) =>
      !isHop || (at(curve, budget.percentile) ?? p95) <= limitOf(budget, name),
  );
}

function at(curve: readonly (readonly [number, number])[], percentile: number): number | null {
  return curve.find(([one]) => one === percentile)?.[1] ?? null;
}
