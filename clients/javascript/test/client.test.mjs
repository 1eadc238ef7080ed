// A feed against a server that does what the test says, over real sockets.

import assert from "node:assert/strict";
import { test } from "node:test";
import { WebSocket } from "ws";
import { connect, StateHash } from "../src/index.js";
import { readMessage } from "../src/protocol.js";
import {
  ALL,
  control,
  EPOCH,
  event,
  gap,
  heartbeat,
  open,
  replayEnd,
  scripted,
  seqs,
  Server,
  snapshotEnd,
  subscribed,
  twice,
  yes,
} from "./support.mjs";

test("it subscribes, iterates and unsubscribes", async (test) => {
  const { server, feed, events } = await scripted(test, { policy: "all" });
  const peer = await server.peer();
  assert.equal(peer.socket.protocol, "fanfare.v1.json");
  const done = feed.subscribe(["trade.*"], { snapshot: true, maxAgeMs: 500 });
  peer.welcome();
  const request = await peer.accept(7);
  const params = { channels: ["trade.*"], policy: "all", snapshot: true, max_age_ms: 500 };
  assert.deepEqual([request.method, request.params], ["subscribe", params]);
  assert.deepEqual(await done, [{ channel: "trade.*", policy: "all", seq: 7, matched: 1 }]);
  peer.send(snapshotEnd(["trade.*"], 7), event("trade.a", 8, 0), event("trade.b", 9, 0));
  assert.deepEqual(await seqs(events, 2), [8, 9]);
  assert.deepEqual(feed.position, { epoch: EPOCH, seq: 9 });
  const gone = feed.unsubscribe("trade.*");
  const { req_id, method } = await peer.next();
  assert.equal(method, "unsubscribe");
  peer.send({ method, success: true, req_id, result: [] });
  await gone;
  feed.close();
  assert.deepEqual(await events.next(), { done: true, value: undefined });
  assert.equal(await peer.closed, 1000);
});

test("what the server refuses rejects, and is not asked for again", async (test) => {
  const { server, feed } = await scripted(test);
  const peer = await server.peer();
  peer.welcome();
  const refused = feed.subscribe(["good", "bad..name"]);
  const request = await peer.next();
  const reply = yes(request, 5);
  const error = { code: "channel_invalid", message: "empty token", retryable: false };
  reply.result[1] = { channel: "bad..name", error };
  peer.send({ ...reply, success: false, error });
  await assert.rejects(refused, ({ code, message, result }) => {
    assert.deepEqual([code, message, result.length], ["channel_invalid", "empty token", 1]);
    return true;
  });
  peer.socket.terminate();
  const again = await server.peer();
  again.welcome();
  assert.deepEqual((await again.next()).params.channels, ["good"]);
});

test("after a break it resumes, and every event comes once", async (test) => {
  const states = [];
  const onState = ({ state }) => states.push(state);
  const { server, events, peer } = await subscribed(test, { onState });
  peer.send(event("t.a", 101, 0), event("t.a", 105, 101));
  assert.deepEqual(await seqs(events, 2), [101, 105]);
  peer.socket.terminate();
  const again = await server.peer();
  again.welcome();
  const { params } = await again.accept(110, { resumed: true });
  assert.deepEqual(params.resume, { epoch: EPOCH, seq: 105 });
  again.send(event("t.a", 105, 101), event("t.a", 107, 105), replayEnd(["t.*"], 110));
  again.send(event("t.a", 111, 107));
  assert.deepEqual(await seqs(events, 2), [107, 111]);
  assert.deepEqual(states, ["connected", "reconnecting", "connected", "live"]);
});

test("a subscription that was not answered is asked for on the next connection", async (test) => {
  const { server, feed } = await scripted(test);
  const peer = await server.peer();
  peer.welcome();
  const done = feed.subscribe("t.*", ALL);
  await peer.next();
  peer.socket.terminate();
  const again = await server.peer();
  again.welcome();
  await again.accept(3);
  assert.equal((await done)[0].seq, 3);
});

test("unsubscribing while the connection breaks is done", async (test) => {
  const { server, feed, peer } = await subscribed(test);
  const gone = feed.unsubscribe("t.*");
  await peer.next();
  peer.socket.terminate();
  await gone;
  const again = await server.peer();
  again.welcome();
  const more = feed.subscribe("u.*", ALL);
  const { method, params } = await again.accept(3);
  assert.deepEqual([method, params.channels], ["subscribe", ["u.*"]]);
  await more;
});

