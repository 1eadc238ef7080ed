"""The asyncio client against servers that follow a script."""

from __future__ import annotations

import asyncio
import itertools
from decimal import Decimal
from typing import Any

import pytest
from scripted import Peer, ScriptedServer, bounded

import fanfare
import fanfare.link
import fanfare.route
from fanfare import retry


@pytest.fixture(autouse=True)
def fast_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "DELAY_S_FIRST", 0.001)
    monkeypatch.setattr(retry, "DELAY_S_MAX", 0.01)


async def next_seqs(feed: fanfare.Feed, count: int) -> list[int]:
    return [(await anext(feed)).seq for _ in range(count)]


async def stay(peer: Peer) -> None:
    await peer.begin()
    await peer.stay()


@bounded
async def test_an_event_has_its_fields_and_its_data_as_sent() -> None:
    async def script(peer: Peer) -> None:
        params = await peer.begin()
        assert params == {"channels": ["quote.*"], "policy": "all", "snapshot": True}
        data = '{"p":1.10,"a":",\\"data\\":"}'
        await peer.event(7, 3, "quote.A", data, key='k,"data":"é')
        await peer.stay()

    async with ScriptedServer(script) as server:
        async with fanfare.connect(server.url, parse_float=Decimal) as feed:
            granted = await feed.subscribe("quote.*", policy="all")
            assert [(one.channel, one.seq, one.policy) for one in granted] == [
                ("quote.*", 0, "all")
            ]
            event = await anext(feed)
        assert (event.channel, event.kind, event.seq, event.prev) == ("quote.A", "update", 7, 3)
        assert (event.key, event.ts, event.ts_in) == ('k,"data":"é', None, 7)
        assert (event.epoch, event.recovered) == ("E1", False)
        assert event.data == {"p": Decimal("1.10"), "a": ',"data":'}
        assert event.data_text == '{"p":1.10,"a":",\\"data\\":"}'
        with pytest.raises(StopAsyncIteration):
            await anext(feed)


@bounded
async def test_a_cut_connection_is_resumed_and_each_event_comes_once() -> None:
    async def first(peer: Peer) -> None:
        await peer.begin(seq=5)
        await peer.event(6, 4)
        await peer.event(8, 6)
        await asyncio.wait_for(seen.wait(), 10)
        peer.cut()

    async def second(peer: Peer) -> None:
        await peer.welcome()
        params = await peer.granted(10, resumed=True)
        assert params["resume"] == {"epoch": "E1", "seq": 8}
        await peer.event(9, 8)
        await peer.control("replay_end", channels=["trade.*"], seq=10)
        await peer.event(11, 9)
        await peer.stay()

    seen = asyncio.Event()
    states: list[fanfare.State] = []
    async with ScriptedServer(first, second) as server:
        async with fanfare.connect(server.url, on_state=states.append) as feed:
            await feed.subscribe("trade.*", policy="all")
            assert await next_seqs(feed, 2) == [6, 8]
            seen.set()
            replayed, live = await anext(feed), await anext(feed)
            assert (replayed.seq, replayed.recovered) == (9, True)
            assert (live.seq, live.recovered) == (11, False)
            assert not feed.gaps
    kinds = [state.kind for state in states]
    assert kinds == ["connected", "live", "reconnecting", "connected", "live"]


@bounded
async def test_what_cannot_be_resumed_is_a_gap_and_a_snapshot() -> None:
    async def first(peer: Peer) -> None:
        await peer.begin()
        await peer.event(3, 0)
        peer.cut()

    async def second(peer: Peer) -> None:
        await peer.welcome("E2")
        params = await peer.granted(40, resumed=False, why="epoch")
        assert params["resume"]["epoch"] == "E1"
        lost = {"from": 1, "to": 40, "cause": "epoch", "recover": "none"}
        await peer.control("gap", channels=params["channels"], **lost)
        await peer.event(2, 1, kind="snapshot")
        await peer.control("snapshot_end", channels=params["channels"], seq=40)
        await peer.stay()

    order: list[Any] = []
    async with ScriptedServer(first, second) as server:
        async with fanfare.connect(server.url, on_gap=order.append) as feed:
            await feed.subscribe("trade.*", policy="all")
            for _ in range(2):
                event = await anext(feed)
                order.append((event.epoch, event.seq))
    gap = fanfare.Gap(("trade.*",), 1, 40, None, "epoch", "none")
    assert order == [("E1", 3), gap, ("E2", 2)]


