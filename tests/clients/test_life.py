"""How a server leaves, and whom it has no room for, seen by clients that others wrote."""

import json
import signal
import unittest

import support
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect


class Life(unittest.TestCase):
    def test_a_drain_is_announced_and_closes_everybody_in_turn(self):
        to = "wss://b.example/v1"
        with support.serve("--drain", "4s", "--drain-to", to) as server:
            clients = [self.subscribed(server) for _ in range(20)]
            server.process.send_signal(signal.SIGTERM)
            for client in clients:
                notice = self.next_of(client, "drain")
                self.assertEqual(notice["to"], [to])
                self.assertLessEqual(notice["retry_after_ms"], notice["deadline_ms"])
                self.assertLessEqual(notice["deadline_ms"], 4_000)
            with self.assertRaises(InvalidStatus) as refused:
                connect(server.url)
            self.assertEqual(refused.exception.response.status_code, 503)
            self.assertIn("Retry-After", refused.exception.response.headers)
            for client in clients:
                self.assertEqual(self.close_code(client), 1012)
            self.assertEqual(server.process.wait(support.TIMEOUT_S), 0)

    def test_a_second_signal_ends_a_drain(self):
        with support.serve("--drain", "300s") as server:
            client = self.subscribed(server)
            server.process.send_signal(signal.SIGTERM)
            self.next_of(client, "drain")
            server.process.send_signal(signal.SIGTERM)
            server.process.wait(support.TIMEOUT_S)

    def test_where_there_is_no_room_the_answer_says_when_to_come_back(self):
        with support.serve("--cores", "0", "--connections-max", "1") as server:
            with connect(server.url):
                waits = set()
                for _ in range(12):
                    with self.assertRaises(InvalidStatus) as refused:
                        connect(server.url)
                    self.assertEqual(refused.exception.response.status_code, 503)
                    waits.add(int(refused.exception.response.headers["Retry-After"]))
                self.assertGreater(len(waits), 1, "not all are told the same time")

    def test_one_address_has_as_many_connections_as_it_may(self):
        with support.serve("--address-connections-max", "2") as server:
            with connect(server.url), connect(server.url):
                with self.assertRaises(InvalidStatus) as refused:
                    connect(server.url)
                self.assertEqual(refused.exception.response.status_code, 429)

    def test_a_client_that_does_not_answer_pings_is_closed_with_4101(self):
        with support.serve("--ping-interval", "200ms", "--pong-timeout", "200ms") as server:
            silent = support.ClientProgram([support.tool("node"), support.HERE / "client_mute.mjs", server.url])
            with silent as client:
                self.assertEqual(client.next(), "ping")
                self.assertEqual(client.next(), "closed 4101")

    def test_a_client_without_a_subscription_is_closed_with_4102(self):
        with support.serve("--idle-timeout", "200ms") as server, connect(server.url) as client:
            self.assertEqual(self.close_code(client), 4102)

    def subscribed(self, server):
        client = connect(server.url)
        client.send('{"method":"subscribe","params":{"channels":[">"],"snapshot":false}}')
        self.assertTrue(self.next_of(client, None)["success"])
        return client

    def next_of(self, client, kind):
        """The next control message of a kind, or the next answer."""
        while True:
            message = json.loads(client.recv(timeout=support.TIMEOUT_S))
            if message.get("type") == kind:
                return message

    def close_code(self, client):
        with self.assertRaises(ConnectionClosed) as closed:
            while True:
                client.recv(timeout=support.TIMEOUT_S)
        return closed.exception.rcvd.code
