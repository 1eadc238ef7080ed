// Bun's own publish and subscribe (uWebSockets inside): one topic, and every line that comes to
// the feed is published to it.
//
//   bun server.js PORT FEED [deflate]

const [port, feed] = process.argv.slice(2, 4).map(Number);
const deflates = process.argv[4] === "deflate";
const hostname = "127.0.0.1";
const TOPIC = "bench";
const LINE_FEED = 10;

const server = Bun.serve({
    hostname,
    port,
    fetch(request, server) {
        if (server.upgrade(request)) return undefined;
        return new Response("a WebSocket upgrade is needed\n", { status: 426 });
    },
    websocket: {
        open(socket) {
            socket.subscribe(TOPIC);
        },
        message() {},
        // Nothing is spent on what the others do not do either.
        idleTimeout: 0,
        sendPings: false,
        perMessageDeflate: deflates && { compress: "shared", decompress: "shared" },
        // Its default, said here: a client that is this far behind misses messages. To be closed
        // is what the others do.
        backpressureLimit: 16 << 20,
        closeOnBackpressureLimit: true,
    },
});

Bun.listen({
    hostname,
    port: feed,
    socket: {
        open(socket) {
            socket.data = Buffer.alloc(0);
        },
        // What is published in one turn of the event loop is sent to a client in one piece.
        data(socket, chunk) {
            const bytes = socket.data.length === 0 ? chunk : Buffer.concat([socket.data, chunk]);
            let begin = 0;
            for (let end; (end = bytes.indexOf(LINE_FEED, begin)) !== -1; begin = end + 1) {
                server.publish(TOPIC, bytes.toString("utf8", begin, end), deflates);
            }
            // A copy: the chunk's memory is the socket's.
            socket.data = Buffer.from(bytes.subarray(begin));
        },
    },
});
