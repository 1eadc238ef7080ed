/**
 * @typedef {object} SocketOptions
 * @property {any} WebSocket
 * @property {any} socketOptions third argument of the `ws` package's constructor
 * @property {"message" | "query" | "header"} auth
 * @property {boolean} binary ask for the binary form
 */
/**
 * @typedef {object} Handlers
 * @property {() => void} open
 * @property {(data: string | ArrayBuffer) => void} message
 * @property {(code: number, reason: string) => void} close
 * @property {(status: number, retryAfterMs: number) => void} refuse the answer to the upgrade; only
 *   `ws` shows it, in a browser the socket closes
 */
/**
 * Opens a socket, with the credential in its place. Throws a FanfareError that no retry cures.
 * @param {string} address
 * @param {string | undefined} token
 * @param {SocketOptions} how
 * @param {Handlers} handlers
 */
export function openSocket(address: string, token: string | undefined, how: SocketOptions, handlers: Handlers): any;
export type SocketOptions = {
    WebSocket: any;
    /**
     * third argument of the `ws` package's constructor
     */
    socketOptions: any;
    auth: "message" | "query" | "header";
    /**
     * ask for the binary form
     */
    binary: boolean;
};
export type Handlers = {
    open: () => void;
    message: (data: string | ArrayBuffer) => void;
    close: (code: number, reason: string) => void;
    /**
     * the answer to the upgrade; only
     * `ws` shows it, in a browser the socket closes
     */
    refuse: (status: number, retryAfterMs: number) => void;
};
