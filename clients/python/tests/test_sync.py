"""The blocking client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from scripted import Peer, Script, ScriptedServer

import fanfare


class Served:
    """A scripted server in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.servers: list[ScriptedServer] = []

    def __call__(self, *scripts: Script) -> str:
        async def enter() -> ScriptedServer:
            return await ScriptedServer(*scripts).__aenter__()

        server = asyncio.run_coroutine_threadsafe(enter(), self.loop).result(10)
        self.servers.append(server)
        return server.url

    def stop(self) -> None:
        for server in self.servers:
            leave = server.__aexit__(None, None, None)
            asyncio.run_coroutine_threadsafe(leave, self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture
def serve() -> Iterator[Served]:
    served = Served()
    yield served
    served.stop()


def test_it_iterates_and_calls_back_in_its_thread(serve: Served) -> None:
    async def script(peer: Peer) -> None:
        await peer.begin()
        await peer.event(1, 0)
        lost = {"from": 2, "to": 3, "missed": 2, "cause": "slow", "recover": "none"}
        await peer.control("gap", channels=["trade.A"], **lost)
        await peer.event(4, 3)
        request = await peer.expect("verify")
        result = {"channel": "trade.A", "seq": 4, "values": 0, "hash": "00000000"}
        await peer.reply(request, result=result)
        await peer.reply(await peer.expect("unsubscribe"))
        await peer.stay()

    threads = set()
    with fanfare.sync.connect(
        serve(script), on_gap=lambda _: threads.add(threading.get_ident())
    ) as feed:
        assert feed.subscribe("trade.*", policy="all")[0].seq == 0
        assert list(feed.subscriptions) == ["trade.*"]
        events = iter(feed)
        assert [next(events).seq, next(events).seq] == [1, 4]
        assert feed.verify("trade.A").seq == 4
        feed.unsubscribe("trade.*")
        assert feed.next(timeout=0.01) is None
        assert [gap.missed for gap in feed.gaps] == [2]
        feed.close()
        assert list(feed) == []
    assert threads == {threading.get_ident()}


def test_errors_reach_the_caller(serve: Served) -> None:
    async def script(peer: Peer) -> None:
        await peer.begin()
        await peer.event(1, 0)
        await peer.socket.close(4003, "revoked")

    with fanfare.sync.connect(serve(script)) as feed:
        feed.subscribe("trade.*")
        with pytest.raises(fanfare.ClosedError, match="revoked"):
            for event in feed:
                assert event.seq == 1
    with pytest.raises(fanfare.UnreachableError):
        fanfare.sync.connect("ws://127.0.0.1:1/v1", open_timeout=0.1).__enter__()
