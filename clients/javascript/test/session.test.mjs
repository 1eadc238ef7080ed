// What may be claimed after a break, when an event is a hole, and what is handed over.

import assert from "node:assert/strict";
import { test } from "node:test";
import { readMessage } from "../src/protocol.js";
import { Session } from "../src/session.js";
import { event, gap, replayEnd, snapshotEnd, yes } from "./support.mjs";

const ALL = { policy: "all", snapshot: false };

/** A session whose patterns are subscribed to, each request answered with `seq` and `more`. */
function session(patterns, terms = ALL, seq = 100, more = {}, options = {}) {
  const one = new Session(options);
  one.connected("E");
  for (const pattern of patterns) one.add(pattern, terms);
  answer(one, seq, more);
  return one;
}

/** Answers what is due; gives the parameters of the requests. */
function answer(one, seq, more = {}) {
  return one.due().map(({ patterns, params }) => {
    const request = { method: "subscribe", params: { ...params, channels: patterns } };
    one.replied(patterns, yes(request, seq, more));
    return { channels: patterns, ...params };
  });
}

/** The parameters of the requests after a break. */
function afterBreak(one, epoch = "E") {
  one.disconnected();
  one.connected(epoch);
  return answer(one, 10_000, { resumed: true });
}

const take = (one, ...texts) =>
  texts.map((text) => {
    const { event: taken } = readMessage(text);
    const { deliver, gap: hole } = one.event(taken);
    return hole ? `${hole.from}-${hole.to}` : deliver ? (taken.recovered ?? "live") : "dropped";
  });

test("live events, heartbeats and ends raise the claim; receipts do not", () => {
  const one = session(["t.*"]);
  assert.equal(one.position, 100);
  take(one, event("t.a", 120, 0));
  assert.equal(one.position, 120);
  one.receipt(gap(["t.a"], 121, 200));
  assert.equal(one.position, 120);
  one.heartbeat(210);
  assert.equal(one.position, 210);
  assert.deepEqual(afterBreak(one), [
    { channels: ["t.*"], policy: "all", snapshot: false, resume: { epoch: "E", seq: 210 } },
  ]);
  assert.equal(one.position, 210, "while the replay runs, it is what it was");
  take(one, event("t.a", 10_001, 120));
  assert.equal(one.position, 210);
  one.recovered(replayEnd(["t.*"], 10_001));
  assert.equal(one.position, 10_001);
});

test("a replay that broke off is asked for again, and nothing of it is handed over twice", () => {
  const one = session(["t.*"]);
  take(one, event("t.a", 110, 0));
  afterBreak(one);
  assert.deepEqual(take(one, event("t.a", 120, 110), event("t.b", 130, 0)), ["replay", "replay"]);
  const [request] = afterBreak(one);
  assert.equal(request.resume.seq, 110);
  const again = [event("t.a", 120, 110), event("t.b", 130, 0), event("t.a", 140, 120)];
  assert.deepEqual(take(one, ...again), ["dropped", "dropped", "replay"]);
});

test("a subscription that came later claims no less than its boundary", () => {
  const one = session(["t.*"]);
  take(one, event("t.a", 110, 0));
  one.add("u.*", ALL);
  answer(one, 500);
  const claims = afterBreak(one).map(({ channels, resume }) => [channels[0], resume.seq]);
  assert.deepEqual(claims, [
    ["t.*", 110],
    ["u.*", 500],
  ]);
});

test("while a snapshot comes, nothing of it raises a claim", () => {
  const one = session(["t.*"]);
  take(one, event("t.a", 110, 0));
  one.add("q.*", { policy: "auto" });
  answer(one, 500);
  assert.deepEqual(take(one, event("q.a", 450, 0, { key: "k" })), ["snapshot"]);
  take(one, event("t.a", 510, 110));
  assert.equal(one.position, 110);
  one.recovered(snapshotEnd(["q.*"], 505));
  assert.equal(one.position, 505);
});

test("a first snapshot that broke off is begun again; what came meanwhile is a gap", () => {
  const one = session(["b.*"], {}, 500);
  take(one, event("b.a", 450, 0, { type: "snapshot" }));
  one.disconnected();
  one.connected("E");
  const [{ patterns, params }] = one.due();
  assert.deepEqual(params, {});
  const { gaps } = one.replied(patterns, yes({ params: { channels: patterns } }, 510));
  assert.deepEqual(
    gaps.map(({ from, to, cause }) => [from, to, cause]),
    [[501, 510, "late"]],
  );
  assert.deepEqual(one.recovered(snapshotEnd(["b.*"], 510)), ["b.*"]);
  assert.equal(one.position, 510);
});

