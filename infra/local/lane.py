"""Where do the bytes of one direction of one connection rest while a fault delays them?

    source.data_received -> push -> [ (due, item), ... ] -> deliver -> other end

Order is kept: due times never decrease. The source is told to stop reading while too much rests here.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from enum import Enum

from infra.local.shaping import Shape

FULL_BYTES = 256 * 1024
"""A source is stopped above this, and goes on below half of it: what a TCP connection's buffers would hold."""

EARLY_S = 0.0005
"""uvloop's timers have milliseconds: what is due within this is due."""


class End(Enum):
    """How a direction ends; travels behind the bytes before it."""

    EOF = "eof"
    RESET = "reset"


Item = bytes | End


class Lane:
    """One direction of one connection."""

    __slots__ = ("_deliver", "_full", "_held", "_last_due", "_loop", "_rest", "_throttle", "_timer")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, deliver: Callable[[Item], None], throttle: Callable[[bool], None]
    ) -> None:
        self._loop = loop
        self._deliver = deliver
        self._throttle = throttle
        self._rest: deque[tuple[float, Item]] = deque()
        self._held = 0
        self._full = False
        self._last_due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def empty(self) -> bool:
        return not self._rest

    def push(self, item: Item, shape: Shape) -> float:
        """Take an item that arrived now; return how long it will rest, seconds."""
        now = time.monotonic()
        wait = 0.0
        for piece in shape.pieces(item) if isinstance(item, bytes) else (item,):
            size = len(piece) if isinstance(piece, bytes) else 0
            self._last_due = max(self._last_due, shape.due(size, now))
            self._rest.append((self._last_due, piece))
            self._held += size
            wait = self._last_due - now
        self._set_full(self._held > FULL_BYTES)
        self._arm(now)
        return wait

    def flush(self) -> None:
        """Deliver everything at once, in order: the fault is over."""
        self._release(float("inf"))

    def drop(self) -> int:
        """Forget everything: the connection is gone. Returns how many bytes are lost with it."""
        lost, self._held = self._held, 0
        self._rest.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return lost

    def _arm(self, now: float) -> None:
        if self._rest and self._timer is None:
            self._timer = self._loop.call_later(max(0.0, self._rest[0][0] - now), self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._release(time.monotonic() + EARLY_S)
        self._arm(time.monotonic())

    def _release(self, until: float) -> None:
        while self._rest and self._rest[0][0] <= until:
            _, item = self._rest.popleft()
            self._held -= len(item) if isinstance(item, bytes) else 0
            self._deliver(item)
        if not self._rest:
            self._last_due = 0.0
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        self._set_full(self._held > FULL_BYTES // 2 if self._full else False)

    def _set_full(self, full: bool) -> None:
        if full != self._full:
            self._full = full
            self._throttle(full)
