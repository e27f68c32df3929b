"""Does the distance stay for as long as it is wanted, and never much longer? Leases on a simulated local cloud."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from chaos.faults import Fault, Latency
from chaos.lease import CloudError, LeaseState, Live, State
from stages.deployment import Deployment
from suite.ports import SuiteError
from suite.sweep_wires import RENEW_S, TTL_S, LeasedDistance

SHOP = Deployment(
    name="shop", run_id="r", stage="sync", target="local", control="/x.sock", edge="http://127.0.0.1:1", directory=""
)
WIRES = ("orders-payments", "orders-email", "storefront-analytics")


@dataclass
class Cloud:
    """Leases that run out by a clock of their own."""

    now_s: float = 100.0
    leases: dict[str, tuple[Latency, float]] = field(default_factory=dict)
    """Name -> fault and the time at which it ends by itself."""
    names: set[str] = field(default_factory=set)
    deaf_to: frozenset[str] = frozenset()
    """Calls that are not answered in time."""
    interrupt_at: int = -1
    """An undo with this many leases on is interrupted before it happens."""
    renewals: int = 0
    open: int = 0

    def connect(self, control: str) -> Cloud:
        assert control == SHOP.control
        self.open += 1
        return self

    def distance(self) -> LeasedDistance:
        return LeasedDistance(connect=self.connect, clock=lambda: self.now_s)

    def on(self) -> dict[str, int]:
        """Wire -> one-way delay, of what is on right now."""
        return {f.wire: f.delay_ms for f, until_s in self.leases.values() if until_s > self.now_s}

    def live(self, deployment: str) -> Live:
        raise AssertionError("nobody asked for that")

    def put(self, deployment: str, lease: str, fault: Fault, ttl_s: float) -> LeaseState:
        assert deployment == SHOP.name
        assert isinstance(fault, Latency)
        self.names.add(lease)
        self.leases[lease] = fault, self.now_s + ttl_s
        self._answer("put")
        return self.look(deployment, lease)

    def renew(self, deployment: str, lease: str, ttl_s: float) -> LeaseState:
        self._answer("renew")
        self.renewals += 1
        if self.look(deployment, lease).state is State.ON:
            self.leases[lease] = self.leases[lease][0], self.now_s + ttl_s
        return self.look(deployment, lease)

    def look(self, deployment: str, lease: str) -> LeaseState:
        fault, until_s = self.leases[lease]
        state = State.ON if until_s > self.now_s else State.EXPIRED
        evidence = {"since": {"pieces_delayed": 10, "held_ms": 10.0 * fault.delay_ms}}
        return LeaseState(lease=lease, state=state, evidence=evidence)

    def end(self, deployment: str, lease: str) -> LeaseState:
        if len(self.leases) == self.interrupt_at:
            self.interrupt_at = -1
            raise KeyboardInterrupt
        self._answer("end")
        del self.leases[lease]
        return LeaseState(lease=lease, state=State.UNDONE)

    def close(self) -> None:
        self.open -= 1

    def _answer(self, call: str) -> None:
        if call in self.deaf_to:
            raise CloudError(f"no answer to {call}", definite=False)


def test_all_wires_are_as_long_as_asked_for_and_then_as_before() -> None:
    cloud = Cloud()
    distance = cloud.distance()
    for one_way_ms in (25, 0, 50):
        distance.stretch(SHOP, WIRES, one_way_ms)
        assert cloud.on() == dict.fromkeys(WIRES, one_way_ms)
        assert (distance.seen().pieces, distance.seen().mean_ms) == (30, one_way_ms)
    distance.close()
    distance.close()
    assert cloud.on() == {}
    assert cloud.open == 0


def test_the_local_cloud_is_not_filled_with_leases() -> None:
    cloud = Cloud()
    distance = cloud.distance()
    for one_way_ms in range(12):
        distance.stretch(SHOP, WIRES, one_way_ms)
    assert len(cloud.names) == len(WIRES)


def test_two_sweeps_do_not_share_a_lease() -> None:
    cloud = Cloud()
    for _ in range(2):
        cloud.distance().stretch(SHOP, WIRES, 5)
    assert len(cloud.names) == 2 * len(WIRES)


def test_leases_are_renewed_in_time_and_not_more_often() -> None:
    cloud = Cloud()
    distance = cloud.distance()
    distance.stretch(SHOP, WIRES, 5)
    for _ in range(60):
        cloud.now_s += 1
        distance.renew()
        assert len(cloud.on()) == len(WIRES)
    assert cloud.renewals == len(WIRES) * 60 / RENEW_S


def test_whoever_dies_leaves_nothing_for_longer_than_a_lease() -> None:
    cloud = Cloud()
    cloud.distance().stretch(SHOP, WIRES, 5)
    cloud.now_s += TTL_S
    assert cloud.on() == {}


def test_a_missed_renewal_is_made_up_for() -> None:
    cloud = Cloud()
    distance = cloud.distance()
    distance.stretch(SHOP, WIRES, 5)
    cloud.now_s += RENEW_S
    cloud.deaf_to = frozenset({"renew"})
    distance.renew()
    cloud.now_s += 1
    cloud.deaf_to = frozenset()
    distance.renew()
    assert cloud.renewals == len(WIRES)


@pytest.mark.parametrize(
    "meanwhile",
    [lambda cloud: None, lambda cloud: setattr(cloud, "deaf_to", frozenset({"renew"}))],
    ids=["expired", "nobody answers"],
)
def test_a_distance_that_did_not_last_is_trouble(meanwhile: Callable[[Cloud], None]) -> None:
    cloud = Cloud()
    distance = cloud.distance()
    distance.stretch(SHOP, WIRES, 5)
    cloud.now_s += TTL_S
    meanwhile(cloud)
    with pytest.raises(SuiteError, match="the distance did not last"):
        distance.renew()
    with pytest.raises(SuiteError, match="do not tell"):
        distance.seen()


def test_what_may_be_on_after_a_failed_put_is_undone() -> None:
    cloud = Cloud(deaf_to=frozenset({"put"}))
    distance = cloud.distance()
    with pytest.raises(SuiteError, match="wires cannot be 50 ms long: no answer to put"):
        distance.stretch(SHOP, WIRES, 50)
    assert len(cloud.on()) == 1
    distance.close()
    assert cloud.on() == {}


def test_an_undo_that_fails_is_said_and_does_not_keep_the_others() -> None:
    cloud = Cloud()
    distance = cloud.distance()
    distance.stretch(SHOP, WIRES, 5)
    cloud.deaf_to = frozenset({"end"})
    with pytest.raises(SuiteError, match=f"may still be longer, for {TTL_S:g} s"):
        distance.close()
    assert cloud.open == 0


def test_an_interrupted_undo_is_finished_by_close() -> None:
    cloud = Cloud()
    distance = cloud.distance()
    distance.stretch(SHOP, WIRES, 5)
    cloud.interrupt_at = 2
    with pytest.raises(KeyboardInterrupt):
        distance.stretch(SHOP, WIRES, 10)
    distance.close()
    assert cloud.on() == {}
