// Reads the same channels over two connections and shows that the loss of one is not seen.
//
//     node examples/ab.mjs ws://a.example:9001/v1 ws://b.example:9001/v1 'trade.*'
//
// Both must count by the same epoch: one server over two networks. If not, one is used.

import { connect } from "@fanfare/client";

const { WebSocket } = globalThis.WebSocket ? globalThis : await import("ws");
const [a = "ws://127.0.0.1:9001/v1", b = a, ...patterns] = process.argv.slice(2);

let events = 0;
const feed = connect([a, b], {
  WebSocket,
  policy: "all",
  onGap: ({ channels, missed, cause }) =>
    console.error(`missed ${missed ?? "some"} of ${channels}: ${cause}`),
  onState: ({ state, url, why }) => console.error(state, url, why?.reason ?? ""),
});
process.on("SIGINT", () => feed.close());
await feed.subscribe(patterns.length > 0 ? patterns : [">"]);
for await (const { seq } of feed) {
  events += 1;
  if (events % 1000 === 0) console.log(`${events} events, the last one has seq ${seq}`);
}
console.log(`${events} events`);
