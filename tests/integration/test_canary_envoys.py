"""A canary beside the old version, dealt by real Envoys and judged by what their access logs say."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.local.mesh import envoy, envoyconf
from infra.local.mesh.envoyconf import APP
from infra.local.mesh.testing import OK, Answer, Rig, app_of, ask, wait_ms
from stages.check import Outstanding
from stages.deployment import Deployment
from stages.mesh import CANARY
from suite.adapters import MonotonicClock
from suite.canary import CanaryTools, CanaryWishes, make_canary, run_canary
from suite.canary_calls import AccessLogs
from suite.signals_clock import take

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(envoy.find_envoy() is None, reason="; ".join(envoy.problems())),
]

RATE = 60.0


class Shop:
    """users -> storefront's sidecar -> storefront -> its sidecar -> inventory's two sidecars -> two versions of it."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.apps = {version: rig.app() for version in ("v1", CANARY)}
        sides = {v: rig.sidecar("inventory", app_of(app), version=v) for v, app in self.apps.items()}
        storefront = rig.app()
        storefront.behave = self._browse
        known = {f"inventory_{v}": [side.address("inbound")] for v, side in sides.items()}
        self.edge = rig.sidecar("storefront", {**known, APP: [storefront.address]})
        rig.ready()
        self.promoted = False

    def _browse(self, method: str, path: str) -> Answer:
        status, _, _ = ask(self.edge.ports["egress_inventory"], "GET", path)
        return OK if status == 200 else (503, {}, b"{}")

    def _share(self, percent: int) -> None:
        self.edge.write(envoyconf.routes(self.rig.member("storefront"), {"inventory": {CANARY: percent}}))

    # what `stages canary` asks of a target

    def start(self, deployment: Deployment, service: str, share_percent: int, defect: str) -> None:
        rng = random.Random(2)

        def behave(method: str, path: str) -> Answer:
            if defect == "slow":
                wait_ms(600)
            return (500, {}, b"{}") if defect == "failing" and rng.random() < 0.5 else OK

        self.apps[CANARY].behave = behave
        self._share(share_percent)

    def promote(self, deployment: Deployment, service: str) -> None:
        self.promoted = True
        self._share(100)

    def take_away(self, deployment: Deployment, service: str) -> None:
        if not self.promoted:
            self._share(0)


class Users:
    """As many as are asked for, at random times; enough of a load generator for this."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.answers: Counter[str] = Counter()
        """What they got, by status or by the name of what went wrong."""
        self._ended = threading.Event()
        self._pool = ThreadPoolExecutor(32)
        self._arriving = threading.Thread(target=self._arrive)

    def start(
        self, deployment: Deployment, *, run_id: str, rate: float, seed: int, mix: Mapping[str, int]
    ) -> list[Path]:
        self._arriving.start()
        return []

    def _arrive(self) -> None:
        rng = random.Random(1)
        due = time.monotonic()
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            self._pool.submit(self._ask)
            due += rng.expovariate(RATE)

    def _ask(self) -> None:
        try:
            status = str(ask(self._port, "GET", "/products")[0])
        except OSError as error:
            status = type(error).__name__
        self.answers[status] += 1

    def stop(self) -> None:
        if self._arriving.is_alive():
            self._ended.set()
            self._arriving.join()
            self._pool.shutdown()

    close = stop

    def mix(self, mix: Mapping[str, int]) -> None: ...

    def restock(self, orders: int) -> None: ...

    def phase(self, name: str) -> None: ...

    def outstanding(self) -> list[Outstanding]:
        return []


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with Rig(tmp_path_factory.mktemp("canary")) as rig:
        yield Shop(rig)


@pytest.mark.parametrize(
    ("candidate", "share", "outcome"),
    [("failing", 10, "rolled back"), ("slow", 10, "rolled back"), ("good", 50, "promoted")],
)
def test_envoys_deal_the_share_and_their_logs_decide(shop: Shop, candidate: str, share: int, outcome: str) -> None:
    deployment = Deployment(name="m", run_id="r", stage="mesh", target="local", control="", edge="", directory="")
    wishes = CanaryWishes(service="inventory", share_percent=share, candidate=candidate, rate=RATE, seconds=60)
    users = Users(shop.edge.ports["ingress"])
    tools = CanaryTools(
        candidates=shop,
        calls=lambda plan: AccessLogs(shop.rig.traces, plan.parts, take()),
        load=lambda: users,
        clock=MonotonicClock(),
        progress=lambda text: None,
        run_id="run",
    )
    content = run_canary(make_canary(wishes, deployment), tools).content
    assert content["outcome"] == outcome, (content, users.answers)
    assert content["share"]["verdict"] != "invalid", content
    assert content["users"]["verdict"] == "valid", content
    assert content["users"]["users"] > 100, content
    assert shop.promoted == (outcome == "promoted")
