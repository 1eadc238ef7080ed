"""The JavaScript client against the server: in Node, in a browser, and through a bad network."""

import gzip
import json
import os
import re
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path

import events
import support
from proxy import Proxy
from test_access import new_key

ROOT = support.HERE.parents[1]
PACKAGE = ROOT / "clients/javascript"
RECORDED = Path(os.environ.get("FANFARE_DATA", ROOT / "../shared/data")) / "binance-20240808"


def node(options, *flags):
    program = [support.tool("node"), *flags, support.HERE / "client_javascript.mjs"]
    return support.ClientProgram([*program, json.dumps(options)])


class Page(support.BrowserClient):
    def page(self):
        return (support.HERE / "client_javascript.html").read_bytes()


class Shown(support.BrowserClient):
    """A page that is for people; what it shows comes back as lines."""

    MODULES = PACKAGE
    OBSERVER = """
        <script>
          let sending = Promise.resolve();
          new MutationObserver(() => {
            const body = document.body.innerText.replace(/\\s+/g, " ") + "\\n";
            sending = sending.then(() => fetch("/lines", { method: "POST", body }));
          }).observe(document, { subtree: true, childList: true, characterData: true });
        </script>
        """

    def __init__(self, html, url, *patterns):
        self.html = html + self.OBSERVER
        super().__init__(url, patterns)

    def page(self):
        return self.html.encode()

    def until(self, *words):
        """Waits until all of the words are shown at once."""
        line = ""

        def shown():
            nonlocal line
            line = self.next()
            return all(word in line for word in words)

        support.eventually(shown)


class Subscribed:
    """What holds wherever the client runs; a subclass says where."""

    def connect(self, url, channels, **options):
        options = {"url": url, "channels": channels, "backoff": {"baseMs": 5}, **options}
        return self.client(options)

    def publish(self, server, published):
        replies = support.publish(server.source, [event.line() for event in published])
        self.assertEqual(replies, "")

    def until(self, client, prefix):
        """The lines before the first one that starts so, and that one."""
        lines = []
        while not lines or not lines[-1].startswith(prefix):
            lines.append(client.next())
        return lines

    def received(self, client, wanted):
        """Exactly these events come next, and no gap."""
        for event in wanted:
            while not (line := client.next()).startswith("{"):
                self.assertNotRegex(line, "^(gap|closed)")
            events.check(line, event)

    def test_every_event_comes_once_and_unchanged_through_breaks(self):
        published = events.published()
        third = len(published) // 3
        with support.serve() as server, Proxy(server.listen) as proxy:
            with self.connect(proxy.url, events.PATTERNS, terms={"policy": "all"}) as client:
                self.until(client, "subscribed 0")
                self.publish(server, published[:third])
                proxy.cut()
                self.publish(server, published[third : 2 * third])
                proxy.close()
                self.publish(server, published[2 * third :])
                proxy.reopen()
                self.received(client, events.expected(published, 0))

    def test_after_a_restart_with_another_epoch_there_is_a_gap_and_then_a_snapshot(self):
        with support.serve() as server, Proxy(server.listen) as proxy:
            with self.connect(proxy.url, ["quote.*", "trade.*"]) as client:
                self.until(client, "live snapshot 0")
                support.publish(server.source, [b'{"channel":"trade.A","data":1}'])
                self.until(client, '{"channel":"trade.A"')
                proxy.close()
                server.stop()
                with support.serve() as other:
                    lines = [b'{"channel":"trade.A","data":2}']
                    lines += [b'{"channel":"quote.A","key":"A","data":%d}' % n for n in range(3)]
                    support.publish(other.source, lines)
                    proxy.reopen(other.listen)
                    seen = self.until(client, "live snapshot 4")
                    self.assertIn("gap 1 4 epoch", seen)
                    values = [json.loads(line) for line in seen if line.startswith("{")]
                    self.assertEqual([(one["seq"], one["data"]) for one in values], [(4, 2)])

    def test_who_comes_late_gets_the_book_whole_and_the_hash_proves_it(self):
        with support.serve() as server:
            line = '{"channel":"book.A","kind":"%s","data":{"bids":[["1.10","%d"]],"asks":[]}}'
            kinds = ["update", "snapshot", "update", "snapshot", "update", "update"]
            lines = [(line % (kind, at)).encode() for at, kind in enumerate(kinds)]
            support.publish(server.source, lines)
            with self.connect(server.url, ["book.*"], hash=True, verify=7) as client:
                seen = self.until(client, "live snapshot 6")
                book = [json.loads(one)["seq"] for one in seen if one.startswith("{")]
                self.assertEqual(book, [4, 5, 6])
                support.publish(server.source, lines[2:3])
                self.until(client, "verified true book.A")


