// Levels are exact and in order; Binance's rules decide what belongs together.

import assert from "node:assert/strict";
import { test } from "node:test";
import { BinanceDepth, Book, compareDecimals } from "../src/index.js";

test("decimals are compared exactly", () => {
  const rising = [
    "-10",
    "-9.5",
    "-0.01",
    "0",
    "1e-7",
    "0.1",
    "1.10",
    "9.999999999999999999998",
    "9.999999999999999999999",
    "10",
    "61837.63000000",
    "61837.64",
    "1e5",
    "123456789012345678901",
  ];
  for (const [at, left] of rising.entries()) {
    for (const [than, right] of rising.entries()) {
      assert.equal(
        Math.sign(compareDecimals(left, right)),
        Math.sign(at - than),
        `${left} ${right}`,
      );
    }
  }
  assert.equal(compareDecimals("1.10", "01.1000"), 0);
  assert.equal(compareDecimals("-0", "0.0"), 0);
  assert.equal(compareDecimals("1e2", "100"), 0);
  assert.throws(() => compareDecimals("a", "b"), /not a decimal number/);
});

test("a book keeps the best price first and what it was given", () => {
  const book = new Book();
  book.apply({
    kind: "snapshot",
    data: {
      bids: [
        ["9.90", "1"],
        ["10.0", "2"],
      ],
      asks: [
        ["10.20", "3"],
        ["10.1", "4"],
      ],
    },
  });
  const update = {
    bids: [
      ["9.9", "0.00"],
      ["9.95", "5.0"],
    ],
    asks: [
      ["10.10", "7"],
      ["11", "0"],
    ],
  };
  book.apply({ kind: "update", data: update });
  assert.deepEqual(book.bids, [
    { price: "10.0", quantity: "2" },
    { price: "9.95", quantity: "5.0" },
  ]);
  assert.deepEqual(book.asks, [
    { price: "10.10", quantity: "7" },
    { price: "10.20", quantity: "3" },
  ]);
});

test("a change may be of one side only, and a snapshot may have one", () => {
  const book = new Book();
  book.apply({ kind: "snapshot", data: { asks: [["60001.40", "1"]] } });
  book.apply({ kind: "update", data: { bids: [["60001.20", "5"]] } });
  book.apply({ kind: "update", data: { asks: [["60001.40", "2"]] } });
  assert.deepEqual(book.bids, [{ price: "60001.20", quantity: "5" }]);
  assert.deepEqual(book.asks, [{ price: "60001.40", quantity: "2" }]);
});

const SNAPSHOT = { lastUpdateId: 100, bids: [["1", "1"]], asks: [["2", "1"]] };
const diff = (U, u, pu) => ({ U, u, pu, b: [["1", String(u)]], a: [] });

/** The state and the last update after a snapshot that comes after some of the diffs. */
function after(before, behind) {
  const book = new BinanceDepth();
  for (const one of before) book.apply({ kind: "update", data: one });
  book.apply({ kind: "snapshot", data: SNAPSHOT });
  for (const one of behind) book.apply({ kind: "update", data: one });
  return [book.state, book.lastUpdateId, book.bids[0]?.quantity];
}

test("spot: the first diff spans lastUpdateId + 1, the next ones follow without a hole", () => {
  assert.deepEqual(after([], []), ["syncing", 100, "1"]);
  assert.deepEqual(after([diff(90, 100), diff(99, 103), diff(104, 110)], []), [
    "whole",
    110,
    "110",
  ]);
  assert.deepEqual(after([diff(90, 100)], [diff(101, 103), diff(104, 105)]), ["whole", 105, "105"]);
  assert.deepEqual(after([], [diff(102, 103)]), ["broken", 100, "1"]);
  assert.deepEqual(after([], [diff(100, 103), diff(105, 106)]), ["broken", 103, "103"]);
});

test("futures: the first diff spans lastUpdateId, then pu is the last u", () => {
  assert.deepEqual(after([diff(80, 99, 79), diff(99, 103, 98)], [diff(107, 110, 103)]), [
    "whole",
    110,
    "110",
  ]);
  assert.deepEqual(after([], [diff(98, 100, 97), diff(120, 130, 100)]), ["whole", 130, "130"]);
  assert.deepEqual(after([], [diff(102, 103, 101)]), ["broken", 100, "1"]);
  assert.deepEqual(after([], [diff(99, 103, 98), diff(104, 110, 102)]), ["broken", 103, "103"]);
});

test("the next snapshot makes a broken book whole, with the diffs that came before it", () => {
  const book = new BinanceDepth();
  for (const data of [SNAPSHOT, diff(102, 103), diff(104, 105)])
    book.apply({ kind: "update", data });
  assert.equal(book.state, "broken");
  book.apply({ kind: "snapshot", data: { ...SNAPSHOT, lastUpdateId: 103 } });
  assert.deepEqual([book.state, book.lastUpdateId], ["whole", 105]);
});
