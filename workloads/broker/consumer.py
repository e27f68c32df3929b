"""How does a service work off its queue? Receive, handle in order, answer, then delete: a crash loses nothing.

    receive --> handle each, in order --> send the replies --> delete
                 |  |  `- fails: hidden for a while, redelivered; after max_receives it is dead
                 |  `---- cannot be read, ever: dead at once, with the reason; the others go on
                 `------- this service cannot work now (database away): held, extended, tried again, nothing received

The effect is committed before the reply is sent and the reply sent before the message is deleted, so each may
happen again after a crash, and none is skipped. While one batch is answered and deleted the next is received.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import structlog

from workloads.broker.attempt import Attempts, Dead, Handle, Handled, Held
from workloads.broker.deletions import Deletions
from workloads.broker.envelope import Envelope
from workloads.broker.hands import Hands
from workloads.broker.kept import kept
from workloads.broker.outage import Outage
from workloads.broker.outbound import Outbound
from workloads.broker.ports import BATCH_MAX, Broker, BrokerUnavailable, Delivery, Parcel
from workloads.broker.post import Post
from workloads.settings import Redelivery
from workloads.telemetry import Telemetry

log = structlog.get_logger()

RECEIVERS_MAX = 4
"""Receives at once while the queue is deep: what a broker that answers in 2 s needs for 20 messages/s."""
IN_HAND_MAX = 60
"""Messages received and not yet deleted; beyond it nothing is received."""
POSTPONED_S = (1, 2, 4, 5)
"""How long a message that failed stays hidden, by the number of its delivery; the last for all further ones."""
STOP_WITHIN_S = 1.0
"""How long each part of stopping may take: the receive under way, the message in hand, replies and deletes."""


class Consumer:
    """One service's reader of its queue."""

    def __init__(
        self,
        broker: Broker,
        inbound: Redelivery,
        handle: Handle,
        *,
        read: Callable[[str], Envelope],
        post: Post,
        telemetry: Telemetry,
        rng: random.Random,
        disabled: frozenset[str] = frozenset(),
        rest_s: float = 0.0,
    ) -> None:
        """`read(body)` is `unseal` for this service; `rng` spreads the backoff. `rest_s` is how long to wait
        after a batch that was not full, so that what comes meanwhile shares a call. Nothing happens before `start`.
        """
        self._broker = broker
        self._inbound = inbound
        self._attempts = Attempts(handle, read, post, telemetry, inbound)
        self._rng = rng
        self._outbound = Outbound(broker, telemetry, Outage("reply", rng))
        self._telemetry = telemetry
        self._buries = "dead-letters" not in disabled
        self._extends = "visibility" not in disabled
        self._rest_s = rest_s
        self._receiving = Outage("receive", rng)
        self._handling = Outage("handle", rng)
        self._hands = Hands(broker, inbound.visibility_timeout_s)
        self._deletions = Deletions(broker, Outage("delete", rng), self._end)
        self._batches: asyncio.Queue[list[Delivery]] = asyncio.Queue()
        self._stopping = asyncio.Event()
        self._may_receive = asyncio.Event()
        self._may_receive.set()
        self._holding = False
        self._receivers: set[asyncio.Task[None]] = set()
        self._asking = 0
        self._others: set[asyncio.Task[None]] = set()
        self._worker: asyncio.Task[None] | None = None
        self._heart: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin in the running loop; end it with `stop`."""
        self._worker = asyncio.ensure_future(kept(self._work, Outage("work", self._rng)))
        if self._extends:
            self._heart = asyncio.ensure_future(kept(self._hands.beat, Outage("extend", self._rng)))
        self._add_receiver()

    async def stop(self) -> None:
        """Finish what is in hand and hand back what is not begun, within a few STOP_WITHIN_S; drop the rest."""
        self._stopping.set()
        self._may_receive.set()
        await _within(self._receivers)  # cut off, a broker may yet give a message to a receive nobody waits for
        if self._worker is not None:
            self._batches.put_nowait([])
            await _within({self._worker})
        await _within(self._others)
        await _within({asyncio.ensure_future(self._deletions.drain())})
        self._deletions.drop()
        if self._heart is not None:
            await _within({self._heart}, 0.0)

    # --- receiving ------------------------------------------------------------------------------

    def _add_receiver(self) -> None:
        self._asking += 1
        _spawn(self._receivers, kept(self._receive, Outage("receive-loop", self._rng)))

    async def _receive(self) -> None:
        """Receive one batch after the other; a full one calls for another receiver, any other ends all but one."""
        while not self._stopping.is_set():
            await self._may_receive.wait()
            try:
                deliveries = await self._broker.receive()
            except BrokerUnavailable as error:
                await self._pause(self._receiving.failed(error))
                continue
            self._receiving.over()
            if deliveries:
                self._take(deliveries)
            if len(deliveries) < BATCH_MAX:
                if self._asking > 1:
                    self._asking -= 1
                    return
                if deliveries:
                    await self._pause(self._rest_s)
            elif self._asking < RECEIVERS_MAX and not self._stopping.is_set():
                self._add_receiver()

    def _take(self, deliveries: list[Delivery]) -> None:
        self._hands.take(deliveries)
        self._telemetry.messages("received", len(deliveries))
        self._telemetry.messages("redelivered", sum(each.receives > 1 for each in deliveries))
        self._batches.put_nowait(deliveries)
        self._gate()

    def _gate(self) -> None:
        if self._stopping.is_set() or not (self._holding or len(self._hands) >= IN_HAND_MAX):
            self._may_receive.set()
        else:
            self._may_receive.clear()

    def _end(self, delivery: Delivery) -> None:
        self._hands.release(delivery)
        self._gate()

    # --- handling -------------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            batch = await self._batches.get()
            if not batch:
                return
            try:
                await self._work_off(batch)
            except Exception:
                # the border of a worker loop: a defect must not end it; the messages come again
                log.exception("batch-crashed", messages=len(batch))

    async def _work_off(self, batch: Sequence[Delivery]) -> None:
        handled: list[tuple[Delivery, Handled]] = []
        postponed: dict[int, list[Delivery]] = {}
        blocked: dict[str, int] = {}
        for delivery in batch:
            if delivery.group in blocked:
                hidden_s = blocked[delivery.group]
            elif self._stopping.is_set() and delivery.receives < self._inbound.max_receives:
                hidden_s = 0
            elif outcome := await self._finish_one(delivery):
                if isinstance(outcome, Dead):
                    _spawn(self._others, self._bury(delivery, outcome))
                else:
                    handled.append((delivery, outcome))
                continue
            else:
                later_s = POSTPONED_S[min(delivery.receives, len(POSTPONED_S)) - 1]
                hidden_s = 0 if self._stopping.is_set() else later_s
            if delivery.group:  # what follows in a FIFO queue must not overtake it
                blocked[delivery.group] = hidden_s
            postponed.setdefault(hidden_s, []).append(delivery)
        if handled:
            _spawn(self._others, self._conclude(handled))
        for hidden_s, deliveries in postponed.items():
            _spawn(self._others, self._let_go(deliveries, hidden_s))

    async def _finish_one(self, delivery: Delivery) -> Handled | Dead | None:
        """Work on a message until something comes of it; None: later, in another delivery."""
        first = True
        try:
            while True:
                try:
                    outcome = await self._attempts.one(delivery, first=first)
                    if self._buries or isinstance(outcome, Handled):
                        self._handling.over()
                        return outcome
                    why = outcome.detail if outcome else "failed"
                except Held as held:
                    why = str(held)
                if self._stopping.is_set():
                    return None
                first = False
                self._hold()
                await self._pause(self._handling.failed(why))
        finally:
            self._holding = False
            self._gate()

    def _hold(self) -> None:
        if not self._holding:
            self._holding = True
            self._telemetry.messages("held")
            self._gate()

    # --- afterwards -----------------------------------------------------------------------------

    async def _conclude(self, handled: Sequence[tuple[Delivery, Handled]]) -> None:
        """Send the replies, then have the messages deleted; not replied, they are not deleted and come again."""
        replies: dict[str, list[Parcel]] = {}
        for _, outcome in handled:
            if outcome.reply is not None:
                replies.setdefault(outcome.to, []).append(outcome.reply)
        for to, parcels in replies.items():
            await self._outbound.send(to, parcels)
        self._telemetry.messages("handled", len(handled))
        self._deletions.add(delivery for delivery, _ in handled)

    async def _bury(self, delivery: Delivery, dead: Dead) -> None:
        await self._outbound.bury(delivery, dead.reason, dead.detail)
        self._end(delivery)

    async def _let_go(self, deliveries: Sequence[Delivery], seconds: int) -> None:
        for delivery in deliveries:
            self._hands.release(delivery)
        with suppress(BrokerUnavailable):  # then the visibility timeout does it
            await self._broker.extend(deliveries, seconds)
        self._gate()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()


def _spawn(tasks: set[asyncio.Task[None]], job: Awaitable[None]) -> None:
    task = asyncio.ensure_future(job)
    tasks.add(task)
    task.add_done_callback(tasks.discard)


async def _within(tasks: set[asyncio.Task[None]], seconds: float = STOP_WITHIN_S) -> None:
    """Wait for tasks, then cut short what is left."""
    waited = set(tasks)
    if not waited:
        return
    _, left = await asyncio.wait(waited, timeout=seconds)
    for task in left:
        task.cancel()
    await asyncio.gather(*waited, return_exceptions=True)
