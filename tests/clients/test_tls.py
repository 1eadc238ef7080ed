"""Clients that others wrote over `wss://`, and what TLS itself shows from the outside."""

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import unittest

import certificates
import events
import support
import test_clients
from websockets.asyncio.client import connect as connect_async
from websockets.sync.client import connect

AUTHORITY = certificates.Authority()
CHAIN, KEY = AUTHORITY.sign("server", "localhost")
TRUST = AUTHORITY.trusted()
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
UPGRADE = (
    b"GET /v1 HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def serve(*flags, chains=(CHAIN,), keys=(KEY,)):
    tls = ["--tls-listen", "127.0.0.1:0", "--tls-certificates", ",".join(chains)]
    return support.serve(*tls, "--tls-keys", ",".join(keys), *flags)


class SecureSubscriber(test_clients.Subscriber):
    """The check of `test_clients`, over `wss://`."""

    def serve(self):
        return serve()

    def url(self, server):
        return server.secure_url


class SecurePythonWebsocketsSync(SecureSubscriber, unittest.TestCase):
    connect = support.python_client("client_sync.py", environment=TRUST)


class SecurePythonWebsocketsAsyncio(SecureSubscriber, unittest.TestCase):
    connect = support.python_client("client_asyncio.py", environment=TRUST)


class SecureNodeWs(SecureSubscriber, unittest.TestCase):
    connect = support.node_client("client_ws.mjs", environment=TRUST)


class SecureNodeGlobal(SecureSubscriber, unittest.TestCase):
    can_ping = False

    @staticmethod
    def connect(url, patterns):
        options = support.node_options()
        return support.node_client("client_global.mjs", *options, environment=TRUST)(url, patterns)


class SecureGoGorilla(SecureSubscriber, unittest.TestCase):
    @staticmethod
    def connect(url, patterns):
        return support.GORILLA(url, patterns, environment=TRUST)


class SecureCurl(SecureSubscriber, unittest.TestCase):
    @staticmethod
    def connect(url, patterns):
        return support.CurlClient(url, patterns, "--cacert", AUTHORITY.certificate)


class SecureBrowser(SecureSubscriber, unittest.TestCase):
    can_ping = False

    @staticmethod
    def connect(url, patterns):
        accepted = certificates.public_key_hash(CHAIN)
        return support.BrowserClient(
            url, patterns, f"--ignore-certificate-errors-spki-list={accepted}"
        )


class Tls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(serve())

    def context(self, version=None):
        context = ssl.create_default_context(cafile=AUTHORITY.certificate)
        if version:
            context.minimum_version = context.maximum_version = version
        context.set_alpn_protocols(["http/1.1"])
        return context

    def open(self, context, server=None, name="localhost", session=None):
        host, port = (server or self.server).secure.rsplit(":", 1)
        plain = socket.create_connection((host, int(port)), timeout=support.TIMEOUT_S)
        return context.wrap_socket(plain, server_hostname=name, session=session)

    def test_both_versions_carry_events_with_python_websockets(self):
        for version, name in zip(VERSIONS, ["TLSv1.2", "TLSv1.3"]):
            with self.subTest(name):
                asyncio.run(self.carry(version, name))

    async def carry(self, version, name):
        async with asyncio.timeout(support.TIMEOUT_S):
            async with connect_async(self.server.secure_url, ssl=self.context(version)) as client:
                tls = client.transport.get_extra_info("ssl_object")
                self.assertEqual(tls.version(), name)
                await client.recv()
                await client.send('{"method":"subscribe","params":{"channels":["tls.>"],"snapshot":false}}')
                await client.recv()
                support.publish(self.server.source, [b'{"channel":"tls.a","data":1.50}'])
                self.assertIn('"data":1.50', await client.recv())

    def test_sessions_are_resumed_with_python(self):
        for version in VERSIONS:
            context = self.context(version)
            with self.subTest(version):
                with self.open(context) as first:
                    self.assertEqual(first.selected_alpn_protocol(), "http/1.1")
                    self.upgrade(first)
                    session = first.session
                with self.open(context, session=session) as second:
                    self.upgrade(second)
                    self.assertTrue(second.session_reused)

    def test_sessions_are_resumed_with_node(self):
        for version in ["TLSv1.2", "TLSv1.3"]:
            command = [support.tool("node"), support.HERE / "client_resume.mjs"]
            url = self.server.secure_url.replace("127.0.0.1", "localhost")
            said = subprocess.run(
                [*command, url, version],
                env={**os.environ, **TRUST},
                capture_output=True,
                text=True,
                timeout=support.TIMEOUT_S,
            )
            self.assertEqual(said.stdout.split("\n")[:2], [f"{version} new", f"{version} resumed"], said.stderr)

    def test_openssl_verifies_the_certificate_and_is_spoken_to_in_http_1_1(self):
        for version in ["-tls1_2", "-tls1_3"]:
            said = self.s_client(self.server, version, "-alpn", "h2,http/1.1")
            self.assertIn("Verify return code: 0 (ok)", said)
            self.assertIn("ALPN protocol: http/1.1", said)

    def test_versions_before_1_2_are_refused(self):
        said = self.s_client(self.server, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
        self.assertIn("Cipher is (NONE)", said)

    def test_the_certificate_is_the_one_of_the_name_that_is_asked_for(self):
        chain, key = AUTHORITY.sign("other", "other.example")
        with serve(chains=(CHAIN, chain), keys=(KEY, key)) as server:
            for name, subject in [("localhost", "server"), ("other.example", "other")]:
                with self.open(self.context(), server, name) as client:
                    subjects = dict(field[0] for field in client.getpeercert()["subject"])
                    self.assertEqual(subjects["commonName"], subject)
            said = self.s_client(server, "-servername", "nobody.example")
            self.assertIn("subject=CN = server", said, "the first one serves all other names")

    def test_a_new_certificate_is_taken_without_disconnecting_anybody(self):
        chain, key = AUTHORITY.sign("renewed", "localhost")
        with serve(chains=(chain,), keys=(key,)) as server:
            # TLS 1.2 for the reason in client_sync.py.
            with connect(server.secure_url, ssl=self.context(VERSIONS[0])) as before:
                before.recv(timeout=support.TIMEOUT_S)
                serial = self.serial(server)
                AUTHORITY.sign("renewed", "localhost")
                server.process.send_signal(signal.SIGHUP)
                support.eventually(lambda: self.serial(server) != serial)
                before.send('{"method":"ping","req_id":"still here"}')
                self.assertIn("still here", before.recv(timeout=support.TIMEOUT_S))

    def test_client_certificates_are_asked_for_and_checked(self):
        chain, key = AUTHORITY.sign("client", "desk.example")
        with serve("--tls-client-ca", AUTHORITY.certificate) as server:
            url = f"https://{server.secure}/v1"
            curl = [support.tool("curl"), "-sS", "-i", "--cacert", AUTHORITY.certificate, url]
            without = subprocess.run(curl, capture_output=True, timeout=support.TIMEOUT_S)
            self.assertNotEqual(without.returncode, 0)
            having = subprocess.run(
                [*curl, "--cert", chain, "--key", key],
                capture_output=True,
                timeout=support.TIMEOUT_S,
            )
            self.assertIn(b"426", having.stdout.split(b"\r\n")[0], having.stderr)

    def test_the_wrong_scheme_is_answered_and_nothing_hangs(self):
        curl = [support.tool("curl"), "-sS", "-i", "-k", "--max-time", "10"]
        plain = [*curl, f"http://{self.server.secure}/v1"]
        done = subprocess.run(plain, capture_output=True, timeout=support.TIMEOUT_S)
        self.assertIn(b"400", done.stdout.split(b"\r\n")[0])
        secure = [*curl, f"https://{self.server.listen}/v1"]
        done = subprocess.run(secure, capture_output=True, timeout=support.TIMEOUT_S)
        self.assertNotIn(done.returncode, [0, 28], "an error, and no timeout")

    def upgrade(self, client):
        client.sendall(UPGRADE)
        self.assertTrue(client.recv(4096).startswith(b"HTTP/1.1 101"))

    def serial(self, server):
        with self.open(self.context(), server) as client:
            return client.getpeercert()["serialNumber"]

    def s_client(self, server, *options):
        command = [support.tool("openssl"), "s_client", "-connect", server.secure]
        trust = ["-CAfile", AUTHORITY.certificate]
        done = subprocess.run(
            [*command, *trust, *options],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=support.TIMEOUT_S,
        )
        return done.stdout.decode() + done.stderr.decode()
