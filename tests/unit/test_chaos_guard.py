"""Nothing is injected that is not proven ours: each step of the staircase refuses with its reason."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from chaos import target
from chaos.faults import ClusterFreeze, DatabaseLocked, Kill, Latency, Pause, Refuse
from chaos.faults_broker import BrokerOutage, BrokerPoison, BrokerSlow, KillInFlight
from chaos.faults_mesh import Canary, GarbageConfig, GarbageDiscovery, Partition, RegistryOutage, RootRotation
from chaos.guard import Facts, Refused, check
from chaos.lease import CloudError, LeaseState, Live, State
from stages.deployment import Deployment, Instance, Part, Wire


@pytest.fixture
def home() -> Iterator[Path]:
    """A private directory with a short path and a listening socket in it."""
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{directory}/cloud.sock")
        yield Path(directory)


@pytest.fixture
def facts(home: Path) -> Facts:
    """Under which everything is fine."""
    record = Deployment(
        name="shop",
        run_id="run-1",
        stage="sync",
        target="local",
        control=str(home / "cloud.sock"),
        edge="http://127.0.0.1:1",
        directory=str(home),
        services={"payments": Instance(url="http://127.0.0.1:2", cluster="shop", pid=1, log="")},
        wires={"orders-payments": Wire(listen="127.0.0.1:3", caller="orders", callee="payments")},
    )
    return Facts(
        fault=Kill(service="payments"),
        lease="mine",
        record=record,
        live=lambda: Live(deployment=record, faults=()),
        uid=os.getuid(),
    )


def refusal(facts: Facts) -> str:
    with pytest.raises(Refused) as caught:
        check(facts)
    assert str(caught.value).startswith("not injecting: ")
    return caught.value.reason


def with_record(facts: Facts, **changes: object) -> Facts:
    """The record says something else; what runs is as it was."""
    return replace(facts, record=replace(facts.record, **changes))


def with_lease(facts: Facts, fault: object, lease: str = "theirs") -> Facts:
    held = LeaseState(lease=lease, state=State.ON, fault=fault)
    return replace(facts, live=lambda: Live(deployment=facts.record, faults=(held,)))


def test_what_is_ours_passes(facts: Facts) -> None:
    assert check(facts).deployment == facts.record


def test_a_fault_that_makes_no_sense_is_refused(facts: Facts) -> None:
    bad = Latency(wire="orders-payments", delay_ms=-1)
    assert "delay_ms=-1 must be at least 1" in refusal(replace(facts, fault=bad))


def test_a_target_without_support_is_refused(facts: Facts) -> None:
    assert "target 'aws' does not support kill" in refusal(with_record(facts, target="aws"))


def test_a_control_address_that_is_no_socket_is_refused(facts: Facts, home: Path) -> None:
    (home / "file").touch()
    assert "is not a unix socket" in refusal(with_record(facts, control=str(home / "file")))
    assert "could not be evaluated" in refusal(with_record(facts, control=str(home / "nothing")))


def test_a_socket_in_a_directory_that_others_can_enter_is_refused(facts: Facts, home: Path) -> None:
    home.chmod(0o755)
    assert "has mode 0755 and must have 0700" in refusal(facts)


def test_a_socket_of_somebody_else_is_refused(facts: Facts) -> None:
    assert "belongs to user" in refusal(replace(facts, uid=facts.uid + 1))


@pytest.mark.parametrize("address", ["http://10.0.0.7:80", "http://example.org", "nonsense"])
def test_an_address_off_this_machine_is_refused(facts: Facts, address: str) -> None:
    reason = refusal(with_record(facts, edge=address))
    assert "not this machine's loopback" in reason or "could not be evaluated" in reason


def test_a_target_that_cannot_be_asked_is_refused(facts: Facts) -> None:
    def live() -> Live:
        raise CloudError("nobody answers", definite=True)

    assert "cannot be asked what runs there: nobody answers" in refusal(replace(facts, live=live))


def test_the_record_of_another_run_is_refused(facts: Facts) -> None:
    assert "with run id 'run-0', but what runs is 'shop' with run id 'run-1'" in refusal(
        with_record(facts, run_id="run-0")
    )


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Kill(service="billing"), "no service 'billing'; it has payments"),
        (Refuse(wire="orders-billing"), "no wire 'orders-billing'; it has orders-payments"),
        (DatabaseLocked(database="payments"), "no database 'payments'; it has none"),
    ],
)
def test_an_unknown_target_is_refused(facts: Facts, fault, said: str) -> None:
    assert said in refusal(replace(facts, fault=fault))


BROKEN_BY = (
    BrokerOutage(broker="broker"),
    BrokerPoison(queue="payments-commands", count=1),
    KillInFlight(service="payments", wire="payments-broker", delay_ms=200),
)


def with_messages(facts: Facts, **live: object) -> Facts:
    """A stage that sends messages; `live` says what of the broker the target runs itself."""
    listening = {"payments-broker": Wire(listen="127.0.0.1:4", caller="payments", callee="broker")}
    record = replace(facts.record, stage="async", wires=listening)
    ours: dict[str, object] = {"brokers": frozenset({"broker"}), "queues": frozenset({"payments-commands"}), **live}
    return replace(facts, record=record, live=lambda: Live(deployment=record, faults=(), **ours))


@pytest.mark.parametrize("fault", BROKEN_BY, ids=lambda f: f.kind)
def test_a_broker_of_our_own_may_be_broken(facts: Facts, fault) -> None:
    check(replace(with_messages(facts), fault=fault))


@pytest.mark.parametrize("fault", BROKEN_BY[:2], ids=lambda f: f.kind)
def test_a_broker_that_somebody_else_runs_is_left_alone(facts: Facts, fault) -> None:
    kind, name = fault.target.split()
    reason = refusal(replace(with_messages(facts, brokers=frozenset(), queues=frozenset()), fault=fault))
    assert reason == f"deployment 'shop' has no {kind} {name!r} of its own; it has none"


def test_a_dead_letter_queue_is_no_place_for_a_fault(facts: Facts) -> None:
    there = with_messages(facts, queues=frozenset({"payments-commands", "payments-commands-dlq"}))
    fault = BrokerPoison(queue="payments-commands-dlq", count=1)
    assert "no queue 'payments-commands-dlq' of its own; it has payments-commands" in refusal(
        replace(there, fault=fault)
    )


def test_a_kill_in_flight_needs_its_wire_as_well(facts: Facts) -> None:
    there = with_messages(facts)
    fault = KillInFlight(service="payments", wire="orders-broker", delay_ms=200)
    assert "no wire 'orders-broker'; it has payments-broker" in refusal(replace(there, fault=fault))


@pytest.mark.parametrize(
    ("held", "wanted", "said"),
    [
        (BROKEN_BY[0], BrokerSlow(broker="broker", delay_ms=5), "already on analytics-events, broker, "),
        (BROKEN_BY[0], BROKEN_BY[1], "already on payments-commands"),
        (BROKEN_BY[1], BROKEN_BY[0], "already on payments-commands"),
        (BROKEN_BY[2], Latency(wire="payments-broker", delay_ms=5), "already on payments-broker"),
        (BROKEN_BY[2], Kill(service="payments"), "already on payments"),
    ],
)
def test_two_faults_of_one_broker_do_not_meet(facts: Facts, held, wanted, said: str) -> None:
    there = with_messages(facts)
    on = LeaseState(lease="theirs", state=State.ON, fault=held.spec())
    live = replace(there.live(), faults=(on,))
    assert said in refusal(replace(there, fault=wanted, live=lambda: live))


def with_a_mesh(facts: Facts, *, admin: str = "http://127.0.0.1:5", **live: object) -> Facts:
    """A stage with sidecars; `live` says what of registry and authority the target runs itself."""
    sidecar = Part(
        role="sidecar",
        of="payments",
        cluster="payments",
        version="v1",
        admin=admin,
        pid=1,
        log="",
        ports={"inbound": 6},
    )
    services = {
        "payments": Instance(url="http://127.0.0.1:2", cluster="payments", pid=1, log=""),
        "inventory": Instance(url="http://127.0.0.1:3", cluster="fulfilment", pid=1, log=""),
    }
    record = replace(facts.record, stage="mesh", services=services, parts={"payments-sidecar": sidecar})
    ours: dict[str, object] = {"registries": frozenset({"registry"}), "authorities": frozenset({"authority"}), **live}
    return replace(facts, record=record, live=lambda: Live(deployment=record, faults=(), **ours))


OF_MESH = (
    Kill(service="payments-sidecar"),
    GarbageConfig(service="payments-sidecar"),
    Canary(service="payments", share_percent=50),
    Partition(cluster="payments", from_="fulfilment"),
    Partition(cluster="payments"),
    RegistryOutage(registry="registry"),
    RootRotation(authority="authority"),
    ClusterFreeze(cluster="payments"),
    GarbageDiscovery(registry="registry"),
)


@pytest.mark.parametrize("fault", OF_MESH, ids=str)
def test_a_part_of_our_own_mesh_may_be_broken(facts: Facts, fault) -> None:
    check(replace(with_a_mesh(facts), fault=fault))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Kill(service="orders-sidecar"), "no service 'orders-sidecar'; it has inventory, payments, payments-sidecar"),
        (Partition(cluster="payments", from_="moon"), "no cluster 'moon'; it has fulfilment, payments"),
        (RegistryOutage(registry="dns"), "no registry 'dns'; it has registry"),
        (ClusterFreeze(cluster="moon"), "no cluster 'moon'; it has fulfilment, payments"),
        (GarbageDiscovery(registry="dns"), "no registry 'dns'; it has registry"),
        (RootRotation(authority="state"), "no authority 'state'; it has authority"),
    ],
    ids=str,
)
def test_an_unknown_part_of_a_mesh_is_refused(facts: Facts, fault, said: str) -> None:
    assert said in refusal(replace(with_a_mesh(facts), fault=fault))


def test_a_part_off_this_machine_is_refused(facts: Facts) -> None:
    far = replace(with_a_mesh(facts, admin="http://10.0.0.7:80"), fault=OF_MESH[0])
    assert "service payments-sidecar is at '10.0.0.7'" in refusal(far)


@pytest.mark.parametrize(
    ("held", "wanted", "said"),
    [
        (OF_MESH[6], OF_MESH[0], "already on payments-sidecar"),
        (OF_MESH[2], OF_MESH[0], "already on payments-sidecar"),
        (OF_MESH[7], OF_MESH[0], "already on payments-sidecar"),
        (OF_MESH[8], OF_MESH[5], "already on commerce-registry, engagement-registry"),
        (OF_MESH[4], OF_MESH[3], "already on fulfilment-payments-link, payments-fulfilment-link"),
    ],
    ids=str,
)
def test_two_faults_of_one_part_of_the_mesh_do_not_meet(facts: Facts, held, wanted, said: str) -> None:
    there = with_a_mesh(facts)
    live = replace(there.live(), faults=(LeaseState(lease="theirs", state=State.ON, fault=held.spec()),))
    assert said in refusal(replace(there, fault=wanted, live=lambda: live))


def test_a_place_that_another_fault_holds_is_refused(facts: Facts) -> None:
    assert "lease 'theirs' is already on payments" in refusal(with_lease(facts, Pause(service="payments").spec()))
    assert "already on payments" in refusal(with_lease(facts, {"kind": "cluster-outage", "cluster": "shop"}))


def test_a_fault_at_another_place_and_our_own_lease_do_not_stand_in_the_way(facts: Facts) -> None:
    check(with_lease(facts, Refuse(wire="orders-payments").spec()))
    check(with_lease(facts, Kill(service="payments").spec(), lease="mine"))


def test_a_lease_that_holds_something_unknown_is_refused(facts: Facts) -> None:
    assert "could not be evaluated" in refusal(with_lease(facts, {"kind": "meteorite"}))


def test_a_record_that_cannot_be_read_is_refused(home: Path) -> None:
    (home / "deployment.json").write_text("{}")
    for path in (home / "nothing.json", home / "deployment.json"):
        with pytest.raises(Refused, match=r"not injecting: deployment record .* cannot be read"):
            target.read(path)


def test_without_a_name_the_only_deployment_is_meant_and_none_is_refused(home: Path) -> None:
    with pytest.raises(Refused, match="no deployment runs in"):
        target.find("", home)
    (home / "deployments" / "shop").mkdir(parents=True)
    record = home / "deployments" / "shop" / "deployment.json"
    record.touch()
    assert target.find("", home) == target.find("shop", home) == record
