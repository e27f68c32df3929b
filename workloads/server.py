"""How does a service's process live and end? uvicorn in one event loop, and a drain that loses no request.

On SIGTERM (or SIGINT): /ready turns 503 and every answer carries `Connection: close`, so that proxies and
clients move on; after `drain_s` the listener closes, requests under way are finished, and the process
exits with status 0. A second signal ends the drain at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Generator

import structlog
import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from workloads import problems
from workloads.bootstrap import Service, build
from workloads.problems import ProblemError
from workloads.settings import Settings
from workloads.web import refusal

log = structlog.get_logger()

KEEP_ALIVE_S = 75
"""Longer than any client of ours keeps an idle connection, so that it is never the server who closes one in use."""
LAST_REQUESTS_S = 5
"""How long requests under way may take after the listener has closed."""
BACKLOG = 1024


class ProblemProtocol(HttpToolsProtocol):
    """Answers what is not HTTP with a problem document too."""

    def send_400_response(self, msg: str) -> None:
        response = refusal(ProblemError(problems.MALFORMED, msg), {"Connection": "close"})
        lines = [STATUS_LINE[400], *(b"%s: %s\r\n" % header for header in response.raw_headers), b"\r\n"]
        self.transport.write(b"".join(lines) + bytes(response.body))
        self.transport.close()


class DrainingServer(uvicorn.Server):
    """A uvicorn server that is told to stop by `stop_after` instead of by signals it would die of."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    def stop_after(self, delay_s: float) -> None:
        """Close the listener after a delay."""
        asyncio.get_running_loop().call_later(delay_s, self.stop_now)

    def stop_now(self) -> None:
        self.should_exit = True


def serve(settings: Settings) -> None:
    """Run one service until it is told to stop. Raise OSError if its address cannot be had."""
    with listener(settings) as listening:
        uvloop.run(_serve(settings, listening))


def listener(settings: Settings) -> socket.socket:
    """A bound socket. Raise OSError naming the address."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(settings.address)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on {settings.listen}: {error.strerror}") from error
    return sock


async def _serve(settings: Settings, listening: socket.socket) -> None:
    service = build(settings)
    server = DrainingServer(
        uvicorn.Config(
            service.shell,
            http=ProblemProtocol,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=LAST_REQUESTS_S,
            backlog=BACKLOG,
        )
    )
    _on_signals(service, server, settings.drain_s)
    service.start()
    log.info("started", listen=settings.listen, disabled=sorted(settings.disabled))
    await server.serve([listening])
    await service.stop()
    log.info("stopped")


def _on_signals(service: Service, server: DrainingServer, drain_s: float) -> None:
    def drain() -> None:
        if service.shell.draining:
            server.stop_now()
            return
        log.info("draining", seconds=drain_s)
        service.drain()
        server.stop_after(drain_s)

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, drain)
