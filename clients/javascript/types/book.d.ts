/**
 * Compares two decimals exactly.
 * @param {string} left
 * @param {string} right
 * @returns {number} below 0, 0, or above 0
 */
export function compareDecimals(left: string, right: string): number;
/** An order book. A level with quantity 0 is none. */
export class Book {
    /** The levels, the highest bid first. @returns {readonly Level[]} */
    get bids(): readonly Level[];
    /** The levels, the lowest ask first. @returns {readonly Level[]} */
    get asks(): readonly Level[];
    /**
     * Begins anew.
     * @param {Levels} levels
     */
    snapshot(levels: Levels): void;
    /**
     * Sets levels.
     * @param {Levels} levels
     */
    update({ bids, asks }: Levels): void;
    /**
     * Takes an event of a feed whose data is `{bids, asks}`.
     * @param {{ kind: string, data: any }} event
     */
    apply({ kind, data }: {
        kind: string;
        data: any;
    }): void;
    #private;
}
/**
 * A book from Binance's depth: the REST snapshot `{lastUpdateId, bids, asks}` and the diffs of the
 * streams, by Binance's rules. Diffs that come before the snapshot wait for it.
 *
 * `state` is `waiting` until there is a snapshot, `syncing` until the diff that follows it,
 * `whole`, or `broken` when a diff is missing; then the next snapshot begins anew.
 */
export class BinanceDepth extends Book {
    /** @type {"waiting" | "syncing" | "whole" | "broken"} */
    state: "waiting" | "syncing" | "whole" | "broken";
    /** The last update that is in the book. */
    lastUpdateId: number;
    /**
     * Takes an event of a feed whose data is Binance's.
     * @override
     * @param {{ kind: string, data: any }} event
     */
    override apply({ data }: {
        kind: string;
        data: any;
    }): "waiting" | "whole" | "syncing" | "broken";
    /** @param {{ lastUpdateId: number, bids: LevelLike[], asks: LevelLike[] }} snapshot */
    begin(snapshot: {
        lastUpdateId: number;
        bids: LevelLike[];
        asks: LevelLike[];
    }): void;
    /** @param {Diff} diff */
    diff(diff: Diff): void;
    #private;
}
export type LevelLike = [price: string | number, quantity: string | number];
/**
 * of both sides, or of one
 */
export type Levels = {
    bids?: LevelLike[];
    asks?: LevelLike[];
};
export type Level = {
    price: string;
    quantity: string;
};
/**
 * A diff of Binance's depth streams; `pu` on futures only.
 */
export type Diff = {
    U: number;
    u: number;
    pu?: number;
    b: LevelLike[];
    a: LevelLike[];
};
