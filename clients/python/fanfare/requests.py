"""What is asked of the server, and what its replies say. Not here: what follows from them.

Invariant: a request is smaller than the smallest `message_bytes_max` that is sensible.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import RequestError
from .messages import Subscribed, Terms

CHANNELS_BYTES_MAX = 32_768  # Of a request's `channels`.

# Another time helps only once something else is unsubscribed.
_OWN_LIMITS = frozenset(("too_many_subscriptions", "too_many_policies"))


@dataclass(slots=True, eq=False)
class Request:
    """A message to the server; its reply is found by `id`."""

    id: int
    method: str
    params: dict[str, Any]
    terms: Terms | None = None
    full: bool = False
    automatic: bool = False
    dropped: set[str] = field(default_factory=set)  # Patterns that nobody wants any more.

    @property
    def messages(self) -> int:
        """As how many messages the server counts it."""
        return 1 + len(self.params.get("channels", ())) // 100

    @property
    def text(self) -> str:
        """As it goes over the wire."""
        message: dict[str, Any] = {"method": self.method, "req_id": self.id}
        if self.params:
            message["params"] = self.params
        return json.dumps(message, separators=(",", ":"))


def parts_of(patterns: Sequence[str]) -> list[list[str]]:
    """Patterns in parts that one request holds."""
    parts: list[list[str]] = []
    size = CHANNELS_BYTES_MAX
    for pattern in patterns:
        if size + len(pattern) + 3 > CHANNELS_BYTES_MAX or len(parts[-1]) == 1_000:
            parts.append([])
            size = 0
        parts[-1].append(pattern)
        size += len(pattern) + 3
    return parts


def subscribed(body: dict[str, Any]) -> list[Subscribed]:
    """The entries of a reply to `subscribe` that were granted."""
    return [
        Subscribed(
            entry["channel"],
            entry["seq"],
            entry.get("matched", 0),
            entry.get("policy", ""),
            entry.get("max_age_ms"),
            entry.get("max_lag_bytes"),
            entry.get("interval_ms"),
        )
        for entry in body.get("result", [])
        if "error" not in entry
    ]


def passes(error: dict[str, Any]) -> bool:
    """Whether what was refused with this error is taken later, without a change of the set."""
    return bool(error.get("retryable")) and error.get("code") not in _OWN_LIMITS


def error_of(body: dict[str, Any]) -> RequestError | None:
    """The first error of a reply."""
    if body.get("success"):
        return None
    error = body.get("error", {})
    code, message = error.get("code", "unknown"), error.get("message", "")
    return RequestError(code, message, bool(error.get("retryable")))
