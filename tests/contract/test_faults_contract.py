"""What chaos may rely on in whoever holds its faults: one suite, on the fake and on the real local cloud.

Every case starts from a deployment in which no fault is on, and leaves it so. Faults of calls are tried on stage
sync, those of messages on stage async, those of sidecars and what is behind them on stage mesh.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chaos import edge, observe
from chaos.client import LocalCloud
from chaos.faults import (
    Bandwidth,
    Blackhole,
    ClusterFreeze,
    ClusterOutage,
    CpuStarve,
    DatabaseLocked,
    DatabaseSlow,
    Fault,
    Kill,
    Latency,
    Pause,
    Refuse,
    Reset,
)
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
from chaos.lease import CloudError, State
from chaos.parts import links, parts
from chaos.testing import serving
from infra.local.mesh.envoy import problems as envoy_problems
from stages.catalogue import ASYNC, MESH
from stages.messaging import messaging
from workloads.client import NotReady, Shopper

EVERY: tuple[Fault, ...] = (
    Kill(service="payments"),
    Pause(service="payments"),
    CpuStarve(service="email", share=0.02, period_ms=2000),
    Latency(wire="orders-payments", delay_ms=350),
    Latency(wire="storefront-analytics", delay_ms=10, jitter_ms=4, seed=1),
    Blackhole(wire="storefront-inventory"),
    Reset(wire="orders-email"),
    Refuse(wire="accounts-email"),
    Bandwidth(wire="storefront-inventory", bytes_per_s=1000),
    DatabaseLocked(database="payments"),
    DatabaseSlow(database="inventory", hold_ms=60, every_ms=600),
    ClusterOutage(cluster="shop"),
    ClusterFreeze(cluster="shop"),
)
OF_MESSAGES: tuple[Fault, ...] = (
    BrokerOutage(broker="broker"),
    BrokerSlow(broker="broker", delay_ms=300),
    BrokerThrottle(broker="broker", share=0.3),
    BrokerDuplicate(broker="broker", share=0.5),
    BrokerPoison(queue="payments-commands", count=1),
    KillInFlight(service="payments", wire="payments-broker", delay_ms=200),
    Latency(wire="orders-broker", delay_ms=100),
)

OF_MESH: tuple[Fault, ...] = (
    Kill(service="inventory-sidecar"),
    Kill(service="fulfilment-gateway"),
    Pause(service="fulfilment-control"),
    Blackhole(wire="storefront-inventory"),
    Reset(wire="storefront-inventory"),
    Refuse(wire="storefront-inventory"),
    Bandwidth(wire="storefront-inventory", bytes_per_s=1000),
    Latency(wire="storefront-analytics", delay_ms=100, jitter_ms=40, seed=1),
    KillInFlight(service="payments", wire="payments-broker", delay_ms=200),
    Partition(cluster="commerce", from_="fulfilment"),
    Partition(cluster="payments"),
    RegistryOutage(registry="registry"),
    GarbageDiscovery(registry="registry"),
    CertificateExpired(service="inventory"),
    GarbageConfig(service="storefront-sidecar"),
    Canary(service="inventory", share_percent=50),
    RootRotation(authority="authority"),
    ClusterOutage(cluster="payments"),
    ClusterFreeze(cluster="fulfilment"),
)

KILL = EVERY[0]


def named(fault: Fault) -> str:
    return f"{fault.kind}:{fault.target.split()[1]}"


UP = """
import sys
from pathlib import Path
from infra.local.target import LocalTarget
from stages.catalogue import STAGES
target, stage = LocalTarget(Path(sys.argv[1])), STAGES[sys.argv[3]]
print(target.up(stage, name="shop", run_id="run-1", owner_pid=int(sys.argv[2])).control)
"""
DOWN = """
import sys
from pathlib import Path
from infra.local.target import LocalTarget
LocalTarget(Path(sys.argv[1])).down("shop")
"""


@contextmanager
def deploying(kind: str, stage: str) -> Iterator[tuple[str, str]]:
    """Control address and name of a deployment."""
    with private_home() as home:
        if kind == "fake":
            with serving(home, stage=stage) as fake:
                yield str(fake.control), fake.name
            return
        try:
            yield python(UP, home, os.getpid(), stage).strip(), "shop"
        finally:
            python(DOWN, home)


@pytest.fixture(scope="module", params=["fake", "real"])
def deployed(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """One of stage sync."""
    with deploying(request.param, "sync") as found:
        yield found


@pytest.fixture(scope="module", params=["fake", "real"])
def deployed_async(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    with deploying(request.param, "async") as found:
        yield found


@pytest.fixture(scope="module", params=["fake", "real"])
def deployed_mesh(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    if request.param == "real" and (problems := envoy_problems()):
        pytest.skip("; ".join(problems))
    with deploying(request.param, "mesh") as found:
        yield found


@pytest.fixture
def mesh(deployed_mesh: tuple[str, str]) -> Iterator[LocalCloud]:
    """The cloud of a deployment 'shop' of stage mesh in which nothing is broken."""
    with LocalCloud(deployed_mesh[0]) as client:
        assert client.live("shop").faults == ()
        yield client
        for held in client.live("shop").faults:
            client.end("shop", held.lease)


@pytest.fixture
def broker(deployed_async: tuple[str, str]) -> Iterator[LocalCloud]:
    """The cloud of a deployment 'shop' of stage async in which nothing is broken."""
    with LocalCloud(deployed_async[0]) as client:
        assert client.live("shop").faults == ()
        yield client
        for held in client.live("shop").faults:
            client.end("shop", held.lease)


def python(code: str, *arguments: object) -> str:
    """Run it in a process of its own, as the one that deploys always is; return what it printed."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def cloud(deployed: tuple[str, str]) -> Iterator[LocalCloud]:
    with LocalCloud(deployed[0]) as client:
        yield client


