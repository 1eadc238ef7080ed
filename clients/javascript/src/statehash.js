// The hash that `verify` compares: CRC-32 over what counts of each channel and key.
//
// A slot is one channel and key. Its CRC runs over the messages that count: the newest one, or for
// a book its newest snapshot and everything since. Events without a key that belong to no book
// are not in it.

import { members } from "./protocol.js";

/** @typedef {import("./protocol.js").FeedEvent} FeedEvent */

const TABLE = new Uint32Array(256).map((_, index) => {
  let value = index;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

const encoder = new TextEncoder();
const buffer = new Uint8Array(65_536);

/**
 * CRC-32 as in zlib: of a text's UTF-8, going on from the CRC of what came before it.
 * @param {string} text
 * @param {number} [crc]
 * @returns {number} from 0 to 2^32 - 1
 */
export function crc32(text, crc = 0) {
  let bytes = buffer;
  let length;
  if (text.length * 3 <= buffer.length) length = encoder.encodeInto(text, buffer).written;
  else length = (bytes = encoder.encode(text)).length;
  let value = ~crc;
  for (let at = 0; at < length; at += 1) value = TABLE[(value ^ bytes[at]) & 255] ^ (value >>> 8);
  return ~value >>> 0;
}

/** @param {number} crc */
const hex = (crc) => crc.toString(16).padStart(8, "0");

/** @typedef {{ crc: number, book: boolean, line: Uint8Array }} Slot */

export class StateHash {
  /** @type {Map<string, { seq: number, slots: Map<string, Slot> }>} */
  #channels = new Map();

  /**
   * Takes an event in, in the order in which the feed gives them.
   * @param {FeedEvent} event
   */
  apply(event) {
    let channel = this.#channels.get(event.channel);
    if (!channel) this.#channels.set(event.channel, (channel = { seq: 0, slots: new Map() }));
    channel.seq = Math.max(channel.seq, event.seq);
    const key = keyText(event);
    const slot = channel.slots.get(key);
    const snapshot = event.kind === "snapshot";
    if (slot?.book && !snapshot) {
      slot.crc = crc32(event.text, slot.crc);
    } else if (snapshot || event.key !== null) {
      const crc = crc32(event.text);
      channel.slots.set(key, { crc, book: snapshot, line: slot?.line ?? encoder.encode(key) });
    }
  }

  /**
   * The seq of the last event of a channel, 0 before the first.
   * @param {string} channel
   */
  seq(channel) {
    return this.#channels.get(channel)?.seq ?? 0;
  }

  /**
   * How many keys are in the state of a channel.
   * @param {string} channel
   */
  values(channel) {
    return this.#channels.get(channel)?.slots.size ?? 0;
  }

  /**
   * The hash of a channel as it is now, 8 hex digits.
   * @param {string} channel
   */
  digest(channel) {
    const slots = [...(this.#channels.get(channel)?.slots ?? [])];
    slots.sort(([, left], [, right]) => compareBytes(left.line, right.line));
    return hex(slots.reduce((crc, [key, slot]) => crc32(`${key}:${hex(slot.crc)}\n`, crc), 0));
  }

  /** Forgets everything, as for another epoch. */
  clear() {
    this.#channels.clear();
  }
}

/**
 * The key as it is written in the message; `null` when there is none.
 * @param {FeedEvent} event
 */
function keyText({ key, text }) {
  if (key === null) return "null";
  const found = /^\{"channel":"[^"]*","type":"\w+","key":("(?:[^"\\]|\\.)*")/.exec(text);
  return found?.[1] ?? members(text).get("key") ?? JSON.stringify(key);
}

/**
 * @param {Uint8Array} left
 * @param {Uint8Array} right
 */
function compareBytes(left, right) {
  const shared = Math.min(left.length, right.length);
  for (let at = 0; at < shared; at += 1) {
    if (left[at] !== right[at]) return left[at] - right[at];
  }
  return left.length - right.length;
}
