/** @typedef {import("./protocol.js").FeedEvent} FeedEvent */
/** @typedef {import("./protocol.js").Gap} Gap */
/** @typedef {import("./protocol.js").Position} Position */
/** @typedef {import("./protocol.js").Terms} Terms */
/**
 * One pattern of the set.
 *
 * due: to be asked for. asked: the reply is to come. later: refused for now. recovering: its
 * snapshot or replay comes. live: every event after `whole` has come.
 * @typedef {object} Subscription
 * @property {string} pattern
 * @property {Terms} terms
 * @property {"due" | "asked" | "later" | "recovering" | "live"} phase
 * @property {boolean} kept it was granted, or outlived a connection: asked for until it is refused
 *   for good
 * @property {Subscription | undefined} former what goes on if this one is refused
 * @property {boolean} fresh ask for a snapshot even though there is a position
 * @property {Position | null} position what may be claimed when it is not live
 * @property {Position | null} since the boundary of a first snapshot that has not come to its end
 * @property {number} whole nothing is missing up to here; beyond it, see Session
 * @property {number} had what had come before the replay, which may begin before that
 * @property {number} boundary the reply's seq: events up to it are recovered, later ones live
 * @property {"snapshot" | "replay" | undefined} recovery what comes, or broke off
 * @property {boolean} torn a snapshot was begun and has to be finished
 * @property {boolean} discard its events are dropped, because a replay will bring them again
 * @property {number} accounted the largest `to` of receipts that name the pattern
 * @property {any} entry the reply's entry: the terms in effect
 */
/**
 * What holds for one channel.
 * @typedef {object} Rule
 * @property {Subscription[]} held those that match it, the most specific first
 * @property {Subscription[]} recovering those of which a snapshot or replay comes
 * @property {number | undefined} owed where one is to go on that this server has not granted yet
 * @property {string} policy
 * @property {boolean} sampled
 */
/**
 * The last seq of a channel, of all its events and of each kind; whether it is a book.
 * @typedef {{ seq: number, keyed: number, keyless: number, book: boolean }} Seen
 */