@pytest.fixture
def shop(deployed: tuple[str, str], cloud: LocalCloud) -> Iterator[str]:
    """Name of a deployment in which nothing is broken."""
    assert cloud.live(deployed[1]).faults == ()
    yield deployed[1]
    for held in cloud.live(deployed[1]).faults:
        cloud.end(deployed[1], held.lease)


@contextmanager
def private_home() -> Iterator[Path]:
    """Of the local cloud's state; short, for the paths of unix sockets are limited."""
    with tempfile.TemporaryDirectory(prefix="c-") as directory:
        yield Path(directory)


def eventually(check: Callable[[], object], within_s: float, why: str) -> None:
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline, f"not within {within_s} s: {why}"
        time.sleep(0.02)


@pytest.mark.parametrize("fault", EVERY, ids=named)
def test_a_fault_is_seen_from_outside_while_its_lease_is_on_and_not_after_its_undo(cloud, shop, fault) -> None:
    is_seen_while_it_is_on(cloud, shop, fault)


@pytest.mark.parametrize("fault", OF_MESSAGES, ids=named)
def test_a_fault_of_messages_is_seen_while_its_lease_is_on_and_not_after_its_undo(broker, fault) -> None:
    is_seen_while_it_is_on(broker, "shop", fault)


@pytest.mark.parametrize("fault", OF_MESH, ids=named)
def test_a_fault_of_the_mesh_is_seen_while_its_lease_is_on_and_not_after_its_undo(mesh, fault) -> None:
    is_seen_while_it_is_on(mesh, "shop", fault)


def is_seen_while_it_is_on(cloud: LocalCloud, shop: str, fault: Fault) -> None:
    def bites() -> bool:
        state = cloud.renew(shop, "bite", 10)
        deployment = cloud.live(shop).deployment
        if fault.needs_traffic:
            make_a_request(deployment.edge, fault.needs_traffic)
        return observe.look(fault, deployment, state.evidence).bites

    state = cloud.put(shop, "bite", fault, 10 + fault.slow_s)
    assert (state.state, dict(state.fault)) == (State.ON, fault.spec())
    assert state.evidence
    eventually(bites, 15 + fault.slow_s, f"{fault} shows")
    assert [held.lease for held in cloud.live(shop).faults] == ["bite"]
    assert cloud.end(shop, "bite").state is State.UNDONE
    assert cloud.live(shop).faults == ()
    assert not observe.look(fault, cloud.live(shop).deployment).bites


def make_a_request(address: str, operation: str) -> None:
    """If there is a shop: the fake has toys instead, and says of itself that its faults bite."""
    name = f"contract-{time.monotonic_ns()}"
    shopper = Shopper(random.Random(name), name)
    with edge.sending(address) as send:
        for _ in range(3):
            for request in shopper.start():
                shopper.take(request, send(request))
        request = shopper.next(operation)
        if not isinstance(request, NotReady):
            shopper.take(request, send(request))


def test_every_queue_of_the_stage_says_how_deep_it_is_and_an_unknown_one_is_not_found(broker) -> None:
    for queue in messaging(ASYNC).queues:
        assert broker.depth("shop", queue.name) >= 0
        assert broker.depth("shop", queue.dead_letters) >= 0
    with pytest.raises(CloudError) as caught:
        broker.depth("shop", "nobodys")
    assert (caught.value.definite, caught.value.status) == (True, 404)


def test_a_broker_and_its_queues_are_known_as_our_own(broker) -> None:
    live = broker.live("shop")
    assert live.brokers == {"broker"}
    assert live.queues == {name for q in messaging(ASYNC).queues for name in (q.name, q.dead_letters)}


