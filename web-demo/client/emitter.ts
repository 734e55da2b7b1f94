/** Typed events. What happens before `release` is kept and delivered then, in order. */
export class Emitter<Events> {
  readonly #listeners = new Map<keyof Events, Set<(event: never) => void>>();
  #held: (() => void)[] | null = [];

  on<Name extends keyof Events>(name: Name, listener: (event: Events[Name]) => void): () => void {
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners.add(listener));
    return () => listeners.delete(listener);
  }

  emit<Name extends keyof Events>(name: Name, event: Events[Name]): void {
    const deliver = () => {
      const listeners = (this.#listeners.get(name) ?? []) as Iterable<(e: Events[Name]) => void>;
      for (const listener of listeners) listener(event);
    };
    if (this.#held) this.#held.push(deliver);
    else deliver();
  }

  release(): void {
    const held = this.#held ?? [];
    this.#held = null;
    for (const deliver of held) deliver();
  }
}
