"""What chaos may rely on in whoever holds its faults: one suite, on the fake and on the real local cloud.

Every case starts from a deployment in which no fault is on, and leaves it so.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chaos import observe
from chaos.client import LocalCloud
from chaos.faults import (
    Bandwidth,
    Blackhole,
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
from chaos.lease import CloudError, State
from chaos.testing import serving

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
)
IDS = [f"{fault.kind}:{fault.target.split()[1]}" for fault in EVERY]

KILL = EVERY[0]


UP = """
import sys
from pathlib import Path
from infra.local.target import LocalTarget
from stages.catalogue import SYNC
print(LocalTarget(Path(sys.argv[1])).up(SYNC, name="shop", run_id="run-1", owner_pid=int(sys.argv[2])).control)
"""
DOWN = """
import sys
from pathlib import Path
from infra.local.target import LocalTarget
LocalTarget(Path(sys.argv[1])).down("shop")
"""


@pytest.fixture(scope="module", params=["fake", "real"])
def deployed(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """Control address and name of a deployment of stage sync."""
    with private_home() as home:
        if request.param == "fake":
            with serving(home) as fake:
                yield str(fake.control), fake.name
            return
        try:
            yield python(UP, home, os.getpid()).strip(), "shop"
        finally:
            python(DOWN, home)


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


@pytest.mark.parametrize("fault", EVERY, ids=IDS)
def test_a_fault_is_seen_from_outside_while_its_lease_is_on_and_not_after_its_undo(cloud, shop, fault) -> None:
    def bites() -> bool:
        cloud.renew(shop, "bite", 10)
        return observe.look(fault, cloud.live(shop).deployment).bites

    state = cloud.put(shop, "bite", fault, 10)
    assert (state.state, dict(state.fault)) == (State.ON, fault.spec())
    assert state.evidence
    eventually(bites, 15, f"{fault} shows")
    assert [held.lease for held in cloud.live(shop).faults] == ["bite"]
    assert cloud.end(shop, "bite").state is State.UNDONE
    assert cloud.live(shop).faults == ()
    assert not observe.look(fault, cloud.live(shop).deployment).bites


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
