"""What happens to one connection through a wire?

    caller ==> CallerSide --(lane up)--> CalleeSide ==> callee's instance
           <==            <-(lane down)-            <==

On a calm wire a side writes straight into the other's transport (`direct`). Everything else, faults, a
callee not yet connected, a rollout, goes the slow way. When the wire's endpoint is switched, a connection
moves to the new instance with the next request: the callee has answered and the caller speaks again.
That is exact for HTTP/1.1 without pipelining, which is what our callers speak; an HTTP/2 connection is
left where it is (its server says GOAWAY).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from infra.local.lane import End, Item, Lane
from infra.local.shaping import Shape
from infra.local.sides import FULL_LANE, FULL_PEER, NO_PEER, CalleeSide, CallerSide, reset

if TYPE_CHECKING:
    from infra.local.wires import Wire

CONNECT_TIMEOUT_S = 10.0
"""A callee whose backlog is full would otherwise hold a connection for minutes."""

HTTP2_PREFACE = b"PRI * HTTP/2.0"

EARLY_BYTES = 64 * 1024
"""How much a caller may send before its callee is connected."""


class Link:
    """A caller's connection and the connection to the callee that belongs to it."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.caller: CallerSide = CallerSide(self)
        self.callee: CalleeSide | None = None
        self.direct_up = False
        self.direct_down = False
        self.busy = False
        """Whether the caller spoke last: a request is on its way or being worked on."""
        self.endpoint: tuple[str, int] | None = None
        """The instance this connection goes to."""
        self._stale = False
        self._pinned = False
        self._spoken = False
        self._torn = False
        self._closed = False
        self._up_ended = False
        self._down_ended = False
        self._early: list[Item] = []
        self._early_bytes = 0
        self._connecting: asyncio.Task[None] | None = None
        self._up = Lane(wire.loop, self._deliver_up, lambda stop: self.caller.throttle(FULL_LANE, stop))
        self._down = Lane(wire.loop, self._deliver_down, self._throttle_callee)

    # what the wire tells

    def opened(self, caller: CallerSide) -> None:
        effect = self.wire.effect
        self.wire.counters.accepted += 1
        if effect.refuse or effect.reset or self.wire.endpoint is None:
            self.wire.counters.resets += 1
            self._closed = True
            self.caller.link = None
            reset(caller.transport)
            return
        self.wire.links.add(self)
        if not effect.blackhole:
            self._connect()

    def retarget(self) -> None:
        """The wire has another endpoint: move to it with the next request."""
        self._stale = not self._pinned and self.endpoint != self.wire.endpoint
        self.refresh()

    def refresh(self) -> None:
        """The wire's effect, or something here, has changed."""
        calm = self.wire.effect.calm and not self._torn
        ready = self.callee is not None and not self._stale and self._spoken and not self._early
        self.direct_up = calm and ready and self._up.empty
        self.direct_down = calm and self._down.empty

    def calmed(self) -> None:
        """A fault is over: what is held goes on, and a connection that lost bytes cannot be whole again."""
        effect = self.wire.effect
        if self._torn and not effect.blackhole:
            self.abort()
            return
        if not effect.shaped:
            self._up.flush()
            self._down.flush()
        waiting = self.callee is None and self._connecting is None and not self._stale and not self._closed
        if waiting and not effect.blackhole:
            self._connect()
        self.refresh()

    def abort(self) -> None:
        """End both connections by RST."""
        if self._closed:
            return
        self.wire.counters.resets += 1
        self._finish()
        reset(self.caller.transport)
        if self.callee is not None:
            reset(self.callee.transport)

    # what the sides tell

    def arrived_up(self, item: Item) -> None:
        self._arrived(item, self._up, self.wire.effect.up)

    def arrived_down(self, item: Item) -> None:
        if item is End.EOF and self._stale and not self.busy:
            self._park()  # the old instance closes an idle connection: the caller need not know
            return
        self._arrived(item, self._down, self.wire.effect.down)

    def caller_lost(self) -> None:
        self.caller.link = None
        if self.wire.effect.blackhole and self.callee is not None:
            self._torn = True
            return
        if self.callee is None:
            self._finish()
        else:
            self.arrived_up(End.RESET)

    def callee_lost(self) -> None:
        if self.callee is not None:
            self.callee.link = None
        if self._stale and not self.busy:
            self.callee = None
            self.refresh()
            return
        if self._down_ended:
            self._finish()
            self.caller.transport.close()
        else:
            self.arrived_down(End.RESET)

    def connected(self, callee: CalleeSide) -> bool:
        """The callee answers. False if nobody waits for it any more."""
        self._connecting = None
        if self._closed:
            return False
        self.callee = callee
        early, self._early, self._early_bytes = self._early, [], 0
        for item in early:
            self._deliver_up(item)
        self.caller.release(NO_PEER)
        self.refresh()
        return True

    # the slow way

    def _arrived(self, item: Item, lane: Lane, shape: Shape) -> None:
        if self._closed:
            return
        effect, counters = self.wire.effect, self.wire.counters
        if effect.blackhole or self._torn:
            self._torn = True
            counters.bytes_swallowed += len(item) if isinstance(item, bytes) else 0
        elif effect.shaped or not lane.empty:
            counters.pieces_delayed += 1
            counters.held_ms += lane.push(item, shape) * 1000
            self.refresh()
        elif lane is self._up:
            self._deliver_up(item)
        else:
            self._deliver_down(item)

    def _deliver_up(self, item: Item) -> None:
        if isinstance(item, bytes):
            if not self._spoken:
                self._spoken = True
                self._pinned = item.startswith(HTTP2_PREFACE)
            if self._stale and not self.busy:
                self._reroute()
            self.busy = True
        if self.callee is None and item is not End.RESET:
            self._wait_for_callee(item)
        elif isinstance(item, bytes):
            self.wire.counters.bytes_up += len(item)
            self._callee_transport.write(item)
            self.refresh()
        elif item is End.EOF:
            self._up_ended = True
            if self._callee_transport.can_write_eof() and not self._callee_transport.is_closing():
                self._callee_transport.write_eof()
            self._close_if_ended()
        else:
            self._finish()
            if self.callee is not None:
                reset(self.callee.transport)

    def _deliver_down(self, item: Item) -> None:
        transport = self.caller.transport
        if isinstance(item, bytes):
            self.busy = False
            self.wire.counters.bytes_down += len(item)
            transport.write(item)
            self.refresh()
        elif item is End.EOF:
            self._down_ended = True
            if not transport.is_closing():
                transport.write_eof()
            self._close_if_ended()
        else:
            self._finish()
            self.wire.counters.resets += 1
            reset(transport)

    @property
    def _callee_transport(self) -> asyncio.Transport:
        assert self.callee is not None
        return self.callee.transport

    def _wait_for_callee(self, item: Item) -> None:
        if item is End.EOF and not self._early:
            self._finish()  # the caller gives up before it has said a word
            self.caller.transport.close()
            return
        self._early.append(item)
        self._early_bytes += len(item) if isinstance(item, bytes) else 0
        if self._early_bytes > EARLY_BYTES:
            self.caller.hold(NO_PEER)
        if self._connecting is None:
            self._connect()

    def _reroute(self) -> None:
        self._park()
        self._stale = False
        self._connect()

    def _park(self) -> None:
        if self.callee is not None:
            self.callee.let_go()
            self.callee = None
            self.caller.release(FULL_PEER)
        self.refresh()

    def _connect(self) -> None:
        self.endpoint = self.wire.endpoint
        self._stale = False
        self._connecting = self.wire.loop.create_task(self._open())

    async def _open(self) -> None:
        try:
            if self.endpoint is None:
                raise ConnectionRefusedError
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self.wire.loop.create_connection(lambda: CalleeSide(self), *self.endpoint)
        except (OSError, TimeoutError):
            self._connecting = None
            self.wire.counters.unreachable += 1
            self.abort()

    def _throttle_callee(self, stop: bool) -> None:
        if self.callee is not None:
            self.callee.throttle(FULL_LANE, stop)

    def _close_if_ended(self) -> None:
        if self._up_ended and self._down_ended:
            self._finish()
            self.caller.transport.close()
            self._callee_transport.close()

    def _finish(self) -> None:
        self._closed = True
        self.direct_up = self.direct_down = False
        self.wire.counters.bytes_swallowed += self._up.drop() + self._down.drop()
        self.caller.link = None
        if self.callee is not None:
            self.callee.link = None
        self.wire.links.discard(self)
