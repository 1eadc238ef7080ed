"""A server that follows a script: one coroutine for each connection that is to come.

What a script asserts fails the test. Every wait is bounded.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

TIMEOUT_S = 20.0


class Peer:
    """The server's end of one connection."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket

    async def send(self, **message: Any) -> None:
        await self.socket.send(json.dumps(message, separators=(",", ":")))

    async def welcome(
        self,
        epoch: str = "E1",
        heartbeat_ms: int = 5_000,
        ping_ms: int = 20_000,
        rate: int = 20,
        burst: int = 100,
    ) -> None:
        await self.send(
            channel="control",
            type="welcome",
            v=1,
            node="n",
            epoch=epoch,
            seq=0,
            limits={"ping_ms": ping_ms, "command_rate": rate, "command_burst": burst},
            heartbeat_ms=heartbeat_ms,
        )

    async def control(self, kind: str, **message: Any) -> None:
        await self.send(channel="control", type=kind, **message)

    async def event(
        self, seq: int, prev: int = 0, channel: str = "trade.A", data: str = "{}", **more: Any
    ) -> None:
        await self.socket.send(frame(seq, prev, channel, data, **more))

    async def expect(self, method: str) -> dict[str, Any]:
        """The client's next message."""
        message: dict[str, Any] = json.loads(await self.socket.recv())
        assert message["method"] == method, message
        return message

    async def granted(self, seq: int, policy: str = "all", **entry: Any) -> dict[str, Any]:
        """Expects a `subscribe` and grants it; gives its parameters."""
        message = await self.expect("subscribe")
        entries = [
            {"channel": one, "policy": policy, "seq": seq, "matched": 1, **entry}
            for one in message["params"]["channels"]
        ]
        await self.reply(message, result=entries)
        params: dict[str, Any] = message["params"]
        return params

    async def reply(self, request: dict[str, Any], success: bool = True, **more: Any) -> None:
        head = {"method": request["method"], "success": success, "req_id": request["req_id"]}
        await self.send(**head, **more)

    async def begin(self, seq: int = 0, **entry: Any) -> dict[str, Any]:
        """Welcome, a granted subscription, and an empty snapshot."""
        await self.welcome()
        params = await self.granted(seq, **entry)
        await self.control("snapshot_end", channels=params["channels"], seq=seq)
        return params

    def cut(self) -> None:
        """The network is gone."""
        self.socket.transport.abort()

    async def stay(self) -> None:
        """Until the client leaves."""
        await self.socket.wait_closed()


Script = Callable[[Peer], Coroutine[Any, Any, None]]


def frame(seq: int, prev: int, channel: str, data: str = "{}", **more: Any) -> str:
    kind, key = more.get("kind", "update"), more.get("key")
    head: dict[str, Any] = {"channel": channel, "type": kind}
    if key is not None:
        head["key"] = key
    head |= {"seq": seq, "prev": prev, "ts_in": seq}
    text = json.dumps(head, separators=(",", ":"), ensure_ascii=False)
    return f'{text[:-1]},"data":{data}}}'


class ScriptedServer:
    """Plays the scripts, one for each connection; `refusals` come first: status and headers."""

    def __init__(
        self, *scripts: Script, refusals: list[tuple[int, dict[str, str]]] | None = None
    ) -> None:
        self.requests: list[Request] = []
        self._scripts = list(scripts)
        self._refusals = refusals or []
        self._done: list[asyncio.Future[None]] = []

    async def __aenter__(self) -> ScriptedServer:
        loop = asyncio.get_running_loop()
        self._done = [loop.create_future() for _ in self._scripts]
        self._next = 0
        self._server: Server = await serve(
            self._play,
            "127.0.0.1",
            0,
            process_request=self._greet,
            ping_interval=None,
            close_timeout=1,
        )
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"ws://127.0.0.1:{port}/v1"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        await self._server.wait_closed()
        failed = [one.exception() for one in self._done if one.done() and one.exception()]
        if failed and failed[0]:
            raise failed[0]

    async def played(self, count: int | None = None) -> None:
        """Waits for the first `count` scripts to end, or for all."""
        await asyncio.wait_for(asyncio.gather(*self._done[:count]), TIMEOUT_S)

    def _greet(self, socket: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        if not self._refusals:
            return None
        status, headers = self._refusals.pop(0)
        response = socket.respond(status, "refused by the script\n")
        response.headers.update(headers)
        return response

    async def _play(self, socket: ServerConnection) -> None:
        index = self._next
        self._next += 1
        if index >= len(self._scripts):
            await socket.wait_closed()
            return
        try:
            await self._scripts[index](Peer(socket))
        except Exception as error:
            self._done[index].set_exception(error)
            raise
        self._done[index].set_result(None)


def bounded(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """A coroutine as a test that ends."""

    def run() -> None:
        async def limited() -> None:
            await asyncio.wait_for(test(), TIMEOUT_S)

        asyncio.run(limited())

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    return run
