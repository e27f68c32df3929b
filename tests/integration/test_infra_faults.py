"""Does every kind of fault bite, show in its evidence, end with its lease, and leave no trace when undone?"""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.local.errors import Conflict, Invalid, NotFound
from infra.local.faultspec import KINDS
from infra.local.processes import identify, state_of
from infra.local.testing import CLUSTER, DATABASE, Shop, end, get, kill_daemon, local_cloud, until

FAULTS: dict[str, dict[str, Any]] = {
    "kill": {"service": "back"},
    "pause": {"service": "back"},
    "cpu-starve": {"service": "back", "share": 0.05, "period_ms": 200},
    "latency": {"wire": "front-back", "delay_ms": 150, "jitter_ms": 20, "seed": 1},
    "blackhole": {"wire": "front-back"},
    "reset": {"wire": "front-back"},
    "refuse": {"wire": "front-back"},
    "bandwidth": {"wire": "front-back", "bytes_per_s": 2000},
    "cluster-outage": {"cluster": CLUSTER},
    "cluster-freeze": {"cluster": CLUSTER},
    "database-locked": {"database": DATABASE},
    "database-slow": {"database": DATABASE, "hold_ms": 300, "every_ms": 350},
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with local_cloud(tmp_path_factory.mktemp("faults")) as cloud:
        yield Shop(cloud).up()


def _slow(address: tuple[str, int], path: str, at_least_s: float) -> bool:
    began = time.monotonic()
    return get(address, path)[0] == "200" and time.monotonic() - began >= at_least_s


def _bites(kind: str, address: tuple[str, int]) -> bool:
    """Whether a caller of `back` feels the fault."""
    checks: dict[str, Callable[[], bool]] = {
        "kill": lambda: get(address)[0] == "refused",
        "pause": lambda: get(address, timeout_s=0.3)[0] == "timeout",
        "cpu-starve": lambda: _slow(address, "/", 0.05),
        "latency": lambda: _slow(address, "/", 0.25),
        "blackhole": lambda: get(address, timeout_s=0.3)[0] == "timeout",
        "reset": lambda: get(address)[0] == "reset",
        "refuse": lambda: get(address)[0] == "refused",
        "bandwidth": lambda: _slow(address, "/big?bytes=1000", 0.3),
        "cluster-outage": lambda: get(address)[0] == "refused",
        "cluster-freeze": lambda: get(address, timeout_s=0.3)[0] == "timeout",
        "database-locked": lambda: get(address, "/db") == ("503", "database is locked"),
        "database-slow": lambda: get(address, "/db") == ("503", "database is locked"),
    }
    return checks[kind]()


def _well(address: tuple[str, int]) -> bool:
    began = time.monotonic()
    good = get(address)[0] == get(address, "/db")[0] == "200"
    return good and time.monotonic() - began < 0.25


def test_every_kind_of_fault_is_tested() -> None:
    """Those of messaging are tested beside the broker, those of a mesh beside that."""
    of_messaging = {name for name, kind in KINDS.items() if kind.target in ("broker", "queue") or kind.second == "wire"}
    of_mesh = {"partition", "registry-outage", "garbage-discovery", "certificate-expired", "garbage-config"}
    of_mesh |= {"root-rotation", "canary"}
    assert FAULTS.keys() | of_messaging | of_mesh == KINDS.keys()


@pytest.mark.parametrize("kind", FAULTS)
def test_fault_bites_is_seen_and_is_undone(shop: Shop, kind: str) -> None:
    address = shop.wire()
    until(lambda: _well(address), "the shop answers before the fault")
    assert shop.fault(kind, kind=kind, **FAULTS[kind])["state"] == "on"
    until(lambda: _bites(kind, address), f"{kind} bites")
    seen = until(lambda: shop.lease(kind)["evidence"]["seen"], f"{kind} is seen in the evidence")
    assert [f["lease"] for f in shop.cloud.get("/faults")] == [kind]
    assert shop.undo(kind)["state"] == "undone"
    # undo returns once the target is up: the very next requests are good
    assert get(address)[0] == "200", f"{kind}: {seen}"
    until(lambda: _well(address), f"{kind} has left no trace")
    assert shop.undo(kind)["state"] == "undone", "undoing twice is fine"
    assert shop.cloud.get("/faults") == []
    assert (shop.state("front"), shop.state("back")) == ("running", "running")


@pytest.mark.parametrize(
    "kind", ["kill", "pause", "cpu-starve", "latency", "refuse", "cluster-freeze", "database-locked"]
)
def test_fault_expires_when_nobody_renews_its_lease(shop: Shop, kind: str) -> None:
    address = shop.wire()
    name = f"{kind}-expiring"
    shop.fault(name, ttl_s=0.6, kind=kind, **FAULTS[kind])
    until(lambda: shop.lease(name)["state"] == "expired", f"{kind} expires")
    until(lambda: _well(address), f"the shop is well after {kind} expired")
    with pytest.raises(Conflict, match="is over: expired"):
        shop.cloud.post(shop.at(f"faults/{name}/renew"), {"ttl_s": 5})


def test_renewal_keeps_a_fault_on_past_its_first_time_to_live(shop: Shop) -> None:
    shop.fault("kept", ttl_s=1.5, kind="pause", service="back")
    until_s = time.monotonic() + 2.2
    while time.monotonic() < until_s:
        assert shop.cloud.post(shop.at("faults/kept/renew"), {"ttl_s": 1.5})["state"] == "on"
        time.sleep(0.1)  # the renewer's own period
    assert shop.state("back") == "paused"
    shop.undo("kept")
    assert shop.state("back") == "running"


@pytest.mark.parametrize("kind", ["pause", "latency", "cluster-freeze", "database-locked"])
def test_fault_ends_with_its_lease_although_the_daemon_is_dead(shop: Shop, kind: str) -> None:
    address = shop.wire()
    pid = shop.pid("back")
    shop.fault(f"{kind}-orphan", ttl_s=1.0, kind=kind, **FAULTS[kind])
    kill_daemon(shop.home)
    assert _bites(kind, address)
    until(lambda: _well(address), f"{kind} ends by itself")
    assert not shop.home.lock.read_text() or shop.pid("back") == pid, "the service itself was left alone"
    assert until(lambda: shop.lease(f"{kind}-orphan")["state"] in ("expired", "failed"), "the next daemon knows")


def test_a_kill_whose_daemon_died_is_undone_by_the_next_daemon_when_its_time_is_over(shop: Shop) -> None:
    address = shop.wire()
    shop.fault("orphan", ttl_s=1.0, kind="kill", service="back")
    kill_daemon(shop.home)
    assert get(address)[0] == "refused"
    until(lambda: shop.lease("orphan")["state"] == "expired", "the next daemon undoes it")
    assert _well(address)


@pytest.mark.parametrize("kind", ["pause", "cluster-freeze"])
def test_a_fault_whose_holder_was_killed_is_undone_and_called_failed(shop: Shop, kind: str) -> None:
    back, hollow = identify(shop.pid("back")), f"{kind}-hollow"
    shop.fault(hollow, kind=kind, **FAULTS[kind])
    assert state_of(back) == "T"
    state = (shop.home.deployment(shop.name) / "state.json").read_text()
    end(json.loads(state)["leases"][hollow]["holder"]["pid"])
    until(lambda: shop.lease(hollow)["state"] == "failed", "the daemon notices")
    assert shop.lease(hollow)["reason"] == "its holder died; undone"
    assert state_of(back) != "T"


def test_a_frozen_cluster_stands_still_as_a_whole_also_under_the_next_daemon(shop: Shop) -> None:
    processes = [identify(pid) for pid in (shop.pid("front"), shop.pid("back"), shop.host_pid(CLUSTER))]
    shop.fault("still", kind="cluster-freeze", cluster=CLUSTER)
    assert [state_of(process) for process in processes] == ["T"] * 3
    assert [shop.cloud.get(shop.at(f"clusters/{CLUSTER}"))["state"], shop.state("back")] == ["paused", "paused"]
    kill_daemon(shop.home)
    until(lambda: shop.lease("still")["evidence"]["seen"], "the next daemon sees it too")
    assert [state_of(process) for process in processes] == ["T"] * 3
    shop.undo("still")
    assert "T" not in [state_of(process) for process in processes]
    assert _well(shop.wire())


def test_a_wire_host_that_dies_comes_back_on_the_same_ports_without_its_faults(shop: Shop) -> None:
    address = shop.wire()
    shop.fault("lost", kind="refuse", wire="front-back")
    end(shop.host_pid("wire_host"))
    until(lambda: _well(address), "the wires are back on their ports")
    assert shop.lease("lost")["state"] == "failed"
    assert shop.wire() == address


def test_a_service_that_was_killed_by_others_stays_dead_and_says_how(shop: Shop) -> None:
    address = shop.wire()
    end(shop.pid("back"), signal.SIGKILL)
    until(lambda: shop.cloud.get(shop.at("services/back"))["ended"], "the cloud notices")
    assert (shop.state("back"), shop.cloud.get(shop.at("services/back"))["ended"]) == (
        "exited",
        "was ended by SIGKILL",
    )
    assert until(lambda: get(address)[0] == "refused", "its wire refuses")
    shop.service("back", database=DATABASE)
    assert _well(address)


def test_a_killed_service_comes_back_on_its_port(shop: Shop) -> None:
    before = shop.cloud.get(shop.at("services/back"))
    shop.fault("death", kind="kill", service="back")
    assert shop.state("back") == "down-by-fault"
    shop.undo("death")
    after = shop.cloud.get(shop.at("services/back"))
    assert after["url"] == before["url"]
    assert after["pid"] != before["pid"]


def test_faults_on_unknown_or_busy_targets_are_refused_with_the_reason(shop: Shop) -> None:
    with pytest.raises(Conflict, match="there is no wire 'nowhere'"):
        shop.fault("x", kind="refuse", wire="nowhere")
    with pytest.raises(Conflict, match="'nobody' of shop is unknown"):
        shop.fault("x", kind="kill", service="nobody")
    with pytest.raises(Invalid, match="jitter_ms is 9, must not exceed"):
        shop.fault("x", kind="latency", wire="front-back", delay_ms=3, jitter_ms=9)
    with pytest.raises(NotFound, match="there is no fault lease 'x'"):
        shop.lease("x")
    shop.fault("first", kind="pause", service="back")
    with pytest.raises(Conflict, match="under the fault first already"):
        shop.fault("second", kind="kill", service="back")
    with pytest.raises(Conflict, match="under the fault first already"):
        shop.fault("second", kind="cluster-outage", cluster=CLUSTER)
    with pytest.raises(Conflict, match="undo it first"):
        shop.service("back", database=DATABASE, restart=True)
    assert shop.cloud.delete("/faults") == {"healed": ["shop/first"], "left": []}


def test_heal_undoes_everything_everywhere_also_a_stop_nobody_confesses_to(shop: Shop) -> None:
    shop.fault("one", kind="kill", service="front")
    shop.fault("two", kind="latency", wire="front-back", delay_ms=500)
    end(shop.pid("back"), signal.SIGSTOP)
    until(lambda: shop.state("back") == "paused", "back is stopped")
    healed = shop.cloud.delete("/faults")
    assert healed == {"healed": ["shop/one", "shop/two", "shop/stop of service back"], "left": []}
    assert _well(shop.wire())
    assert _well(shop.wire("users-front")) or get(shop.wire("users-front"))[0] == "200"


def test_nothing_of_a_fault_stays_on_disk(shop: Shop) -> None:
    assert list(Path(shop.home.deployment(shop.name) / "leases").iterdir()) == []


def test_the_address_of_a_dead_service_refuses_and_cannot_be_taken(shop: Shop) -> None:
    url = shop.cloud.get(shop.at("services/back"))["url"]
    port = int(url.rpartition(":")[2])
    shop.fault("vacant", kind="kill", service="back")
    until(lambda: not _can_bind(port), "the port is kept")
    assert get(("127.0.0.1", port))[0] == "refused"
    shop.undo("vacant")


def _can_bind(port: int) -> bool:
    with socket.socket() as thief:
        try:
            thief.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
