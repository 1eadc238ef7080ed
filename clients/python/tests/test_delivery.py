"""What is handed out when a pattern is asked for again, and what is not."""

from __future__ import annotations

import json

from scripted import frame

import fanfare
from fanfare.delivery import HOLES_MAX, Delivery
from fanfare.messages import Gap, Terms
from fanfare.session import Arrival, Session


def take(delivery: Delivery, raw: str, promised: bool = True, full: bool = False) -> bool:
    return delivery.take(Arrival(fanfare.Event(raw, "E"), promised, full))


def test_a_book_asked_for_again_begins_with_its_snapshot() -> None:
    delivery = Delivery([Session()])
    book = [frame(5, 0, "b", kind="snapshot"), frame(6, 5, "b"), frame(8, 6, "b")]
    assert [take(delivery, one) for one in book] == [True, True, True]
    assert [take(delivery, one) for one in book] == [False, False, False]
    assert [take(delivery, one, full=True) for one in book] == [True, True, True]
    assert take(delivery, frame(9, 8, "b"))


def test_a_value_asked_for_again_comes_again_but_nothing_older() -> None:
    delivery = Delivery([Session()])
    assert take(delivery, frame(5, 0, "q", key="a"))
    assert take(delivery, frame(5, 0, "q", key="a"), full=True)
    assert not take(delivery, frame(4, 0, "q", key="a"), full=True)
    assert take(delivery, frame(3, 0, "q", key="b"))


def test_what_was_missing_of_a_stream_may_come_late_and_once() -> None:
    delivery = Delivery([Session()])
    assert [take(delivery, frame(seq, prev, "t")) for seq, prev in ((1, 0), (9, 8))] == [True, True]
    late = fanfare.Event(frame(4, 1, "t"), "E")
    assert delivery.take(Arrival(late, True, False)) and late.recovered
    assert [take(delivery, frame(seq, 1, "t")) for seq in (4, 1, 9, 8, 8)] == [False] * 3 + [
        True,
        False,
    ]


def test_of_a_book_nothing_comes_late() -> None:
    delivery = Delivery([Session()])
    assert take(delivery, frame(1, 0, "b"))
    assert take(delivery, frame(9, 8, "b"))
    assert take(delivery, frame(10, 9, "b", kind="snapshot"))
    assert not take(delivery, frame(4, 1, "b"))


def test_where_newer_events_stand_for_older_ones_nothing_comes_late() -> None:
    delivery = Delivery([Session()])
    assert take(delivery, frame(1, 0, "t"), promised=False)
    assert take(delivery, frame(9, 8, "t"), promised=False)
    assert not take(delivery, frame(4, 1, "t"), promised=False)


def holding(*patterns: str) -> Session:
    session = Session()
    session.connected("E")
    (request,) = session.subscribe(patterns, Terms(policy="all"), full=False)
    entries = [{"channel": one, "policy": "all", "seq": 10} for one in patterns]
    reply = {"method": "subscribe", "success": True, "req_id": request.id, "result": entries}
    session.receive(json.dumps(reply))
    return session


def test_a_gap_waits_only_for_a_session_that_has_its_channels() -> None:
    one, other = holding("trade.*", "quote.*"), holding("quote.*")
    delivery = Delivery([one, other])
    lost = Gap(("trade.X",), 20, 30, 11, "slow", "none")
    assert delivery.gap(one, lost) == [lost]
    mixed = Gap(("quote.X", "trade.X"), 31, 40, 10, "slow", "none")
    assert delivery.gap(one, mixed) == [mixed]
    patterns = Gap(("quote.*", "trade.*"), 41, 50, 10, "slow", "none")
    assert delivery.gap(one, patterns) == [patterns]
    covered = Gap(("quote.X",), 51, 60, 10, "slow", "none")
    assert delivery.gap(one, covered) == [] and delivery.waits
    other.ended(["quote.*"])
    assert delivery.settle() == [covered], "it was lost for good when the other one left off"


def test_what_was_missing_before_the_first_event_may_come_late() -> None:
    session = Session()
    delivery = Delivery([session])
    gap = Gap(("t.*",), 3, 8, None, "slow", "resume")
    assert delivery.gap(session, gap) == [gap]
    assert take(delivery, frame(9, 8, "t.a"))
    assert take(delivery, frame(4, 2, "t.a"))
    assert not take(delivery, frame(2, 1, "t.a"))


def test_the_number_of_holes_is_bounded() -> None:
    delivery = Delivery([Session()])
    last = 10 * (HOLES_MAX + 3)
    assert all(take(delivery, frame(seq, seq - 1, "t")) for seq in range(10, last, 10))
    assert not take(delivery, frame(15, 10, "t")), "the oldest hole is forgotten"
    assert take(delivery, frame(last - 15, last - 16, "t"))
