// A first-in-first-out queue with a size: what has come and was not taken by the application.
// Not here: what happens when it is full (client.js).

/**
 * @template T
 */
export class Queue {
  /** @type {(T | undefined)[]} */
  #items = [];
  #head = 0;
  #chars = 0;
  /** @type {((item: T) => number)} */
  #charsOf;

  /** @param {(item: T) => number} charsOf how many characters an item keeps alive */
  constructor(charsOf) {
    this.#charsOf = charsOf;
  }

  get length() {
    return this.#items.length - this.#head;
  }

  get chars() {
    return this.#chars;
  }

  /** @returns {T | undefined} */
  get last() {
    return this.length > 0 ? this.#items.at(-1) : undefined;
  }

  /** @param {T} item */
  push(item) {
    this.#items.push(item);
    this.#chars += this.#charsOf(item);
  }

  /** @returns {T | undefined} */
  shift() {
    if (this.length === 0) return undefined;
    const item = /** @type {T} */ (this.#items[this.#head]);
    this.#items[this.#head] = undefined;
    this.#head += 1;
    this.#chars -= this.#charsOf(item);
    if (this.#head * 2 > this.#items.length && this.#head > 64) {
      this.#items.splice(0, this.#head);
      this.#head = 0;
    } else if (this.#head === this.#items.length) {
      this.#items.length = 0;
      this.#head = 0;
    }
    return item;
  }
}
