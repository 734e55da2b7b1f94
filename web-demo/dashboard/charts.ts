/** The two charts: first sound over time, and the curve of percentiles of one measure. */

import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { get, write } from './dom';
import { clock, ms, some } from './format';
import { labelOf } from './hops';
import { curveOf, marks, type Curve } from './nines';
import { limitOf, measureOf, timeline, type Snapshot } from './snapshot';

/** The chart shows no less than this, so that the first minutes do not jump. */
const LEAST_SPAN_S = 300;

const HEIGHT = 240;

interface Colors {
  readonly ink: string;
  readonly quiet: string;
  readonly rule: string;
  readonly main: string;
  readonly alarm: string;
}

/** What is drawn; the chart is made anew when the colours change. */
interface Drawing {
  readonly data: uPlot.AlignedData;
  readonly limit: number;
  readonly limitLabel: string;
}

abstract class Chart {
  protected readonly box: HTMLElement;
  readonly #empty: HTMLElement;
  readonly #read: HTMLElement;
  protected plot: uPlot | null = null;
  protected drawing: Drawing | null = null;
  #pinned = false;

  constructor(id: string) {
    this.box = get(id);
    this.#empty = get(`${id}-empty`);
    this.#read = get(`${id}-read`);
    new ResizeObserver(() => {
      const width = this.box.clientWidth;
      if (width > 0) this.plot?.setSize({ width, height: HEIGHT });
    }).observe(this.box);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
      this.plot?.destroy();
      this.plot = null;
      if (this.drawing) this.draw(this.drawing);
    });
    this.box.addEventListener('keydown', (event) => this.#onKey(event));
    // Read aloud while somebody walks along the points, and not each time that one is added.
    this.box.addEventListener('focus', () => this.#read.setAttribute('aria-live', 'polite'));
    this.box.addEventListener('blur', () => {
      this.#read.removeAttribute('aria-live');
      this.#pinned = false;
      this.plot?.setCursor({ left: -10, top: -10 });
    });
  }

  protected abstract options(colors: Colors): Partial<uPlot.Options>;
  /** What the point at this index says, or the chart as a whole. */
  protected abstract words(index: number | null): string;

  protected draw(drawing: Drawing | null): void {
    this.drawing = drawing;
    this.box.hidden = drawing === null;
    this.#empty.hidden = drawing !== null;
    if (drawing === null) {
      write(this.#read, '');
      return;
    }
    this.plot ??= this.#make(drawing);
    this.plot.setData(drawing.data);
    this.#say(this.#pinned ? (this.plot.cursor.idx ?? null) : null);
  }

  #make(drawing: Drawing): uPlot {
    const style = getComputedStyle(this.box);
    const color = (name: string): string => style.getPropertyValue(name).trim();
    const colors = {
      ink: color('--ink'),
      quiet: color('--quiet'),
      rule: color('--rule'),
      main: color('--accent'),
      alarm: color('--over'),
    };
    const own = this.options(colors);
    return new uPlot(
      {
        width: Math.max(200, this.box.clientWidth),
        height: HEIGHT,
        legend: { show: false },
        padding: [14, 12, 0, 0],
        series: [],
        ...own,
        cursor: { y: false, points: { size: 8 }, drag: { x: false, y: false } },
        hooks: {
          draw: [(plot) => this.#drawLimit(plot, colors)],
          setCursor: [(plot) => this.#say(plot.cursor.idx ?? null)],
        },
      },
      drawing.data,
      this.box,
    );
  }

  /** Dashed and named, so that it is told from a series without its colour. */
  #drawLimit(plot: uPlot, colors: Colors): void {
    const { limit, limitLabel } = this.drawing ?? { limit: Infinity, limitLabel: '' };
    if (!Number.isFinite(limit)) return;
    const { ctx, bbox } = plot;
    const y = plot.valToPos(limit, 'y', true);
    if (y < bbox.top) return;
    const ratio = devicePixelRatio;
    ctx.save();
    ctx.strokeStyle = colors.alarm;
    ctx.fillStyle = colors.alarm;
    ctx.lineWidth = 1.5 * ratio;
    ctx.setLineDash([7 * ratio, 5 * ratio]);
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
    ctx.font = `600 ${11 * ratio}px ${getComputedStyle(this.box).fontFamily}`;
    ctx.textAlign = 'left';
    ctx.textBaseline = 'bottom';
    ctx.fillText(limitLabel, bbox.left + 4 * ratio, y - 3 * ratio);
    ctx.restore();
  }

  #say(index: number | null): void {
    write(this.#read, this.words(index));
  }

  /** The arrows walk along the points, as the pointer does. */
  #onKey(event: KeyboardEvent): void {
    const plot = this.plot;
    const points = this.drawing?.data[0].length ?? 0;
    if (!plot || points === 0) return;
    const from = this.#pinned ? (plot.cursor.idx ?? points - 1) : points - 1;
    const to: Record<string, number> = {
      ArrowLeft: this.#pinned ? from - 1 : from,
      ArrowRight: from + 1,
      Home: 0,
      End: points - 1,
    };
    const next = to[event.key];
    if (next === undefined) return;
    event.preventDefault();
    this.#pinned = true;
    const index = Math.min(points - 1, Math.max(0, next));
    const x = plot.data[0][index] ?? 0;
    plot.setCursor({ left: plot.valToPos(x, 'x'), top: 10 });
  }

  protected axes(colors: Colors, x: uPlot.Axis, size: number): uPlot.Axis[] {
    const look: uPlot.Axis = {
      stroke: colors.quiet,
      font: `12px ${getComputedStyle(this.box).fontFamily}`,
      ticks: { show: false },
    };
    return [
      { ...look, grid: { show: false }, size: 28, ...x },
      {
        ...look,
        grid: { stroke: colors.rule, width: 1 },
        size,
        values: (_plot, values) => values.map((value) => ms(value)),
      },
    ];
  }
}

