// Requests come to the server in order, and no faster than it allows.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Requests } from "../src/requests.js";
import { ALL, event, no, Rate, scripted, seqs, subscribed, yes } from "./support.mjs";

const LIMITS = { command_rate: 20, command_burst: 100 };

/**
 * Requests to a server that goes by its rule, in made-up time. `costs` is what each counts as
 * beyond one message, `delay` how long a message takes.
 */
function line({ limits = LIMITS, told = limits, costs = () => 0, delay = () => 10 }) {
  const rate = new Rate(limits);
  const due = []; // {at, run}
  const timers = new Map();
  let now = 0;
  let arrived = 0;
  const one = { taken: [], answered: [], refusals: 0, closed: false, now: () => now };
  const at = (when, run) => due.push({ at: when, run });
  const serve = (request) => {
    const { name } = request.params;
    const refusal = rate.charge(now) ?? rate.charge(now, costs(name));
    if (refusal === "close") one.closed = true;
    else if (refusal) one.refusals += 1;
    else one.taken.push(name);
    const reply = refusal ? no(request, "rate_limited", refusal) : { req_id: request.req_id };
    at(now + delay(), () => one.requests.reply(reply));
  };
  one.requests = new Requests(
    (text) => {
      // None overtakes another one.
      arrived = Math.max(arrived, now + delay());
      at(arrived, () => serve(JSON.parse(text)));
    },
    (name, ms, run) => {
      timers.set(name, run);
      at(now + ms, () => timers.get(name) === run && run());
    },
    () => now,
  );
  one.requests.allow(told);
  one.send = (when, name, more = {}) =>
    at(when, () => one.requests.send("list", { name, ...more }, () => one.answered.push(name)));
  one.play = () => {
    while (due.length > 0) {
      due.sort((left, right) => left.at - right.at);
      const next = due.shift();
      now = next.at;
      next.run();
    }
    return one;
  };
  return one;
}

const names = (count) => Array.from({ length: count }, (_, at) => at);

test("of many requests at once those over the burst wait, and none is refused", () => {
  const one = line({});
  for (const name of names(350)) one.send(0, name);
  const { taken, answered, refusals, closed } = one.play();
  assert.deepEqual([taken, answered], [names(350), names(350)]);
  assert.deepEqual([refusals, closed], [0, false]);
  assert.ok(one.now() < 251 * 55, `it took ${one.now()} ms`);
});

test("a server that does not tell its limits is asked again when it says so", () => {
  const one = line({ limits: { command_rate: 20, command_burst: 60 }, told: {} });
  for (const name of names(100)) one.send(0, name);
  const { taken, answered, refusals, closed } = one.play();
  assert.deepEqual([taken, answered], [names(100), names(100)]);
  assert.deepEqual([refusals, closed], [39, false]);
});

test("a request that counts as many messages has its turn when there is room for it", () => {
  const one = line({ limits: { command_rate: 20, command_burst: 12 } });
  for (const name of names(20)) one.send(0, name);
  const channels = Array.from({ length: 1024 }, (_, at) => `c.${at}`);
  one.send(0, 20, { channels });
  one.send(0, 21);
  const { taken, closed } = one.play();
  assert.deepEqual([taken, closed], [names(22), false]);
});

test("one that counts as more than can be known is asked until there is room for it", () => {
  const one = line({ costs: (name) => (name === 99 ? 50 : 0) });
  for (const name of names(110)) one.send(0, name);
  const { taken, closed } = one.play();
  assert.deepEqual([taken, closed], [names(110), false]);
});

test("whenever they are made and however they come, they are taken in order", () => {
  for (let seed = 1; seed <= 50; seed += 1) {
    let state = seed;
    const random = () => (state = (state * 48_271) % 2_147_483_647) / 2_147_483_647;
    const sizes = names(400).map(() => (random() < 0.02 ? Math.floor(random() * 50) : 0));
    const one = line({ costs: (name) => sizes[name], delay: () => random() * 40 });
    let when = 0;
    for (const name of names(400)) one.send((when += random() < 0.9 ? 0 : random() * 2000), name);
    const { taken, closed } = one.play();
    assert.deepEqual([taken, closed], [names(400), false], `seed ${seed}`);
  }
});

test("requests that wait end with the connection, too", () => {
  const one = line({});
  const ended = [];
  for (const name of names(150)) {
    one.requests.send("list", { name }, (reply, error) => ended.push(error));
  }
  const error = new Error("the connection broke");
  one.requests.end(error);
  assert.deepEqual(ended, Array(150).fill(error));
});

test("150 subscriptions at once are all taken, and the connection stays", async (test) => {
  let connected;
  const isConnected = new Promise((resolve) => (connected = resolve));
  const onState = ({ state }) => state === "connected" && connected();
  const { server, feed, events } = await scripted(test, { onState });
  const peer = await server.peer();
  peer.welcome({ limits: { message_bytes_max: 65_536, ...LIMITS } });
  const rate = new Rate(LIMITS);
  const serve = async () => {
    for (;;) {
      const request = await peer.next();
      const refusal = rate.charge(performance.now());
      if (refusal === "close") peer.socket.close(1008, "too many messages");
      else peer.send(refusal ? no(request, "rate_limited", refusal) : yes(request, 7));
    }
  };
  serve();
  await isConnected;
  const patterns = names(150).map((at) => `t.${at}`);
  const ended = events.next();
  const taken = Promise.all(patterns.map((pattern) => feed.subscribe(pattern, ALL)));
  const entries = await Promise.race([taken, ended]);
  assert.deepEqual(
    entries.map(([{ channel }]) => channel),
    patterns,
  );
  assert.equal(server.sockets.clients.size, 1, "the connection has stayed");
});

test("what is asked after a refusal comes to the server after what was refused", async (test) => {
  const { feed, events, peer } = await subscribed(test);
  const gone = feed.unsubscribe("t.*");
  const refused = await peer.next();
  const more = feed.subscribe("u.*", ALL);
  await peer.accept(100);
  await more;
  const message = "too many messages; try again in 50 ms";
  peer.send(no(refused, "rate_limited", { message }), event("u.a", 101, 0));
  assert.deepEqual(await seqs(events, 1), [101], "the refusal has come");
  const back = feed.subscribe("t.*", ALL);
  const again = await peer.next();
  assert.deepEqual([again.method, again.params.channels], ["unsubscribe", ["t.*"]]);
  peer.send({ method: "unsubscribe", success: true, req_id: again.req_id, result: [] });
  await gone;
  await peer.accept(110);
  await back;
  peer.send(event("t.a", 111, 0));
  assert.deepEqual(await seqs(events, 1), [111]);
});
