"""What are the two ends of a connection through a wire, and how is one ended?

A side knows its transport and why it is not read from; what to do with what arrives is the link's.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, cast

from infra.local.lane import End

if TYPE_CHECKING:
    from infra.local.link import Link

FULL_PEER, FULL_LANE, NO_PEER = 1, 2, 4
"""Reasons not to read from a side, one bit each."""


def reset(transport: asyncio.BaseTransport | None) -> None:
    """End a connection with RST instead of FIN, whatever is still to be written."""
    if transport is None:
        return
    try:
        peer = transport.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except (OSError, AttributeError):
        pass  # it is closed already
    cast(asyncio.WriteTransport, transport).abort()


class Side(asyncio.Protocol):
    """One end of a link. `link` is None once the link has let go of it."""

    __slots__ = ("_stopped", "link", "transport")

    def __init__(self, link: Link) -> None:
        self.link: Link | None = link
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set before any other call
        self._stopped = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def hold(self, reason: int) -> None:
        """Stop reading until every reason is gone."""
        if not self._stopped and not self.transport.is_closing():
            self.transport.pause_reading()
        self._stopped |= reason

    def release(self, reason: int) -> None:
        was, self._stopped = self._stopped, self._stopped & ~reason
        if was and not self._stopped and not self.transport.is_closing():
            self.transport.resume_reading()

    def throttle(self, reason: int, stop: bool) -> None:
        (self.hold if stop else self.release)(reason)

    def let_go(self) -> None:
        """Close politely; nothing that still happens here concerns the link."""
        self.link = None
        self.transport.close()


class CallerSide(Side):
    """The end that the caller opened."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.link is not None:
            self.link.opened(self)

    def data_received(self, data: bytes) -> None:
        link = self.link
        if link is None:
            return
        if link.direct_up:
            link.busy = True
            link.wire.counters.bytes_up += len(data)
            link.callee.transport.write(data)  # type: ignore[union-attr]  # direct_up says that there is one
        else:
            link.arrived_up(data)

    def eof_received(self) -> bool:
        if self.link is not None:
            self.link.arrived_up(End.EOF)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if self.link is not None:
            self.link.caller_lost()

    def pause_writing(self) -> None:
        if self.link is not None and self.link.callee is not None:
            self.link.callee.hold(FULL_PEER)

    def resume_writing(self) -> None:
        if self.link is not None and self.link.callee is not None:
            self.link.callee.release(FULL_PEER)


class CalleeSide(Side):
    """The end that goes to the callee's instance."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.link is None or not self.link.connected(self):
            reset(transport)

    def data_received(self, data: bytes) -> None:
        link = self.link
        if link is None:
            return
        if link.direct_down:
            link.busy = False
            link.wire.counters.bytes_down += len(data)
            link.caller.transport.write(data)
        else:
            link.arrived_down(data)

    def eof_received(self) -> bool:
        if self.link is not None:
            self.link.arrived_down(End.EOF)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if self.link is not None:
            self.link.callee_lost()

    def pause_writing(self) -> None:
        if self.link is not None:
            self.link.caller.hold(FULL_PEER)

    def resume_writing(self) -> None:
        if self.link is not None:
            self.link.caller.release(FULL_PEER)