/** @typedef {{ patterns: string[], params: Record<string, unknown>, seq: number }} Request */
export class Session {
    /** @param {{ heals?: boolean }} [options] whether a gap is healed as its `recover` says */
    constructor({ heals }?: {
        heals?: boolean;
    });
    get epoch(): string;
    get patterns(): string[];
    /** @param {string} pattern */
    holds(pattern: string): boolean;
    /** Whether a snapshot comes: if it breaks off, it comes again from its beginning. */
    get inSnapshot(): boolean;
    /**
     * Everything up to this seq of all subscriptions was handed over; undefined: nothing can be said.
     * @returns {number | undefined}
     */
    get position(): number | undefined;
    /**
     * Takes a pattern into the set. What is held already goes on until the server has the new terms.
     * @param {string} pattern
     * @param {Terms} terms
     */
    add(pattern: string, terms: Terms): void;
    /**
     * Takes a pattern out of the set; what is on its way of it does not count any more.
     * @param {string} pattern
     */
    remove(pattern: string): boolean;
    /**
     * The server has ended a pattern: it leaves the set, unless it is being asked for again.
     * @param {string} pattern
     */
    ended(pattern: string): void;
    /**
     * A connection is open. Requests are due for the whole set.
     * @param {string} epoch
     */
    connected(epoch: string): void;
    /** The connection is gone: what it has brought becomes the claims of the next one. */
    disconnected(): void;
    /**
     * Claims what another session of the same set may claim, where this one has nothing to claim.
     * @param {Session} other
     */
    inherit(other: Session): void;
    /**
     * Requests for what is due, as few as there are different terms: the server takes 16 replays at
     * once. One place is named for all, the lowest, unless too much would come again: where one is
     * sampled and another is not, or its recovery broke off, their places may be far apart. What has
     * to come again from further back comes first, so that nothing overtakes it.
     * @returns {Request[]}
     */
    due(): Request[];
    /**
     * The answer to one of those requests. Gives what was taken, what was refused for good or for
     * now, and gaps: where a first snapshot broke off, what came from then until it is begun again.
     * @param {string[]} patterns
     * @param {any} message
     */
    replied(patterns: string[], message: any): {
        taken: {
            pattern: string;
            entry: any;
        }[];
        refused: {
            pattern: string;
            error: FanfareError;
        }[];
        later: {
            pattern: string;
            error: FanfareError;
        }[];
        gaps: import("./protocol.js").Gap[];
    };
    /** What was refused for now is due again. */
    askAgain(): void;
    /**
     * An event. Gives whether to hand it over, and the hole that it shows; see `receipt` for `leave`.
     * @param {FeedEvent} event
     * @returns {{ deliver: boolean, gap?: Gap, leave?: string[] }}
     */
    event(event: FeedEvent): {
        deliver: boolean;
        gap?: Gap;
        leave?: string[];
    };
    /**
     * A receipt: counts it in, and gives it as a gap. Where it is to be healed, requests are due,
     * after those patterns were taken out at the server that are in `leave`.
     * @param {any} message
     * @returns {{ gap: Gap, leave: string[] | undefined }}
     */
    receipt({ channels, from, to, missed, cause, recover }: any): {
        gap: Gap;
        leave: string[] | undefined;
    };
    /** @param {number} seq */
    heartbeat(seq: number): void;
    /**
     * The server moves what conflates to another interval; 0 is none.
     * @param {number} intervalMs
     */
    tier(intervalMs: number): void;
    /**
     * The end of a snapshot or a replay. Gives the patterns that are live now; for the others a
     * snapshot is due that broke off on an earlier connection.
     * @param {any} message
     * @returns {string[]}
     */
    recovered({ channels, seq }: any): string[];
    #private;
}
export type FeedEvent = import("./protocol.js").FeedEvent;
export type Gap = import("./protocol.js").Gap;
export type Position = import("./protocol.js").Position;
export type Terms = import("./protocol.js").Terms;
/**
 * One pattern of the set.
 *
 * due: to be asked for. asked: the reply is to come. later: refused for now. recovering: its
 * snapshot or replay comes. live: every event after `whole` has come.
 */
export type Subscription = {
    pattern: string;
    terms: Terms;
    phase: "due" | "asked" | "later" | "recovering" | "live";
    /**
     * it was granted, or outlived a connection: asked for until it is refused
     * for good
     */
    kept: boolean;
    /**
     * what goes on if this one is refused
     */
    former: Subscription | undefined;
    /**
     * ask for a snapshot even though there is a position
     */
    fresh: boolean;
    /**
     * what may be claimed when it is not live
     */
    position: Position | null;
    /**
     * the boundary of a first snapshot that has not come to its end
     */
    since: Position | null;
    /**
     * nothing is missing up to here; beyond it, see Session
     */
    whole: number;
    /**
     * what had come before the replay, which may begin before that
     */
    had: number;
    /**
     * the reply's seq: events up to it are recovered, later ones live
     */
    boundary: number;
    /**
     * what comes, or broke off
     */
    recovery: "snapshot" | "replay" | undefined;
    /**
     * a snapshot was begun and has to be finished
     */
    torn: boolean;
    /**
     * its events are dropped, because a replay will bring them again
     */
    discard: boolean;
    /**
     * the largest `to` of receipts that name the pattern
     */
    accounted: number;
    /**
     * the reply's entry: the terms in effect
     */
    entry: any;
};
/**
 * What holds for one channel.
 */
export type Rule = {
    /**
     * those that match it, the most specific first
     */
    held: Subscription[];
    /**
     * those of which a snapshot or replay comes
     */
    recovering: Subscription[];
    /**
     * where one is to go on that this server has not granted yet
     */
    owed: number | undefined;
    policy: string;
    sampled: boolean;
};
/**
 * The last seq of a channel, of all its events and of each kind; whether it is a book.
 */
export type Seen = {
    seq: number;
    keyed: number;
    keyless: number;
    book: boolean;
};
export type Request = {
    patterns: string[];
    params: Record<string, unknown>;
    seq: number;
};
import { FanfareError } from "./protocol.js";
