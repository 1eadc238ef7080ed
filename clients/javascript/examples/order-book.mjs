// Keeps the order books of the channels `book.*` and shows the best prices once a second.
//
//     node examples/order-book.mjs ws://127.0.0.1:9001/v1
//     node examples/order-book.mjs --check ws://127.0.0.1:9001/v1 data/usdm/btcusdt_20240808.gz …
//
// With --check it reads until it has what publish-depth.mjs sent of these files, compares every
// level with a book built straight from the file, asks the server for its hash, and ends.

import { BinanceDepth, connect } from "@fanfare/client";
import { channelOf, depthOf } from "./capture.mjs";

const { WebSocket } = globalThis.WebSocket ? globalThis : await import("ws");
const [url = "ws://127.0.0.1:9001/v1", ...files] = process.argv
  .slice(2)
  .filter((one) => one !== "--check");
const check = process.argv.includes("--check");

const books = new Map(); // channel -> its book
const feed = connect(url, {
  WebSocket,
  hash: check,
  onGap: ({ channels, from, to, missed, cause }) =>
    console.error(`gap: ${missed ?? "some"} of ${channels}, seq ${from} to ${to}: ${cause}`),
  onState: ({ state, why }) => console.error(state, why?.reason ?? ""),
});
await feed.subscribe("book.*");

if (check) {
  await checkAll();
} else {
  setInterval(show, 1000);
  for await (const event of feed) apply(event);
}

function apply({ channel, kind, data }) {
  // A snapshot is the begin of a book, at any time.
  if (kind === "snapshot" || !books.has(channel)) books.set(channel, new BinanceDepth());
  const book = books.get(channel);
  if (book.apply({ kind, data }) === "broken") console.error(`${channel}: a diff is missing`);
  return book;
}

function show() {
  for (const [channel, { bids, asks, state }] of books) {
    console.log(channel, state, bids[0]?.price ?? "-", asks[0]?.price ?? "-");
  }
}

/** A book built with nothing but maps: price -> quantity, and the last update in it. */
async function straightFrom(file) {
  const sides = { bids: new Map(), asks: new Map() };
  let last = 0;
  const early = [];
  const set = (side, levels) => {
    for (const [price, quantity] of levels) {
      if (Number(quantity) === 0) side.delete(price);
      else side.set(price, quantity);
    }
  };
  const take = ({ u, b, a }) => {
    if (u < last) return;
    set(sides.bids, b);
    set(sides.asks, a);
    last = u;
  };
  for await (const { kind, data } of depthOf(file)) {
    if (kind === "snapshot") {
      set(sides.bids, data.bids);
      set(sides.asks, data.asks);
      last = data.lastUpdateId;
      early.forEach(take);
    } else if (last === 0) {
      early.push(data);
    } else {
      take(data);
    }
  }
  return { ...sides, last };
}

async function checkAll() {
  const wanted = new Map();
  for (const file of files) wanted.set(channelOf(file), await straightFrom(file));
  const left = new Set(wanted.keys());
  for await (const event of feed) {
    const { lastUpdateId } = apply(event);
    if (lastUpdateId === wanted.get(event.channel)?.last) left.delete(event.channel);
    if (left.size === 0) break;
  }
  for (const [channel, straight] of wanted) {
    const { bids, asks, state } = books.get(channel);
    const same = sameSide(bids, straight.bids, -1) && sameSide(asks, straight.asks, 1);
    const hash = await feed.verify(channel);
    const verdict = same && hash.matches && state === "whole" ? "equal" : "DIFFERENT";
    console.log(
      `${channel}: ${verdict}, ${bids.length} bids, ${asks.length} asks, hash ${hash.hash}`,
    );
    if (verdict !== "equal") process.exitCode = 1;
  }
  feed.close();
}

function sameSide(levels, straight, direction) {
  const sorted = [...straight].sort(([left], [right]) => (left - right) * direction);
  return (
    JSON.stringify(levels.map(({ price, quantity }) => [price, quantity])) ===
    JSON.stringify(sorted)
  );
}
