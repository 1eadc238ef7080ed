// What browsers' WebSocket and Node's package `ws` have in common, and where they differ.
// Not here: when a connection is opened or given up (leg.js).

import { SUBPROTOCOL_BINARY } from "./binary.js";
import { FanfareError, SUBPROTOCOL } from "./protocol.js";

/**
 * @typedef {object} SocketOptions
 * @property {any} WebSocket
 * @property {any} socketOptions third argument of the `ws` package's constructor
 * @property {"message" | "query" | "header"} auth
 * @property {boolean} binary ask for the binary form
 */

/**
 * @typedef {object} Handlers
 * @property {() => void} open
 * @property {(data: string | ArrayBuffer) => void} message
 * @property {(code: number, reason: string) => void} close
 * @property {(status: number, retryAfterMs: number) => void} refuse the answer to the upgrade; only
 *   `ws` shows it, in a browser the socket closes
 */

/**
 * Opens a socket, with the credential in its place. Throws a FanfareError that no retry cures.
 * @param {string} address
 * @param {string | undefined} token
 * @param {SocketOptions} how
 * @param {Handlers} handlers
 */
export function openSocket(address, token, how, handlers) {
  const { WebSocket, socketOptions, auth, binary } = how;
  const protocols = binary ? [SUBPROTOCOL_BINARY, SUBPROTOCOL] : [SUBPROTOCOL];
  let url = address;
  let options = socketOptions;
  if (token !== undefined && auth === "query") {
    url += `${url.includes("?") ? "&" : "?"}token=${encodeURIComponent(token)}`;
  } else if (token !== undefined && auth === "header") {
    options = { ...options, headers: { ...options?.headers, Authorization: `Bearer ${token}` } };
  }
  let socket;
  try {
    socket = options ? new WebSocket(url, protocols, options) : new WebSocket(url, protocols);
  } catch (error) {
    // The message may have the URL, and with it the credential.
    const { name, message } = /** @type {Error} */ (error);
    const reason = url === address ? message : name;
    throw new FanfareError("refused", `cannot connect to ${address}: ${reason}`);
  }
  socket.onopen = handlers.open;
  socket.binaryType = "arraybuffer";
  socket.onmessage = (/** @type {{ data: any }} */ { data }) => handlers.message(data);
  socket.onclose = (/** @type {{ code: number, reason: string }} */ { code, reason }) =>
    handlers.close(code, reason || "the connection broke");
  socket.onerror = () => {}; // A close follows.
  if (typeof socket.on === "function") {
    socket.on("unexpected-response", (/** @type {any} */ request, /** @type {any} */ response) => {
      request.destroy();
      const seconds = Number(response.headers["retry-after"]) || 0;
      handlers.refuse(response.statusCode, seconds * 1000);
    });
  }
  return socket;
}
