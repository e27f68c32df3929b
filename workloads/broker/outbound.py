"""How do replies and dead letters get out although the broker may be away? They are sent until they are taken.

Meanwhile the messages they belong to stay in hand; a process that dies first leaves them to be redelivered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from workloads.broker.outage import Outage
from workloads.broker.ports import Broker, BrokerUnavailable, Delivery, Parcel
from workloads.telemetry import Telemetry

log = structlog.get_logger()


class Outbound:
    """What a consumer sends."""

    def __init__(self, broker: Broker, telemetry: Telemetry, outage: Outage) -> None:
        self._broker = broker
        self._telemetry = telemetry
        self._outage = outage

    async def send(self, to: str, parcels: Sequence[Parcel]) -> None:
        """Return once the broker has every parcel, each at least once."""
        left = list(parcels)
        while left:
            why: object = f"{len(left)} were refused"
            try:
                failed = await self._broker.send(to, left)
                left = [parcel for parcel in left if parcel.id in failed]
            except BrokerUnavailable as error:
                why = error
            if left:
                self._telemetry.messages("reply-failed", len(left))
                await asyncio.sleep(self._outage.failed(why))
        self._outage.over()

    async def bury(self, delivery: Delivery, reason: str, detail: str) -> None:
        """Return once the message is among the dead letters and no longer in its queue."""
        log.warning("message-dead", id=delivery.id, reason=reason, detail=detail, receives=delivery.receives)
        self._telemetry.messages("buried")
        while True:
            try:
                return await self._broker.bury(delivery, reason, detail)
            except BrokerUnavailable as error:
                await asyncio.sleep(self._outage.failed(error))
