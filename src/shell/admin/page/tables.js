// Tables: rows of cells into a <table>, and the two lists that are asked for only while they show.
//
// Text is always set as text: what a client or a producer calls itself is nobody's markup.

import { age, bytes, grouped, short, time } from "./figures.js";
import { ask } from "./server.js";

/** How often a list is asked for while it shows, milliseconds. */
const PERIOD_MS = 3_000;
const PATIENCE_MS = 90_000;
const ROWS = 200;

export const number = (text) => ({ text, className: "number" });

/** A bar for a part of 1. */
export const bar = (part, label, { high = 1, low = 1 } = {}) => {
  const meter = document.createElement("meter");
  Object.assign(meter, { min: 0, max: 1, low, high, optimum: 0, value: part });
  meter.setAttribute("aria-label", label);
  return { node: meter, className: "meter" };
};

/** Fills a table: names of columns (none: no head), and rows of texts or cells. */
export function fill(table, columns, rows) {
  const body = document.createElement("tbody");
  rows.forEach((row, at) => {
    const line = body.insertRow();
    if (columns === null && at === 0) line.className = "first";
    row.forEach((cell) => put(line.insertCell(), cell));
  });
  const parts = [body];
  if (columns !== null && rows.length > 0) {
    const head = document.createElement("thead");
    const line = head.insertRow();
    columns.forEach((column) => {
      const name = document.createElement("th");
      name.scope = "col";
      put(name, column);
      line.append(name);
    });
    parts.unshift(head);
  }
  table.replaceChildren(...parts);
}

function put(place, cell) {
  const { text = "", className = "", node = null, title = "" } = typeof cell === "string" ? { text: cell } : cell;
  place.className = className;
  if (title !== "") place.title = title;
  if (node === null) place.textContent = text;
  else place.append(node);
}

/** A list that is asked for every few seconds while it shows. */
class List {
  #timer = null;
  #turn = null;

  constructor(name) {
    this.table = document.getElementById(`${name}-table`);
    this.note = document.getElementById(`${name}-note`);
    this.filter = document.getElementById(`${name}-filter`);
    this.filter.addEventListener("input", () => this.show());
  }

  begin() {
    this.end();
    this.#ask();
  }

  end() {
    clearTimeout(this.#timer);
    this.#turn = null;
  }

  /** Asks, and again some time after the answer: of many clients it takes its time. */
  async #ask() {
    const turn = (this.#turn = {});
    if (!document.hidden) {
      try {
        const answer = await ask(this.path(), { patienceMs: PATIENCE_MS });
        if (this.#turn !== turn) return;
        this.answer = answer;
        this.show();
      } catch (error) {
        if (this.#turn !== turn) return;
        this.note.textContent = `No answer: ${error.message}`;
      }
    }
    this.#timer = setTimeout(() => this.#ask(), PERIOD_MS);
  }

  /** Whether any of the texts has what is typed. */
  wants(...texts) {
    const typed = this.filter.value.trim().toLowerCase();
    return typed === "" || texts.some((text) => text?.toLowerCase().includes(typed));
  }
}

export class Clients extends List {
  #sort = document.getElementById("clients-sort");
  #said = "";

  constructor() {
    super("clients");
    this.#sort.addEventListener("change", () => this.begin());
    this.table.addEventListener("click", (event) => this.#kick(event.target.dataset.kick));
  }

  path = () => `/connections?sort=${this.#sort.value}&limit=${ROWS}`;

  show() {
    if (this.answer === undefined) return;
    const { total, connections, shards_silent: silent } = this.answer;
    const rows = connections.filter(({ id, address, identity, state }) => this.wants(id, address, identity, state));
    const missing = silent.length === 0 ? "" : ` Shards that do not answer: ${silent.join(", ")}.`;
    this.note.textContent = `${grouped(rows.length)} of ${grouped(total)} connections.${missing} ${this.#said}`;
    const focused = document.activeElement?.dataset?.kick;
    fill(
      this.table,
      ["Client", "Who", "State", number("Behind"), number("Events"), number("Bytes"), number("Missed"),
        number("Channels"), number("Round trip"), number("Open"), ""],
      rows.map((one) => this.#row(one)),
    );
    // A new table takes the focus away from who goes through it by keyboard.
    if (focused) this.table.querySelector(`[data-kick="${CSS.escape(focused)}"]`)?.focus();
  }

  #row({ id, address, identity, state, lag, missed, channels, tcp, open_ms: open }) {
    const kick = document.createElement("button");
    Object.assign(kick, { type: "button", textContent: "Kick", title: `Close ${id}; its client may come back` });
    kick.dataset.kick = id;
    const late = lag.ms > 0 ? "number warn-text" : "number";
    return [
      { text: address ?? "–", title: `connection ${id}` },
      identity,
      state,
      { text: lag.ms > 0 ? time(lag.ms * 1e6) : "–", className: late },
      number(grouped(lag.events)),
      number(bytes(lag.bytes)),
      { text: grouped(missed), className: missed > 0 ? "number warn-text" : "number" },
      number(grouped(channels)),
      number(tcp === null ? "–" : time(tcp.rtt_us * 1e3)),
      number(age(open)),
      { node: kick },
    ];
  }

  async #kick(id) {
    if (id === undefined || !confirm(`Close connection ${id}? Its client may come back.`)) return;
    try {
      await ask(`/connections/${id}/kick`, { method: "POST" });
      this.#said = `${id} was closed.`;
    } catch (error) {
      this.#said = `${id} was not closed: ${error.message}`;
    }
    this.begin();
  }
}

export class Channels extends List {
  constructor() {
    super("channels");
  }

  path = () => `/channels?limit=1000`;

  show() {
    if (this.answer === undefined) return;
    const { total, channels } = this.answer;
    const rows = channels.filter(({ channel }) => this.wants(channel));
    const shown = rows.slice(0, ROWS);
    const listed = rows.length > shown.length ? `The ${shown.length} busiest of ${grouped(rows.length)}` : grouped(rows.length);
    this.note.textContent = `${listed} of ${grouped(total)} channels, the busiest first.`;
    const busiest = Math.max(1, ...channels.map(({ rate }) => rate));
    fill(
      this.table,
      ["Channel", number("Events/s"), "", number("Last seq"), number("Subscribers")],
      shown.map(({ channel, rate, seq, subscribers }) => [
        channel,
        number(short(rate)),
        bar(rate / busiest, `${channel}: ${rate} events a second`),
        number(String(seq)),
        number(grouped(subscribers)),
      ]),
    );
  }
}
