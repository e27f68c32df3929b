"""What every fault can say about itself, by the kind of place it breaks. The faults themselves: `chaos.faults`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar

from chaos.parts import parts
from chaos.wires import queues
from stages.model import Stage


class BaseFault:
    """What all have in common."""

    __slots__ = ()
    kind: ClassVar[str]
    needs_traffic: ClassVar[str] = ""
    """The operation by whose requests alone it shows, as long as it is on; '' where it shows by itself."""
    slow_s: ClassVar[float] = 0.0
    """How much longer than others it may take to be put on, and then to show, seconds."""

    def spec(self) -> dict[str, Any]:
        """The JSON object of the local cloud's API; `chaos.spec.from_spec` reads it back.

        A field whose name is a word of Python bears an underscore, which its key does not: `from_` is "from".
        """
        values: dict[str, Any] = asdict(self)  # type: ignore[call-overload]  # every subclass is a dataclass
        return {"kind": self.kind, **{name.rstrip("_"): value for name, value in values.items()}}

    @property
    def target(self) -> str:
        """What is broken, in words: 'service payments'."""
        raise NotImplementedError

    @property
    def needs(self) -> tuple[str, ...]:
        """Everything that must be there, in the same words; first of all the target."""
        return (self.target,)


class OnService(BaseFault):
    """Faults of one service's process, or of one of the processes that a mesh puts beside them."""

    __slots__ = ()
    service: str

    @property
    def target(self) -> str:
        return f"service {self.service}"

    def touches(self, stage: Stage) -> frozenset[str]:
        """Names of the services, wires or shared parts whose behaviour the fault changes at its source."""
        return frozenset({self.service})


class OnWire(BaseFault):
    """Faults of one network path."""

    __slots__ = ()
    wire: str

    @property
    def target(self) -> str:
        return f"wire {self.wire}"

    def touches(self, stage: Stage) -> frozenset[str]:
        return frozenset({self.wire})


class OnDatabase(BaseFault):
    """Faults of the database of one service, whose name it bears."""

    __slots__ = ()
    database: str

    @property
    def target(self) -> str:
        return f"database {self.database}"

    def touches(self, stage: Stage) -> frozenset[str]:
        return frozenset({self.database})


class OnCluster(BaseFault):
    """Faults of everything that runs in one cluster."""

    __slots__ = ()
    cluster: str

    @property
    def target(self) -> str:
        return f"cluster {self.cluster}"

    def touches(self, stage: Stage) -> frozenset[str]:
        """Everything that lives there."""
        beside = {name for name, cluster in parts(stage).items() if cluster == self.cluster}
        return frozenset({*stage.services_in(self.cluster), *beside})


class OnBroker(BaseFault):
    """Faults of the broker, and so of every queue that it keeps."""

    __slots__ = ()
    broker: str

    @property
    def target(self) -> str:
        return f"broker {self.broker}"

    def touches(self, stage: Stage) -> frozenset[str]:
        return frozenset({self.broker, *queues(stage)})
