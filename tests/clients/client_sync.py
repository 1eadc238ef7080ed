"""A subscriber with the blocking client of Python's `websockets`; see `support.ClientProgram`."""

import json
import ssl
import sys

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

url, *patterns = sys.argv[1:]
security = None
if url.startswith("wss://"):
    # It reads and writes in two threads, which Python's ssl module does not bear while the tickets
    # of TLS 1.3 arrive: about one request in 500 is never sent. With 1.2 they come before.
    security = ssl.create_default_context()
    security.maximum_version = ssl.TLSVersion.TLSv1_2
with connect(url, ssl=security, subprotocols=["fanfare.v1.json"], max_size=None) as socket:
    print("open", socket.subprotocol, flush=True)
    if socket.ping().wait(timeout=10):
        print("pong", flush=True)
    params = {"channels": patterns, "policy": "all", "snapshot": False}
    socket.send(json.dumps({"method": "subscribe", "params": params, "req_id": 1}))
    try:
        while True:
            print(socket.recv(), flush=True)
    except ConnectionClosed as closed:
        print("closed", closed.rcvd.code if closed.rcvd else 1006, flush=True)
