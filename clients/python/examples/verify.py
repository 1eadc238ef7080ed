"""Checks its copy of a channel against the server's hash. Needs: pip install ./clients/python

python3 clients/python/examples/verify.py ws://127.0.0.1:9001/v1 quote.BTCUSDT
"""

import asyncio
import sys

import fanfare


async def main(url: str, channel: str) -> None:
    copy = fanfare.StateHash()
    async with fanfare.connect(url) as feed:
        await feed.subscribe(channel, policy="all")
        server = None
        async for event in feed:
            copy.apply(event)
            # The answer may be ahead of what was iterated over, or behind it: then ask again.
            if server is None or server.seq < event.seq:
                server = await feed.verify(channel)
            agrees = copy.agrees(server)
            if agrees is not None:
                print(channel, "agrees" if agrees else "DIFFERS", "at seq", server.seq)
                return


if len(sys.argv) != 3:
    sys.exit("usage: verify.py URL CHANNEL, such as ws://127.0.0.1:9001/v1 quote.BTCUSDT")
asyncio.run(main(sys.argv[1], sys.argv[2]))
