"""A subscriber with the asyncio client of Python's `websockets`; see `support.ClientProgram`."""

import asyncio
import json
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


async def main(url, patterns):
    async with connect(url, subprotocols=["fanfare.v1.json"], max_size=None) as socket:
        print("open", socket.subprotocol, flush=True)
        await asyncio.wait_for(await socket.ping(), timeout=10)
        print("pong", flush=True)
        params = {"channels": patterns, "policy": "all", "snapshot": False}
        request = {"method": "subscribe", "params": params, "req_id": 1}
        await socket.send(json.dumps(request))
        try:
            while True:
                print(await socket.recv(), flush=True)
        except ConnectionClosed as closed:
            print("closed", closed.rcvd.code if closed.rcvd else 1006, flush=True)


asyncio.run(main(sys.argv[1], sys.argv[2:]))
