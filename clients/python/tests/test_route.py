"""Which node comes next."""

from __future__ import annotations

import fanfare.route

A, B, C, D = (f"ws://{name}/v1" for name in "abcd")


def turns(route: fanfare.route.Route, count: int, *taken: str) -> list[str]:
    seen = []
    for _ in range(count):
        seen.append(route.url)
        route.failed(taken)
    return seen


def test_every_node_has_its_turn() -> None:
    assert turns(fanfare.route.Route([A, B, C]), 4) == [A, B, C, A]
    assert turns(fanfare.route.Route([A]), 2) == [A, A]


def test_where_another_connection_is_is_left_out_unless_there_is_nothing_else() -> None:
    assert turns(fanfare.route.Route([A, B, C]), 4, B) == [A, C, A, C]
    assert turns(fanfare.route.Route([A, B]), 3, B) == [A, A, A]
    assert turns(fanfare.route.Route([A, B]), 3, A, B) == [A, B, A]


def test_a_drain_leads_to_what_it_names_then_to_others_and_last_to_itself() -> None:
    route = fanfare.route.Route([A, B])
    route.drained([A, D, "wss://d/v1", "http://x"])
    assert set(turns(route, 2)) == {D, "wss://d/v1"}
    assert turns(route, 2) == [B, A]
    route = fanfare.route.Route([A, B])
    route.drained([])
    assert turns(route, 2) == [B, A]
    route = fanfare.route.Route([A, B, C])
    route.drained([B], taken=[B])
    assert turns(route, 2, B) == [C, A]


def test_a_drain_does_not_lead_out_of_tls() -> None:
    route = fanfare.route.Route(["wss://a"])
    route.drained(["ws://b"])
    assert turns(route, 2) == ["wss://a", "wss://a"]


def test_a_node_that_refuses_is_not_asked_again() -> None:
    route = fanfare.route.Route([A, B])
    assert route.refused()
    assert turns(route, 2) == [B, B]
    assert not route.refused()
