"""The binary form brings every client the same items as the JSON form."""

import asyncio
import json
import struct
import unittest

import events
import fanfare
import support
from test_javascript_client import node
from websockets.sync.client import connect

FIELDS = ["channel", "key", "kind", "seq", "prev", "ts", "ts_in", "epoch", "recovered", "raw", "data"]


def publish(server, lines):
    assert support.publish(server.source, lines) == ""


def lines_of(published):
    """The capture, with a book, a key that needs escapes, and a channel that appears late."""
    lines = [event.line() for event in published]
    book = [b'{"channel":"book.A","kind":"snapshot","data":{"n":1}}', b'{"channel":"book.A","data":[2]}']
    escaped = json.dumps({"channel": "quote.A", "key": 'a"\\\n\u0007é', "data": 1.5}).encode()
    return [*lines[:20], *book, escaped, *lines[20:], b'{"channel":"late.A","data":{ "p" : 1.10 }}']


def until(client, word):
    """The lines of a client up to the first that begins with `word`."""
    lines = []
    while not lines or not lines[-1].startswith(word):
        lines.append(client.next())
    return lines


class Binary(unittest.IsolatedAsyncioTestCase):
    def test_the_server_speaks_it_when_it_is_offered_first(self):
        with support.serve() as server:
            publish(server, [b'{"channel":"trade.A","data":1}'])
            both = ["fanfare.v1.bin", "fanfare.v1.json"]
            for offered in (both, both[:1], both[::-1]):
                with connect(server.url, subprotocols=offered) as socket:
                    self.assertEqual(socket.subprotocol, offered[0])
                    socket.send('{"method":"subscribe","params":{"channels":">","policy":"latest"}}')
                    names, channel = {}, None
                    while channel is None:
                        message = socket.recv(support.TIMEOUT_S)
                        if isinstance(message, bytes):
                            channel = names[struct.unpack_from("<I", message, 40)[0]]
                        elif '"trade.A","type"' in message:
                            channel = "trade.A"
                        else:
                            message = json.loads(message)
                            for one in [message, *message.get("result", [])]:
                                names |= {id: name for name, id in one.get("ids", {}).items()}
                    self.assertEqual(channel, "trade.A")
                    self.assertEqual(bool(names), offered[0] == "fanfare.v1.bin")

    async def test_the_python_client_gives_the_same_events(self):
        lines = lines_of(events.published())
        with support.serve() as server:
            await asyncio.to_thread(publish, server, lines[:500])
            async with fanfare.connect(server.url) as text, fanfare.connect(
                server.url, binary=True
            ) as binary:
                feeds = [text, binary]
                for feed in feeds:
                    await feed.subscribe(">", policy="all")
                await asyncio.to_thread(publish, server, lines[500:])
                given = [await self.take(feed) for feed in feeds]
                self.assertEqual(given[0], given[1])
                self.assertGreater(len(given[0]), 1_000)

    async def take(self, feed):
        """Everything up to the last event, whose channel the server's hashes are of, too."""
        copy, taken = fanfare.StateHash(), []
        while not taken or taken[-1]["channel"] != "late.A":
            event = await asyncio.wait_for(anext(feed), support.TIMEOUT_S)
            copy.apply(event)
            taken.append({name: getattr(event, name) for name in FIELDS})
        for channel in ("quote.A", "book.A", "quote.BTCUSDT"):
            verified = await feed.verify(channel)
            self.assertIs(copy.agrees(verified), True, (verified, copy.of(channel)))
        return taken

    def test_the_javascript_client_gives_the_same_events(self):
        lines = lines_of(events.published())
        with support.serve() as server:
            publish(server, lines[:500])
            options = {"url": server.url, "channels": ">", "terms": {"policy": "all"}, "hash": True}
            options["verify"] = len(lines)
            both = [node({**options, "binary": binary}) for binary in (False, True)]
            given = []
            with both[0], both[1]:
                # The first events may be told before the reply is.
                heard = [until(client, "subscribed ") for client in both]
                publish(server, lines[500:])
                for client, first in zip(both, heard, strict=True):
                    taken = first + until(client, "verified ")
                    given.append([line for line in taken if line.startswith(("{", "verified "))])
            self.assertEqual(given[0], given[1])
            self.assertEqual(given[1][-1], "verified true late.A")
            self.assertGreater(len(given[1]), 1_000)