test("a later snapshot that broke off: first what came meanwhile, then the snapshot", () => {
  const one = session(["b.*"], {}, 500);
  one.recovered(snapshotEnd(["b.*"], 500));
  one.add("b.*", {});
  answer(one, 600);
  take(one, event("b.a", 450, 0, { type: "snapshot" }));
  const [request] = afterBreak(one);
  assert.deepEqual(request.resume, { epoch: "E", seq: 500 });
  assert.deepEqual(one.recovered(replayEnd(["b.*"], 10_000)), [], "it is not whole yet");
  assert.deepEqual(answer(one, 10_000), [{ channels: ["b.*"] }]);
  assert.deepEqual(one.recovered(snapshotEnd(["b.*"], 10_000)), ["b.*"]);
});

test("another epoch: the old claim is shown, and what was seen is no measure", () => {
  const one = session(["t.*"]);
  take(one, event("t.a", 900, 0));
  one.disconnected();
  one.connected("F");
  assert.equal(one.position, undefined);
  const [request] = answer(one, 7, { resumed: false, why: "epoch" });
  assert.deepEqual(request.resume, { epoch: "E", seq: 900 });
  assert.deepEqual(take(one, event("t.a", 8, 6)), ["live"]);
  assert.equal(one.position, 8);
});

test("sampled events come late: only heartbeats raise their claims", () => {
  const terms = { policy: "latest", intervalMs: 100, snapshot: false };
  const one = session(["q.*"], terms, 100, { interval_ms: 100 });
  one.add("t.*", ALL);
  answer(one, 100);
  take(one, event("t.a", 150, 0), event("q.a", 140, 0, { key: "k" }));
  assert.equal(one.position, 100);
  const claims = afterBreak(one).map(({ channels, resume }) => [channels[0], resume.seq]);
  assert.deepEqual(claims, [
    ["q.*", 100],
    ["t.*", 150],
  ]);
});

test("a tier samples what conflates", () => {
  const one = session(["q.*"], { snapshot: false });
  one.tier(10);
  take(one, event("q.a", 150, 0, { key: "k" }));
  assert.equal(one.position, 100);
  one.heartbeat(160);
  assert.equal(one.position, 160);
});

test("a hole is what neither events, boundaries, heartbeats nor receipts account for", () => {
  const one = session(["t.*"]);
  assert.deepEqual(take(one, event("t.a", 120, 100), event("t.a", 130, 120)), ["live", "live"]);
  assert.deepEqual(take(one, event("t.b", 140, 101)), ["101-101"]);
  one.receipt(gap(["t.a"], 131, 150));
  assert.deepEqual(take(one, event("t.a", 160, 150)), ["live"]);
  assert.deepEqual(take(one, event("t.b", 161, 150)), ["141-150"]);
  one.heartbeat(200);
  assert.deepEqual(take(one, event("t.a", 210, 199)), ["live"]);
});

test("where newer events may stand for older ones there are no holes", () => {
  const latest = session(["t.*"], { policy: "latest", snapshot: false }, 100, { policy: "latest" });
  assert.deepEqual(take(latest, event("t.a", 300, 299)), ["live"]);
  const auto = session([">"], { snapshot: false });
  assert.deepEqual(take(auto, event("q.a", 300, 299, { key: "k" })), ["live"]);
  assert.deepEqual(take(auto, event("q.a", 400, 399)), ["live"]);
  assert.deepEqual(take(auto, event("t.a", 300, 299)), ["101-299"]);
});

test("the operator's exceptions hold for their part of a pattern", () => {
  const except = [{ channel: "t.q", policy: "latest", interval_ms: 100 }];
  const one = session(["t.*"], ALL, 100, { policy: "all", except });
  assert.deepEqual(take(one, event("t.q", 300, 299), event("t.a", 310, 305)), ["live", "101-305"]);
});

test("receipts may name patterns", () => {
  const one = session(["t.*"]);
  one.receipt(gap(["t.*"], 101, 200));
  assert.deepEqual(take(one, event("t.a", 201, 200)), ["live"]);
});

test("what was unsubscribed is not handed over", () => {
  const one = session(["t.*", "u.*"]);
  one.remove("t.*");
  assert.deepEqual(take(one, event("t.a", 101, 0), event("u.a", 102, 0)), ["dropped", "live"]);
});

test("of two requests for a pattern the reply to the last one counts", () => {
  const one = session(["t.*"]);
  one.add("t.*", {});
  const [first] = one.due();
  one.add("t.*", {});
  const [second] = one.due();
  const reply = (request, seq) =>
    one.replied(request.patterns, yes({ params: { channels: request.patterns } }, seq));
  reply(first, 200);
  one.recovered(snapshotEnd(["t.*"], 200));
  assert.equal(one.position, 100);
  reply(second, 300);
  one.recovered(snapshotEnd(["t.*"], 200));
  assert.equal(one.position, 100, "the end of the first snapshot");
  one.recovered(snapshotEnd(["t.*"], 300));
  assert.equal(one.position, 300);
});

