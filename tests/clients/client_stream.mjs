// Reads an event stream with Node's fetch; see `support.ClientProgram`.

const response = await fetch(process.argv[2], { headers: { Accept: "text/event-stream" } });
console.log("open sse");
let rest = "";
for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
  const events = (rest + chunk).split("\n\n");
  rest = events.pop();
  for (const event of events) {
    const fields = event.split("\n").map((line) => /^(\w+): (.*)$/s.exec(line) ?? []);
    const kind = fields.find(([, name]) => name === "event")?.[2];
    const data = fields.filter(([, name]) => name === "data").map(([, , value]) => value);
    if (data.length === 0) continue;
    const end = kind === "control" ? JSON.parse(data[0]) : {};
    console.log(end.type === "closed" ? `closed ${end.code}` : data.join("\n"));
  }
}
