"""A whole world for the pipeline without processes: a shop that behaves as predicted, or as a test says it does.

    world = World(tmp_path)                     # a clock, a target, a load generator, a fault injector
    run_stage(plan, result, world.tools(store))  # minutes of the run pass in milliseconds

`World.reality` overrides what a fault really does to an operation, so that leaks can be played.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stages.blast_radius import Effect, predict
from stages.catalogue import STAGES
from stages.check import Outstanding, PolicyTry
from stages.deployment import Deployment
from stages.history import Audit, FaultEvent, FaultStep, Invocation, Outcome, Phase, Record, Usage, dump
from stages.model import Stage, Variant
from stages.testing import tries_as_modelled
from suite.ports import Backlog, FaultPlan, Footprint, Letter, Redriven, SuiteError
from suite.stage_run import Tools
from suite.store import Store

SECOND_NS = 1_000_000_000


class FakeClock:
    """Time passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.ns = 1_000 * SECOND_NS
        self.listeners: list[Callable[[int, int], None]] = []
        """Told (from, to) of every stretch of time, nanoseconds."""

    def now_ns(self) -> int:
        return self.ns

    def sleep(self, seconds: float) -> None:
        before, self.ns = self.ns, self.ns + int(seconds * SECOND_NS)
        for listen in self.listeners:
            listen(before, self.ns)


@dataclass(frozen=True, slots=True)
class On:
    """A fault that is on."""

    plan: FaultPlan
    since_ns: int


@dataclass
class World:
    """The shop of one stage and everybody who acts on it."""

    directory: Path
    catalogue: Mapping[str, FaultPlan] = field(default_factory=dict)
    seed: int = 1
    reality: Mapping[tuple[str, str], Effect] = field(default_factory=dict)
    """(fault, operation) -> what really happens, where it is not what the model predicts."""
    dull: frozenset[str] = frozenset()
    """Faults that are injected but do not bite."""
    sticky: frozenset[str] = frozenset()
    """Faults whose damage outlives the undo."""
    spoil: Callable[[list[Audit]], list[Audit]] = lambda audits: audits
    """Changes what the services have recorded: a lost e-mail, a double charge."""
    misrule: Callable[[list[PolicyTry]], list[PolicyTry]] = lambda tries: tries
    """Changes what tries of calls between services come to: plaintext that gets through."""
    letters: list[Letter] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    broken_up: str = ""
    """Deploying fails with these words."""
    busy_cores: float = 0.5
    """What the shop's processes use."""

    def __post_init__(self) -> None:
        self.clock = FakeClock()
        self.target = WorldTarget(self)
        self.on: On | None = None
        self.hurt: On | None = None
        self.stage: Stage | None = None
        self.confirmed: list[Invocation] = []
        self.registered: list[Invocation] = []
        self.cancelled: dict[str, Invocation] = {}
        """By id of the order."""
        self.waiting: set[str] = set()
        """Keys of what was accepted under a fault that delays it."""
        self.done_ns: dict[str, int] = {}
        """Key -> when it was complete, where that was not at the answer."""

    def tools(self, store: Store) -> Tools:
        return Tools(
            target=self.target,
            load=lambda: WorldLoad(self),
            faults=lambda: WorldFaults(self),
            clock=self.clock,
            store=store,
            progress=lambda text: None,
            owner_pid=1,
            new_run_id=lambda: "run",
        )

    def complete(self) -> None:
        """The fault is over: what waited for that is done a second later."""
        self.done_ns |= dict.fromkeys(self.waiting, self.clock.now_ns() + SECOND_NS)
        self.waiting.clear()

    def effect(self, operation: str) -> Effect:
        """What happens to an operation right now."""
        active = self.on or self.hurt
        if active is None or self.stage is None or active.plan.name in self.dull:
            return Effect.UNAFFECTED
        foreseen = predict(self.stage, active.plan.impact)[operation].effect
        return self.reality.get((active.plan.name, operation), foreseen)


