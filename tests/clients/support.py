"""The server under test, what is published to it, and the clients that read it.

Every client, whatever it is written in, becomes lines: `open SUBPROTOCOL`, `pong` when its ping was
answered, each message as it came, `closed CODE` at the end. So one check judges them all.
"""

import http.server
import json
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path

import frames
import sse

HERE = Path(__file__).resolve().parent
TIMEOUT_S = 30
PROGRAM = None  # The built program; `run.py` sets it.


class Program:
    """A running `fanfare` command that prints a ready line."""

    def __init__(self, *arguments):
        environment = {name: value for name, value in os.environ.items() if "FANFARE" not in name}
        self.process = subprocess.Popen(
            [PROGRAM, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        self.lines = Lines()
        self.lines.take_from(self.process.stdout)
        self.errors = Lines()
        self.errors.take_from(self.process.stderr)
        self.greeting = []
        while not (line := self.lines.next()).startswith("ready "):
            assert line != Lines.END, f"it did not start: {self.errors.rest()}"
            self.greeting.append(line)
        self.ready = line
        self.listen = re.search(r" listen=(\S+)", line)[1]
        self.url = f"ws://{self.listen}/v1"
        if secure := re.search(r" tls=(\S+)", line):
            self.secure = secure[1]
            self.secure_url = f"wss://{self.secure}/v1"
        if admin := re.search(r" admin=(\S+)", line):
            self.admin = admin[1]
        self.source = re.search(r" source=\S+?([^/ ]*) ", line)[1]

    def stats(self):
        """Its counters, as `/stats` has them."""
        with urllib.request.urlopen(f"http://{self.admin}/stats", timeout=TIMEOUT_S) as answer:
            return json.load(answer)

    def stop(self):
        """Asks it to stop at once, as Ctrl-C does, and gives its exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(TIMEOUT_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def serve(*flags):
    """A server with a TCP source, all ports picked by the kernel."""
    return Program("serve", "--listen", "127.0.0.1:0", "--source", "tcp://127.0.0.1:0", *flags)


def eventually(done):
    """Asks until the answer is yes, for a bounded time."""
    deadline = time.monotonic() + TIMEOUT_S
    while not done():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


class Lines:
    """Lines that arrive from elsewhere, with a bound on the wait for each."""

    END = "<end>"

    def __init__(self):
        self.queue = queue.SimpleQueue()

    def take_from(self, stream):
        """Takes the lines of a pipe until it ends; only \\n ends a line."""

        def take():
            for line in stream:
                self.put(line.decode().removesuffix("\n"))
            self.put(self.END)

        threading.Thread(target=take, daemon=True).start()

    def put(self, line):
        self.queue.put(line)

    def next(self):
        try:
            return self.queue.get(timeout=TIMEOUT_S)
        except queue.Empty:
            raise AssertionError(f"nothing arrived in {TIMEOUT_S} s") from None

    def rest(self):
        """All lines up to the end."""
        return "\n".join(iter(self.next, self.END))


class ClientProgram:
    """A client that is a program of its own and prints the lines to standard output."""

    def __init__(self, command, environment=None):
        self.lines = Lines()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        self.errors = Lines()
        self.errors.take_from(self.process.stderr)
        self.read()

    def read(self):
        self.lines.take_from(self.process.stdout)

    def next(self):
        line = self.lines.next()
        assert line != Lines.END, f"the client ended early: {self.errors.rest()}"
        return line

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


class CurlClient(ClientProgram):
    """`curl` that upgrades and subscribes: the frame is the body, with no length announced."""

    def __init__(self, url, patterns, *more):
        params = {"channels": patterns, "policy": "all", "snapshot": False}
        request = {"method": "subscribe", "params": params, "req_id": 1}
        body = frames.masked(frames.PING, b"?") + frames.masked(
            frames.TEXT, json.dumps(request).encode()
        )
        self.body = tempfile.NamedTemporaryFile()
        self.body.write(body)
        self.body.flush()
        headers = [
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Protocol: fanfare.v1.json",
            "Content-Length:",
            "Content-Type:",
            "Expect:",
        ]
        options = [option for header in headers for option in ("-H", header)]
        url = re.sub("^ws", "http", url)
        options += more
        data = ["-X", "GET", "--data-binary", f"@{self.body.name}"]
        super().__init__([tool("curl"), "-sS", "-i", "-N", "--http1.1", *options, *data, url])

    def read(self):
        threading.Thread(target=self.read_frames, daemon=True).start()

    def read_frames(self):
        stream = self.process.stdout
        try:
            self.head = [line.decode().strip() for line in iter(stream.readline, b"\r\n")]
            fields = dict(line.lower().split(": ", 1) for line in self.head[1:])
            self.lines.put(f"open {fields.get('sec-websocket-protocol')}")
            while True:
                opcode, payload = frames.read_frame(stream)
                self.lines.put(frames.line_of(opcode, payload))
                if opcode == frames.CLOSE:
                    # curl cannot answer it; closing the socket ends the server's wait.
                    self.process.kill()
                    return
        except (EOFError, AssertionError) as error:
            self.lines.put(f"broken: {error}")
            self.lines.put(Lines.END)

    def __exit__(self, *_):
        super().__exit__()
        self.body.close()


class CurlStream(ClientProgram):
    """`curl -N` that reads an event stream."""

    def __init__(self, url, patterns):
        super().__init__([tool("curl"), "-sS", "-N", "--http1.1", url])

    def read(self):
        def take():
            for line in sse.lines_of(self.process.stdout):
                self.lines.put(line)
            self.lines.put(Lines.END)

        threading.Thread(target=take, daemon=True).start()


class BrowserClient(ClientProgram):
    """Chromium with a page that subscribes and sends what it gets back over HTTP."""

    MODULES = HERE.parents[1]  # A folder of modules that the page may import from `/`.

    def page(self):
        return (HERE / "client.html").read_bytes()

    OPTIONS = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--no-default-browser-check",
    ]

    def __init__(self, url, patterns, *more):
        client = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                path = urllib.parse.urlsplit(self.path).path
                body, kind = None, "text/javascript"
                if path == "/":
                    body, kind = client.page(), "text/html"
                elif path.endswith((".js", ".mjs")):
                    body = (client.MODULES / path[1:]).read_bytes()
                self.send_response(404 if body is None else 200)
                self.send_header("Content-Type", f"{kind}; charset=utf-8")
                self.end_headers()
                self.wfile.write(body or b"")

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                for line in body.removesuffix("\n").split("\n"):
                    client.lines.put(line)
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.pages = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.pages.serve_forever, daemon=True).start()
        query = urllib.parse.urlencode([("url", url), *(("channel", name) for name in patterns)])
        page = f"http://127.0.0.1:{self.pages.server_port}/?{query}"
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        program = tool("chromium", "chromium-browser", "google-chrome")
        profile = f"--user-data-dir={self.folder.name}"
        super().__init__([program, *self.OPTIONS, *more, profile, page], {"HOME": self.folder.name})

    def read(self):
        """The lines come with the page's requests; what Chromium prints is not needed."""
        Lines().take_from(self.process.stdout)

    def __exit__(self, *_):
        super().__exit__()
        self.pages.shutdown()
        self.pages.server_close()
        self.folder.cleanup()


class BrowserStream(BrowserClient):
    """The same with the browser's EventSource."""

    def page(self):
        return (HERE / "client_stream.html").read_bytes()


def python_client(file, environment=None):
    command = [sys.executable, HERE / file]
    return lambda url, patterns: ClientProgram([*command, url, *patterns], environment)


def node_client(file, *options, environment=None):
    command = [tool("node"), *options, HERE / file]
    return lambda url, patterns: ClientProgram([*command, url, *patterns], environment)


def built_client(path):
    """A client that `scripts/test clients` builds; the path is its place in `target/clients`."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", HERE.parents[1] / "target"))
    program = target / "clients" / path

    def connect(url, patterns, environment=None):
        assert program.is_file(), f"{program} is not built; `scripts/test clients` builds it"
        return ClientProgram([program, url, *patterns], environment)

    return connect


TUNGSTENITE = built_client("debug/client-tungstenite")
GORILLA = built_client("gorilla")


def node_options():
    """What makes Node's own WebSocket global before Node 22."""
    version = subprocess.run([tool("node"), "--version"], capture_output=True, text=True).stdout
    major = int(version.removeprefix("v").split(".")[0])
    return [] if major >= 22 else ["--experimental-websocket"]


def tool(*names):
    """The path of a program that the tests need; a missing one is a failure, never a skip."""
    found = next(filter(None, map(shutil.which, names)), None)
    assert found, f"none of {names} is installed; `scripts/test` installs what is needed"
    return found


def publish(address, lines):
    """Sends lines as a producer and gives its replies: none when all were taken."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as producer:
        producer.sendall(b"".join(line + b"\n" for line in lines))
        producer.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: producer.recv(65536), b"")).decode()
