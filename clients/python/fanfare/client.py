"""The asyncio client. Not here: one connection (`link`), what its messages mean (`session`).

Invariant: what the application is given is in one order: events, gaps and changes of state come out
of one queue, and callbacks are called when the iteration reaches them.
"""

from __future__ import annotations

import asyncio
import random
import ssl as tls
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Sequence
from types import TracebackType
from typing import Any, Literal, TypeVar

from .buffer import Buffer
from .delivery import Delivery
from .errors import FanfareError, UnreachableError
from .link import Item, Link, Options, Token
from .messages import Event, Gap, ParseFloat, Policy, State, Subscribed, Terms, Verified
from .outbox import LostError
from .session import Session

Result = TypeVar("Result")

GAPS_KEPT = 1_000


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
    """A feed: `async with fanfare.connect("ws://127.0.0.1:9001/v1") as feed`.

    - `url`: the server, or the nodes of a cluster. Each connection begins at a random one, and
      goes to another when that one fails or drains.
    - `mode`: `ab`, two connections at once, to different nodes if there are several (the default
      where there are); or `single`, one connection.
    - `token`: a credential, or a function (async or not) that gives one. It is asked at each
      connect, and when the server says that the credential is about to end.
    - `ssl`: for `wss` URLs, instead of Python's default context.
    - `heal`: after a gap ask the server again for what was missed, where it says that it can.
    - `parse_float`: what makes numbers with a point in `Event.data`, such as `decimal.Decimal`.
    - `on_gap`, `on_state`: called by the iteration, between the events where it happened.
    - `queue_size`: how many events may wait for the application. Then reading stops, and the
      policy of each subscription says what the server does.
    - `open_timeout`: seconds for the first connection to come up, and for each attempt.
    - `request_timeout`: seconds for a reply, reconnects included.
    - `max_size`: bytes of one message; a longer one ends the connection.
    - `binary`: ask for the binary form, which says the same in fewer bytes; the server decides.
    """
    urls = [url] if isinstance(url, str) else list(url)
    if not urls:
        raise ValueError("no url")
    if mode is None:
        mode = "ab" if len(urls) > 1 else "single"
    # Clients that were all given the same list are not to begin at the same node.
    nodes = random.sample(list(dict.fromkeys(urls)), len(set(urls)))
    groups = [nodes, nodes[1:] + nodes[:1]] if mode == "ab" else [nodes]
    options = Options(token, ssl, heal, parse_float, open_timeout, max_size, binary)
    return Feed(groups, options, on_gap, on_state, queue_size, request_timeout)


