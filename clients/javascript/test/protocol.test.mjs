// Messages are read exactly; patterns, terms and codes are as docs/PROTOCOL.md says.

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  backoff,
  bySpecificity,
  chunks,
  drainTargets,
  isFinal,
  matches,
  members,
  paramsOf,
  readMessage,
} from "../src/protocol.js";

const TEXT =
  '{"channel":"quote.A","type":"update","key":"A/\\"B","seq":811,"prev":809,' +
  '"ts":1742944025743419099,"ts_in":1795559779984488696,"data":{ "p" : 1.10 }}';

test("an event keeps every digit", () => {
  const { kind, event } = readMessage(TEXT);
  assert.equal(kind, "event");
  assert.deepEqual(event, {
    channel: "quote.A",
    key: 'A/"B',
    kind: "update",
    seq: 811,
    prev: 809,
    ts: 1742944025743419099n,
    tsIn: 1795559779984488696n,
    data: { p: 1.1 },
    raw: '{ "p" : 1.10 }',
    text: TEXT,
    recovered: undefined,
  });
});

test("fields of later versions, wherever they are, change nothing", () => {
  const before = TEXT.replace('"seq"', '"new":{"data":[1,"}"]},"seq"');
  const behind = TEXT.replace(/\}$/, ',"new":"\\",\\"data\\":9"}');
  const other =
    '{"data":{ "p" : 1.10 }, "ts":1742944025743419099, "ts_in":1795559779984488696,' +
    '"prev":809,"seq":811,"key":"A/\\"B","type":"update","channel":"quote.A"}';
  const { event } = readMessage(TEXT);
  for (const text of [before, behind, other]) {
    assert.deepEqual({ ...readMessage(text).event, text: TEXT }, event, text);
  }
});

test("what may be missing may be missing", () => {
  const { event } = readMessage(
    '{"channel":"a.b","type":"snapshot","seq":1,"prev":0,"ts_in":7,"data":null}',
  );
  assert.deepEqual(
    [event.key, event.ts, event.tsIn, event.data, event.kind],
    [null, undefined, 7n, null, "snapshot"],
  );
});

test("replies, control messages and what is none of them", () => {
  assert.equal(readMessage('{"success":true}').kind, "reply");
  assert.equal(readMessage('{"channel":"control","type":"heartbeat","seq":1}').kind, "control");
  for (const text of ["", "{", "1", "null", '"a"'])
    assert.throws(() => readMessage(text), SyntaxError);
});

test("payloads can be read by another parser", () => {
  assert.equal(readMessage(TEXT, (raw) => raw.length).event.data, 14);
});

test("members are found behind strings and nested values", () => {
  const text = '{ "a" : [1,{"b":2}] , "c,\\"" : "}:," ,"d":-1e5, "e":{}}';
  const wanted = { a: '[1,{"b":2}]', 'c,"': '"}:,"', d: "-1e5", e: "{}" };
  assert.deepEqual(Object.fromEntries(members(text)), wanted);
});

test("patterns match as the page says", () => {
  for (const [pattern, name, wanted] of [
    ["trade.BTCUSDT", "trade.BTCUSDT", true],
    ["trade.BTCUSDT", "trade.ETHUSDT", false],
    ["trade.*", "trade.BTCUSDT", true],
    ["trade.*", "trade", false],
    ["trade.*", "trade.a.b", false],
    ["*.BTCUSDT", "quote.BTCUSDT", true],
    ["*.BTCUSDT", "BTCUSDT", false],
    ["trade.>", "trade.BTCUSDT", true],
    ["trade.>", "trade.a.b", true],
    ["trade.>", "trade", false],
    [">", "everything", true],
    ["trade.>", "trade.*", true],
    ["trade.*", "trade.>", false],
  ]) {
    assert.equal(matches(pattern, name), wanted, `${pattern} ${name}`);
  }
  const sorted = [">", "a.>", "a.*.c", "*.b.c", "a.b.>", "a.b.*", "a.b.c"].sort(bySpecificity);
  assert.deepEqual(sorted, ["a.b.c", "a.b.*", "a.b.>", "a.*.c", "a.>", "*.b.c", ">"]);
});

test("terms are sent under the names of the protocol; others are refused", () => {
  assert.deepEqual(paramsOf({ policy: "all", maxAgeMs: 10, snapshot: undefined }), {
    policy: "all",
    max_age_ms: 10,
  });
  assert.throws(() => paramsOf({ max_age: 10 }), /no option 'max_age'.*maxAgeMs/);
});

test("requests stay below the limits of the server", () => {
  const long = Array.from({ length: 1000 }, (_, at) => `${at}.${"x".repeat(250)}`);
  for (const part of chunks(long, 65_536)) assert.ok(JSON.stringify(part).length < 65_000);
  assert.deepEqual(chunks(long, 65_536).flat(), long);
  assert.ok(chunks(Array(3000).fill("a"), 65_536).every((part) => part.length <= 1024));
});

test("only some closes are worth another try", () => {
  const final = [1002, 1003, 1007, 1008, 1009, 4000, 4001, 4002, 4003, 4099];
  const retried = [1000, 1001, 1005, 1006, 1011, 1012, 4100, 4101, 4102, 4199];
  assert.deepEqual([...final, ...retried].filter(isFinal), final);
});

test("the wait before a reconnect is jittered and bounded", () => {
  const bounds = { baseMs: 250, maxMs: 30_000 };
  const longest = [0, 1, 2, 6, 7, 1000].map((attempt) => backoff(attempt, bounds, () => 1));
  assert.deepEqual(longest, [250, 500, 1000, 16_000, 30_000, 30_000]);
  assert.equal(
    backoff(5, bounds, () => 0),
    0,
  );
});

test("a drain never leads from TLS to plain text", () => {
  const to = ["ws://b/v1", "wss://b/v1", "http://b/v1"];
  assert.deepEqual(drainTargets("wss://a/v1", to), ["wss://b/v1"]);
  assert.deepEqual(drainTargets("ws://a/v1", to), ["ws://b/v1", "wss://b/v1"]);
});
