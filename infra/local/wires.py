"""What is a wire: the stable address of one caller -> callee edge, and what it does under faults?

A wire's port stays bound as long as the wire exists. It listens only while its callee has an instance
and no fault refuses connections: a bound socket that does not listen refuses, and keeps the port.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from infra.local.faultspec import Fault
from infra.local.link import Link
from infra.local.shaping import Effect, combine

BACKLOG = 1024


@dataclass(slots=True)
class Counters:
    """What has passed a wire since it was opened; the evidence that a fault bites."""

    accepted: int = 0
    """Connections from callers."""
    unreachable: int = 0
    """Connections that the callee's instance did not take; the caller's was reset."""
    resets: int = 0
    """Connections ended by RST, for whatever reason."""
    bytes_up: int = 0
    """Handed to the callee."""
    bytes_down: int = 0
    """Handed to the caller."""
    bytes_swallowed: int = 0
    """Lost in a black hole, or with a connection that was reset while it held them; both directions."""
    pieces_delayed: int = 0
    """Reads that had to rest because of latency or bandwidth."""
    held_ms: float = 0.0
    """How long they rest, all together."""

    def since(self, before: Counters) -> dict[str, float]:
        """What happened after a copy was taken."""
        return {f.name: round(getattr(self, f.name) - getattr(before, f.name), 3) for f in fields(self)}

    def copy(self) -> Counters:
        return Counters(**asdict(self))


class Wire:
    """One wire. Its methods are called by the wire host, one after the other."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port
        self.loop = asyncio.get_running_loop()
        self.counters = Counters()
        self.links: set[Link] = set()
        self.effect = Effect()
        self.endpoint: tuple[str, int] | None = None
        self._server: asyncio.AbstractServer | None = None
        self._bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._bound.setblocking(False)
        try:
            self._bound.bind(("127.0.0.1", port))
        except OSError:
            self._bound.close()
            raise

    @property
    def listening(self) -> bool:
        return self._server is not None

    async def point(self, endpoint: tuple[str, int] | None) -> None:
        """Send new requests to another instance, or refuse them while there is none."""
        self.endpoint = endpoint
        await self._listen_or_not()
        for link in list(self.links):
            if endpoint is not None:
                link.retarget()

    async def put_on(self, faults: Sequence[Fault]) -> None:
        """Be under exactly these faults from now on; live connections feel it at once."""
        self.effect = combine(faults)
        await self._listen_or_not()
        for link in list(self.links):
            if self.effect.refuse or self.effect.reset:
                link.abort()
            else:
                link.calmed()

    def busy(self, endpoint: tuple[str, int]) -> int:
        """How many requests are on their way to, or being worked on by, an instance."""
        return sum(link.busy and link.endpoint == endpoint for link in self.links)

    async def close(self) -> None:
        """Give the port back and reset what is open."""
        self._stop_listening()
        self._bound.close()
        for link in list(self.links):
            link.abort()

    async def _listen_or_not(self) -> None:
        wanted = self.endpoint is not None and not self.effect.refuse
        if wanted and self._server is None:
            self._server = await self.loop.create_server(
                lambda: Link(self).caller, sock=self._bound.dup(), backlog=BACKLOG
            )
        elif not wanted:
            self._stop_listening()

    def _stop_listening(self) -> None:
        if self._server is None:
            return
        self._server.close()
        self._server = None
        # the description is shared with the server's duplicate: Linux stops listening and keeps the port
        self._bound.shutdown(socket.SHUT_RD)
