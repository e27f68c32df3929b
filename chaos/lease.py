"""For how long does a fault stay? As long as somebody renews its lease, and not a moment of trust longer.

    take --> on --renew--> on --renew--> on --end--> undone
                            `--(nobody renews for ttl_s)--> expired: its holder undid it by itself

The holder is the local cloud (or a process of its making), never the process that injects. `Cloud` is the
port to it; `chaos.client` implements it for the local cloud, `chaos.dry` by saying what would be done.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from chaos.faults import Fault
from stages.deployment import Deployment

TTL_S = 5.0
"""A lease ends this long after its last renewal: the longest that a fault outlives its runner."""

RENEW_S = 1.0
"""Between two renewals: four may be missed, as on a machine that stalls for seconds."""

UNTIL_POLL_S = 0.1
"""How often `keep` looks for the file that ends it."""


class State(StrEnum):
    """Where a lease stands."""

    ON = "on"
    UNDONE = "undone"
    EXPIRED = "expired"
    """Nobody renewed it; its holder undid the fault."""
    FAILED = "failed"
    """Injecting or undoing went wrong; `evidence` says how."""
    NONE = "none"
    """No such lease: it was never taken, or is long forgotten."""
    DRY = "dry"
    """Nothing was done, on purpose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseState:
    """What the holder says about one lease."""

    lease: str
    state: State
    fault: Mapping[str, Any] = field(default_factory=dict)
    """The fault's spec."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """What the holder saw: a dead process, a stopped one, counters of a wire, a lock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A deployment as its target sees it now."""

    deployment: Deployment
    faults: tuple[LeaseState, ...]
    """Every lease that is on in it, whoever holds it."""
    brokers: frozenset[str] = frozenset()
    """Names of the brokers that the target runs for it; one of somebody else's is not among them."""
    queues: frozenset[str] = frozenset()
    """Names of all queues at those, dead-letter queues included."""
    registries: frozenset[str] = frozenset()
    """Names of the registries that the target runs for it."""
    authorities: frozenset[str] = frozenset()
    """Names of those who issue its certificates."""


class ChaosError(Exception):
    """The tree of this package's errors.

    ChaosError
    |-- CloudError   the target's API did not do what it was asked; `definite` says whether nothing happened
    |-- LeaseLost    a fault that should have been on was not; it is surely undone
    `-- Refused      a guard said no before anything was done (chaos.guard)
    """


class CloudError(ChaosError):
    """The target's API refused or failed."""

    def __init__(self, message: str, *, definite: bool, status: int | None = None) -> None:
        super().__init__(message)
        self.definite = definite
        """Whether it surely changed nothing."""
        self.status = status
        """HTTP status, None without an answer."""


class LeaseLost(ChaosError):
    """The fault went off while it was meant to be held: what was seen since then proves nothing."""


class Cloud(Protocol):
    """The port to whoever holds the faults of a target. Every method raises CloudError."""

    def live(self, deployment: str) -> Live:
        """The deployment as it is now; CloudError with status 404 if there is none of that name."""
        ...

    def put(self, deployment: str, lease: str, fault: Fault, ttl_s: float) -> LeaseState:
        """Inject under a lease. Idempotent; an error that is not definite may have injected it."""
        ...

    def renew(self, deployment: str, lease: str, ttl_s: float) -> LeaseState:
        """Let it live for another ttl_s; its state is not `on` any more if it was too late."""
        ...

    def look(self, deployment: str, lease: str) -> LeaseState:
        """State and evidence now; State.NONE for an unknown lease."""
        ...

    def end(self, deployment: str, lease: str) -> LeaseState:
        """Undo, and wait until the target is up again. Idempotent, also for an unknown lease."""
        ...

    def depth(self, deployment: str, queue: str) -> int:
        """Messages in a queue, waiting or in somebody's hands; CloudError with status 404 for an unknown one."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """How a fault was held."""

    held_s: float
    ended_by: str
    """'seconds' or 'until'."""
    renewals: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One fault, held by this process."""

    cloud: Cloud
    deployment: str
    name: str

    def take(self, fault: Fault) -> LeaseState:
        """Inject the fault; raise CloudError if it is not on afterwards."""
        state = self.cloud.put(self.deployment, self.name, fault, TTL_S + fault.slow_s)
        if state.state not in {State.ON, State.DRY}:
            raise CloudError(f"{fault.kind} of {fault.target} is {state.state}: {dict(state.evidence)}", definite=False)
        return state

    def renew(self) -> LeaseState:
        """Hold it for another TTL_S; raise LeaseLost if it is off already."""
        state = self.cloud.renew(self.deployment, self.name, TTL_S)
        if state.state not in {State.ON, State.DRY}:
            raise LeaseLost(f"lease {self.name!r} is {state.state}: the fault did not stay on; {dict(state.evidence)}")
        return state

    def end(self) -> LeaseState:
        """Undo the fault; raise CloudError if it is still on afterwards."""
        state = self.cloud.end(self.deployment, self.name)
        if state.state in {State.ON, State.FAILED}:
            raise CloudError(
                f"lease {self.name!r} is {state.state} after its undo: {dict(state.evidence)}; run `stages heal`",
                definite=False,
            )
        return state

    def keep(
        self, seconds: float, until: Path | None, *, clock: Callable[[], float], sleep: Callable[[float], None]
    ) -> Kept:
        """Renew each RENEW_S until `seconds` have passed or the file `until` exists.

        Raises LeaseLost if the fault went off, CloudError if nobody could be asked for as long as a lease lives.
        """
        start = clock()
        tried, renewed, renewals = start - RENEW_S, start, 0
        while (now := clock()) - start < seconds:
            if until is not None and until.exists():
                return Kept(held_s=now - start, ended_by="until", renewals=renewals)
            if now - tried >= RENEW_S:
                tried = now
                try:
                    self.renew()
                    renewed, renewals = now, renewals + 1
                except CloudError as error:
                    if error.status is not None or now - renewed >= TTL_S:
                        raise
            sleep(min(UNTIL_POLL_S, max(0.0, seconds - (now - start))))
        return Kept(held_s=clock() - start, ended_by="seconds", renewals=renewals)


def new_token() -> str:
    """Tells the leases of one experiment from those of every other, of this process and of others."""
    return f"{os.getpid()}-{time.monotonic_ns():x}"