@pytest.mark.parametrize(
    "fault",
    [
        BrokerOutage(broker="rabbit"),
        BrokerPoison(queue="nobodys", count=1),
        KillInFlight(service="payments", wire="nobodys", delay_ms=200),
    ],
    ids=named,
)
def test_an_unknown_target_of_messages_is_refused_and_nothing_happens(broker, fault) -> None:
    with pytest.raises(CloudError) as caught:
        broker.put("shop", "lost", fault, 10)
    assert (caught.value.definite, caught.value.status) == (True, 409)
    assert broker.live("shop").faults == ()


def test_a_registry_and_an_authority_are_known_as_our_own(mesh) -> None:
    live = mesh.live("shop")
    assert (live.registries, live.authorities) == ({"registry"}, {"authority"})


def test_the_record_names_every_part_of_the_mesh_and_every_link(mesh) -> None:
    deployment = mesh.live("shop").deployment
    assert {*deployment.parts} == {*parts(MESH)}
    assert {name for name in deployment.wires if name in links(MESH)} == {*links(MESH)}
    sidecars = [part for part in deployment.parts.values() if part.role == "sidecar"]
    assert {part.of for part in sidecars} == {s.name for s in MESH.services}
    assert all("inbound" in part.ports for part in sidecars)


@pytest.mark.parametrize(
    "fault",
    [
        Kill(service="billing-sidecar"),
        Partition(cluster="commerce", from_="moon"),
        RegistryOutage(registry="dns"),
        GarbageDiscovery(registry="dns"),
        ClusterFreeze(cluster="moon"),
        RootRotation(authority="state"),
        Canary(service="billing", share_percent=50),
    ],
    ids=named,
)
def test_an_unknown_part_of_the_mesh_is_refused_and_nothing_happens(mesh, fault) -> None:
    with pytest.raises(CloudError) as caught:
        mesh.put("shop", "lost", fault, 10)
    assert (caught.value.definite, caught.value.status) == (True, 409)
    assert mesh.live("shop").faults == ()


def test_injecting_twice_under_one_lease_is_injecting_once(cloud, shop) -> None:
    cloud.put(shop, "twice", KILL, 10)
    assert cloud.put(shop, "twice", KILL, 10).state is State.ON
    assert len(cloud.live(shop).faults) == 1
    assert cloud.end(shop, "twice").state is State.UNDONE
    assert cloud.live(shop).faults == ()


def test_undoing_is_idempotent_also_for_what_was_never_injected(cloud, shop) -> None:
    cloud.put(shop, "again", KILL, 10)
    assert {cloud.end(shop, "again").state for _ in range(2)} == {State.UNDONE}
    assert cloud.look(shop, "again").state is State.UNDONE
    assert cloud.end(shop, "never").state in {State.UNDONE, State.NONE}
    assert cloud.look(shop, "never").state is State.NONE


def test_a_lease_can_be_taken_again_after_its_undo(cloud, shop) -> None:
    for _ in range(2):
        assert cloud.put(shop, "anew", Refuse(wire="accounts-email"), 10).state is State.ON
        assert observe.look(Refuse(wire="accounts-email"), cloud.live(shop).deployment).bites
        assert cloud.end(shop, "anew").state is State.UNDONE


def test_a_lease_that_nobody_renews_expires_and_is_undone_by_its_holder(cloud, shop) -> None:
    cloud.put(shop, "forgotten", Refuse(wire="accounts-email"), 1)
    eventually(lambda: cloud.look(shop, "forgotten").state is State.EXPIRED, 5, "the lease of 1 s expires")
    assert cloud.live(shop).faults == ()
    assert cloud.renew(shop, "forgotten", 5).state is not State.ON


def test_a_renewed_lease_lives_on(cloud, shop) -> None:
    cloud.put(shop, "kept", Refuse(wire="accounts-email"), 1)
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        assert cloud.renew(shop, "kept", 1).state is State.ON
        time.sleep(0.2)
    assert cloud.end(shop, "kept").state is State.UNDONE


@pytest.mark.parametrize(
    "fault", [Kill(service="billing"), Refuse(wire="orders-billing"), ClusterOutage(cluster="moon")], ids=str
)
def test_an_unknown_target_is_refused_and_nothing_happens(cloud, shop, fault) -> None:
    with pytest.raises(CloudError) as caught:
        cloud.put(shop, "lost", fault, 10)
    assert (caught.value.definite, caught.value.status) == (True, 409)
    assert cloud.live(shop).faults == ()


def test_an_unknown_deployment_is_not_found(cloud) -> None:
    with pytest.raises(CloudError) as caught:
        cloud.live("nobody")
    assert (caught.value.definite, caught.value.status) == (True, 404)
