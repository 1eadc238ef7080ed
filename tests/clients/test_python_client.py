"""The Python client (`clients/python`) against the built program."""

import asyncio
import gzip
import json
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import certificates
import fanfare
import support
import test_access
from proxy import Proxy

CLIENT = support.HERE.parents[1] / "clients/python"
EXAMPLES = CLIENT / "examples"


def trades(first, last):
    return [f'{{"channel":"trade.A","data":{{"n":{n}}}}}'.encode() for n in range(first, last + 1)]


def quote(key, n):
    return json.dumps({"channel": "quote.A", "key": key, "data": n}, ensure_ascii=False).encode()


def book(kind, n):
    return json.dumps({"channel": "book.A", "kind": kind, "data": {"n": n}}).encode()


class PythonClient(unittest.IsolatedAsyncioTestCase):
    async def publish(self, server, lines):
        self.assertEqual(await asyncio.to_thread(support.publish, server.source, lines), "")

    async def take(self, feed, count):
        """The next events, in bounded time."""

        async def events():
            return [await anext(feed) for _ in range(count)]

        return await asyncio.wait_for(events(), support.TIMEOUT_S)

    async def test_who_comes_late_gets_the_state_and_its_copy_agrees(self):
        with support.serve() as server:
            lines = [quote("a", 1), quote('b "é"', 2), quote("a", 3), *trades(1, 3)]
            lines += [book("update", 1), book("snapshot", 2), book("update", 3)]
            await self.publish(server, lines)
            async with fanfare.connect(server.url) as feed:
                await feed.subscribe(">", policy="all")
                events = await self.take(feed, 4)
                self.assertTrue(all(event.recovered for event in events))
                found = sorted((one.channel, one.key or "", str(one.data)) for one in events)
                wanted = [("book.A", "", "{'n': 2}"), ("book.A", "", "{'n': 3}")]
                wanted += [("quote.A", "a", "3"), ("quote.A", 'b "é"', "2")]
                self.assertEqual(found, wanted)
                await self.publish(server, [quote("c", 9), book("update", 4), *trades(4, 4)])
                events += await self.take(feed, 3)
                self.assertFalse(events[-1].recovered)
                copy = fanfare.StateHash()
                for event in events:
                    copy.apply(event)
                for channel in ("quote.A", "book.A", "trade.A"):
                    verified = await feed.verify(channel)
                    self.assertIs(copy.agrees(verified), True, (verified, copy.of(channel)))
                with self.assertRaises(fanfare.RequestError) as refused:
                    await feed.verify("nothing.here")
                self.assertEqual(refused.exception.code, "channel_unknown")

    async def test_each_event_comes_once_and_in_order_however_often_it_is_cut(self):
        with support.serve() as server, Proxy(server.listen) as proxy:
            async with fanfare.connect(proxy.url) as feed:
                await feed.subscribe("trade.*", policy="all")
                await feed.subscribe("quote.*")
                seqs = []
                for cut in range(5):
                    lines = [*trades(cut * 500, cut * 500 + 499), quote("a", cut)]
                    sending = asyncio.create_task(self.publish(server, lines))
                    seqs += [event.seq for event in await self.take(feed, 250)]
                    proxy.cut()
                    seqs += [event.seq for event in await self.take(feed, 251)]
                    await sending
                self.assertEqual(seqs, list(range(1, 5 * 501 + 1)))
                self.assertEqual(list(feed.gaps), [])

    async def test_a_server_that_forgot_everything_is_a_gap_and_a_new_state(self):
        with support.serve() as first, Proxy(first.listen) as proxy:
            async with fanfare.connect(proxy.url) as feed:
                await feed.subscribe(">", policy="all")
                await self.publish(first, [*trades(1, 2), quote("a", 1)])
                old = await self.take(feed, 3)
                with support.serve() as second:
                    await self.publish(second, [quote("a", 7)])
                    proxy.reopen(second.listen)
                    proxy.cut()
                    (new,) = await self.take(feed, 1)
                    self.assertNotEqual(new.epoch, old[0].epoch)
                    self.assertEqual((new.key, new.data, new.recovered), ("a", 7, True))
                    self.assertEqual([gap.cause for gap in feed.gaps], ["epoch"])

    async def test_what_the_log_has_no_more_is_a_gap(self):
        with support.serve("--log-bytes", "8MiB") as server, Proxy(server.listen) as proxy:
            async with fanfare.connect(proxy.url) as feed:
                await feed.subscribe(">", policy="all")
                await self.publish(server, [*trades(1, 1), quote("a", 1)])
                await self.take(feed, 2)
                proxy.close()
                data = json.dumps("x" * 1_000)
                line = f'{{"channel":"trade.A","data":{data}}}'.encode()
                await self.publish(server, [line] * 12_000 + [quote("a", 2)])
                proxy.reopen(server.listen)
                (event,) = await self.take(feed, 1)
                self.assertEqual((event.key, event.data), ("a", 2))
                (gap,) = feed.gaps
                self.assertEqual((gap.from_seq, gap.cause), (3, "too_old"))

    async def test_what_a_slow_application_missed_is_healed(self):
        with support.serve() as server:
            async with fanfare.connect(server.url, heal=True, queue_size=16) as feed:
                await feed.subscribe("trade.*", policy="all", max_lag_bytes=1_024)
                data = json.dumps("x" * 4_000)
                line = f'{{"channel":"trade.A","data":{data}}}'.encode()
                # More than the sockets hold, and less than the log does.
                await self.publish(server, [line] * 8_000)
                seqs = [event.seq for event in await self.take(feed, 8_000)]
                self.assertEqual(sorted(seqs), list(range(1, 8_001)))
                self.assertTrue(feed.gaps, "it was too fast to miss anything")

    async def test_of_two_connections_one_is_cut_again_and_again_without_a_gap(self):
        with support.serve() as server, Proxy(server.listen) as a, Proxy(server.listen) as b:
            async with fanfare.connect([a.url, b.url]) as feed:
                await feed.subscribe(">", policy="all")
                seqs = []
                for cut in range(4):
                    lines = trades(cut * 400, cut * 400 + 399)
                    sending = asyncio.create_task(self.publish(server, lines))
                    seqs += [event.seq for event in await self.take(feed, 200)]
                    (a, b)[cut % 2].cut()
                    seqs += [event.seq for event in await self.take(feed, 200)]
                    await sending
                self.assertEqual(sorted(seqs), list(range(1, 1_601)))
                self.assertEqual(list(feed.gaps), [])

    async def test_over_tls_a_credential_is_renewed_before_it_ends(self):
        asked = []

        def credential():
            asked.append(int(time.time()) + (5 if not asked else 3_600))
            rights = {"subscribe": ["trade.>"], "publish": [">"]}
            return test_access.token(sub="a", aud="fanfare", exp=asked[-1], fanfare=rights)

        authority = certificates.Authority()
        chain, key = authority.sign("server", "localhost")
        with tempfile.TemporaryDirectory() as folder:
            rules = Path(folder, "access.toml")
            rules.write_text(
                '[token]\nalgorithms = ["HS256"]\naudience = "fanfare"\n'
                'keys = [{ algorithm = "HS256", file = "secret" }]\n'
            )
            Path(folder, "secret").write_bytes(test_access.SECRET)
            tls = ["--tls-listen", "127.0.0.1:0", "--tls-certificates", chain, "--tls-keys", key]
            with support.serve("--access", str(rules), *tls) as server:
                with self.assertRaises(ssl.SSLCertVerificationError):
                    await fanfare.connect(server.secure_url, token=credential).__aenter__()
                asked.clear()
                trust = ssl.create_default_context(cafile=authority.certificate)
                async with fanfare.connect(
                    server.secure_url, token=credential, ssl=trust
                ) as feed:
                    await feed.subscribe("trade.*")
                    with self.assertRaises(fanfare.RequestError) as refused:
                        await feed.subscribe("quote.*")
                    self.assertEqual(refused.exception.code, "forbidden")
                    await asyncio.to_thread(support.eventually, lambda: len(asked) >= 2)
                with self.assertRaises(fanfare.RefusedError) as refused:
                    await fanfare.connect(server.url, token="not.a.token").__aenter__()
                self.assertEqual(refused.exception.status, 401)

    async def test_a_drain_leads_to_the_other_server(self):
        states = []
        with support.serve() as other:
            with support.serve("--drain", "2s", "--drain-to", other.url) as server:
                async with fanfare.connect(server.url, on_state=states.append) as feed:
                    await feed.subscribe("trade.*", policy="all")
                    server.process.send_signal(signal.SIGTERM)
                    # What is published there comes once the client is there.
                    await self.publish(other, [quote("a", 1)])
                    await feed.subscribe("quote.*")
                    (event,) = await self.take(feed, 1)
                    self.assertEqual(event.channel, "quote.A")
        self.assertIn("draining", [state.kind for state in states])
        connected = [state.url for state in states if state.kind == "connected"]
        self.assertEqual(connected, [server.url, other.url])


