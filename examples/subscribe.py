"""Subscribes, and proves that nothing was missed. Needs: pip install websockets

    python3 examples/subscribe.py ws://127.0.0.1:9001/v1 'trade.*' 'quote.*'
"""

import json
import sys

from websockets.sync.client import connect

url, *channels = sys.argv[1:] or ["ws://127.0.0.1:9001/v1", ">"]
with connect(url, subprotocols=["fanfare.v1.json"], max_size=None) as socket:
    params = {"channels": channels, "policy": "all"}  # with others, newer events may stand for older
    request = {"method": "subscribe", "params": params, "req_id": 1}
    socket.send(json.dumps(request))
    seen = {}  # the last seq of each channel
    accounted = 0  # up to this seq of all channels, everything was sent or receipted
    for text in socket:
        message = json.loads(text)
        if "success" in message:
            if not message["success"]:
                sys.exit(message["error"]["message"])
            accounted = message["result"][0]["seq"]
        elif message["channel"] == "control":
            if message["type"] == "gap":
                accounted = max(accounted, message["to"])
                missed = message.get("missed", "some")  # absent where nobody knows
                print(f"missed {missed} of {message['channels']}", file=sys.stderr)
            elif message["type"] == "heartbeat":
                accounted = message["seq"]
        else:
            if message["prev"] > max(accounted, seen.get(message["channel"], 0)):
                sys.exit(f"a hole before seq {message['seq']}, and no receipt for it")
            seen[message["channel"]] = message["seq"]
            print(message["seq"], message["channel"], json.dumps(message["data"]))