test("new terms without a snapshot raise no claim: the former ones may still be owed events", () => {
  const one = session(["t.*"]);
  take(one, event("t.a", 110, 0));
  one.add("t.*", { policy: "latest", snapshot: false });
  answer(one, 200);
  assert.equal(one.position, 110);
  take(one, event("t.a", 150, 110));
  assert.equal(one.position, 150);
});

test("a heartbeat while a recovery runs raises no claim", () => {
  const one = session(["t.*"]);
  one.add("q.*", {});
  answer(one, 200);
  one.heartbeat(5000);
  assert.equal(one.position, 100);
  assert.deepEqual(
    afterBreak(one).map(({ resume }) => resume?.seq),
    [100, undefined],
  );
});

test("beside a snapshot of one pattern, the replay of another one brings no trade twice", () => {
  const one = session(["t.*"]);
  take(one, event("t.a", 110, 0));
  afterBreak(one);
  one.add(">", {});
  answer(one, 10_000);
  assert.deepEqual(take(one, event("t.a", 110, 0)), ["dropped"]);
  assert.deepEqual(take(one, event("t.a", 120, 110)), ["replay"]);
  const book = [event("b.a", 90, 0, { type: "snapshot" }), event("b.a", 95, 90)];
  assert.deepEqual(take(one, ...book, ...book), Array(4).fill("snapshot"));
});

test("a server that has lost the end of its log counts anew from there", () => {
  const one = session(["t.*"]);
  take(one, event("t.a", 900, 0));
  one.disconnected();
  one.connected("E");
  answer(one, 800, { resumed: false, why: "ahead" });
  assert.deepEqual(take(one, event("t.a", 801, 700)), ["live"]);
  one.disconnected();
  one.connected("E");
  answer(one, 850, { resumed: true });
  assert.deepEqual(take(one, event("t.a", 840, 801)), ["replay"]);
});

test("refused patterns leave the set", () => {
  const one = new Session();
  one.connected("E");
  one.add("a..b", {});
  one.add("t.*", ALL);
  for (const { patterns } of one.due()) {
    const bad = patterns[0] === "a..b";
    const error = { code: "channel_invalid", message: "empty token", retryable: false };
    const reply = bad ? { success: false, error } : yes({ params: { channels: patterns } }, 1);
    const { refused } = one.replied(patterns, reply);
    assert.deepEqual(
      refused.map((each) => each.error.code),
      bad ? ["channel_invalid"] : [],
    );
  }
  assert.deepEqual(one.patterns, ["t.*"]);
  assert.equal(one.position, 1);
});

test("healing by replay: leave, claim what was before the gap, and drop what comes until then", () => {
  const one = session(["t.*", "u.*"], ALL, 100, {}, { heals: true });
  take(one, event("t.a", 110, 0), event("u.a", 115, 0));
  const { gap: told, leave } = one.receipt(gap(["t.a"], 111, 130, { recover: "resume" }));
  assert.equal(told.healing, "resume");
  assert.deepEqual(leave, ["t.*"]);
  assert.deepEqual(take(one, event("t.a", 131, 130), event("u.a", 132, 115)), ["dropped", "live"]);
  assert.equal(one.position, 110);
  const [request] = answer(one, 140, { resumed: true });
  assert.deepEqual(request.resume, { epoch: "E", seq: 110 });
  const replay = [event("t.a", 120, 110), event("t.a", 131, 120)];
  assert.deepEqual(take(one, ...replay), ["replay", "replay"]);
  one.recovered(replayEnd(["t.*"], 140));
  assert.equal(one.position, 140);
});

test("healing by snapshot: the pattern is asked for once more", () => {
  const one = session(["q.*"], {}, 100, {}, { heals: true });
  one.recovered(snapshotEnd(["q.*"], 100));
  const { leave } = one.receipt(gap(["q.a"], 111, 130, { recover: "snapshot" }));
  assert.deepEqual(leave, []);
  assert.deepEqual(answer(one, 140), [{ channels: ["q.*"] }]);
});

test("a hole heals as well, and its event comes with the replay", () => {
  const one = session(["t.*"], ALL, 100, {}, { heals: true });
  take(one, event("t.a", 110, 0));
  assert.deepEqual(take(one, event("t.a", 130, 120)), ["111-120"]);
  const [request] = answer(one, 140, { resumed: true });
  assert.equal(request.resume.seq, 110);
  assert.deepEqual(take(one, event("t.a", 120, 110), event("t.a", 130, 120)), ["replay", "replay"]);
});
