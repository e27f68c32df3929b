"""A service that is a version among others: it says which, it may be bad on purpose, and it passes on who asked."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from workloads.settings import Peer
from workloads.testing_processes import ProcessShop, patience

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessShop]:
    with ProcessShop(tmp_path_factory.mktemp("shop")) as shop:
        yield shop


class Sidecar:
    """Answers in a callee's place with one answer, and remembers what it was sent."""

    def __init__(self, status: int, document: object) -> None:
        self.seen: list[dict[str, str]] = []
        sidecar, body = self, json.dumps(document).encode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                sidecar.seen.append({k.lower(): v for k, v in self.headers.items()})
                self.send_response(status)
                self.send_header("Content-Type", "application/problem+json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def peer(self) -> Peer:
        return Peer(
            url=f"http://127.0.0.1:{self._server.server_address[1]}", timeout_ms=5000, attempts=1, breaker=False
        )

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def test_a_version_names_itself_and_a_defect_spares_the_probes(shop: ProcessShop) -> None:
    shop.start("inventory", version="v2", defect="failing")
    answers = [shop.ask("inventory", "GET", "/products") for _ in range(40)]
    assert {a.headers["x-version"] for a in answers} == {"v2"}
    assert {(a.status, a.problem) for a in answers} == {(200, ""), (500, "internal-error")}
    assert shop.metric("inventory", 'shop_version{version="v2"}') == 1.0
    assert {shop.ask("inventory", "GET", path).status for path in ("/ready", "/live", "/audit") * 5} == {200}
    shop.restart("inventory", version="v2", defect="slow")
    assert shop.ask("inventory", "GET", "/products", headers={"Deadline-Ms": "100"}).problem == "deadline-exceeded"
    assert '"version": "v2"' in shop.log("inventory")


def test_what_the_mesh_answers_reaches_the_user_with_the_id_of_the_request_that_met_it(shop: ProcessShop) -> None:
    document = {"type": "urn:shop:problem:dependency-unavailable", "status": 503, "detail": "mesh: UH"}
    sidecar = Sidecar(503, {**document, "title": "t", "definite": True})
    try:
        shop.start("storefront", peers={"analytics": sidecar.peer})
        trace = f"00-{random.Random(1).randbytes(16).hex()}-00f067aa0ba902b7-01"
        found = shop.ask("storefront", "GET", "/insights", headers={"X-Request-Id": "r-1", "traceparent": trace})
        assert (found.status, found.problem, found.json()["detail"]) == (503, "dependency-unavailable", "mesh: UH")
        (seen,) = sidecar.seen
        assert (seen["x-request-id"], seen["traceparent"].split("-")[1]) == ("r-1", trace.split("-")[1])
        shop.ask("storefront", "GET", "/insights")
        assert "x-request-id" not in sidecar.seen[1]
    finally:
        sidecar.close()


def test_figures_survive_the_death_of_analytics_where_the_deployment_says_so(shop: ProcessShop) -> None:
    shop.start("analytics", "cache")
    peers = shop.settings("storefront").peers
    shop.restart("storefront", peers={**peers, "analytics": replace(peers["analytics"], fallback="cache")})
    assert shop.ask("storefront", "GET", "/insights").json()["stale"] is False
    with patience(5, "the cache has no copy") as ticks:
        for _ in ticks:
            if shop.ask("cache", "GET", "/insights").status == 200:
                break
    shop.kill("analytics")
    stale = shop.ask("storefront", "GET", "/insights")
    assert (stale.status, stale.json()["stale"], stale.headers["warning"][:3]) == (200, True, "110")


def test_two_services_in_one_database_keep_their_audits_apart(shop: ProcessShop) -> None:
    shared = {"database_url": f"sqlite:///{shop.folder}/shared.db", "disabled": frozenset({"own-database"})}
    for name in ("payments", "shipping"):
        if name in shop.pids:
            shop.kill(name)
    shop.start("payments", **shared)
    shop.start("shipping", **shared)
    capture = {"order_id": "o-1", "amount_cents": 5}
    assert shop.ask("payments", "POST", "/captures", capture, key="k-1").status == 201
    assert [r["kind"] for r in shop.audit("payments")] == ["capture"]
    assert shop.audit("shipping") == []
