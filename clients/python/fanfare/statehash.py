"""The hash of a channel's state, as the server computes it for `verify`.

Invariant: one running CRC-32 for each channel and key; no payload is kept.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field

from .messages import Event, Verified

# A channel's name needs no escapes, so the first ,"key": outside of `data` is the member.
_KEY = re.compile(r',"key":("(?:[^"\\]|\\.)*")')


@dataclass(slots=True)
class _State:
    epoch: str
    seq: int = 0
    crcs: dict[str, int] = field(default_factory=dict)
    books: set[str] = field(default_factory=set)


class StateHash:
    """Feed it every event of the channels to be verified; ask `agrees` with `feed.verify`'s answer.

    Events must come in order for each key, as an iteration gives them. Events of channels with a
    snapshot (`snapshot=True`) only: without one, the state is not whole.
    """

    def __init__(self) -> None:
        self._states: dict[str, _State] = {}

    def apply(self, event: Event) -> None:
        """Takes in an event. One of another epoch begins its channel anew."""
        state = self._states.get(event.channel)
        if state is None or state.epoch != event.epoch:
            state = self._states[event.channel] = _State(event.epoch)
        state.seq = max(state.seq, event.seq)
        key = _raw_key(event)
        if event.kind == "snapshot":
            state.books.add(key)
        elif key in state.books:
            state.crcs[key] = zlib.crc32(event.raw.encode(), state.crcs[key])
            return
        elif event.key is None:
            return
        state.crcs[key] = zlib.crc32(event.raw.encode())

    def of(self, channel: str) -> Verified:
        """The hash of what was applied to a channel, and the last `seq` of that."""
        state = self._states.get(channel) or _State("")
        lines = [(key.encode(), f"{key}:{crc:08x}\n".encode()) for key, crc in state.crcs.items()]
        text = b"".join(line for _, line in sorted(lines))
        return Verified(channel, state.seq, len(lines), f"{zlib.crc32(text):08x}")

    def agrees(self, verified: Verified) -> bool | None:
        """Whether the copy is the server's; None where they are not at the same `seq` (yet).

        The answer of `verify` may overtake events: apply those first. Of a conflated channel, and
        one that moves fast, ask again.
        """
        mine = self.of(verified.channel)
        if mine.seq != verified.seq:
            return None
        return mine == verified


def _raw_key(event: Event) -> str:
    if event.key is None:
        return "null"
    found = _KEY.search(event.raw)
    return found[1] if found else "null"