class Node(Subscribed, unittest.TestCase):
    client = staticmethod(node)

    def test_of_two_connections_one_may_die_and_return_without_a_gap(self):
        published = events.published()
        third = len(published) // 3
        with support.serve() as server, Proxy(server.listen) as a, Proxy(server.listen) as b:
            options = {"terms": {"policy": "all"}}
            with self.connect([a.url, b.url], events.PATTERNS, **options) as client:
                for _ in ["A", "B"]:
                    self.until(client, "live snapshot 0")
                a.close()
                self.publish(server, published[:third])
                self.received(client, events.expected(published[:third], 0))
                a.reopen()
                self.until(client, "live replay")
                b.close()
                self.publish(server, published[third:])
                self.received(client, events.expected(published, third))

    def test_a_queue_that_is_too_small_loses_nothing(self):
        published = events.published()
        with support.serve() as server:
            with self.connect(server.url, events.PATTERNS, terms={"policy": "all"}, queue=8) as client:
                self.until(client, "subscribed 0")
                self.publish(server, published)
                self.received(client, events.expected(published, 0))

    def test_what_a_slow_client_has_missed_comes_by_a_replay_when_it_heals(self):
        # More than the kernel's buffers hold, less than the server's log.
        count, padding = 30_000, "x" * 1_000
        lines = [f'{{"channel":"trade.A","data":"{at}{padding}"}}'.encode() for at in range(count)]
        options = {"heal": True, "overflow": "pause", "queue": 100, "wait": True}
        terms = {"policy": "all", "maxLagBytes": 65_536}
        with support.serve() as server:
            with self.connect(server.url, ["trade.*"], terms=terms, **options) as client:
                self.until(client, "subscribed 0")
                self.assertEqual(support.publish(server.source, lines), "")
                client.process.send_signal(signal.SIGUSR2)
                seqs, gaps = [], 0
                while len(seqs) < count:
                    line = client.next()
                    if line.startswith("{"):
                        seqs.append(json.loads(line)["seq"])
                    gaps += line.startswith("gap")
                self.assertEqual(seqs, list(range(1, count + 1)))
                self.assertGreaterEqual(gaps, 1)

    def test_a_credential_is_shown_and_a_bad_one_is_the_end(self):
        with tempfile.TemporaryDirectory() as folder:
            key, digest = new_key("desk")
            rules = Path(folder, "access.toml")
            rules.write_text(f'[[key]]\nid = "desk"\nsha256 = "{digest}"\nsubscribe = ["quote.>"]\n')
            with support.serve("--access", str(rules)) as server:
                for auth in ["message", "query", "header"]:
                    with self.connect(server.url, ["quote.*"], token=key, auth=auth) as client:
                        self.until(client, "subscribed")
                with self.connect(server.url, ["trade.*"], token=key) as client:
                    self.until(client, "refused forbidden")
                with self.connect(server.url, ["quote.*"], token="desk.wrong") as client:
                    self.until(client, "closed 4000")
                with self.connect(server.url, ["quote.*"], token="desk.wrong", auth="query") as client:
                    self.until(client, "closed undefined")

    def test_a_drain_leads_to_the_other_server(self):
        with support.serve() as other:
            with support.serve("--drain", "2s", "--drain-to", other.url) as server:
                with self.connect(server.url, [">"]) as client:
                    here = self.until(client, "connected")[-1]
                    self.until(client, "subscribed")
                    server.process.send_signal(signal.SIGTERM)
                    self.until(client, "draining")
                    there = self.until(client, "connected")[-1]
                    self.assertNotEqual(here, there)

    def test_the_order_book_example_rebuilds_what_was_captured(self):
        with tempfile.TemporaryDirectory() as folder, support.serve() as server:
            files = [synthetic_capture(Path(folder))]
            if RECORDED.is_dir():
                files += [RECORDED / "spot/ethusdt_20240808.gz", RECORDED / "usdm/ethusdt_20240808.gz"]
            else:
                print(f"the recorded day is not at {RECORDED}: only a made one is replayed")
            self.example("publish-depth.mjs", server.source, *files)
            said = self.example("order-book.mjs", "--check", server.url, *files)
            self.assertEqual(len(re.findall(r": equal, \d+ bids", said)), len(files), said)

    def example(self, name, *arguments):
        done = subprocess.run(
            [support.tool("node"), PACKAGE / "examples" / name, *arguments],
            capture_output=True,
            text=True,
            timeout=support.TIMEOUT_S * 2,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout


class NodeGlobal(Subscribed, unittest.TestCase):
    @staticmethod
    def client(options):
        return node({**options, "own": True}, *support.node_options())


class Browser(Subscribed, unittest.TestCase):
    @staticmethod
    def client(options):
        return Page(json.dumps(options), [])


class Pasted(unittest.TestCase):
    """The programs of the README and the examples, as they stand there, but for the address."""

    def test_the_programs_for_node_run(self):
        with support.Program("demo", "--plain", "--admin", "none", "--listen", "127.0.0.1:0", "--speed", "20") as demo:
            for block in blocks("js"):
                text = block.replace("ws://127.0.0.1:9001/v1", demo.url)
                node = [support.tool("node"), "--input-type=module", "-e", text]
                command = ["bash", "-c", 'cd "$0" && exec "$@"', PACKAGE, *node]
                with self.subTest(block), support.ClientProgram(command) as client:
                    self.assertRegex(client.next(), r"\d+ \w+\.\w+")

    def test_the_example_of_two_connections_counts_each_event_once(self):
        with support.Program("demo", "--plain", "--admin", "none", "--listen", "127.0.0.1:0", "--speed", "50") as demo:
            command = [support.tool("node"), PACKAGE / "examples/ab.mjs", demo.url, demo.url]
            with support.ClientProgram(command) as client:
                said = re.search(r"1000 events, the last one has seq (\d+)", client.next())
                self.assertGreaterEqual(int(said[1]), 1_000)


def blocks(language):
    """The README's blocks in a language."""
    text = (PACKAGE / "README.md").read_text()
    found = re.findall(rf"\n```{language}\n(.*?)\n```\n", text, re.DOTALL)
    assert found, f"README.md has blocks in {language}"
    return found


class BrowserPages(unittest.TestCase):
    def test_the_page_of_the_readme_shows_quotes(self):
        with support.Program("demo", "--plain", "--admin", "none", "--listen", "127.0.0.1:0", "--speed", "20") as demo:
            [block] = blocks("html")
            for name, here in [
                ("./node_modules/@fanfare/client/src/index.js", "/src/index.js"),
                ("ws://127.0.0.1:9001/v1", demo.url),
            ]:
                self.assertIn(name, block)
                block = block.replace(name, here)
            with Shown(block, demo.url) as page:
                page.until("quote.BTCUSDT", "best_bid")

    def test_the_example_shows_quotes_and_a_book(self):
        with support.serve() as server:
            data = '{"bids":[["10.10","%d"]],"asks":[["10.20","7"]]}'
            quote = b'{"channel":"quote.A","key":"A","data":{"b":"1.10","B":"2","a":"1.20","A":"3"}}'
            lines = [
                quote,
                f'{{"channel":"book.A","kind":"snapshot","data":{data % 5}}}'.encode(),
                f'{{"channel":"book.A","data":{data % 6}}}'.encode(),
            ]
            support.publish(server.source, lines)
            html = (PACKAGE / "examples/browser.html").read_text()
            with Shown(html.replace('query.get("book")', '"book.A"'), server.url) as page:
                page.until("quote.A A", "1.10", "10.10", " 6", "10.20", "0 missed")


def synthetic_capture(folder):
    """A capture like the recorded ones: diffs, a snapshot among them, and more diffs."""
    file = folder / "spot" / "made_0.gz"
    file.parent.mkdir()
    with gzip.open(file, "wt") as lines:
        last = 1_000
        for number in range(500):
            first, last = last + 1, last + 1 + number % 5
            sides = [[f"{100 + sign * (number * step % 40) / 8:.8f}", f"{number % 4}.50000000"]
                     for sign, step in [(-1, 7), (1, 11)]]
            data = {"e": "depthUpdate", "E": number, "s": "MADE", "U": first, "u": last}
            data |= {"b": [sides[0]], "a": [sides[1]]}
            lines.write(f'{number} {json.dumps({"stream": "made@depth", "data": data}, separators=(",", ":"))}\n')
            if number == 20:
                book = {"lastUpdateId": last - 2, "bids": [["99.50000000", "1.0"]], "asks": [["100.50000000", "2.0"]]}
                lines.write(f'{number} {json.dumps(book, separators=(",", ":"))}\n')
    return file
