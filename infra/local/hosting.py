"""How does a process serve an emulated service of AWS on 127.0.0.1, and answer the daemon beside it?"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from infra.local.control import Handler, serve

Answer = tuple[int, dict[str, str], bytes]
"""Status, headers, body."""

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[Any], Awaitable[None]]


async def heard(scope: dict[str, Any], receive: Receive) -> tuple[str, bytes]:
    """What a request of an AWS SDK asks for: 'Service.Action' of its header ('' for a form), and its body."""
    body = b""
    while True:
        part = await receive()
        body += part.get("body", b"")
        if not part.get("more_body"):
            break
    return next((value.decode() for name, value in scope["headers"] if name == b"x-amz-target"), ""), body


async def tell(send: Send, answer: Answer) -> None:
    """Send an answer as a whole."""
    status, headers, body = answer
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def config(app: Any, port: int) -> uvicorn.Config:
    """How uvicorn serves it: nothing logged per request, connections kept longer than the SDK keeps them."""
    return uvicorn.Config(
        app,
        host="127.0.0.1",
        port=port,
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        backlog=1024,
    )


class Server(uvicorn.Server):
    """Leaves signals alone: SIGTERM ends the process at once, whoever is still waiting for an answer."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def main(make: Callable[[int], tuple[Any, Handler]]) -> None:
    """Run `python -m MODULE SOCKET PORT` until a signal ends it.

    `make(port)`, called inside the loop, gives the ASGI app and what answers the daemon's questions.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    uvloop.run(_run(Path(sys.argv[1]), int(sys.argv[2]), make))


async def _run(path: Path, port: int, make: Callable[[int], tuple[Any, Handler]]) -> None:
    app, handle = make(port)
    listener = _bound(port)
    gc.freeze()
    serving = asyncio.create_task(Server(config(app, port)).serve(sockets=[listener]))
    control: Any = await serve(path, handle)
    async with control:
        await serving


def _bound(port: int) -> socket.socket:
    """The daemon holds a reservation beside it until we listen (infra.local.ports)."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(1024)
    return listener
