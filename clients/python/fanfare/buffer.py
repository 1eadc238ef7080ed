"""What waits between the sockets and the application, and how much of it may.

Invariant: at most `limit` items wait, and what one message gave on top; `LIFTED` times as many
while a call waits for its reply, which lies behind them. Then reading stops.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")

LIFTED = 16


class Buffer(Generic[Item]):
    """A bounded queue with several writers, one reader and an end."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: deque[Item] = deque()
        self._calls = 0
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._ended = False
        self._error: BaseException | None = None

    def __len__(self) -> int:
        return len(self._items)

    async def put(self, items: Sequence[Item]) -> None:
        """Adds items, then waits until there is room for more."""
        if not self._ended:
            self._items.extend(items)
            self._filled.set()
        while not self._ended and len(self._items) >= self._limit * (LIFTED if self._calls else 1):
            self._room.clear()
            await self._room.wait()

    async def get(self) -> Item:
        """The next item; `StopAsyncIteration` or the error at the end."""
        while not self._items:
            await self._wait()
        item = self._items.popleft()
        self._taken()
        return item

    async def take(self) -> list[Item]:
        """All items, at least one."""
        while not self._items:
            await self._wait()
        items = list(self._items)
        self._items.clear()
        self._taken()
        return items

    def end(self, error: BaseException | None) -> None:
        """Nothing more will come. What is there can still be taken."""
        self._ended = True
        self._error = self._error or error
        self._filled.set()
        self._room.set()

    def call_began(self) -> None:
        """The application waits for a reply, and may not be taking items."""
        self._calls += 1
        self._room.set()

    def call_ended(self) -> None:
        """It does not wait any more."""
        self._calls -= 1

    async def _wait(self) -> None:
        if self._ended:
            raise self._error or StopAsyncIteration
        self._filled.clear()
        await self._filled.wait()

    def _taken(self) -> None:
        if len(self._items) <= self._limit // 2:
            self._room.set()