export class OverTime extends Chart {
  #moments: Snapshot['series'] = [];

  constructor() {
    super('time');
  }

  show(snapshot: Snapshot): void {
    this.#moments = timeline(snapshot.series);
    const known = this.#moments.some(({ turns }) => turns > 0);
    const limit = limitOf(snapshot.budget, 'end_to_end');
    const pick = (of: 'p50' | 'p95'): (number | null)[] =>
      this.#moments.map((moment) => (moment.turns > 0 ? moment[of] : null));
    const slow = pick('p95').map((value) => (value !== null && value > limit ? value : null));
    const x = this.#moments.map(({ at }) => at / 1000);
    const data: uPlot.AlignedData = [x, pick('p95'), pick('p50'), slow];
    this.draw(known ? { data, limit, limitLabel: `limit ${ms(limit)}` } : null);
  }

  protected override options(colors: Colors): Partial<uPlot.Options> {
    return {
      scales: {
        x: { time: true, range: (_plot, from, to) => [Math.min(from, to - LEAST_SPAN_S), to] },
        y: { range: (_plot, _least, most) => [0, Math.max(most, reach(this.drawing)) * 1.12] },
      },
      axes: this.axes(
        colors,
        { values: (_plot, at) => at.map((second) => clock(second * 1000).slice(0, 5)), space: 70 },
        66,
      ),
      series: [
        {},
        { stroke: colors.main, width: 2.5, points: { show: false } },
        { stroke: colors.quiet, width: 1.25, points: { show: false } },
        {
          stroke: colors.alarm,
          width: 0,
          paths: () => null,
          points: { show: true, size: 6, fill: colors.alarm },
        },
      ],
    };
  }

  protected override words(index: number | null): string {
    const moment = index === null ? this.#latest() : this.#moments[index];
    if (!moment) return '';
    const when = index === null ? 'Last' : clock(moment.at);
    if (moment.turns === 0) return `${when}: no turn in the minute before.`;
    const turns = some(moment.turns, 'turn');
    return `${when}: p95 ${ms(moment.p95)}, p50 ${ms(moment.p50)}, ${turns} in the minute before.`;
  }

  #latest(): Snapshot['series'][number] | undefined {
    return this.#moments.filter(({ turns }) => turns > 0).at(-1);
  }
}

export class Percentiles extends Chart {
  #curve: Curve = { x: [], y: [], percentiles: [] };
  #words = '';

  constructor() {
    super('curve');
  }

  show(snapshot: Snapshot, name: string): void {
    const measure = measureOf(snapshot, name);
    this.#curve = curveOf(measure?.curve ?? []);
    const limit = limitOf(snapshot.budget, name);
    const { percentile } = snapshot.budget;
    const known = measure !== null && measure.count > 0;
    this.#words = known
      ? `${labelOf(name)}: ${some(measure.count, 'sample')}` +
        (Number.isFinite(limit) ? `, ${some(measure.over, 'time')} over the limit.` : '.')
      : '';
    const data: uPlot.AlignedData = [this.#curve.x, this.#curve.y];
    const limitLabel = `limit ${ms(limit)}, at p${percentile}`;
    this.draw(known ? { data, limit, limitLabel } : null);
  }

  protected override options(colors: Colors): Partial<uPlot.Options> {
    const end = (): number => Math.max(this.#curve.x.at(-1) ?? 1, 1);
    return {
      scales: {
        x: { time: false, range: () => [0, end()] },
        y: {
          range: (_plot, _least, most) => {
            // Far below its limit, the curve itself is what one wants to see.
            const limit = reach(this.drawing);
            return [0, (limit < most * 4 ? Math.max(most, limit) : most) * 1.12 || 1];
          },
        },
      },
      axes: this.axes(
        colors,
        {
          splits: () => marks(end()).map(({ at }) => at),
          values: () => marks(end()).map(({ label }) => label),
        },
        66,
      ),
      series: [
        {},
        { stroke: colors.main, width: 2.5, points: { show: true, size: 5, fill: colors.main } },
      ],
    };
  }

  protected override words(index: number | null): string {
    const percentile = index === null ? undefined : this.#curve.percentiles[index];
    const value = index === null ? undefined : this.#curve.y[index];
    if (percentile === undefined || value === undefined) return this.#words;
    return percentile >= 100
      ? `The slowest took ${ms(value)}.`
      : `${percentile} in 100 took ${ms(value)} or less.`;
  }
}

function reach(drawing: Drawing | null): number {
  const limit = drawing?.limit ?? 0;
  return Number.isFinite(limit) ? limit : 0;
}
