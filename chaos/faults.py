"""What can go wrong: one frozen record per fault, with its units and its undo.

A record says what is done to which part of a running stage, never how: `spec` is the object that the
local cloud understands, `impact` is what the model of the stage is told. Whether the outcome of a fault
can be decided at all (a delay next to a timeout cannot) is asked of `chaos.decidable`; for how long a
fault stays is a lease (`chaos.lease`). How a spec is read back and checked stands in `chaos.spec`.
Faults of messages stand in `chaos.faults_broker`, those of a mesh in `chaos.faults_mesh`; what all faults share in
`chaos.fault_bases`.
"""

from __future__ import annotations

from dataclasses import dataclass

from chaos.fault_bases import OnCluster, OnDatabase, OnService, OnWire
from chaos.faults_broker import (
    BrokerDuplicate,
    BrokerOutage,
    BrokerPoison,
    BrokerSlow,
    BrokerThrottle,
    KillInFlight,
)
from chaos.faults_mesh import (
    Canary,
    CertificateExpired,
    GarbageConfig,
    GarbageDiscovery,
    Partition,
    RegistryOutage,
    RootRotation,
)
from chaos.parts import behind, parts, sidecars
from chaos.wires import carried
from stages.blast_radius import Impact
from stages.model import Stage

ANSWER_BYTES = {"storefront-inventory": 1700}
"""Head and body of a channel's typical answer, bytes: measured for the catalogue of 20 products."""

ANSWER_BYTES_DEFAULT = 500
"""Head and body of every other answer, bytes, about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill(OnService):
    """End a service's process at once (SIGKILL), in the middle of whatever it does.

    Undo: it is started again from its unchanged description, and awaited until it is ready. What its
    database had committed is kept; requests in flight were lost.
    """

    kind = "kill"
    service: str

    def impact(self, stage: Stage) -> Impact:
        """What the model is told: the service does not answer, and it died in mid-request."""
        if self.service in parts(stage):
            return _silent(stage, self.service)  # no service died
        return Impact(down=frozenset({self.service}), crashed=frozenset({self.service}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause(OnService):
    """Freeze a service's process (SIGSTOP): connections are accepted by the kernel, nothing is answered.

    Undo: SIGCONT; it resumes where it stood and finds requests whose callers are long gone.
    """

    kind = "pause"
    service: str

    def impact(self, stage: Stage) -> Impact:
        """What the model is told: the service does not answer."""
        return _silent(stage, self.service)


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuStarve(OnService):
    """Let a service run for only a share of each period (SIGSTOP and SIGCONT by turns).

    Undo: SIGCONT, and no further stop.
    """

    kind = "cpu-starve"
    service: str
    share: float
    """Part of a period in which it may run, in (0, 1)."""
    period_ms: int
    """Length of one turn, milliseconds, > 0."""

    def impact(self, stage: Stage) -> Impact:
        """What the model is told: so starved that it does not keep up, the service does not answer in time."""
        return _silent(stage, self.service)


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency(OnWire):
    """Delay every byte on a wire, in both directions.

    The delay of one direction is uniform in [delay_ms - jitter_ms, delay_ms + jitter_ms], drawn from `seed`.
    Undo: the delay is lifted; bytes already held are delivered, none is dropped.
    """

    kind = "latency"
    wire: str
    delay_ms: int
    """Mean delay of one direction, milliseconds, >= jitter_ms: a round trip takes twice as much longer."""
    jitter_ms: int = 0
    """Half-width of the range, milliseconds."""
    seed: int = 0
    """Of the jitter's random numbers."""

    @property
    def round_trip_ms(self) -> int:
        """Mean delay that one exchange gains, milliseconds."""
        return 2 * self.delay_ms

    def impact(self, stage: Stage) -> Impact:
        """What the model is told: one exchange, or one message, takes this much longer."""
        return Impact(delay_ms=dict.fromkeys(carried(stage, self.wire), self.round_trip_ms))


