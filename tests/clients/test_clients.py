"""Clients that others wrote subscribe, receive every event unchanged, and see the server leave."""

import json
import unittest

import events
import support


class Subscriber:
    """What every client must manage; a subclass says which it is."""

    connect = None
    can_ping = True

    def test_it_gets_every_event_unchanged_and_in_order_and_sees_the_server_leave(self):
        published = events.published()
        half = len(published) // 2
        with self.serve() as server:
            self.publish(server, published[:10])
            with type(self).connect(self.url(server), events.PATTERNS) as client:
                boundary = self.subscribed(client)
                self.publish(server, published[10:half])
                self.publish(server, published[half:])
                received = 0
                for event in events.expected(published, boundary):
                    events.check(self.line(client), event)
                    received += 1
                self.assertGreaterEqual(received, 1_000)
                self.look_at(server)
                self.assertEqual(server.stop(), 0, "the exit code after Ctrl-C")
                self.assertEqual(self.line(client), "closed 1001")

    def serve(self):
        return support.serve()

    def url(self, server):
        return server.url

    def look_at(self, server):
        """What else there is to be seen while the client is connected."""

    def publish(self, server, published):
        replies = support.publish(server.source, [event.line() for event in published])
        self.assertEqual(replies, "")

    def subscribed(self, client):
        """Reads up to the answer to the subscription and gives its boundary."""
        self.assertEqual(self.line(client), "open fanfare.v1.json")
        seen = [self.line(client) for _ in range(3 if self.can_ping else 2)]
        if self.can_ping:
            pong = next(line for line in seen if line.startswith("pong"))
            seen.remove(pong)
        welcome, answer = map(json.loads, seen)
        self.assertEqual((welcome["type"], welcome["v"]), ("welcome", 1))
        self.assertEqual((answer["success"], answer["req_id"]), (True, 1), answer)
        self.assertEqual([one["channel"] for one in answer["result"]], events.PATTERNS)
        boundary = answer["result"][0]["seq"]
        self.assertGreaterEqual(boundary, welcome["seq"])
        return boundary

    def line(self, client):
        """The next line that is not a heartbeat: those come whenever it was quiet."""
        while '"type":"heartbeat"' in (line := client.next())[:50]:
            pass
        return line


class PythonWebsocketsSync(Subscriber, unittest.TestCase):
    connect = support.python_client("client_sync.py")


class PythonWebsocketsAsyncio(Subscriber, unittest.TestCase):
    connect = support.python_client("client_asyncio.py")


class NodeWs(Subscriber, unittest.TestCase):
    connect = support.node_client("client_ws.mjs")


class RustTungstenite(Subscriber, unittest.TestCase):
    connect = support.TUNGSTENITE


class GoGorilla(Subscriber, unittest.TestCase):
    connect = support.GORILLA


class Compressed(Subscriber):
    """The same over permessage-deflate, which the client offers by itself."""

    def serve(self):
        # Also what is short, as most of these events are.
        every = ("--compression", "--compression-message-bytes-min", "0B")
        return support.serve(*every, "--admin", "127.0.0.1:0")

    def look_at(self, server):
        shards = server.stats()["shards"]
        readers = sum(shard["encodings"]["deflate"] for shard in shards)
        compressed = sum(shard["compressed"] for shard in shards)
        self.assertEqual(readers, 1)
        self.assertGreaterEqual(compressed, 100)


class CompressedPythonWebsocketsSync(Compressed, unittest.TestCase):
    connect = support.python_client("client_sync.py")


class CompressedPythonWebsocketsAsyncio(Compressed, unittest.TestCase):
    connect = support.python_client("client_asyncio.py")


class CompressedNodeWs(Compressed, unittest.TestCase):
    connect = support.node_client("client_ws.mjs")


class CompressedGoGorilla(Compressed, unittest.TestCase):
    connect = support.GORILLA


class CompressedBrowser(Compressed, unittest.TestCase):
    connect = support.BrowserClient
    can_ping = False


class NodeGlobal(Subscriber, unittest.TestCase):
    can_ping = False

    @staticmethod
    def connect(url, patterns):
        node = support.node_client("client_global.mjs", *support.node_options())
        return node(url, patterns)


class Curl(Subscriber, unittest.TestCase):
    connect = support.CurlClient


class Browser(Subscriber, unittest.TestCase):
    connect = support.BrowserClient
    can_ping = False


class TheCheckItself(unittest.TestCase):
    """The twin of the tests above: what they are for is noticed."""

    MESSAGE = (
        '{"channel":"trade.A","type":"update","seq":7,"prev":3,"ts":9,"ts_in":10,'
        '"data":{"p":1.10,"q":"é"}}'
    )
    EVENT = events.Event("trade.A", None, 9, '{"p":1.10,"q":"é"}', seq=7, prev=3)

    def test_a_message_that_was_changed_is_noticed(self):
        events.check(self.MESSAGE, self.EVENT)
        for before, after in [
            ("1.10", "1.1"),
            ("é", "\\u00e9"),
            ('"p":1.10,"q":"é"', '"q":"é","p":1.10'),
            ('"prev":3', '"prev":4'),
            ('"seq":7', '"seq":8'),
            ('"ts":9,', ""),
            ('"data":{', '"data": {'),
        ]:
            changed = self.MESSAGE.replace(before, after)
            self.assertNotEqual(changed, self.MESSAGE)
            with self.assertRaises(AssertionError, msg=changed):
                events.check(changed, self.EVENT)
