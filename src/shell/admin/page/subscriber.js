// The tab that subscribes: our own client, against the address where clients connect.
//
// Counting goes on while it is paused; only what is shown stands still. The newest messages are
// shown once for each frame of the screen, however many come.

import { connect } from "/client/client.js";
import { short } from "./figures.js";
import { fill, number } from "./tables.js";

const SHOWN = 100;

const element = (id) => document.getElementById(`subscribe-${id}`);

/** The URL of clients, as this browser reaches it. */
export function urlOf({ listen, tls }, location) {
  const isSecure = location.protocol === "https:" && tls !== null;
  const address = isSecure ? tls : listen;
  const port = address.slice(address.lastIndexOf(":") + 1);
  const host = address.slice(0, address.lastIndexOf(":"));
  // All addresses are no address: this page was reached at one of them.
  const isAll = host === "0.0.0.0" || host === "[::]";
  return `${isSecure ? "wss" : "ws"}://${isAll ? location.hostname : host}:${port}/v1`;
}

export class Subscriber {
  #feed = null;
  #rows = [];
  #isPaused = false;
  #isDirty = false;
  #isTyped = false;
  #counts = { events: 0, gaps: 0, missed: 0 };
  #before = { at: 0, events: 0 };
  #rate = 0;

  constructor() {
    element("url").addEventListener("input", () => (this.#isTyped = true));
    element("form").addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.#feed === null) this.#begin();
      else this.#end("Ended.");
    });
    element("pause").addEventListener("click", () => this.#pause(!this.#isPaused));
    setInterval(() => this.#second(), 1_000);
    const draw = () => {
      if (this.#isDirty && !this.#isPaused) this.#show();
      requestAnimationFrame(draw);
    };
    requestAnimationFrame(draw);
  }

  /** Where clients connect, unless another address was typed. */
  suggest(server) {
    if (!this.#isTyped && this.#feed === null) element("url").value = urlOf(server, location);
  }

  async #begin() {
    const patterns = element("patterns").value.split(/[\s,]+/).filter((pattern) => pattern !== "");
    const token = element("token").value.trim();
    this.#rows = [];
    this.#counts = { events: 0, gaps: 0, missed: 0 };
    this.#before = { at: performance.now(), events: 0 };
    this.#rate = 0;
    this.#pause(false);
    this.#say("Connecting …");
    element("go").textContent = "End";
    element("pause").disabled = false;
    let feed = null;
    let subscribed = "Live.";
    try {
      feed = this.#feed = connect(element("url").value.trim(), {
        ...(token === "" ? {} : { token }),
        parse: (text) => text,
        overflow: "drop",
        onGap: (gap) => this.#gap(gap),
        onState: ({ state, why }) => {
          if (this.#feed !== feed) return;
          this.#say(state === "live" ? subscribed : inWords(state, why));
        },
      });
      // The first events come before the reply is awaited.
      const reading = this.#read(feed);
      const result = await feed.subscribe(patterns);
      const matched = result.reduce((total, entry) => total + (entry.matched ?? 0), 0);
      subscribed = `Subscribed to ${patterns.join(", ")}, which ${matched} channels matched then.`;
      if (this.#feed === feed) this.#say(subscribed);
      await reading;
    } catch (error) {
      if (this.#feed === feed) this.#end(`Not subscribed: ${error.message}`);
    }
  }

  async #read(feed) {
    for await (const event of feed) {
      if (this.#feed !== feed) return;
      this.#counts.events += 1;
      this.#add(event);
    }
  }

  #gap({ channels = [], missed, cause }) {
    this.#counts.gaps += 1;
    this.#counts.missed += missed ?? 0;
    this.#add({ gap: `missed ${missed ?? "an unknown number"} (${cause}): ${channels.join(", ")}` });
  }

  #add(row) {
    this.#rows.push(row);
    if (this.#rows.length > 2 * SHOWN) this.#rows.splice(0, SHOWN);
    this.#isDirty = true;
  }

  #end(text) {
    const feed = this.#feed;
    this.#feed = null;
    feed?.close();
    element("go").textContent = "Subscribe";
    element("pause").disabled = true;
    this.#say(text);
  }

  #pause(isPaused) {
    this.#isPaused = isPaused;
    element("pause").setAttribute("aria-pressed", String(isPaused));
    element("pause").textContent = isPaused ? "Go on" : "Pause";
  }

  #say(text) {
    element("note").textContent = text;
  }

  #second() {
    if (this.#feed === null) return;
    const at = performance.now();
    this.#rate = ((this.#counts.events - this.#before.events) * 1000) / (at - this.#before.at);
    this.#before = { at, events: this.#counts.events };
    this.#figures();
  }

  #figures() {
    const { events, gaps, missed } = this.#counts;
    const figures = [["events/s", short(this.#rate)], ["events", String(events)], ["gaps", String(gaps)], ["missed", String(missed)]];
    element("figures").replaceChildren(
      ...figures.map(([name, value]) => {
        const pair = document.createElement("div");
        const [term, text] = [document.createElement("dt"), document.createElement("dd")];
        [term.textContent, text.textContent] = [name, value];
        if (name !== "events/s" && name !== "events" && value !== "0") text.className = "warn-text";
        pair.append(term, text);
        return pair;
      }),
    );
  }

  #show() {
    this.#isDirty = false;
    this.#figures();
    const newest = this.#rows.slice(-SHOWN).reverse();
    const table = document.getElementById("messages");
    fill(table, ["Channel", "Type", number("Seq"), "Key", "Data"], newest.map((row) =>
      row.gap === undefined
        ? [row.channel, row.recovered ?? row.kind, number(String(row.seq)), row.key ?? "", { text: row.raw, className: "data", title: row.raw }]
        : ["gap", "", "", "", row.gap]));
    newest.forEach((row, at) => table.tBodies[0].rows[at].classList.toggle("gap", row.gap !== undefined));
  }
}

/** A state of the client, and why. */
function inWords(state, why) {
  const reason = why?.reason ? ` (${why.reason})` : "";
  return `${state[0].toUpperCase()}${state.slice(1)}${reason}.`;
}
