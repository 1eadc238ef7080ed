// Two sides make one stream, without what only one of them has lost.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Merge } from "../src/ab.js";
import { readMessage } from "../src/protocol.js";
import { event } from "./support.mjs";

const A = 0;
const B = 1;

/** A merge of two sides that have everything up to seq 0; `out` is what comes out. */
function merged(heldMax) {
  const out = [];
  const merge = new Merge(
    2,
    (item) => {
      out.push(item.event?.seq ?? `gap ${item.gap.from}-${item.gap.to}`);
    },
    heldMax,
  );
  for (const side of [A, B]) {
    merge.up(side);
    merge.progress(side, 0);
  }
  const take = (side, ...list) => {
    for (const seq of list) {
      merge.event(side, readMessage(event("c", seq, seq - 1)).event);
      merge.progress(side, seq);
    }
  };
  const lose = (side, from, to, channels = ["c"]) => {
    merge.gap(side, { channels, from, to, missed: to - from + 1, cause: "slow", recover: "none" });
    merge.progress(side, to);
  };
  return { merge, out, take, lose };
}

test("the first of each is taken, whichever side it comes from", () => {
  const { out, take, merge } = merged();
  take(A, 1, 2);
  take(B, 1, 2, 3, 4);
  take(A, 3, 4, 5);
  assert.deepEqual(out, [1, 2, 3, 4, 5]);
  assert.equal(merge.position, 5);
});

test("a side that dies and comes back leaves no gap", () => {
  const { out, take, merge } = merged();
  take(A, 1);
  merge.down(A);
  take(B, 1, 2, 3);
  merge.up(A);
  take(A, 2, 3, 4);
  assert.deepEqual(out, [1, 2, 3, 4]);
});

test("what one side has lost the other one fills, in order, even when it comes later", () => {
  const { out, take, lose } = merged();
  take(A, 1);
  lose(A, 2, 4);
  take(A, 5, 6);
  assert.deepEqual(out, [1]);
  take(B, 1, 2, 3);
  assert.deepEqual(out, [1, 2, 3]);
  take(B, 4, 5, 6, 7);
  assert.deepEqual(out, [1, 2, 3, 4, 5, 6, 7]);
});

test("what waited behind a gap and came from the other side meanwhile is dropped", () => {
  const { out, take, lose, merge } = merged();
  lose(A, 1, 2);
  take(A, 3, 4);
  for (const seq of [1, 2, 3]) merge.event(B, readMessage(event("c", seq, seq - 1)).event);
  merge.progress(B, 3);
  assert.deepEqual(out, [1, 2, 3, 4]);
});

test("what both have lost is one gap", () => {
  const { out, take, lose } = merged();
  lose(A, 2, 4);
  lose(B, 2, 4);
  take(A, 5);
  take(B, 5, 6);
  assert.deepEqual(out, ["gap 2-4", 5, 6]);
});

test("a gap that is longer on the other side is filled behind what was reported", () => {
  const { out, take, lose, merge } = merged();
  merge.down(B);
  lose(A, 1, 10, [">"]);
  take(A, 11, 12, 13);
  merge.up(B);
  lose(B, 1, 12, [">"]);
  take(B, 13, 14);
  assert.deepEqual(out, ["gap 1-10", 11, 12, 13, 14]);
});

test("when the side dies that was to fill a gap, it is reported", () => {
  const { out, take, lose, merge } = merged();
  lose(A, 2, 4);
  take(A, 5);
  assert.deepEqual(out, []);
  merge.down(B);
  assert.deepEqual(out, ["gap 2-4", 5]);
});

test("what waits behind a gap is bounded", () => {
  const { out, take, lose } = merged(3);
  lose(A, 2, 4);
  take(A, 5, 6, 7);
  assert.deepEqual(out, []);
  take(A, 8);
  assert.deepEqual(out, ["gap 2-4", 5, 6, 7, 8]);
});

test("how many gaps may wait is bounded, too", () => {
  const { out, lose } = merged();
  for (let at = 0; at < 70; at += 1) lose(A, 10 * at + 1, 10 * at + 5);
  assert.deepEqual(out, Array.from({ length: 6 }, (_, at) => `gap ${10 * at + 1}-${10 * at + 5}`));
});

test("a gap of another channel holds nothing back", () => {
  const { out, take, lose } = merged();
  lose(A, 2, 4, ["d"]);
  take(A, 5);
  assert.deepEqual(out, [5]);
});

