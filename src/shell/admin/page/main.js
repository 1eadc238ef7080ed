// The live page: looks at /stats each second, and says so when the server is gone.
//
// Not here: what each tab shows. A look that fails is tried again later and later, and the first
// look at another process begins anew.

import { age, between, follows } from "./figures.js";
import { Overview } from "./overview.js";
import { ask, delay, forgetToken, hasToken, keepToken } from "./server.js";
import { Subscriber } from "./subscriber.js";
import { Channels, Clients } from "./tables.js";

const PERIOD_MS = 1_000;

const element = (id) => document.getElementById(id);
const overview = new Overview();
const subscriber = new Subscriber();
const lists = { clients: new Clients(), channels: new Channels() };

let before = null;
let failures = 0;
let timer = null;

async function look() {
  const began = performance.now();
  let wait = PERIOD_MS;
  try {
    show(await ask("/stats"));
    failures = 0;
    wait -= performance.now() - began;
  } catch (error) {
    if (error.status === 401) return wantToken();
    overview.miss();
    wait = delay(failures);
    failures += 1;
    lost(error, wait);
  }
  timer = setTimeout(look, Math.max(50, wait));
}

function show(stats) {
  const rates = before !== null && follows(before, stats) ? between(before, stats) : null;
  before = stats;
  element("lost").hidden = true;
  element("token-form").hidden = true;
  const { state, node, version, uptime_ms: uptime, epoch } = stats.server;
  pill(state, state === "ready" ? "good" : "warn");
  document.title = `${node} · fanfare`;
  about({ node, version, up: age(uptime), epoch });
  overview.show(stats, rates);
  subscriber.suggest(stats.server);
}

function pill(text, kind) {
  element("state").textContent = text;
  element("state").className = `pill ${kind}`;
}

/** Names and values, in the places that they have already. */
function about(facts) {
  const list = element("about");
  for (const [name, value] of Object.entries(facts)) {
    let place = list.querySelector(`[data-name="${name}"]`);
    if (place === null) {
      const pair = document.createElement("div");
      const term = document.createElement("dt");
      place = document.createElement("dd");
      place.dataset.name = name;
      term.textContent = name;
      pair.append(term, place);
      list.append(pair);
    }
    place.textContent = value;
  }
}

function lost(error, wait) {
  const seconds = Math.max(1, Math.round(wait / 1000));
  const said = error.status === undefined ? "" : ` It says: ${error.message}.`;
  pill("lost", "bad");
  element("lost").textContent = `Lost the server; trying again in ${seconds} s.${said} What is below is old.`;
  element("lost").hidden = false;
}

function wantToken() {
  const wasWrong = hasToken();
  forgetToken();
  pill("locked", "warn");
  element("token-form").hidden = false;
  element("token-wrong").hidden = !wasWrong;
  element("token").focus();
}

element("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepToken(element("token").value.trim());
  element("token").value = "";
  clearTimeout(timer);
  look();
});

const tabs = [...document.querySelectorAll('[role="tab"]')];

/** Shows a tab's panel, and asks for its list only then. */
function choose(tab) {
  for (const other of tabs) {
    const isChosen = other === tab;
    other.setAttribute("aria-selected", String(isChosen));
    other.tabIndex = isChosen ? 0 : -1;
    element(other.getAttribute("aria-controls")).hidden = !isChosen;
  }
  const chosen = tab.getAttribute("aria-controls");
  for (const [name, list] of Object.entries(lists)) name === chosen ? list.begin() : list.end();
  history.replaceState(null, "", `#${chosen}`);
}

tabs.forEach((tab, at) => {
  tab.addEventListener("click", () => choose(tab));
  tab.addEventListener("keydown", ({ key }) => {
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: -1 }[key];
    if (to === undefined) return;
    const next = tabs.at(to % tabs.length);
    next.focus();
    choose(next);
  });
});
const named = tabs.find((tab) => `#${tab.getAttribute("aria-controls")}` === location.hash);
if (named !== undefined) choose(named);
look();
