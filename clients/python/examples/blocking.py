"""Prints quotes without asyncio. Needs: pip install ./clients/python

python3 clients/python/examples/blocking.py ws://127.0.0.1:9001/v1
"""

import sys

import fanfare

url = sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:9001/v1"
with fanfare.sync.connect(url, on_gap=print) as feed:
    feed.subscribe("quote.*", policy="latest", interval_ms=100)
    for event in feed:
        print(event.channel, event.key, event.data)
