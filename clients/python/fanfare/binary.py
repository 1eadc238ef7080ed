"""Events as sub-protocol `fanfare.v1.bin` has them: fixed fields, then the key and the data.

Not here: control messages, which are JSON text in this form, too. Invariant: an event is the same
as the one that the JSON form brings, `raw` included.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from .errors import ProtocolError
from .messages import Event, ParseFloat

SUBPROTOCOL = "fanfare.v1.bin"

_HEADER = struct.Struct("<HHHH")  # Length of the block, template, schema, version.
_BLOCK = struct.Struct("<QQQQIB")  # seq, prev, ts, ts_in, channel, kind.
_BLOCK_BYTES = 40
_KEY_LENGTH = struct.Struct("<H")
_DATA_LENGTH = struct.Struct("<I")
_SCHEMA = 1
_TEMPLATE_EVENT = 1
_TS_NONE = (1 << 64) - 1
_KINDS = ("update", "snapshot")


class Channels:
    """The channels of one connection by the ids that its server has announced."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}

    def clear(self) -> None:
        """Another connection, other ids."""
        self._names.clear()

    def learn(self, message: Mapping[str, Any]) -> None:
        """Takes the ids of a reply to `subscribe`, or of a notice."""
        entries = message.get("result")
        for entry in [message, *(entries if isinstance(entries, list) else [])]:
            ids = entry.get("ids")
            if ids:
                self._names.update({channel_id: name for name, channel_id in ids.items()})

    def event(self, message: bytes, epoch: str, parse_float: ParseFloat | None) -> Event | None:
        """The event of a binary message; None if it is of a kind that this version does not know."""
        try:
            block_bytes, template, schema, _version = _HEADER.unpack_from(message)
            if schema != _SCHEMA:
                raise ProtocolError(f"a binary message has schema {schema}, not {_SCHEMA}")
            if template != _TEMPLATE_EVENT:
                return None
            if block_bytes < _BLOCK_BYTES:
                raise ProtocolError(f"a binary message has a block of {block_bytes} bytes")
            seq, prev, ts, ts_in, channel_id, kind = _BLOCK.unpack_from(message, _HEADER.size)
            at = _HEADER.size + block_bytes
            (length,) = _KEY_LENGTH.unpack_from(message, at)
            key_at = at + _KEY_LENGTH.size
            data_at = key_at + length + _DATA_LENGTH.size
            (data_length,) = _DATA_LENGTH.unpack_from(message, key_at + length)
            key_text = str(message[key_at : key_at + length], "utf-8")
            data_text = str(message[data_at : data_at + data_length], "utf-8")
            if data_at + data_length > len(message):
                raise ProtocolError("a binary message ends before its data does")
            return Event.assemble(
                self._names[channel_id],
                key_text,
                _KINDS[kind],
                (seq, prev, None if ts == _TS_NONE else ts, ts_in),
                data_text,
                epoch,
                parse_float,
            )
        except (struct.error, ValueError, IndexError) as error:
            raise ProtocolError(f"not a binary event ({error}): {message[:64]!r}") from error
        except KeyError as error:
            raise ProtocolError(f"an event of a channel that was not announced: {error}") from error
