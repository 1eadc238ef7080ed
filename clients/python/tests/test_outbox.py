"""What goes out: in the order of the calls, and no faster than the server takes it."""

from __future__ import annotations

import asyncio
import json

import pytest
from scripted import Peer, ScriptedServer, bounded
from websockets.asyncio.client import ClientConnection

import fanfare
from fanfare import retry
from fanfare.messages import Terms
from fanfare.outbox import LostError, Outbox, Pace
from fanfare.session import Session


@pytest.fixture(autouse=True)
def fast_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "DELAY_S_FIRST", 0.001)
    monkeypatch.setattr(retry, "DELAY_S_MAX", 0.01)


@bounded
async def test_more_requests_than_the_server_takes_at_once_are_not_refused() -> None:
    rate, burst = 200, 12

    async def script(peer: Peer) -> None:
        # As the server counts: what is refused costs as much.
        clock, paid_at = asyncio.get_running_loop().time, 0.0
        await peer.welcome(rate=rate, burst=burst)
        for _ in range(3 * burst):
            request = await peer.expect("verify")
            paid_at = max(paid_at, clock()) + 1 / rate
            error = {"code": "rate_limited", "message": "too many", "retryable": True}
            if paid_at - clock() > burst / rate:
                await peer.reply(request, success=False, error=error)
            else:
                await peer.reply(request, result={**request["params"], **state})
        await peer.stay()

    state = {"seq": 1, "values": 1, "hash": "00000000"}
    async with ScriptedServer(script) as server:
        async with fanfare.connect(server.url) as feed:
            for number in range(3 * burst):
                assert (await feed.verify(f"a.{number}")).channel == f"a.{number}"


@bounded
async def test_an_unsubscribe_comes_after_the_request_that_it_ends() -> None:
    async def first(peer: Peer) -> None:
        await peer.begin()
        await peer.granted(0)
        await asyncio.wait_for(cutting.wait(), 10)
        peer.cut()

    async def second(peer: Peer) -> None:
        await peer.welcome()
        for _ in range(3):
            message = json.loads(await peer.socket.recv())
            seen.append((message["method"], message["params"]["channels"]))
            entries = [{"channel": one, "seq": 0} for one in message["params"]["channels"]]
            await peer.reply(message, result=entries)
        await peer.stay()

    async def slow(socket: ClientConnection, text: str) -> None:
        # The socket's buffer is full, so that the second request of the new connection waits.
        if cutting.is_set() and '"b.*"' in text and '"subscribe"' in text:
            held.set()
            await going_on.wait()
        await send(socket, text)

    seen: list[tuple[str, list[str]]] = []
    cutting, held, going_on = asyncio.Event(), asyncio.Event(), asyncio.Event()
    send = ClientConnection.send
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClientConnection, "send", slow)
        async with ScriptedServer(first, second) as server:
            async with fanfare.connect(server.url) as feed:
                await feed.subscribe("a.*", policy="all")
                await feed.subscribe("b.*", policy="latest")
                cutting.set()
                await held.wait()
                call = asyncio.create_task(feed.unsubscribe("b.*"))
                await settled()
                going_on.set()
                await call
        subscribed = [("subscribe", ["a.*"]), ("subscribe", ["b.*"])]
        assert seen == [*subscribed, ("unsubscribe", ["b.*"])]


class Sent:
    """A socket that takes everything."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    async def send(self, text: str) -> None:
        self.texts.append(text)


@bounded
async def test_what_was_given_up_before_its_turn_is_not_sent_and_holds_up_nothing() -> None:
    session, socket = Session(), Sent()
    outbox = Outbox(session, socket, Pace(rate=50, burst=2))
    first, last = session.request("list", {}), session.request("list", {})
    (given_up,) = session.subscribe(["a.*"], Terms(), full=False)
    await outbox.send([first])
    call = asyncio.create_task(outbox.send([given_up]))
    await settled()
    call.cancel()
    await outbox.send([last])
    assert socket.texts == [first.text, last.text]
    assert session.disconnected() == [first, last], "its reply is not waited for"


@bounded
async def test_what_waits_for_its_turn_when_the_connection_ends_is_lost_at_once() -> None:
    session, socket = Session(), Sent()
    outbox = Outbox(session, socket, Pace(rate=50, burst=2))
    requests = [session.request("list", {}) for _ in range(3)]
    calls = [asyncio.create_task(outbox.send([one])) for one in requests]
    await settled()
    outbox.end()
    with pytest.raises(LostError):
        await calls[2]
    assert socket.texts == [one.text for one in requests[:2]]
    await asyncio.gather(*calls[:2])


def test_half_of_a_burst_goes_at_once_and_the_rest_at_the_rate() -> None:
    pace = Pace(rate=20, burst=12)
    waits = [pace.wait_s(100.0, 1) for _ in range(8)]
    assert waits == pytest.approx([0, 0, 0, 0, 0, 0, 0.05, 0.1])
    assert pace.wait_s(110.0, 11) == 0, "what is more than that alone does not wait for ever"
    assert pace.wait_s(110.1, 1) == pytest.approx(0.2)
    request = Session().subscribe([f"a{number}" for number in range(250)], Terms(), full=False)[0]
    assert request.messages == 3


async def settled() -> None:
    for _ in range(100):
        await asyncio.sleep(0)
