/**
 * Connects to a server, or to the nodes of a cluster: each connection begins at a random one, and
 * goes to another when that one fails or drains.
 * @param {string | string[]} url `ws://HOST:PORT/v1`, or several
 * @param {Options} [options]
 * @returns {Feed}
 */
export function connect(url: string | string[], options?: Options): Feed;
export class Feed {
    /**
     * @param {string[]} urls
     * @param {Options} options
     */
    constructor(urls: string[], options: Options);
    /**
     * Everything up to here was handed to the application: what a later run may resume from, with
     * `subscribe(…, { resume: position })`. Undefined while a snapshot or a replay is coming.
     * @returns {Position | undefined}
     */
    get position(): Position | undefined;
    /**
     * Adds patterns to the set; they are subscribed to again after every reconnect. Resolves with
     * the server's entries: the terms in effect. Rejects when the server refuses one; those that it
     * took stay. Rejects with `overflow` when too much came before the reply; then all of them stay.
     * @param {string | string[]} patterns
     * @param {Terms} [terms]
     * @returns {Promise<any[]>}
     */
    subscribe(patterns: string | string[], terms?: Terms): Promise<any[]>;
    /**
     * Takes patterns out of the set. Nothing of them comes any more, but what was queued already.
     * @param {string | string[]} patterns
     */
    unsubscribe(patterns: string | string[]): Promise<void>;
    /**
     * The subscriptions as the server has them.
     * @returns {Promise<any[]>}
     */
    list(): Promise<any[]>;
    /** The milliseconds of a round trip, replies before it included. */
    ping(): Promise<number>;
    /**
     * Asks the server for the hash of a channel's state, and compares it where option `hash` is on.
     * @param {string} channel a name, not a pattern
     * @returns {Promise<Verified>}
     */
    verify(channel: string): Promise<Verified>;
    /** Ends all connections. What is queued can still be read; then the iteration ends. */
    close(): void;
    /** @returns {AsyncIterator<FeedEvent, undefined>} one at a time; `break` leaves the feed open */
    [Symbol.asyncIterator](): AsyncIterator<FeedEvent, undefined>;
    #private;
}
export type FeedEvent = import("./protocol.js").FeedEvent;
export type Gap = import("./protocol.js").Gap;
export type Position = import("./protocol.js").Position;
export type Terms = import("./protocol.js").Terms;
export type State = import("./leg.js").State;
export type Options = {
    /**
     * one connection, or two at once and of each event the first:
     * the default where there are several nodes
     */
    mode?: "single" | "ab" | undefined;
    /**
     * the credential; a function is asked
     * at each connect, and when the credential is about to end
     */
    token?: string | (() => string | Promise<string>) | undefined;
    /**
     * how it is shown: by an `auth` request (the
     * default), in the URL's query, or in a header, which only the package `ws` can do
     */
    auth?: "message" | "header" | "query" | undefined;
    /**
     * default of `subscribe`
     */
    policy?: Terms["policy"];
    /**
     * more defaults of `subscribe`
     */
    terms?: import("./protocol.js").Terms | undefined;
    /**
     * events that will not come; called in the order of the
     * stream, while it is iterated
     */
    onGap?: ((gap: Gap) => void) | undefined;
    /**
     * `live` is called in the order of the stream, all
     * others at once
     */
    onState?: ((state: State) => void) | undefined;
    /**
     * on a gap, subscribe again as its `recover` says
     */
    heal?: boolean | undefined;
    /**
     * keep the hashes that `verify` compares
     */
    hash?: boolean | undefined;
    /**
     * reads a payload, JSON.parse by default
     */
    parse?: ((raw: string) => any) | undefined;
    /**
     * how many events may wait for the application, 10,000 by default
     */
    queue?: number | undefined;
    /**
     * what happens then: close the connection and
     * resume when they were taken (the default); stop reading (`ws` only, else as `close`), so that
     * the policy of the subscription decides; or drop, which is a gap
     */
    overflow?: "pause" | "close" | "drop" | undefined;
    /**
     * ask for the binary form, which says the same in fewer bytes; the server
     * decides
     */
    binary?: boolean | undefined;
    /**
     * a constructor like the browser's; globalThis.WebSocket by default
     */
    WebSocket?: any;
    /**
     * third argument of that constructor, for the package `ws`
     */
    socketOptions?: any;
    /**
     * of reconnects: 250,
     * 30,000, and how long a connection must be good to begin at the first again, 10,000
     */
    backoff?: {
        baseMs?: number;
        maxMs?: number;
        goodMs?: number;
    } | undefined;
    /**
     * how long a connection may take to be welcomed, 10,000
     */
    connectMs?: number | undefined;
};
export type Verified = {
    channel: string;
    /**
     * the channel's newest event at the server
     */
    seq: number;
    /**
     * how many keys are in its state
     */
    values: number;
    /**
     * the server's
     */
    hash: string;
    /**
     * this client's; undefined without the option `hash`
     */
    own: string | undefined;
    /**
     * undefined if they could not be compared at the same seq
     */
    matches: boolean | undefined;
};
export type Content = {
    event: FeedEvent;
} | {
    gap: Gap;
} | {
    state: State;
};
export type Item = {
    content: Content;
    position: Position | undefined;
};
