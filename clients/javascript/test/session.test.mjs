// What may be claimed after a break, when an event is a hole, and what is handed over.

import assert from "node:assert/strict";
import { test } from "node:test";
import { readMessage } from "../src/protocol.js";
import { Session } from "../src/session.js";
import { ALL, event, gap, no, replayEnd, snapshotEnd, yes } from "./support.mjs";

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

test("patterns on equal terms go on at one place, and none is given what it is not owed", () => {
  const one = session(["t.*"]);
  take(one, event("t.a", 110, 0));
  one.add("u.*", ALL);
  answer(one, 500);
  one.disconnected();
  one.connected("E");
  // A node that is behind: some of it is replayed, the rest comes live.
  const requests = answer(one, 450, { resumed: true });
  assert.deepEqual(requests, [
    { channels: ["t.*", "u.*"], policy: "all", snapshot: false, resume: { epoch: "E", seq: 110 } },
  ]);
  const [b, k] = [{ type: "snapshot" }, { key: "k" }];
  const before = [event("u.a", 400, 0), event("u.b", 410, 0, b), event("u.k", 420, 0, k)];
  assert.deepEqual(take(one, ...before), Array(3).fill("dropped"));
  assert.deepEqual(take(one, event("t.a", 440, 110)), ["replay"]);
  one.recovered(replayEnd(["t.*", "u.*"], 450));
  const ahead = [event("u.a", 490, 400), event("u.b", 495, 410), event("u.k", 500, 420, k)];
  assert.deepEqual(take(one, ...ahead), Array(3).fill("dropped"));
  assert.deepEqual(take(one, event("t.a", 498, 440)), ["live"]);
  assert.deepEqual(take(one, event("u.a", 510, 490), event("t.a", 520, 498)), ["live", "live"]);
  assert.equal(one.position, 520);
});

test("what several patterns match comes from the earliest of their places", () => {
  const one = session(["t.*"]);
  take(one, event("t.b", 110, 0));
  one.add("t.a", ALL);
  answer(one, 500);
  const [{ resume }] = afterBreak(one);
  assert.equal(resume.seq, 110);
  assert.deepEqual(take(one, event("t.a", 400, 0)), ["replay"]);
});

test("a break costs one request for sampled patterns, however many, and nothing twice", () => {
  const terms = { policy: "latest", intervalMs: 100, snapshot: false };
  const one = new Session();
  one.connected("E");
  const patterns = Array.from({ length: 20 }, (_, at) => `q.${at + 1}`);
  const sampled = { policy: "latest", interval_ms: 100 };
  for (const [at, pattern] of patterns.entries()) {
    one.add(pattern, terms);
    answer(one, at + 1, sampled);
  }
  const k = { key: "k" };
  const [first, second] = [event("q.1", 30, 0, k), event("q.20", 31, 0, k)];
  assert.deepEqual(take(one, first, second), ["live", "live"]);
  one.disconnected();
  one.connected("E");
  const requests = answer(one, 40, { ...sampled, resumed: true });
  assert.deepEqual(requests.map(({ channels, resume }) => [channels, resume.seq]), [[patterns, 1]]);
  assert.deepEqual(take(one, event("q.19", 15, 0, k), first, second), Array(3).fill("dropped"));
  const missed = [event("q.1", 35, 30, k), event("q.7", 36, 0, k)];
  assert.deepEqual(take(one, ...missed), ["replay", "replay"]);
  one.recovered(replayEnd(patterns, 40));
  assert.equal(one.position, 40);
});

test("what the server samples of its own accord does not keep others at its place", () => {
  const one = session(["q.*"], ALL, 100, { interval_ms: 100 });
  one.add("t.*", ALL);
  answer(one, 100);
  take(one, event("t.a", 150, 0));
  const places = afterBreak(one).map(({ channels, resume }) => [channels, resume.seq]);
  assert.deepEqual(places, [
    [["q.*"], 100],
    [["t.*"], 150],
  ]);
});

