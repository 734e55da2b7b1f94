/** Elements, and lists of them that change without losing focus or what is opened. */

type Child = Node | string;

/** Makes an element; a property that is `null` is left out. */
export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Readonly<Record<string, string | null>> = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const SVG = 'http://www.w3.org/2000/svg';

/** One of the symbols that the page defines. */
export function icon(name: string): SVGElement {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  const use = document.createElementNS(SVG, 'use');
  use.setAttribute('href', `#i-${name}`);
  svg.append(use);
  return svg;
}

export function get<T extends HTMLElement>(id: string): T {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no #${id}`);
  return element as T;
}

/** Writes only what has changed: what is read aloud is not read again. */
export function write(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** By the object model: the page's policy allows no `style` attribute. */
export function place(element: HTMLElement, values: Readonly<Record<string, string>>): void {
  for (const [name, value] of Object.entries(values)) element.style.setProperty(name, value);
}

export interface Row<T> {
  readonly element: HTMLElement;
  show(item: T): void;
}

/** A list whose elements stay as long as their items do. */
export class Rows<T> {
  readonly #parent: HTMLElement;
  readonly #key: (item: T) => string;
  readonly #make: (item: T) => Row<T>;
  #rows = new Map<string, Row<T>>();

  constructor(parent: HTMLElement, key: (item: T) => string, make: (item: T) => Row<T>) {
    this.#parent = parent;
    this.#key = key;
    this.#make = make;
  }

  show(items: readonly T[]): void {
    const kept = new Map<string, Row<T>>();
    for (const item of items) {
      const key = this.#key(item);
      const row = this.#rows.get(key) ?? this.#make(item);
      row.show(item);
      kept.set(key, row);
    }
    for (const [key, row] of this.#rows) if (!kept.has(key)) row.element.remove();
    let next = this.#parent.firstElementChild;
    for (const { element } of kept.values()) {
      if (element === next) next = next.nextElementSibling;
      else this.#parent.insertBefore(element, next);
    }
    this.#rows = kept;
  }
}