test("unsubscribing what the server has ended is done; another refusal rejects", async (test) => {
  const { feed, peer } = await subscribed(test);
  const refuse = async (code) => {
    const { method, req_id } = await peer.next();
    peer.send({ method, success: false, req_id, error: { code, message: "why" } });
  };
  const gone = feed.unsubscribe("t.*");
  await refuse("not_subscribed");
  await gone;
  const more = feed.subscribe("u.*", ALL);
  await peer.accept(100);
  await more;
  const refused = feed.unsubscribe("u.*");
  await refuse("param_unknown");
  await assert.rejects(refused, { code: "param_unknown" });
});

test("gaps are told in the order of the stream", async (test) => {
  const seen = [];
  const { peer, events } = await subscribed(test, { onGap: (one) => seen.push(one) });
  peer.send(
    event("t.a", 101, 0),
    gap(["t.a"], 102, 110),
    event("t.a", 111, 110),
    event("t.a", 120, 115),
  );
  assert.deepEqual(await seqs(events, 1), [101]);
  assert.deepEqual(seen, []);
  assert.deepEqual(await seqs(events, 2), [111, 120]);
  const healing = undefined;
  assert.deepEqual(seen, [
    {
      channels: ["t.a"],
      from: 102,
      to: 110,
      missed: 1,
      cause: "max_age",
      recover: "none",
      healing,
    },
    {
      channels: ["t.a"],
      from: 112,
      to: 115,
      missed: undefined,
      cause: "hole",
      recover: "resume",
      healing,
    },
  ]);
});

test("with heal, a gap is filled in order", async (test) => {
  const seen = [];
  const { peer, events } = await subscribed(test, { heal: true, onGap: (one) => seen.push(one) });
  peer.send(
    event("t.a", 101, 0),
    gap(["t.a"], 102, 110, { recover: "resume" }),
    event("t.a", 111, 110),
  );
  const left = await peer.next();
  assert.deepEqual([left.method, left.params], ["unsubscribe", { channels: ["t.*"] }]);
  peer.send(event("t.a", 112, 111), {
    method: "unsubscribe",
    success: true,
    req_id: left.req_id,
    result: [],
  });
  const { params } = await peer.accept(112, { resumed: true });
  assert.deepEqual(params.resume, { epoch: EPOCH, seq: 101 });
  peer.send(...[102, 110, 111, 112].map((seq, at) => event("t.a", seq, [101, 102, 110, 111][at])));
  peer.send(replayEnd(["t.*"], 112), event("t.a", 113, 112));
  assert.deepEqual(await seqs(events, 6), [101, 102, 110, 111, 112, 113]);
  assert.deepEqual(
    seen.map(({ healing }) => healing),
    ["resume"],
  );
});

test("healing never leaves what it has come back to", async (test) => {
  const { peer, events } = await subscribed(test, { heal: true });
  peer.send(gap(["t.a"], 101, 110, { recover: "resume" }));
  const first = await peer.next();
  const error = { code: "rate_limited", message: "too many", retryable: true };
  peer.send({ method: "unsubscribe", success: false, req_id: first.req_id, error });
  const again = await peer.next();
  assert.equal(again.method, "unsubscribe");
  peer.send({ method: "unsubscribe", success: true, req_id: again.req_id, result: [] });
  await peer.accept(110, { resumed: true });
  peer.send(event("t.a", 101, 0));
  assert.deepEqual(await seqs(events, 1), [101]);
});

test("what the server has ended is not asked for again", async (test) => {
  const states = [];
  const { server, feed, peer } = await subscribed(test, { onState: (one) => states.push(one) });
  const more = feed.subscribe("u.*", ALL);
  await peer.accept(100);
  await more;
  peer.send(control("unsubscribed", { channels: ["t.*"], seq: 110, cause: "forbidden" }));
  peer.socket.close(1001);
  const again = await server.peer();
  again.welcome();
  assert.deepEqual((await again.next()).params.channels, ["u.*"]);
  const { channels, cause } = states.find(({ state }) => state === "unsubscribed");
  assert.deepEqual([channels, cause], [["t.*"], "forbidden"]);
});

