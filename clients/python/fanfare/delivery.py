"""Each event once: what the application was given, whichever connection brought it.

Not here: the protocol. Invariant: of a key, and of a book, nothing is handed out after something
newer; of a stream without keys, what was missing may come late, and is handed out once as well.
Memory grows with the number of channels and keys, and with nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .messages import Gap
from .patterns import matches
from .session import Arrival, Session

HOLES_MAX = 64
PENDING_GAPS_MAX = 64


@dataclass(slots=True)
class _Channel:
    last: int | None = None
    keys: dict[str | None, int] = field(default_factory=dict)
    books: set[str | None] = field(default_factory=set)
    holes: list[tuple[int, int]] = field(default_factory=list)  # After, before; both excluded.


class Delivery:
    """Merges what one or more sessions bring."""

    def __init__(self, sessions: Sequence[Session]) -> None:
        self._sessions = sessions
        self._channels: dict[str, _Channel] = {}
        self._pending: list[tuple[Gap, Session]] = []
        self._gapped: dict[str, int] = {}  # By pattern or name: the seq before its first gap.

    def clear(self) -> None:
        """Another epoch begins."""
        self._channels.clear()
        self._pending.clear()
        self._gapped.clear()

    def take(self, arrival: Arrival) -> bool:
        """Whether the application is to get this event."""
        event = arrival.event
        channel = self._channels.get(event.channel)
        if channel is None:
            channel = self._channels[event.channel] = _Channel(self._begun(event.channel))
        key, seq = event.key, event.seq
        if event.kind == "snapshot":
            channel.books.add(key)
        stream = key is None and not channel.books
        seen = channel.keys.get(key, 0)
        if seq > seen:
            known = channel.last
            if stream and arrival.promised and known is not None and known < event.prev:
                channel.holes = channel.holes[1 - HOLES_MAX :] + [(known, seq)]
        elif stream and self._fills(channel, seq):
            event.recovered = True
            return True
        elif not (arrival.full and (event.kind == "snapshot" or (not stream and seq == seen))):
            return False
        channel.keys[key] = seq
        channel.last = max(channel.last or 0, seq)
        return True

    def _fills(self, channel: _Channel, seq: int) -> bool:
        for index, (after, before) in enumerate(channel.holes):
            if after < seq < before:
                # What a connection brings of a stream is in order: nothing older is to come.
                channel.holes[index] = (seq, before)
                return True
        return False

    def gap(self, origin: Session, gap: Gap) -> list[Gap]:
        """The gaps to report now: not one that another connection fills, or has filled."""
        for name in gap.channels:
            self._gapped.setdefault(name, gap.from_seq - 1)
        other = self._who_covers(origin, gap)
        if other is not None:
            self._pending.append((gap, other))
            return self.settle()
        return [*self.settle(), gap]

    def _begun(self, name: str) -> int | None:
        """Of a channel of which nothing came before a gap, what is missing may be filled, too."""
        starts = (start for pattern, start in self._gapped.items() if matches(pattern, name))
        return min(starts, default=None)

    def settle(self) -> list[Gap]:
        """The gaps that were to be filled by another connection, and will not be."""
        report, keep = [], []
        for gap, other in self._pending:
            if not _covers(other, gap):
                report.append(gap)
            elif other.position() < gap.to_seq:
                keep.append((gap, other))
        for gap, _ in keep[:-PENDING_GAPS_MAX]:
            report.append(gap)
        self._pending = keep[-PENDING_GAPS_MAX:]
        return report

    @property
    def waits(self) -> bool:
        """Whether `settle` is to be asked after the next messages."""
        return bool(self._pending)

    def _who_covers(self, origin: Session, gap: Gap) -> Session | None:
        others = (one for one in self._sessions if one is not origin)
        return next((one for one in others if _covers(one, gap)), None)


def _covers(session: Session, gap: Gap) -> bool:
    return session.up and session.since < gap.from_seq and session.holds(gap.channels)
