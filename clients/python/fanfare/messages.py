"""The messages of the protocol as values. Not here: what they mean for a connection.

Invariant: `Event.raw` is the message as it came; everything else of an event is read from it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from .errors import ProtocolError

ParseFloat = Callable[[str], Any]
Policy = Literal["auto", "all", "latest", "close", "unsubscribe"]

# A string of JSON cannot hold these characters: its quotes would be escaped.
_DATA = ',"data":'
_UNREAD: Any = object()


class Position(NamedTuple):
    """A place in the server's one order of events: everything up to `seq` of `epoch`."""

    epoch: str
    seq: int


class Event:
    """One event. Its `data` is parsed when it is first asked for, and never before."""

    __slots__ = (
        "channel",
        "key",
        "kind",
        "seq",
        "prev",
        "ts",
        "ts_in",
        "epoch",
        "recovered",
        "raw",
        "_data",
        "_data_at",
        "_parse_float",
    )

    channel: str
    """Name of the channel."""
    key: str | None
    """Of last-value data, what this is the value of."""
    kind: str
    """`update`, or `snapshot`: drop what you have of this channel and key, and begin with it."""
    seq: int
    """Its place among all events of the epoch."""
    prev: int
    """The `seq` of the event before it on its channel; 0 if it is the first."""
    ts: int | None
    """The producer's time, nanoseconds since the Unix epoch."""
    ts_in: int
    """When the server took it in, nanoseconds since the Unix epoch."""
    epoch: str
    """The numbering that `seq` belongs to. With another one, drop what you keep."""
    recovered: bool
    """Whether it came in a snapshot or a replay, rather than live."""
    raw: str
    """The message as it came."""

    def __init__(self, raw: str, epoch: str = "", parse_float: ParseFloat | None = None) -> None:
        at = raw.find(_DATA)
        try:
            head = json.loads(raw[:at] + "}")
            self.channel = head["channel"]
            self.kind = head["type"]
            self.seq = head["seq"]
            self.prev = head["prev"]
            self.ts_in = head["ts_in"]
        except (ValueError, KeyError, TypeError) as error:
            raise ProtocolError(f"not an event ({error!r}): {raw[:200]}") from error
        self.key = head.get("key")
        self.ts = head.get("ts")
        self.epoch = epoch
        self.recovered = False
        self.raw = raw
        self._data = _UNREAD
        self._data_at = at + len(_DATA)
        self._parse_float = parse_float

    @classmethod
    def assemble(
        cls,
        channel: str,
        key_text: str,
        kind: str,
        numbers: tuple[int, int, int | None, int],
        data_text: str,
        epoch: str,
        parse_float: ParseFloat | None,
    ) -> Event:
        """The event of its parts: `seq`, `prev`, `ts`, `ts_in`, and JSON texts (no key: empty)."""
        self = cls.__new__(cls)
        self.channel = channel
        self.key = json.loads(key_text) if key_text else None
        self.kind = kind
        self.seq, self.prev, self.ts, self.ts_in = numbers
        key = f',"key":{key_text}' if key_text else ""
        ts = "" if self.ts is None else f',"ts":{self.ts}'
        head = (
            f'{{"channel":"{channel}","type":"{kind}"{key},"seq":{self.seq},"prev":{self.prev}'
            f'{ts},"ts_in":{self.ts_in}{_DATA}'
        )
        self.epoch = epoch
        self.recovered = False
        self.raw = f"{head}{data_text}}}"
        self._data = _UNREAD
        self._data_at = len(head)
        self._parse_float = parse_float
        return self

    @property
    def data_text(self) -> str:
        """The producer's payload, character for character."""
        return self.raw[self._data_at : -1]

    @property
    def data(self) -> Any:
        """The producer's payload, parsed."""
        if self._data is _UNREAD:
            self._data = json.loads(self.data_text, parse_float=self._parse_float)
        return self._data

    def __repr__(self) -> str:
        key = "" if self.key is None else f" key={self.key!r}"
        return f"<Event {self.channel}{key} {self.kind} seq={self.seq} {self.data_text[:60]}>"


@dataclass(frozen=True, slots=True)
class Gap:
    """Events of `channels` between `from_seq` and `to_seq`, both included, did not come."""

    channels: tuple[str, ...]
    """Where something may be missing; with many channels, your patterns."""
    from_seq: int
    """The first of the range, which counts all channels."""
    to_seq: int
    """The last of the range."""
    missed: int | None
    """Exactly how many events of `channels`, or None where nobody can know."""
    cause: str
    """The server's cause, or `hole`: found by `prev`, without a receipt; a fault on the way."""
    recover: str
    """What may bring them: `resume`, `snapshot` or `none`."""


@dataclass(frozen=True, slots=True)
class State:
    """What happened to a connection or to subscriptions."""

    kind: Literal["connected", "live", "draining", "reconnecting", "unsubscribed", "tier", "ended"]
    """`live`: a snapshot or replay of `channels` is complete. `ended`: there is no retry."""
    url: str = ""
    """The server."""
    why: str = ""
    """A text for people."""
    delay: float | None = None
    """Seconds until it connects again (`reconnecting`, `draining`)."""
    channels: tuple[str, ...] = ()
    """The patterns concerned (`live`, `unsubscribed`)."""
    seq: int | None = None
    """Up to where everything is there (`live`)."""


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The terms in effect for one pattern, as the server granted them."""

    channel: str
    """The pattern."""
    seq: int
    """The boundary: events after it come live."""
    matched: int
    """How many channels it matches now."""
    policy: str
    """What happens when you read too slowly."""
    max_age_ms: int | None = None
    """How long an event may wait before the policy acts."""
    max_lag_bytes: int | None = None
    """How many bytes may wait before the policy acts."""
    interval_ms: int | None = None
    """At most one event of each key in this time."""


@dataclass(frozen=True, slots=True)
class Verified:
    """The server's own hash of a channel's state; compare it with `StateHash.of`."""

    channel: str
    """Name of the channel."""
    seq: int
    """The hash is of the state right after this event, the channel's newest."""
    values: int
    """How many keys are in the state."""
    hash: str
    """CRC-32 in 8 lower-case hexadecimal digits."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a subscription asks for."""

    policy: Policy | None = None
    snapshot: bool = True
    max_age_ms: int | None = None
    max_lag_bytes: int | None = None
    interval_ms: int | None = None

    def params(self) -> dict[str, Any]:
        """As members of a request's `params`."""
        wanted = {
            "policy": self.policy,
            "max_age_ms": self.max_age_ms,
            "max_lag_bytes": self.max_lag_bytes,
            "interval_ms": self.interval_ms,
        }
        present: dict[str, Any] = {
            name: value for name, value in wanted.items() if value is not None
        }
        return {**present, "snapshot": self.snapshot}


def is_event(raw: str) -> bool:
    """Whether a message is an event, rather than a reply or a notice."""
    return raw.startswith('{"channel":') and not raw.startswith('{"channel":"control"')


def parse_control(raw: str) -> dict[str, Any]:
    """A reply or a notice."""
    try:
        message = json.loads(raw)
    except ValueError as error:
        raise ProtocolError(f"not JSON ({error}): {raw[:200]}") from error
    if not isinstance(message, dict):
        raise ProtocolError(f"not an object: {raw[:200]}")
    return message