class WorldTarget:
    """Deploys by remembering."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._running: dict[str, Deployment] = {}

    def cannot(self, stage: Stage) -> list[str]:
        return []

    def up(
        self,
        stage: Stage,
        *,
        name: str,
        run_id: str,
        variant: Variant | None,
        owner_pid: int | None,
        progress: Callable[[str], None],
    ) -> Deployment:
        if self._world.broken_up:
            raise SuiteError(self._world.broken_up)
        self._world.stage = stage
        self._world.clock.sleep(3)
        self._running[name] = Deployment(
            name=name,
            run_id=run_id,
            stage=stage.name,
            target="local",
            control="",
            edge="http://127.0.0.1:1",
            directory="",
            variant=variant.name if variant else None,
        )
        return self._running[name]

    def get(self, name: str) -> Deployment:
        if name not in self._running:
            raise SuiteError(f"no deployment {name!r}")
        return self._running[name]

    def names(self) -> list[str]:
        return sorted(self._running)

    def down(self, name: str) -> None:
        self._running.pop(name, None)

    def audits(self, deployment: Deployment) -> Iterable[Audit]:
        return self._world.spoil(_audits(self._world))

    def backlog(self, deployment: Deployment) -> Backlog:
        return Backlog(unfinished=len(self._world.waiting))

    def dead_letters(self, name: str) -> list[Letter]:
        return self._world.letters

    def redrive(self, name: str, queue: str | None, ids: Sequence[str] | None) -> Redriven:
        moved, self._world.letters = len(self._world.letters), []
        return Redriven(moved=moved, left=0)

    def footprint(self, deployment: Deployment) -> Footprint:
        return Footprint(
            processes=9, memory_mb=500.0, cpu_s=self._world.clock.now_ns() / SECOND_NS * self._world.busy_cores
        )

    def drift(self, deployment: Deployment) -> list[str]:
        return []

    def policy(self, deployment: Deployment) -> list[PolicyTry]:
        self._world.clock.sleep(2)
        return self._world.misrule(tries_as_modelled(STAGES[deployment.stage]))

    def mesh_status(self, deployment: Deployment) -> Mapping[str, Mapping[str, Any]]:
        stage = STAGES[deployment.stage]
        return {c.name: {"registry_reachable": True, "rejected": 0} for c in stage.clusters if stage.mesh}

    def active_faults(self, name: str) -> list[str]:
        return [self._world.on.plan.name] if self._world.on else []

    def log(self, name: str, service: str, lines: int) -> list[str]:
        return []

    def residue(self, name: str) -> list[str]:
        return self._world.left_over

    def heal(self, name: str | None = None) -> tuple[list[str], list[str]]:
        healed = self.active_faults("")
        self._world.on = None
        return healed, []


class WorldLoad:
    """Writes the history that an open-loop generator would have written."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = random.Random(world.seed)
        self._path = world.directory / "load.jsonl"
        self._rate = 0.0
        self._deck: list[str] = []
        self._mix: Mapping[str, int] = {}
        self._count = 0
        self._due_ns = 0
        self._second_ns = 0

    def start(
        self, deployment: Deployment, *, run_id: str, rate: float, seed: int, mix: Mapping[str, int]
    ) -> list[Path]:
        self._rate, self._mix = rate, mix
        self._due_ns = self._second_ns = self._world.clock.now_ns()
        self._world.clock.listeners.append(self._arrivals)
        return [self._path]

    def mix(self, mix: Mapping[str, int]) -> None:
        self._mix, self._deck = mix, []

    def restock(self, orders: int) -> None:
        pass

    def phase(self, name: str) -> None:
        self._write(Phase(name=name, at_ns=self._world.clock.now_ns()))

    def outstanding(self) -> list[Outstanding]:
        return []

    def stop(self) -> None:
        if self._arrivals in self._world.clock.listeners:
            self._world.clock.listeners.remove(self._arrivals)

    def close(self) -> None:
        self.stop()

    def _arrivals(self, start_ns: int, end_ns: int) -> None:
        while self._due_ns < end_ns:
            self._write(self._invocation(self._deal()))
            self._due_ns += int(self._rng.expovariate(self._rate) * SECOND_NS)
        while self._second_ns < end_ns:
            self._write(Usage(at_ns=self._second_ns, cpu_share=0.1, in_flight=1))
            self._second_ns += SECOND_NS

    def _deal(self) -> str:
        if not self._deck:
            self._deck = [name for name, weight in self._mix.items() for _ in range(weight)]
            self._rng.shuffle(self._deck)
        return self._deck.pop()

    def _invocation(self, operation: str) -> Invocation:
        self._count += 1
        effect = self._world.effect(operation)
        good = Invocation(
            operation=operation,
            key=f"run-{self._count}",
            intended_ns=self._due_ns,
            started_ns=self._due_ns + 1_000_000,
            ended_ns=self._due_ns + int(self._rng.lognormvariate(3.2, 0.4) * 1e6),
            outcome=Outcome.OK,
            status=200,
            subject=f"o-{self._count}",
        )
        if effect is Effect.FAILING:
            return replace(good, outcome=Outcome.FAIL, status=503, subject=None, error="dependency-unavailable")
        if operation == "place-order":
            self._world.confirmed.append(good)
        elif operation == "register":
            self._world.registered.append(good)
        elif operation == "cancel-order":
            order = next((o for o in self._world.confirmed if o.subject not in self._world.cancelled), None)
            if order is not None:
                good = replace(good, subject=order.subject)
                self._world.cancelled[str(order.subject)] = good
        if effect is Effect.DELAYED:
            self._world.waiting.add(good.key)
        return replace(good, degraded=effect is Effect.DEGRADED)

    def _write(self, record: Record) -> None:
        with self._path.open("a") as file:
            file.write(dump(record) + "\n")


