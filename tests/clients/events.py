"""The events that are published, and what a subscriber must make of them."""

import json
import re
from dataclasses import dataclass

PATTERNS = ["trade.*", "quote.>"]
WANTED = re.compile(r"trade\.[^.]+|quote\..+")

# Each as a producer wrote it: a server that parsed and wrote it again would change it.
TRICKY_DATA = [
    '{"b":"60001.10","a":"60001.20","z":1,"a_again":1.10}',
    '{"b":2,"a":1,"b":3}',
    '[0.1,1.0,1.00,1e2,1E+2,-0,-0.0,123456789012345678901234567890,0.1e-400]',
    '{ "spaces" : [ 1 ,\t2 ] }',
    '"\\u00e9 \\ud83d\\ude80 \\u2028 \\/ \\n \\u0000"',
    '{"name":"Zürich 東京 Ελλάδα مرحبا 🚀👩‍👩‍👧 e\u0301 \u2028\u2029\u00a0\ufeff"}',
    '"</script><!-- & \' ` -->"',
    "null",
    "true",
    "[]",
    "{}",
    '""',
]


@dataclass
class Event:
    """What the server must send for one published line."""

    channel: str
    key: str | None
    ts: int | None
    data: str
    seq: int = 0
    prev: int = 0

    def line(self):
        """The producer's line; only `data` must come back as it is here."""
        head = {"channel": self.channel, "key": self.key, "ts": self.ts}
        head = {name: value for name, value in head.items() if value is not None}
        return f"{json.dumps(head)[:-1]}, \"data\": {self.data}}}".encode()


def published(count=1_500):
    """`count` events in the order of their `seq`, of stream and of keyed channels."""
    events = []
    for number in range(count):
        data = TRICKY_DATA[number % len(TRICKY_DATA)]
        ts = 1_723_161_256_000_000_000 + number if number % 4 else None
        match number % 5:
            case 0:
                events.append(Event("trade.BTCUSDT", None, ts, data))
            case 1:
                events.append(Event(f"trade.{number % 7}", None, ts, f'{{"n":{number}}}'))
            case 2:
                events.append(Event("quote.BTCUSDT", "BTC/USDT é\"", ts, data))
            case 3:
                events.append(Event("quote.a.b", f"key{number % 3}", ts, data))
            case _:
                events.append(Event("unwanted.quote", None, ts, data))
    # Around the payload that needs the longest form of a frame's length, and beyond.
    for size in (65_535, 65_536, 300_000):
        events.append(Event("trade.BTCUSDT", None, 1, f'"{"é" * (size // 2)}"'))
    events.append(Event("quote.BTCUSDT", "last", None, '"the end"'))
    latest = {}
    for seq, event in enumerate(events, start=1):
        event.seq = seq
        event.prev = latest.get(event.channel, 0)
        latest[event.channel] = seq
    return events


def expected(events, boundary):
    """Those that a subscriber of `PATTERNS` gets whose subscription holds after `boundary`."""
    return [event for event in events if event.seq > boundary and WANTED.fullmatch(event.channel)]


def check(message, event):
    """A message is exactly the event: its fields, and its data character for character."""
    parsed = json.loads(message)
    assert isinstance(parsed.pop("ts_in"), int), message[:300]
    del parsed["data"]
    fields = {
        "channel": event.channel,
        "type": "update",
        "key": event.key,
        "seq": event.seq,
        "prev": event.prev,
        "ts": event.ts,
    }
    wanted = {name: value for name, value in fields.items() if value is not None}
    assert parsed == wanted, f"expected {wanted}, found {parsed}"
    data = message[message.index(',"data":') + len(',"data":') : -1]
    assert data == event.data, f"data of seq {event.seq}: {data[:200]!r} for {event.data[:200]!r}"
