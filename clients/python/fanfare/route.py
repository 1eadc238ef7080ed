"""Which node a connection goes to, and which next: those it was given, and what a drain names.

Values in, values out. Not here: when (`retry`), and the connection (`link`). Invariants: there is
always an address, and none that a server has named leads from `wss` to `ws`.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence


class Route:
    """The addresses of one connection; the first one is in use, or its turn has come."""

    def __init__(self, nodes: Sequence[str]) -> None:
        self._nodes = list(nodes)
        self._targets = list(nodes)

    @property
    def url(self) -> str:
        """The address to connect to, or connected to."""
        return self._targets[0]

    def failed(self, taken: Collection[str] = ()) -> None:
        """Another node's turn; one where another connection is (`taken`) only if all are."""
        for _ in self._targets:
            self._targets.append(self._targets.pop(0))
            if self._targets[0] not in taken:
                return
        self._targets.append(self._targets.pop(0))

    def refused(self, taken: Collection[str] = ()) -> bool:
        """The node will not serve, and is asked no more; false if it is the last one."""
        if len(self._targets) == 1:
            return False
        gone = self._targets[0]
        self.failed(taken)
        self._targets.remove(gone)
        if gone in self._nodes and len(self._nodes) > 1:
            self._nodes.remove(gone)
        return True

    def drained(self, to: Sequence[str], taken: Collection[str] = ()) -> None:
        """The node is to be left: for one of those that it names, else for another of ours."""
        leaving = self.url
        named = [one for one in to if as_safe(one, leaving) and one != leaving]
        ours = [one for one in self._nodes if one != leaving]
        # All its clients are told the same: each begins at another one.
        order = [*random.sample(named, len(named)), *ours]
        free = [one for one in order if one not in taken]
        held = [one for one in order if one in taken]
        self._targets = list(dict.fromkeys([*free, leaving, *held]))


def as_safe(target: str, url: str) -> bool:
    """A server may not lead from wss to ws, where a credential could be read."""
    return target.startswith("wss:") or (target.startswith("ws:") and url.startswith("ws:"))