@bounded
async def test_a_receipt_is_healed_where_it_can_be() -> None:
    async def script(peer: Peer) -> None:
        await peer.begin()
        await peer.event(1, 0)
        lost = {"from": 2, "to": 3, "cause": "max_age", "recover": "resume", "missed": 2}
        await peer.control("gap", channels=["trade.A"], **lost)
        await peer.event(4, 3)
        params = await peer.granted(4, resumed=True)
        assert params["resume"] == {"epoch": "E1", "seq": 1}
        for seq in (2, 3, 4):
            await peer.event(seq, seq - 1)
        await peer.control("replay_end", channels=["trade.*"], seq=4)
        await peer.event(5, 4)
        await peer.stay()

    async with ScriptedServer(script) as server:
        async with fanfare.connect(server.url, heal=True) as feed:
            await feed.subscribe("trade.*", policy="all")
            assert await next_seqs(feed, 5) == [1, 4, 2, 3, 5]
            assert [(gap.missed, gap.cause) for gap in feed.gaps] == [(2, "max_age")]


@bounded
async def test_a_hole_without_a_receipt_is_a_gap() -> None:
    async def script(peer: Peer) -> None:
        await peer.begin()
        await peer.event(1, 0)
        await peer.event(9, 5)
        await peer.stay()

    async with ScriptedServer(script) as server:
        async with fanfare.connect(server.url) as feed:
            await feed.subscribe("trade.*", policy="all")
            assert await next_seqs(feed, 2) == [1, 9]
            assert list(feed.gaps) == [fanfare.Gap(("trade.A",), 2, 5, None, "hole", "resume")]


@bounded
async def test_a_hole_is_healed_with_another_connection() -> None:
    async def first(peer: Peer) -> None:
        await peer.begin()
        await peer.event(1, 0)
        await peer.event(9, 5)
        await peer.stay()

    async def second(peer: Peer) -> None:
        await peer.welcome()
        params = await peer.granted(9, resumed=True)
        assert params["resume"] == {"epoch": "E1", "seq": 1}
        await peer.event(5, 1)
        await peer.event(9, 5)
        await peer.control("replay_end", channels=["trade.*"], seq=9)
        await peer.stay()

    async with ScriptedServer(first, second) as server:
        async with fanfare.connect(server.url, heal=True) as feed:
            await feed.subscribe("trade.*", policy="all")
            assert await next_seqs(feed, 3) == [1, 5, 9]
            assert [gap.cause for gap in feed.gaps] == ["hole"]


@bounded
async def test_a_drain_leads_to_another_server() -> None:
    async def leaving(peer: Peer) -> None:
        await peer.begin()
        await peer.event(1, 0)
        to = [other.url]
        await peer.control("drain", deadline_ms=9_000, retry_after_ms=30, to=to)
        await peer.event(2, 1)
        await peer.stay()
        assert peer.socket.protocol.close_code == 1000

    async def arriving(peer: Peer) -> None:
        await peer.welcome()
        params = await peer.granted(2, resumed=True)
        assert params["resume"] == {"epoch": "E1", "seq": 2}
        await peer.control("replay_end", channels=["trade.*"], seq=2)
        await peer.event(3, 2)
        await peer.stay()

    states: list[fanfare.State] = []
    async with ScriptedServer(arriving) as other, ScriptedServer(leaving) as server:
        async with fanfare.connect(server.url, on_state=states.append) as feed:
            await feed.subscribe("trade.*", policy="all")
            assert await next_seqs(feed, 3) == [1, 2, 3]
    draining = next(state for state in states if state.kind == "draining")
    assert draining.delay == 0.03
    assert [state.url for state in states if state.kind == "connected"] == [server.url, other.url]


