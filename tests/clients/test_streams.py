"""Event streams, for clients that have no WebSocket."""

import json
import unittest
import urllib.parse

import events
import support
from test_clients import Subscriber


class Stream(Subscriber):
    """The same as over a WebSocket, with the subscription in the URL."""

    can_ping = False

    def url(self, server):
        channels = ",".join(events.PATTERNS)
        query = urllib.parse.urlencode({"channels": channels, "policy": "all", "snapshot": "false"})
        return f"http://{server.listen}/v1/sse?{query}"

    def subscribed(self, client):
        self.assertEqual(self.line(client), "open sse")
        welcome, answer = json.loads(self.line(client)), json.loads(self.line(client))
        self.assertEqual((welcome["type"], welcome["v"]), ("welcome", 1))
        self.assertEqual((answer["success"], answer.get("req_id")), (True, None), answer)
        self.assertEqual([one["channel"] for one in answer["result"]], events.PATTERNS)
        return answer["result"][0]["seq"]


class StreamCurl(Stream, unittest.TestCase):
    connect = support.CurlStream

    def test_a_quiet_stream_has_heartbeats_so_that_proxies_do_not_cut_it(self):
        with support.serve("--heartbeat", "100ms") as server:
            with support.CurlStream(self.url(server), events.PATTERNS) as client:
                self.subscribed(client)
                for _ in range(2):
                    heartbeat = json.loads(client.next())
                    said = (heartbeat["channel"], heartbeat["type"])
                    self.assertEqual(said, ("control", "heartbeat"))
                self.assertEqual(server.stop(), 0)


class StreamPython(Stream, unittest.TestCase):
    connect = support.python_client("client_stream.py")


class StreamNode(Stream, unittest.TestCase):
    connect = support.node_client("client_stream.mjs")


class StreamBrowser(Stream, unittest.TestCase):
    connect = support.BrowserStream
