// Timers by name: one of each, and all can be stopped at once.

export class Timers {
  /** @type {Map<string, any>} */
  #timers = new Map();

  /**
   * Runs something once, later; replaces the timer of that name.
   * @param {string} name
   * @param {number} ms
   * @param {() => void} run
   */
  after(name, ms, run) {
    clearTimeout(this.#timers.get(name));
    const timer = setTimeout(() => {
      this.#timers.delete(name);
      run();
    }, ms);
    this.#timers.set(name, timer);
  }

  /** @param {string} name */
  has(name) {
    return this.#timers.has(name);
  }

  clear() {
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
  }
}
