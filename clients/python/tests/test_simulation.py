"""Sessions and delivery against the model of a server, while chance cuts, skips and restarts.

What must hold, whatever happens: of a stream each event comes once and in order (but for what a
healed gap brings late), or a gap names it; of keys nothing comes after something newer; and once
all is quiet, every copy is the server's.
"""

from __future__ import annotations

import random

import pytest

import fanfare
import fanfare.patterns
from fanfare.delivery import Delivery
from fanfare.messages import Terms
from fanfare.session import Arrival, Recovered, Session
from model import CHANNELS, Connection, Node, Server

SEEDS = 200
PATTERNS = ["trade.*", "quote.>", "book.A"]
ALL = Terms(policy="all")
SAMPLED = Terms(interval_ms=100)


class Application:
    """Some links, what they deliver, and what was promised."""

    def __init__(self, servers: list[Server], heal: bool = False) -> None:
        self.servers = servers
        self.heal = heal
        self.sessions = [Session() for _ in servers]
        self.delivery = Delivery(self.sessions)
        self.connections: list[Connection | None] = [None for _ in servers]
        self.epoch = ""
        self.begin()

    def begin(self) -> None:
        self.events: list[fanfare.Event] = []
        self.gaps: list[fanfare.Gap] = []
        self.hash = fanfare.StateHash()

    def connect(self, index: int) -> None:
        server, session = self.servers[index], self.sessions[index]
        if server.epoch != self.epoch:
            self.delivery.clear()
            self.begin()
            self.epoch = server.epoch
        connection = self.connections[index] = server.connect()
        session.connected(server.epoch)
        for other in self.sessions:
            if other is not session:
                session.adopt(other)
        for request in session.resubscribe():
            connection.request(request.text)

    def subscribe(self, *patterns: str, terms: Terms = ALL) -> None:
        for session, connection in zip(self.sessions, self.connections, strict=True):
            if connection:
                for request in session.subscribe(patterns, terms, len(self.sessions) == 1):
                    connection.request(request.text)

    def cut(self, index: int) -> None:
        connection = self.connections[index]
        if connection:
            connection.cut()
            self.connections[index] = None
            self.sessions[index].disconnected()
            self.report(index, self.delivery.settle())

    def report(self, index: int, gaps: list[fanfare.Gap]) -> None:
        self.gaps += gaps
        for gap in gaps:
            if self.heal and self.sessions[index].up:
                self.sessions[index].heal(gap)

    def step(self, index: int, count: int) -> None:
        """Some of the messages on their way arrive."""
        session, connection = self.sessions[index], self.connections[index]
        while connection and connection.out and count:
            count -= 1
            for output in session.receive(connection.out.popleft()):
                if isinstance(output, Arrival):
                    if self.delivery.take(output):
                        self.events.append(output.event)
                        self.hash.apply(output.event)
                elif isinstance(output, fanfare.Gap):
                    assert output.cause != "hole", output
                    self.report(index, self.delivery.gap(session, output))
                else:
                    assert isinstance(output, Recovered) or output.request
            self.report(index, self.delivery.settle())
            for request in session.healing():
                connection.request(request.text)

    def quiet(self) -> None:
        """Everything arrives, on connections that stay."""
        for index in range(len(self.servers)):
            if not self.connections[index]:
                self.connect(index)
        while any(one and one.out for one in self.connections):
            for index in range(len(self.servers)):
                self.step(index, 1_000)

    def check(self, begun: int) -> None:
        """Judged by what the server has; `begun` is where the subscription began."""
        server = self.servers[0]
        healed = self.heal or len(self.sessions) > 1
        for channel, keys in CHANNELS.items():
            mine = [event for event in self.events if event.channel == channel]
            if channel.startswith("trade"):
                seqs = [event.seq for event in mine]
                assert len(seqs) == len(set(seqs)), "an event came twice"
                if not healed:
                    assert seqs == sorted(seqs)
                lost = {one["seq"] for one in server.of(channel) if one["seq"] > begun} - set(seqs)
                for seq in lost:
                    assert any(
                        gap.from_seq <= seq <= gap.to_seq and names(gap, channel)
                        for gap in self.gaps
                    ), f"{seq} of {channel} is missing, and no gap says so"
                continue
            for key in keys:
                seqs = [event.seq for event in mine if event.key == key]
                assert seqs == sorted(set(seqs)), f"{channel} {key}"
            of = self.hash.of(channel)
            wanted = server.of(channel)
            if wanted:
                assert (of.seq, of.hash) == (wanted[-1]["seq"], server.hash(channel)), channel


