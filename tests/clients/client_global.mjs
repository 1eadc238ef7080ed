// A subscriber with the WebSocket that Node has itself; see `support.ClientProgram`.

const [url, ...channels] = process.argv.slice(2);
const socket = new WebSocket(url, "fanfare.v1.json");
socket.onopen = () => {
  console.log(`open ${socket.protocol}`);
  socket.send(JSON.stringify({ method: "subscribe", params: { channels, policy: "all", snapshot: false }, req_id: 1 }));
};
socket.onmessage = (message) => console.log(message.data);
socket.onclose = (event) => console.log(`closed ${event.code}`);
