// Lines go back in order: one request at a time, with all that came since the last.
let waiting = [];
let sending = false;
export async function say(line) {
  waiting.push(line);
  if (sending) return;
  sending = true;
  while (waiting.length > 0) {
    const body = waiting.join("\n") + "\n";
    waiting = [];
    await fetch("/lines", { method: "POST", body });
  }
  sending = false;
}