@bounded
async def test_of_a_list_of_nodes_another_one_goes_on_where_the_first_has_ended() -> None:
    async def first(peer: Peer) -> None:
        await peer.begin()
        await peer.event(1, 0)
        await asyncio.wait_for(seen.wait(), 10)
        peer.cut()

    async def second(peer: Peer) -> None:
        await peer.welcome()
        params = await peer.granted(1, resumed=True)
        assert params["resume"] == {"epoch": "E1", "seq": 1}
        await peer.control("replay_end", channels=["trade.*"], seq=1)
        await peer.event(2, 1)
        await peer.stay()

    seen = asyncio.Event()
    connected: list[str] = []

    def on_state(state: fanfare.State) -> None:
        if state.kind == "connected":
            connected.append(state.url)

    async with ScriptedServer(first) as a, ScriptedServer(first) as b:
        async with fanfare.connect([a.url, b.url], mode="single", on_state=on_state) as feed:
            await feed.subscribe("trade.*", policy="all")
            left = b if feed._links[0].url == a.url else a
            left._scripts[:] = [second]
            assert await next_seqs(feed, 1) == [1]
            seen.set()
            assert await next_seqs(feed, 1) == [2]
            assert not feed.gaps
    assert sorted(connected) == sorted([a.url, b.url])


@bounded
async def test_a_node_that_refuses_is_left_out_and_the_last_one_s_refusal_is_the_end() -> None:
    async with ScriptedServer(refusals=[(404, {})]) as a, ScriptedServer(stay) as b:
        async with fanfare.connect([a.url, b.url], mode="single") as feed:
            await feed.subscribe("trade.*")
            assert feed._links[0].url == b.url or not a.requests
    async with ScriptedServer(refusals=[(401, {})]) as a, ScriptedServer(refusals=[(401, {})]) as b:
        with pytest.raises(fanfare.RefusedError, match="401"):
            await fanfare.connect([a.url, b.url], mode="single").__aenter__()
        assert len(a.requests) == len(b.requests) == 1


@bounded
async def test_two_connections_over_three_nodes_are_never_at_the_same_one() -> None:
    async def brief(peer: Peer) -> None:
        await peer.begin()
        cuts.append(peer)
        await peer.stay()

    cuts: list[Peer] = []
    scripts = [brief] * 50
    async with (
        ScriptedServer(*scripts) as a,
        ScriptedServer(*scripts) as b,
        ScriptedServer(*scripts) as c,
    ):
        async with fanfare.connect([a.url, b.url, c.url]) as feed:
            assert len(feed._links) == 2
            await feed.subscribe("trade.*", policy="all")
            while len(cuts) < 2:
                await asyncio.sleep(0.001)
            for count in range(3, 13):
                cuts[-1].cut()
                while len(cuts) < count:
                    await asyncio.sleep(0.001)
                assert feed._links[0].url != feed._links[1].url


@pytest.mark.parametrize(
    ("target", "url", "safe"),
    [
        ("wss://b/v1", "wss://a/v1", True),
        ("wss://b/v1", "ws://a/v1", True),
        ("ws://b/v1", "ws://a/v1", True),
        ("ws://b/v1", "wss://a/v1", False),
        ("http://b/v1", "ws://a/v1", False),
    ],
)
def test_a_drain_does_not_lead_out_of_tls(target: str, url: str, safe: bool) -> None:
    assert fanfare.route.as_safe(target, url) is safe


@bounded
async def test_a_final_code_ends_the_iteration_with_an_error() -> None:
    async def script(peer: Peer) -> None:
        await peer.begin()
        await peer.event(1, 0)
        await peer.socket.close(4003, "the credential was revoked by the operator")

    async with ScriptedServer(script) as server:
        async with fanfare.connect(server.url) as feed:
            await feed.subscribe("trade.*")
            assert await next_seqs(feed, 1) == [1]
            with pytest.raises(fanfare.ClosedError, match="revoked") as ended:
                await anext(feed)
            assert ended.value.code == 4003
            with pytest.raises(fanfare.ClosedError):
                await feed.subscribe("more")


@bounded
async def test_a_final_status_is_an_error_and_another_is_tried_again() -> None:
    async with ScriptedServer(refusals=[(401, {})]) as server:
        with pytest.raises(fanfare.RefusedError, match="401"):
            await fanfare.connect(server.url).__aenter__()
    refusals = [(503, {"Retry-After": "1"}), (429, {})]
    states: list[fanfare.State] = []
    async with ScriptedServer(stay, refusals=refusals) as server:
        async with fanfare.connect(server.url, on_state=states.append) as feed:
            await feed.subscribe("trade.*")
        assert [event async for event in feed] == []
        assert len(server.requests) == 3
    delays = [state.delay or 0.0 for state in states if state.kind == "reconnecting"]
    assert delays[0] >= 1 > delays[1]
    assert "503" in states[0].why and "refused by the script" in states[0].why


