"""What `curl` is told by a server that speaks only WebSocket on one path."""

import subprocess
import unittest

import support

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455, section 1.3.


class Http(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(support.serve())

    def test_an_upgrade_is_accepted_and_the_welcome_is_the_first_frame(self):
        with support.CurlClient(self.server.url, ["trade.*"]) as client:
            self.assertEqual(client.next(), "open fanfare.v1.json")
            self.assertEqual(client.head[0].split(" ")[:2], ["HTTP/1.1", "101"])
            fields = dict(line.lower().split(": ", 1) for line in client.head[1:])
            self.assertEqual(fields["upgrade"], "websocket")
            self.assertEqual(fields["sec-websocket-accept"], ACCEPT.lower())
            self.assertTrue(client.next().startswith('{"channel":"control","type":"welcome"'))

    def test_a_plain_get_is_told_to_upgrade(self):
        status, fields = self.ask("/v1")
        self.assertEqual(status, 426)
        self.assertEqual(fields["upgrade"], "websocket")

    def test_another_path_is_not_found(self):
        self.assertEqual(self.ask("/v2")[0], 404)
        self.assertEqual(self.ask("/v2", *self.upgrade())[0], 404)

    def test_another_method_is_not_allowed(self):
        status, fields = self.ask("/v1", "-X", "POST", "-d", "x")
        self.assertEqual(status, 405)
        self.assertEqual(fields["allow"], "get")

    def test_another_version_of_the_protocol_is_told_which_is_spoken(self):
        status, fields = self.ask("/v1", *self.upgrade(version=8))
        self.assertEqual(status, 426)
        self.assertEqual(fields["sec-websocket-version"], "13")

    def upgrade(self, version=13):
        headers = [
            "Connection: Upgrade",
            "Upgrade: websocket",
            f"Sec-WebSocket-Version: {version}",
            f"Sec-WebSocket-Key: {KEY}",
        ]
        return [option for header in headers for option in ("-H", header)]

    def ask(self, path, *options):
        """The status and the header fields of an answer, after which the server hangs up."""
        url = f"http://{self.server.listen}{path}"
        command = [support.tool("curl"), "-sS", "-i", "--http1.1", *options, url]
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=support.TIMEOUT_S, check=True
        )
        head = answer.stdout.split("\n\n")[0].splitlines()
        fields = dict(line.lower().split(": ", 1) for line in head[1:])
        return int(head[0].split(" ")[1]), fields
