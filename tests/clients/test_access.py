"""Who is let in, and what is refused, seen by clients that others wrote."""

import base64
import hashlib
import hmac
import json
import re
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

import support
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

SECRET = b"a secret of thirty-two bytes ....."


def new_key(name):
    """A key made by the program: the credential, and its digest for the access file."""
    made = subprocess.run(
        [support.PROGRAM, "key", "--id", name],
        capture_output=True,
        text=True,
        timeout=support.TIMEOUT_S,
        check=True,
    )
    credential = re.search(rf"{name}\.[A-Za-z0-9_-]{{43}}", made.stderr)[0]
    return credential, re.search(r"\b[0-9a-f]{64}\b", made.stdout)[0]


def token(**claims):
    """A JSON Web Token, signed as RFC 7515 says."""

    def encode(part):
        return base64.urlsafe_b64encode(part).rstrip(b"=")

    header = encode(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
    signed = header + b"." + encode(json.dumps(claims).encode())
    signature = hmac.new(SECRET, signed, hashlib.sha256).digest()
    return (signed + b"." + encode(signature)).decode()


class Access(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.key, digest = new_key("desk-7")
        cls.single, single_digest = new_key("single")
        Path(cls.folder, "secret").write_bytes(SECRET)
        cls.rules = Path(cls.folder, "access.toml")
        cls.rules.write_text(
            f"""
            origins = ["https://app.example"]
            [[key]]
            id = "desk-7"
            sha256 = "{digest}"
            subscribe = ["quote.>", "trade.BTC"]
            publish = [">"]
            [[key]]
            id = "single"
            sha256 = "{single_digest}"
            subscribe = [">"]
            connections_max = 1
            [token]
            algorithms = ["HS256"]
            keys = [{{ algorithm = "HS256", file = "secret" }}]
            audience = "fanfare"
            """
        )
        cls.server = cls.enterClassContext(support.serve("--access", str(cls.rules)))

    def test_a_bad_credential_is_refused_before_the_channel_opens(self):
        for bad in ["desk-7.wrong", "nobody.x", "a.b.c", token(sub="x", aud="other", exp=9e9)]:
            for way in [
                {"additional_headers": {"Authorization": f"Bearer {bad}"}},
                {"query": f"?token={bad}"},
            ]:
                with self.subTest(bad=bad, way=way):
                    answer = self.refused(**way)
                    self.assertEqual(answer.status_code, 401)
                    self.assertEqual(answer.headers["WWW-Authenticate"], "Bearer")

    def test_a_key_opens_what_it_is_for_and_nothing_else(self):
        header = {"Authorization": f"Bearer {self.key}"}
        for way in [{"additional_headers": header}, {"query": f"?token={self.key}"}]:
            with self.open(**way) as client:
                self.assertNotIn("auth_ms", self.hear(client))
                self.assertTrue(self.ask(client, "subscribe", channels=["quote.*"])["success"])
                for forbidden in [">", "trade.*", "trade.ETH"]:
                    answer = self.ask(client, "subscribe", channels=[forbidden])
                    self.assertEqual(answer["error"]["code"], "forbidden", forbidden)

    def test_a_token_says_what_its_holder_may_do_and_until_when(self):
        soon = int(time.time()) + 2
        rights = {"subscribe": ["trade.>"]}
        holder = token(sub="alice", aud="fanfare", exp=soon, fanfare=rights)
        with self.open(query=f"?token={holder}") as client:
            self.assertEqual(self.hear(client)["expires"] // 1_000_000_000 // 100, (soon + 30) // 100)
            self.assertTrue(self.ask(client, "subscribe", channels=["trade.*"])["success"])
            self.assertFalse(self.ask(client, "subscribe", channels=["quote.*"])["success"])

    def test_whoever_comes_without_a_credential_shows_it_in_time_or_is_closed(self):
        with self.open() as client:
            self.assertEqual(self.hear(client)["auth_ms"], 5000)
            refused = self.ask(client, "subscribe", channels=["quote.*"])
            self.assertEqual(refused["error"]["code"], "auth_required")
            self.assertTrue(self.ask(client, "auth", token=self.key)["success"])
            self.assertTrue(self.ask(client, "subscribe", channels=["quote.*"])["success"])
        say_wrong = lambda client: self.ask(client, "auth", token="desk-7.wrong")
        self.assertEqual(self.closed_with(self.server, say_wrong), 4000)
        with support.serve("--access", str(self.rules), "--auth-timeout", "500ms") as server:
            self.assertEqual(self.closed_with(server, lambda client: None), 4001)

    def test_pages_of_other_origins_are_refused(self):
        header = {"Authorization": f"Bearer {self.key}"}
        answer = self.refused(additional_headers=header, origin="https://evil.example")
        self.assertEqual(answer.status_code, 403)
        with self.open(additional_headers=header, origin="https://app.example") as client:
            self.hear(client)

    def test_a_key_has_as_many_connections_as_it_may(self):
        header = {"Authorization": f"Bearer {self.single}"}
        with self.open(additional_headers=header) as client:
            self.hear(client)
            answer = self.refused(additional_headers=header)
            self.assertEqual(answer.status_code, 429)
            self.assertIn(int(answer.headers["Retry-After"]), range(1, 60))
        # The first one's place is free again once the server has seen it go.
        support.eventually(lambda: self.opens(additional_headers=header))

    def test_producers_show_a_credential_first(self):
        event = b'{"channel":"quote.a","data":1}'
        self.assertIn("auth", support.publish(self.server.source, [event]))
        shown = json.dumps({"method": "auth", "params": {"token": self.key}}).encode()
        self.assertNotIn("error", support.publish(self.server.source, [shown, event]))

    def test_no_secret_is_ever_written_to_the_log(self):
        with support.serve("--access", str(self.rules), "--log", "trace") as server:
            for query in [f"?token={self.key}", "?token=desk-7.wrong"]:
                try:
                    connect(server.url + query).close()
                except InvalidStatus:
                    pass
            server.stop()
            log = server.errors.rest()
        self.assertNotIn(self.key.split(".")[1], log)
        self.assertNotIn("desk-7.wrong", log)

    def open(self, query="", **options):
        return connect(self.server.url + query, open_timeout=support.TIMEOUT_S, **options)

    def opens(self, **options):
        try:
            self.open(**options).close()
            return True
        except InvalidStatus:
            return False

    def refused(self, **options):
        with self.assertRaises(InvalidStatus) as raised:
            self.open(**options)
        return raised.exception.response

    def closed_with(self, server, act):
        """The code that a client without a credential is closed with after `act`."""
        with connect(server.url, open_timeout=support.TIMEOUT_S) as client:
            self.hear(client)
            act(client)
            with self.assertRaises(ConnectionClosed) as raised:
                client.recv(timeout=support.TIMEOUT_S)
            return raised.exception.rcvd.code

    def hear(self, client):
        return json.loads(client.recv(timeout=support.TIMEOUT_S))

    def ask(self, client, method, **params):
        if method == "subscribe":
            params["snapshot"] = False
        client.send(json.dumps({"method": method, "params": params}))
        return self.hear(client)
