/** Figures as people read them: never more digits than they can mean. */

/** Figures and their units stay on one line. */
const NB = '\u00a0';

const grouped = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

/** Milliseconds, of which ten seconds and more are seconds. */
export function ms(value: number): string {
  if (!Number.isFinite(value)) return '–';
  if (value >= 9_999.5) return `${(value / 1000).toFixed(1)}${NB}s`;
  if (value < 9.95 && value > -9.95) return `${trimmed(value)}${NB}ms`;
  return `${grouped.format(value)}${NB}ms`;
}

export function count(value: number): string {
  return grouped.format(value);
}

/** A share of one; only what is whole is shown as whole. */
export function percent(share: number): string {
  const value = share * 100;
  if (value <= 0 || value >= 100) return `${value <= 0 ? 0 : 100}${NB}%`;
  if (value > 99.95) return `>${NB}99.9${NB}%`;
  if (value < 0.05) return `<${NB}0.1${NB}%`;
  return `${trimmed(value)}${NB}%`;
}

/** How long something took or is ago, in its two largest units. */
export function span(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return pair(minutes, 'min', whole % 60, 's');
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return pair(hours, 'h', minutes % 60, 'min');
  return pair(Math.floor(hours / 24), 'd', hours % 24, 'h');
}

/** The time of day. */
export function clock(unixMs: number): string {
  const two = (value: number): string => String(value).padStart(2, '0');
  const at = new Date(unixMs);
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** Enough of an id to tell it from the others. */
export function brief(id: string): string {
  return id.length > 14 ? `${id.slice(0, 5)}…${id.slice(-6)}` : id;
}

export function some(many: number, one: string, several = `${one}s`): string {
  return `${count(many)} ${many === 1 ? one : several}`;
}

function pair(large: number, unit: string, small: number, part: string): string {
  return small === 0 ? `${large} ${unit}` : `${large} ${unit} ${small} ${part}`;
}

function trimmed(value: number): string {
  return value.toFixed(1).replace(/\.0$/, '');
}
