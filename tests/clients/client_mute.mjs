// A client that reads and does not answer pings; see `support.ClientProgram`.

import { WebSocket } from "ws";

const socket = new WebSocket(process.argv[2], "fanfare.v1.json", { autoPong: false });
socket.on("open", () => socket.send('{"method":"subscribe","params":{"channels":[">"],"snapshot":false}}'));
socket.once("ping", () => console.log("ping"));
socket.on("close", (code) => console.log(`closed ${code}`));