class Feed:
    """Events of all subscriptions, whatever happens to connections. Made by `connect`."""

    def __init__(
        self,
        groups: Sequence[Sequence[str]],
        options: Options,
        on_gap: Callable[[Gap], object] | None,
        on_state: Callable[[State], object] | None,
        queue_size: int,
        request_timeout: float,
    ) -> None:
        self.options = options
        self.epoch = ""
        """The numbering that `seq` belongs to."""
        self.gaps: deque[Gap] = deque(maxlen=GAPS_KEPT)
        """The last gaps that the iteration has come to."""
        self.buffer: Buffer[Item] = Buffer(queue_size)
        self._on_gap = on_gap
        self._on_state = on_state
        self._request_timeout = request_timeout
        self._links = [Link(self, nodes) for nodes in groups]
        self.sessions: Sequence[Session] = [link.session for link in self._links]
        self.delivery = Delivery(self.sessions)
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        self._error: BaseException | None = None
        self._closed = False
        self._links_left = len(self._links)

    # Life

    async def __aenter__(self) -> Feed:
        self._tasks = [asyncio.create_task(self._keep(link)) for link in self._links]
        try:
            await asyncio.wait_for(self._up(), self.options.open_timeout)
        except asyncio.TimeoutError:
            await self.close()
            why = "; ".join(f"{link.url}: {link.why}" for link in self._links)
            raise UnreachableError(
                f"no connection in {self.options.open_timeout} s: {why}"
            ) from None
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends all connections; what waits can still be iterated over."""
        self._closed = True
        self.buffer.end(None)
        self._changed.set()
        for link in self._links:
            link.stop()
        for task in self._tasks:
            task.cancel()  # Which closes its connection in order.
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep(self, link: Link) -> None:
        try:
            await link.run()
        except Exception as error:
            link.why = str(error)
            await self.buffer.put([State("ended", link.url, str(error))])
            self._links_left -= 1
            if self._links_left == 0:
                self._error = error
                self.buffer.end(error)
                self._changed.set()

    # Requests

    async def subscribe(
        self,
        *channels: str | Iterable[str],
        policy: Policy | None = None,
        snapshot: bool = True,
        max_age_ms: int | None = None,
        max_lag_bytes: int | None = None,
        interval_ms: int | None = None,
    ) -> list[Subscribed]:
        """Subscribes to names or patterns, and again after each reconnect.

        Gives the terms in effect. To ask again for a pattern replaces its terms, and sends its
        snapshot again (not with several connections, where only what is new is handed out).
        """
        terms = Terms(policy, snapshot, max_age_ms, max_lag_bytes, interval_ms)
        patterns = _flat(channels)
        full = len(self._links) == 1
        try:
            granted = await self._on_all(lambda link: link.subscribe(patterns, terms, full))
        finally:
            self._hold(patterns, terms)
        return sorted(granted, key=lambda one: patterns.index(one.channel))

    def _hold(self, patterns: Sequence[str], terms: Terms) -> None:
        """Has all connections hold what one was granted: some came up since, or are yet to."""
        held = [session.subscriptions for session in self.sessions]
        granted = [one for one in patterns if any(terms == wanted.get(one) for wanted in held)]
        for link in self._links:
            link.hold(granted, terms)

    async def unsubscribe(self, *channels: str | Iterable[str]) -> None:
        """Ends subscriptions. What was received before still comes out of the iteration.

        Without a connection there is nothing to end: the next one does not ask for them.
        """
        patterns = _flat(channels)

        def one(link: Link) -> Coroutine[Any, Any, None]:
            return link.unsubscribe(patterns)

        for session in self.sessions:
            session.drop(patterns)
        if any(session.up for session in self.sessions):
            await self._on_all(one)

    async def verify(self, channel: str) -> Verified:
        """The server's hash of a channel's state, to be compared with `StateHash.of`."""
        params = {"channel": channel}
        reply = await self._on_all(lambda link: link.call("verify", params), first=True)
        result = reply["result"]
        return Verified(result["channel"], result["seq"], result["values"], result["hash"])

    @property
    def subscriptions(self) -> dict[str, Terms]:
        """The patterns that are asked for after each reconnect."""
        return {name: terms for one in self.sessions for name, terms in one.subscriptions.items()}

    async def _on_all(
        self, ask: Callable[[Link], Coroutine[Any, Any, Result]], first: bool = False
    ) -> Result:
        """One answer of those that are up, or of the first of them; of later connections, too."""
        self.buffer.call_began()
        try:
            return await asyncio.wait_for(self._asked(ask, first), self._request_timeout)
        except asyncio.TimeoutError:
            raise TimeoutError(
                f"no reply in {self._request_timeout} s; {len(self.buffer)} events wait to be"
                " iterated over before it"
            ) from None
        finally:
            self.buffer.call_ended()

    async def _asked(
        self, ask: Callable[[Link], Coroutine[Any, Any, Result]], first: bool
    ) -> Result:
        while True:
            links = (await self._up())[: 1 if first else None]
            answers = await asyncio.gather(*map(ask, links), return_exceptions=True)
            for answer in answers:
                if not isinstance(answer, BaseException):
                    return answer
            for answer in answers:
                if isinstance(answer, BaseException) and not isinstance(answer, LostError):
                    raise answer

    async def _up(self) -> list[Link]:
        """The links that can take requests; at least one."""
        while True:
            if self._error is not None:
                raise self._error
            if self._closed:
                raise FanfareError("the feed is closed")
            links = [link for link in self._links if link.session.up]
            if links:
                return links
            self._changed.clear()
            await self._changed.wait()

    # Iteration

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        while True:
            event = self.handed(await self.buffer.get())
            if event is not None:
                return event

    def handed(self, item: Item) -> Event | None:
        """The event that an item is, or None after what else it is was called back."""
        if isinstance(item, Event):
            return item
        if isinstance(item, Gap):
            self.gaps.append(item)
            if self._on_gap is not None:
                self._on_gap(item)
        elif self._on_state is not None:
            self._on_state(item)
        return None

    # What links ask for

    def admit(self, link: Link, epoch: str) -> str | None:
        """Whether a connection with this epoch may join; if not, why."""
        if epoch != self.epoch:
            if any(other.session.up for other in self._links if other is not link):
                return f"its epoch {epoch} is not {self.epoch}; a spare until the other one ends"
            self.delivery.clear()
            self.epoch = epoch
        return None

    def taken(self, link: Link) -> Collection[str]:
        """The nodes of the other connections."""
        return {other.url for other in self._links if other is not link}

    def link_is_up(self) -> None:
        """A connection can take requests."""
        self._changed.set()

    def link_is_down(self, link: Link) -> None:
        """A connection has ended."""
        for other in self._links:
            if other.parked:
                other.woken.set()


def _flat(channels: Iterable[str | Iterable[str]]) -> list[str]:
    """Names or lists of names as one list."""
    names: list[str] = []
    for one in channels:
        names.extend([one] if isinstance(one, str) else one)
    return list(dict.fromkeys(names))