for (const code of [1002, 1003, 1007, 1008, 1009, 4000, 4001, 4003]) {
  test(`a close with ${code} ends the feed`, async (test) => {
    const { peer, feed, events } = await subscribed(test);
    peer.send(event("t.a", 101, 0));
    peer.socket.close(code, "why");
    assert.deepEqual(await seqs(events, 1), [101]);
    await assert.rejects(events.next(), { code: "closed", closeCode: code });
    await assert.rejects(feed.subscribe("u"), { code: "closed", closeCode: code });
  });
}

for (const code of [1000, 1001, 1011, 1012, 4100, 4101, 4102]) {
  test(`a close with ${code} is followed by a connection`, async (test) => {
    const { server, peer } = await subscribed(test);
    peer.socket.close(code);
    await server.peer();
  });
}

test("without subscriptions, a close with 4102 is followed by a connection when there are some", async (test) => {
  let paused;
  const isPaused = new Promise((resolve) => (paused = resolve));
  const onState = ({ state }) => state === "paused" && paused();
  const { server, feed } = await scripted(test, { onState });
  const peer = await server.peer();
  peer.welcome();
  peer.socket.close(4102);
  await isPaused;
  feed.subscribe("t.*").catch(() => {});
  const again = await server.peer();
  again.welcome();
  assert.equal((await again.next()).method, "subscribe");
});

test("a token function is asked at each connect and when the credential is about to end", async (test) => {
  let number = 0;
  const token = async () => `token-${++number}`;
  const { server } = await scripted(test, { token });
  const peer = await server.peer();
  const sent = async (one) => {
    const { method, params } = await one.next();
    return [method, params.token];
  };
  assert.deepEqual(await sent(peer), ["auth", "token-1"]);
  peer.welcome({ auth_ms: 1000 });
  peer.send(control("auth_expiring", { expires_in_ms: 59_000 }));
  assert.deepEqual(await sent(peer), ["auth", "token-2"]);
  peer.socket.close(4002);
  const again = await server.peer();
  assert.deepEqual(await sent(again), ["auth", "token-3"]);
});

test("with a fixed token an expired credential is the end", async (test) => {
  const { server, events } = await scripted(test, { token: "fixed" });
  (await server.peer()).socket.close(4002);
  await assert.rejects(events.next(), { code: "closed", closeCode: 4002 });
});

test("the credential may go into the query or a header", async (test) => {
  for (const [auth, found] of [
    ["query", ({ request }) => new URL(request.url, "ws://x").searchParams.get("token")],
    ["header", ({ request }) => request.headers.authorization?.replace("Bearer ", "")],
  ]) {
    const { server, feed } = await scripted(test, { token: "a+b&c", auth });
    assert.equal(found(await server.peer()), "a+b&c", auth);
    feed.close();
  }
});

test("an answer to the upgrade that no retry cures ends the feed; another one does not", async (test) => {
  const verifyClient = (_info, done) => done(false, 401, "no credential");
  const server = await Server.start({ verifyClient });
  test.after(() => server.stop());
  const feed = open(test, server.url);
  const refused = feed[Symbol.asyncIterator]().next();
  await assert.rejects(refused, { code: "refused", message: /401/ });

  let tries = 0;
  const busy = await Server.start({
    verifyClient: (_info, done) => ((tries += 1) > 2 ? done(true) : done(false, 503, "busy")),
  });
  test.after(() => busy.stop());
  open(test, busy.url);
  await busy.peer();
  assert.equal(tries, 3);
});

test("a drain leads to the server that it names, and from there it resumes", async (test) => {
  const other = await Server.start();
  test.after(() => other.stop());
  const states = [];
  const { peer, events } = await subscribed(test, { onState: (one) => states.push(one) });
  peer.send(event("t.a", 101, 0));
  peer.send(control("drain", { deadline_ms: 1000, retry_after_ms: 5, to: [other.url] }));
  const there = await other.peer();
  there.welcome();
  const { params } = await there.accept(101, { resumed: true });
  assert.deepEqual(params.resume, { epoch: EPOCH, seq: 101 });
  there.send(replayEnd(["t.*"], 101), event("t.a", 102, 101));
  assert.deepEqual(await seqs(events, 2), [101, 102]);
  const { retryAfterMs, to } = states.find(({ state }) => state === "draining");
  assert.deepEqual([retryAfterMs, to], [5, [other.url]]);
});

