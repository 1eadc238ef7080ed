"""socketify, uWebSockets for Python: every message of the feed's WebSocket goes to all subscribers.

    python server.py PORT FEED

The feed is a WebSocket too, at /publish, because the library listens for nothing else. In its
favour: libuv's loop runs by itself, without asyncio's, which the library would run beside it in
turns; Python sees each event once, and the fan-out is C++.
"""

import sys

from socketify import App, AppListenOptions, CompressOptions, OpCode

TOPIC = "bench"
HOST = "127.0.0.1"


def main() -> None:
    port, feed = (int(argument) for argument in sys.argv[1:])
    app = App()
    # No timeouts or pings: nothing is spent on what the others do not do either. Who is 16 MiB
    # behind is closed; the default of 64 KiB would lose messages without a word.
    settings = {
        "compression": CompressOptions.DISABLED,
        "idle_timeout": 0,
        "max_backpressure": 16 << 20,
        "close_on_backpressure_limit": True,
    }
    publish = lambda socket, message, opcode: app.publish(TOPIC, message, OpCode.TEXT)
    app.ws("/publish", {**settings, "message": publish})
    app.ws("/", {**settings, "open": lambda socket: socket.subscribe(TOPIC)})
    for number in (port, feed):
        app.listen(AppListenOptions(port=number, host=HOST), lambda config: None)
    app.loop.uv_loop.run()


main()
