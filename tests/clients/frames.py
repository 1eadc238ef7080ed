"""As much of RFC 6455 as a test needs to read what curl prints: no fragments, no client side."""

import json
import os
import struct

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA


def masked(opcode, payload):
    """One frame from a client, of at most 125 bytes."""
    assert len(payload) <= 125
    key = os.urandom(4)
    body = bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + key + body


def read_frame(stream):
    """The next frame from a server, as opcode and payload."""
    first, second = exactly(stream, 2)
    assert first & 0xF0 == 0x80, f"final, no extension bits: {first:#x}"
    assert second & 0x80 == 0, "a server does not mask (RFC 6455, section 5.1)"
    length = second
    if length == 126:
        (length,) = struct.unpack(">H", exactly(stream, 2))
    elif length == 127:
        (length,) = struct.unpack(">Q", exactly(stream, 8))
    return first & 0x0F, exactly(stream, length)


def line_of(opcode, payload):
    """The frame as a line of a client program."""
    match opcode:
        case 0x1:
            return payload.decode()
        case 0x8:
            return f"closed {struct.unpack('>H', payload[:2])[0]}"
        case 0xA:
            return f"pong {json.dumps(payload.decode())}"
        case _:
            return f"frame {opcode:#x}"


def exactly(stream, count):
    data = stream.read(count)
    if len(data) < count:
        raise EOFError(f"the stream ended {count - len(data)} bytes early")
    return data
