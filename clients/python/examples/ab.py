"""Two connections at once: the first of each event counts, and one may go and come back.

python3 clients/python/examples/ab.py ws://a.example:9001/v1 ws://b.example:9001/v1 'trade.*'
"""

import asyncio
import sys

import fanfare


def report(what: object) -> None:
    print(what, file=sys.stderr)


async def main(first: str, second: str, *patterns: str) -> None:
    async with fanfare.connect([first, second], on_gap=report, on_state=report) as feed:
        await feed.subscribe(patterns or "trade.*", policy="all")
        async for event in feed:
            print(event.seq, event.channel, event.data_text, flush=True)


asyncio.run(main(*sys.argv[1:]))