class WorldFaults:
    """Turns the world's fault on and off."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._path = world.directory / "faults.jsonl"

    def begin(self, fault: str, deployment: Deployment, *, hold_s: float) -> None:
        world = self._world
        world.on = On(world.catalogue[fault], world.clock.now_ns())
        self._event(FaultStep.INTENT)
        world.clock.sleep(0.2)
        self._event(FaultStep.INJECTED)
        if fault not in world.dull:
            self._event(FaultStep.SEEN, "a probe of the test")

    def release(self) -> None:
        world = self._world
        if world.on is None:
            return
        self._event(FaultStep.UNDOING)
        world.clock.sleep(0.3)
        self._event(FaultStep.UNDONE)
        world.hurt = world.on if world.on.plan.name in world.sticky else None
        world.on = None
        world.complete()

    def finished(self) -> str | None:
        return None if self._world.on else ""

    def history(self) -> Path:
        return self._path

    def close(self) -> None:
        self.release()

    def _event(self, step: FaultStep, detail: str = "") -> None:
        assert self._world.on is not None
        event = FaultEvent(fault=self._world.on.plan.name, step=step, at_ns=self._world.clock.now_ns(), detail=detail)
        with self._path.open("a") as file:
            file.write(dump(event) + "\n")


def _audits(world: World) -> list[Audit]:
    """What the services of a sound shop would have recorded."""
    records = [
        Audit(service=service, kind="outbox", id="outbox", subject="", key="", state="drained")
        for service in ("accounts", "orders")
    ]
    for order in world.confirmed:
        records += _order_effects(world, order)
    for user in world.registered:
        at_ns = world.done_ns.get(user.key, user.ended_ns)
        for service, kind, state in (
            ("accounts", "user", "active"),
            ("email", "mail", "welcome"),
            ("analytics", "event", "present"),
            ("cache", "entry", "present"),
        ):
            records.append(_effect(service, kind, state, user, at_ns))
    initial = 1_000_000
    sold = len(world.confirmed) - len(world.cancelled)
    records.append(
        Audit(
            service="inventory",
            kind="stock",
            id="stock-p-1",
            subject="p-1",
            key="",
            state="on-hand",
            quantity=initial - sold,
            initial=initial,
        )
    )
    return records


def _order_effects(world: World, order: Invocation) -> list[Audit]:
    done_ns = world.done_ns.get(order.key, order.ended_ns)
    times = {"completed_ns": str(done_ns)}
    cancellation = world.cancelled.get(str(order.subject))
    if cancellation is not None:
        times["cancelled_ns"] = str(max(done_ns + 1, world.done_ns.get(cancellation.key, cancellation.ended_ns)))
    gone = cancellation is not None
    return [
        _effect("orders", "order", "cancelled" if gone else "confirmed", order, done_ns, quantity=500, **times),
        _effect(
            "inventory", "reservation", "released" if gone else "reserved", order, done_ns, quantity=1, product="p-1"
        ),
        _effect("payments", "capture", "refunded" if gone else "captured", order, done_ns, quantity=500),
        _effect("shipping", "shipment", "cancelled" if gone else "booked", order, done_ns),
        _effect("email", "mail", "confirmation", order, done_ns),
        _effect("analytics", "event", "present", order, done_ns),
        _effect("cache", "entry", "present", order, done_ns),
    ]


def _effect(
    service: str,
    kind: str,
    state: str,
    cause: Invocation,
    at_ns: int,
    *,
    quantity: int = 0,
    **detail: str,
) -> Audit:
    subject = str(cause.subject)
    return Audit(
        service=service,
        kind=kind,
        id=subject if kind in ("order", "user") else f"{kind}-{subject}",
        subject=subject,
        key=cause.key,
        state=state,
        quantity=quantity,
        at_ns=at_ns,
        detail=detail,
    )


STAGE = STAGES["sync"]
"""The stage that pipeline tests run."""
