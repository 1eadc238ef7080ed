// Two connections, one stream: the first of each event is taken, the other one dropped. A gap of
// one is filled by the other. Pure: no sockets, no clock.
//
// Both count by the same epoch; the feed sees to that. Invariants: of each channel and key, seq
// only rises in what comes out. A gap comes out only if neither side has brought what it covers.
// What is held back while a side has to catch up is bounded.

import { matches } from "./protocol.js";

/** @typedef {import("./protocol.js").FeedEvent} FeedEvent */
/** @typedef {import("./protocol.js").Gap} Gap */

/** @typedef {{ event: FeedEvent } | { gap: Gap }} Item */

/**
 * One of the connections.
 * @typedef {object} Side
 * @property {boolean} on
 * @property {number} from it has brought everything from here to `position`, but for its gaps
 * @property {number} position
 * @property {Set<string>} begun the patterns for which it has had a reply
 * @property {Gap[]} gaps the last ones
 * @property {Map<string, number>} ended after which seq it brings nothing of a pattern
 * @property {boolean} gone it will bring nothing more
 * @property {Gap[]} pending those that the other side may still fill
 * @property {FeedEvent[]} held events behind a pending gap
 */

const GAPS_MAX = 64;

export class Merge {
  /** @type {Side[]} */
  #sides;
  /** @type {Map<string, number>} The last seq that came out, of each channel and key. */
  #taken = new Map();
  /** @type {Map<string, number>} After which seq the events of a pattern are owed. */
  #owed = new Map();
  /** @type {Gap[]} */
  #reported = [];
  #emit;
  #heldMax;
  /** @type {number | undefined} */
  #position = undefined;

  /**
   * @param {number} sides
   * @param {(item: Item) => void} emit
   * @param {number} [heldMax] how many events may wait behind gaps, of each side
   */
  constructor(sides, emit, heldMax = 10_000) {
    this.#sides = Array.from({ length: sides }, () => newSide());
    this.#emit = emit;
    this.#heldMax = heldMax;
  }

  /** Everything up to here came out, or was reported as a gap. */
  get position() {
    return this.#position;
  }