@bounded
async def test_a_handshake_that_is_cut_is_tried_again() -> None:
    def cut_once(*args: Any, **options: Any) -> Any:
        patch.undo()
        raise EOFError("connection closed while reading HTTP status line")

    # What versions 13.0 to 14.0 of the library raise then.
    patch = pytest.MonkeyPatch()
    patch.setattr(fanfare.link, "open_websocket", cut_once)
    states: list[fanfare.State] = []
    async with ScriptedServer(stay) as server:
        async with fanfare.connect(server.url, on_state=states.append) as feed:
            await feed.subscribe("trade.*")
        assert [event async for event in feed] == []
    assert [state.kind for state in states[:2]] == ["reconnecting", "connected"]


@bounded
async def test_a_server_that_is_not_there_is_reported_in_time() -> None:
    with pytest.raises(fanfare.UnreachableError, match="127.0.0.1:1/"):
        await fanfare.connect("ws://127.0.0.1:1/v1", open_timeout=0.2).__aenter__()


@bounded
async def test_a_feed_can_be_closed_at_any_moment_of_a_reconnect() -> None:
    async def cut(peer: Peer) -> None:
        await peer.welcome()
        await opened.wait()
        peer.cut()

    async def returned(peer: Peer) -> None:
        await peer.welcome()
        await peer.stay()

    retry.DELAY_S_FIRST = 0.0
    for moment in range(100):
        opened = asyncio.Event()
        async with ScriptedServer(cut, returned) as server:
            async with fanfare.connect(server.url) as feed:
                opened.set()
                for _ in range(moment):
                    await asyncio.sleep(0)
            assert [event async for event in feed] == []


@bounded
async def test_silence_ends_a_connection() -> None:
    async def silent(peer: Peer) -> None:
        await peer.welcome(heartbeat_ms=500)
        params = await peer.granted(0)
        await peer.control("snapshot_end", channels=params["channels"], seq=0)
        await peer.control("heartbeat", seq=17)
        await peer.stay()

    async def second(peer: Peer) -> None:
        await peer.welcome()
        params = await peer.granted(17, resumed=True)
        resumed.set_result(params["resume"])
        await peer.stay()

    resumed: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    async with ScriptedServer(silent, second) as server:
        async with fanfare.connect(server.url) as feed:
            await feed.subscribe("trade.*")
            assert await resumed == {"epoch": "E1", "seq": 17}, "heartbeats count"


@bounded
async def test_a_token_is_asked_anew_and_renewed_before_it_ends() -> None:
    async def first(peer: Peer) -> None:
        await peer.begin()
        await peer.control("auth_expiring", expires_in_ms=60_000)
        request = await peer.expect("auth")
        assert request["params"] == {"token": "token-2"}
        await peer.reply(request)
        peer.cut()

    async def second(peer: Peer) -> None:
        await peer.begin()
        begun.set()
        await peer.stay()

    async def token() -> str:
        asked.append(f"token-{len(asked) + 1}")
        return asked[-1]

    asked: list[str] = []
    begun = asyncio.Event()
    async with ScriptedServer(first, second) as server:
        async with fanfare.connect(server.url, token=token) as feed:
            await feed.subscribe("trade.*")
            await begun.wait()
        shown = [request.headers["Authorization"] for request in server.requests]
        assert shown == ["Bearer token-1", "Bearer token-3"]


@bounded
async def test_a_token_function_that_fails_is_asked_again() -> None:
    async def first(peer: Peer) -> None:
        await peer.begin()
        await peer.event(1, 0)
        await peer.control("auth_expiring", expires_in_ms=60_000)
        request = await peer.expect("auth")
        assert request["params"] == {"token": "token-4"}
        await peer.reply(request)
        peer.cut()

    async def second(peer: Peer) -> None:
        await peer.welcome()
        await peer.granted(1, resumed=True)
        await peer.event(2, 1)
        await peer.stay()

    def token() -> str:
        nonlocal asked
        asked += 1
        if asked in (2, 3, 5, 6):
            raise ValueError("nobody knows you today")
        return f"token-{asked}"

    asked = 0
    states: list[fanfare.State] = []
    async with ScriptedServer(first, second) as server:
        async with fanfare.connect(server.url, token=token, on_state=states.append) as feed:
            await feed.subscribe("trade.*", policy="all")
            assert await next_seqs(feed, 2) == [1, 2]
        shown = [request.headers["Authorization"] for request in server.requests]
        assert shown == ["Bearer token-1", "Bearer token-7"]
    why = [state.why for state in states if state.kind == "reconnecting"]
    assert len(why) == 3 and "nobody knows you" in why[1] and "nobody knows you" in why[2]


