"""Client of fanfare, a WebSocket broadcaster for market data.

`connect` for asyncio, `fanfare.sync.connect` for threads; `Book` and `BinanceDepth` for order
books, `StateHash` to check a copy against the server.
"""

from . import sync
from .book import BinanceDepth, Book
from .client import Feed, connect
from .errors import (
    ClosedError,
    FanfareError,
    ProtocolError,
    RefusedError,
    RequestError,
    UnreachableError,
)
from .messages import Event, Gap, Policy, State, Subscribed, Terms, Verified
from .statehash import StateHash

__all__ = [
    "BinanceDepth",
    "Book",
    "ClosedError",
    "Event",
    "FanfareError",
    "Feed",
    "Gap",
    "Policy",
    "ProtocolError",
    "RefusedError",
    "RequestError",
    "State",
    "StateHash",
    "Subscribed",
    "Terms",
    "UnreachableError",
    "Verified",
    "connect",
    "sync",
]