  /** Another epoch: nothing of the former one is comparable. */
  reset() {
    for (let at = 0; at < this.#sides.length; at += 1) {
      const { on, pending, ended, gone } = this.#sides[at];
      for (const gap of pending) this.#emit({ gap });
      for (const pattern of ended.keys()) ended.set(pattern, 0);
      this.#sides[at] = { ...newSide(), on, ended, gone };
    }
    this.#taken.clear();
    for (const pattern of this.#owed.keys()) this.#owed.set(pattern, 0);
    this.#reported = [];
    this.#position = undefined;
  }

  /** @param {number} at */
  up(at) {
    this.#sides[at].on = true;
  }

  /** @param {number} at */
  down(at) {
    this.#sides[at].on = false;
    this.#judge();
  }

  /**
   * A side's subscription was taken. If it begins later than the first one did, what is between
   * is a gap of this side.
   * @param {number} at
   * @param {string} pattern
   * @param {{ seq: number, policy?: string, resumed?: boolean }} entry
   */
  began(at, pattern, { seq, policy, resumed }) {
    const { begun, ended } = this.#sides[at];
    const owed = this.#owed.get(pattern) ?? seq;
    this.#owed.set(pattern, owed);
    const has = ended.get(pattern) ?? (begun.has(pattern) ? seq : owed);
    begun.add(pattern);
    ended.delete(pattern);
    const from = Math.max(owed, has) + 1;
    // Where it resumes, the server says itself what is missing.
    if (resumed === undefined && policy !== "latest" && from <= seq) {
      const range = { channels: [pattern], from, to: seq, missed: undefined };
      this.gap(at, { ...range, cause: "late", recover: "none", healing: undefined });
    }
  }

  /**
   * A side does not hold a pattern any more, or was refused it.
   * @param {number} at
   * @param {string} pattern
   * @param {number} [seq] the last one that it has brought
   */
  ended(at, pattern, seq) {
    const { begun, ended, position } = this.#sides[at];
    if (ended.has(pattern)) return;
    ended.set(pattern, seq ?? (begun.has(pattern) ? position : 0));
    this.#judge();
    this.#forgetUnheld(pattern);
  }

  /**
   * A side has failed for good: what only it held nobody holds.
   * @param {number} at
   */
  gone(at) {
    this.#sides[at].gone = true;
    this.down(at);
    for (const pattern of [...this.#owed.keys()]) this.#forgetUnheld(pattern);
  }

  /** @param {string} pattern */
  #forgetUnheld(pattern) {
    if (this.#sides.every(({ gone, ended }) => gone || ended.has(pattern))) this.forget(pattern);
  }

  /** @param {string} pattern one that no side holds any more */
  forget(pattern) {
    this.#owed.delete(pattern);
    for (const { begun, ended } of this.#sides) {
      begun.delete(pattern);
      ended.delete(pattern);
    }
  }

  /**
   * A side has brought everything up to here.
   * @param {number} at
   * @param {number | undefined} position
   */
  progress(at, position) {
    const side = this.#sides[at];
    if (position === undefined) return;
    if (position > side.position) {
      side.position = position;
      this.#judge();
    }
    if (side.pending.length > 0 || this.#lacks(side)) return;
    this.#position = Math.max(this.#position ?? 0, position);
  }

  /**
   * Whether there is a pattern that only the other side brings.
   * @param {Side} side
   */
  #lacks({ ended }) {
    return ended.size > 0 && [...ended.keys()].some((pattern) => this.#owed.has(pattern));
  }

  /**
   * @param {number} at
   * @param {FeedEvent} event
   */
  event(at, event) {
    const side = this.#sides[at];
    if (this.#isOld(event)) return;
    if (!isHeld(side, event)) {
      this.#take(event);
      return;
    }
    side.held.push(event);
    if (side.held.length > this.#heldMax) {
      for (const gap of side.pending.splice(0)) this.#report(gap);
      this.#release(side);
    }
  }

  /**
   * @param {number} at
   * @param {Gap} gap
   */
  gap(at, gap) {
    const side = this.#sides[at];
    side.gaps.push(gap);
    if (side.gaps.length > GAPS_MAX) {
      const [oldest] = side.gaps.splice(0, 1);
      side.from = Math.max(side.from, oldest.to + 1);
    }
    side.pending.push(gap);
    if (side.pending.length > GAPS_MAX) this.#report(/** @type {Gap} */ (side.pending.shift()));
    this.#judge();
  }

  /** Settles pending gaps for which it is known now whether the other side fills them. */
  #judge() {
    for (let again = true; again;) {
      again = false;
      for (const side of this.#sides) {
        const before = side.pending.length;
        side.pending = side.pending.filter((gap) => this.#isPending(side, gap));
        if (side.pending.length === before) continue;
        this.#release(side);
        again = true; // What was held back may be what another gap waits for.
      }
    }
  }

  /**
   * @param {Side} side
   * @param {Gap} gap
   */
  #isPending(side, gap) {
    const left = this.#unreported(gap);
    if (!left) return false;
    const others = this.#sides.filter((other) => other !== side);
    if (others.some((other) => fills(other, left))) return false;
    if (others.some((other) => mayFill(other, left))) return true;
    this.#report(left);
    return false;
  }

  /**
   * What of a gap was not reported before; undefined: nothing.
   * @param {Gap} gap
   * @returns {Gap | undefined}
   */
  #unreported(gap) {
    let { from } = gap;
    for (const known of this.#reported) {
      const same = gap.channels.every((name) => names(known, name));
      if (same && known.from <= from && known.to >= from) from = known.to + 1;
    }
    if (from > gap.to) return undefined;
    return from === gap.from ? gap : { ...gap, from, missed: undefined };
  }

  /** @param {Gap} gap */
  #report(gap) {
    this.#reported.push(gap);
    if (this.#reported.length > GAPS_MAX) this.#reported.shift();
    this.#emit({ gap });
  }

  /** @param {Side} side */
  #release(side) {
    side.held = side.held.filter((event) => {
      if (isHeld(side, event)) return true;
      if (!this.#isOld(event)) this.#take(event);
      return false;
    });
  }

  /** @param {FeedEvent} event */
  #isOld(event) {
    return event.seq <= (this.#taken.get(slotOf(event)) ?? 0);
  }

  /** @param {FeedEvent} event */
  #take(event) {
    this.#taken.set(slotOf(event), event.seq);
    this.#emit({ event });
  }
}

/** @returns {Side} */
function newSide() {
  const lists = { gaps: [], pending: [], held: [] };
  const patterns = { begun: new Set(), ended: new Map() };
  return { on: false, gone: false, from: 0, position: 0, ...patterns, ...lists };
}

/** @param {FeedEvent} event */
function slotOf({ channel, key }) {
  return key === null ? channel : `${channel} ${key}`;
}

/**
 * Whether a side has brought everything in the range of a gap.
 * @param {Side} side
 * @param {Gap} gap
 */
function fills(side, gap) {
  return isWholeIn(side, gap) && side.position >= gap.to && !holds(side, gap);
}

/**
 * Whether it may still.
 * @param {Side} side
 * @param {Gap} gap
 */
function mayFill(side, gap) {
  if (!isWholeIn(side, gap)) return false;
  return (side.on && side.position < gap.to) || holds(side, gap);
}

/**
 * Whether events in the range of a gap, or before it, wait behind a gap of the side's own.
 * @param {Side} side
 * @param {Gap} gap
 */
function holds(side, gap) {
  return side.held.some(({ channel, seq }) => seq <= gap.to && names(gap, channel));
}

/**
 * @param {Side} side
 * @param {FeedEvent} event
 */
function isHeld(side, { channel, seq }) {
  return side.pending.some((gap) => seq >= gap.from && names(gap, channel));
}

/**
 * @param {Side} side
 * @param {Gap} gap
 */
function isWholeIn(side, gap) {
  const ended = [...side.ended].map(([pattern, seq]) => {
    return { channels: [pattern], from: seq + 1, to: Infinity };
  });
  return side.from <= gap.from && ![...side.gaps, ...ended].some((own) => overlap(own, gap));
}

/** @typedef {Pick<Gap, "channels" | "from" | "to">} Range */

/**
 * @param {Range} left
 * @param {Range} right
 */
function overlap(left, right) {
  if (left.from > right.to || right.from > left.to) return false;
  return (
    left.channels.some((name) => names(right, name) || right.channels.includes(name)) ||
    right.channels.some((name) => names(left, name))
  );
}

/**
 * @param {Range} gap
 * @param {string} name
 */
function names({ channels }, name) {
  return channels.some((channel) => matches(channel, name));
}
