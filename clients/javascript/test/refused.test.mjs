// What becomes of a subscription that the server refuses or ends, over real sockets.

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  ALL,
  control,
  event,
  gap,
  heartbeat,
  no,
  replayEnd,
  seqs,
  subscribed,
  twice,
} from "./support.mjs";

test("what is refused for now after a break is asked for again, and goes on", async (test) => {
  const states = [];
  const { server, events, peer } = await subscribed(test, { onState: (one) => states.push(one) });
  peer.send(event("t.a", 101, 0));
  assert.deepEqual(await seqs(events, 1), [101]);
  peer.socket.terminate();
  const again = await server.peer();
  again.welcome();
  for (let round = 0; round < 3; round += 1) {
    again.send(no(await again.next(), "too_many_recoveries", { retryable: true }));
  }
  const { params } = await again.accept(110, { resumed: true });
  assert.deepEqual([params.channels, params.resume.seq], [["t.*"], 101]);
  again.send(event("t.a", 105, 101), replayEnd(["t.*"], 110), event("t.a", 111, 105));
  assert.deepEqual(await seqs(events, 2), [105, 111]);
  const refused = states.filter(({ state }) => state === "refused");
  assert.deepEqual(
    refused.map(({ channels, error }) => [channels, error.code, error.retryable]),
    Array(3).fill([["t.*"], "too_many_recoveries", true]),
  );
});

test("what is refused for good after a break is not asked for again", async (test) => {
  const { server, feed, peer } = await subscribed(test);
  peer.socket.terminate();
  const again = await server.peer();
  again.welcome();
  again.send(no(await again.next(), "forbidden"));
  const more = feed.subscribe("u.*", ALL);
  assert.deepEqual((await again.accept(110)).params.channels, ["u.*"]);
  await more;
});

for (const code of ["param_invalid", "too_many_recoveries"]) {
  test(`new terms that are refused with ${code} leave the old ones as they were`, async (test) => {
    const { server, feed, events, peer } = await subscribed(test);
    const done = feed.subscribe("t.*", { policy: "latest", intervalMs: 100 });
    const retryable = code === "too_many_recoveries";
    peer.send(no(await peer.next(), code, { retryable }), event("t.a", 101, 0));
    await assert.rejects(done, { code, retryable });
    assert.deepEqual(await seqs(events, 1), [101]);
    peer.socket.terminate();
    const again = await server.peer();
    again.welcome();
    const { params } = await again.next();
    assert.deepEqual([params.channels, params.policy], [["t.*"], "all"]);
    assert.equal(params.resume.seq, 101);
  });
}

test("a subscription asked for when the server ends the one before it is kept", async (test) => {
  const { server, feed, events, peer } = await subscribed(test);
  const done = feed.subscribe("t.*", { policy: "latest", snapshot: false });
  const ended = control("unsubscribed", { channels: ["t.*"], seq: 110, cause: "max_age" });
  const request = await peer.next();
  peer.send(ended);
  peer.grant(request, 112);
  await done;
  peer.send(event("t.a", 113, 110));
  assert.deepEqual(await seqs(events, 1), [113]);
  peer.socket.terminate();
  const again = await server.peer();
  again.welcome();
  assert.equal((await again.next()).params.policy, "latest");
});

/** A and B hold `t.*` after seq 100, and `q.*`; the gaps that are told. */
async function both(test) {
  const gaps = [];
  const { peers, feed, events } = await twice(test, { onGap: (one) => gaps.push(one) });
  const done = feed.subscribe("q.*", ALL);
  for (const peer of peers) await peer.accept(100);
  await done;
  return { peers, feed, events, gaps };
}

test("A and B: what A holds no more it fills no gap of", async (test) => {
  const { peers, feed, events, gaps } = await both(test);
  const [a, b] = peers;
  a.send(control("unsubscribed", { channels: ["t.*"], seq: 110, cause: "forbidden" }));
  a.send(event("q.a", 200, 0));
  assert.deepEqual(await seqs(events, 1), [200]);
  assert.equal(feed.position.seq, 100, "of t.* A says nothing any more");
  b.send(gap(["t.a"], 120, 130), event("t.a", 201, 130));
  assert.deepEqual(await seqs(events, 1), [201]);
  assert.deepEqual(
    gaps.map(({ from, to }) => [from, to]),
    [[120, 130]],
  );
});

test("A and B: what A was refused it fills no gap of", async (test) => {
  const { peers, feed, events, gaps } = await both(test);
  const [a, b] = peers;
  const done = feed.subscribe("u.*", ALL);
  a.send(no(await a.next(), "forbidden"));
  await assert.rejects(done, { code: "forbidden" });
  await b.accept(110);
  a.send(event("q.a", 200, 0));
  assert.deepEqual(await seqs(events, 1), [200]);
  b.send(gap(["u.a"], 120, 130), event("u.a", 201, 130), heartbeat(201));
  assert.deepEqual(await seqs(events, 1), [201]);
  assert.deepEqual(
    gaps.map(({ from, to }) => [from, to]),
    [[120, 130]],
  );
});
