"""The binary form brings the same events as the JSON form; what is no message of it is an error."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import fanfare
from fanfare.binary import Channels
from fanfare.messages import Event

# Written by the server's encoder.
VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "binary.json").read_text())
FIELDS = [name for name in Event.__slots__ if not name.startswith("_")]


def announced() -> Channels:
    channels = Channels()
    ids = {vector["channel"]: vector["id"] for vector in VECTORS}
    channels.learn({"success": True, "result": [{"channel": ">", "ids": ids}, {"channel": "x"}]})
    return channels


def parts(event: Event | None) -> dict[str, Any]:
    assert event is not None
    named = {name: getattr(event, name) for name in [*FIELDS, "data", "data_text"]}
    return {**named, "text": repr(event)}


@pytest.mark.parametrize("vector", VECTORS)
def test_both_forms_bring_the_same_events(vector: dict[str, Any]) -> None:
    event = announced().event(bytes.fromhex(vector["hex"]), "01J", Decimal)
    assert parts(event) == parts(Event(vector["text"], "01J", Decimal))


@pytest.mark.parametrize("vector", VECTORS)
def test_a_message_that_is_cut_is_an_error(vector: dict[str, Any]) -> None:
    message, channels = bytes.fromhex(vector["hex"]), announced()
    for length in range(len(message)):
        with pytest.raises(fanfare.ProtocolError):
            channels.event(message[:length], "", None)


def test_ids_are_those_of_one_connection_and_come_with_replies_or_notices() -> None:
    vector, channels = VECTORS[0], announced()
    channels.clear()
    with pytest.raises(fanfare.ProtocolError, match="not announced"):
        channels.event(bytes.fromhex(vector["hex"]), "", None)
    notice = {"channel": "control", "type": "channels", "ids": {vector["channel"]: vector["id"]}}
    channels.learn(notice)
    event = channels.event(bytes.fromhex(vector["hex"]), "", None)
    assert event is not None
    assert event.channel == vector["channel"]


def test_a_later_version_may_have_more_fields_and_other_messages() -> None:
    vector, channels = VECTORS[0], announced()
    message = bytearray.fromhex(vector["hex"])
    message[48:48] = b"\xff" * 8
    message[0] += 8
    assert parts(channels.event(bytes(message), "", None)) == parts(Event(vector["text"]))
    message[2] = 2
    assert channels.event(bytes(message), "", None) is None
    message[4] = 2
    with pytest.raises(fanfare.ProtocolError, match="schema"):
        channels.event(bytes(message), "", None)