test("when the server of a drain does not answer, the first one is tried", async (test) => {
  const gone = await Server.start();
  gone.stop();
  const { server, peer } = await subscribed(test);
  peer.send(control("drain", { deadline_ms: 1000, retry_after_ms: 0, to: [gone.url] }));
  await server.peer();
});

/** A feed over some servers; `next` gives those that it comes to, once each. */
async function over(test, count, options) {
  const servers = await Promise.all(Array.from({ length: count }, () => Server.start()));
  for (const server of servers) test.after(() => server.stop());
  const arrivals = new Set();
  for (const server of servers) {
    const arrival = server.peer().then((peer) => {
      arrivals.delete(arrival);
      return { url: server.url, peer };
    });
    arrivals.add(arrival);
  }
  const urls = servers.map(({ url }) => url);
  return { next: () => Promise.race(arrivals), feed: open(test, urls, options) };
}

test("of several nodes another one goes on where the first has ended", async (test) => {
  const { next, feed } = await over(test, 2, { mode: "single" });
  const done = feed.subscribe("t.*", ALL);
  const first = await next();
  first.peer.welcome();
  await first.peer.accept(100);
  await done;
  first.peer.send(event("t.a", 101, 0));
  const events = feed[Symbol.asyncIterator]();
  assert.deepEqual(await seqs(events, 1), [101]);
  first.peer.socket.terminate();
  const second = await next();
  second.peer.welcome();
  // It is behind: what it has not got yet, the client has.
  const { params } = await second.peer.accept(90, { resumed: true });
  assert.deepEqual(params.resume, { epoch: EPOCH, seq: 101 });
  second.peer.send(replayEnd(["t.*"], 90), event("t.a", 102, 101));
  assert.deepEqual(await seqs(events, 1), [102]);
  assert.deepEqual(feed.position, { epoch: EPOCH, seq: 102 });
});

test("a node that refuses is left out", async (test) => {
  const no = await Server.start({ verifyClient: (_info, done) => done(false, 403, "no") });
  test.after(() => no.stop());
  const yes = await Server.start();
  test.after(() => yes.stop());
  for (let round = 0; round < 4; round += 1) {
    open(test, [no.url, yes.url], { mode: "single" });
    await yes.peer();
  }
});

test("two connections over three nodes are never at the same one", async (test) => {
  const { next, feed } = await over(test, 3, {});
  feed.subscribe("t.*", ALL).catch(() => {});
  const [first, second] = [await next(), await next()];
  second.peer.welcome();
  first.peer.socket.terminate();
  const third = await next();
  assert.equal(new Set([first.url, second.url, third.url]).size, 3);
});

test("silence of three heartbeats is the end of a connection", async (test) => {
  const { server } = await scripted(test);
  const peer = await server.peer();
  peer.welcome({ heartbeat_ms: 5 });
  await server.peer();
});

test("a connection that is not welcomed is given up", async (test) => {
  const { server } = await scripted(test, { connectMs: 5 });
  await server.peer();
  await server.peer();
});

test("a request that was too many is sent again", async (test) => {
  const { server, feed } = await scripted(test);
  const peer = await server.peer();
  peer.welcome();
  const done = feed.subscribe("t.*", ALL);
  const { req_id } = await peer.next();
  const error = { code: "rate_limited", message: "too many", retryable: true };
  peer.send({ method: "subscribe", success: false, req_id, error });
  await peer.accept(9);
  assert.equal((await done)[0].seq, 9);
});

/** A full queue of 4: `count` events are sent, then a reply shows that all were taken or left. */
async function flooded(test, options) {
  const seen = [];
  const { server, feed, peer, events } = await subscribed(test, {
    queue: 4,
    onGap: (one) => seen.push(one),
    ...options,
  });
  for (let seq = 101; seq <= 110; seq += 1) peer.send(event("t.a", seq, seq - 1));
  return { server, feed, peer, events, seen };
}

test("a full queue closes the connection; when it was read, it resumes", async (test) => {
  const { server, peer, events, seen } = await flooded(test);
  assert.equal(await peer.closed, 1000);
  assert.deepEqual(await seqs(events, 4), [101, 102, 103, 104]);
  const again = await server.peer();
  again.welcome();
  const { params } = await again.accept(110, { resumed: true });
  assert.equal(params.resume.seq, 104);
  again.send(event("t.a", 105, 104));
  assert.deepEqual(await seqs(events, 1), [105]);
  assert.deepEqual(seen, []);
});

