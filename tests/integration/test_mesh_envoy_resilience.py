"""What do real Envoys do about a callee that fails, is slow, or comes in two versions?"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.local.mesh import envoy, envoyconf
from infra.local.mesh.testing import BRIEF, OK, Answer, App, Envoy, Rig, app_of, ask, wait_ms
from infra.local.testing import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(envoy.find_envoy() is None, reason="; ".join(envoy.problems())),
]


class Two:
    """storefront's sidecar -> inventory's sidecars, v1 and v2, without a gateway; and -> accounts, one attempt only."""

    def __init__(self, rig: Rig, disabled: tuple[str, ...] = ()) -> None:
        self.rig = rig
        self.apps: dict[str, App] = {"v1": rig.app(), "v2": rig.app()}
        self.callees = {v: rig.sidecar("inventory", app_of(app), version=v) for v, app in self.apps.items()}
        self.accounts = rig.app()
        side = rig.sidecar("accounts", app_of(self.accounts))
        known = {f"inventory_{v}": [e.address("inbound")] for v, e in self.callees.items()}
        self.known = {**known, "accounts_v1": [side.address("inbound")]}
        self.caller: Envoy = rig.sidecar("storefront", self.known, disabled=disabled)
        rig.ready()

    @property
    def v1(self) -> App:
        return self.apps["v1"]

    def call(self, method: str = "GET", path: str = "/stock/1", **headers: str) -> tuple[int, str]:
        """Status, and the attempts that it took."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        status, found, _ = ask(self.caller.ports["egress_inventory"], method, path, named)
        return status, found.get("x-envoy-attempt-count", "")

    def stat(self, name: str, cluster: str = "inventory_v1") -> int:
        return self.caller.stat(f"cluster.{cluster}.{name}")

    def calm(self) -> None:
        """Let every app be kind, and wait until nobody is ejected."""
        for app in (*self.apps.values(), self.accounts):
            app.behave = lambda method, path: OK
            app.seen.clear()
        for version in self.apps:
            name = f"inventory_{version}"
            until(lambda name=name: not self.stat("outlier_detection.ejections_active", name), "nobody is ejected")
        until(lambda: self.call()[0] == 200, "calls succeed")
        self.v1.seen.clear()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    with Rig(tmp_path_factory.mktemp("two"), BRIEF) as rig:
        yield Two(rig)


@pytest.fixture
def two(shared: Two) -> Two:
    shared.calm()
    return shared


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Rig(tmp_path, BRIEF) as rig:
        yield rig


def failing(status: int) -> Answer:
    return (status, {}, b"{}")


def every_second(bad: Answer) -> Iterator[Answer]:
    while True:
        yield bad
        yield OK


