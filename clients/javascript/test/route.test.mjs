// Which node comes next.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Route, shuffled } from "../src/route.js";

const [A, B, C, D] = ["a", "b", "c", "d"].map((name) => `ws://${name}/v1`);

function turns(route, count, ...taken) {
  return Array.from({ length: count }, () => {
    const { url } = route;
    route.failed(taken);
    return url;
  });
}

test("every node has its turn", () => {
  assert.deepEqual(turns(new Route([A, B, C]), 4), [A, B, C, A]);
  assert.deepEqual(turns(new Route([A]), 2), [A, A]);
});

test("where another connection is is left out, unless there is nothing else", () => {
  assert.deepEqual(turns(new Route([A, B, C]), 4, B), [A, C, A, C]);
  assert.deepEqual(turns(new Route([A, B]), 3, B), [A, A, A]);
  assert.deepEqual(turns(new Route([A, B]), 3, A, B), [A, B, A]);
});

test("a drain leads to what it names, then to others, and last to itself", () => {
  const named = new Route([A, B]);
  named.drained([A, D, "wss://d/v1", "http://x"]);
  assert.deepEqual(turns(named, 2).sort(), [D, "wss://d/v1"]);
  assert.deepEqual(turns(named, 2), [B, A]);
  const unnamed = new Route([A, B]);
  unnamed.drained([]);
  assert.deepEqual(turns(unnamed, 2), [B, A]);
  const taken = new Route([A, B, C]);
  taken.drained([B], [B]);
  assert.deepEqual(turns(taken, 2, B), [C, A]);
});

test("a drain does not lead out of TLS", () => {
  const route = new Route(["wss://a"]);
  route.drained(["ws://b"]);
  assert.deepEqual(turns(route, 2), ["wss://a", "wss://a"]);
});

test("a node that refuses is not asked again", () => {
  const route = new Route([A, B]);
  assert.ok(route.refused());
  assert.deepEqual(turns(route, 2), [B, B]);
  assert.ok(!route.refused());
});

test("a shuffled list has the same nodes", () => {
  const lists = new Set(Array.from({ length: 200 }, () => shuffled([A, B, C]).join()));
  assert.equal(lists.size, 6);
});