/** As in a browser. */
class CannotPause extends WebSocket {
  pause = undefined;
}

for (const overflow of ["close", "pause"]) {
  test(`with overflow '${overflow}' a snapshot comes once, however many it brings`, async (test) => {
    let read = 0;
    let all;
    const isAll = new Promise((resolve) => (all = resolve));
    const parse = (raw) => {
      if (++read === 100) all();
      return JSON.parse(raw);
    };
    const options = { queue: 4, overflow, parse, WebSocket: CannotPause };
    const { server, feed, events } = await scripted(test, options);
    const peer = await server.peer();
    peer.welcome();
    const done = feed.subscribe("q.*");
    await peer.accept(200);
    await done;
    const list = Array.from({ length: 100 }, (_, at) => at + 1);
    peer.send(...list.map((seq) => event("q.a", seq, seq - 1, { key: `k${seq}` })));
    peer.send(snapshotEnd(["q.*"], 200));
    await isAll;
    assert.deepEqual(await seqs(events, 100), list);
    peer.send(event("q.a", 201, 0, { key: "k1" }));
    assert.deepEqual(await seqs(events, 1), [201]);
    assert.equal(server.sockets.clients.size, 1, "the connection has stayed");
  });
}

test("with overflow 'drop' what finds no room is a counted gap in its place", async (test) => {
  const { feed, peer, events, seen } = await flooded(test, { overflow: "drop" });
  const pong = feed.ping();
  const { req_id } = await peer.next();
  peer.send({ method: "pong", success: true, req_id });
  await pong;
  assert.deepEqual(await seqs(events, 4), [101, 102, 103, 104]);
  peer.send(event("t.a", 111, 110));
  assert.deepEqual(await seqs(events, 1), [111]);
  assert.deepEqual(
    seen.map(({ from, to, missed, cause }) => [from, to, missed, cause]),
    [[105, 110, 6, "overflow"]],
  );
});

test("with overflow 'pause' the socket is not read until there is room", async (test) => {
  const { events, seen, server } = await flooded(test, { overflow: "pause", queue: 8 });
  assert.deepEqual(await seqs(events, 10), [101, 102, 103, 104, 105, 106, 107, 108, 109, 110]);
  assert.deepEqual(seen, []);
  assert.equal(server.sockets.clients.size, 1, "the connection has stayed");
});

/** A call whose reply is still to come behind `count` events, and a queue of 4. */
async function waiting(test, count, options = {}) {
  const { server, feed, peer, events } = await subscribed(test, { queue: 4, ...options });
  const done = feed.subscribe("u.*", ALL);
  const request = await peer.next();
  const all = Array.from({ length: count }, (_, at) => 101 + at);
  const sent = all.map((seq) => event("t.a", seq, seq - 1));
  peer.send(...sent);
  return { server, peer, events, done, request, all, sent };
}

for (const overflow of ["close", "pause"]) {
  test(`with overflow '${overflow}' a call is answered behind more than the queue holds`, async (test) => {
    const { server, peer, events, done, request, all } = await waiting(test, 60, { overflow });
    peer.send(yes(request, 160), heartbeat(160));
    assert.equal((await done)[0].seq, 160);
    assert.deepEqual(await seqs(events, 60), all);
    assert.equal(server.sockets.clients.size, 1, "the connection has stayed");
  });
}

const OVERFLOW = { code: "overflow", retryable: true, message: /64 events wait/ };

test("a call is refused behind far more than that, and its patterns stay in the set", async (test) => {
  const { server, peer, events, done, all, sent } = await waiting(test, 66);
  await assert.rejects(done, OVERFLOW);
  assert.equal(await peer.closed, 1000);
  const came = await seqs(events, 64);
  const again = await server.peer();
  again.welcome();
  await again.accept(166, { resumed: true });
  const { params } = await again.accept(166);
  assert.deepEqual(params.channels, ["u.*"]);
  again.send(...sent);
  assert.deepEqual([...came, ...(await seqs(events, 2))], all);
});

test("with overflow 'pause' a call that is refused leaves the connection as it is", async (test) => {
  const { server, events, done, all } = await waiting(test, 66, { overflow: "pause" });
  await assert.rejects(done, OVERFLOW);
  assert.deepEqual(await seqs(events, 66), all);
  assert.equal(server.sockets.clients.size, 1);
});

