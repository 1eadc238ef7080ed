/** @typedef {import("./protocol.js").FeedEvent} FeedEvent */
export const SUBPROTOCOL_BINARY: "fanfare.v1.bin";
/** The channels of one connection by the ids that its server has announced. */
export class Announced {
    /** Another connection, other ids. */
    clear(): void;
    /**
     * Takes the ids of a reply to `subscribe`, or of a notice.
     * @param {any} message
     */
    learn(message: any): void;
    /**
     * The event of a binary message; undefined if it is of a kind that this version does not know.
     * Throws a SyntaxError or a RangeError when it is no message of this form.
     * @param {ArrayBuffer} message
     * @param {(raw: string) => any} [parse]
     * @returns {FeedEvent | undefined}
     */
    event(message: ArrayBuffer, parse?: (raw: string) => any): FeedEvent | undefined;
    #private;
}
export type FeedEvent = import("./protocol.js").FeedEvent;
