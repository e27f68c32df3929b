"""The process that is a cluster's control plane: `python -m infra.local.mesh.control DIRECTORY PORT`.

What it has to know of the stage is in STAGES_MESH_PLAN. On 127.0.0.1:PORT it answers /ready (200 once every Envoy of
the cluster has its files, 503 before) and /status. SIGTERM ends it within half a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import TCPServer

from infra.local.mesh.controlplane import ControlPlane
from infra.local.mesh.registry import connect
from stages.mesh import ClusterPlan

PLAN = "STAGES_MESH_PLAN"


def handler(plane: ControlPlane) -> type[BaseHTTPRequestHandler]:
    """Answers GET for one control plane."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 2.0
        """Seconds that a silent asker may keep the others waiting."""

        def do_GET(self) -> None:
            if self.path in ("/ready", "/live"):
                good = plane.ready or self.path == "/live"
                self._answer(200 if good else 503, '{"ready": %s}' % ("true" if plane.ready else "false"))
            elif self.path == "/status":
                self._answer(200, plane.told)
            else:
                self._answer(404, '{"error": "there are /ready, /live and /status"}')

        def _answer(self, status: int, text: str) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing per request."""

    return Handler


class Server(HTTPServer):
    """One answer at a time."""

    def server_bind(self) -> None:
        """Without asking the name service what this machine is called, as HTTPServer does."""
        TCPServer.server_bind(self)

    def handle_error(self, *_: object) -> None:
        """An asker that is gone is no event."""


async def work(plane: ControlPlane) -> None:
    """Return after SIGTERM or SIGINT."""
    running = asyncio.create_task(plane.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    gc.freeze()
    with contextlib.suppress(asyncio.CancelledError):
        await running


def main(argv: Sequence[str]) -> int:
    """Return 2 for wrong arguments; else work until SIGTERM, and do not return."""
    try:
        directory, port = Path(argv[0]).absolute(), int(argv[1])
        plan = ClusterPlan.from_json(os.environ[PLAN])
    except (IndexError, KeyError, TypeError, ValueError) as error:
        print(f"usage: control DIRECTORY PORT, with {PLAN} in the environment: {error!r}", file=sys.stderr)
        return 2
    os.umask(0o077)
    plane = ControlPlane(plan, directory, connect)
    server = Server(("127.0.0.1", port), handler(plane))
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    asyncio.run(work(plane))
    sys.stderr.flush()
    os._exit(0)  # a thread that waits for a silent registry must not hold us up


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