test("a call goes on reading after a full queue had closed the connection", async (test) => {
  const { server, feed, peer, events } = await flooded(test, {});
  assert.equal(await peer.closed, 1000);
  const more = feed.subscribe("u.*", ALL);
  const again = await server.peer();
  again.welcome();
  await again.accept(110, { resumed: true });
  const rest = [105, 106, 107, 108, 109, 110];
  again.send(...rest.map((seq) => event("t.a", seq, seq - 1)));
  await again.accept(110);
  await more;
  assert.deepEqual(await seqs(events, 10), [101, 102, 103, 104, ...rest]);
});

test("a call goes on reading after a full queue had paused the socket", async (test) => {
  let read = 0;
  let paused;
  const isPaused = new Promise((resolve) => (paused = resolve));
  const parse = (raw) => {
    if (++read === 9) paused();
    return JSON.parse(raw);
  };
  const { server, feed, peer, events } = await flooded(test, { overflow: "pause", queue: 8, parse });
  await isPaused;
  const more = feed.subscribe("u.*", ALL);
  await peer.accept(110);
  await more;
  assert.deepEqual(await seqs(events, 10), [101, 102, 103, 104, 105, 106, 107, 108, 109, 110]);
  assert.equal(server.sockets.clients.size, 1, "the connection has stayed");
});

test("verify compares at the seq of the answer, whatever comes first", async (test) => {
  const { peer, feed, events } = await subscribed(test, { hash: true });
  const texts = [
    event("t.b", 101, 0, { type: "snapshot" }),
    event("t.b", 102, 101),
    event("t.b", 103, 102),
  ];
  const state = new StateHash();
  for (const text of texts.slice(0, 2)) state.apply(readMessage(text).event);
  const hash = state.digest("t.b");
  peer.send(texts[0]);
  await seqs(events, 1);
  const verified = feed.verify("t.b");
  const { req_id, method, params } = await peer.next();
  assert.deepEqual([method, params], ["verify", { channel: "t.b" }]);
  const result = { channel: "t.b", seq: 102, values: 1, hash };
  peer.send({ method, success: true, req_id, result }, texts[1], texts[2]);
  assert.deepEqual(await verified, { ...result, own: hash, matches: true });

  const wrong = feed.verify("t.b");
  const asked = await peer.next();
  const other = { ...result, seq: 103, hash: "00000000" };
  peer.send({ method, success: true, req_id: asked.req_id, result: other });
  assert.equal((await wrong).matches, false);

  const unknown = feed.verify("t.c");
  const last = await peer.next();
  const error = { code: "channel_unknown", message: "no such channel", retryable: false };
  peer.send({ method, success: false, req_id: last.req_id, error });
  await assert.rejects(unknown, { code: "channel_unknown" });
});

test("verify asks again when a newer event came in the place of the one it was to compare at", async (test) => {
  const { peer, feed, events } = await subscribed(test, { hash: true });
  peer.send(event("t.a", 105, 0, { key: "k" }));
  await seqs(events, 1);
  const verified = feed.verify("t.a");
  const first = await peer.next();
  const result = { channel: "t.a", seq: 103, values: 1, hash: "00000000" };
  peer.send({ success: true, req_id: first.req_id, result });
  const second = await peer.next();
  peer.send({ success: true, req_id: second.req_id, result: { ...result, seq: 105 } });
  assert.equal((await verified).matches, false);
});

test("another epoch begins the hashes anew", async (test) => {
  const { server, peer, feed, events } = await subscribed(test, { hash: true });
  peer.send(event("t.a", 105, 0, { key: "k" }));
  await seqs(events, 1);
  peer.socket.close(1001);
  const again = await server.peer();
  again.welcome({ epoch: "OTHER" });
  await again.accept(7, { resumed: false, why: "epoch" });
  const verified = feed.verify("t.a");
  const { req_id } = await again.next();
  const result = { channel: "t.a", seq: 7, values: 0, hash: "00000000" };
  again.send({ success: true, req_id, result });
  assert.equal((await verified).matches, true);
});

test("what conflated to nothing is compared at the next heartbeat", async (test) => {
  const { peer, feed } = await subscribed(test, { hash: true });
  const verified = feed.verify("t.trades");
  const { req_id } = await peer.next();
  const result = { channel: "t.trades", seq: 104, values: 0, hash: "00000000" };
  peer.send({ success: true, req_id, result }, heartbeat(104));
  assert.equal((await verified).matches, true);
});

