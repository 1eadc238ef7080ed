"""The small parts: patterns, retries, the buffer, the state's hash."""

from __future__ import annotations

import asyncio
import random
import zlib

import pytest
from scripted import bounded, frame

import fanfare
from fanfare import retry
from fanfare.buffer import LIFTED, Buffer
from fanfare.patterns import matches, most_specific


@pytest.mark.parametrize(
    ("pattern", "channel", "wanted"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.b.c", False),
        ("a.*", "a.b", True),
        ("a.*", "a.b.c", False),
        ("*.b", "a.b", True),
        (">", "a.b.c", True),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        ("a.*.c", "a.b.c", True),
        ("a.b", "a.c", False),
    ],
)
def test_patterns(pattern: str, channel: str, wanted: bool) -> None:
    assert matches(pattern, channel) is wanted


def test_a_name_is_more_specific_than_one_token_than_the_rest() -> None:
    assert most_specific([">", "a.>", "a.*", "a.b"]) == "a.b"
    assert most_specific([">", "*.b", "a.>"]) == "a.>"
    assert most_specific([]) is None


def test_codes_and_statuses_that_a_retry_does_not_change() -> None:
    final = [code for code in range(1000, 5000) if retry.code_is_final(code)]
    assert final == [1002, 1003, 1007, 1008, 1009, *range(4000, 4100)]
    statuses = (400, 401, 403, 404, 405, 408, 426, 429, 431, 500, 502, 503)
    final = [status for status in statuses if retry.status_is_final(status)]
    assert final == [400, 401, 403, 404, 405, 426, 431]
    assert [retry.retry_after_s(text) for text in (None, "7", "soon", "-1")] == [0, 7, 0, 0]


def test_backoff_doubles_to_its_bound_and_begins_anew_after_a_good_connection() -> None:
    class Most(random.Random):
        def uniform(self, low: float, high: float) -> float:
            assert low == 0
            return high

    backoff = retry.Backoff(Most())
    assert [backoff.next() for _ in range(9)] == [0.25, 0.5, 1, 2, 4, 8, 16, 30, 30]
    backoff.lasted(retry.GOOD_AFTER_S - 1)
    assert backoff.next(asked_s=7) == 37
    backoff.lasted(retry.GOOD_AFTER_S)
    assert backoff.next() == 0.25


@bounded
async def test_the_buffer_holds_up_its_writer_and_ends() -> None:
    buffer: Buffer[int] = Buffer(4)
    written = 0

    async def write() -> None:
        nonlocal written
        while True:
            await buffer.put([written])
            written += 1

    async def settled() -> None:
        for _ in range(500):
            await asyncio.sleep(0)

    writer = asyncio.create_task(write())
    await settled()
    assert len(buffer) == 4
    assert [await buffer.get() for _ in range(3)] == [0, 1, 2]
    await settled()
    assert len(buffer) == 4
    buffer.call_began()
    await settled()
    assert len(buffer) == 4 * LIFTED
    buffer.call_ended()
    assert len(await buffer.take()) == 4 * LIFTED
    writer.cancel()
    buffer.end(ValueError("why"))
    while True:
        try:
            await buffer.get()
        except ValueError:
            break


def test_the_hash_of_a_state_is_as_the_protocol_says() -> None:
    copy = fanfare.StateHash()
    raws = [
        frame(1, 0, "q.A", '{"key":"no"}', key='b"é'),
        frame(2, 1, "q.A", "1", key="a"),
        frame(3, 2, "q.A", "2", key="a"),
        frame(4, 3, "q.A", "3"),
        frame(5, 0, "book.A", "4"),
        frame(6, 5, "book.A", "5", kind="snapshot"),
        frame(7, 6, "book.A", "6"),
    ]
    for raw in raws:
        copy.apply(fanfare.Event(raw, "E"))
    lines = f'"a":{zlib.crc32(raws[2].encode()):08x}\n"b\\"é":{zlib.crc32(raws[0].encode()):08x}\n'
    wanted = fanfare.Verified("q.A", 4, 2, f"{zlib.crc32(lines.encode()):08x}")
    assert copy.of("q.A") == wanted
    assert copy.agrees(wanted) is True
    assert copy.agrees(fanfare.Verified("q.A", 4, 2, "00000000")) is False
    assert copy.agrees(fanfare.Verified("q.A", 5, 2, "00000000")) is None
    book = zlib.crc32(raws[6].encode(), zlib.crc32(raws[5].encode()))
    line = f"null:{book:08x}\n".encode()
    assert copy.of("book.A") == fanfare.Verified("book.A", 7, 1, f"{zlib.crc32(line):08x}")
    copy.apply(fanfare.Event(frame(1, 0, "book.A", "7"), "E2"))
    assert copy.of("book.A") == fanfare.Verified("book.A", 1, 0, f"{zlib.crc32(b''):08x}")
