"""docs/schema/asyncapi.yaml is true of what a server sends and takes."""

import json
import unittest

import events
import support
import yaml
from jsonschema import Draft7Validator
from websockets.sync.client import connect

DOCUMENT = yaml.safe_load((support.HERE.parents[1] / "docs/schema/asyncapi.yaml").read_text())


def validator(schema):
    """Of a payload, with the schemas that it refers to."""
    return Draft7Validator({"$ref": f"#/components/schemas/{schema}", **DOCUMENT})


def schema_of(message):
    """The schema by which a client would read a message."""
    if "success" in message:
        return "reply"
    if message["channel"] != "control":
        return "event"
    kind = message["type"]
    is_recovery = kind.endswith(("_begin", "_end"))
    return "recovery" if is_recovery else kind


class AsyncApi(unittest.TestCase):
    def test_every_message_is_as_the_document_says(self):
        requests = [
            {"method": "ping", "req_id": 1},
            {"method": "subscribe", "params": {"channels": ">", "max_age_ms": 500}, "id": "a"},
            {"method": "subscribe", "params": {"channels": ["a.*", "x.>"], "interval_ms": 100}},
            {"method": "list"},
            {"method": "whoami", "req_id": 2},
            {"method": "verify", "params": {"channel": "quote.A"}},
            {"method": "unsubscribe", "params": {"channels": ["a.*", "none.such"]}},
            {"method": "subscribe", "params": {"channels": ">", "resume": {"epoch": "x", "seq": 0}}},
        ]
        for request in requests:
            validator("request").validate(request)
        seen = set()
        with support.serve("--heartbeat", "100ms") as server:
            published = events.published()[:40]
            replies = support.publish(server.source, [event.line() for event in published])
            self.assertEqual(replies, "")
            with connect(server.url, max_size=None) as socket:
                for request in requests:
                    socket.send(json.dumps(request))
                socket.send("no JSON")
                while not {"welcome", "reply", "event", "recovery", "gap", "heartbeat"} <= seen:
                    message = json.loads(socket.recv(support.TIMEOUT_S))
                    schema = schema_of(message)
                    errors = list(validator(schema).iter_errors(message))
                    self.assertEqual(errors, [], f"{message} is no {schema}")
                    seen.add(schema)

    def test_what_the_document_does_not_allow_is_noticed(self):
        event = {"channel": "a", "type": "update", "seq": 1, "prev": 0, "ts_in": 1, "data": None}
        validator("event").validate(event)
        for wrong in [{"seq": 0}, {"type": "delta"}, {"channel": "control"}, {"key": ""}]:
            self.assertTrue(list(validator("event").iter_errors({**event, **wrong})), wrong)
        for request in [{"method": "say"}, {"params": {}}, {"method": "list", "extra": 1}]:
            self.assertTrue(list(validator("request").iter_errors(request)), request)
