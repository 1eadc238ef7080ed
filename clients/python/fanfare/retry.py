"""When to connect again, and when not. Not here: the clock and the socket.

Invariant: bounds and codes are those of docs/PROTOCOL.md, "Closing" and "When the server refuses".
"""

from __future__ import annotations

import random

DELAY_S_MAX = 30.0
DELAY_S_FIRST = 0.25
GOOD_AFTER_S = 10.0
HEARTBEATS_MISSED_MAX = 3
CREDENTIAL_EXPIRED = 4002

_FINAL_CODES = frozenset({1002, 1003, 1007, 1008, 1009})
_RETRIED_STATUSES = frozenset({408, 429})


def code_is_final(code: int) -> bool:
    """Whether a close code of the server says that a retry is pointless."""
    return code in _FINAL_CODES or 4000 <= code <= 4099


def status_is_final(status: int) -> bool:
    """Whether an answer to the upgrade request says that a retry is pointless."""
    return 400 <= status <= 499 and status not in _RETRIED_STATUSES


def retry_after_s(header: str | None) -> float:
    """The seconds of a `Retry-After` header; 0 where it is absent or a date."""
    try:
        return max(0.0, float(int(header or 0)))
    except ValueError:
        return 0.0


class Backoff:
    """Exponential, with full jitter. It begins anew after a connection that was good."""

    def __init__(self, chance: random.Random | None = None) -> None:
        self._attempt = 0
        self._chance = chance or random.Random()

    def lasted(self, seconds: float) -> None:
        """A connection has ended after this time."""
        if seconds >= GOOD_AFTER_S:
            self._attempt = 0

    def next(self, asked_s: float = 0.0) -> float:
        """Seconds to wait, on top of what the server asked for."""
        most = min(DELAY_S_MAX, DELAY_S_FIRST * 2.0**self._attempt)
        self._attempt = min(self._attempt + 1, 16)
        return asked_s + self._chance.uniform(0.0, most)
