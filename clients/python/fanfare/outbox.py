"""What goes out over one connection: in the order of the calls, no faster than its server takes.

Not here: what is asked for (`session`), pongs. Invariant: no request overtakes another one, so that
an `unsubscribe` comes after what it ends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from websockets.asyncio.client import ClientConnection

from .errors import FanfareError
from .requests import Request
from .session import Session


class LostError(FanfareError):
    """The connection ended before the reply came; ask again."""


class Pace:
    """The server's count of messages: one is paid for in `1 / rate` s, a burst may be in debt.

    Half of the burst is left to pongs, to what a `verify` costs, and to messages that bunch up.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._message_s = 1 / rate
        self._debt_s = burst / 2 / rate
        self._paid_at = 0.0

    def wait_s(self, now: float, messages: int) -> float:
        """How long this many messages, to be sent at once, have to wait; they are counted."""
        debt_s = max(0.0, self._paid_at - now)
        more_s = messages * self._message_s
        self._paid_at = now + debt_s + more_s
        return min(debt_s, max(0.0, debt_s + more_s - self._debt_s))


class Outbox:
    """Sends the requests of one session over one connection."""

    def __init__(self, session: Session, socket: ClientConnection, pace: Pace) -> None:
        self._session = session
        self._socket = socket
        self._pace = pace
        self._turn = asyncio.Lock()
        self._ended = False

    async def send(self, requests: Sequence[Request]) -> None:
        """Sends them one after the other, after those of earlier calls."""
        clock = asyncio.get_running_loop().time
        waiting = deque(requests)
        try:
            async with self._turn:
                while waiting:
                    if self._ended:
                        raise LostError("the connection ended before the request was sent")
                    wait_s = self._pace.wait_s(clock(), waiting[0].messages)
                    if wait_s > 0:
                        await asyncio.sleep(wait_s)
                    await self._socket.send(waiting.popleft().text)
        finally:
            for request in waiting:
                self._session.forget(request)

    def end(self) -> None:
        """The connection is gone: nothing waits for its turn any more."""
        self._ended = True
