"""The blocking client: the calls of the asyncio client, whose event loop runs in a thread.

Invariant: callbacks are called in the thread that iterates.
"""

from __future__ import annotations

import asyncio
import ssl as tls
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Literal, TypeVar

from . import client
from .link import Item, Token
from .messages import Event, Gap, ParseFloat, Policy, State, Subscribed, Terms, Verified

Result = TypeVar("Result")


def connect(
    url: str | Sequence[str],
    *,
    mode: Literal["single", "ab"] | None = None,
    token: Token | None = None,
    ssl: tls.SSLContext | None = None,
    heal: bool = False,
    parse_float: ParseFloat | None = None,
    on_gap: Callable[[Gap], object] | None = None,
    on_state: Callable[[State], object] | None = None,
    queue_size: int = 1_024,
    open_timeout: float = 10.0,
    request_timeout: float = 30.0,
    max_size: int = 64 << 20,
    binary: bool = False,
) -> Feed:
    """A blocking feed: `with fanfare.sync.connect(url) as feed`. Options as `fanfare.connect`."""
    return Feed(
        client.connect(
            url,
            mode=mode,
            token=token,
            ssl=ssl,
            heal=heal,
            parse_float=parse_float,
            on_gap=on_gap,
            on_state=on_state,
            queue_size=queue_size,
            open_timeout=open_timeout,
            request_timeout=request_timeout,
            max_size=max_size,
            binary=binary,
        )
    )


class Feed:
    """As `fanfare.Feed`, for threads. One thread may iterate; others may call the rest."""

    def __init__(self, feed: client.Feed) -> None:
        self._feed = feed
        self._taken: deque[Item] = deque()

    def __enter__(self) -> Feed:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fanfare", daemon=True)
        self._thread.start()
        try:
            self._run(self._feed.__aenter__())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        finally:
            self._stop()

    def close(self) -> None:
        """Ends all connections; what waits can still be iterated over within the `with` block."""
        self._run(self._feed.close())

    def subscribe(
        self,
        *channels: str | Iterable[str],
        policy: Policy | None = None,
        snapshot: bool = True,
        max_age_ms: int | None = None,
        max_lag_bytes: int | None = None,
        interval_ms: int | None = None,
    ) -> list[Subscribed]:
        """See `fanfare.Feed.subscribe`."""
        return self._run(
            self._feed.subscribe(
                *channels,
                policy=policy,
                snapshot=snapshot,
                max_age_ms=max_age_ms,
                max_lag_bytes=max_lag_bytes,
                interval_ms=interval_ms,
            )
        )

    def unsubscribe(self, *channels: str | Iterable[str]) -> None:
        """See `fanfare.Feed.unsubscribe`."""
        self._run(self._feed.unsubscribe(*channels))

    def verify(self, channel: str) -> Verified:
        """See `fanfare.Feed.verify`."""
        return self._run(self._feed.verify(channel))

    @property
    def subscriptions(self) -> dict[str, Terms]:
        """The patterns that are asked for after each reconnect."""
        return self._feed.subscriptions

    @property
    def gaps(self) -> deque[Gap]:
        """The last gaps that the iteration has come to."""
        return self._feed.gaps

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        event = self.next()
        assert event is not None, "without a timeout there is always one"
        return event

    def next(self, timeout: float | None = None) -> Event | None:
        """The next event; None when there is none for `timeout` seconds.

        Raises `StopIteration` when the feed was closed and everything was taken.
        """
        while True:
            while self._taken:
                event = self._feed.handed(self._taken.popleft())
                if event is not None:
                    return event
            if not self._refill(timeout):
                return None

    def _refill(self, timeout: float | None) -> bool:
        try:
            self._taken.extend(self._run(self._take(timeout)))
        except asyncio.TimeoutError:
            return False
        return True

    async def _take(self, timeout: float | None) -> list[Item]:
        try:
            return await asyncio.wait_for(self._feed.buffer.take(), timeout)
        except StopAsyncIteration:
            raise _EndError from None

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except _EndError:
            raise StopIteration from None
        except BaseException:
            future.cancel()
            raise

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class _EndError(Exception):
    """The feed was closed, and everything was taken."""
