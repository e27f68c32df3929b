"""How are handled messages deleted with few calls? Collected for a moment, then in one batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from workloads.broker.outage import Outage
from workloads.broker.ports import BATCH_MAX, Broker, BrokerUnavailable, Delivery

LINGER_S = 0.15
"""Far below any visibility timeout; at ten messages a second it halves the calls."""
ATTEMPTS = 4
"""Then the message may come again: the consumer knows it, and the next try is of that delivery."""


class Deletions:
    """Deletes what it is given, soon."""

    def __init__(self, broker: Broker, outage: Outage, ended: Callable[[Delivery], None]) -> None:
        """`ended` is told each delivery that is deleted or given up."""
        self._broker = broker
        self._outage = outage
        self._ended = ended
        self._waiting: list[Delivery] = []
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, deliveries: Iterable[Delivery]) -> None:
        """Have deliveries deleted within LINGER_S."""
        self._waiting += deliveries
        while len(self._waiting) >= BATCH_MAX:
            self._flush()
        if self._waiting and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LINGER_S, self._flush)

    async def drain(self) -> None:
        """Delete what is waiting, now; return when no deletion is under way."""
        while self._waiting or self._tasks:
            if self._waiting:
                self._flush()
            await asyncio.gather(*self._tasks)

    def drop(self) -> None:
        """Give up what is under way."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._waiting = self._waiting[:BATCH_MAX], self._waiting[BATCH_MAX:]
        if batch:
            task = asyncio.ensure_future(self._delete(batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _delete(self, batch: list[Delivery]) -> None:
        left = batch
        for attempt in range(1, ATTEMPTS + 1):
            try:
                still = await self._broker.delete(left)
            except BrokerUnavailable as error:
                why: object = error
            else:
                self._end([each for each in left if each not in still])
                left = still
                if not left:
                    self._outage.over()
                    return
                why = f"{len(left)} were not deleted"
            backoff_s = self._outage.failed(why)
            if attempt < ATTEMPTS:
                await asyncio.sleep(backoff_s)
        self._end(left)

    def _end(self, deliveries: Iterable[Delivery]) -> None:
        for each in deliveries:
            self._ended(each)
