"""In which order do messages go to one destination? Each subject's one after the other, subjects side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from workloads.broker.outage import Outage
from workloads.broker.ports import BATCH_MAX, Broker, BrokerUnavailable
from workloads.broker.post import Post
from workloads.ports import Outgoing

log = structlog.get_logger()

CALLS_MAX = 4
"""Batches under way at once: a broker that answers in 2 s then still takes 20 messages/s."""


class Line:
    """What waits for one destination."""

    def __init__(
        self,
        destination: str,
        broker: Broker,
        post: Post,
        outage: Outage,
        done: Callable[[list[Outgoing], int], None],
    ) -> None:
        """`done` is told which messages of a batch the broker has acknowledged, and how many failed."""
        self._destination = destination
        self._broker = broker
        self._post = post
        self._outage = outage
        self._done = done
        self._waiting: dict[str, Outgoing] = {}
        self._busy: set[str] = set()
        self._calls: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._scheduled = False
        self._stopped = False

    def add(self, outgoing: Outgoing) -> None:
        """Send a message as soon as its turn comes; one that is waiting already is not added twice."""
        self._waiting.setdefault(outgoing.id, outgoing)
        self._soon()

    async def stop(self) -> None:
        """Begin nothing more and wait for the calls under way."""
        self._stopped = True
        await asyncio.gather(*self._calls, return_exceptions=True)

    def drop(self) -> None:
        """Give up the calls under way."""
        self._stopped = True
        if self._pause is not None:
            self._pause.cancel()
        for call in self._calls:
            call.cancel()

    def _soon(self) -> None:
        """Send once what is being added now is added."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._send_what_may)

    def _send_what_may(self) -> None:
        self._scheduled = False
        calls_max = 1 if self._outage.on else CALLS_MAX  # one tries; the others follow once it has succeeded
        while not self._stopped and self._pause is None and len(self._calls) < calls_max:
            batch = self._next()
            if not batch:
                return
            self._busy.update(outgoing.subject for outgoing in batch)
            call = asyncio.ensure_future(self._send(batch))
            self._calls.add(call)
            call.add_done_callback(self._ended)

    def _ended(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        if not self._stopped:
            self._soon()

    def _next(self) -> list[Outgoing]:
        """The first messages of subjects that have none under way."""
        batch: list[Outgoing] = []
        passed = set(self._busy)
        for outgoing in self._waiting.values():
            if outgoing.subject not in passed:
                passed.add(outgoing.subject)
                batch.append(outgoing)
                if len(batch) == BATCH_MAX:
                    break
        return batch

    async def _send(self, batch: Sequence[Outgoing]) -> None:
        why: object = "refused"
        failed = {outgoing.id for outgoing in batch}
        try:
            parcels = [self._post.parcel(outgoing) for outgoing in batch]
            failed = await self._broker.send(self._destination, parcels)
        except BrokerUnavailable as error:
            why = error
        except Exception as error:
            # the border of a worker loop: a defect in one message must not end its line
            if not self._outage.on:
                log.exception("send-crashed", destination=self._destination)
            why = error
        finally:
            self._busy.difference_update(outgoing.subject for outgoing in batch)
        sent = [outgoing for outgoing in batch if outgoing.id not in failed]
        for outgoing in sent:
            del self._waiting[outgoing.id]
        if failed:
            self._rest(self._outage.failed(why))
        else:
            self._outage.over()
        self._done(sent, len(failed))

    def _rest(self, seconds: float) -> None:
        if self._pause is None:
            self._pause = asyncio.get_running_loop().call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        self._soon()
