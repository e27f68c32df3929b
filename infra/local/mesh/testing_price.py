"""What does a pair of sidecars cost? Latency and CPU time of one call with them and without, at equal load.

    mesh    client -> storefront's sidecar =mTLS=> wire -> orders' sidecar -> orders
    flat    client ------------------------------> wire -------------------> orders

Both stages run side by side and take turns, so that both see the same noise. Arrivals are open loop: latency counts
from when a request was due. The client, the services and the sidecars share the machine's cores.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from infra.local.mesh.envoyconf import egress_port
from infra.local.processes import stat_of
from infra.local.target import LocalTarget
from infra.local.testing import local_cloud
from stages.catalogue import MESH
from stages.deployment import Deployment
from stages.mesh import sidecar_of

CALLER, CALLEE = "storefront", "orders"
PATH = "/orders/o-00000000000000000000"
"""An order that there is not: a look into the database, and a small answer."""

RATE = 100.0
"""Requests a second."""
ROUNDS = 6
WINDOW_S = 4.0
CONNECTIONS = 8
ANSWER_S = 5.0
FAILED_MOST = 0.05
"""Share of requests that may fail, as they do where the machine is too busy; more, and it is no measurement."""


@dataclass(frozen=True, slots=True)
class Price:
    """One request's latency with and without the pair, and what the pair burns."""

    rate: float
    n: int
    """Requests measured on each side."""
    mesh_ms: tuple[float, float]
    """Median and p90: of each turn, and of these the median over all turns. So are the others."""
    flat_ms: tuple[float, float]
    added_ms: tuple[float, float]
    """By how much a turn with the pair was slower than the one after it without."""
    vcpu_per_1000: float
    """Cores that one sidecar of the two would keep busy at 1,000 requests a second."""


def measure_pair(directory: Path) -> Price:
    """Deploy both stages in a cloud of their own, let them take turns, take them away."""
    with local_cloud(directory) as cloud:
        target = LocalTarget(cloud.home.path)
        mesh = target.up(MESH, name="mesh", run_id="price-mesh")
        flat = target.up(replace(MESH, mesh=None), name="flat", run_id="price-flat")
        return asyncio.run(_measured(mesh, flat))


async def _measured(mesh: Deployment, flat: Deployment) -> Price:
    pair = mesh.parts[sidecar_of(CALLER)], mesh.parts[sidecar_of(CALLEE)]
    host, _, port = flat.wires[f"{CALLER}-{CALLEE}"].listen.rpartition(":")
    paths = {"mesh": ("127.0.0.1", pair[0].ports[egress_port(CALLEE)]), "flat": (host, int(port))}
    seen: dict[str, list[list[float]]] = {"mesh": [], "flat": []}
    burnt_s = 0.0
    for turn in range(ROUNDS + 1):
        for name, address in paths.items():
            before_s = _cpu_s([p.pid for p in pair])
            found = await _window(address)
            if turn:  # the first one warms up
                seen[name].append(found)
                burnt_s += (_cpu_s([p.pid for p in pair]) - before_s) * (name == "mesh")
    n = sum(map(len, seen["mesh"]))
    return Price(
        rate=RATE,
        n=n,
        mesh_ms=_both([(_share(t, 0.5), _share(t, 0.9)) for t in seen["mesh"]]),
        flat_ms=_both([(_share(t, 0.5), _share(t, 0.9)) for t in seen["flat"]]),
        added_ms=_both(
            [
                (_share(a, 0.5) - _share(b, 0.5), _share(a, 0.9) - _share(b, 0.9))
                for a, b in zip(seen["mesh"], seen["flat"], strict=True)
            ]
        ),
        vcpu_per_1000=burnt_s / n * 1000 / len(pair),
    )


def _both(turns: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return median(first for first, _ in turns), median(second for _, second in turns)


async def _window(address: tuple[str, int]) -> list[float]:
    """Latencies of one window, milliseconds. Raise RuntimeError if too much is answered but 'no such order'."""
    loop = asyncio.get_running_loop()
    free: asyncio.LifoQueue[_Connection] = asyncio.LifoQueue()
    for _ in range(CONNECTIONS):
        free.put_nowait(await _Connection.open(address))
    start = loop.time() + 0.1

    async def one(due: float) -> float | None:
        await asyncio.sleep(due - loop.time())
        connection = await free.get()
        status = await asyncio.wait_for(connection.get(PATH), ANSWER_S)
        took_ms = (loop.time() - due) * 1000
        free.put_nowait(connection)
        return took_ms if status == 404 else None

    try:
        answers = await asyncio.gather(*(one(start + n / RATE) for n in range(int(RATE * WINDOW_S))))
        good = [ms for ms in answers if ms is not None]
        if len(good) < len(answers) * (1 - FAILED_MOST):
            raise RuntimeError(f"{len(answers) - len(good)} of {len(answers)} calls of {address} failed: too busy")
        return good
    finally:
        while not free.empty():
            free.get_nowait().close()


class _Connection:
    """Just enough HTTP/1.1 to cost next to nothing."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, address: tuple[str, int]) -> _Connection:
        return cls(*await asyncio.open_connection(*address))

    async def get(self, path: str) -> int:
        """The status; the body is read and forgotten."""
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n".encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = next(int(h.partition(b":")[2]) for h in head.split(b"\r\n") if h.startswith(b"content-length:"))
        await self._reader.readexactly(length)
        return int(head.split(b" ", 2)[1])

    def close(self) -> None:
        self._writer.close()


def _cpu_s(pids: Sequence[int]) -> float:
    """CPU time of processes so far."""
    ticks = sum(seen.cpu_ticks for pid in pids if (seen := stat_of(pid)))
    return ticks / os.sysconf("SC_CLK_TCK")


def _share(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
