"""One connection to a cluster: where a node ends, another one goes on, each event once.

python3 clients/python/examples/nodes.py 'trade.*' ws://a.example:9001/v1 ws://b.example:9001/v1
"""

import asyncio
import sys

import fanfare


def report(what: object) -> None:
    print(what, file=sys.stderr)


async def main(pattern: str, *nodes: str) -> None:
    async with fanfare.connect(nodes, mode="single", on_gap=report, on_state=report) as feed:
        await feed.subscribe(pattern, policy="all")
        async for event in feed:
            print(event.seq, event.channel, event.data_text, flush=True)


asyncio.run(main(*sys.argv[1:]))
