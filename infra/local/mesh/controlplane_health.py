"""Which instances of a cluster are healthy? Counting (pure), and the one question that is counted."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace

from infra.local.mesh.controlplane_view import View
from infra.local.mesh.registry import HEALTHY, UNHEALTHY, Named

PERIOD_S = 0.4
"""Between two questions."""

ANSWER_S = 0.9
"""The longest an answer may take. Busy processes have taken half a second; what does not answer at all is found by the
callers' sidecars long before."""

FAILURES = 2
"""In a row, until an instance counts as unhealthy: noticed within 1.2 s if it refuses, 2.2 s if it hangs."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What is known of one process at one address."""

    address: str
    healthy: bool | None = None
    """None before the first answer, and before enough failures."""
    failures: int = 0

    def after(self, good: bool) -> Checked:
        """One success makes it healthy, some failures in a row unhealthy."""
        if good:
            return replace(self, healthy=True, failures=0)
        failures = self.failures + 1
        return replace(self, healthy=False if failures >= FAILURES else self.healthy, failures=failures)


Checks = Mapping[Named, Checked]


def followed(checks: Checks, view: View) -> Checks:
    """What is known of the instances that run now; one at a new address is another process."""
    found = {}
    for service, versions in view.instances.items():
        for version, address in versions.items():
            name = Named(service, version)
            seen = checks.get(name)
            found[name] = seen if seen is not None and seen.address == address else Checked(address)
    return found


def health(checks: Checks, view: View) -> dict[Named, str | None]:
    """HEALTHY or UNHEALTHY of everything that has a sidecar; None is not known yet."""
    found: dict[Named, str | None] = {}
    for service, versions in view.sidecars.items():
        for version in versions:
            name = Named(service, version)
            if view.instances.get(service, {}).get(version) is None:
                found[name] = UNHEALTHY
            else:
                seen = checks[name].healthy if name in checks else None
                found[name] = None if seen is None else HEALTHY if seen else UNHEALTHY
    return found


async def asked(checks: Checks) -> dict[Named, bool]:
    """Ask every instance at once whether it is ready; takes at most ANSWER_S."""
    names = list(checks)
    answers = await asyncio.gather(*(_ready(checks[name].address) for name in names))
    return dict(zip(names, answers, strict=True))


async def _ready(address: str) -> bool:
    """With bare sockets, a third of what streams cost: it is asked some twenty times a second."""
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    question = f"GET /ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode()
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
        connection.setblocking(False)
        try:
            async with asyncio.timeout(ANSWER_S):
                await loop.sock_connect(connection, (host, int(port)))
                await loop.sock_sendall(connection, question)
                return (await loop.sock_recv(connection, 4096))[8:13] == b" 200 "
        except (OSError, TimeoutError):
            return False
