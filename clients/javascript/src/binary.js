// Events of sub-protocol fanfare.v1.bin: fixed little-endian fields, then the key and the data.
// Pure. Control messages are JSON text in this form, too (protocol.js).
//
// Invariant: an event is the same as the one that the JSON form brings, `text` included.

/** @typedef {import("./protocol.js").FeedEvent} FeedEvent */

export const SUBPROTOCOL_BINARY = "fanfare.v1.bin";

const HEADER_BYTES = 8;
const BLOCK_BYTES = 40;
const SCHEMA = 1;
const TEMPLATE_EVENT = 1;
const TS_NONE = 2n ** 64n - 1n;
const KINDS = /** @type {const} */ (["update", "snapshot"]);

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The channels of one connection by the ids that its server has announced. */
export class Announced {
  /** @type {Map<number, string>} */
  #names = new Map();

  /** Another connection, other ids. */
  clear() {
    this.#names.clear();
  }

  /**
   * Takes the ids of a reply to `subscribe`, or of a notice.
   * @param {any} message
   */
  learn(message) {
    const entries = Array.isArray(message.result) ? message.result : [];
    for (const { ids } of [message, ...entries]) {
      for (const [name, id] of Object.entries(ids ?? {})) this.#names.set(id, name);
    }
  }

  /**
   * The event of a binary message; undefined if it is of a kind that this version does not know.
   * Throws a SyntaxError or a RangeError when it is no message of this form.
   * @param {ArrayBuffer} message
   * @param {(raw: string) => any} [parse]
   * @returns {FeedEvent | undefined}
   */
  event(message, parse = JSON.parse) {
    const view = new DataView(message);
    const blockBytes = view.getUint16(0, true);
    const schema = view.getUint16(4, true);
    if (schema !== SCHEMA) throw new SyntaxError(`schema ${schema}, not ${SCHEMA}`);
    if (view.getUint16(2, true) !== TEMPLATE_EVENT) return undefined;
    if (blockBytes < BLOCK_BYTES) throw new SyntaxError(`a block of ${blockBytes} bytes`);
    const id = view.getUint32(40, true);
    const channel = this.#names.get(id);
    if (channel === undefined) throw new SyntaxError(`channel ${id} was not announced`);
    const kind = KINDS[view.getUint8(44)];
    if (kind === undefined) throw new SyntaxError(`kind ${view.getUint8(44)}`);
    const seq = number(view, 8);
    const prev = number(view, 16);
    const time = view.getBigUint64(24, true);
    const ts = time === TS_NONE ? undefined : time;
    const tsIn = view.getBigUint64(32, true);
    const keyAt = HEADER_BYTES + blockBytes + 2;
    const dataAt = keyAt + view.getUint16(keyAt - 2, true) + 4;
    const key = text(message, keyAt, dataAt - 4);
    const raw = text(message, dataAt, dataAt + view.getUint32(dataAt - 4, true));
    return {
      channel,
      key: key === "" ? null : JSON.parse(key),
      kind,
      seq,
      prev,
      ts,
      tsIn,
      data: parse(raw),
      raw,
      text:
        `{"channel":"${channel}","type":"${kind}"${key && `,"key":${key}`},"seq":${seq}` +
        `,"prev":${prev}${ts === undefined ? "" : `,"ts":${ts}`},"ts_in":${tsIn},"data":${raw}}`,
      recovered: undefined,
    };
  }
}

/**
 * A number of 64 bits; a `seq` is below 2^53.
 * @param {DataView} view
 * @param {number} at
 */
function number(view, at) {
  return view.getUint32(at + 4, true) * 2 ** 32 + view.getUint32(at, true);
}

/**
 * @param {ArrayBuffer} message
 * @param {number} from
 * @param {number} to
 */
function text(message, from, to) {
  if (to > message.byteLength) throw new RangeError("it ends before its parts do");
  return decoder.decode(new Uint8Array(message, from, to - from));
}
