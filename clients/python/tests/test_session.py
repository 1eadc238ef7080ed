"""What a session claims, and which links of events it checks."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from scripted import frame

import fanfare
from fanfare.messages import Position, Terms
from fanfare.requests import CHANNELS_BYTES_MAX
from fanfare.session import Arrival, Recovered, Session


def control(kind: str, **message: Any) -> str:
    return json.dumps({"channel": "control", "type": kind, **message}, separators=(",", ":"))


def subscribe(
    session: Session, pattern: str, seq: int, terms: Terms | None = None, **entry: Any
) -> None:
    (request,) = session.subscribe([pattern], terms or Terms(policy="all"), full=True)
    granted(session, request.id, pattern, seq, **entry)


def granted(session: Session, request_id: int, pattern: str, seq: int, **entry: Any) -> None:
    entry = {"channel": pattern, "policy": "all", "seq": seq, **entry}
    reply = {"method": "subscribe", "success": True, "req_id": request_id, "result": [entry]}
    session.receive(json.dumps(reply))


def ended(session: Session, pattern: str, seq: int) -> None:
    (output,) = session.receive(control("snapshot_end", channels=[pattern], seq=seq))
    assert output == Recovered((pattern,), seq)


@pytest.fixture
def session() -> Session:
    session = Session()
    session.connected("E")
    return session


def test_nothing_is_claimed_before_the_first_snapshot_is_complete(session: Session) -> None:
    subscribe(session, "a.*", 10)
    session.receive(frame(9, 0, "a.x"))
    session.receive(control("heartbeat", seq=10))
    assert session.claims() == {"a.*": None}
    ended(session, "a.*", 10)
    assert session.claims() == {"a.*": Position("E", 10)}


def test_the_last_event_and_heartbeat_in_order_are_claimed(session: Session) -> None:
    subscribe(session, "a.*", 10)
    ended(session, "a.*", 10)
    session.receive(frame(12, 9, "a.x"))
    assert session.position() == 12
    session.receive(control("heartbeat", seq=20))
    assert session.position() == 20


def test_while_a_recovery_runs_the_position_before_it_is_claimed(session: Session) -> None:
    subscribe(session, "a.*", 10)
    ended(session, "a.*", 10)
    session.receive(frame(12, 9, "a.x"))
    subscribe(session, "b.*", 30)
    session.receive(frame(25, 12, "a.x"))
    session.receive(control("heartbeat", seq=30))
    assert session.claims() == {"a.*": Position("E", 12), "b.*": None}
    ended(session, "b.*", 30)
    assert session.claims() == {"a.*": Position("E", 12), "b.*": Position("E", 30)}
    session.receive(frame(31, 0, "b.x"))
    assert session.position() == 31


def test_without_a_snapshot_the_boundary_is_claimed_at_once(session: Session) -> None:
    subscribe(session, "a.*", 10, Terms(policy="all", snapshot=False))
    assert session.position() == 10


def test_sampled_events_come_out_of_order_and_are_not_claimed(session: Session) -> None:
    subscribe(session, "a.*", 10, interval_ms=100, policy="latest")
    subscribe(session, "b.*", 10)
    ended(session, "a.*", 10)
    ended(session, "b.*", 10)
    session.receive(frame(15, 0, "b.x"))
    assert session.claims() == {"a.*": Position("E", 10), "b.*": Position("E", 15)}
    session.receive(control("heartbeat", seq=16))
    assert session.position() == 16


def test_a_slower_tier_samples_what_conflates(session: Session) -> None:
    subscribe(session, "a.*", 10, policy="auto")
    ended(session, "a.*", 10)
    session.receive(frame(11, 0, "a.x"))
    session.receive(control("tier", interval_ms=10, seq=11))
    session.receive(frame(14, 11, "a.x"))
    assert session.position() == 11
    session.receive(control("tier", interval_ms=0, seq=20))
    session.receive(frame(21, 14, "a.x"))
    assert session.position() == 21


def test_a_heartbeat_between_connection_and_reply_proves_nothing(session: Session) -> None:
    subscribe(session, "a.*", 10)
    ended(session, "a.*", 10)
    session.disconnected()
    session.connected("E")
    (request,) = session.resubscribe()
    assert request.params["resume"] == {"epoch": "E", "seq": 10}
    session.receive(control("heartbeat", seq=99))
    assert session.position() == 10
    session.disconnected()
    assert session.position() == 10


def sampled(session: Session, count: int) -> list[str]:
    """Patterns that were granted one after the other, on a feed without heartbeats."""
    patterns = [f"quote.{number}" for number in range(1, count + 1)]
    for seq, pattern in enumerate(patterns, 1):
        subscribe(session, pattern, seq, Terms(interval_ms=100), policy="auto", interval_ms=100)
        ended(session, pattern, seq)
        session.receive(frame(seq + count, 0, pattern))
    return patterns


def test_patterns_of_the_same_terms_are_resumed_in_one_request(session: Session) -> None:
    patterns = sampled(session, 20)
    subscribe(session, "trade.*", 50)
    ended(session, "trade.*", 50)
    subscribe(session, "new.*", 60)
    claims = session.claims()
    session.disconnected()
    session.connected("E")
    requests = {one.params["channels"][0]: one.params for one in session.resubscribe()}
    assert requests["quote.1"]["channels"] == patterns
    assert requests["quote.1"]["resume"] == {"epoch": "E", "seq": 1}
    assert requests["trade.*"]["resume"] == {"epoch": "E", "seq": 50}
    assert "resume" not in requests["new.*"], "of its first snapshot there is nothing to claim"
    assert len(requests) == 3
    assert session.claims() == claims, "that nobody lowers to what the request names"


def test_what_the_operator_samples_does_not_hold_up_the_place_of_the_rest(
    session: Session,
) -> None:
    subscribe(session, "quote.*", 10, Terms(), policy="auto", interval_ms=1_000)
    ended(session, "quote.*", 10)
    subscribe(session, "trade.*", 10, Terms(), policy="auto")
    ended(session, "trade.*", 10)
    session.receive(frame(90, 0, "trade.x"))
    session.disconnected()
    session.connected("E")
    places = {tuple(one.params["channels"]): one.params["resume"] for one in session.resubscribe()}
    assert places == {
        ("quote.*",): {"epoch": "E", "seq": 10},
        ("trade.*",): {"epoch": "E", "seq": 90},
    }


def test_a_replay_from_the_place_of_another_pattern_brings_nothing_from_before_its_own(
    session: Session,
) -> None:
    sampled(session, 20)
    session.disconnected()
    session.connected("E")
    (request,) = session.resubscribe()
    channels = request.params["channels"]
    entries = [
        {"channel": one, "policy": "auto", "seq": 60, "resumed": True, "ids": {one: number}}
        for number, one in enumerate(channels)
    ]
    reply = {"method": "subscribe", "success": True, "req_id": request.id, "result": entries}
    session.receive(json.dumps(reply))
    assert session.receive(frame(15, 0, "quote.20")) == []
    assert session.receive(binary(15, channels.index("quote.20"))) == []
    assert len(session.receive(frame(15, 0, "quote.1"))) == 1
    assert len(session.receive(binary(16, channels.index("quote.2")))) == 1
    (arrival,) = session.receive(frame(41, 40, "quote.20"))
    assert isinstance(arrival, Arrival) and arrival.event.recovered


def binary(seq: int, channel: int) -> bytes:
    head = struct.pack("<4H4QIB3x", 40, 1, 1, 0, seq, 0, (1 << 64) - 1, seq, channel, 0)
    return head + struct.pack("<HI", 0, 2) + b"{}"


def test_gaps_of_different_places_are_healed_in_one_request(session: Session) -> None:
    for number in range(20):
        subscribe(session, f"a.{number}", 10)
        ended(session, f"a.{number}", 10)
    for number in range(20):
        gap = fanfare.Gap((f"a.{number}",), 20 + number, 30 + number, 1, "slow", "resume")
        assert session.heal(gap)
    (request,) = session.healing()
    assert len(request.params["channels"]) == 20
    assert request.params["resume"] == {"epoch": "E", "seq": 19}


def test_a_session_takes_over_the_terms_that_another_one_was_given(session: Session) -> None:
    other = Session()
    other.connected("E")
    subscribe(other, "a.*", 10, Terms(policy="all"))
    subscribe(session, "a.*", 10, Terms(policy="all"))
    session.disconnected()
    subscribe(other, "a.*", 20, Terms(policy="latest"))
    session.adopt(other)
    assert session.subscriptions == {"a.*": Terms(policy="latest")}


def test_what_another_session_was_granted_is_asked_for_where_it_is_missing(
    session: Session,
) -> None:
    subscribe(session, "a.*", 10, Terms(policy="all"))
    (request,) = session.hold(["a.*", "b.*"], Terms(policy="all"))
    assert request.params["channels"] == ["b.*"] and request.automatic
    assert session.hold(["b.*"], Terms(policy="all")) == [], "it is asked for once"
    granted(session, request.id, "b.*", 12)
    session.disconnected()
    assert session.hold(["a.*"], Terms(policy="latest")) == []
    assert session.subscriptions == {"a.*": Terms(policy="latest"), "b.*": Terms(policy="all")}


def lose(session: Session, first: int, last: int) -> None:
    """A gap of `a.x` that can be healed, and is to be."""
    lost = {"from": first, "to": last, "cause": "slow", "recover": "resume"}
    (gap,) = session.receive(control("gap", channels=["a.x"], **lost))
    assert isinstance(gap, fanfare.Gap) and session.heal(gap)


def test_a_gap_to_be_healed_lowers_the_claim_until_it_is(session: Session) -> None:
    subscribe(session, "a.*", 10)
    ended(session, "a.*", 10)
    session.receive(frame(30, 9, "a.x"))
    lose(session, 21, 29)
    assert session.position() == 20
    (request,) = session.healing()
    assert request.params["resume"] == {"epoch": "E", "seq": 20}
    assert session.healing() == []
    session.receive(frame(31, 30, "a.x"))
    assert session.position() == 20
    granted(session, request.id, "a.*", 31, resumed=True)
    session.receive(control("replay_end", channels=["a.*"], seq=31))
    assert session.position() == 31


def test_a_gap_that_recovers_by_snapshot_asks_for_one(session: Session) -> None:
    subscribe(session, "a.*", 10, Terms(snapshot=False))
    gap = fanfare.Gap(("a.x",), 11, 12, 1, "slow", "snapshot")
    assert session.heal(gap)
    (request,) = session.healing()
    assert request.params["snapshot"] is True and "resume" not in request.params
    for cause, recover in (("too_old", "snapshot"), ("slow", "none"), ("forgotten", "snapshot")):
        assert not session.heal(fanfare.Gap(("a.x",), 11, 12, 1, cause, recover))


@pytest.mark.parametrize("interval_ms", [None, 100])
def test_what_waits_before_a_gap_that_is_healed_is_still_owed(
    session: Session, interval_ms: int | None
) -> None:
    subscribe(session, "a.*", 10)
    ended(session, "a.*", 10)
    session.receive(frame(180, 9, "a.x"))
    # A receipt overtakes what is older, here a value that waits for its turn.
    lose(session, 195, 600)
    (request,) = session.healing()
    terms = {"interval_ms": interval_ms} if interval_ms else {}
    granted(session, request.id, "a.*", 600, resumed=True, **terms)
    assert len(session.receive(frame(190, 0, "a.q", key="k"))) == 1


def test_a_gap_within_a_recovery_is_healed_after_it(session: Session) -> None:
    subscribe(session, "a.*", 10)
    gap = fanfare.Gap(("a.x",), 5, 8, 1, "max_age", "resume")
    assert session.heal(gap)
    assert session.healing() == [], "not before the snapshot is complete"
    ended(session, "a.*", 10)
    assert session.claims() == {"a.*": None}
    (request,) = session.healing()
    assert request.params["resume"] == {"epoch": "E", "seq": 4}
    granted(session, request.id, "a.*", 12, resumed=True)
    session.receive(control("replay_end", channels=["a.*"], seq=12))
    assert session.position() == 12


def holes(session: Session, *frames: str) -> list[tuple[int, int]]:
    outputs = [output for one in frames for output in session.receive(one)]
    return [(one.from_seq, one.to_seq) for one in outputs if isinstance(one, fanfare.Gap)]


def test_a_link_that_nothing_accounts_for_is_a_hole(session: Session) -> None:
    subscribe(session, "a.*", 10)
    ended(session, "a.*", 10)
    assert holes(session, frame(12, 10, "a.x"), frame(13, 0, "a.y"), frame(20, 14, "a.x")) == [
        (13, 14)
    ]
    session.receive(control("heartbeat", seq=30))
    assert holes(session, frame(31, 29, "a.x")) == []
    receipt = {"from": 32, "to": 40, "missed": 3, "cause": "slow", "recover": "none"}
    session.receive(control("gap", channels=["a.x"], **receipt))
    assert holes(session, frame(41, 40, "a.x"), frame(42, 35, "a.y")) == [(31, 35)]
    receipt |= {"from": 43, "to": 50}
    session.receive(control("gap", channels=["a.*"], **receipt))
    assert holes(session, frame(51, 50, "a.z")) == []


def test_links_are_checked_only_where_every_event_is_promised(session: Session) -> None:
    for policy, found in (("latest", 0), ("auto", 1), ("all", 1), ("close", 1)):
        session.connected(policy)
        subscribe(session, "a.*", 10, policy=policy)
        ended(session, "a.*", 10)
        assert len(holes(session, frame(20, 15, "a.x"))) == found, policy
        # A key: under `auto` a newer event may stand for the one before.
        assert len(holes(session, frame(30, 25, "a.k", key="k"))) == (policy in ("all", "close"))


def test_the_terms_of_the_most_specific_pattern_and_exception_hold(session: Session) -> None:
    rules = [{"channel": "a.b", "policy": "all"}, {"channel": "a.*", "policy": "latest"}]
    subscribe(session, ">", 0, **{"policy": "all", "except": rules})
    ended(session, ">", 0)
    assert holes(session, frame(9, 8, "a.x")) == []
    assert holes(session, frame(10, 7, "a.b")) == [(1, 7)]


def test_events_up_to_the_boundary_are_marked_as_recovered(session: Session) -> None:
    subscribe(session, "a.*", 10)
    (early,) = session.receive(frame(10, 9, "a.x"))
    (late,) = session.receive(frame(11, 10, "a.x"))
    assert isinstance(early, Arrival) and isinstance(late, Arrival)
    assert (early.event.recovered, late.event.recovered) == (True, False)


def test_what_is_unsubscribed_while_it_is_recovered_holds_up_nothing(session: Session) -> None:
    subscribe(session, "a.*", 10)
    ended(session, "a.*", 10)
    subscribe(session, "b.*", 20)
    session.drop(["b.*"])
    session.receive(frame(21, 0, "a.x"))
    assert session.claims() == {"a.*": Position("E", 21)}
    assert session.receive(control("snapshot_end", channels=["b.*"], seq=20)) == []


def test_what_is_dropped_while_it_is_asked_for_does_not_come_back(session: Session) -> None:
    subscribe(session, "a.*", 10)
    ended(session, "a.*", 10)
    session.disconnected()
    session.connected("E")
    (automatic,) = session.resubscribe()
    (request,) = session.subscribe(["b.*", "c.*"], Terms(policy="all"), full=True)
    session.drop(["a.*", "b.*"])
    granted(session, automatic.id, "a.*", 20, resumed=True)
    entries = [{"channel": one, "policy": "all", "seq": 20} for one in ("b.*", "c.*")]
    reply = {"method": "subscribe", "success": True, "req_id": request.id, "result": entries}
    session.receive(json.dumps(reply))
    assert list(session.subscriptions) == ["c.*"]
    session.receive(control("replay_end", channels=["a.*"], seq=20))
    session.receive(control("snapshot_end", channels=["b.*", "c.*"], seq=20))
    assert session.claims() == {"c.*": Position("E", 20)}


def test_of_two_requests_for_a_pattern_that_was_dropped_between_the_later_one_counts(
    session: Session,
) -> None:
    (before,) = session.subscribe(["a.*"], Terms(policy="all"), full=True)
    session.drop(["a.*"])
    (after,) = session.subscribe(["a.*"], Terms(policy="latest"), full=True)
    granted(session, before.id, "a.*", 10)
    assert session.subscriptions == {}
    granted(session, after.id, "a.*", 11)
    assert session.subscriptions == {"a.*": Terms(policy="latest")}


def test_a_subscription_asked_for_when_the_server_ends_the_one_before_it_is_kept(
    session: Session,
) -> None:
    subscribe(session, "a.*", 10)
    (request,) = session.subscribe(["a.*"], Terms(policy="latest"), full=True)
    session.receive(control("unsubscribed", channels=["a.*"], seq=11, cause="max_age"))
    granted(session, request.id, "a.*", 12)
    assert session.subscriptions == {"a.*": Terms(policy="latest")}


def test_requests_are_cut_to_what_the_server_takes(session: Session) -> None:
    patterns = [f"channel.{number:05}.{'x' * 200}" for number in range(1_500)]
    requests = session.subscribe(patterns, Terms(), full=True)
    assert [one for request in requests for one in request.params["channels"]] == patterns
    assert all(len(request.text) < CHANNELS_BYTES_MAX + 1_000 for request in requests)
    short = session.subscribe([f"a{number}" for number in range(2_001)], Terms(), full=True)
    assert [len(request.params["channels"]) for request in short] == [1_000, 1_000, 1]


@pytest.mark.parametrize(
    "raw", ["ping", "[]", '{"channel":"control","type":"gap"}', '{"channel":"a","x":1}']
)
def test_what_is_no_message_is_a_protocol_error(session: Session, raw: str) -> None:
    with pytest.raises(fanfare.ProtocolError):
        session.receive(raw)
