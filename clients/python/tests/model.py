"""A small server without sockets: a log, snapshots, resumes, receipts, as the protocol says.

It is what the client is tested against where chance decides. Invariant: a connection's messages
are in the order in which a real server sends them.
"""

from __future__ import annotations

import json
import random
import zlib
from collections import deque
from typing import Any

from fanfare.patterns import matches

CHANNELS = {
    "trade.A": [None],
    "trade.B": [None],
    "quote.A": ["a", "b", 'c "é"'],
    "book.A": [None],
}


class Server:
    """The log of one epoch."""

    def __init__(self, chance: random.Random, epoch: str = "E1") -> None:
        self.chance = chance
        self.epoch = epoch
        self.frames: list[dict[str, Any]] = []
        self.raws: list[str] = []
        self.oldest = 1
        self.connections: list[Connection] = []

    @property
    def seq(self) -> int:
        return len(self.frames)

    def publish(self, channel: str | None = None, kind: str | None = None) -> None:
        channel = channel or self.chance.choice(list(CHANNELS))
        key = self.chance.choice(CHANNELS[channel])
        if kind is None:
            begins = channel == "book.A" and (not self.of(channel) or self.chance.random() < 0.1)
            kind = "snapshot" if begins else "update"
        before = self.of(channel)
        seq = self.seq + 1
        frame: dict[str, Any] = {"channel": channel, "type": kind}
        if key is not None:
            frame["key"] = key
        frame |= {"seq": seq, "prev": before[-1]["seq"] if before else 0, "ts_in": seq}
        frame["data"] = {"n": seq}
        self.frames.append(frame)
        self.raws.append(json.dumps(frame, separators=(",", ":"), ensure_ascii=False))
        for connection in self.connections:
            connection.published(frame, self.raws[-1])

    def of(self, channel: str) -> list[dict[str, Any]]:
        return [frame for frame in self.frames if frame["channel"] == channel]

    def state(self, channel: str) -> dict[str | None, list[int]]:
        """The seqs of the frames that count, by key."""
        slots: dict[str | None, list[int]] = {}
        books = set()
        for frame in self.of(channel):
            key = frame.get("key")
            if frame["type"] == "snapshot":
                books.add(key)
                slots[key] = [frame["seq"]]
            elif key in books:
                slots[key].append(frame["seq"])
            elif key is not None:
                slots[key] = [frame["seq"]]
        return slots

    def hash(self, channel: str) -> str:
        lines = []
        for key, seqs in self.state(channel).items():
            crc = 0
            for seq in seqs:
                crc = zlib.crc32(self.raws[seq - 1].encode(), crc)
            text = "null" if key is None else json.dumps(key, ensure_ascii=False)
            lines.append((text.encode(), f"{text}:{crc:08x}\n".encode()))
        return f"{zlib.crc32(b''.join(line for _, line in sorted(lines))):08x}"

    def connect(self) -> Connection:
        connection = Connection(self)
        self.connections.append(connection)
        return connection


class Node(Server):
    """One of several that send what one server has: as far as it has got."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.chance, server.epoch)
        self.source = server

    def advance(self, count: int) -> None:
        """Takes in some of what it does not have."""
        self.oldest = self.source.oldest
        for at in range(self.seq, min(self.seq + count, self.source.seq)):
            frame, raw = self.source.frames[at], self.source.raws[at]
            self.frames.append(frame)
            self.raws.append(raw)
            for connection in self.connections:
                connection.published(frame, raw)


class Connection:
    """One client: what is on its way to it is `out`."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.out: deque[str] = deque()
        self.patterns: list[str] = []
        # What all subscriptions have from another node, and this one is yet to get.
        self.ahead: int | None = None

    def cut(self) -> None:
        self.server.connections.remove(self)

    def published(self, frame: dict[str, Any], raw: str) -> None:
        if self.covers(frame["channel"]) and frame["seq"] > (self.ahead or 0):
            self.out.append(raw)

    def covers(self, channel: str) -> bool:
        return any(matches(pattern, channel) for pattern in self.patterns)

    def send(self, **message: Any) -> None:
        self.out.append(json.dumps(message, separators=(",", ":")))

    def control(self, kind: str, **message: Any) -> None:
        self.send(channel="control", type=kind, **message)

    def request(self, text: str) -> None:
        request = json.loads(text)
        params = request["params"]
        head = {"method": request["method"], "success": True, "req_id": request["req_id"]}
        if request["method"] == "unsubscribe":
            self.patterns = [one for one in self.patterns if one not in params["channels"]]
            self.send(**head)
            return
        patterns = params["channels"]
        self.patterns += [one for one in patterns if one not in self.patterns]
        seq, resume = self.server.seq, params.get("resume")
        why = None
        if resume:
            if resume["epoch"] != self.server.epoch:
                why = "epoch"
            elif resume["seq"] < self.server.oldest - 1:
                why = "too_old"
            elif resume["seq"] > seq:
                if not isinstance(self.server, Node) or resume["seq"] > self.server.source.seq:
                    why = "ahead"
        had = resume["seq"] if resume and not why else 0
        self.ahead = had if self.ahead is None else min(self.ahead, had)
        entry = {"policy": params.get("policy", "auto"), "seq": seq, "matched": 1}
        if "interval_ms" in params:
            entry["interval_ms"] = params["interval_ms"]
        if resume:
            entry |= {"resumed": not why} | ({"why": why} if why else {})
        self.send(**head, result=[{"channel": one, **entry} for one in patterns])
        if resume and not why:
            self.replay(patterns, resume["seq"])
            self.control("replay_end", channels=patterns, seq=seq)
            return
        if why:
            first = 1 if why == "epoch" else resume["seq"] + 1
            lost = {"from": first, "to": seq, "cause": why, "recover": "none"}
            self.control("gap", channels=patterns, **lost)
        if params["snapshot"]:
            self.snapshot(patterns)
            self.control("snapshot_end", channels=patterns, seq=seq)

    def replay(self, patterns: list[str], after: int) -> None:
        for frame, raw in zip(self.server.frames[after:], self.server.raws[after:], strict=True):
            if any(matches(pattern, frame["channel"]) for pattern in patterns):
                self.out.append(raw)

    def snapshot(self, patterns: list[str]) -> None:
        slots = [
            seqs
            for channel in CHANNELS
            if any(matches(pattern, channel) for pattern in patterns)
            for seqs in self.server.state(channel).values()
        ]
        self.server.chance.shuffle(slots)
        for seqs in slots:
            for seq in seqs:
                self.out.append(self.server.raws[seq - 1])

    def heartbeat(self) -> None:
        self.control("heartbeat", seq=self.server.seq)

    def skip(self) -> None:
        """Loses the trades on their way, with a receipt, as policy `all` does past a limit."""
        if any(
            not raw.startswith(('{"channel":"trade', '{"channel":"q', '{"channel":"b'))
            for raw in self.out
        ):
            return  # Only what is live can be skipped.
        lost = [json.loads(raw) for raw in self.out if raw.startswith('{"channel":"trade')]
        if not lost:
            return
        rest = [raw for raw in self.out if not raw.startswith('{"channel":"trade')]
        self.out.clear()
        self.control(
            "gap",
            channels=sorted({frame["channel"] for frame in lost}),
            **{"from": lost[0]["seq"], "to": lost[-1]["seq"]},
            missed=len(lost),
            cause="max_age",
            recover="resume",
        )
        self.out.extend(rest)
