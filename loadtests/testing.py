"""A stand-in shop whose truth is known: one small process, `python -m loadtests.testing [--delay-ms 20]`.

Serves the documents that a Shopper follows, each answer after a fixed delay, and keeps what really happened (GET
/truth: server-side durations and every key it applied), so that what a generator reports can be compared with it. Its
manners can be changed while it runs: PUT /manners/MANNER with one of MANNERS. To make it stand still, SIGSTOP it.

Prints its port on a line of its own. Ends at the end of its standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

MANNERS = ("polite", "hang", "reset", "close-first", "refuse-orders", "unready")
"""polite: answers. hang: never answers. reset: ends each connection instead of answering. close-first: ends a
connection instead of answering the first request of each key, then answers. refuse-orders: 409. unready: 503."""


@dataclass(frozen=True, slots=True)
class RunningShop:
    """A stand-in shop in a process of its own."""

    pid: int
    port: int

    @property
    def edge(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def truth(self) -> dict[str, Any]:
        """'durations_ms': server side, one per answer; 'applied': path by key; 'received': 'METHOD path key' each."""
        found: dict[str, Any] = self._ask("GET", "/truth")
        return found

    def manner(self, name: str) -> None:
        """Behave like one of MANNERS from now on."""
        self._ask("PUT", f"/manners/{name}")

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Neither answers nor refuses meanwhile."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def _ask(self, method: str, path: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


@contextmanager
def running_shop(*, delay_ms: float = 0.0, core: int | None = None) -> Iterator[RunningShop]:
    """Start a stand-in shop, pinned to `core` if given; it ends with the block."""
    arguments = [sys.executable, "-m", "loadtests.testing", "--delay-ms", str(delay_ms)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        if core is not None:
            os.sched_setaffinity(process.pid, {core})
        try:
            yield RunningShop(process.pid, int(process.stdout.readline()))
        finally:
            process.kill()


class Shop:
    """What the stand-in knows."""

    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s
        self.manner = "polite"
        self.durations_ms: list[float] = []
        self.applied: dict[str, str] = {}
        """Path of the order by idempotency key."""
        self.received: list[str] = []
        """'METHOD path key' of every request, in order."""

    def answer(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        if self.manner == "unready":
            return 503, _problem("dependency-unavailable", definite=True)
        if method == "GET":
            return self._read(path)
        if path == "/orders" and self.manner == "refuse-orders":
            return 409, _problem("out-of-stock", definite=True)
        key = headers["idempotency-key"]
        place = self.applied.setdefault(key, f"{path}/{len(self.applied)}" if method == "POST" else path)
        return 201 if method == "POST" else 200, _order(place)

    def _read(self, path: str) -> tuple[int, dict[str, Any]]:
        if path == "/":
            return 200, {
                "_links": {"products": {"href": "/products"}, "insights": {"href": "/insights"}},
                "_templates": {"register": _template("POST", "/accounts", "name", "email")},
            }
        if path == "/products":
            order = _template("POST", "/orders", "product", "quantity", "email")
            return 200, {"_embedded": {"products": [{"id": "p-1"}]}, "_templates": {"order": order}}
        return 200, {"id": path.rpartition("/")[2]}


class Connection(asyncio.Protocol):
    """One client; requests on it are answered one after the other."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._buffer = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        request, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(headers.get("content-length", "0"))
        if len(rest) < length:
            return
        self._buffer = rest[length:]
        method, path, _ = request.split(" ")
        self._receive(method, path, headers)

    def _receive(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        shop = self._shop
        if path == "/truth":
            truth = {"durations_ms": shop.durations_ms, "applied": shop.applied, "received": shop.received}
            return self._send(200, truth)
        if path.startswith("/manners/"):
            shop.manner = path.rpartition("/")[2]
            return self._send(200, {})
        first = f"{method} {path} {headers.get('idempotency-key')}" not in shop.received
        shop.received.append(f"{method} {path} {headers.get('idempotency-key')}")
        if shop.manner == "hang":
            return None
        if shop.manner == "reset" or (shop.manner == "close-first" and first):
            return self._transport.abort()  # type: ignore[no-any-return]  # Transport.abort() -> None
        received = time.perf_counter()
        later: Callable[[], None] = lambda: self._answer(received, *shop.answer(method, path, headers))  # noqa: E731
        asyncio.get_running_loop().call_at(asyncio.get_running_loop().time() + shop.delay_s, later)
        return None

    def _answer(self, received: float, status: int, document: dict[str, Any]) -> None:
        self._send(status, document)
        self._shop.durations_ms.append((time.perf_counter() - received) * 1e3)

    def _send(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        kind = "application/problem+json" if status >= 400 else "application/prs.hal-forms+json"
        head = f"HTTP/1.1 {status} OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)


def _template(method: str, target: str, *properties: str) -> dict[str, Any]:
    return {"method": method, "target": target, "properties": [{"name": name} for name in properties]}


def _order(path: str) -> dict[str, Any]:
    return {
        "id": path.rpartition("/")[2],
        "_links": {"self": {"href": path}},
        "_templates": {"cancel": _template("PUT", f"{path}/cancellation")},
    }


def _problem(name: str, *, definite: bool) -> dict[str, Any]:
    return {"type": f"urn:shop:problem:{name}", "definite": definite}


async def serve(delay_s: float, *, port: int = 0) -> None:
    """Until standard input ends."""
    loop = asyncio.get_running_loop()
    shop = Shop(delay_s)
    server = await loop.create_server(lambda: Connection(shop), "127.0.0.1", port, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()

    def read() -> None:
        if not os.read(0, 4096):
            ended.set()

    loop.add_reader(0, read)
    await ended.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m loadtests.testing", description="A stand-in shop.")
    parser.add_argument("--delay-ms", type=float, default=0.0, help="what each answer takes")
    parser.add_argument("--port", type=int, default=0, help="0 = any free one")
    options = parser.parse_args()
    import uvloop  # here only: importing this module costs nothing

    uvloop.run(serve(options.delay_ms / 1e3, port=options.port))


if __name__ == "__main__":
    main()