def names(gap: fanfare.Gap, channel: str) -> bool:
    return any(fanfare.patterns.matches(pattern, channel) for pattern in gap.channels)


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("heal", [False, True])
def test_one_connection_that_is_cut_skipped_and_restarted(seed: int, heal: bool) -> None:
    chance = random.Random(seed)
    server = Server(chance)
    for _ in range(chance.randrange(20)):
        server.publish()
    application = Application([server], heal)
    application.connect(0)
    begun = server.seq
    application.subscribe(*PATTERNS)
    application.step(0, 1)  # The reply: from here on the client asks again by itself.
    for _ in range(150):
        match chance.choices(
            ["publish", "step", "cut", "skip", "trim", "beat", "restart"], [40, 30, 4, 3, 1, 3, 0.5]
        )[0]:
            case "publish":
                server.publish()
            case "step":
                if not application.connections[0]:
                    application.connect(0)
                application.step(0, chance.randrange(1, 12))
            case "cut":
                application.cut(0)
            case "skip" if application.connections[0]:
                application.connections[0].skip()
            case "trim":
                server.oldest = max(server.oldest, server.seq - chance.randrange(30))
            case "beat" if application.connections[0]:
                application.connections[0].heartbeat()
            case "restart":
                application.cut(0)
                server = Server(chance, server.epoch + "x")
                application.servers[0] = server
                begun = 0
    application.quiet()
    if application.epoch == server.epoch:
        application.check(begun)
    if heal and server.oldest == 1 and len(server.epoch) == 2:
        assert_nothing_lost(application, begun)


def assert_nothing_lost(application: Application, begun: int) -> None:
    """What could be healed was."""
    came = {event.seq for event in application.events}
    for frame in application.servers[0].frames:
        if frame["seq"] > begun and frame["channel"].startswith("trade"):
            assert frame["seq"] in came, f"{frame} was not healed"


