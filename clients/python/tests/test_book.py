"""Books: the general form, and Binance's rules of sequence."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from scripted import frame

import fanfare
from fanfare.book import Level


def test_a_book_sets_levels_deletes_at_zero_and_keeps_them_sorted() -> None:
    book = fanfare.Book()
    assert not book.apply(fanfare.Event(frame(1, 0, "book.A", '{"b":[["1","1"]]}')))
    assert not book.whole and book.why == "no snapshot yet"
    data = '{"bids":[["10.0","1"],["9.5","2"]],"asks":[["11","3"],["12","4"]]}'
    assert book.apply(fanfare.Event(frame(2, 1, "book.A", data, kind="snapshot")))
    data = '{"b":[["10","0"],["9.7","5"]],"a":[["10.9","1"],["12.0","6"],["99","0"]]}'
    assert book.apply(fanfare.Event(frame(3, 2, "book.A", data)))
    assert book.seq == 3
    assert book.bids() == [(Decimal("9.7"), Decimal(5)), (Decimal("9.5"), Decimal(2))]
    assert book.asks(2) == [(Decimal("10.9"), Decimal(1)), (Decimal(11), Decimal(3))]
    assert book.best_bid == Level(Decimal("9.7"), Decimal(5))
    assert book.asks()[-1] == (Decimal(12), Decimal(6))
    data = '{"bids":[],"asks":[["5","1"]]}'
    book.apply(fanfare.Event(frame(4, 3, "book.A", data, kind="snapshot")))
    assert (book.best_bid, book.best_ask) == (None, (5, 1))


def book_of(*raws: str) -> fanfare.Book:
    book = fanfare.Book()
    for raw in raws:
        assert book.apply(fanfare.Event(raw, "E1"))
    return book


def test_a_book_of_which_a_change_is_missing_is_not_whole_until_its_next_snapshot() -> None:
    book = book_of(frame(2, 0, "book.A", kind="snapshot"), frame(4, 2, "book.A"))
    assert not book.apply(fanfare.Event(frame(9, 7, "book.A", '{"b":[["1","1"]]}'), "E1"))
    assert not book.whole and "after seq 4 came 9" in book.why and book.bids() == []
    assert not book.apply(fanfare.Event(frame(10, 9, "book.A"), "E1")), "it still is"
    assert book.apply(fanfare.Event(frame(12, 11, "book.A", kind="snapshot"), "E1"))
    assert book.apply(fanfare.Event(frame(13, 12, "book.A"), "E1"))


def test_changes_of_another_epoch_do_not_make_an_old_book_new() -> None:
    book = book_of(frame(20, 0, "book.A", kind="snapshot"))
    assert not book.apply(fanfare.Event(frame(21, 20, "book.A"), "E2"))
    assert "E2" in book.why
    assert book.apply(fanfare.Event(frame(22, 21, "book.A", kind="snapshot"), "E2"))


def test_what_is_not_known_to_be_missing_leaves_a_book_whole() -> None:
    # The event before it is of another key, or was lost by a server that says so by a gap.
    book = book_of(frame(2, 0, "book.A", kind="snapshot", key="k"), frame(9, 7, "book.A", key="k"))
    book.broken("a gap")
    assert not book.apply(fanfare.Event(frame(10, 9, "book.A", key="k"), "E1"))
    assert book.why == "a gap"
    book_of(frame(2, 0, "book.A", kind="snapshot"), frame(9, 0, "book.A"))
    # A snapshot that was fetched elsewhere has no place among the events.
    book = fanfare.Book()
    assert book.apply_data("snapshot", {}) and book.apply(fanfare.Event(frame(9, 7, "book.A")))


def spot(first: int, last: int) -> dict[str, Any]:
    return {"U": first, "u": last, "b": [[str(last), "1"]], "a": []}


def futures(first: int, last: int, before: int) -> dict[str, Any]:
    return {**spot(first, last), "pu": before}


SNAPSHOT = {"lastUpdateId": 100, "bids": [["1", "1"]], "asks": [["999", "1"]]}


@pytest.mark.parametrize(
    ("early", "late", "whole"),
    [
        ([], [spot(101, 103), spot(104, 104)], True),
        ([spot(90, 95), spot(96, 102)], [spot(103, 110)], True),
        ([], [spot(90, 100), spot(98, 101)], True),
        ([], [spot(102, 103)], False),
        ([], [spot(101, 103), spot(105, 106)], False),
        ([], [futures(95, 100, 94), futures(105, 110, 100)], True),
        ([futures(80, 90, 70), futures(95, 104, 90)], [futures(108, 110, 104)], True),
        ([], [futures(101, 104, 100)], True),
        ([], [futures(101, 104, 99)], False),
        ([], [futures(95, 104, 90), futures(106, 110, 105)], False),
    ],
)
def test_binance_changes_must_follow_each_other(
    early: list[dict[str, Any]], late: list[dict[str, Any]], whole: bool
) -> None:
    book = fanfare.BinanceDepth()
    for change in early:
        assert not book.apply_data("update", change)
    assert book.apply_data("snapshot", SNAPSHOT)
    for change in late:
        book.apply_data("update", change)
    assert book.whole is whole
    if whole:
        assert book.update_id == late[-1]["u"]
        assert (Decimal(book.update_id), Decimal(1)) in book.bids()
    else:
        assert "after update" in book.why
        assert book.apply_data("snapshot", {**SNAPSHOT, "lastUpdateId": late[-1]["u"] - 1})
        assert book.update_id == late[-1]["u"], "what broke the chain follows the new snapshot"


def test_floats_are_faster_and_equal_books_are_equal() -> None:
    books = [fanfare.BinanceDepth(float) for _ in range(2)]
    for book in books:
        book.apply_data("snapshot", SNAPSHOT)
    assert books[0] == books[1] and books[0].best_bid == (1.0, 1.0)
    books[0].apply_data("update", spot(101, 102))
    assert books[0] != books[1]
