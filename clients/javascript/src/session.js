// What a connection has been promised, what has come, and what may be claimed after it broke.
// Pure: messages in, decisions out. No sockets, no clock.
//
// Invariant: a position that is claimed is never too high: everything up to it, of that
// subscription, was handed over, was superseded on terms that say so, or was reported as a gap.
// While a recovery runs, the claim is the one before it. It relies on the server sending a receipt
// before any event that is newer than what the receipt covers, on whichever channel.

import { bySpecificity, FanfareError, matches, paramsOf } from "./protocol.js";

// Another time helps only once something else is unsubscribed.
const OWN_LIMITS = new Set(["too_many_subscriptions", "too_many_policies"]);

/** @typedef {import("./protocol.js").FeedEvent} FeedEvent */
/** @typedef {import("./protocol.js").Gap} Gap */
/** @typedef {import("./protocol.js").Position} Position */
/** @typedef {import("./protocol.js").Terms} Terms */

/**
 * One pattern of the set.
 *
 * due: to be asked for. asked: the reply is to come. later: refused for now. recovering: its
 * snapshot or replay comes. live: every event after `whole` has come.
 * @typedef {object} Subscription
 * @property {string} pattern
 * @property {Terms} terms
 * @property {"due" | "asked" | "later" | "recovering" | "live"} phase
 * @property {boolean} kept it was granted, or outlived a connection: asked for until it is refused
 *   for good
 * @property {Subscription | undefined} former what goes on if this one is refused
 * @property {boolean} fresh ask for a snapshot even though there is a position
 * @property {Position | null} position what may be claimed when it is not live
 * @property {Position | null} since the boundary of a first snapshot that has not come to its end
 * @property {number} whole nothing is missing up to here; beyond it, see Session
 * @property {number} had what had come before the replay, which may begin before that
 * @property {number} boundary the reply's seq: events up to it are recovered, later ones live
 * @property {"snapshot" | "replay" | undefined} recovery what comes, or broke off
 * @property {boolean} torn a snapshot was begun and has to be finished
 * @property {boolean} discard its events are dropped, because a replay will bring them again
 * @property {number} accounted the largest `to` of receipts that name the pattern
 * @property {any} entry the reply's entry: the terms in effect
 */

/**
 * What holds for one channel.
 * @typedef {object} Rule
 * @property {Subscription[]} held those that match it, the most specific first
 * @property {Subscription[]} recovering those of which a snapshot or replay comes
 * @property {number | undefined} owed where one is to go on that this server has not granted yet
 * @property {string} policy
 * @property {boolean} sampled
 */

/**
 * The last seq of a channel, of all its events and of each kind; whether it is a book.
 * @typedef {{ seq: number, keyed: number, keyless: number, book: boolean }} Seen
 */

/** @typedef {{ patterns: string[], params: Record<string, unknown>, seq: number }} Request */

export class Session {
  /** @type {Map<string, Subscription>} */
  #held = new Map();
  /** @type {Map<string, Seen>} */
  #seen = new Map();
  /** @type {Map<string, number>} */
  #accounted = new Map();
  /** @type {Map<string, Rule>} */
  #rules = new Map();
  #epoch = "";
  // Everything up to here of the subscriptions that are not sampled; of all of them.
  #safe = 0;
  #heartbeat = 0;
  // The server samples what conflates, without having been asked.
  #tier = false;
  /** @type {number | undefined} What `position` is while a recovery runs. */
  #before = undefined;
  #busy = false;
  #inSnapshot = false;
  #sampled = false;
  #lowest = 0;
  /**
   * What the replies to come are about, in their order; undefined: it was taken out meanwhile.
   * @type {Map<string, (Subscription | undefined)[]>}
   */
  #asked = new Map();
  #heals;

  /** @param {{ heals?: boolean }} [options] whether a gap is healed as its `recover` says */
  constructor({ heals = false } = {}) {
    this.#heals = heals;
  }

  get epoch() {
    return this.#epoch;
  }

