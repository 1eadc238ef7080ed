"""The live page of the admin address in a browser, as an operator sees it.

Pictures of what was judged are left in target/screenshots.
"""

import json
import re
import tempfile
import unittest
import urllib.error
import urllib.request
from pathlib import Path

import support
from browser import Browser

PICTURES = support.HERE.parents[1] / "target/screenshots"
TOKEN = "an-admin-token-of-at-least-32-characters"


def serve(*flags, listen="127.0.0.1:0", admin="127.0.0.1:0"):
    flags = ["--listen", listen, "--source", "tcp://127.0.0.1:0", "--admin", admin, *flags]
    server = support.Program("serve", *flags)
    server.admin = re.search(r" admin=(\S+)", server.ready)[1]
    return server


def get(server, path, headers=None):
    request = urllib.request.Request(f"http://{server.admin}{path}", headers=headers or {})
    return urllib.request.urlopen(request, timeout=support.TIMEOUT_S)


def stats(server):
    with get(server, "/stats") as answer:
        return json.load(answer)


def total(stats, name):
    return sum(shard[name] for shard in stats["shards"])


class PageHeaders(unittest.TestCase):
    def test_the_page_forbids_what_is_not_ours_and_needs_no_token(self):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "token"
            file.write_text(TOKEN)
            with serve("--admin-token-file", str(file)) as server:
                with get(server, "/") as answer:
                    policy = answer.headers["Content-Security-Policy"]
                    self.assertEqual(answer.headers["X-Content-Type-Options"], "nosniff")
                    self.assertEqual(answer.headers["Cache-Control"], "no-store")
                directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
                self.assertEqual(directives["default-src"], "'none'")
                self.assertEqual(directives["script-src"], "'self'")
                self.assertEqual(directives["connect-src"], "'self' ws: wss:")
                for path in ("/stats", "/channels", "/connections"):
                    with self.assertRaises(urllib.error.HTTPError) as refused:
                        get(server, path)
                    self.assertEqual(refused.exception.code, 401)
                    refused.exception.close()
                with get(server, "/stats", {"Authorization": f"Bearer {TOKEN}"}) as answer:
                    self.assertEqual(answer.headers["Cache-Control"], "no-store")


