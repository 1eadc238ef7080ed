// Subscribes, and proves that nothing was missed.
//
//     node examples/subscribe.mjs ws://127.0.0.1:9001/v1 'trade.*' 'quote.*'
//
// Node 22 has WebSocket built in; for an older one: npm install ws

const WebSocket = globalThis.WebSocket ?? (await import("ws")).default;

const [url = "ws://127.0.0.1:9001/v1", ...patterns] = process.argv.slice(2);
const channels = patterns.length > 0 ? patterns : [">"];
const seen = new Map(); // the last seq of each channel
let accounted = 0; // up to this seq of all channels, everything was sent or receipted

const socket = new WebSocket(url, ["fanfare.v1.json"]);
socket.onopen = () =>
  // With other policies, newer events may stand for older ones.
  socket.send(JSON.stringify({ method: "subscribe", params: { channels, policy: "all" }, req_id: 1 }));
socket.onerror = () => console.error(`cannot connect to ${url}, or the connection broke`);
socket.onclose = ({ code, reason }) => console.error(`closed: ${code} ${reason}`);
socket.onmessage = ({ data: text }) => {
  const message = JSON.parse(text);
  if ("success" in message) {
    if (!message.success) return fail(message.error.message);
    accounted = message.result[0].seq;
  } else if (message.channel === "control") {
    if (message.type === "gap") {
      accounted = Math.max(accounted, message.to);
      console.error(`missed ${message.missed ?? "some"} of ${message.channels}`);
    } else if (message.type === "heartbeat") {
      accounted = message.seq;
    }
  } else {
    const { channel, seq, prev, data } = message;
    if (prev > Math.max(accounted, seen.get(channel) ?? 0)) {
      return fail(`a hole before seq ${seq}, and no receipt for it`);
    }
    seen.set(channel, seq);
    console.log(seq, channel, JSON.stringify(data));
  }
};

function fail(reason) {
  console.error(reason);
  process.exitCode = 1;
  socket.close();
}
