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
from workloads.adapters.sql_outbox import VolatileOutbox
from workloads.api import accounts, leaves, orders, probes, storefront
from workloads.broker.envelope import TYPES
from workloads.defect import Defect
from workloads.handlers.asking import Asking
from workloads.handlers.compensator import Compensator, Effects
from workloads.handlers.deliveries import answering
from workloads.handlers.inbox import TransactionalInbox
from workloads.handlers.leaves import HANDLERS
from workloads.handlers.orchestrator import AsyncOrders, AsyncRegistration
from workloads.handlers.registration import Registration
from workloads.handlers.saga import OrderSaga
from workloads.messages import StepDone, StepRefused
from workloads.messenger import Messenger
from workloads.problems import ProblemError
from workloads.resilience import Breaker, Guard, monotonic_ns
from workloads.settings import Broker, Kafka, Peer, Settings
from workloads.telemetry import Telemetry
from workloads.web import Shell, new_app

log = structlog.get_logger()

CHAINS = frozenset({"orders", "accounts"})
"""Services that make others act."""
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
    messenger: Messenger | None
    state: probes.State
    seed: Sequence[domain.Record] = ()
    opening: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin in the running loop: liveness at once, readiness as soon as the database can be used."""
        self.caller.open()
        self.opening = asyncio.ensure_future(self._open())
        self.opening.add_done_callback(_tell_of_defect)

    def drain(self) -> None:
        """Take on nothing new but the requests that still come; returns at once."""
        self.shell.draining = True
        if self.messenger is not None and self.state.opened:
            self.messenger.drain()

    async def stop(self) -> None:
        """End what lives beside the server, and write what is still buffered."""
        if self.opening is not None:
            self.opening.cancel()
        if self.messenger is not None:
            await self.messenger.stop()
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
        if self.messenger is not None:
            await self.messenger.start()
        self.state.opened = True


def _tell_of_defect(opening: asyncio.Task[None]) -> None:
    if not opening.cancelled() and (error := opening.exception()) is not None:
        log.error("opening-crashed", exc_info=error)


def build(settings: Settings) -> Service:
    """Wire one service inside the running loop; nothing is connected before its `start`.

    Raise TelemetryError or OSError if the traces cannot be written.
    """
    telemetry = Telemetry(settings)
    caller = _caller(settings, telemetry)
    repository = _repository(settings)
    app = new_app(settings.service)
    recovery, messenger = None, None
    if repository is None:
        storefront.mount(app, caller, fallbacks=_fallbacks(settings))
    elif settings.service not in CHAINS:
        messenger = _mount_leaf(app, settings, repository, telemetry)
    elif settings.broker is None:
        recovery = _mount_chain(app, settings, caller, repository)
    else:
        messenger = _mount_messages(app, settings, settings.broker, repository, telemetry)
    shell = Shell(
        app,
        telemetry,
        max_in_flight=settings.max_in_flight,
        deadlines="timeout" not in settings.disabled,
        default_deadline_s=CHAIN_DEADLINE_S if recovery else None,
        defect=Defect(settings.defect, random.Random()),
    )
    state = probes.State(draining=lambda: shell.draining)
    if recovery is not None:
        telemetry.backlog.set_function(lambda: recovery.compensator.backlog)
    has_outbox = messenger is not None and messenger.publishes
    probes.mount(app, settings.service, telemetry, repository, state, has_outbox=has_outbox)
    seed = domain.stock() if settings.service == "inventory" else ()
    return Service(shell, telemetry, caller, repository, recovery, messenger, state, seed)


def _repository(settings: Settings) -> SqlRepository | None:
    if settings.database_url is None:
        return None
    outbox = VolatileOutbox() if "outbox" in settings.disabled else None
    return SqlRepository(settings.database_url, outbox, prefix=_prefix(settings))


def _prefix(settings: Settings) -> str:
    """Who may share a database with another service keeps its tables apart from theirs."""
    return f"{settings.service}_" if "own-database" in settings.disabled else ""


def _fallbacks(settings: Settings) -> frozenset[str]:
    """The peers whose last answer the cache gives when they do not."""
    if "fallback" in settings.disabled:
        return frozenset()
    return frozenset(name for name, peer in settings.peers.items() if peer.fallback == "cache")


def _mount_leaf(app: FastAPI, settings: Settings, repository: SqlRepository, telemetry: Telemetry) -> Messenger | None:
    """A service that only records effects: asked over REST and, where there is a broker, by messages too."""
    handlers = HANDLERS[settings.service]
    inbox = TransactionalInbox(repository, handlers, monotonic_ns, settings.disabled)
    leaves.MOUNTS[settings.service](app, inbox)
    if settings.broker is None:
        return None
    return Messenger(
        settings,
        settings.broker,
        repository,
        telemetry,
        publishes=False,
        handle=answering(inbox),
        accepts=handlers.keys() & set(TYPES.values()),
    )


def _mount_chain(app: FastAPI, settings: Settings, caller: RestCaller, repository: SqlRepository) -> Recovery:
    """Orders or accounts, where everything is a call within the request."""
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


def _mount_messages(
    app: FastAPI, settings: Settings, broker: Broker | Kafka, repository: SqlRepository, telemetry: Telemetry
) -> Messenger:
    """Orders or accounts, where a request is one transaction and messages do the rest."""
    if settings.service == "accounts":
        accounts.mount(app, AsyncRegistration(repository, monotonic_ns))
        return Messenger(settings, broker, repository, telemetry, publishes=True)
    handler = AsyncOrders(repository, monotonic_ns)
    orders.mount(app, handler)
    return Messenger(
        settings,
        broker,
        repository,
        telemetry,
        publishes=True,
        handle=handler.handle,
        accepts=frozenset({StepDone, StepRefused}),
        asking=None if "saga-timeout" in settings.disabled else Asking(handler.ask_again, random.Random()),
    )


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
