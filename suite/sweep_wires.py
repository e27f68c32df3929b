"""Systems moved apart on the local target: a leased `latency` fault on each wire between them.

Leases end by themselves a few seconds after their last renewal: nothing outlives whoever runs the sweep.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from chaos.client import LocalCloud
from chaos.faults import Latency
from chaos.lease import ChaosError, Lease, new_token
from stages.deployment import Deployment
from suite.ports import SuiteError
from suite.sweep import Stretched


class LeasedDistance:
    """The port `suite.sweep.Distance` on a local cloud."""

    def __init__(self) -> None:
        self._cloud: LocalCloud | None = None
        self._leases: list[Lease] = []

    def stretch(self, deployment: Deployment, wires: Sequence[str], one_way_ms: int) -> None:
        with _translated(f"wires cannot be {one_way_ms} ms long"):
            self._release()
            if self._cloud is None:
                self._cloud = LocalCloud(deployment.control)
            token = new_token()
            for number, wire in enumerate(wires):
                lease = Lease(cloud=self._cloud, deployment=deployment.name, name=f"distance-{token}-{number}")
                self._leases.append(lease)  # before the act: what may be on is undone
                lease.take(Latency(wire=wire, delay_ms=one_way_ms))

    def renew(self) -> None:
        with _translated("the distance did not last"):
            for lease in self._leases:
                lease.renew()

    def seen(self) -> Stretched:
        with _translated("the wires do not tell what rested on them"):
            counters = [
                lease.cloud.look(lease.deployment, lease.name).evidence.get("since", {}) for lease in self._leases
            ]
        pieces = sum(int(c.get("pieces_delayed", 0)) for c in counters)
        held_ms = sum(float(c.get("held_ms", 0.0)) for c in counters)
        return Stretched(pieces=pieces, mean_ms=held_ms / pieces if pieces else None)

    def close(self) -> None:
        try:
            with _translated("a wire may still be longer, for a few seconds"):
                self._release()
        finally:
            if self._cloud is not None:
                self._cloud.close()
                self._cloud = None

    def _release(self) -> None:
        """Undo all, however many of them fail; raise the first failure."""
        failures: list[ChaosError] = []
        while self._leases:
            lease = self._leases.pop()
            try:
                lease.end()
            except ChaosError as error:
                failures.append(error)
        if failures:
            raise failures[0]


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Errors of the local cloud in the pipeline's words."""
    try:
        yield
    except ChaosError as error:
        raise SuiteError(f"{what}: {error}") from error
