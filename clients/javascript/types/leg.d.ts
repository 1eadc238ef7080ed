export class Leg {
    /**
     * @param {string[]} nodes
     * @param {LegOptions} options
     * @param {Host} host
     */
    constructor(nodes: string[], options: LegOptions, host: Host);
    /** The node to connect to, or connected to. */
    get url(): string;
    get session(): Session;
    /** Whether requests can be sent. */
    get connected(): boolean;
    /** Whether it waits for the end of the others, because they count by another epoch. */
    get parked(): boolean;
    /** Connects, now. */
    open(): void;
    /**
     * Adds to the set, for this connection and every later one. Resolves with the reply's entries.
     * @param {string[]} patterns
     * @param {Terms} terms
     * @returns {Promise<any[]>}
     */
    subscribe(patterns: string[], terms: Terms): Promise<any[]>;
    /**
     * Takes out of the set. Nothing of these patterns comes any more, unless another one matches it.
     * Where the connection breaks, or the server has ended it, that is done.
     * @param {string[]} patterns
     */
    unsubscribe(patterns: string[]): Promise<void>;
    /**
     * One request and its reply; not repeated when the connection breaks.
     * @param {string} method
     * @param {Record<string, unknown>} [params]
     * @param {(reply: any) => any} [take] called before the message after the reply is taken
     * @returns {Promise<any>} what `take` gives
     */
    request(method: string, params?: Record<string, unknown>, take?: (reply: any) => any): Promise<any>;
    /** Stops reading: by the socket if it can, else by closing it. What was not read comes later. */
    pause(): boolean;
    /** Closes the connection until `resume`: the server keeps what comes meanwhile in its log. */
    suspend(): void;
    resume(): void;
    close(): void;
    #private;
}
export type FeedEvent = import("./protocol.js").FeedEvent;
export type Gap = import("./protocol.js").Gap;
export type Terms = import("./protocol.js").Terms;
export type Why = {
    code?: number;
    reason: string;
    refused?: boolean;
};
export type State = {
    state: "connected";
    url: string;
    node: string;
    epoch: string;
} | {
    state: "reconnecting";
    url: string;
    delay: number;
    why: Why;
} | {
    state: "draining";
    url: string;
    retryAfterMs: number;
    to: string[];
} | {
    state: "live";
    url: string;
    channels: string[];
    seq: number;
    how: "snapshot" | "replay";
} | {
    state: "unsubscribed";
    url: string;
    channels: string[];
    cause: string;
} | {
    state: "refused";
    url: string;
    channels: string[];
    error: FanfareError;
} | {
    state: "paused";
    url: string;
    why: Why;
} | {
    state: "parked";
    url: string;
    epoch: string;
} | {
    state: "closed";
    url: string;
};
/**
 * What a leg needs from the feed that it is a part of.
 */
export type Host = {
    /**
     * false: another epoch than the others'
     */
    welcome: (leg: Leg, epoch: string) => boolean;
    /**
     * the nodes of the other legs
     */
    elsewhere: (leg: Leg) => string[];
    /**
     * asked before each message
     */
    room: (leg: Leg) => "take" | "leave";
    event: (leg: Leg, event: FeedEvent) => void;
    gap: (leg: Leg, gap: Gap) => void;
    /**
     * the server's entry
     */
    taken: (leg: Leg, pattern: string, entry: any) => void;
    /**
     * the last seq it brings of it
     */
    ended: (leg: Leg, pattern: string, seq?: number) => void;
    /**
     * its position may have risen
     */
    progress: (leg: Leg) => void;
    /**
     * its connection is gone
     */
    lost: (leg: Leg) => void;
    state: (leg: Leg, state: State) => void;
    /**
     * it will not come back
     */
    fail: (leg: Leg, error: FanfareError) => void;
};
export type OwnOptions = {
    token: string | (() => string | Promise<string>) | undefined;
    parse: (raw: string) => any;
    heal: boolean;
    backoff: {
        baseMs: number;
        maxMs: number;
        goodMs: number;
    };
    connectMs: number;
};
export type LegOptions = import("./socket.js").SocketOptions & OwnOptions;
import { Session } from "./session.js";
import { FanfareError } from "./protocol.js";
