"""A tab of a headless Chromium that is driven over its DevTools protocol.

It remembers what goes wrong: errors in the console, exceptions, and every host that was asked for
anything. Not here: what a page should show.
"""

import base64
import itertools
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path

from websockets.sync.client import connect

import support


class RefusedError(Exception):
    """The browser did not carry out a command."""


class Browser:
    """A Chromium of its own with one tab."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        program = support.tool("chromium", "chromium-browser", "google-chrome")
        self.process = subprocess.Popen(
            [
                program,
                *support.BrowserClient.OPTIONS,
                "--remote-debugging-port=0",
                f"--user-data-dir={self.folder.name}",
                "about:blank",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": self.folder.name},
            start_new_session=True,
        )
        self.numbers = itertools.count(1)
        self.answers = {}
        self.arrived = threading.Condition()
        self.problems = []
        self.hosts = set()
        self.socket = connect(self.address(), max_size=None)
        threading.Thread(target=self.read, daemon=True).start()
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def address(self):
        """Where the tab is, once Chromium says so."""
        port = Path(self.folder.name) / "DevToolsActivePort"
        support.eventually(lambda: port.exists() and port.read_text().count("\n") > 0)
        url = f"http://127.0.0.1:{port.read_text().split()[0]}/json/list"
        pages = []

        def found():
            with urllib.request.urlopen(url, timeout=support.TIMEOUT_S) as answer:
                pages[:] = [page for page in json.load(answer) if page["type"] == "page"]
            return pages

        support.eventually(found)
        return pages[0]["webSocketDebuggerUrl"]

    def read(self):
        for message in self.socket:
            said = json.loads(message)
            with self.arrived:
                if "id" in said:
                    self.answers[said["id"]] = said
                else:
                    self.note(said["method"], said["params"])
                self.arrived.notify_all()

    def note(self, method, params):
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.problems.append(str([value.get("value") for value in params["args"]]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            entry = params["entry"]
            self.problems.append(f"{entry['text']} {entry.get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.host(params["request"]["url"])
        elif method == "Network.webSocketCreated":
            self.host(params["url"])

    def host(self, url):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("data", "about"):
            self.hosts.add(parts.netloc)

    def call(self, method, **params):
        """The result of a command of the protocol."""
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": params}))
        with self.arrived:
            came = self.arrived.wait_for(lambda: number in self.answers, support.TIMEOUT_S)
            assert came, f"no answer to {method}"
            answer = self.answers.pop(number)
        if "error" in answer:
            raise RefusedError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def open(self, url):
        self.call("Page.navigate", url=url)

    def size(self, width, height, scale=1):
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 500,
        )

    def colours(self, scheme):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def eval(self, expression):
        """The value of an expression in the page."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, f"{expression}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def text(self, selector):
        """What an element shows."""
        return self.eval(f"document.querySelector({json.dumps(selector)}).innerText")

    def until(self, expression):
        """Waits until an expression is true in the page, or in the one that it is leaving it for."""
        deadline = time.monotonic() + support.TIMEOUT_S
        while not self._is(expression):
            assert time.monotonic() < deadline, f"waited in vain for {expression}"
            time.sleep(0.05)

    def _is(self, expression):
        try:
            return self.eval(f"Boolean({expression})")
        except RefusedError as error:
            if "navigated" not in str(error):
                raise
            return False

    def picture(self, path):
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(data["data"]))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.folder.cleanup()
