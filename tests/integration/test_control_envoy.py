"""Does what a control plane does reach real Envoys, and do calls go on meanwhile?"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from infra.local.mesh import envoy, pki
from infra.local.mesh.testing_planes import Host, Plane, World
from infra.local.testing import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(envoy.find_envoy() is None, reason="; ".join(envoy.problems())),
]

REFUSED = "update_rejected|update_failure"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    host = Host(tmp_path_factory.mktemp("host"))
    world = World(host, tmp_path_factory.mktemp("world"))
    try:
        yield world.up().flesh()
    finally:
        world.close()
        host.close()


@contextlib.contextmanager
def calls(world: World) -> Iterator[list[int]]:
    """Storefront calls inventory all the while; afterwards the list holds every answer that was not good."""
    bad: list[int] = []
    done = threading.Event()

    def go_on() -> None:
        while not done.is_set():
            status = world.call()
            if status != 200:
                bad.append(status)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield bad
    finally:
        done.set()
        thread.join()


def test_a_registry_that_is_silent_and_then_forgets_everything_costs_no_call(world: World) -> None:
    with calls(world) as bad:
        world.registry.send(signal.SIGSTOP)
        until(lambda: not world.caller.status["registry_reachable"], "it is silent")
        world.registry.end()
        world.registry.start()
        until(lambda: world.caller.status["registry_reachable"], "it answers")
        until(lambda: not world.caller.status["refusals"], "and is told everything again", 15)
    assert bad == []


def test_a_new_root_costs_no_call(world: World) -> None:
    old, new = world.caller.root, pki.make_root("second", pki.utc_now())
    ends = ((world.caller, "storefront"), (world.callee, "inventory"))
    with calls(world) as bad:
        for issuing, trusted in ((old, (old, new)), (new, (old, new)), (new, (new,))):
            told = [pki.fingerprint(root.certificate) for root in trusted], pki.fingerprint(issuing.certificate)
            for plane, _ in ends:
                plane.trust(issuing, *trusted)
            for plane, service in ends:
                until(partial(_took, plane, service, told), f"{plane.cluster} has taken the step")
            aged = world.connections() + 2
            until(partial(_made, world, aged), "connections made before are gone", 20)
    assert bad == []
    for plane, service in ends:
        assert plane.serial(service) in world.certificates(f"{service}-sidecar")


def _took(plane: Plane, service: str, told: tuple[list[str], str]) -> bool:
    return (plane.status["trusted"], plane.root_of(service)) == told


def _made(world: World, connections: int) -> bool:
    return world.connections() >= connections


def test_garbage_is_refused_by_the_envoy_and_costs_no_call(world: World) -> None:
    before = world.stats("storefront-sidecar", REFUSED)
    with calls(world) as bad:
        world.caller.tell(afflictions={"l1": {"kind": "garbage-config", "service": "storefront-sidecar"}})
        until(lambda: world.stats("storefront-sidecar", REFUSED) > before, "Envoy refuses it")
        world.caller.tell(afflictions={})
        until(lambda: not world.caller.status["afflictions"], "it is over")
    assert bad == []


def test_an_expired_certificate_stops_calls_and_the_end_of_it_lets_them_through(world: World) -> None:
    world.callee.tell(afflictions={"l1": {"kind": "certificate-expired", "service": "inventory"}})
    until(lambda: world.call() == 503, "storefront does not speak with inventory any more")
    assert world.stats("storefront-sidecar", "inventory_v1.ssl.fail_verify_error") > 0
    world.callee.tell(afflictions={})
    until(lambda: world.call() == 200, "and does again")
