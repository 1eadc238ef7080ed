"""The board and the alerts against a running server, as a real Prometheus sees it.

    python3 tests/monitoring/run.py --program target/checked/fanfare

A Prometheus on a port of its own scrapes a server with clients. Every query of the board must give
something, every alert must be a valid rule whose metrics exist, and the scrape must be one that
Prometheus takes without complaint. Everything that was started is stopped at the end.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/clients"))

import support  # noqa: E402

BOARD = ROOT / "scripts/monitoring/grafana-board.json"
ALERTS = ROOT / "scripts/monitoring/alerts.yml"
WINDOW = "5s"  # What stands for the window that Grafana picks.


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--program", required=True, type=Path, help="the built program")
    support.PROGRAM = str(parser.parse_args().program.resolve())
    subprocess.run(["promtool", "check", "rules", ALERTS], check=True)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        journal = folder / "journal"
        with support.serve("--admin", "127.0.0.1:0", "--journal", str(journal)) as server:
            with Prometheus(folder, server.admin) as prometheus:
                failures = check(server, prometheus)
    print(f"monitoring: {failures or 'every query and every alert'}")
    sys.exit(1 if failures else 0)


def check(server, prometheus):
    """What is wrong, as lines."""
    client = subscribe(server)
    try:
        return judge(server, prometheus)
    finally:
        client.kill()
        client.wait()


def judge(server, prometheus):
    publish(server, 200)
    # Rates want two scrapes with something in between.
    prometheus.wait_for("sum(fanfare_deliveries_total) > 0")
    publish(server, 200)
    prometheus.wait_for(f"sum(rate(fanfare_deliveries_total[{WINDOW}])) > 0")
    # A histogram that Prometheus cannot read has no quantiles but NaN.
    quantile = f"histogram_quantile(0.99, rate(fanfare_last_send_seconds_bucket[{WINDOW}]))"
    prometheus.wait_for(f"{quantile} > 0")
    failures = []
    for title, query in board_queries():
        result = prometheus.query(query.replace("$__rate_interval", WINDOW))
        if not result:
            failures.append(f"{title}: nothing for {query}")
    rules = alert_rules(prometheus)
    for name, query in rules:
        for metric in sorted(set(re.findall(r"fanfare_[a-z_]+|\bup\b", query))):
            if not prometheus.query(f"count({metric})"):
                failures.append(f"{name}: there is no {metric}")
    if len(rules) < 10:
        failures.append(f"only {len(rules)} alerts were loaded")
    broken = [name for name, query in rules if name == "FanfareDown" and prometheus.query(query)]
    return failures + [f"{name} fires for a server that is well" for name in broken]


def board_queries():
    board = json.loads(BOARD.read_text())
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


def alert_rules(prometheus):
    """The alerts that Prometheus has loaded, and is evaluating without an error."""
    rules = []
    for group in prometheus.get("/api/v1/rules")["groups"]:
        for rule in group["rules"]:
            assert rule.get("lastError", "") == "", f"{rule['name']}: {rule['lastError']}"
            rules.append((rule["name"], rule["query"]))
    return rules


def subscribe(server):
    """A client that reads in the background."""
    command = [support.PROGRAM, "subscribe", server.url, ">"]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    client = subprocess.Popen(command, **quiet)
    support.eventually(lambda: subscribed(server) == 1)
    return client


def stats(server):
    with urllib.request.urlopen(f"http://{server.admin}/stats", timeout=10) as answer:
        return json.load(answer)


def subscribed(server):
    return sum(shard["subscribed"] for shard in stats(server)["shards"])


def publish(server, count):
    lines = "".join(f'{{"channel":"a.{n % 3}","data":{n}}}\n' for n in range(count))
    command = [support.PROGRAM, "publish", f"tcp://{server.source}"]
    subprocess.run(command, input=lines.encode(), check=True, capture_output=True, timeout=30)


class Prometheus:
    """A Prometheus of our own that scrapes one server every second."""

    def __init__(self, folder, target):
        config = folder / "prometheus.yml"
        config.write_text(
            "global: { scrape_interval: 1s, evaluation_interval: 1s }\n"
            f"rule_files: ['{ALERTS}']\n"
            "scrape_configs:\n"
            f"  - {{ job_name: fanfare, static_configs: [{{ targets: ['{target}'] }}] }}\n"
        )
        command = ["prometheus", f"--config.file={config}", "--web.listen-address=127.0.0.1:0"]
        command += [f"--storage.tsdb.path={folder / 'tsdb'}"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        self.log = support.Lines()
        self.log.take_from(self.process.stderr)
        listening = re.compile(r'[Ll]istening on"? address=(127\.0\.0\.1:[1-9]\d*)')
        while not (found := listening.search(line := self.log.next())):
            assert line != support.Lines.END, "Prometheus did not start"
        self.address = found[1]

    def get(self, path):
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, text):
        """The samples of an instant query; a wrong query is an error."""
        return self.get("/api/v1/query?" + urllib.parse.urlencode({"query": text}))["result"]

    def wait_for(self, text):
        deadline = time.monotonic() + support.TIMEOUT_S
        while not self.query(text):
            errors = [target["lastError"] for target in self.get("/api/v1/targets")["activeTargets"]]
            assert time.monotonic() < deadline, f"waited in vain for {text}; scrapes: {errors}"
            time.sleep(0.2)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(support.TIMEOUT_S)


if __name__ == "__main__":
    main()
