"""Order books from events: one of a general form, and Binance's with its rules of sequence.

Not here: which exchange is which; an event that is no book of the form is an error of the caller.
Invariant: prices of each side are sorted, and no level of size zero is kept.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

from .messages import Event

EARLY_MAX = 1_000


class Level(NamedTuple):
    """A price, and how much there is at it."""

    price: Any
    size: Any


class Book:
    """An order book: `snapshot` events replace it, others set the sizes of levels, 0 deletes.

    Levels are `[price, size]`, in `bids` and `asks` or `b` and `a` of the event's data. `number`
    makes numbers of them: `decimal.Decimal` is exact, `float` is faster.

    What is missing shows by the next change: its `prev` names the event before it on the channel.
    Of one of several keys that says nothing: call `broken` where a gap names the channel.
    """

    def __init__(self, number: Callable[[str], Any] = Decimal) -> None:
        self.number = number
        self.seq = 0
        """Of the last event that was applied."""
        self.whole = False
        """Whether it began with a snapshot, and nothing has been missing since."""
        self.why = "no snapshot yet"
        """Why it is not whole."""
        self._epoch = ""
        self._bids = _Side(number, descending=True)
        self._asks = _Side(number, descending=False)

    def apply(self, event: Event) -> bool:
        """Takes in an event of the book's channel, in order; whether the book is whole after it."""
        missing = self._missing(event) if self.whole and event.kind != "snapshot" else ""
        if missing:
            self.broken(missing)
        self.seq, self._epoch = event.seq, event.epoch
        return self.apply_data(event.kind, event.data)

    def apply_data(self, kind: str, data: Any) -> bool:
        """As `apply`, with the payload alone, which does not say what came before it.

        `kind` is `snapshot` or `update`.
        """
        if kind == "snapshot":
            self._begin()
        elif not self.whole:
            return False
        self._set(data)
        return True

    def bids(self, depth: int | None = None) -> list[Level]:
        """The best `depth` bids, best first."""
        return list(self._bids.best(depth))

    def asks(self, depth: int | None = None) -> list[Level]:
        """The best `depth` asks, best first."""
        return list(self._asks.best(depth))

    @property
    def best_bid(self) -> Level | None:
        """The highest bid."""
        return next(self._bids.best(1), None)

    @property
    def best_ask(self) -> Level | None:
        """The lowest ask."""
        return next(self._asks.best(1), None)

    def broken(self, why: str) -> None:
        """Something is missing: it is not whole until the next snapshot."""
        self.whole = False
        self.why = why

    def _missing(self, event: Event) -> str:
        """What did not come before this change."""
        if self.seq == 0:
            return ""  # It began with a snapshot that was no event.
        if event.epoch != self._epoch:
            return f"no snapshot yet of epoch {event.epoch}"
        if event.key is None and event.prev > self.seq:
            return f"after seq {self.seq} came {event.seq}, which follows {event.prev}"
        return ""

    def _begin(self) -> None:
        self._bids.clear()
        self._asks.clear()
        self.whole = True
        self.why = ""

    def _set(self, data: Any) -> None:
        self._bids.set(data["bids"] if "bids" in data else data.get("b", ()))
        self._asks.set(data["asks"] if "asks" in data else data.get("a", ()))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Book):
            return NotImplemented
        return (self._bids.sizes, self._asks.sizes) == (other._bids.sizes, other._asks.sizes)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        state = "" if self.whole else f" not whole: {self.why}"
        return f"<{type(self).__name__} {self.best_bid} {self.best_ask} seq={self.seq}{state}>"


class BinanceDepth(Book):
    """A book of Binance's depth stream and REST snapshot, spot and futures, by its own rules.

    A snapshot has `lastUpdateId`, a change `U` to `u`, and for futures `pu`, the `u` before it.
    Changes that came before the snapshot wait for it (at most 1,000 of them), and those that it
    holds already are left out. Where the chain breaks, the book is not whole until a snapshot.
    """

    def __init__(self, number: Callable[[str], Any] = Decimal) -> None:
        super().__init__(number)
        self.update_id = 0
        """`lastUpdateId` or `u` of what was applied last."""
        self._chained = False
        self._early: deque[Any] = deque(maxlen=EARLY_MAX)

    def apply_data(self, kind: str, data: Any) -> bool:
        """As `apply`, with the payload alone. What a payload is can be seen from it."""
        if "lastUpdateId" in data:
            self._begin()
            self._set(data)
            self.update_id = data["lastUpdateId"]
            self._chained = False
            early, self._early = self._early, deque(maxlen=EARLY_MAX)
            for change in early:
                self._change(change)
        else:
            self._change(data)
        return self.whole

    def _missing(self, event: Event) -> str:
        return ""  # Binance's numbers say it.

    def _change(self, data: Any) -> None:
        if self.whole and self._is_old(data):
            return
        if self.whole and not self._follows(data):
            self.broken(f"after update {self.update_id} came {data['U']} to {data['u']}")
        if not self.whole:
            self._early.append(data)
            return
        self._set(data)
        self.update_id = data["u"]
        self._chained = True

    def _is_old(self, data: Any) -> bool:
        futures_first = "pu" in data and not self._chained
        return bool(data["u"] < self.update_id + (0 if futures_first else 1))

    def _follows(self, data: Any) -> bool:
        last = self.update_id
        if "pu" in data:
            return bool(data["pu"] == last or (not self._chained and data["U"] <= last))
        return bool(data["U"] == last + 1 if self._chained else data["U"] <= last + 1)


class _Side:
    def __init__(self, number: Callable[[str], Any], descending: bool) -> None:
        self.sizes: dict[Any, Any] = {}
        self._number = number
        self._prices: list[Any] = []  # Ascending.
        self._descending = descending

    def clear(self) -> None:
        self.sizes.clear()
        self._prices.clear()

    def set(self, levels: Iterable[Any]) -> None:
        number, sizes, prices = self._number, self.sizes, self._prices
        for level in levels:
            price, size = number(level[0]), number(level[1])
            if size:
                if price not in sizes:
                    insort(prices, price)
                sizes[price] = size
            elif sizes.pop(price, None) is not None:
                del prices[bisect_left(prices, price)]

    def best(self, depth: int | None) -> Iterator[Level]:
        prices = reversed(self._prices) if self._descending else iter(self._prices)
        for count, price in enumerate(prices):
            if count == depth:
                return
            yield Level(price, self.sizes[price])
