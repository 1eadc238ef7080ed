/**
 * Reads one message. Throws a SyntaxError when it is not JSON.
 * @param {string} text
 * @param {(raw: string) => any} [parse]
 * @returns {Message}
 */
export function readMessage(text: string, parse?: (raw: string) => any): Message;
/**
 * The members of an object, each value as it is written. `text` is known to be valid JSON.
 * @param {string} text
 * @returns {Map<string, string>}
 */
export function members(text: string): Map<string, string>;
/**
 * Whether a pattern matches a name, or everything that another pattern matches.
 * @param {string} pattern
 * @param {string} name
 */
export function matches(pattern: string, name: string): boolean;
/**
 * Orders patterns that match the same name: the most specific first, a name before `*` before `>`.
 * @param {string} left
 * @param {string} right
 */
export function bySpecificity(left: string, right: string): number;
/**
 * Terms as parameters of `subscribe`; a field that does not exist is an error, as at the server.
 * @param {Terms} terms
 * @returns {Record<string, unknown>}
 */
export function paramsOf(terms: Terms): Record<string, unknown>;
/**
 * Cuts patterns into requests that the server takes: 1,024 entries, and bytes with room for the
 * other parameters.
 * @param {string[]} patterns
 * @param {number} bytesMax
 * @returns {string[][]}
 */
export function chunks(patterns: string[], bytesMax: number): string[][];
/**
 * Whether another try is pointless until something is changed.
 * @param {number} code of a close frame
 */
export function isFinal(code: number): boolean;
/**
 * Exponential backoff with full jitter.
 * @param {number} attempt from 0
 * @param {{ baseMs: number, maxMs: number }} bounds
 * @param {() => number} [random] from 0 to 1
 */
export function backoff(attempt: number, { baseMs, maxMs }: {
    baseMs: number;
    maxMs: number;
}, random?: () => number): number;
/**
 * The addresses of a drain notice that may be followed: none leads from TLS to plain text.
 * @param {string} from the address of the connection
 * @param {string[]} to
 */
export function drainTargets(from: string, to: string[]): string[];
export const SUBPROTOCOL: "fanfare.v1.json";
/**
 * @typedef {object} FeedEvent
 * @property {string} channel never a pattern
 * @property {string | null} key what this is the newest value of; null for events without one
 * @property {"update" | "snapshot"} kind a snapshot replaces all before it of its channel and key
 * @property {number} seq its place in the order of all events
 * @property {number} prev the seq of the event before it on its channel, 0 if there was none
 * @property {bigint | undefined} ts the producer's time, nanoseconds since the Unix epoch
 * @property {bigint} tsIn when the server read it, nanoseconds since the Unix epoch
 * @property {any} data the payload, parsed by the option `parse` (JSON.parse)
 * @property {string} raw the payload as it came, every digit of it
 * @property {string} text the whole message as it came
 * @property {"snapshot" | "replay" | undefined} recovered set when it is no live event: part of
 *   a snapshot, or of what came while you were away
 */
/**
 * @typedef {object} Gap
 * @property {string[]} channels channels (or patterns) of which something may be missing
 * @property {number} from first seq of the range
 * @property {number} to last seq of the range
 * @property {number | undefined} missed how many events will not come; undefined: not known
 * @property {string} cause of the receipt (`slow`, `max_age`, `epoch`, `too_old`…); or `hole`: an
 *   event's prev was never seen; or `overflow`: dropped here because the queue was full; or `late`:
 *   the first snapshot broke off, or B began later than A and A was lost, or of two patterns that
 *   match the same one came later than the other
 * @property {string} recover `resume`, `snapshot` or `none`: what would bring it back
 * @property {"resume" | "snapshot" | undefined} healing what option `heal` has set off
 */
/**
 * @typedef {object} Terms
 * @property {"auto" | "all" | "latest" | "close" | "unsubscribe"} [policy]
 * @property {number} [maxAgeMs]
 * @property {number} [maxLagBytes]
 * @property {number} [intervalMs]
 * @property {boolean} [snapshot] false: begin with the next event
 * @property {Position} [resume] go on after this point, from an earlier run
 */
/** @typedef {{ epoch: string, seq: number }} Position everything up to seq was handed over */
/**
 * @typedef {{ kind: "event", event: FeedEvent }
 *   | { kind: "reply", message: any }
 *   | { kind: "control", message: any }} Message
 */
/** An error with the code of the protocol, or one of this client's own. */
export class FanfareError extends Error {
    /**
     * @param {string} code
     * @param {string} message
     * @param {{ retryable?: boolean, result?: any[], closeCode?: number }} [more]
     */
    constructor(code: string, message: string, { retryable, result, closeCode }?: {
        retryable?: boolean;
        result?: any[];
        closeCode?: number;
    });
    /**
     * For programs; the codes of docs/PROTOCOL.md, and `closed`, `refused`, `disconnected`,
     * `overflow`, `unsubscribed`.
     */
    code: string;
    /** Whether the same request may succeed later. */
    retryable: boolean;
    /** The reply's entries, when a part of the request was done. */
    result: any[] | undefined;
    /** The code that the connection was closed with. */
    closeCode: number | undefined;
}
export type FeedEvent = {
    /**
     * never a pattern
     */
    channel: string;
    /**
     * what this is the newest value of; null for events without one
     */
    key: string | null;
    /**
     * a snapshot replaces all before it of its channel and key
     */
    kind: "update" | "snapshot";
    /**
     * its place in the order of all events
     */
    seq: number;
    /**
     * the seq of the event before it on its channel, 0 if there was none
     */
    prev: number;
    /**
     * the producer's time, nanoseconds since the Unix epoch
     */
    ts: bigint | undefined;
    /**
     * when the server read it, nanoseconds since the Unix epoch
     */
    tsIn: bigint;
    /**
     * the payload, parsed by the option `parse` (JSON.parse)
     */
    data: any;
    /**
     * the payload as it came, every digit of it
     */
    raw: string;
    /**
     * the whole message as it came
     */
    text: string;
    /**
     * set when it is no live event: part of
     * a snapshot, or of what came while you were away
     */
    recovered: "snapshot" | "replay" | undefined;
};
export type Gap = {
    /**
     * channels (or patterns) of which something may be missing
     */
    channels: string[];
    /**
     * first seq of the range
     */
    from: number;
    /**
     * last seq of the range
     */
    to: number;
    /**
     * how many events will not come; undefined: not known
     */
    missed: number | undefined;
    /**
     * of the receipt (`slow`, `max_age`, `epoch`, `too_old`…); or `hole`: an
     * event's prev was never seen; or `overflow`: dropped here because the queue was full; or `late`:
     * the first snapshot broke off, or B began later than A and A was lost, or of two patterns that
     * match the same one came later than the other
     */
    cause: string;
    /**
     * `resume`, `snapshot` or `none`: what would bring it back
     */
    recover: string;
    /**
     * what option `heal` has set off
     */
    healing: "resume" | "snapshot" | undefined;
};
export type Terms = {
    policy?: "all" | "auto" | "close" | "latest" | "unsubscribe" | undefined;
    maxAgeMs?: number | undefined;
    maxLagBytes?: number | undefined;
    intervalMs?: number | undefined;
    /**
     * false: begin with the next event
     */
    snapshot?: boolean | undefined;
    /**
     * go on after this point, from an earlier run
     */
    resume?: Position | undefined;
};
/**
 * everything up to seq was handed over
 */
export type Position = {
    epoch: string;
    seq: number;
};
export type Message = {
    kind: "event";
    event: FeedEvent;
} | {
    kind: "reply";
    message: any;
} | {
    kind: "control";
    message: any;
};
