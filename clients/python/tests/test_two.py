"""Two connections at once: both hold what one of them was granted."""

from __future__ import annotations

import asyncio

import pytest
from scripted import Peer, ScriptedServer, bounded

import fanfare
from fanfare import retry


@pytest.fixture(autouse=True)
def fast_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "DELAY_S_FIRST", 0.001)
    monkeypatch.setattr(retry, "DELAY_S_MAX", 0.01)


async def both_up(feed: fanfare.Feed) -> None:
    while not all(session.up for session in feed.sessions):
        await asyncio.sleep(0.001)


@bounded
async def test_a_connection_that_comes_up_while_a_call_waits_is_asked_too() -> None:
    async def first(peer: Peer) -> None:
        await peer.welcome()
        request = await peer.expect("subscribe")
        asked.set()
        await asyncio.wait_for(up.wait(), 10)
        entry = {"channel": "trade.*", "policy": "all", "seq": 0, "matched": 1}
        await peer.reply(request, result=[entry])
        await peer.control("snapshot_end", channels=["trade.*"], seq=0)
        await asyncio.wait_for(joined.wait(), 10)
        lost = {"from": 1, "to": 2, "cause": "slow", "recover": "none", "missed": 2}
        await peer.control("gap", channels=["trade.A"], **lost)
        await peer.event(3, 2)
        await peer.stay()

    async def second(peer: Peer) -> None:
        await asyncio.wait_for(asked.wait(), 10)
        await peer.begin()
        joined.set()
        for seq in (1, 2, 3):
            await peer.event(seq, seq - 1)
        await peer.stay()

    asked, up, joined = asyncio.Event(), asyncio.Event(), asyncio.Event()
    async with ScriptedServer(first) as a, ScriptedServer(second) as b:
        async with fanfare.connect([a.url, b.url]) as feed:
            call = asyncio.create_task(feed.subscribe("trade.*", policy="all"))
            await both_up(feed)
            up.set()
            await call
            seqs = {(await anext(feed)).seq for _ in range(3)}
            assert seqs == {1, 2, 3} and not feed.gaps


@bounded
async def test_what_only_one_of_them_was_granted_is_told() -> None:
    await refused_by_one("forbidden", retryable=False)


@bounded
async def test_what_one_of_them_has_no_room_for_is_told_and_it_stays() -> None:
    await refused_by_one("too_many_subscriptions", retryable=True)


async def refused_by_one(code: str, *, retryable: bool) -> None:
    async def refusing(peer: Peer) -> None:
        await peer.welcome()
        error = {"code": code, "message": "not here", "retryable": retryable}
        for _ in range(2):  # The application's, and the one for what the other one was granted.
            await peer.reply(await peer.expect("subscribe"), success=False, error=error)
        await peer.stay()

    async def iterate(feed: fanfare.Feed) -> None:
        async for _ in feed:
            pass

    def on_state(state: fanfare.State) -> None:
        if state.kind == "unsubscribed":
            told.set_result(state)

    async def granting(peer: Peer) -> None:
        await peer.begin()
        await peer.stay()

    told: asyncio.Future[fanfare.State] = asyncio.get_running_loop().create_future()
    async with ScriptedServer(granting) as a, ScriptedServer(refusing) as b:
        async with fanfare.connect([a.url, b.url], on_state=on_state) as feed:
            await both_up(feed)
            iteration = asyncio.create_task(iterate(feed))
            assert len(await feed.subscribe("trade.*")) == 1
            state = await told
            assert (state.url, state.channels) == (b.url, ("trade.*",))
            assert code in state.why
            assert [list(one.subscriptions) for one in feed.sessions].count(["trade.*"]) == 1
        await iteration


async def granting_new_terms(peer: Peer) -> None:
    await peer.begin()
    await peer.granted(0, policy="latest")
    await peer.stay()


@bounded
async def test_new_terms_that_were_given_while_one_was_away_hold_for_it_too() -> None:
    async def leaving(peer: Peer) -> None:
        await peer.begin()
        await asyncio.wait_for(begun.wait(), 10)
        peer.cut()

    async def returned(peer: Peer) -> None:
        await asyncio.wait_for(given.wait(), 10)
        await peer.welcome()
        asked.set_result((await peer.granted(0, policy="latest"))["policy"])
        await peer.stay()

    begun, given = asyncio.Event(), asyncio.Event()
    asked: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with ScriptedServer(granting_new_terms) as a, ScriptedServer(leaving, returned) as b:
        async with fanfare.connect([a.url, b.url]) as feed:
            await both_up(feed)
            await feed.subscribe("trade.*", policy="all")
            begun.set()
            while all(session.up for session in feed.sessions):
                await asyncio.sleep(0.001)
            await feed.subscribe("trade.*", policy="latest")
            given.set()
            assert await asked == "latest"


@bounded
async def test_new_terms_that_one_of_them_had_refused_are_asked_for_there_again() -> None:
    async def refusing(peer: Peer) -> None:
        await peer.begin()
        error = {"code": "rate_limited", "message": "later", "retryable": True}
        await peer.reply(await peer.expect("subscribe"), success=False, error=error)
        asked.set_result((await peer.granted(0, policy="latest"))["policy"])
        await peer.stay()

    asked: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with ScriptedServer(granting_new_terms) as a, ScriptedServer(refusing) as b:
        async with fanfare.connect([a.url, b.url]) as feed:
            await both_up(feed)
            await feed.subscribe("trade.*", policy="all")
            await feed.subscribe("trade.*", policy="latest")
            assert await asked == "latest"