@dataclass(frozen=True, slots=True, kw_only=True)
class Blackhole(OnWire):
    """Swallow every byte on a wire: connections open, nothing ever arrives, nothing is ever closed.

    Undo: new connections pass; those caught in the hole are reset, for what they lost cannot be given back.
    """

    kind = "blackhole"
    wire: str

    def impact(self, stage: Stage) -> Impact:
        """What the model is told: what the wire carries is cut."""
        return Impact(cut=frozenset(carried(stage, self.wire)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset(OnWire):
    """Reset every connection of a wire, old ones at once and new ones as soon as they speak.

    Undo: connections pass again.
    """

    kind = "reset"
    wire: str

    def impact(self, stage: Stage) -> Impact:
        """What the model is told: what the wire carries is cut."""
        return Impact(cut=frozenset(carried(stage, self.wire)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse(OnWire):
    """Refuse every new connection on a wire and close the old ones, as if nobody listened.

    Undo: it listens again at the same address.
    """

    kind = "refuse"
    wire: str

    def impact(self, stage: Stage) -> Impact:
        """What the model is told: what the wire carries is cut."""
        return Impact(cut=frozenset(carried(stage, self.wire)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bandwidth(OnWire):
    """Let only so many bytes a second through a wire, in each direction.

    Undo: the limit is lifted; bytes already held are delivered, none is dropped.
    """

    kind = "bandwidth"
    wire: str
    bytes_per_s: int
    """Of each direction, over all connections, > 0."""

    @property
    def transfer_ms(self) -> int:
        """How long one typical answer of this channel takes on an otherwise idle wire, milliseconds."""
        return ANSWER_BYTES.get(self.wire, ANSWER_BYTES_DEFAULT) * 1000 // self.bytes_per_s

    def impact(self, stage: Stage) -> Impact:
        """What the model is told: one exchange on the channel takes as much longer as its answer needs."""
        return Impact(delay_ms=dict.fromkeys(carried(stage, self.wire), self.transfer_ms))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOutage(OnCluster):
    """Lose a cluster: every process in it ends at once (SIGKILL of its process group).

    Undo: the cluster and its services are started again, and awaited until they are ready.
    """

    kind = "cluster-outage"
    cluster: str

    def impact(self, stage: Stage) -> Impact:
        """What the model is told: no service of the cluster answers, all died in mid-request."""
        lost = frozenset(stage.services_in(self.cluster))
        return Impact(down=lost, crashed=lost)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFreeze(OnCluster):
    """Freeze a cluster: every process in it is stopped (SIGSTOP); connections are accepted by the kernel, nothing is
    answered.

    Undo: SIGCONT; all resume where they stood and find requests whose callers are long gone.
    """

    kind = "cluster-freeze"
    cluster: str

    def impact(self, stage: Stage) -> Impact:
        """What the model is told: no service of the cluster answers; none of them died."""
        return Impact(down=frozenset(stage.services_in(self.cluster)))


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseLocked(OnDatabase):
    """Hold an exclusive lock on a service's database all the time: nobody reads, nobody writes.

    Undo: the lock is released; nothing was written under it.
    """

    kind = "database-locked"
    database: str
    """Name of the service that owns it."""

    def impact(self, stage: Stage) -> Impact:
        """What the model is told: the service lives but can do nothing, as if it did not answer."""
        return Impact(down=frozenset({self.database}))


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSlow(OnDatabase):
    """Hold an exclusive lock on a service's database by turns: whoever comes meanwhile waits it out.

    Undo: the lock is released for good; nothing was written under it.
    """

    kind = "database-slow"
    database: str
    """Name of the service that owns it."""
    hold_ms: int
    """Length of one lock, milliseconds, > 0."""
    every_ms: int
    """From the start of a lock to the start of the next, milliseconds, > hold_ms."""

    def impact(self, stage: Stage) -> Impact:
        """What the model is told: every exchange with the service takes longer by up to one lock."""
        return Impact(delay_ms={c.name: self.hold_ms for c in stage.channels if c.callee == self.database})


Fault = (
    Kill
    | Pause
    | CpuStarve
    | Latency
    | Blackhole
    | Reset
    | Refuse
    | Bandwidth
    | ClusterOutage
    | ClusterFreeze
    | DatabaseLocked
    | DatabaseSlow
    | BrokerOutage
    | BrokerSlow
    | BrokerThrottle
    | BrokerDuplicate
    | BrokerPoison
    | KillInFlight
    | Partition
    | RegistryOutage
    | GarbageDiscovery
    | CertificateExpired
    | GarbageConfig
    | RootRotation
    | Canary
)


def _silent(stage: Stage, process: str) -> Impact:
    """A process does not answer: a sidecar takes its service's every channel with it, others their own name."""
    if process in sidecars(stage):
        return Impact(cut=behind(stage, process))
    return Impact(down=frozenset({process}))
