// Publishes the books of captures to a fanfare source: each channel begins with the snapshot, and
// goes on with the diffs that are not in it. So whoever subscribes later gets a whole book.
//
//     node examples/publish-depth.mjs 127.0.0.1:9002 data/usdm/btcusdt_20240808.gz …

import { once } from "node:events";
import { connect } from "node:net";
import { channelOf, depthOf } from "./capture.mjs";

const [address, ...files] = process.argv.slice(2);
if (files.length === 0) {
  console.error("usage: publish-depth.mjs HOST:PORT CAPTURE…");
  process.exit(2);
}
const [, host, port] = /^(.*):(\d+)$/.exec(address);
const socket = connect(Number(port), host);
socket.setEncoding("utf8").on("data", (refusal) => {
  console.error(refusal);
  process.exitCode = 1;
});
await once(socket, "connect");

for (const file of files) {
  const channel = channelOf(file);
  const early = []; // diffs that were recorded before the snapshot
  let snapshot;
  for await (const { kind, raw, data } of depthOf(file)) {
    if (kind === "snapshot") {
      snapshot = data;
      await send(channel, kind, raw);
      for (const diff of early)
        if (diff.u >= data.lastUpdateId) await send(channel, "update", diff.raw);
    } else if (snapshot) {
      await send(channel, kind, raw);
    } else {
      early.push({ raw, u: data.u });
    }
  }
}
socket.end();
await once(socket, "close");

async function send(channel, kind, raw) {
  const line = `{"channel":"${channel}","kind":"${kind}","data":${raw}}\n`;
  if (!socket.write(line)) await once(socket, "drain");
}