test("a side that joins late fills nothing from before, and claims nothing", () => {
  const { merge, out, take } = merged();
  merge.reset();
  merge.began(A, "c", { seq: 100 });
  merge.progress(A, 100);
  merge.began(B, "c", { seq: 500 });
  merge.progress(B, 500);
  assert.equal(merge.position, 100);
  take(B, 501);
  merge.gap(A, { channels: ["c"], from: 101, to: 200, missed: 1, cause: "slow", recover: "none" });
  assert.deepEqual(out, ["gap 101-200"], "the rest may still come from A");
  take(A, 300);
  assert.equal(merge.position, 300);
  merge.down(A);
  assert.deepEqual(out, ["gap 101-200", 300, "gap 201-500", 501]);
});

test("another epoch begins anew, and a gap that waited is told", () => {
  const { out, take, lose, merge } = merged();
  take(A, 1, 2, 3);
  lose(A, 4, 5);
  merge.reset();
  take(B, 1);
  assert.deepEqual(out, [1, 2, 3, "gap 4-5", 1]);
});

/** Both sides have `c` and `d` after seq 0. */
function withTwo() {
  const one = merged();
  for (const side of [A, B]) {
    for (const pattern of ["c", "d"]) one.merge.began(side, pattern, { seq: 0 });
  }
  return one;
}

test("a side fills no gap of what it does not hold any more", () => {
  const { out, take, lose, merge } = withTwo();
  merge.ended(A, "c", 600);
  merge.progress(A, 1000);
  take(B, 650);
  assert.equal(merge.position, 650, "what only B brings counts");
  lose(B, 700, 800);
  assert.deepEqual(out, [650, "gap 700-800"]);
  merge.progress(B, 1000);
  lose(B, 1001, 1010, ["d"]);
  assert.deepEqual(out, [650, "gap 700-800"], "A may still bring that");
  merge.progress(A, 1010);
  merge.progress(B, 1010);
  assert.equal(merge.position, 1010);
});

test("a gap that waits for a side is told when that side ends the pattern", () => {
  const { out, lose, merge } = withTwo();
  lose(B, 10, 20);
  assert.deepEqual(out, []);
  merge.ended(A, "c", 15);
  assert.deepEqual(out, ["gap 10-20"]);
});

test("a side that was refused a pattern fills no gap of it, from the beginning on", () => {
  const { out, lose, merge } = merged();
  merge.began(B, "c", { seq: 0 });
  merge.ended(A, "c");
  merge.progress(A, 1000);
  lose(B, 1, 5);
  assert.deepEqual(out, ["gap 1-5"]);
});

test("a side that begins a pattern again has lost what was between, and fills what comes", () => {
  const { out, take, lose, merge } = withTwo();
  merge.ended(A, "c", 600);
  take(B, 650, 700);
  merge.down(B);
  merge.began(A, "c", { seq: 1000 });
  merge.progress(A, 1000);
  assert.deepEqual(out, [650, 700, "gap 601-1000"]);
  take(A, 1001, 1002);
  merge.up(B);
  lose(B, 1001, 1002);
  assert.deepEqual(out, [650, 700, "gap 601-1000", 1001, 1002]);
  assert.equal(merge.position, 1002);
});

test("a pattern that both have ended begins anew", () => {
  const { out, merge } = withTwo();
  merge.ended(A, "c", 600);
  merge.ended(B, "c", 700);
  for (const side of [A, B]) merge.began(side, "c", { seq: 1000 });
  merge.progress(A, 1000);
  assert.deepEqual(out, []);
  assert.equal(merge.position, 1000);
});

test("what a side that has failed for good held keeps back no position", () => {
  for (const first of ["gone", "ended"]) {
    const { merge } = withTwo();
    if (first === "gone") merge.gone(B);
    merge.ended(A, "c", 600);
    if (first === "ended") merge.gone(B);
    merge.progress(A, 1000);
    assert.equal(merge.position, 1000, first);
  }
});

test("what a side has ended it does not hold in another epoch either", () => {
  const { out, lose, merge } = withTwo();
  merge.ended(A, "c", 600);
  merge.reset();
  merge.began(B, "c", { seq: 5, resumed: false });
  merge.progress(A, 10);
  lose(B, 6, 8);
  assert.deepEqual(out, ["gap 6-8"]);
});
