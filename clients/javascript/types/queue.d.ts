/**
 * @template T
 */
export class Queue<T> {
    /** @param {(item: T) => number} charsOf how many characters an item keeps alive */
    constructor(charsOf: (item: T) => number);
    get length(): number;
    get chars(): number;
    /** @returns {T | undefined} */
    get last(): T | undefined;
    /** @param {T} item */
    push(item: T): void;
    /** @returns {T | undefined} */
    shift(): T | undefined;
    #private;
}
