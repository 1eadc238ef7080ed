"""A reader of Server-Sent Events (WHATWG HTML, section 9.2), as lines of `support.Lines`."""

import json


def lines_of(stream):
    """What a client says of a stream of bytes: `open sse`, each message, `closed CODE`."""
    yield "open sse"
    kind, data = "", []
    for line in stream:
        line = line.decode().rstrip("\r\n")
        if line:
            field, _, value = line.partition(": ")
            if field == "event":
                kind = value
            elif field == "data":
                data.append(value)
        elif data:
            text = "\n".join(data)
            end = json.loads(text) if kind == "control" else {}
            yield f"closed {end['code']}" if end.get("type") == "closed" else text
            kind, data = "", []
