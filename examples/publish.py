"""Publishes a random walk, ten quotes and trades a second. Needs nothing but Python.

    fanfare serve --source tcp://127.0.0.1:9002
    python3 examples/publish.py 127.0.0.1 9002
"""

import json
import random
import socket
import sys
import threading
import time

host, port = sys.argv[1:] or ["127.0.0.1", "9002"]
producer = socket.create_connection((host, int(port)))


def print_refusals():
    """Only refused lines are answered; read the answers, or lose them."""
    for line in producer.makefile():
        print(line, end="", file=sys.stderr)


threading.Thread(target=print_refusals, daemon=True).start()
cents = 6_000_000
while True:
    cents += random.randint(-100, 100)
    bid, ask = (f"{price // 100}.{price % 100:02}" for price in (cents, cents + 10))
    now = time.time_ns()
    events = [
        {"channel": "quote.BTCUSDT", "key": "BTCUSDT", "ts": now, "data": {"b": bid, "a": ask}},
        {"channel": "trade.BTCUSDT", "ts": now, "data": {"price": ask, "side": "buy"}},
    ]
    producer.sendall("".join(json.dumps(event) + "\n" for event in events).encode())
    time.sleep(0.1)
