export class Merge {
    /**
     * @param {number} sides
     * @param {(item: Item) => void} emit
     * @param {number} [heldMax] how many events may wait behind gaps, of each side
     */
    constructor(sides: number, emit: (item: Item) => void, heldMax?: number);
    /** Everything up to here came out, or was reported as a gap. */
    get position(): number | undefined;
    /** Another epoch: nothing of the former one is comparable. */
    reset(): void;
    /** @param {number} at */
    up(at: number): void;
    /** @param {number} at */
    down(at: number): void;
    /**
     * A side's subscription was taken. If it begins later than the first one did, what is between
     * is a gap of this side.
     * @param {number} at
     * @param {string} pattern
     * @param {{ seq: number, policy?: string, resumed?: boolean }} entry
     */
    began(at: number, pattern: string, { seq, policy, resumed }: {
        seq: number;
        policy?: string;
        resumed?: boolean;
    }): void;
    /**
     * A side does not hold a pattern any more, or was refused it.
     * @param {number} at
     * @param {string} pattern
     * @param {number} [seq] the last one that it has brought
     */
    ended(at: number, pattern: string, seq?: number): void;
    /**
     * A side has failed for good: what only it held nobody holds.
     * @param {number} at
     */
    gone(at: number): void;
    /** @param {string} pattern one that no side holds any more */
    forget(pattern: string): void;
    /**
     * A side has brought everything up to here.
     * @param {number} at
     * @param {number | undefined} position
     */
    progress(at: number, position: number | undefined): void;
    /**
     * @param {number} at
     * @param {FeedEvent} event
     */
    event(at: number, event: FeedEvent): void;
    /**
     * @param {number} at
     * @param {Gap} gap
     */
    gap(at: number, gap: Gap): void;
    #private;
}
export type Range = Pick<Gap, "channels" | "from" | "to">;
export type FeedEvent = import("./protocol.js").FeedEvent;
export type Gap = import("./protocol.js").Gap;
export type Item = {
    event: FeedEvent;
} | {
    gap: Gap;
};
/**
 * One of the connections.
 */
export type Side = {
    on: boolean;
    /**
     * it has brought everything from here to `position`, but for its gaps
     */
    from: number;
    position: number;
    /**
     * the patterns for which it has had a reply
     */
    begun: Set<string>;
    /**
     * the last ones
     */
    gaps: Gap[];
    /**
     * after which seq it brings nothing of a pattern
     */
    ended: Map<string, number>;
    /**
     * it will bring nothing more
     */
    gone: boolean;
    /**
     * those that the other side may still fill
     */
    pending: Gap[];
    /**
     * events behind a pending gap
     */
    held: FeedEvent[];
};
