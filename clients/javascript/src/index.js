// @fanfare/client: what the package offers.

export { BinanceDepth, Book, compareDecimals } from "./book.js";
export { connect, Feed } from "./client.js";
export { FanfareError, matches } from "./protocol.js";
export { crc32, StateHash } from "./statehash.js";

/** @typedef {import("./client.js").Options} Options */
/** @typedef {import("./client.js").Verified} Verified */
/** @typedef {import("./leg.js").State} State */
/** @typedef {import("./protocol.js").FeedEvent} FeedEvent */
/** @typedef {import("./protocol.js").Gap} Gap */
/** @typedef {import("./protocol.js").Position} Position */
/** @typedef {import("./protocol.js").Terms} Terms */
