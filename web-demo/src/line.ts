/** The line between the two: it swings at the left with one voice, at the right with the other. */

import type { Levels } from '../client';

/** Between the line and the disc in its middle. */
const GAP = 10;

const SILENCE: Levels = { microphone: 0, assistant: 0 };

export class VoiceLine {
  readonly #canvas: HTMLCanvasElement;
  readonly #still = matchMedia('(prefers-reduced-motion: reduce)');
  #smooth = { person: 0, assistant: 0 };

  constructor(canvas: HTMLCanvasElement) {
    this.#canvas = canvas;
    new ResizeObserver(() => this.draw(SILENCE, 0)).observe(canvas);
    const scheme = matchMedia('(prefers-color-scheme: dark)');
    scheme.addEventListener('change', () => this.draw(SILENCE, 0));
  }

  draw(levels: Levels, now: number): void {
    const canvas = this.#canvas;
    const scale = devicePixelRatio;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    const context = canvas.getContext('2d');
    if (!context || width === 0) return;
    if (canvas.width !== width * scale) canvas.width = width * scale;
    if (canvas.height !== height * scale) canvas.height = height * scale;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);

    this.#smooth.person = follow(this.#smooth.person, levels.microphone);
    this.#smooth.assistant = follow(this.#smooth.assistant, levels.assistant);
    const style = getComputedStyle(canvas);
    const disc = (canvas.nextElementSibling?.clientWidth ?? 0) / 2 + GAP;
    const span = width / 2 - disc;
    const half = { context, width: span, height, now: this.#still.matches ? 0 : now };
    this.#half({ ...half, from: 0, level: this.#smooth.person }, style, '--person');
    const from = width - span;
    this.#half({ ...half, from, level: this.#smooth.assistant }, style, '--assistant');
  }

  #half(half: Half, style: CSSStyleDeclaration, color: string): void {
    half.context.strokeStyle = style.getPropertyValue(color);
    half.context.lineCap = 'round';
    for (const [strand, alpha] of [0.22, 0.4, 1].entries()) {
      half.context.globalAlpha = alpha;
      half.context.lineWidth = alpha === 1 ? 2.25 : 1.5;
      half.context.stroke(path(half, 2 - strand));
    }
    half.context.globalAlpha = 1;
  }
}

interface Half {
  readonly context: CanvasRenderingContext2D;
  readonly from: number;
  readonly width: number;
  readonly height: number;
  readonly level: number;
  readonly now: number;
}

/** A swinging string, fixed at both ends of its half; each strand has its own phase. */
function path({ from, width, height, level, now }: Half, strand: number): Path2D {
  const line = new Path2D();
  const swing = height * 0.44 * Math.max(0, level - 0.12) * (1 - strand * 0.22);
  for (let x = 0; x <= width; x += 2) {
    const along = x / width;
    const envelope = Math.sin(Math.PI * along) ** 1.5;
    const wave =
      Math.sin(along * 19 + now / 130 + strand * 1.3) * 0.65 +
      Math.sin(along * 33 - now / 90 + strand * 2.1) * 0.35;
    line.lineTo(from + x, height / 2 + swing * envelope * wave);
  }
  return line;
}

/** Up at once, down slowly. */
function follow(shown: number, level: number): number {
  return shown + (level - shown) * (level > shown ? 0.5 : 0.12);
}