@pytest.mark.parametrize(
    ("method", "headers", "expected"),
    [
        ("GET", {}, (200, "2")),
        ("PUT", {}, (200, "2")),
        ("DELETE", {}, (200, "2")),
        ("POST", {"Idempotency_Key": "k"}, (200, "2")),
        ("POST", {}, (503, "1")),
    ],
)
def test_only_what_may_be_repeated_is(
    two: Two, method: str, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    answers = every_second(failing(503))
    two.v1.behave = lambda m, p: next(answers)
    assert two.call(method, **headers) == expected
    assert len(two.v1.seen) == int(expected[1])


def test_a_callee_with_one_attempt_gets_one(two: Two) -> None:
    two.accounts.behave = lambda m, p: failing(503)
    assert ask(two.caller.ports["egress_accounts"])[0] == 503
    assert len(two.accounts.seen) == 1


def test_attempts_and_the_whole_are_limited_in_time(two: Two) -> None:
    """400 ms an attempt, 900 ms in all."""
    two.v1.behave = lambda m, p: wait_ms(3000) or OK
    began = time.monotonic()
    status, headers, body = ask(two.caller.ports["egress_inventory"])
    passed = time.monotonic() - began
    assert (status, headers["x-envoy-attempt-count"], json.loads(body)["definite"]) == (504, "2", False)
    assert 0.8 <= passed < 1.5
    assert two.stat("upstream_rq_per_try_timeout") >= 1


def test_a_dead_service_is_ejected_and_comes_back(two: Two) -> None:
    """Its sidecar lives and says 502; after two in a row the caller asks no more until the ejection is over."""
    port = int(two.v1.address.rpartition(":")[2])
    total = two.stat("outlier_detection.ejections_enforced_total")
    two.v1.stop()
    try:
        status, headers, body = ask(two.caller.ports["egress_inventory"])
        assert (status, headers["content-type"]) == (502, "application/problem+json")
        assert json.loads(body) == {
            "type": "urn:shop:problem:dependency-unavailable",
            "title": "Another service is needed and does not answer",
            "status": 502,
            "detail": "mesh: UF",
            "definite": False,  # it was the second attempt: nobody here knows what the first one did
        }
        _, _, body = until(lambda: (a := ask(two.caller.ports["egress_inventory"]))[0] == 503 and a, "it is ejected")
        document = json.loads(body)
        assert (document["detail"], document["definite"]) == ("mesh: UH", True)
        assert two.stat("outlier_detection.ejections_enforced_total") > total
    finally:
        two.v1.start(port)
    until(lambda: two.call()[0] == 200, "it is asked again")
    kinds = [line["action"] for line in two.rig.lines("storefront-sidecar", "outliers")]
    assert {"EJECT", "UNEJECT"} <= set(kinds)


def test_a_slow_callee_is_ejected(two: Two) -> None:
    total = two.stat("outlier_detection.ejections_enforced_total")
    two.v1.behave = lambda m, p: wait_ms(1200) or OK
    assert two.call()[0] == 504
    until(lambda: two.call()[0] == 503, "it is ejected")
    assert two.stat("outlier_detection.ejections_enforced_total") > total


def test_a_service_that_says_no_is_not_ejected(two: Two) -> None:
    """Its 503 says that it lives: overloaded, or without its database. Neither is a 500 the callee's death."""
    total = two.stat("outlier_detection.ejections_enforced_total")
    for status in (503, 500, 409):
        two.v1.behave = lambda m, p, status=status: failing(status)  # type: ignore[misc]
        assert {two.call("POST")[0] for _ in range(6)} == {status}
    assert two.stat("outlier_detection.ejections_enforced_total") == total


def test_retries_have_a_budget(two: Two) -> None:
    """20 % of what is under way, but three at least: of 30 failing at once, most are not repeated."""
    two.v1.behave = lambda m, p: wait_ms(150) or failing(503)
    overflow = two.stat("upstream_rq_retry_overflow")
    with ThreadPoolExecutor(30) as pool:
        attempts = Counter(a for _, a in pool.map(lambda _: two.call(), range(30)))
    refused = two.stat("upstream_rq_retry_overflow") - overflow
    assert refused == attempts["1"] > 10
    assert attempts["2"] >= 3


def test_too_many_at_once_are_refused_at_once(two: Two) -> None:
    two.accounts.behave = lambda m, p: wait_ms(800) or OK
    overflow = two.stat("upstream_rq_active_overflow", "accounts_v1")

    def call(_: int) -> tuple[int, str | None, bool | None]:
        status, _headers, body = ask(two.caller.ports["egress_accounts"], "POST", "/accounts")
        document = json.loads(body)
        return status, document.get("detail"), document.get("definite")

    with ThreadPoolExecutor(60) as pool:
        seen = Counter(pool.map(call, range(60)))
    assert seen == {(200, None, None): 40, (503, "mesh: UO", True): 20}
    assert two.stat("upstream_rq_active_overflow", "accounts_v1") == overflow + 20


def test_calls_are_shared_between_versions_as_told_while_they_run(two: Two) -> None:
    member = two.rig.member("storefront")

    def share(percent: int, calls: int = 300) -> int:
        two.caller.write(envoyconf.routes(member, {"inventory": {"v2": percent}}))
        updates = "http.egress_inventory.rds.egress_inventory.update_success"
        until(lambda: two.caller.stat(updates) > seen[0], "the routes are read")
        seen[0] = two.caller.stat(updates)
        for app in two.apps.values():
            app.seen.clear()
        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(lambda _: two.call()[0], range(calls))) == {200}
        assert sum(len(app.seen) for app in two.apps.values()) == calls
        return len(two.apps["v2"].seen)

    seen = [two.caller.stat("http.egress_inventory.rds.egress_inventory.update_success")]
    try:
        ten = share(10)
        assert abs(ten - 30) < 4 * math.sqrt(300 * 0.1 * 0.9), ten
        assert share(100, 20) == 20
        lines = until(lambda: [x for x in two.rig.lines("storefront-sidecar") if x["version"] == "v2"], "logged")
        assert {line["edge"] for line in lines} == {"storefront-inventory"}
    finally:
        assert share(0, 20) == 0


def test_a_bad_canary_is_ejected_alone(two: Two) -> None:
    member = two.rig.member("storefront")
    two.caller.write(envoyconf.routes(member, {"inventory": {"v2": 50}}))
    two.apps["v2"].behave = lambda m, p: failing(502)
    try:
        until(
            lambda: two.call() and two.stat("outlier_detection.ejections_active", "inventory_v2"),
            "the canary is ejected",
        )
        assert two.stat("outlier_detection.ejections_active") == 0
    finally:
        two.caller.write(envoyconf.routes(member, {}))
    until(lambda: {two.call()[0] for _ in range(10)} == {200}, "all calls go to v1")


def test_connections_get_old_and_are_replaced_without_an_error(two: Two) -> None:
    before = two.stat("upstream_cx_max_duration_reached")
    statuses = Counter[int]()

    def replaced() -> bool:
        statuses[two.call()[0]] += 1
        return two.stat("upstream_cx_max_duration_reached") >= before + 5

    until(replaced, "five connections have reached their age of 300 ms")
    assert set(statuses) == {200}


def test_without_outlier_detection_nobody_is_ejected(rig: Rig) -> None:
    two = Two(rig, disabled=("outlier-detection",))
    two.v1.behave = lambda m, p: failing(502)
    assert {two.call()[0] for _ in range(6)} == {502}
    assert len(two.v1.seen) == 12, "every call was tried twice"


def test_an_endpoint_that_leaves_is_not_called_and_one_that_comes_is(two: Two) -> None:
    two.caller.write(two.caller.targets({k: v for k, v in two.known.items() if k != "inventory_v1"}))
    try:
        until(lambda: two.call()[0] == 503, "there is nobody to ask")
    finally:
        two.caller.write(two.caller.targets(two.known))
    until(lambda: two.call()[0] == 200, "it is there again")
