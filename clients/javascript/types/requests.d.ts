/** Requests of one connection. Each is answered once: by its reply, or by the end. */
export class Requests {
    /**
     * @param {(text: string) => void} send
     * @param {(name: string, ms: number, run: () => void) => void} after a timer of the connection
     */
    constructor(send: (text: string) => void, after: (name: string, ms: number, run: () => void) => void);
    /**
     * Sends a request; again a second later when the server says that there were too many.
     * @param {string} method
     * @param {Record<string, unknown> | undefined} params
     * @param {Answer} answer
     */
    send(method: string, params: Record<string, unknown> | undefined, answer: Answer): void;
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
export type Call = {
    left: Set<string>;
    entries: any[];
    errors: FanfareError[];
    resolve: (entries: any[]) => void;
    reject: (error: FanfareError) => void;
};
import { FanfareError } from "./protocol.js";
