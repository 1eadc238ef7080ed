// A subscriber with Node's `ws` package; see `support.ClientProgram`.

import { WebSocket } from "ws";

const [url, ...channels] = process.argv.slice(2);
const socket = new WebSocket(url, "fanfare.v1.json");
socket.on("open", () => {
  console.log(`open ${socket.protocol}`);
  socket.ping();
});
socket.on("pong", () => {
  console.log("pong");
  socket.send(JSON.stringify({ method: "subscribe", params: { channels, policy: "all", snapshot: false }, req_id: 1 }));
});
socket.on("message", (message) => console.log(message.toString("utf8")));
socket.on("close", (code) => console.log(`closed ${code}`));