@bounded
async def test_a_credential_that_was_refused_is_followed_by_the_next_one() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.control("auth_expiring", expires_in_ms=60_000)
        error = {"code": "auth_failed", "message": "it has expired", "retryable": False}
        request = await peer.expect("auth")
        await peer.reply(request, success=False, error=error)
        again = await peer.expect("auth")
        assert [request["params"], again["params"]] == [{"token": "2"}, {"token": "3"}]
        await peer.reply(again)

    numbers = itertools.count(1)
    async with ScriptedServer(script) as server:
        async with fanfare.connect(server.url, token=lambda: str(next(numbers))):
            await server.played()


@bounded
async def test_a_token_function_that_fails_before_the_first_connection_is_an_error() -> None:
    def token() -> str:
        raise ValueError("nobody knows you")

    async with ScriptedServer() as server:
        with pytest.raises(ValueError, match="nobody knows you"):
            await fanfare.connect(server.url, token=token).__aenter__()


@bounded
async def test_an_expired_credential_is_the_end_unless_there_is_a_function_for_the_next() -> None:
    async def expired(peer: Peer) -> None:
        await peer.begin()
        await peer.socket.close(4002, "the credential has expired")

    async def second(peer: Peer) -> None:
        await peer.welcome()
        await peer.granted(0, resumed=True)
        await peer.event(1, 0)
        await peer.stay()

    async with ScriptedServer(expired, second) as server:
        async with fanfare.connect(server.url, token=lambda: "another") as feed:
            await feed.subscribe("trade.*", policy="all")
            assert await next_seqs(feed, 1) == [1]
    async with ScriptedServer(expired) as server:
        async with fanfare.connect(server.url, token="fixed") as feed:
            await feed.subscribe("trade.*")
            with pytest.raises(fanfare.ClosedError, match="expired"):
                await anext(feed)


@bounded
async def test_a_slow_application_stops_the_reading() -> None:
    async def script(peer: Peer) -> None:
        await peer.begin()
        seq = 0
        data = '"' + "x" * 5_000 + '"'
        while not stalled.is_set():
            seq += 1
            try:
                # What does not go out in this time waits for the application, however long.
                await asyncio.wait_for(peer.event(seq, seq - 1, data=data), 0.5)
            except asyncio.TimeoutError:
                stalled.set()
        request = await peer.expect("unsubscribe")
        await peer.reply(request)
        last.set_result(seq)
        await peer.stay()

    stalled = asyncio.Event()
    last: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    async with ScriptedServer(script) as server:
        async with fanfare.connect(server.url, queue_size=10) as feed:
            await feed.subscribe("trade.*", policy="all")
            await stalled.wait()
            assert len(feed.buffer) <= 12
            seqs = await next_seqs(feed, 1)
            ended = asyncio.create_task(feed.unsubscribe("trade.*"))
            while not last.done() or seqs[-1] < last.result():
                seqs += await next_seqs(feed, 1)
            await ended
            assert seqs == list(range(1, last.result() + 1))


@bounded
async def test_a_call_is_answered_while_the_application_does_not_iterate() -> None:
    async def script(peer: Peer) -> None:
        await peer.begin()
        for seq in range(1, 51):
            await peer.event(seq, seq - 1)
        await peer.reply(await peer.expect("unsubscribe"))
        await peer.stay()

    async with ScriptedServer(script) as server:
        async with fanfare.connect(server.url, queue_size=10) as feed:
            await feed.subscribe("trade.*", policy="all")
            await feed.unsubscribe("trade.*")
            assert await next_seqs(feed, 50) == list(range(1, 51))


