"""Rebuilds Binance's order books from the channels `book.*`. Needs: pip install ./clients/python

    fanfare serve --source tcp://127.0.0.1:9002
    python3 clients/python/examples/order_book.py ws://127.0.0.1:9001/v1 \
        --publish 127.0.0.1:9002 --check usdm/btcusdt_20240808.gz spot/ethusdt_20240808.gz

Captures have a line `<ns> <raw JSON>` for each message, as hftbacktest's collector records them.
With --publish, it is the producer of the channels as well; with --check, it ends when each book is
where the capture ends, and compares it with a book that was built straight from the capture.
"""

import argparse
import asyncio
import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fanfare


def depth(capture: Path) -> Iterator[tuple[str, Any]]:
    """The snapshot and the changes of a capture, in the order in which they were recorded."""
    opened = gzip.open if capture.suffix == ".gz" else open
    with opened(capture, "rt") as lines:
        for line in lines:
            message = json.loads(line.split(" ", 1)[1])
            if "lastUpdateId" in message:
                yield "snapshot", message
            elif message.get("data", {}).get("e") == "depthUpdate":
                yield "update", message["data"]


def channel_of(capture: Path) -> str:
    """`book.usdm-btcusdt_20240808` for usdm/btcusdt_20240808.gz."""
    return f"book.{capture.resolve().parent.name}-{capture.name.split('.')[0]}"


def lines(capture: Path) -> Iterator[bytes]:
    """What a producer sends: the snapshot first, then the changes that it does not hold.

    On Binance's stream some of those come before the snapshot does. Published in that order, they
    would not belong to the book that the snapshot begins, and who joins later could not chain it.
    """
    early: list[Any] | None = []
    for kind, data in depth(capture):
        if kind == "snapshot":
            yield line(capture, kind, data)
            for change in early or ():
                if change["u"] >= data["lastUpdateId"]:
                    yield line(capture, "update", change)
            early = None
        elif early is not None:
            early.append(data)
        else:
            yield line(capture, kind, data)


def line(capture: Path, kind: str, data: Any) -> bytes:
    event = {"channel": channel_of(capture), "kind": kind, "data": data}
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"


async def publish(address: str, captures: list[Path]) -> None:
    """Sends all of it; the server reads as fast as it can take it."""
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    for capture in captures:
        for text in lines(capture):
            writer.write(text)
            await writer.drain()
    writer.write_eof()
    refused = await reader.read()
    writer.close()
    if refused:
        sys.exit(f"the server refused: {refused.decode()}")


def straight(capture: Path) -> fanfare.BinanceDepth:
    """The book at the end of a capture, without a server."""
    book = fanfare.BinanceDepth()
    for kind, data in depth(capture):
        book.apply_data(kind, data)
    return book


async def main(options: argparse.Namespace) -> None:
    wanted = {channel_of(one): straight(one) for one in options.capture} if options.check else {}
    books: dict[str, fanfare.BinanceDepth] = {}
    sending: asyncio.Task[None] | None = None
    async with fanfare.connect(options.url, on_gap=print, on_state=print) as feed:
        await feed.subscribe("book.*", policy="all")
        if options.publish:
            sending = asyncio.create_task(publish(options.publish, options.capture))
        async for event in feed:
            book = books.setdefault(event.channel, fanfare.BinanceDepth())
            if not book.apply(event):
                print(f"{event.channel}: seq {event.seq}: {book.why}", file=sys.stderr)
            if not options.check:
                print(event.channel, event.seq, book.best_bid, book.best_ask)
            elif all(
                name in books and books[name].update_id == wanted[name].update_id for name in wanted
            ):
                break
        if sending:
            await sending
    for name, book in wanted.items():
        same = books[name].whole and book.whole and books[name] == book
        print(name, "is the capture's book" if same else "DIFFERS", books[name])
        if not same:
            sys.exit(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("url")
    parser.add_argument("--publish", metavar="HOST:PORT", help="a TCP source of the server")
    parser.add_argument("--check", action="store_true", help="compare with the captures")
    parser.add_argument("capture", nargs="*", type=Path)
    asyncio.run(main(parser.parse_intermixed_args()))
