/** Requests of one connection. Each is answered once: by its reply, or by the end. */
export class Requests {
    /**
     * @param {(text: string) => void} send
     * @param {(name: string, ms: number, run: () => void) => void} after a timer of the connection
     * @param {() => number} now milliseconds
     */
    constructor(send: (text: string) => void, after: (name: string, ms: number, run: () => void) => void, now: () => number);
    /**
     * What the server allows, from now on.
     * @param {Partial<typeof LIMITS>} [limits] those of its welcome
     */
    allow(limits?: Partial<typeof LIMITS>): void;
    /**
     * Sends a request when its turn comes; again when the server says that there were too many.
     * @param {string} method
     * @param {Record<string, any> | undefined} params
     * @param {Answer} answer
     */
    send(method: string, params: Record<string, any> | undefined, answer: Answer): void;
    /** @param {any} message */
    reply(message: any): void;
    /** @param {FanfareError} error */
    end(error: FanfareError): void;
    #private;
}
/**
 * @typedef {{ left: Set<string>, entries: any[], errors: FanfareError[],
 *   resolve: (entries: any[]) => void, reject: (error: FanfareError) => void }} Call
 */
/** Calls that end when each of their patterns was taken or refused, on whichever connection. */
export class Calls {
    /**
     * @param {string[]} patterns
     * @returns {Promise<any[]>}
     */
    wait(patterns: string[]): Promise<any[]>;
    /** @param {{ pattern: string, entry?: any, error?: FanfareError }[]} answers */
    settle(answers: {
        pattern: string;
        entry?: any;
        error?: FanfareError;
    }[]): void;
    #private;
}
export type Answer = (reply: any, error?: FanfareError) => void;
export type Request = {
    number: number;
    text: string;
    answer: Answer;
    /**
     * how many messages it counts as
     */
    cost: number;
    /**
     * it had to wait, or was refused: nothing else is on its way with it
     */
    alone: boolean;
};
export type Call = {
    left: Set<string>;
    entries: any[];
    errors: FanfareError[];
    resolve: (entries: any[]) => void;
    reject: (error: FanfareError) => void;
};
declare namespace LIMITS {
    let command_rate: number;
    let command_burst: number;
}
import { FanfareError } from "./protocol.js";
export {};