test("a replay that broke off does not keep others at its place", () => {
  const one = session(["t.*"]);
  take(one, event("t.a", 900, 0));
  one.add("u.*", { ...ALL, resume: { epoch: "E", seq: 10 } });
  answer(one, 910, { resumed: true });
  const places = afterBreak(one).map(({ channels, resume }) => [channels, resume.seq]);
  assert.deepEqual(places, [
    [["u.*"], 10],
    [["t.*"], 900],
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

/** Refuses what is due. */
function refuse(one, code, retryable = false) {
  return one.due().map(({ patterns, params }) => {
    return one.replied(patterns, no({ params }, code, { retryable }));
  });
}

test("what is refused for now after a break stays, and is asked for again", () => {
  const one = session(["t.*"]);
  one.disconnected();
  one.connected("E");
  const [{ refused, later }] = refuse(one, "too_many_recoveries", true);
  assert.deepEqual(refused, []);
  assert.deepEqual(later.map(({ pattern, error }) => [pattern, error.code]), [
    ["t.*", "too_many_recoveries"],
  ]);
  assert.deepEqual(one.patterns, ["t.*"]);
  assert.equal(one.position, 100);
  assert.deepEqual(one.due(), [], "not at once");
  one.askAgain();
  const [request] = answer(one, 200, { resumed: true });
  assert.deepEqual([request.channels, request.resume.seq], [["t.*"], 100]);
});

test("what has no room after a break is refused, and holds up nothing else", () => {
  for (const code of ["too_many_subscriptions", "too_many_policies"]) {
    const one = session(["t.*"]);
    one.disconnected();
    one.connected("E");
    const [{ refused, later }] = refuse(one, code, true);
    assert.deepEqual([refused.length, later.length, one.patterns], [1, 0, []], code);
  }
});

test("what another pattern brings while one waits shows what will be late", () => {
  const one = session(["t.*"]);
  take(one, event("t.a", 110, 0));
  one.disconnected();
  one.connected("E");
  refuse(one, "too_many_recoveries", true);
  one.add(">", { snapshot: false });
  answer(one, 500);
  assert.deepEqual(take(one, event("t.b", 510, 0)), ["live"], "the first of its channel");
  assert.deepEqual(take(one, event("t.a", 520, 490), event("t.a", 530, 520)), ["111-490", "live"]);
  one.askAgain();
  answer(one, 600, { resumed: true });
  const late = [event("t.a", 490, 110), event("t.a", 520, 490)];
  assert.deepEqual(take(one, ...late), ["dropped", "dropped"]);
});

test("what goes on from further back is asked for first, and what begins anew last", () => {
  const one = session([">"], {}, 100);
  one.add("t.*", { ...ALL, resume: { epoch: "E", seq: 10 } });
  answer(one, 110, { resumed: true });
  one.add("u.*", { policy: "close", resume: { epoch: "E", seq: 5 } });
  assert.deepEqual(
    afterBreak(one).map(({ channels, resume }) => [channels[0], resume?.seq]),
    [
      ["u.*", 5],
      ["t.*", 10],
      [">", undefined],
    ],
  );
});

test("a refused request leaves what is held as it was", () => {
  const one = session(["t.*"]);
  take(one, event("t.a", 110, 0));
  one.add("t.*", { policy: "latest", maxAgeMs: 1 });
  const [{ refused }] = refuse(one, "param_invalid");
  assert.equal(refused[0].error.code, "param_invalid");
  assert.deepEqual(one.patterns, ["t.*"]);
  assert.deepEqual(take(one, event("t.a", 120, 110), event("t.a", 130, 125)), ["live", "121-125"]);
  assert.equal(one.position, 130);
  const [request] = afterBreak(one);
  assert.deepEqual([request.policy, request.max_age_ms], ["all", undefined]);
});

test("a refused request leaves a snapshot that comes meanwhile as it was", () => {
  const one = session(["q.*"], {}, 100);
  one.add("q.*", { policy: "latest" });
  const [{ patterns, params }] = one.due();
  const [k, l] = [event("q.a", 90, 0, { key: "k" }), event("q.a", 80, 0, { key: "l" })];
  assert.deepEqual(take(one, k, l), ["snapshot", "snapshot"]);
  one.recovered(snapshotEnd(["q.*"], 100));
  one.replied(patterns, no({ params }, "too_many_recoveries", { retryable: true }));
  assert.deepEqual(one.patterns, ["q.*"]);
  assert.equal(one.position, 100);
});

test("of two requests for a pattern, the first holds where the second is refused", () => {
  const one = session(["t.*"]);
  one.add("t.*", { policy: "latest", snapshot: false });
  const [first] = one.due();
  one.add("t.*", { policy: "close" });
  const [second] = one.due();
  one.replied(first.patterns, yes({ params: { channels: ["t.*"] } }, 200));
  one.replied(second.patterns, no(second, "forbidden"));
  take(one, event("t.a", 210, 0));
  assert.equal(one.position, 210);
  assert.equal(afterBreak(one)[0].policy, "latest");
});

test("after a break, terms that are refused give way to those from before it", () => {
  const one = session(["t.*"]);
  one.disconnected();
  one.add("t.*", { policy: "latest", maxAgeMs: 1 });
  one.connected("E");
  refuse(one, "param_invalid");
  const [request] = answer(one, 200, { resumed: true });
  assert.deepEqual([request.policy, request.resume.seq], ["all", 100]);
});

test("a reply to what was taken out meanwhile changes nothing", () => {
  const one = session(["t.*"]);
  one.add("t.*", { policy: "latest", snapshot: false });
  const [first] = one.due();
  one.remove("t.*");
  one.add("t.*", ALL);
  const [second] = one.due();
  one.replied(first.patterns, yes({ params: { channels: ["t.*"] } }, 200));
  one.replied(second.patterns, no(second, "forbidden"));
  assert.deepEqual(one.patterns, []);
});

test("a subscription asked for when the server ends the one before it is kept", () => {
  const one = session(["t.*", "u.*"]);
  one.add("t.*", { policy: "latest", snapshot: false });
  const [{ patterns, params }] = one.due();
  one.ended("t.*");
  one.ended("u.*");
  one.replied(patterns, yes({ params: { ...params, channels: patterns } }, 120));
  assert.deepEqual(one.patterns, ["t.*"]);
  assert.deepEqual(take(one, event("t.a", 121, 0)), ["live"]);
  assert.equal(afterBreak(one)[0].policy, "latest");
});

test("where it is refused then, nothing is left of it", () => {
  const one = session(["t.*"]);
  one.add("t.*", { policy: "latest", snapshot: false });
  const [{ patterns, params }] = one.due();
  one.ended("t.*");
  one.replied(patterns, no({ params }, "forbidden"));
  assert.deepEqual(one.patterns, []);
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