@bounded
async def test_signs_of_life_go_out_while_nothing_is_read() -> None:
    pongs = 0

    async def script(peer: Peer) -> None:
        nonlocal pongs
        await peer.welcome(ping_ms=200)
        process = peer.socket.protocol.recv_frame

        def counting(received: Any) -> None:
            nonlocal pongs
            pongs += received.opcode == 10
            process(received)

        peer.socket.protocol.recv_frame = counting  # type: ignore[method-assign]
        params = await peer.granted(0)
        await peer.control("snapshot_end", channels=params["channels"], seq=0)
        for seq in range(1, 100):
            await peer.event(seq, seq - 1)
        await peer.stay()

    async with ScriptedServer(script) as server:
        async with fanfare.connect(server.url, queue_size=1) as feed:
            await feed.subscribe("trade.*")
            while pongs < 3:
                await asyncio.sleep(0.01)


@bounded
async def test_a_refused_request_is_an_error_with_its_code() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        request = await peer.expect("subscribe")
        error = {"code": "channel_invalid", "message": "empty token", "retryable": False}
        entries = [{"channel": "a..b", "error": error}]
        await peer.reply(request, success=False, error=error, result=entries)
        await peer.stay()

    async with ScriptedServer(script) as server:
        async with fanfare.connect(server.url) as feed:
            with pytest.raises(fanfare.RequestError, match="empty token") as refused:
                await feed.subscribe("a..b")
            assert (refused.value.code, refused.value.retryable) == ("channel_invalid", False)
            assert feed.subscriptions == {}


@bounded
async def test_a_subscription_asked_for_while_the_connection_dies_is_asked_again() -> None:
    async def first(peer: Peer) -> None:
        await peer.welcome()
        await peer.expect("subscribe")
        peer.cut()

    async with ScriptedServer(first, stay) as server:
        async with fanfare.connect(server.url) as feed:
            assert len(await feed.subscribe("trade.*")) == 1


@bounded
async def test_unsubscribing_waits_for_no_connection() -> None:
    async def first(peer: Peer) -> None:
        await peer.begin()
        await ending.wait()
        peer.cut()

    async def second(peer: Peer) -> None:
        await asyncio.wait_for(unsubscribed.wait(), 5)
        await peer.welcome()
        assert (await peer.granted(0))["channels"] == ["b.*"]
        await peer.stay()

    ending, unsubscribed = asyncio.Event(), asyncio.Event()
    async with ScriptedServer(first, second) as server:
        async with fanfare.connect(server.url) as feed:
            await feed.subscribe("a.*")
            ending.set()
            while feed.sessions[0].up:
                await asyncio.sleep(0.001)
            await feed.unsubscribe("a.*")
            unsubscribed.set()
            await feed.subscribe("b.*")
            assert list(feed.subscriptions) == ["b.*"]


@bounded
async def test_unsubscribing_while_the_connection_dies_is_done() -> None:
    async def first(peer: Peer) -> None:
        await peer.begin()
        await peer.expect("unsubscribe")
        peer.cut()

    async def second(peer: Peer) -> None:
        await peer.welcome()
        assert (await peer.granted(0))["channels"] == ["b.*"]
        await peer.stay()

    async with ScriptedServer(first, second) as server:
        async with fanfare.connect(server.url) as feed:
            await feed.subscribe("a.*")
            await feed.unsubscribe("a.*")
            await feed.subscribe("b.*")


@bounded
async def test_unsubscribing_what_the_server_has_ended_is_done_and_other_refusals_are_errors() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        for code in ("not_subscribed", "rate_limited"):
            error = {"code": code, "message": "why", "retryable": False}
            await peer.reply(await peer.expect("unsubscribe"), success=False, error=error)
        await peer.stay()

    async with ScriptedServer(script) as server:
        async with fanfare.connect(server.url) as feed:
            await feed.unsubscribe("a.*")
            with pytest.raises(fanfare.RequestError, match="rate_limited"):
                await feed.unsubscribe("a.*")


@bounded
async def test_verify_gives_the_hash_and_the_copy_agrees() -> None:
    async def script(peer: Peer) -> None:
        await peer.begin()
        await peer.event(1, 0, "quote.A", key="a")
        request = await peer.expect("verify")
        assert request["params"] == {"channel": "quote.A"}
        result = {"channel": "quote.A", "seq": 1, "values": 1, "hash": copy.of("quote.A").hash}
        await peer.reply(request, result=result)
        await peer.stay()

    copy = fanfare.StateHash()
    async with ScriptedServer(script) as server:
        async with fanfare.connect(server.url) as feed:
            await feed.subscribe("quote.*")
            copy.apply(await anext(feed))
            assert copy.agrees(await feed.verify("quote.A")) is True


