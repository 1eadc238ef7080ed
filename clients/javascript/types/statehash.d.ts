/**
 * CRC-32 as in zlib: of a text's UTF-8, going on from the CRC of what came before it.
 * @param {string} text
 * @param {number} [crc]
 * @returns {number} from 0 to 2^32 - 1
 */
export function crc32(text: string, crc?: number): number;
/** @typedef {{ crc: number, book: boolean, line: Uint8Array }} Slot */
export class StateHash {
    /**
     * Takes an event in, in the order in which the feed gives them.
     * @param {FeedEvent} event
     */
    apply(event: FeedEvent): void;
    /**
     * The seq of the last event of a channel, 0 before the first.
     * @param {string} channel
     */
    seq(channel: string): number;
    /**
     * How many keys are in the state of a channel.
     * @param {string} channel
     */
    values(channel: string): number;
    /**
     * The hash of a channel as it is now, 8 hex digits.
     * @param {string} channel
     */
    digest(channel: string): string;
    /** Forgets everything, as for another epoch. */
    clear(): void;
    #private;
}
export type FeedEvent = import("./protocol.js").FeedEvent;
export type Slot = {
    crc: number;
    book: boolean;
    line: Uint8Array;
};