@pytest.mark.parametrize("seed", range(SEEDS))
def test_patterns_whose_places_are_far_apart_go_on_from_the_lowest(seed: int) -> None:
    chance = random.Random(seed)
    server = Server(chance)
    for _ in range(20):
        server.publish()
    application = Application([server])
    application.connect(0)
    begun: dict[str, int] = {}
    coming = ["trade.A", "quote.A", "trade.B", "book.A"]
    for _ in range(200):
        match chance.choices(["publish", "step", "cut", "beat", "more"], [40, 40, 4, 1, 3])[0]:
            case "publish":
                server.publish()
            case "step":
                if not application.connections[0]:
                    application.connect(0)
                application.step(0, chance.randrange(1, 12))
            case "cut" if all(application.sessions[0].claims().values()):
                application.cut(0)
            case "beat" if application.connections[0]:
                application.connections[0].heartbeat()
            case "more" if coming and application.connections[0]:
                # While the feed is busy, no heartbeat brings the places of the others further.
                begun[coming[0]] = server.seq
                application.subscribe(coming.pop(0), terms=SAMPLED)
                application.step(0, 1_000)
    while coming:
        begun[coming[0]] = server.seq
        application.quiet()
        application.subscribe(coming.pop(0), terms=SAMPLED)
    application.quiet()
    assert application.gaps == []
    for channel in ("trade.A", "trade.B"):
        of = [frame["seq"] for frame in server.of(channel) if frame["seq"] > begun[channel]]
        assert [event.seq for event in application.events if event.channel == channel] == of
    application.check(server.seq)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_of_two_connections_one_may_go_and_come_back(seed: int) -> None:
    chance = random.Random(seed)
    server = Server(chance)
    application = Application([server, server])
    application.connect(0)
    application.connect(1)
    application.subscribe(*PATTERNS)
    application.step(0, 1_000)
    application.step(1, 1_000)
    for _ in range(200):
        match chance.choices(["publish", "step", "cut", "skip", "trim"], [40, 40, 5, 3, 1])[0]:
            case "publish":
                server.publish()
            case "step":
                index = chance.randrange(2)
                if not application.connections[index]:
                    application.connect(index)
                application.step(index, chance.randrange(1, 15))
            case "cut":
                index = chance.randrange(2)
                other = 1 - index
                if application.connections[other] and application.sessions[other].position():
                    application.cut(index)
            case "skip":
                # Of one only, while the other will bring it.
                index = chance.randrange(2)
                application.step(1 - index, 0)
                if application.connections[0] and application.connections[1]:
                    application.connections[index].skip()
            case "trim":
                server.oldest = max(server.oldest, server.seq - 40)
    application.quiet()
    application.check(0)


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize(("sides", "skips"), [(1, False), (2, False), (2, True)])
def test_nodes_that_lag_and_die_while_the_client_goes_from_one_to_the_other(
    seed: int, sides: int, skips: bool
) -> None:
    chance = random.Random(seed)
    server = Server(chance)
    for _ in range(chance.randrange(20)):
        server.publish()
    nodes = [Node(server) for _ in range(3)]
    for node in nodes:
        node.advance(1_000)
    application = Application(list(nodes[:sides]))
    for index in range(sides):
        application.connect(index)
    begun = server.seq
    application.subscribe(*PATTERNS)
    for index in range(sides):
        application.step(index, 1_000)
    for _ in range(200):
        kinds = ["publish", "advance", "step", "move", "die", "skip"]
        match chance.choices(kinds, [30, 30, 30, 4, 2, 4 * skips])[0]:
            case "publish":
                server.publish()
            case "advance":
                chance.choice(nodes).advance(chance.randrange(1, 10))
            case "step":
                index = chance.randrange(sides)
                application.step(index, chance.randrange(1, 15))
            case "move":
                index = chance.randrange(sides)
                move(application, index, nodes, chance)
            case "die":
                # Whoever was there goes elsewhere; the node has to read all of it again.
                node = chance.choice(nodes)
                for index in range(sides):
                    if application.servers[index] is node:
                        move(application, index, nodes, chance)
                nodes[nodes.index(node)] = Node(server)
            case "skip":
                connection = application.connections[chance.randrange(sides)]
                if connection:
                    connection.skip()
    for node in nodes:
        node.advance(1_000)
    application.quiet()
    application.check(begun)
    if not skips:
        assert application.gaps == []
        assert_nothing_lost(application, begun)


def move(application: Application, index: int, nodes: list[Node], chance: random.Random) -> None:
    """The connection to a node is lost, and the client goes to one where it has none."""
    application.cut(index)
    elsewhere = [node for node in nodes if node not in application.servers]
    application.servers[index] = chance.choice(elsewhere)
    application.connect(index)


@pytest.mark.parametrize("seed", range(20))
def test_one_of_two_dies_for_good_without_a_gap(seed: int) -> None:
    chance = random.Random(seed)
    server = Server(chance)
    application = Application([server, server])
    application.connect(0)
    application.connect(1)
    application.subscribe(*PATTERNS)
    for number in range(300):
        server.publish()
        application.step(chance.randrange(2), chance.randrange(4))
        if number == 150:
            application.step(1, 1_000)
            application.cut(0)
        if number == 250:
            server.oldest = server.seq  # Its resume is too old, and the other has it all.
            application.connect(0)
    application.quiet()
    assert application.gaps == []
    application.check(0)
    assert_nothing_lost(application, 0)
