/**
 * @param {string[]} list
 * @param {() => number} [random] from 0 to 1
 */
export function shuffled(list: string[], random?: () => number): string[];
export class Route {
    /**
     * @param {string[]} nodes
     * @param {() => number} [random] from 0 to 1
     */
    constructor(nodes: string[], random?: () => number);
    /** The address to connect to, or connected to. */
    get url(): string;
    /**
     * Another node's turn; one where another connection is only if all are.
     * @param {string[]} [taken] where other connections are
     */
    failed(taken?: string[]): void;
    /**
     * The node will not serve, and is asked no more; false if it is the last one.
     * @param {string[]} [taken]
     */
    refused(taken?: string[]): boolean;
    /**
     * The node is to be left: for one of those that it names, else for another of ours.
     * @param {string[]} to
     * @param {string[]} [taken]
     */
    drained(to: string[], taken?: string[]): void;
    #private;
}
