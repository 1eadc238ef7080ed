// The binary form brings the same events as the JSON form; what is no message of it is an error.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Announced } from "../src/binary.js";
import { readMessage } from "../src/protocol.js";

// Written by the server's encoder.
const VECTORS = JSON.parse(readFileSync(new URL("../../vectors/binary.json", import.meta.url)));
const bytesOf = (hex) => Uint8Array.from(Buffer.from(hex, "hex")).buffer;

function announced() {
  const ids = Object.fromEntries(VECTORS.map(({ channel, id }) => [channel, id]));
  const channels = new Announced();
  channels.learn({ success: true, result: [{ channel: ">", ids }, { channel: "x", error: {} }] });
  return channels;
}

test("both forms bring the same events", () => {
  const channels = announced();
  for (const { hex, text } of VECTORS) {
    assert.deepEqual(channels.event(bytesOf(hex)), readMessage(text).event);
  }
});

test("a payload is read as the application wants it", () => {
  const { hex } = VECTORS[0];
  assert.equal(announced().event(bytesOf(hex), (raw) => `<${raw}>`).data, "<1.50>");
});

test("a message that is cut is an error, wherever it is cut", () => {
  const channels = announced();
  for (const { hex } of VECTORS) {
    const message = bytesOf(hex);
    for (let length = 0; length < message.byteLength; length += 1) {
      assert.throws(() => channels.event(message.slice(0, length)), `${length} bytes`);
    }
  }
});

test("ids are those of one connection, and come with replies or notices", () => {
  const [{ hex, channel, id }] = VECTORS;
  const channels = announced();
  channels.clear();
  assert.throws(() => channels.event(bytesOf(hex)), /not announced/);
  channels.learn({ channel: "control", type: "channels", ids: { [channel]: id } });
  assert.equal(channels.event(bytesOf(hex)).channel, channel);
});

test("a later version may have more fields and other messages; another schema is an error", () => {
  const channels = announced();
  const [{ hex, text }] = VECTORS;
  const message = new Uint8Array(bytesOf(hex));
  const longer = Uint8Array.from([...message.slice(0, 48), ...Array(8).fill(255), ...message.slice(48)]);
  longer[0] += 8;
  assert.deepEqual(channels.event(longer.buffer), readMessage(text).event);
  longer[2] = 2;
  assert.equal(channels.event(longer.buffer), undefined);
  longer[4] = 2;
  assert.throws(() => channels.event(longer.buffer), /schema/);
});
