// Node.js with the package ws: every line that comes to the feed goes to all subscribers.
//
//   node server.cjs PORT FEED …/node_modules/ws
//
// In its favour: a frame is made once for all, not once for each client as `client.send` would,
// and what one read of the feed brought goes out in one write.

const http = require("node:http");
const net = require("node:net");

const [port, feed] = process.argv.slice(2, 4).map(Number);
const { Sender, WebSocketServer } = require(process.argv[4]);
const HOST = "127.0.0.1";
const BACKLOG = 4096;
const LINE_FEED = 10;
/** Who is this far behind is closed, bytes. */
const BEHIND_MAX = 16 << 20;
const TEXT = { fin: true, rsv1: false, opcode: 1, mask: false, readOnly: true };

const clients = new Map();
const upgrades = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
});

http.createServer((_, response) => response.writeHead(426).end())
    .on("upgrade", (request, socket, head) => {
        upgrades.handleUpgrade(request, socket, head, (client) => {
            socket.setNoDelay(true);
            clients.set(socket, client);
            client.on("close", () => clients.delete(socket)).on("error", () => {});
        });
    })
    .listen(port, HOST, BACKLOG);

net.createServer((producer) => {
    let held = Buffer.alloc(0);
    producer.on("error", () => {});
    producer.on("data", (chunk) => {
        const bytes = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
        const frames = [];
        let begin = 0;
        for (let end; (end = bytes.indexOf(LINE_FEED, begin)) !== -1; begin = end + 1) {
            frames.push(...Sender.frame(bytes.subarray(begin, end), TEXT));
        }
        held = bytes.subarray(begin);
        if (frames.length > 0) broadcast(Buffer.concat(frames));
    });
}).listen(feed, HOST);

function broadcast(frames) {
    for (const [socket, client] of clients) {
        socket.write(frames);
        if (socket.writableLength > BEHIND_MAX) client.terminate();
    }
}
