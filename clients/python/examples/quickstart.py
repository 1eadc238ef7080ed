"""Prints trades, and what was missed. Needs: pip install ./clients/python

python3 clients/python/examples/quickstart.py ws://127.0.0.1:9001/v1
"""

import asyncio
import sys

import fanfare


async def main(url: str) -> None:
    async with fanfare.connect(url, on_gap=print, on_state=print, heal=True) as feed:
        await feed.subscribe("trade.*", policy="all", max_age_ms=500)
        async for event in feed:
            print(event.channel, event.seq, event.data)


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:9001/v1"))
