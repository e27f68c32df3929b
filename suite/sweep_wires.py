"""Systems moved apart on the local target: a leased `latency` fault on each wire between them.

Leases end by themselves TTL_S after their last renewal: nothing outlives whoever runs the sweep for longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from chaos.client import LocalCloud
from chaos.faults import Latency
from chaos.lease import ChaosError, Cloud, CloudError, LeaseState, State, new_token
from stages.deployment import Deployment
from suite.ports import SuiteError
from suite.sweep import Stretched

TTL_S = 10.0
"""Longer than a block, so that hardly any is renewed in the middle of one: a dozen renewals are work that shows."""

RENEW_S = 5.0


class Client(Cloud, Protocol):
    """Whoever holds leases, over a connection."""

    def close(self) -> None:
        """Leases stay as they are."""
        ...


@dataclass(slots=True)
class _Held:
    """A wire that is longer."""

    deployment: str
    lease: str
    renewed_s: float


class LeasedDistance:
    """The port `suite.sweep.Distance` on a local cloud."""

    def __init__(
        self,
        connect: Callable[[str], Client] = LocalCloud,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`connect` makes a client from the path of a control socket; `clock` tells seconds."""
        self._connect = connect
        self._clock = clock
        self._client: Client | None = None
        self._held: list[_Held] = []
        self._token = new_token()

    def stretch(self, deployment: Deployment, wires: Sequence[str], one_way_ms: int) -> None:
        with _translated(f"wires cannot be {one_way_ms} ms long"):
            self._release()
            if self._client is None:
                self._client = self._connect(deployment.control)
            for number, wire in enumerate(wires):
                # the same names at each distance: the local cloud remembers the last of them only
                held = _Held(deployment.name, f"distance-{self._token}-{number}", self._clock())
                self._held.append(held)  # before the act: what may be on is undone
                fault = Latency(wire=wire, delay_ms=one_way_ms)
                _on(self._cloud.put(held.deployment, held.lease, fault, TTL_S))

    def renew(self) -> None:
        with _translated("the distance did not last"):
            for held in self._held:
                if self._clock() - held.renewed_s >= RENEW_S:
                    self._renew(held)

    def seen(self) -> Stretched:
        with _translated("the wires do not tell what rested on them"):
            states = [_on(self._cloud.look(held.deployment, held.lease)) for held in self._held]
        counters = [state.evidence.get("since", {}) for state in states]
        pieces = sum(int(c.get("pieces_delayed", 0)) for c in counters)
        held_ms = sum(float(c.get("held_ms", 0.0)) for c in counters)
        return Stretched(pieces=pieces, mean_ms=held_ms / pieces if pieces else None)

    def close(self) -> None:
        try:
            with _translated(f"a wire may still be longer, for {TTL_S:g} s"):
                self._release()
        finally:
            if self._client is not None:
                self._client.close()
                self._client = None

    @property
    def _cloud(self) -> Cloud:
        assert self._client is not None, "wires are held, so somebody was asked to hold them"
        return self._client

    def _renew(self, held: _Held) -> None:
        """A busy local cloud may miss some renewals, as long as the lease lives."""
        now_s = self._clock()
        try:
            _on(self._cloud.renew(held.deployment, held.lease, TTL_S))
            held.renewed_s = now_s
        except CloudError as error:
            if error.status is not None or now_s - held.renewed_s >= TTL_S:
                raise

    def _release(self) -> None:
        """Undo all, however many of them fail; raise the first failure."""
        failures: list[ChaosError] = []
        while self._held:
            held = self._held[-1]  # stays in the list until it is off: an interrupt is followed by `close`
            try:
                state = self._cloud.end(held.deployment, held.lease)
                if state.state in {State.ON, State.FAILED}:
                    raise CloudError(f"lease {held.lease!r} is {state.state} after its undo", definite=False)
            except ChaosError as error:
                failures.append(error)
            self._held.pop()
        if failures:
            raise failures[0]


def _on(state: LeaseState) -> LeaseState:
    if state.state is not State.ON:
        raise CloudError(f"lease {state.lease!r} is {state.state}: {dict(state.evidence)}", definite=False)
    return state


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Errors of the local cloud in the pipeline's words."""
    try:
        yield
    except ChaosError as error:
        raise SuiteError(f"{what}: {error}") from error
