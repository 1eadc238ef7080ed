export class Timers {
    /**
     * Runs something once, later; replaces the timer of that name.
     * @param {string} name
     * @param {number} ms
     * @param {() => void} run
     */
    after(name: string, ms: number, run: () => void): void;
    /** @param {string} name */
    has(name: string): boolean;
    clear(): void;
    #private;
}
