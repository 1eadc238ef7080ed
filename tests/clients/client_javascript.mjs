// A subscriber with this repository's JavaScript client; see `test_javascript_client.py`. With
// `own` it uses Node's WebSocket. With `wait` it takes no event before it gets SIGUSR2.

import { WebSocket } from "ws";
import * as client from "../../clients/javascript/src/index.js";
import { report } from "./client_javascript_report.mjs";

const { own, wait, ...options } = JSON.parse(process.argv[2]);
if (!own) options.WebSocket = WebSocket;
if (wait) options.ready = new Promise((resolve) => process.once("SIGUSR2", resolve));
await report(client, options, console.log);
