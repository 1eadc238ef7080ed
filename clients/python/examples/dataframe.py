"""A pandas DataFrame of trades. Needs: pip install ./clients/python pandas

python3 clients/python/examples/dataframe.py ws://127.0.0.1:9001/v1 1000
"""

import asyncio
import sys
from typing import Any

import fanfare


async def rows(url: str, count: int, pattern: str = "trade.*") -> list[dict[str, Any]]:
    """The next trades, a row each: what the server knows, and the members of the payload."""
    found: list[dict[str, Any]] = []
    async with fanfare.connect(url, heal=True) as feed:
        await feed.subscribe(pattern, policy="all")
        async for event in feed:
            row = {"seq": event.seq, "ts": event.ts, "ts_in": event.ts_in, "channel": event.channel}
            found.append(row | event.data)
            if len(found) == count:
                break
        for gap in feed.gaps:
            print("missed, unless healed:", gap, file=sys.stderr)
    return sorted(found, key=lambda row: row["seq"])


def main(url: str, count: str = "1000") -> None:
    import pandas

    frame = pandas.DataFrame(asyncio.run(rows(url, int(count)))).set_index("seq")
    for column in ("ts", "ts_in"):
        frame[column] = pandas.to_datetime(frame[column], unit="ns", utc=True)
    print(frame)
    print(frame.groupby("channel").size())


if __name__ == "__main__":
    main(*sys.argv[1:])
