"""The clients by hand, of PROTOCOL.md and of `examples/`, against a server that follows a script."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from scripted import Peer, ScriptedServer, bounded

ROOT = Path(__file__).resolve().parents[3]
URL = "ws://127.0.0.1:9001/v1"


def in_protocol() -> str:
    text = (ROOT / "docs/PROTOCOL.md").read_text()
    (client,) = re.findall(r"^## A client in 20 lines$.*?^```python\n(.*?)^```$", text, re.M | re.S)
    return str(client)


def in_examples() -> str:
    return (ROOT / "examples/subscribe.py").read_text()


@pytest.mark.parametrize("source", [in_protocol, in_examples])
def test_it_goes_on_after_a_receipt_without_a_count(source: Callable[[], str]) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.expect("subscribe")
        await peer.send(success=True, result=[{"channel": ">", "policy": "all", "seq": 5}])
        lost = {"from": 6, "to": 8, "cause": "expired", "recover": "none"}
        await peer.control("gap", channels=[">"], **lost)
        await peer.event(9, 8)

    @bounded
    async def run() -> None:
        async with ScriptedServer(script) as server:
            code = source().replace(URL, server.url)
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
            )
            output, _ = await process.communicate()
            assert (process.returncode, output.count(b"trade.A")) == (0, 1)

    run()
