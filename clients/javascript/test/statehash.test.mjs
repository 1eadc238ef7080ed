// CRC-32 and the hash of a state, against zlib and against the definition written out.

import assert from "node:assert/strict";
import { test } from "node:test";
import * as zlib from "node:zlib";
import { crc32, StateHash } from "../src/index.js";
import { readMessage } from "../src/protocol.js";

// The check value of CRC-32/ISO-HDLC, and zlib's where Node has it.
test("crc32 is that of zlib", () => {
  assert.equal(crc32("123456789"), 0xcbf43926);
  assert.equal(crc32(""), 0);
  assert.equal(crc32("6789", crc32("12345")), 0xcbf43926);
  const long = "é🚀a".repeat(50_000);
  assert.equal(crc32(long), crc32(long.slice(3), crc32("é🚀")));
  if (zlib.crc32) assert.equal(crc32(long), zlib.crc32(long));
});

const hex = (crc) => crc.toString(16).padStart(8, "0");
const message = (fields) => `{"channel":"c",${fields},"prev":0,"ts_in":1,"data":1}`;

function stateOf(texts) {
  const state = new StateHash();
  for (const text of texts) state.apply(readMessage(text).event);
  return state;
}

test("of keyed values the newest counts, in the order of the keys' bytes", () => {
  const a = message('"type":"update","key":"b","seq":1');
  const b = message('"type":"update","key":"a\\u00e9","seq":2');
  const c = message('"type":"update","key":"b","seq":3');
  const state = stateOf([a, b, c]);
  const wanted = crc32(`"a\\u00e9":${hex(crc32(b))}\n"b":${hex(crc32(c))}\n`);
  assert.equal(state.digest("c"), hex(wanted));
  assert.equal(state.seq("c"), 3);
  assert.equal(state.values("c"), 2);
});

test("keys are ordered by UTF-8, not by UTF-16", () => {
  const low = message('"type":"update","key":"\uffee","seq":1');
  const high = message('"type":"update","key":"🚀","seq":2');
  const wanted = crc32(`"\uffee":${hex(crc32(low))}\n"🚀":${hex(crc32(high))}\n`);
  assert.equal(stateOf([high, low]).digest("c"), hex(wanted));
});

test("of a book everything since the newest snapshot counts", () => {
  const one = message('"type":"snapshot","seq":1');
  const two = message('"type":"update","seq":2');
  const three = message('"type":"update","seq":3');
  const body = crc32(three, crc32(two, crc32(one)));
  assert.equal(stateOf([one, two, three]).digest("c"), hex(crc32(`null:${hex(body)}\n`)));
  assert.equal(stateOf([two, three, one]).digest("c"), hex(crc32(`null:${hex(crc32(one))}\n`)));
});

test("events without key that belong to no book are not in the state", () => {
  const state = stateOf([message('"type":"update","seq":7')]);
  assert.deepEqual([state.digest("c"), state.values("c"), state.seq("c")], ["00000000", 0, 7]);
});
