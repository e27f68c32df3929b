"""The process that is a deployment's registry: Cloud Map on 127.0.0.1.

    python -m infra.local.registryhost SOCKET PORT

What is registered lives in its memory only. AWS would keep it; here whoever registered it notices that it is gone and
registers it again. Questions, one JSON line each (infra.local.control): ping, look.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from pathlib import Path
from typing import Any

import uvloop

from infra.local.brokerapp import config
from infra.local.brokerhost import Server, bound
from infra.local.control import Message, serve
from infra.local.registryapp import RegistryApp


class RegistryHost:
    """Answers the daemon."""

    def __init__(self, app: RegistryApp) -> None:
        self._app = app

    async def handle(self, message: Message) -> Message:
        match message["cmd"]:
            case "ping":
                return {}
            case "look":
                return {"services": self._app.look()}
            case other:
                return {"error": f"unknown command {other!r}"}


async def run(path: Path, port: int) -> None:
    app = RegistryApp()
    listener = bound(port)
    gc.freeze()
    serving = asyncio.create_task(Server(config(app, port)).serve(sockets=[listener]))
    control: Any = await serve(path, RegistryHost(app).handle)
    async with control:
        await serving


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    uvloop.run(run(Path(sys.argv[1]), int(sys.argv[2])))