class PageInBrowser(unittest.TestCase):
    def setUp(self):
        self.browser = self.enterContext(Browser())
        self.browser.size(1280, 900)
        self.browser.colours("light")

    def open(self, server):
        self.browser.open(f"http://{server.admin}/")
        self.browser.until("document.querySelector('#state')?.textContent === 'ready'")

    def picture(self, name):
        self.browser.picture(PICTURES / f"{name}.png")

    def is_clean(self, *hosts):
        self.assertEqual(self.browser.problems, [])
        self.assertEqual(self.browser.hosts, set(hosts))

    def tab(self, name):
        self.browser.eval(f"document.querySelector('#tab-{name}').click()")

    def test_its_numbers_are_those_of_stats_and_it_asks_nobody_else(self):
        with serve() as server:
            client = support.node_client("client_global.mjs", *support.node_options())
            with client(server.url, [">"]) as reader:
                self.assertTrue(reader.next().startswith("open"))
                support.eventually(lambda: total(stats(server), "subscribed") == 1)
                lines = [f'{{"channel":"trade.{at % 3}","data":{at}}}'.encode() for at in range(300)]
                support.publish(server.source, [*lines, b"this is no event"])
                support.eventually(lambda: total(stats(server), "deliveries") == 300)
                self.open(server)
                said = stats(server)
                for card, count in [("events", said["ingest"]["events"]),
                                    ("deliveries", total(said, "deliveries"))]:
                    self.assertEqual(count, 300)
                    self.browser.until(f"document.querySelector('#chart-{card} .note').textContent"
                                       f".startsWith('{count} in all')")
                self.assertIn("1 connections, 1 of them subscribed", self.browser.text("#lags-note"))
                rows = self.browser.eval(
                    "[...document.querySelectorAll('#cores tbody tr')].map(row => row.cells[1].innerText)"
                )
                self.assertEqual([int(row) for row in rows],
                                 [shard["connections"] for shard in said["shards"]])
                source = self.browser.text("#sources tbody tr").split("\t")
                # The producer has said everything and gone.
                self.assertEqual((source[1], source[4], source[5]), ("down", "300", "1"))
                about = self.browser.text("#about")
                for fact in (said["server"]["node"], said["server"]["version"], said["server"]["epoch"]):
                    self.assertIn(fact, about)
                self.browser.until("document.querySelectorAll('.plot canvas').length === 4")
                self.picture("page-light")

                self.tab("channels")
                self.browser.until("document.querySelectorAll('#channels-table tbody tr').length === 3")
                with get(server, "/channels") as answer:
                    seqs = {row["channel"]: str(row["seq"]) for row in json.load(answer)["channels"]}
                shown = self.browser.eval("Object.fromEntries([...document.querySelectorAll("
                    "'#channels-table tbody tr')].map(row => [row.cells[0].innerText, row.cells[3].innerText]))")
                self.assertEqual(shown, seqs)
                self.browser.eval("""{const filter = document.querySelector('#channels-filter');
                    filter.value = 'trade.1'; filter.dispatchEvent(new Event('input'));}""")
                self.browser.until("document.querySelectorAll('#channels-table tbody tr').length === 1")

                self.tab("clients")
                self.browser.until("document.querySelectorAll('#clients-table tbody tr').length === 1")
                self.picture("page-clients")
                self.browser.eval("window.confirm = () => true")
                self.browser.eval("document.querySelector('[data-kick]').click()")
                self.browser.until("document.querySelector('#clients-note').textContent.includes('was closed')")
                support.eventually(lambda: total(stats(server), "connections") == 0)
                self.is_clean(server.admin)

    def test_it_is_dark_where_that_is_preferred_and_fits_a_phone(self):
        with serve() as server:
            self.open(server)
            back = "getComputedStyle(document.body).backgroundColor"
            light = self.browser.eval(back)
            self.browser.colours("dark")
            self.browser.until(f"{back} !== {json.dumps(light)}")
            self.browser.until("document.querySelectorAll('.plot canvas').length === 4")
            self.picture("page-dark")
            self.browser.size(390, 844)
            for tab in ("overview", "clients", "channels", "subscribe"):
                self.tab(tab)
                self.browser.until(f"!document.querySelector('#{tab}').hidden")
                wide = self.browser.eval("document.documentElement.scrollWidth")
                self.assertLessEqual(wide, 390, tab)
                self.picture(f"page-phone-{tab}")
            self.is_clean(server.admin)

    def test_tabs_go_by_keyboard(self):
        with serve() as server:
            self.open(server)
            self.browser.eval("document.querySelector('#tab-overview').focus()")
            for kind in ("keyDown", "keyUp"):
                self.browser.call("Input.dispatchKeyEvent", type=kind, key="ArrowRight", code="ArrowRight")
            self.browser.until("document.activeElement.id === 'tab-clients'")
            self.browser.until("!document.querySelector('#clients').hidden")
            unnamed = self.browser.eval("""[...document.querySelectorAll('input, select, button, meter')]
                .filter(one => !(one.labels?.length || one.textContent.trim() || one.getAttribute('aria-label')))
                .map(one => one.outerHTML)""")
            self.assertEqual(unnamed, [])

    def test_it_subscribes_pauses_and_counts(self):
        with serve() as server:
            self.open(server)
            self.tab("subscribe")
            self.browser.until("document.querySelector('#subscribe-url').value !== ''")
            self.browser.eval("document.querySelector('#subscribe-patterns').value = 'a.*, b'")
            self.browser.eval("document.querySelector('#subscribe-go').click()")
            self.browser.until("document.querySelector('#subscribe-note').textContent.startsWith('Subscribed to a.*, b')")
            support.publish(server.source, [b'{"channel":"a.x","data":{"price":1.50}}', b'{"channel":"c","data":1}'])
            self.browser.until("""document.querySelector('#messages').innerText.includes('{"price":1.50}')""")
            self.assertNotIn("\nc\t", self.browser.text("#messages"))
            self.browser.eval("document.querySelector('#subscribe-pause').click()")
            support.publish(server.source, [b'{"channel":"b","data":"<img src=x>"}'])
            self.browser.until("/events\\s2\\b/.test(document.querySelector('#subscribe-figures').innerText)")
            self.assertNotIn("img", self.browser.text("#messages"))
            self.browser.eval("document.querySelector('#subscribe-pause').click()")
            self.browser.until("document.querySelector('#messages').innerText.includes('<img src=x>')")
            self.picture("page-subscribe")
            self.browser.eval("document.querySelector('#subscribe-go').click()")
            support.eventually(lambda: total(stats(server), "connections") == 0)
            self.is_clean(server.admin, server.listen)

    def test_it_says_that_the_server_is_gone_and_goes_on_with_the_next(self):
        with serve() as server:
            self.open(server)
            admin, listen, epoch = server.admin, server.listen, self.browser.text("#about")
        self.browser.until("!document.querySelector('#lost').hidden")
        self.assertIn("Lost the server; trying again in", self.browser.text("#lost"))
        self.picture("page-lost")
        with serve(admin=admin, listen=listen) as server:
            self.browser.until("document.querySelector('#lost').hidden")
            self.assertNotEqual(self.browser.text("#about"), epoch)
            self.assertEqual(self.browser.text("#chart-events .note"), "0 in all")

    def test_a_token_is_asked_for_and_kept_for_the_tab(self):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "token"
            file.write_text(TOKEN)
            with serve("--admin-token-file", str(file)) as server:
                self.browser.open(f"http://{server.admin}/")
                for token, wanted in [("wrong" * 8, "!document.querySelector('#token-wrong').hidden"),
                                      (TOKEN, "document.querySelector('#state').textContent === 'ready'")]:
                    self.browser.until("document.querySelector('#token-form')?.hidden === false")
                    self.browser.eval(f"document.querySelector('#token').value = {json.dumps(token)}")
                    self.browser.eval("document.querySelector('#token-form').requestSubmit()")
                    self.browser.until(wanted)
                self.assertTrue(self.browser.eval("document.querySelector('#token-form').hidden"))
                self.browser.eval("location.reload()")
                self.browser.until("document.querySelector('#state')?.textContent === 'ready'")
