"""How does a background loop outlive a defect? It is begun again after a pause, and the log says why it had ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from workloads.broker.outage import Outage

log = structlog.get_logger()


async def kept(loop: Callable[[], Awaitable[None]], outage: Outage) -> None:
    """Run `loop` until it returns or this task is cancelled; begin it anew whatever else ends it.

    A service whose loop has ended would go on accepting work that nobody does any more. That includes a
    cancellation that nobody asked for: libraries cancel what they time, and a cancellation can slip through.
    """
    while True:
        try:
            return await loop()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            log.error("loop-cancelled", loop=outage.what)
            why: object = "cancelled by nobody"
        except Exception as error:
            log.exception("loop-crashed", loop=outage.what)
            why = error
        await asyncio.sleep(outage.failed(why))
