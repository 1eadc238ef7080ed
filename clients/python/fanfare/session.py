"""What one connection, and those after it, have been told: subscriptions, positions, gaps.

Values in, values out. Not here: sockets, time, and what the application has seen already, which
`delivery` knows. Invariant: no position is claimed up to which anything may still be on its way.
While a recovery runs, that is the position before it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from .binary import Channels
from .errors import ProtocolError
from .messages import Event, Gap, ParseFloat, Position, Terms, is_event, parse_control
from .patterns import is_name, matches, most_specific
from .requests import Request, parts_of, passes

# Gaps with these causes are answered by a snapshot already, or cannot be healed by asking again.
_NOT_HEALED = frozenset({"epoch", "too_old", "expired", "forgotten", "snapshot"})
_NEVER = 1 << 63


class Arrival(NamedTuple):
    """An event as a connection brought it."""

    event: Event
    promised: bool
    """Whether every event of its channel is promised: no newer one may stand for it."""
    full: bool
    """Whether it belongs to a snapshot that the application asked for again."""


class Notice(NamedTuple):
    """A notice of the server that the session does not use up itself."""

    kind: str
    body: dict[str, Any]


class Reply(NamedTuple):
    """The answer to a request."""

    request: Request
    body: dict[str, Any]


class Recovered(NamedTuple):
    """A snapshot or replay of these patterns is complete as of `seq`."""

    channels: tuple[str, ...]
    seq: int


Output = Arrival | Gap | Notice | Reply | Recovered


@dataclass(slots=True, eq=False)
class _Subscription:
    pattern: str
    terms: Terms
    base: int = 0  # Up to here, nothing was promised or a receipt accounts for it.
    claim: Position | None = None  # What may be claimed, whatever came live since.
    began: Position | None = None  # The boundary, until there is something to claim.
    recovering: bool = False
    heal: int | None = None  # Resume after this seq; -1 is a snapshot.
    interval_ms: int = 0
    policies: dict[str, str] = field(default_factory=dict)  # By pattern: its own, and exceptions.
    had: int = 0  # Its own place, where the replay may begin at an earlier one.

    @property
    def kind(self) -> tuple[Hashable, ...]:
        """Its terms, asked for and granted; the place of what is sampled is far behind."""
        return self.terms, self.interval_ms, frozenset(self.policies.values())


@dataclass(slots=True, eq=False)
class _Channel:
    last: int = 0
    floor: int = 0  # The highest `to` of receipts that name it.
    keyed: bool = False
    promise: str | None = None  # `all`, `stream` (but not what has a key), `none`; None: look up.
    had: int = 0  # The lowest of its subscriptions; looked up with `promise`.


@dataclass(slots=True, eq=False)
class _Recovery:
    asked: frozenset[str]
    patterns: set[str]  # Those of them that are still subscribed to.
    seq: int
    full: bool


class Session:
    """One server's view of this client, kept over reconnects."""

    def __init__(self, parse_float: ParseFloat | None = None) -> None:
        self.epoch = ""
        self.up = False
        self.since = _NEVER
        """Everything after this seq was brought, or will be, without a gap."""
        self._parse_float = parse_float
        self._subscriptions: dict[str, _Subscription] = {}
        self._channels: dict[str, _Channel] = {}
        self._held: dict[str, bool] = {}  # What `holds` has found.
        self._announced = Channels()
        self._pending: dict[int, Request] = {}
        self._recoveries: list[_Recovery] = []
        self._request_id = 0
        self._tier_ms = 0
        self._forget_connection()

    def _forget_connection(self) -> None:
        self._announced.clear()
        self._pending.clear()
        self._recoveries.clear()
        self._live = 0  # The last seq that came in order, with no recovery running.
        self._beat = 0  # The same, of heartbeats only: sampled events come out of order.
        self._accounted = 0  # The last heartbeat, for the links of events.
        self._tier_ms = 0

    # Connections

    def connected(self, epoch: str) -> None:
        """A connection is up, and its welcome names `epoch`."""
        if epoch != self.epoch:
            self._channels.clear()
            self.since = _NEVER
            for subscription in self._subscriptions.values():
                subscription.base = subscription.had = 0
        self._forget_connection()
        self.epoch = epoch
        self.up = True

    def disconnected(self) -> list[Request]:
        """The connection has ended; gives the requests that will have no reply."""
        for subscription in self._subscriptions.values():
            subscription.claim = self._claim(subscription)
            subscription.recovering = False
            subscription.heal = None
        lost = list(self._pending.values())
        self._forget_connection()
        self.up = False
        return lost

    def adopt(self, other: Session) -> None:
        """Takes over what another session holds, and what it can claim, where that is further."""
        for pattern, theirs in other._subscriptions.items():
            new = _Subscription(
                pattern, theirs.terms, interval_ms=theirs.interval_ms, policies=theirs.policies
            )
            mine = self._subscriptions.setdefault(pattern, new)
            mine.terms = theirs.terms
            known = (one for one in (mine.claim, other._claim(theirs)) if one is not None)
            mine.claim = max(
                known, key=lambda one: (one.epoch == self.epoch, one.seq), default=None
            )
        self._terms_changed()

    def hold(self, patterns: Sequence[str], terms: Terms) -> list[Request]:
        """Another session was granted these: the requests for those that this one lacks."""
        held = self.subscriptions
        lacking = [pattern for pattern in patterns if held.get(pattern) != terms]
        for pattern in patterns:
            self._subscriptions.setdefault(pattern, _Subscription(pattern, terms)).terms = terms
        self._terms_changed()
        if not self.up:
            return []
        return [self._subscribe(part, terms, None, automatic=True) for part in parts_of(lacking)]

    def resubscribe(self) -> list[Request]:
        """The requests for all subscriptions on a new connection, from where they were.

        The server takes few replays at once: those of a kind go on from the lowest of their places.
        """
        groups: dict[Hashable, list[_Subscription]] = {}
        for one in self._subscriptions.values():
            epoch = one.claim.epoch if one.claim else None
            groups.setdefault((one.kind, epoch), []).append(one)
            one.recovering = True  # A heartbeat before the reply proves nothing of it.
        requests = []
        for group in groups.values():
            claim = min((one.claim for one in group if one.claim), default=None)
            for part in parts_of([one.pattern for one in group]):
                requests.append(self._subscribe(part, group[0].terms, claim, automatic=True))
        return requests

    # Requests

    @property
    def subscriptions(self) -> dict[str, Terms]:
        """The patterns that are subscribed to, or asked for again after a reconnect."""
        return {one.pattern: one.terms for one in self._subscriptions.values()}

    def subscribe(self, patterns: Sequence[str], terms: Terms, full: bool) -> list[Request]:
        """Requests of the application; `full`: what it held before is handed out again."""
        new = [pattern for pattern in patterns if pattern not in self._subscriptions]
        held = [pattern for pattern in patterns if pattern in self._subscriptions]
        return [
            *(self._subscribe(part, terms, None) for part in parts_of(new)),
            *(self._subscribe(part, terms, None, full=full) for part in parts_of(held)),
        ]

    def drop(self, patterns: Sequence[str]) -> None:
        """The application wants these patterns no more, nor what was asked of them until now."""
        for request in self._pending.values():
            request.dropped.update(patterns)
        self.ended(patterns)

    def ended(self, patterns: Sequence[str]) -> None:
        """From now on these patterns are not asked for any more."""
        for pattern in patterns:
            self._subscriptions.pop(pattern, None)
        for recovery in self._recoveries:
            recovery.patterns.difference_update(patterns)
        self._recoveries = [one for one in self._recoveries if one.patterns]
        self._terms_changed()

    def unsubscribe(self, patterns: Sequence[str]) -> list[Request]:
        """Requests of the application; see `drop`, too."""
        return [self.request("unsubscribe", {"channels": part}) for part in parts_of(patterns)]

    def request(self, method: str, params: dict[str, Any], automatic: bool = False) -> Request:
        """Any request; `automatic` ones were not asked for by the application."""
        self._request_id += 1
        request = Request(self._request_id, method, params, automatic=automatic)
        self._pending[request.id] = request
        return request

    def forget(self, request: Request) -> None:
        """Nobody waits for the reply of this request any more."""
        self._pending.pop(request.id, None)

    def _subscribe(
        self,
        patterns: Sequence[str],
        terms: Terms,
        claim: Position | None,
        full: bool = False,
        automatic: bool = False,
    ) -> Request:
        params = {"channels": list(patterns), **terms.params()}
        if claim is not None:
            params["resume"] = {"epoch": claim.epoch, "seq": claim.seq}
        request = self.request("subscribe", params, automatic)
        request.terms = terms
        request.full = full
        return request

    # Healing

    def heal(self, gap: Gap) -> bool:
        """Notes that a gap is to be healed; whether that is possible."""
        if gap.cause in _NOT_HEALED or gap.recover not in ("resume", "snapshot"):
            return False
        before = gap.from_seq - 1
        found = False
        for subscription in self._concerned(gap.channels):
            found = True
            subscription.claim = self._claim(subscription)
            if subscription.claim is not None:
                epoch, seq = subscription.claim
                subscription.claim = Position(epoch, min(seq, before))
            elif subscription.began is not None:
                epoch, seq = subscription.began
                subscription.began = Position(epoch, min(seq, before))
            subscription.recovering = True
            after = -1 if gap.recover == "snapshot" else before
            subscription.heal = (
                after if subscription.heal is None else min(after, subscription.heal)
            )
        return found

    def healing(self) -> list[Request]:
        """The requests for all that is to be healed; none while other recoveries run."""
        if self._recoveries or any(one.method == "subscribe" for one in self._pending.values()):
            return []
        groups: dict[Hashable, list[_Subscription]] = {}
        for one in self._subscriptions.values():
            if one.heal is not None:
                groups.setdefault((one.kind, one.heal < 0), []).append(one)
        requests = []
        for group in groups.values():
            terms, seq = group[0].terms, min(one.heal or 0 for one in group)
            claim = None if seq < 0 else Position(self.epoch, seq)
            wanted = terms if claim else replace(terms, snapshot=True)
            for one in group:
                one.heal = None
            for part in parts_of([one.pattern for one in group]):
                request = self._subscribe(part, wanted, claim, automatic=True)
                request.terms = terms
                requests.append(request)
        return requests

    def _concerned(self, channels: Iterable[str]) -> list[_Subscription]:
        names = set(channels)
        return [
            one
            for one in self._subscriptions.values()
            if one.pattern in names or any(matches(one.pattern, name) for name in names)
        ]

    def holds(self, names: Iterable[str]) -> bool:
        """Whether each of these channels and patterns is subscribed to."""
        for name in names:
            if name not in self._held:
                self._held[name] = name in self._subscriptions or (
                    is_name(name) and any(matches(p, name) for p in self._subscriptions)
                )
        return all(self._held[name] for name in names)

    # Positions

    def position(self) -> int:
        """Up to this seq of the epoch, everything of all subscriptions has come."""
        claims = [self._claim(one) for one in self._subscriptions.values()]
        if not claims:
            return self._live
        return min(one.seq if one and one.epoch == self.epoch else 0 for one in claims)

    def claims(self) -> dict[str, Position | None]:
        """What a resume of each pattern may claim."""
        return {one.pattern: self._claim(one) for one in self._subscriptions.values()}

    def _claim(self, one: _Subscription) -> Position | None:
        if one.recovering or one.claim is None or one.claim.epoch != self.epoch or not self.up:
            return one.claim
        sampled = one.interval_ms or (
            self._tier_ms and any(policy in ("auto", "latest") for policy in one.policies.values())
        )
        return Position(self.epoch, max(one.claim.seq, self._beat if sampled else self._live))

    # Messages

    def receive(self, raw: str | bytes) -> list[Output]:
        """One message of the server."""
        if isinstance(raw, bytes):
            event = self._announced.event(raw, self.epoch, self._parse_float)
            return [] if event is None else self._event(event)
        if is_event(raw):
            return self._event(Event(raw, self.epoch, self._parse_float))
        message = parse_control(raw)
        try:
            self._announced.learn(message)
            return self._reply(message) if "success" in message else self._notice(message)
        except (KeyError, TypeError, AttributeError) as error:
            raise ProtocolError(
                f"not a message of this protocol ({error!r}): {raw[:200]}"
            ) from error

    def _event(self, event: Event) -> list[Output]:
        channel = self._channels.get(event.channel)
        if channel is None:
            channel = self._channels[event.channel] = _Channel()
        if event.key is not None:
            channel.keyed = True
        promised = self._promised(event, channel)
        outputs: list[Output] = []
        full = False
        if self._recoveries:
            event.recovered = event.seq <= max(one.seq for one in self._recoveries)
            full = event.recovered and any(
                one.full and any(matches(pattern, event.channel) for pattern in one.patterns)
                for one in self._recoveries
            )
        else:
            known = max(channel.last, channel.floor, self._accounted)
            if event.prev > known and promised:
                known = max(known, self._base(event.channel))
                if event.prev > known:
                    hole = (event.channel,), known + 1, event.prev
                    outputs.append(Gap(*hole, missed=None, cause="hole", recover="resume"))
            self._live = max(self._live, event.seq)
        channel.last = max(channel.last, event.seq)
        if event.seq > channel.had:
            outputs.append(Arrival(event, promised, full))
        return outputs

    def _promised(self, event: Event, channel: _Channel) -> bool:
        if channel.promise is None:
            holding = [p for p in self._subscriptions if matches(p, event.channel)]
            channel.promise = self._promise(event.channel, holding)
            channel.had = min((self._subscriptions[p].had for p in holding), default=0)
        if channel.promise == "stream":
            return event.key is None and not channel.keyed
        return channel.promise == "all"

    def _promise(self, name: str, holding: Sequence[str]) -> str:
        best = most_specific(holding)
        if best is None:
            return "none"
        policies = self._subscriptions[best].policies
        exception = most_specific(p for p in policies if matches(p, name))
        policy = policies.get(exception or best, "latest")
        return {"auto": "stream", "latest": "none"}.get(policy, "all")

    def _base(self, name: str) -> int:
        subscriptions = self._subscriptions.values()
        return max((one.base for one in subscriptions if matches(one.pattern, name)), default=0)

    def _terms_changed(self) -> None:
        self._held.clear()
        for channel in self._channels.values():
            channel.promise = None

    def _reply(self, message: dict[str, Any]) -> list[Output]:
        request = self._pending.pop(message.get("req_id", -1), None)
        if request is None:
            return []
        outputs: list[Output] = [Reply(request, message)]
        if request.method == "subscribe":
            outputs.extend(self._subscribed(request, message))
        return outputs

    def _subscribed(self, request: Request, message: dict[str, Any]) -> list[Gap]:
        terms = request.terms or Terms()
        # Before the boundary is noted: what was claimed until now is what is claimed during it.
        claims = {one: self._claim(self._subscriptions[one]) for one in self._subscriptions}
        coming: dict[str, int] = {}
        gaps: list[Gap] = []
        for entry in message.get("result", []):
            pattern = entry["channel"]
            if "error" in entry:
                if request.automatic and not passes(entry["error"]):
                    self._subscriptions.pop(pattern, None)
                continue
            resumed = entry.get("resumed", False)
            if resumed or request.params["snapshot"]:
                coming[pattern] = entry["seq"]
            if pattern in request.dropped:
                continue
            one = self._subscriptions.setdefault(pattern, _Subscription(pattern, terms))
            one.terms = terms
            start = request.params["resume"]["seq"] if resumed else entry["seq"]
            claim = claims.get(pattern)
            had = claim.seq if claim and claim.epoch == self.epoch else 0
            # Where a gap is healed the replay begins later, and what waits before it is still owed.
            one.had = had if resumed else 0
            # A node that is behind the one before it sends nothing up to what was claimed.
            one.base = max(one.base, entry["seq"], *((start, had) if resumed else ()))
            _note_terms(one, entry)
            if "resume" not in request.params:
                gaps.extend(self._interrupted(one, entry["seq"]))
            if pattern in coming:
                # What the server has lost (`ahead`) cannot be claimed of it again.
                one.claim = None if entry.get("why") == "ahead" else claim
                one.recovering = True
                if one.claim is None and "resume" not in request.params:
                    one.began = Position(self.epoch, entry["seq"])
            else:
                one.claim = Position(self.epoch, entry["seq"])
                one.recovering = False
            if self.since == _NEVER or not resumed:
                self.since = start
        wanted = set(coming) - request.dropped
        if wanted:
            recovery = _Recovery(frozenset(coming), wanted, max(coming.values()), request.full)
            self._recoveries.append(recovery)
        self._terms_changed()
        return gaps

    def _interrupted(self, one: _Subscription, seq: int) -> list[Gap]:
        """The gap after a first snapshot that broke off: there was nothing to resume from."""
        if one.began is None or one.claim is not None or set(one.policies.values()) == {"latest"}:
            return []
        again = one.began.epoch == self.epoch
        first, cause = (one.began.seq + 1, "interrupted") if again else (1, "epoch")
        if first > seq:
            return []
        recover = "resume" if again else "none"
        return [Gap((one.pattern,), first, seq, missed=None, cause=cause, recover=recover)]

    def _notice(self, message: dict[str, Any]) -> list[Output]:
        kind = message.get("type", "")
        if kind == "heartbeat":
            self._accounted = message["seq"]
            if not self._recoveries:
                self._live = max(self._live, message["seq"])
                self._beat = max(self._beat, message["seq"])
            return []
        if kind in ("snapshot_end", "replay_end"):
            return self._recovered(message)
        if kind == "gap":
            return [self._gap(message)]
        if kind == "unsubscribed":
            self.ended(message["channels"])
        elif kind == "tier":
            self._tier_noted(message["interval_ms"])
        return [Notice(kind, message)]

    def _tier_noted(self, interval_ms: int) -> None:
        # What was sampled until now, or will be from now on, is claimed up to here at most.
        for one in self._subscriptions.values():
            one.claim = self._claim(one)
        self._tier_ms = interval_ms

    def _gap(self, message: dict[str, Any]) -> Gap:
        channels, last = tuple(message["channels"]), message["to"]
        for name in channels:
            if is_name(name):
                channel = self._channels.setdefault(name, _Channel())
                channel.floor = max(channel.floor, last)
            if name in self._subscriptions:
                one = self._subscriptions[name]
                one.base = max(one.base, last)
        if self.since != _NEVER:
            self.since = max(self.since, last)
        missed, cause = message.get("missed"), message["cause"]
        return Gap(channels, message["from"], last, missed, cause, message.get("recover", "none"))

    def _recovered(self, message: dict[str, Any]) -> list[Output]:
        channels, seq = tuple(message["channels"]), message["seq"]
        found = next((one for one in self._recoveries if one.asked == set(channels)), None)
        if found is None:
            return []  # All of it was unsubscribed meanwhile.
        self._recoveries.remove(found)
        for pattern in found.patterns:
            one = self._subscriptions.get(pattern)
            if one is None:
                continue
            one.base = max(one.base, seq)
            if one.heal is None and not any(pattern in more.patterns for more in self._recoveries):
                had = one.claim.seq if one.claim and one.claim.epoch == self.epoch else 0
                one.claim = Position(self.epoch, max(seq, had))
                one.recovering = False
        return [Recovered(channels, seq)]


def _note_terms(one: _Subscription, entry: dict[str, Any]) -> None:
    rules = [entry, *entry.get("except", [])]
    one.policies = {rule["channel"]: rule.get("policy", "auto") for rule in rules}
    one.interval_ms = max(rule.get("interval_ms", 0) for rule in rules)
