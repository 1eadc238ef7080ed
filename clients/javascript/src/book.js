// Order books: levels with exact prices, and Binance's rules for putting snapshot and changes
// together. Prices and quantities stay the strings that they came as; they are compared as
// decimals, never rounded.

/** @typedef {[price: string | number, quantity: string | number]} LevelLike */
/** @typedef {{ bids?: LevelLike[], asks?: LevelLike[] }} Levels of both sides, or of one */
/** @typedef {{ price: string, quantity: string }} Level */

/**
 * A decimal as sign, digits before the point and digits after it, without zeros that say nothing.
 * @param {string} text
 */
function decimal(text) {
  const found = /^([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d+))?$/.exec(text);
  if (!found || !/\d/.test(text)) throw new TypeError(`not a decimal number: '${text}'`);
  let [, sign, whole, part = "", exponent] = found;
  let shift = Number(exponent ?? 0);
  if (Math.abs(shift) > 1000) throw new TypeError(`not a price: '${text}'`);
  for (; shift > 0; shift -= 1) [whole, part] = [whole + (part[0] ?? "0"), part.slice(1)];
  for (; shift < 0; shift += 1) [whole, part] = [whole.slice(0, -1), (whole.at(-1) ?? "0") + part];
  whole = whole.replace(/^0+/, "");
  part = part.replace(/0+$/, "");
  return { negative: sign === "-" && whole + part !== "", whole, part };
}

/**
 * Compares two decimals exactly.
 * @param {string} left
 * @param {string} right
 * @returns {number} below 0, 0, or above 0
 */
export function compareDecimals(left, right) {
  // Rounding keeps the order, so numbers that differ are in the right one.
  const difference = Number(left) - Number(right);
  if (difference !== 0 && !Number.isNaN(difference)) return difference;
  if (left === right) return 0;
  const a = decimal(left);
  const b = decimal(right);
  if (a.negative !== b.negative) return a.negative ? -1 : 1;
  const size =
    a.whole.length - b.whole.length || compareText(a.whole, b.whole) || compareText(a.part, b.part);
  return a.negative ? -size : size;
}

/**
 * @param {string} left
 * @param {string} right
 */
const compareText = (left, right) => (left < right ? -1 : left > right ? 1 : 0);

/** One side of a book, the best price first. */
class Side {
  /** @type {Level[]} */
  levels = [];
  #direction;

  /** @param {1 | -1} direction 1: the lowest price is the best */
  constructor(direction) {
    this.#direction = direction;
  }

  /** @param {LevelLike} level */
  set([priceLike, quantityLike]) {
    const price = String(priceLike);
    const quantity = String(quantityLike);
    const at = this.#find(price);
    const there = at < this.levels.length && compareDecimals(this.levels[at].price, price) === 0;
    const { whole, part } = decimal(quantity);
    if (whole + part === "") this.levels.splice(at, there ? 1 : 0);
    else this.levels.splice(at, there ? 1 : 0, { price, quantity });
  }

  /**
   * Where a price is, or belongs.
   * @param {string} price
   */
  #find(price) {
    let low = 0;
    let high = this.levels.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const order = compareDecimals(this.levels[middle].price, price) * this.#direction;
      if (order < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** An order book. A level with quantity 0 is none. */
export class Book {
  #bids = new Side(-1);
  #asks = new Side(1);

  /** The levels, the highest bid first. @returns {readonly Level[]} */
  get bids() {
    return this.#bids.levels;
  }

  /** The levels, the lowest ask first. @returns {readonly Level[]} */
  get asks() {
    return this.#asks.levels;
  }

  /**
   * Begins anew.
   * @param {Levels} levels
   */
  snapshot(levels) {
    this.#bids.levels = [];
    this.#asks.levels = [];
    this.update(levels);
  }

  /**
   * Sets levels.
   * @param {Levels} levels
   */
  update({ bids = [], asks = [] }) {
    for (const level of bids) this.#bids.set(level);
    for (const level of asks) this.#asks.set(level);
  }

  /**
   * Takes an event of a feed whose data is `{bids, asks}`.
   * @param {{ kind: string, data: any }} event
   */
  apply({ kind, data }) {
    if (kind === "snapshot") this.snapshot(data);
    else this.update(data);
  }
}

/**
 * A diff of Binance's depth streams; `pu` on futures only.
 * @typedef {{ U: number, u: number, pu?: number, b: LevelLike[], a: LevelLike[] }} Diff
 */

const DIFFS_WAITING_MAX = 1000;

/**
 * A book from Binance's depth: the REST snapshot `{lastUpdateId, bids, asks}` and the diffs of the
 * streams, by Binance's rules. Diffs that come before the snapshot wait for it.
 *
 * `state` is `waiting` until there is a snapshot, `syncing` until the diff that follows it,
 * `whole`, or `broken` when a diff is missing; then the next snapshot begins anew.
 */
export class BinanceDepth extends Book {
  /** @type {"waiting" | "syncing" | "whole" | "broken"} */
  state = "waiting";
  /** The last update that is in the book. */
  lastUpdateId = 0;
  /** @type {Diff[]} */
  #waiting = [];

  /**
   * Takes an event of a feed whose data is Binance's.
   * @override
   * @param {{ kind: string, data: any }} event
   */
  apply({ data }) {
    if ("lastUpdateId" in data) this.begin(data);
    else this.diff(data);
    return this.state;
  }

  /** @param {{ lastUpdateId: number, bids: LevelLike[], asks: LevelLike[] }} snapshot */
  begin(snapshot) {
    this.snapshot(snapshot);
    this.lastUpdateId = snapshot.lastUpdateId;
    this.state = "syncing";
    for (const diff of this.#waiting.splice(0)) this.diff(diff);
  }

  /** @param {Diff} diff */
  diff(diff) {
    if (this.state === "waiting" || this.state === "broken") {
      this.#waiting.push(diff);
      if (this.#waiting.length > DIFFS_WAITING_MAX) this.#waiting.shift();
      return;
    }
    const futures = diff.pu !== undefined;
    const last = this.lastUpdateId;
    if (this.state === "syncing") {
      if (futures ? diff.u < last : diff.u <= last) return;
      // The first one must span the snapshot, or directly follow it.
      const follows = futures ? diff.U <= last || diff.pu === last : diff.U <= last + 1;
      this.#take(diff, follows);
    } else {
      this.#take(diff, futures ? diff.pu === last : diff.U === last + 1);
    }
  }

  /**
   * @param {Diff} diff
   * @param {boolean} follows
   */
  #take(diff, follows) {
    if (!follows) {
      this.state = "broken";
      this.#waiting = [diff];
      return;
    }
    this.update({ bids: diff.b, asks: diff.a });
    this.lastUpdateId = diff.u;
    this.state = "whole";
  }
}
