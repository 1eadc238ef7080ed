"""Which pattern of a set holds for a channel. Not here: what the patterns' terms are.

Invariant: the order of patterns is the server's: token by token, a name before `*` before `>`.
"""

from __future__ import annotations

from collections.abc import Iterable


def matches(pattern: str, channel: str) -> bool:
    """Whether `channel` is covered: `*` stands for one token, a last `>` for one or more."""
    wanted, tokens = pattern.split("."), channel.split(".")
    for index, token in enumerate(wanted):
        if token == ">":
            return index == len(wanted) - 1 and len(tokens) > index
        if index >= len(tokens) or token not in ("*", tokens[index]):
            return False
    return len(tokens) == len(wanted)


def most_specific(patterns: Iterable[str]) -> str | None:
    """Of patterns that match one channel, the one whose terms hold."""
    return min(patterns, key=_rank, default=None)


def is_name(pattern: str) -> bool:
    """Whether it is the name of one channel."""
    return "*" not in pattern and ">" not in pattern


def _rank(pattern: str) -> list[int]:
    return [{"*": 1, ">": 2}.get(token, 0) for token in pattern.split(".")]
