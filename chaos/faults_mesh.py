"""What can go wrong with a mesh: paths between clusters, who knows whom, who trusts whom, which version answers.

Sidecars, gateways and control planes are processes: `Kill` and `Pause` of `chaos.faults` take their names too.
What here is predicted to change nothing is the promise of the data plane: it goes on with what it knew last.
"""

from __future__ import annotations

from dataclasses import dataclass

from chaos.fault_bases import BaseFault, OnService
from chaos.parts import EVERYWHERE, cut_between, links_between, partners, registry_wires, sidecars
from stages.blast_radius import Impact
from stages.mesh import calls, sidecar_of
from stages.model import Stage

FAILING_SHARE = 0.5
"""A failing version answers every other request with 500: the workloads promise it."""

SLOW_MS = 600
"""By so much a slow version answers later: the workloads promise it."""

DEFECTS = ("failing", "slow", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition(BaseFault):
    """Swallow every byte between two clusters, in both directions: calls, their answers, and whatever else.

    Shared parts outside the clusters (broker, registry) are reached from both sides as before.
    Undo: new connections pass; those caught in the hole are reset, for what they lost cannot be given back.
    """

    kind = "partition"
    cluster: str
    from_: str = EVERYWHERE
    """The other cluster; '*' for all others."""

    @property
    def target(self) -> str:
        """What is broken, in words."""
        return f"cluster {self.cluster}"

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.target, *([] if self.from_ == EVERYWHERE else [f"cluster {self.from_}"]))

    def touches(self, stage: Stage) -> frozenset[str]:
        """Every wire and link between the two."""
        return cut_between(stage, self.cluster, self.from_) | links_between(stage, self.cluster, self.from_)

    def impact(self, stage: Stage) -> Impact:
        """What the model is told: the calls between the two are cut."""
        return Impact(cut=cut_between(stage, self.cluster, self.from_))

    def others(self, stage: Stage) -> tuple[str, ...]:
        """From whom it is parted."""
        return partners(stage, self.cluster, self.from_)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryOutage(BaseFault):
    """Freeze the registry's process (SIGSTOP): connections are accepted by the kernel, nothing is answered.

    Undo: SIGCONT; it resumes with every instance it knew, and hears what has changed.
    """

    kind = "registry-outage"
    registry: str

    @property
    def target(self) -> str:
        """What is broken, in words."""
        return f"registry {self.registry}"

    def touches(self, stage: Stage) -> frozenset[str]:
        """The registry and every way to it."""
        return frozenset({self.registry, *registry_wires(stage)})

    def impact(self, stage: Stage) -> Impact:
        """What the model is told: the shared part does not answer; no channel goes through it."""
        return Impact(down=frozenset({self.registry}))


@dataclass(frozen=True, slots=True, kw_only=True)
class GarbageDiscovery(BaseFault):
    """Let the registry answer every question of who is there with nonsense, by turns of another kind.

    Addresses elsewhere, foreign identities, instances of nobody, none at all, no answer of the protocol. What might be
    true, such as that all are ill, is not nonsense: it would be believed.
    Undo: it answers with what it knows again.
    """

    kind = "garbage-discovery"
    registry: str

    @property
    def target(self) -> str:
        """What is broken, in words."""
        return f"registry {self.registry}"

    def touches(self, stage: Stage) -> frozenset[str]:
        """The registry and every way to it."""
        return frozenset({self.registry, *registry_wires(stage)})

    def impact(self, stage: Stage) -> Impact:
        """What the model is told: nothing, for a control plane keeps the last answer that made sense."""
        return Impact()


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateExpired(OnService):
    """Let a service's sidecar show a certificate that is no longer valid, as when nobody renewed it.

    Connections that are open live on until they reach their age. The way to the broker needs no certificate.
    Undo: a valid one is issued.
    """

    kind = "certificate-expired"
    slow_s = 5.0
    service: str

    def touches(self, stage: Stage) -> frozenset[str]:
        """The sidecar: it is its identity."""
        return frozenset({sidecar_of(self.service)})

    def impact(self, stage: Stage) -> Impact:
        """What the model is told: nobody believes the service, so every call of it and to it is cut."""
        return Impact(cut=frozenset(c.name for c in calls(stage) if self.service in (c.caller, c.callee)))


@dataclass(frozen=True, slots=True, kw_only=True)
class GarbageConfig(OnService):
    """Give a sidecar routes and endpoints that make no sense, as a broken control plane would.

    Undo: it is given the right ones again.
    """

    kind = "garbage-config"
    service: str
    """Name of the sidecar."""

    def impact(self, stage: Stage) -> Impact:
        """What the model is told: nothing, for a sidecar refuses what it cannot read and keeps what it had."""
        return Impact()


@dataclass(frozen=True, slots=True, kw_only=True)
class RootRotation(BaseFault):
    """Replace the root of all trust: both are trusted, then all certificates are new, then only the new one is.

    Undo: nothing; what was rotated stays.
    """

    kind = "root-rotation"
    slow_s = 25.0
    authority: str

    @property
    def target(self) -> str:
        """What is broken, in words."""
        return f"authority {self.authority}"

    def touches(self, stage: Stage) -> frozenset[str]:
        """The authority, and every sidecar's certificate."""
        return frozenset({self.authority, *sidecars(stage)})

    def impact(self, stage: Stage) -> Impact:
        """What the model is told: nothing, for at every step each side trusts what the other shows."""
        return Impact()


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary(OnService):
    """Start a second version of a service beside the first and give it a share of the calls, as a release does.

    Whether anything shows depends on the share: of `share_percent` of the calls, a failing version answers
    every other one with an error. Messages are read by both versions, and handled well by both.
    Undo: its share goes back to nothing, then it is taken away.
    """

    kind = "canary"
    needs_traffic = "browse"
    slow_s = 20.0
    service: str
    share_percent: int
    """Of the calls to the service, 1 to 100."""
    defect: str = "failing"
    """What is wrong with it: 'failing' (half of the requests), 'slow' (all of them) or 'none'."""

    @property
    def affected(self) -> float:
        """Share of the calls that end differently, in [0, 1]."""
        part = {"failing": FAILING_SHARE, "slow": 1.0}.get(self.defect, 0.0)
        return self.share_percent / 100 * part

    def touches(self, stage: Stage) -> frozenset[str]:
        """The service and its sidecar: their twins stand beside them."""
        return frozenset({self.service, sidecar_of(self.service)})

    def impact(self, stage: Stage) -> Impact:
        """What the model is told: what becomes of the calls that meet it; it knows nothing of shares."""
        to_it = [c.name for c in calls(stage) if c.callee == self.service]
        if self.defect == "failing":
            return Impact(cut=frozenset(to_it))
        return Impact(delay_ms=dict.fromkeys(to_it, SLOW_MS)) if self.defect == "slow" else Impact()