test("mistakes in the arguments are told at once", async (test) => {
  assert.throws(
    () => connect("ws://127.0.0.1:1/v1", { WebSocket, tokens: "" }),
    /no option 'tokens'/,
  );
  assert.throws(() => connect([], { WebSocket }), /at least one URL/);
  assert.throws(() => connect("ws://a", { WebSocket, mode: "three" }), /'single' or 'ab'/);
  assert.throws(
    () => connect("ws://127.0.0.1:1/v1", { WebSocket, policy: "all", terms: { x: 1 } }),
    /'x'/,
  );
  const { feed } = await scripted(test);
  await assert.rejects(feed.subscribe("a", { max_age_ms: 1 }), /no option 'max_age_ms'/);
  await assert.rejects(feed.subscribe([]), /at least one/);
  const found = globalThis.WebSocket;
  delete globalThis.WebSocket;
  assert.throws(() => connect("ws://127.0.0.1:1/v1"), /npm install ws/);
  if (found) globalThis.WebSocket = found;
  const bad = open(test, "not a url");
  await assert.rejects(bad[Symbol.asyncIterator]().next(), { code: "refused" });
});

// --- A and B

test("A and B: the first of each event, and one may die and return without a gap", async (test) => {
  const seen = [];
  const { servers, peers, feed, events } = await twice(test, { onGap: (one) => seen.push(one) });
  const [a, b] = peers;
  a.send(event("t.a", 101, 0));
  assert.deepEqual(await seqs(events, 1), [101]);
  b.send(event("t.a", 101, 0), event("t.a", 102, 101));
  assert.deepEqual(await seqs(events, 1), [102]);
  a.socket.terminate();
  b.send(event("t.a", 103, 102));
  assert.deepEqual(await seqs(events, 1), [103]);
  const back = await servers[0].peer();
  back.welcome();
  const { params } = await back.accept(103, { resumed: true });
  assert.equal(params.resume.seq, 101);
  back.send(event("t.a", 102, 101), event("t.a", 103, 102), replayEnd(["t.*"], 103));
  b.socket.terminate();
  back.send(event("t.a", 104, 103));
  assert.deepEqual(await seqs(events, 1), [104]);
  assert.deepEqual(seen, []);
  assert.deepEqual(feed.position, { epoch: EPOCH, seq: 104 });
});

test("A and B: what A has lost comes from B, in order", async (test) => {
  const seen = [];
  const { peers, events } = await twice(test, { onGap: (one) => seen.push(one) });
  const [a, b] = peers;
  a.send(gap(["t.a"], 101, 102), event("t.a", 103, 102));
  b.send(
    event("t.a", 101, 0),
    event("t.a", 102, 101),
    event("t.a", 103, 102),
    event("t.a", 104, 103),
  );
  assert.deepEqual(await seqs(events, 4), [101, 102, 103, 104]);
  assert.deepEqual(seen, []);
});

test("A and B: another epoch is not mixed in, but takes over", async (test) => {
  const servers = [await Server.start(), await Server.start()];
  for (const server of servers) test.after(() => server.stop());
  const seen = [];
  let parked;
  const isParked = new Promise((resolve) => (parked = resolve));
  const feed = open(
    test,
    servers.map(({ url }) => url),
    {
      onGap: (one) => seen.push(one),
      onState: ({ state }) => state === "parked" && parked(),
    },
  );
  const events = feed[Symbol.asyncIterator]();
  feed.subscribe("t.*", ALL).catch(() => {});
  const a = await servers[0].peer();
  a.welcome();
  await a.accept(100);
  const b = await servers[1].peer();
  b.welcome({ epoch: "OTHER" });
  await isParked;
  a.send(event("t.a", 101, 0));
  assert.deepEqual(await seqs(events, 1), [101]);
  servers[0].stop();
  const second = await servers[1].peer();
  second.welcome({ epoch: "OTHER" });
  const { params } = await second.accept(7, { resumed: false, why: "epoch" });
  assert.deepEqual(params.resume, { epoch: EPOCH, seq: 101 }, "the server can tell what is lost");
  second.send(gap(["t.*"], 1, 7, { cause: "epoch", missed: undefined }), event("t.a", 8, 0));
  assert.deepEqual(await seqs(events, 1), [8]);
  assert.deepEqual(
    seen.map(({ cause }) => cause),
    ["epoch"],
  );
});
