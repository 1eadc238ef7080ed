// Connects twice with Node's `ws` over TLS and says whether the second session was resumed.

import https from "node:https";
import { WebSocket } from "ws";

const [url, version] = process.argv.slice(2);
const agent = new https.Agent({ minVersion: version, maxVersion: version });

function connect() {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url, "fanfare.v1.json", { agent });
    socket.on("error", reject);
    // With TLS 1.3 the tickets come after the handshake; the welcome comes behind them.
    socket.once("message", () => {
      const { _socket: tls } = socket;
      console.log(`${tls.getProtocol()} ${tls.isSessionReused() ? "resumed" : "new"}`);
      socket.on("close", resolve);
      socket.close();
    });
  });
}

await connect();
await connect();
