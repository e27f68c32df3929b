"""Which adapters stand behind the ports of a running service? Settings -> a wired service."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog
from fastapi import FastAPI

from workloads import domain
from workloads.adapters.fan_out import FanOutPublisher
from workloads.adapters.rest import RestCaller
from workloads.adapters.sql import SqlRepository
from workloads.api import accounts, leaves, orders, probes, storefront
from workloads.handlers.compensator import Compensator, Effects
from workloads.handlers.inbox import TransactionalInbox
from workloads.handlers.leaves import HANDLERS
from workloads.handlers.registration import Registration
from workloads.handlers.saga import OrderSaga
from workloads.problems import ProblemError
from workloads.resilience import Breaker, Guard, monotonic_ns
from workloads.settings import Peer, Settings
from workloads.telemetry import Telemetry
from workloads.web import Shell, new_app

log = structlog.get_logger()

CHAIN_DEADLINE_S = 1.8
"""What orders and accounts allow a chain of calls when the caller does not say how long it waits."""
OPEN_AGAIN_S = 0.2
"""Pause between attempts to open the database at start."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What finishes the work that requests had to give up."""

    compensator: Compensator
    work: OrderSaga | Registration

    def start(self) -> None:
        """Begin in the running loop."""
        self.compensator.start(self.work.undo, self.work.unfinished)


@dataclass(slots=True)
class Service:
    """One wired service: what the server runs, and what lives beside it."""

    shell: Shell
    telemetry: Telemetry
    caller: RestCaller
    repository: SqlRepository | None
    recovery: Recovery | None
    state: probes.State
    seed: Sequence[domain.Record] = ()
    opening: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin in the running loop: liveness at once, readiness as soon as the database can be used."""
        self.caller.open()
        self.opening = asyncio.ensure_future(self._open())

    async def stop(self) -> None:
        """End what lives beside the server, and write what is still buffered."""
        if self.opening is not None:
            self.opening.cancel()
        if self.recovery is not None:
            await self.recovery.compensator.stop()
        await self.caller.close()
        if self.repository is not None:
            await self.repository.close()
        self.telemetry.close()

    async def _open(self) -> None:
        while self.repository is not None:
            try:
                await self.repository.open(self.seed)
                break
            except ProblemError as error:
                log.warning("database-not-ready", error=str(error))
                await asyncio.sleep(OPEN_AGAIN_S)
        if self.recovery is not None:
            self.recovery.start()
        self.state.opened = True


def build(settings: Settings) -> Service:
    """Wire one service inside the running loop; nothing is connected before its `start`.

    Raise TelemetryError or OSError if the traces cannot be written.
    """
    telemetry = Telemetry(settings)
    caller = _caller(settings, telemetry)
    repository = SqlRepository(settings.database_url) if settings.database_url else None
    app = new_app(settings.service)
    recovery = None if repository is None else _mount(app, settings, caller, repository)
    if repository is None:
        storefront.mount(app, caller, fallback="fallback" not in settings.disabled)
    shell = Shell(
        app,
        telemetry,
        max_in_flight=settings.max_in_flight,
        deadlines="timeout" not in settings.disabled,
        default_deadline_s=CHAIN_DEADLINE_S if recovery else None,
    )
    state = probes.State(draining=lambda: shell.draining)
    if recovery is not None:
        telemetry.backlog.set_function(lambda: recovery.compensator.backlog)
    probes.mount(app, settings.service, telemetry, repository, state)
    seed = domain.stock() if settings.service == "inventory" else ()
    return Service(shell, telemetry, caller, repository, recovery, state, seed)


def _mount(app: FastAPI, settings: Settings, caller: RestCaller, repository: SqlRepository) -> Recovery | None:
    """Add a service's own resources; return its recovery if it is one that calls others."""
    if settings.service not in {"orders", "accounts"}:
        inbox = TransactionalInbox(repository, HANDLERS[settings.service], monotonic_ns, settings.disabled)
        leaves.MOUNTS[settings.service](app, inbox)
        return None
    compensator = Compensator(random.Random())
    publisher = FanOutPublisher(caller.send)
    effects = Effects(clock_ns=monotonic_ns, hand_over=compensator.add, disabled=settings.disabled)
    if settings.service == "orders":
        saga = OrderSaga(repository, caller, publisher, effects)
        orders.mount(app, saga)
        return Recovery(compensator, saga)
    registration = Registration(repository, publisher, effects)
    accounts.mount(app, registration)
    return Recovery(compensator, registration)


def _caller(settings: Settings, telemetry: Telemetry) -> RestCaller:
    peers = {name: _weakened(peer, settings.disabled) for name, peer in settings.peers.items()}
    rng = random.Random()
    guards = {name: Guard(name, peer, _breaker(name, peer, telemetry), rng=rng) for name, peer in peers.items()}
    return RestCaller(peers, guards, telemetry, deadlines="timeout" not in settings.disabled)


def _breaker(callee: str, peer: Peer, telemetry: Telemetry) -> Breaker | None:
    if not peer.breaker:
        return None
    telemetry.breaker_exists(callee)
    return Breaker(callee, telemetry.breaker)


def _weakened(peer: Peer, disabled: frozenset[str]) -> Peer:
    """A peer without the guarantees that are left out on purpose."""
    return replace(
        peer,
        timeout_ms=None if "timeout" in disabled else peer.timeout_ms,
        breaker=peer.breaker and "breaker" not in disabled,
    )
