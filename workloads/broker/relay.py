"""How do committed messages get from the outbox to the broker? In order per subject, at least once.

    outbox --read--> lines, one per destination --batches--> broker --acknowledged--> forgotten in the outbox

Nothing is forgotten before the broker has acknowledged it, so a relay that is killed sends some again and skips
none. Within a line a message waits while an earlier one of its subject is unacknowledged; messages of other
subjects overtake it. Two relays on one outbox (a rollover) send some twice and are harmless otherwise.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import structlog

from workloads.broker.kept import kept
from workloads.broker.line import Line
from workloads.broker.outage import Outage
from workloads.broker.ports import Broker
from workloads.broker.post import NoAddress, Post
from workloads.ports import Outgoing, Repository
from workloads.problems import ProblemError
from workloads.telemetry import Telemetry

log = structlog.get_logger()

LINGER_S = 0.005
"""How long a message waits for others to share its call."""
POLL_S = 0.5
"""How often the outbox is read although nothing was said to be new: what another instance left."""
READ_MAX = 200
AHEAD_MAX = 1000
"""Messages read and not yet forgotten; beyond it the outbox is not read on."""
FORGET_AFTER_S = 0.03
"""How long acknowledged messages are collected before they are forgotten in one transaction."""
STOP_WITHIN_S = 1.0


class Relay:
    """Publishes one service's outbox."""

    def __init__(
        self,
        repository: Repository,
        broker: Broker,
        *,
        post: Post,
        telemetry: Telemetry,
        rng: random.Random,
        linger_s: float = LINGER_S,
        poll_s: float = POLL_S,
    ) -> None:
        """Nothing happens before `start`, which takes over the repository's `on_enqueued`."""
        self._repository = repository
        self._broker = broker
        self._post = post
        self._telemetry = telemetry
        self._rng = rng
        self._linger_s = linger_s
        self._poll_s = poll_s
        self._lines: dict[str, Line] = {}
        self._known: set[int] = set()
        self._last = 0
        self._sent: list[int] = []
        self._wake = asyncio.Event()
        self._acknowledged = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._database = Outage("outbox", rng)

    def start(self) -> None:
        """Begin in the running loop; end it with `stop`."""
        self._repository.on_enqueued = self._wake.set
        self._wake.set()
        loops = {"outbox-read": self._read_on, "outbox-forget": self._forget}
        self._tasks = [asyncio.ensure_future(kept(loop, Outage(name, self._rng))) for name, loop in loops.items()]

    async def stop(self) -> None:
        """Wait a moment for what is under way and have it forgotten; the rest stays in the outbox."""
        self._repository.on_enqueued = lambda: None
        for task in self._tasks[:1]:
            task.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_WITHIN_S):
                for line in self._lines.values():
                    await line.stop()
                if self._sent:
                    await self._forget_now()
        for line in self._lines.values():
            line.drop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _read_on(self) -> None:
        from_start = True
        while True:
            self._wake.clear()
            try:
                more = await self._read(0 if from_start else self._last)
                self._database.over()
            except ProblemError as error:
                await asyncio.sleep(self._database.failed(error))
                continue
            if more:
                from_start = False
                continue
            from_start = not await self._woken()

    async def _woken(self) -> bool:
        """Wait for news; whether there was any before it was time to look anyway."""
        try:
            async with asyncio.timeout(self._poll_s):
                await self._wake.wait()
        except TimeoutError:
            return False
        await asyncio.sleep(self._linger_s)
        return True

    async def _read(self, after: int) -> bool:
        """Take new messages from the outbox; whether there may be more."""
        if len(self._known) >= AHEAD_MAX:
            return False
        found = await self._repository.waiting(READ_MAX, after)
        fresh = [outgoing for outgoing in found if outgoing.seq not in self._known]
        for outgoing in fresh:
            self._known.add(outgoing.seq)
            self._last = max(self._last, outgoing.seq)
            self._add(outgoing)
        return len(found) == READ_MAX and bool(fresh)

    def _add(self, outgoing: Outgoing) -> None:
        try:
            destination = self._post.address(type(outgoing.message))
        except NoAddress as error:
            log.error("message-without-address", id=outgoing.id, error=str(error))
            return
        line = self._lines.get(destination)
        if line is None:
            line = self._lines[destination] = Line(
                destination, self._broker, self._post, Outage(f"send to {destination}", self._rng), self._done
            )
        line.add(outgoing)

    def _done(self, sent: list[Outgoing], failed: int) -> None:
        self._telemetry.messages("published", len(sent))
        if failed:
            self._telemetry.messages("publish-failed", failed)
        self._sent += [outgoing.seq for outgoing in sent]
        if self._sent:
            self._acknowledged.set()

    async def _forget(self) -> None:
        outage = Outage("outbox-forget", self._rng)
        while True:
            await self._acknowledged.wait()
            await asyncio.sleep(FORGET_AFTER_S)
            try:
                await self._forget_now()
                outage.over()
            except ProblemError as error:
                await asyncio.sleep(outage.failed(error))

    async def _forget_now(self) -> None:
        """Forget what was acknowledged. Raise ProblemError: it is still to be forgotten."""
        self._acknowledged.clear()
        seqs = list(self._sent)
        try:
            await self._repository.published(seqs)
        except ProblemError:
            self._acknowledged.set()
            raise
        del self._sent[: len(seqs)]
        was_full = len(self._known) >= AHEAD_MAX
        self._known.difference_update(seqs)
        if was_full:
            self._wake.set()