@bounded
async def test_a_subscription_that_the_server_ended_is_not_asked_for_again() -> None:
    async def first(peer: Peer) -> None:
        await peer.begin()
        await peer.granted(0)
        await peer.control("snapshot_end", channels=["b.*"], seq=0)
        await peer.control("unsubscribed", channels=["a.*"], seq=4, cause="forbidden")
        await asyncio.wait_for(told.wait(), 10)
        peer.cut()

    async def second(peer: Peer) -> None:
        await peer.welcome()
        assert (await peer.granted(0, resumed=True))["channels"] == ["b.*"]
        await peer.event(5, 0, "b.x")
        await peer.stay()

    def on_state(state: fanfare.State) -> None:
        if state.kind == "unsubscribed":
            assert (state.channels, state.why) == (("a.*",), "forbidden")
            told.set()

    told = asyncio.Event()
    async with ScriptedServer(first, second) as server:
        async with fanfare.connect(server.url, on_state=on_state) as feed:
            await feed.subscribe("a.*")
            await feed.subscribe("b.*")
            assert await next_seqs(feed, 1) == [5]
            assert list(feed.subscriptions) == ["b.*"]


@bounded
async def test_of_two_connections_the_first_of_each_event_counts() -> None:
    async def first(peer: Peer) -> None:
        await peer.begin()
        for seq in (1, 2, 3):
            await peer.event(seq, seq - 1)
        peer.cut()

    async def returned(peer: Peer) -> None:
        await peer.welcome()
        params = await peer.granted(9, resumed=False, why="too_old")
        lost = {"from": params["resume"]["seq"] + 1, "to": 5, "cause": "too_old", "recover": "none"}
        await peer.control("gap", channels=["trade.*"], **lost)
        await peer.control("snapshot_end", channels=["trade.*"], seq=9)
        await peer.event(10, 5)
        await peer.stay()

    async def other(peer: Peer) -> None:
        await peer.begin()
        for seq in (1, 2, 3, 4, 5):
            await peer.event(seq, seq - 1)
        await a.played(1)
        await peer.stay()

    async with ScriptedServer(first, returned) as a, ScriptedServer(other) as b:
        async with fanfare.connect([a.url, b.url]) as feed:
            while not all(link.session.up for link in feed._links):
                await asyncio.sleep(0.001)
            await feed.subscribe("trade.*", policy="all")
            assert await next_seqs(feed, 6) == [1, 2, 3, 4, 5, 10]
            assert not feed.gaps


@bounded
async def test_another_epoch_is_a_spare_until_the_first_ends() -> None:
    async def first(peer: Peer) -> None:
        await peer.welcome()
        begun.set()
        params = await peer.granted(0)
        await peer.control("snapshot_end", channels=params["channels"], seq=0)
        await peer.event(1, 0)
        while len(b.requests) < 2:
            await asyncio.sleep(0.001)
        await peer.event(2, 1)
        peer.cut()

    async def spare(peer: Peer) -> None:
        await asyncio.wait_for(begun.wait(), 10)
        await peer.welcome("E2")
        await peer.stay()

    async def takes_over(peer: Peer) -> None:
        await peer.welcome("E2")
        try:
            params = await peer.granted(50, resumed=False, why="epoch")
        except Exception:
            return  # Still a spare.
        assert params["resume"]["epoch"] == "E1"
        lost = {"from": 1, "to": 50, "cause": "epoch", "recover": "none"}
        await peer.control("gap", channels=["trade.*"], **lost)
        await peer.control("snapshot_end", channels=["trade.*"], seq=50)
        await peer.event(51, 7)
        await peer.stay()

    begun = asyncio.Event()
    spares = [takes_over] * 2_000
    refusals = [(503, {})] * 100_000
    async with ScriptedServer(first) as a, ScriptedServer(spare, *spares) as b:
        async with fanfare.connect([a.url, b.url]) as feed:
            await feed.subscribe("trade.*", policy="all")
            assert await next_seqs(feed, 1) == [1]
            a._refusals = refusals
            event = await anext(feed)
            assert (event.epoch, event.seq) == ("E1", 2)
            event = await anext(feed)
            assert (event.epoch, event.seq) == ("E2", 51)
            assert [gap.cause for gap in feed.gaps] == ["epoch"]
