"""One connection, and the next one after it: sockets, time and retries.

Not here: what messages mean (`session`), what the application is given (`delivery`). Invariant:
while the application is slow, nothing is read; signs of life go out all the same.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import ssl
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from . import binary
from .buffer import Buffer
from .delivery import Delivery
from .errors import ClosedError, ProtocolError, RefusedError, RequestError
from .messages import Event, Gap, ParseFloat, State, Subscribed, Terms, parse_control
from .outbox import LostError, Outbox, Pace
from .requests import Request, error_of, passes, subscribed
from .retry import (
    CREDENTIAL_EXPIRED,
    HEARTBEATS_MISSED_MAX,
    Backoff,
    code_is_final,
    retry_after_s,
    status_is_final,
)
from .route import Route
from .session import Arrival, Notice, Recovered, Reply, Session

SUBPROTOCOL = Subprotocol("fanfare.v1.json")
BINARY = Subprotocol(binary.SUBPROTOCOL)
HEAL_S_MIN = 1.0  # At most one attempt to heal in this time.
TICK_S_MAX = 1.0
TICK_S_MIN = 0.05
CLOSE_S_MAX = 2.0

Token = str | Callable[[], str | Awaitable[str]]
Item = Event | Gap | State

log = logging.getLogger("fanfare")


class _AgainError(Exception):
    """This connection is of no use; connect again."""


@dataclass(slots=True)
class Options:
    """What all connections of a feed have in common."""

    token: Token | None
    ssl: ssl.SSLContext | None
    heal: bool
    parse_float: ParseFloat | None
    open_timeout: float
    max_size: int
    binary: bool


class Owner(Protocol):
    """What a connection needs of its feed."""

    options: Options
    delivery: Delivery
    buffer: Buffer[Item]
    sessions: Sequence[Session]

    def admit(self, link: Link, epoch: str) -> str | None:
        """Whether a connection with this epoch may join; if not, why."""

    def taken(self, link: Link) -> Collection[str]:
        """The nodes of the other connections."""

    def link_is_up(self) -> None:
        """A connection can take requests."""

    def link_is_down(self, link: Link) -> None:
        """A connection has ended."""


class Link:
    """Keeps one connection up."""

    def __init__(self, owner: Owner, nodes: Sequence[str]) -> None:
        self.session = Session(owner.options.parse_float)
        self.why = "not tried yet"
        self.parked = False
        self.woken = asyncio.Event()
        self._owner = owner
        self._route = Route(nodes)
        self._backoff = Backoff()
        self._outbox: Outbox | None = None
        self._waiters: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._stopped = False
        self._waiting_since: float | None = None
        self._healed_at = float("-inf")
        self._leave_at: float | None = None
        self._leave_for: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The server to connect to, or connected to."""
        return self._route.url

    async def run(self) -> None:
        """Connects, again and again, until `stop`; raises when that is pointless."""
        while not self._stopped:
            asked = 0.0
            self.woken.clear()
            self.parked = False
            try:
                await self._connection()
            except InvalidStatus as refused:
                status, headers = refused.response.status_code, refused.response.headers
                body = (refused.response.body or b"").decode(errors="replace").strip()
                self.why = f"the server answered {status}: {body}"
                if status_is_final(status):
                    if not self._refused():
                        raise RefusedError(status, body) from None
                    continue
                asked = retry_after_s(headers.get("Retry-After"))
            except ConnectionClosed as closed:
                code = closed.rcvd.code if closed.rcvd else 1006
                reason = closed.rcvd.reason if closed.rcvd else "the stream ended"
                if closed.rcvd and self._is_final(code):
                    raise ClosedError(code, reason) from None
                self.why = f"{code} {reason}"
            except ssl.SSLCertVerificationError as error:
                self.why = str(error)
                if not self.session.epoch:
                    if not self._refused():
                        raise
                    continue
            except (
                _AgainError,
                ProtocolError,
                OSError,
                EOFError,  # What websockets before 14.1 say to a handshake that was cut.
                InvalidHandshake,
                asyncio.TimeoutError,
            ) as error:
                self.why = str(error) or type(error).__name__
            if not self._stopped:
                await self._pause(asked)

    def stop(self) -> None:
        """Ends what runs beside `run`, which is to be cancelled, too.

        The flag is for `wait_for`: before Python 3.12, it may swallow a cancellation.
        """
        self._stopped = True
        for task in self._tasks:
            task.cancel()

    # Requests

    async def subscribe(
        self, patterns: Sequence[str], terms: Terms, full: bool
    ) -> list[Subscribed]:
        """Subscribes, and gives the terms in effect."""
        replies = await self._ask(self.session.subscribe(patterns, terms, full))
        return [one for reply in replies for one in subscribed(reply)]

    def hold(self, patterns: Sequence[str], terms: Terms) -> None:
        """Another connection was granted these: asks for them where they are missing."""
        requests = self.session.hold(patterns, terms)
        if requests:
            self._spawn(self._send(requests))

    async def unsubscribe(self, patterns: Sequence[str]) -> None:
        """Unsubscribes; what the server does not have any more is done."""
        try:
            await self._ask(self.session.unsubscribe(patterns), done="not_subscribed")
        except LostError:
            pass  # The next connection does not ask for them.

    async def call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Any other request; its reply."""
        return (await self._ask([self.session.request(method, params)]))[0]

    async def _ask(self, requests: Sequence[Request], done: str = "") -> list[dict[str, Any]]:
        """The replies; all are waited for before the first error but `done` is raised."""
        loop = asyncio.get_running_loop()
        futures = []
        for request in requests:
            future: asyncio.Future[dict[str, Any]] = loop.create_future()
            self._waiters[request.id] = future
            futures.append(future)
        try:
            await asyncio.gather(self._send(requests), *futures)
        finally:
            for request in requests:
                self._waiters.pop(request.id, None)
        replies = [future.result() for future in futures]
        for reply in replies:
            error = error_of(reply)
            if error is not None and error.code != done:
                raise error
        return replies

    async def _send(self, requests: Sequence[Request]) -> None:
        if self._outbox is None:
            raise LostError("not connected")
        try:
            await self._outbox.send(requests)
        except ConnectionClosed:
            raise LostError("the connection ended before the request was sent") from None

    # One connection

    async def _connection(self) -> None:
        options = self._owner.options
        token = await self._token()
        async with open_websocket(
            self.url,
            ssl=(options.ssl or True) if self.url.startswith("wss:") else None,
            subprotocols=[BINARY, SUBPROTOCOL] if options.binary else [SUBPROTOCOL],
            additional_headers={"Authorization": f"Bearer {token}"} if token else None,
            compression=None,
            max_size=options.max_size,
            # The server's heartbeats tell whether it lives; who does not read sees no pongs.
            ping_interval=None,
            open_timeout=options.open_timeout,
            close_timeout=CLOSE_S_MAX,
        ) as socket:
            raw = await asyncio.wait_for(socket.recv(), options.open_timeout)
            welcome = parse_control(raw) if isinstance(raw, str) else {}
            try:
                epoch, heartbeat_s = welcome["epoch"], welcome["heartbeat_ms"] / 1_000
                limits = welcome["limits"]
                ping_s = limits["ping_ms"] / 1_000
                pace = Pace(limits["command_rate"], limits["command_burst"])
            except (KeyError, TypeError) as error:
                raise ProtocolError(f"not a welcome message: {raw[:200]!r}") from error
            if self._stopped:
                return
            refusal = self._owner.admit(self, epoch)
            if refusal is not None:
                self.parked = True
                raise _AgainError(refusal)
            outbox = Outbox(self.session, socket, pace)
            await self._connected(socket, outbox, epoch, heartbeat_s, ping_s)

    async def _connected(
        self,
        socket: ClientConnection,
        outbox: Outbox,
        epoch: str,
        heartbeat_s: float,
        ping_s: float,
    ) -> None:
        began = asyncio.get_running_loop().time()
        tending: asyncio.Task[None] | None = None
        try:
            self.session.connected(epoch)
            for other in self._owner.sessions:
                if other is not self.session:
                    self.session.adopt(other)
            self._outbox = outbox
            self._leave_at = None
            await outbox.send(self.session.resubscribe())
            self._owner.link_is_up()
            tending = asyncio.create_task(self._tend(socket, heartbeat_s, ping_s))
            await self._owner.buffer.put([State("connected", self.url)])
            await self._read(socket)
        finally:
            if tending is not None:
                tending.cancel()
            self._backoff.lasted(asyncio.get_running_loop().time() - began)
            outbox.end()
            self._outbox = None
            self._waiting_since = None
            self._lose(self.session.disconnected())
            self._owner.link_is_down(self)

    def _lose(self, requests: Sequence[Request]) -> None:
        for request in requests:
            waiter = self._waiters.pop(request.id, None)
            if waiter is not None and not waiter.done():
                waiter.set_exception(LostError("the connection ended before the reply came"))

    async def _read(self, socket: ClientConnection) -> None:
        clock, put = asyncio.get_running_loop().time, self._owner.buffer.put
        while True:
            self._waiting_since = clock()
            raw = await socket.recv()
            self._waiting_since = None
            items: list[Item] = []
            try:
                self._handle(raw, items)
                if self._owner.delivery.waits:
                    self._report(self._owner.delivery.settle(), items)
            finally:
                if items:
                    await put(items)

    async def _tend(self, socket: ClientConnection, heartbeat_s: float, ping_s: float) -> None:
        """Gives signs of life, and sees to their absence, to healing and to leaving."""
        clock = asyncio.get_running_loop().time
        times = [TICK_S_MAX, *(time / 2 for time in (heartbeat_s, ping_s) if time > 0)]
        tick = max(TICK_S_MIN, min(times))
        ponged = clock()
        while True:
            await asyncio.sleep(tick)
            now = clock()
            silent_s = now - self._waiting_since if self._waiting_since is not None else 0.0
            if 0 < heartbeat_s * HEARTBEATS_MISSED_MAX < silent_s:
                log.warning("%s has been silent for %.1f s", self.url, silent_s)
                socket.transport.abort()
                return
            try:
                if self._leave_at is not None and now >= self._leave_at:
                    await socket.close()
                    return
                if 0 < ping_s / 2 <= now - ponged:
                    ponged = now
                    await socket.pong()
            except ConnectionClosed:
                return
            self._spawn(self._heal())  # Its requests may have to wait for their turn.

    async def _heal(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._healed_at >= HEAL_S_MIN:
            requests = self.session.healing()
            if requests:
                self._healed_at = now
                await self._send(requests)

    # Messages

    def _handle(self, raw: str | bytes, items: list[Item]) -> None:
        for output in self.session.receive(raw):
            if isinstance(output, Arrival):
                if self._owner.delivery.take(output):
                    items.append(output.event)
            elif isinstance(output, Gap):
                self._gap(output, items)
            elif isinstance(output, Reply):
                self._reply(output, items)
            elif isinstance(output, Recovered):
                items.append(State("live", self.url, channels=output.channels, seq=output.seq))
            else:
                try:
                    self._notice(output, items)
                except (KeyError, TypeError) as error:
                    raise ProtocolError(f"not a notice ({error!r}): {raw[:200]!r}") from error

    def _gap(self, gap: Gap, items: list[Item]) -> None:
        self._report(self._owner.delivery.gap(self.session, gap), items)
        if gap.cause == "hole" and (self._owner.options.heal or len(self._owner.sessions) > 1):
            # The event after it is left out: a new connection brings all of them, in order.
            self.session.heal(gap)
            raise _AgainError(f"a hole before seq {gap.to_seq} of {gap.channels[0]}: a fault")

    def _report(self, gaps: Sequence[Gap], items: list[Item]) -> None:
        items.extend(gaps)
        if self._owner.options.heal:
            wanted = [gap for gap in gaps if gap.cause != "hole" and self.session.heal(gap)]
            if wanted:
                self._spawn(self._heal())

    def _reply(self, reply: Reply, items: list[Item]) -> None:
        waiter = self._waiters.pop(reply.request.id, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(reply.body)
        error = error_of(reply.body)
        if reply.request.automatic and error is not None:
            if passes(reply.body.get("error", {})):
                raise _AgainError(str(error))
            entries = reply.body.get("result")
            lost = [one["channel"] for one in entries if "error" in one] if entries else None
            channels = reply.request.params["channels"] if lost is None else lost
            self.session.ended(channels)
            items.append(State("unsubscribed", self.url, str(error), channels=tuple(channels)))

    def _notice(self, notice: Notice, items: list[Item]) -> None:
        body = notice.body
        if notice.kind == "drain":
            delay = body["retry_after_ms"] / 1_000
            self._leave_at = asyncio.get_running_loop().time() + delay
            self._leave_for = list(body.get("to", []))
            items.append(State("draining", self.url, "the server is draining", delay))
        elif notice.kind == "unsubscribed":
            channels = tuple(body["channels"])
            items.append(State("unsubscribed", self.url, body["cause"], channels=channels))
        elif notice.kind == "tier":
            items.append(State("tier", self.url, f"sampled at {body['interval_ms']} ms"))
        elif notice.kind == "auth_expiring" and callable(self._owner.options.token):
            self._spawn(self._renew())

    # Credentials

    async def _token(self) -> str | None:
        token = self._owner.options.token
        if token is None or isinstance(token, str):
            return token
        try:
            answer = token()
            return await answer if inspect.isawaitable(answer) else answer
        except Exception as error:
            # At the first connect it may be a mistake; later on it is one that passes.
            if not any(session.epoch for session in self._owner.sessions):
                raise
            raise _AgainError(f"no token: {error!r}") from error

    async def _renew(self) -> None:
        """Shows the next credential, in as many attempts as the connection has time for."""
        outbox, backoff = self._outbox, Backoff()
        while self._outbox is outbox:
            try:
                await self.call("auth", {"token": await self._token()})
                return
            except (_AgainError, RequestError) as error:
                log.warning("the credential was not renewed: %s", error)
                await asyncio.sleep(backoff.next())

    def _is_final(self, code: int) -> bool:
        """An expired credential is no end where another one can be asked for."""
        renewable = code == CREDENTIAL_EXPIRED and callable(self._owner.options.token)
        return code_is_final(code) and not renewable

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(_unless_lost(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Between connections

    def _refused(self) -> bool:
        """Whether another node is left to be asked; this one is not, any more."""
        return self._route.refused(self._owner.taken(self))

    async def _pause(self, asked: float) -> None:
        leave_at, self._leave_at = self._leave_at, None
        taken = self._owner.taken(self)
        if leave_at is not None:
            delay = max(0.0, leave_at - asyncio.get_running_loop().time())
            self._route.drained(self._leave_for, taken)
        else:
            delay = self._backoff.next(asked)
            self._route.failed(taken)
        await self._owner.buffer.put([State("reconnecting", self.url, self.why, delay)])
        try:
            await asyncio.wait_for(self.woken.wait(), delay)
        except asyncio.TimeoutError:
            pass


async def _unless_lost(work: Awaitable[None]) -> None:
    try:
        await work
    except LostError:
        pass