  get patterns() {
    return [...this.#held.keys()];
  }

  /** @param {string} pattern */
  holds(pattern) {
    return this.#held.has(pattern);
  }

  /** Whether a snapshot comes: if it breaks off, it comes again from its beginning. */
  get inSnapshot() {
    return this.#inSnapshot;
  }

  /**
   * Everything up to this seq of all subscriptions was handed over; undefined: nothing can be said.
   * @returns {number | undefined}
   */
  get position() {
    if (this.#held.size === 0) return undefined;
    if (this.#busy) return this.#before;
    const safe = this.#sampled || this.#tier ? this.#heartbeat : this.#safe;
    return Math.max(this.#lowest, safe);
  }

  /**
   * Takes a pattern into the set. What is held already goes on until the server has the new terms.
   * @param {string} pattern
   * @param {Terms} terms
   */
  add(pattern, terms) {
    this.#before = this.position;
    const old = this.#held.get(pattern);
    const position = terms.resume ?? (old ? this.#claim(old) : null);
    this.#held.set(pattern, {
      pattern,
      terms: { ...terms, resume: undefined },
      phase: "due",
      kept: false,
      former: old?.kept ? old : old?.former,
      fresh: !terms.resume,
      position,
      since: old?.since ?? null,
      whole: old?.whole ?? 0,
      had: 0,
      boundary: old?.boundary ?? 0,
      recovery: undefined,
      torn: old !== undefined && terms.snapshot !== false,
      discard: false,
      accounted: old?.accounted ?? 0,
      entry: old?.entry,
    });
    this.#changed();
  }

  /**
   * Takes a pattern out of the set; what is on its way of it does not count any more.
   * @param {string} pattern
   */
  remove(pattern) {
    this.#before = this.position;
    const was = this.#held.delete(pattern);
    this.#asked.get(pattern)?.fill(undefined);
    this.#changed();
    return was;
  }

  /**
   * The server has ended a pattern: it leaves the set, unless it is being asked for again.
   * @param {string} pattern
   */
  ended(pattern) {
    const held = this.#held.get(pattern);
    if (held?.phase === "asked" || (held?.phase === "due" && !held.kept)) held.former = undefined;
    else this.remove(pattern);
  }

  /**
   * A connection is open. Requests are due for the whole set.
   * @param {string} epoch
   */
  connected(epoch) {
    if (epoch !== this.#epoch) {
      this.#seen.clear();
      this.#before = undefined;
    }
    this.#epoch = epoch;
  }

  /** The connection is gone: what it has brought becomes the claims of the next one. */
  disconnected() {
    this.#before = this.position;
    for (const held of this.#versions()) {
      held.position = this.#claim(held);
      Object.assign(held, { phase: "due", kept: true, fresh: false, discard: false });
      Object.assign(held, { whole: 0, had: 0, boundary: 0, accounted: 0 });
    }
    this.#safe = 0;
    this.#heartbeat = 0;
    this.#tier = false;
    this.#accounted.clear();
    this.#asked.clear();
    this.#changed();
  }

  /**
   * Claims what another session of the same set may claim, where this one has nothing to claim.
   * @param {Session} other
   */
  inherit(other) {
    for (const held of this.#held.values()) {
      const known = other.#held.get(held.pattern);
      if (!known || held.position) continue;
      held.position = other.#claim(known);
      held.fresh = false;
    }
  }

  /**
   * Requests for what is due, as few as there are different terms: the server takes 16 replays at
   * once. One place is named for all, the lowest, unless too much would come again: where one is
   * sampled and another is not, or its recovery broke off, their places may be far apart. What has
   * to come again from further back comes first, so that nothing overtakes it.
   * @returns {Request[]}
   */
  due() {
    this.#before = this.position;
    /** @type {Map<string, Request>} */
    const requests = new Map();
    for (const held of this.#held.values()) {
      if (held.phase !== "due") continue;
      held.phase = "asked";
      this.#asked.set(held.pattern, [...(this.#asked.get(held.pattern) ?? []), held]);
      const place = held.fresh ? null : held.position;
      const kind = place && [place.epoch, this.#isSampled(held), held.recovery];
      const params = paramsOf(held.terms);
      const same = JSON.stringify([params, kind]);
      const request = requests.get(same) ?? { patterns: [], params, seq: Number.MAX_VALUE };
      request.patterns.push(held.pattern);
      if (place && place.seq < request.seq) {
        request.params.resume = place;
        request.seq = place.seq;
      }
      requests.set(same, request);
    }
    this.#changed();
    return [...requests.values()].sort((left, right) => left.seq - right.seq);
  }

  /**
   * The answer to one of those requests. Gives what was taken, what was refused for good or for
   * now, and gaps: where a first snapshot broke off, what came from then until it is begun again.
   * @param {string[]} patterns
   * @param {any} message
   */
  replied(patterns, message) {
    /** @type {{ pattern: string, entry: any }[]} */
    const taken = [];
    /** @type {{ pattern: string, error: FanfareError }[]} */
    const refused = [];
    /** @type {{ pattern: string, error: FanfareError }[]} */
    const later = [];
    /** @type {Gap[]} */
    const gaps = [];
    patterns.forEach((pattern, at) => {
      const entry = message.result?.[at];
      const error = entry ? entry.error : message.error;
      const held = this.#asked.get(pattern)?.shift();
      const present = this.#held.get(pattern);
      if (error) {
        const isForNow = error.retryable && !OWN_LIMITS.has(error.code);
        const isLater = held && held === present && held.kept && isForNow;
        if (isLater) held.phase = "later";
        else if (held) this.#goBack(held);
        const why = new FanfareError(error.code, error.message, error);
        (isLater ? later : refused).push({ pattern, error: why });
        return;
      }
      const gap = held && this.#began(held, entry);
      // Asked for again in the meantime: the last reply counts.
      if (gap && held === present) gaps.push(gap);
      if (held && present) present.former = held === present ? undefined : held;
      taken.push({ pattern, entry });
    });
    this.#changed();
    return { taken, refused, later, gaps };
  }

  /** What was refused for now is due again. */
  askAgain() {
    for (const held of this.#versions()) if (held.phase === "later") held.phase = "due";
  }

  /**
   * A subscription was refused: what there was before goes on.
   * @param {Subscription} held
   */
  #goBack(held) {
    const { pattern, former } = held;
    const present = this.#held.get(pattern);
    if (present !== held) {
      if (present?.former === held) present.former = former;
    } else if (former) {
      this.#held.set(pattern, former);
    } else {
      this.#held.delete(pattern);
    }
  }

  /**
   * @param {Subscription} held
   * @param {any} entry
   * @returns {Gap | undefined}
   */
  #began(held, entry) {
    const wasHeld = held.entry !== undefined;
    held.entry = entry;
    held.boundary = entry.seq;
    held.kept = true;
    held.discard = false;
    held.recovery = undefined;
    held.had = 0;
    if (entry.resumed) {
      held.phase = "recovering";
      held.recovery = "replay";
      held.had = held.position?.seq ?? 0;
      // A node that is behind the one before it sends nothing up to what was claimed.
      held.whole = Math.max(held.whole, held.had);
      return undefined;
    }
    if (entry.resumed === false) this.#forget(entry.seq);
    if (held.terms.snapshot === false) {
      held.phase = "live";
      // What was still due of the former terms comes after the reply.
      if (!wasHeld || entry.resumed === false) held.whole = entry.seq;
      held.torn = false;
      return undefined;
    }
    held.phase = "recovering";
    held.recovery = "snapshot";
    held.torn = true;
    if (held.position) return undefined;
    const { since } = held;
    held.since = { epoch: this.#epoch, seq: entry.seq };
    const from = since?.epoch === this.#epoch ? since.seq + 1 : 1;
    if (!since || from > entry.seq || entry.policy === "latest") return undefined;
    const range = { channels: [held.pattern], from, to: entry.seq, missed: undefined };
    return { ...range, cause: "late", recover: "none", healing: undefined };
  }

  /**
   * An event. Gives whether to hand it over, and the hole that it shows; see `receipt` for `leave`.
   * @param {FeedEvent} event
   * @returns {{ deliver: boolean, gap?: Gap, leave?: string[] }}
   */
  event(event) {
    const { channel, seq } = event;
    const rule = this.#rule(channel);
    if (!rule || rule.held.some((held) => held.discard)) return { deliver: false };
    const slot = event.key === null ? "keyless" : "keyed";
    let seen = this.#seen.get(channel);
    if (!seen) {
      seen = { seq: 0, keyed: 0, keyless: 0, book: false };
      this.#seen.set(channel, seen);
    }
    seen.book ||= event.kind === "snapshot";
    const isKnown = seq <= seen[slot] || rule.held.every(({ had }) => seq <= had);
    const recovered = rule.recovering.filter((held) => seq <= held.boundary);
    if (recovered.length > 0) {
      // Beside the snapshot of one pattern there may be the replay of another one. Only state is
      // worth to be told again: values and books.
      const isState = event.key !== null || seen.book || rule.policy === "latest";
      const snapshot = isState && recovered.some((held) => held.recovery === "snapshot");
      if (!snapshot && isKnown) return { deliver: false };
      event.recovered = snapshot ? "snapshot" : "replay";
    } else if (isKnown) {
      // From a node that is behind the one before it, where patterns have got to different places.
      return { deliver: false };
    }
    const gap = this.#hole(event, rule, seen);
    // A replay brings the event again, behind what is missing before it.
    const leave = gap && this.#heal(gap);
    if (leave) return { deliver: false, gap, leave };
    seen.seq = Math.max(seen.seq, seq);
    seen[slot] = Math.max(seen[slot], seq);
    if (!this.#busy && !rule.sampled) this.#safe = Math.max(this.#safe, seq);
    return { deliver: true, gap };
  }

  /**
   * Where every event is promised, `prev` must be accounted for.
   * @param {FeedEvent} event
   * @param {Rule} rule
   * @param {Seen} seen
   * @returns {Gap | undefined}
   */
  #hole({ channel, key, prev, recovered }, rule, seen) {
    if (rule.policy === "latest") return undefined;
    if (rule.policy === "auto" && (key !== null || seen.keyed > 0)) return undefined;
    let known = Math.max(seen.seq, this.#accounted.get(channel) ?? 0);
    let cause = "hole";
    if (rule.owed !== undefined && recovered !== "snapshot") {
      // Another pattern brings the event: what was before it will be too late.
      known = Math.max(known, rule.owed);
      cause = "late";
    } else {
      if (rule.held.some((held) => held.phase !== "live")) return undefined;
      const own = rule.held.map((held) => Math.max(held.boundary, held.accounted, held.whole));
      known = Math.max(known, this.#heartbeat, ...own);
    }
    if (prev <= known) return undefined;
    const range = { channels: [channel], from: known + 1, to: prev, missed: undefined };
    return { ...range, cause, recover: "resume", healing: undefined };
  }

  /**
   * A receipt: counts it in, and gives it as a gap. Where it is to be healed, requests are due,
   * after those patterns were taken out at the server that are in `leave`.
   * @param {any} message
   * @returns {{ gap: Gap, leave: string[] | undefined }}
   */
  receipt({ channels, from, to, missed, cause, recover = "none" }) {
    for (const channel of channels) {
      this.#accounted.set(channel, Math.max(this.#accounted.get(channel) ?? 0, to));
      for (const held of versions(this.#held.get(channel))) {
        held.accounted = Math.max(held.accounted, to);
      }
    }
    /** @type {Gap} */
    const gap = { channels, from, to, missed, cause, recover, healing: undefined };
    return { gap, leave: this.#heal(gap) };
  }

  /**
   * Begins to heal a gap as its `recover` says, unless a recovery is under way there.
   * @param {Gap} gap
   * @returns {string[] | undefined} what to leave first; undefined: nothing is healed
   */
  #heal(gap) {
    const { recover, channels } = gap;
    if (!this.#heals || (recover !== "resume" && recover !== "snapshot")) return undefined;
    const touched = [...this.#held.values()].filter(({ pattern }) =>
      channels.some((name) => matches(pattern, name) || matches(name, pattern)),
    );
    if (touched.some((held) => held.phase !== "live")) return undefined;
    this.#before = this.position;
    gap.healing = recover;
    for (const held of touched) {
      const claim = this.#claim(held)?.seq ?? 0;
      const replay = recover === "resume";
      const seq = replay ? Math.min(claim, gap.from - 1) : claim;
      held.position = { epoch: this.#epoch, seq };
      held.phase = "due";
      held.fresh = !replay;
      // A replay is in order only if nothing comes beside it: leave, then come back.
      held.discard = replay;
      this.#before = Math.min(this.#before ?? seq, seq);
    }
    this.#changed();
    return recover === "resume" ? touched.map((held) => held.pattern) : [];
  }

  /** @param {number} seq */
  heartbeat(seq) {
    if (this.#busy) return;
    this.#safe = Math.max(this.#safe, seq);
    this.#heartbeat = Math.max(this.#heartbeat, seq);
  }

  /**
   * The server moves what conflates to another interval; 0 is none.
   * @param {number} intervalMs
   */
  tier(intervalMs) {
    // Back at 0, what waited for its interval may still be on its way: a new connection clears it.
    if (intervalMs > 0) this.#tier = true;
    this.#rules.clear();
  }

  /**
   * The end of a snapshot or a replay. Gives the patterns that are live now; for the others a
   * snapshot is due that broke off on an earlier connection.
   * @param {any} message
   * @returns {string[]}
   */
  recovered({ channels, seq }) {
    const live = [];
    for (const pattern of channels) {
      const present = this.#held.get(pattern);
      for (const held of versions(present)) {
        // One that is below the boundary ends a recovery that was asked for before.
        if (held.phase !== "recovering" || seq < held.boundary) continue;
        if (held.recovery === "snapshot") held.torn = false;
        held.recovery = undefined;
        held.since = null;
        held.whole = Math.max(held.whole, seq);
        held.position = { epoch: this.#epoch, seq: held.whole };
        held.phase = held.torn ? "due" : "live";
        held.fresh = held.torn;
        if (!held.torn && held === present) live.push(pattern);
      }
    }
    this.#changed();
    if (!this.#busy) this.#safe = Math.max(this.#safe, seq);
    return live;
  }

  /**
   * What may be claimed of a subscription.
   * @param {Subscription} held
   * @returns {Position | null}
   */
  #claim(held) {
    if (held.phase !== "live") return held.position;
    const safe = this.#isSampled(held) ? this.#heartbeat : this.#safe;
    return { epoch: this.#epoch, seq: Math.max(held.whole, safe) };
  }

  /** @param {Subscription} held */
  #isSampled({ entry }) {
    const parts = [entry, ...(entry?.except ?? [])];
    return this.#tier || parts.some((part) => part?.interval_ms > 0);
  }

  /**
   * The server has lost the end of its log (`ahead`): what was seen beyond is no measure any more.
   * @param {number} end
   */
  #forget(end) {
    for (const [channel, { seq }] of this.#seen) if (seq > end) this.#seen.delete(channel);
  }

  /** Works out again what follows from the set. */
  #changed() {
    const all = [...this.#held.values()];
    this.#busy = all.some((held) => held.phase !== "live");
    this.#sampled = all.some((held) => this.#isSampled(held));
    this.#lowest = Math.min(...all.map((held) => held.whole));
    this.#inSnapshot = this.#versions().some(
      ({ phase, recovery }) => phase === "recovering" && recovery === "snapshot",
    );
    this.#rules.clear();
  }

  /** All that is held, and what goes on in the place of something that is refused. */
  #versions() {
    return [...this.#held.values()].flatMap(versions);
  }

  /**
   * @param {string} channel
   * @returns {Rule | undefined}
   */
  #rule(channel) {
    let rule = this.#rules.get(channel);
    if (rule) return rule;
    const held = [...this.#held.values()]
      .filter(({ pattern }) => matches(pattern, channel))
      .sort((left, right) => bySpecificity(left.pattern, right.pattern));
    if (held.length === 0) return undefined;
    const { entry } = held[0];
    const parts = /** @type {any[]} */ (entry?.except ?? [])
      .filter((part) => matches(part.channel, channel))
      .sort((left, right) => bySpecificity(left.channel, right.channel));
    const terms = parts[0] ?? entry;
    const policy = terms?.policy ?? held[0].terms.policy ?? "auto";
    const conflates = policy === "auto" || policy === "latest";
    const sampled = terms?.interval_ms > 0 || (this.#tier && conflates);
    const recovering = held.flatMap(versions).filter(({ phase }) => phase === "recovering");
    const places = held
      .filter(({ phase, boundary }) => boundary === 0 && phase !== "recovering" && phase !== "live")
      .map(({ position, since }) => position ?? since)
      .flatMap((place) => (place ? [place.epoch === this.#epoch ? place.seq : 0] : []));
    const owed = places.length > 0 ? Math.min(...places) : undefined;
    rule = { held, recovering, owed, policy, sampled };
    this.#rules.set(channel, rule);
    return rule;
  }
}

/**
 * A subscription, and what is in its place if it is refused.
 * @param {Subscription | undefined} held
 * @returns {Subscription[]}
 */
function versions(held) {
  return held ? [held, ...versions(held.former)] : [];
}