class PythonExamples(unittest.TestCase):
    def run_example(self, name, *arguments):
        command = [sys.executable, EXAMPLES / name, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=support.TIMEOUT_S)

    def test_the_books_are_those_of_the_capture(self):
        with tempfile.TemporaryDirectory() as folder, support.serve() as server:
            capture = Path(folder) / "made.gz"
            with gzip.open(capture, "wt") as lines:
                for number, message in enumerate(made_capture()):
                    lines.write(f"{number} {json.dumps(message)}\n")
            arguments = [server.url, "--publish", server.source, "--check", capture]
            done = self.run_example("order_book.py", *arguments)
            self.assertEqual(done.returncode, 0, done.stderr + done.stdout)
            self.assertIn("is the capture's book", done.stdout)
            # Who comes late gets the same book from the snapshot.
            done = self.run_example("order_book.py", server.url, "--check", capture)
            self.assertEqual(done.returncode, 0, done.stderr + done.stdout)

    def test_a_copy_agrees(self):
        with support.serve() as server:
            support.publish(server.source, [quote("a", 1), quote("b", 2)])
            done = self.run_example("verify.py", server.url, "quote.A")
            self.assertEqual(done.stdout, "quote.A agrees at seq 2\n", done.stderr)

    def test_the_other_examples_print_events(self):
        with support.Program("demo", "--plain", "--admin", "none", "--listen", "127.0.0.1:0") as demo:
            for name, urls in (("quickstart.py", 1), ("blocking.py", 1), ("ab.py", 2)):
                command = [sys.executable, EXAMPLES / name, *[demo.url] * urls]
                with support.ClientProgram(command, {"PYTHONUNBUFFERED": "1"}) as client:
                    while "USDT" not in client.next():
                        pass

    def test_the_rows_of_the_dataframe(self):
        sys.path.insert(0, str(EXAMPLES))
        import dataframe

        with support.Program("demo", "--plain", "--admin", "none", "--listen", "127.0.0.1:0") as demo:
            rows = asyncio.run(asyncio.wait_for(dataframe.rows(demo.url, 5), support.TIMEOUT_S))
        self.assertEqual(len(rows), 5)
        self.assertTrue(all({"seq", "ts", "channel", "price"} <= set(row) for row in rows), rows)


def made_capture():
    """A spot book whose first changes came before its snapshot."""
    def change(first, last, price, size):
        data = {"e": "depthUpdate", "U": first, "u": last, "b": [[price, size]], "a": []}
        return {"stream": "x@depth", "data": data}

    yield change(90, 99, "1.0", "1")
    yield change(100, 104, "2.0", "1")
    yield {"lastUpdateId": 101, "bids": [["1.5", "3"]], "asks": [["9", "1"]]}
    for number in range(105, 400):
        yield change(number, number, f"{number % 7}.5", str(number % 3))
