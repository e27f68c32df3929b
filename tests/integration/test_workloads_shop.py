"""The shop as nine real processes: what users, operators and checkers can count on."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from http.client import HTTPConnection
from itertools import count

import pytest

from workloads.client import OPERATIONS, Answer, Request, Result, Shopper
from workloads.settings import SERVICES, Settings
from workloads.testing_processes import DONE, ORDER, ProcessShop, Reply, free_ports, patience

pytestmark = pytest.mark.slow

_keys = count()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessShop]:
    with ProcessShop(tmp_path_factory.mktemp("shop"), traces=True) as shop:
        shop.start()
        yield shop


@pytest.fixture
def shop(running: ProcessShop) -> Iterator[ProcessShop]:
    """The running shop; what a test killed or changed is put back, with every breaker closed."""
    before = dict(running.pids)
    yield running
    changed = [name for name in SERVICES if running.pids.get(name) != before[name]]
    for name in changed:
        running.restart(name)
    for caller in ("storefront", "orders", "accounts"):
        if changed or not _breakers_closed(running, caller):
            running.restart(caller)


def _breakers_closed(shop: ProcessShop, caller: str) -> bool:
    lines = shop.ask(caller, "GET", "/metrics").body.decode().splitlines()
    return all(line.endswith(" 0.0") for line in lines if line.startswith("shop_breaker_state"))


def key() -> str:
    return f"test-{next(_keys)}"


def place(shop: ProcessShop, order_key: str | None = None, **changes: object) -> Reply:
    return shop.ask("storefront", "POST", "/orders", {**ORDER, **changes}, key=order_key or key())


def until_states(shop: ProcessShop, subject: str, expected: dict[str, str], seconds: float = 12) -> None:
    with patience(seconds, lambda: f"{subject} is {shop.states(subject)}, not {expected}") as ticks:
        for _ in ticks:
            if shop.states(subject) == expected:
                return


def on_hand(shop: ProcessShop) -> int:
    return sum(r["quantity"] for r in shop.audit("inventory") if r["kind"] == "stock")


def send(shop: ProcessShop, shopper: Shopper, request: Request) -> Result:
    reply = shop.ask("storefront", request.method, request.path, request.body, headers=request.headers)
    return shopper.take(request, Answer(status=reply.status, headers=reply.headers, body=reply.body))


def test_a_user_reaches_everything_by_links_from_the_root(shop: ProcessShop) -> None:
    shopper = Shopper(random.Random(7), f"links-{key()}")
    while requests := shopper.start():
        assert [send(shop, shopper, request).outcome for request in requests] == ["ok"]
    results = {}
    for operation in ("browse", "register", "place-order", "track-order", "cancel-order", "insights"):
        request = shopper.next(operation)
        assert isinstance(request, Request), request
        results[operation] = send(shop, shopper, request)
    assert set(results) == set(OPERATIONS)
    assert {result.outcome for result in results.values()} == {"ok"}, results


def test_a_confirmed_order_is_found_with_its_key_in_every_audit(shop: ProcessShop) -> None:
    before = on_hand(shop)
    order_key = key()
    reply = place(shop, order_key)
    assert reply.status == 201
    order = reply.json()
    assert reply.headers["location"] == f"/orders/{order['id']}"
    assert shop.states(order["id"]) == DONE
    assert on_hand(shop) == before - 2
    records = [r for name in SERVICES for r in shop.audit(name) if r["subject"] == order["id"]]
    assert {r["key"] for r in records} == {order_key}
    fields = {"service", "kind", "id", "subject", "key", "state", "quantity", "initial", "at_ns", "detail"}
    assert all(set(r) == fields for r in records)


def test_a_cancelled_order_gives_back_stock_and_money(shop: ProcessShop) -> None:
    before = on_hand(shop)
    order = place(shop).json()
    path = order["_templates"]["cancel"]["target"]
    for _ in range(2):
        reply = shop.ask("storefront", "PUT", path, {})
        assert (reply.status, reply.json()["state"]) == (200, "cancelled")
        assert "_templates" not in reply.json()
    undone = {"order": "cancelled", "reservation": "released", "capture": "refunded", "shipment": "cancelled"}
    assert shop.states(order["id"]) == {**DONE, **undone}
    assert on_hand(shop) == before


def test_a_repeated_key_is_answered_alike_and_takes_effect_once(shop: ProcessShop) -> None:
    order_key = key()
    before = on_hand(shop)
    replies = [place(shop, order_key) for _ in range(3)]
    assert {(reply.status, reply.body) for reply in replies} == {(201, replies[0].body)}
    assert on_hand(shop) == before - 2
    other = place(shop, order_key, quantity=1)
    assert (other.status, other.problem) == (422, "idempotency-key-reused")


def test_one_trace_spans_every_hop_of_an_order(shop: ProcessShop) -> None:
    trace_id = f"{random.Random(int(time.time())).getrandbits(128):032x}"
    headers = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
    assert shop.ask("storefront", "POST", "/orders", ORDER, key=key(), headers=headers).status == 201
    with patience(5, "no complete trace was written") as ticks:
        for _ in ticks:
            spans = [
                span
                for path in shop.folder.glob("*.traces.jsonl")
                for span in map(json.loads, path.read_text().splitlines())
                if span["trace_id"] == trace_id
            ]
            if len(spans) == 15:
                break
    by_id = {span["span_id"]: span for span in spans}
    assert {span["service"] for span in spans} == set(SERVICES) - {"accounts"}
    roots = [span for span in spans if span["parent_id"] not in by_id]
    assert [(root["service"], root["kind"], root["name"]) for root in roots] == [
        ("storefront", "server", "POST /orders")
    ]


MALFORMED = {
    "not JSON": (b"{", {}, 400, "malformed-request"),
    "not a number": (b'{"product":"p-01","quantity":NaN,"email":"a@b"}', {}, 400, "malformed-request"),
    "endless number": (b'{"quantity":' + b"9" * 5000 + b"}", {}, 400, "malformed-request"),
    "endless nesting": (b"[" * 9000, {}, 400, "malformed-request"),
    "broken UTF-8": (b'{"product":"\xff"}', {}, 400, "malformed-request"),
    "no body": (b"", {}, 422, "invalid-request"),
    "no object": (b"[]", {}, 422, "invalid-request"),
    "a text for a number": (b'{"product":"p-01","quantity":"2","email":"a@b"}', {}, 422, "invalid-request"),
    "too many": (b'{"product":"p-01","quantity":4,"email":"a@b"}', {}, 422, "invalid-request"),
    "a huge number": (b'{"product":"p-01","quantity":' + b"9" * 99 + b"}", {}, 422, "invalid-request"),
    "infinity": (b'{"product":"p-01","quantity":1e999,"email":"a@b"}', {}, 422, "invalid-request"),
    "a NUL byte": (b'{"product":"p\\u0000","quantity":1,"email":"a@b"}', {}, 422, "invalid-request"),
    "half a character": (b'{"product":"p-01","quantity":1,"email":"\\ud800@b"}', {}, 422, "invalid-request"),
    "unknown product": (b'{"product":"p-99","quantity":1,"email":"a@b"}', {}, 422, "unknown-product"),
    "too large": (b'"' + b"x" * 20_000 + b'"', {}, 413, "body-too-large"),
    "another type": (b"product=p-01", {"Content-Type": "text/plain"}, 415, "unsupported-media-type"),
    "no type": (b"{}", {"Content-Type": ""}, 415, "unsupported-media-type"),
    "a deadline that is none": (json.dumps(ORDER).encode(), {"Deadline-Ms": "soon"}, 400, "malformed-request"),
}


@pytest.mark.parametrize("service", ["storefront", "orders"])
@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_order_is_refused_and_leaves_nothing(shop: ProcessShop, service: str, name: str) -> None:
    body, headers, status, problem = MALFORMED[name]
    before = len(shop.audit("orders"))
    reply = shop.ask(service, "POST", "/orders", body, key=key(), headers=headers)
    assert (reply.status, reply.problem) == (status, problem), reply.body
    assert reply.json()["definite"] is True
    assert len(shop.audit("orders")) == before


@pytest.mark.parametrize("value", [None, "", "two words", "x" * 129, "caf\u00e9"])
def test_a_write_without_a_sound_key_is_refused(shop: ProcessShop, value: str | None) -> None:
    headers = {} if value is None else {"Idempotency-Key": value}
    for service, path, body in (
        ("storefront", "/orders", ORDER),
        ("payments", "/captures", {"order_id": "o-1", "amount_cents": 5}),
    ):
        reply = shop.ask(service, "POST", path, body, headers=headers)
        assert (reply.status, reply.problem) == (400, "idempotency-key-required")


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_describes_itself_and_refuses_what_it_does_not_know(shop: ProcessShop, service: str) -> None:
    paths = shop.ask(service, "GET", "/openapi.json").json()["paths"]
    assert {"/live", "/ready", "/metrics", "/audit"} < set(paths)
    for method, path, status, problem in (
        ("GET", "/nothing", 404, "not-found"),
        ("GET", "/%00", 404, "not-found"),
        ("PATCH", "/live", 405, "method-not-allowed"),
        ("DELETE", "/metrics", 405, "method-not-allowed"),
    ):
        reply = shop.ask(service, method, path)
        assert (reply.status, reply.problem) == (status, problem), (method, path, reply.body)


@pytest.mark.parametrize("order_id", ["%2e%2e", "o%00", "%ff", "x" * 65, "o-1%2Fcancellation"])
def test_an_identifier_that_is_none_goes_no_further(shop: ProcessShop, order_id: str) -> None:
    reply = shop.ask("storefront", "GET", f"/orders/{order_id}")
    assert reply.status in {404, 405, 422}
    assert reply.problem in {"not-found", "method-not-allowed", "invalid-request"}


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x00\x01\r\n\r\n",
        b"GET \xff HTTP/1.1\r\n\r\n",
        b"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"POST /orders HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_not_http_gets_a_problem_document_too(shop: ProcessShop, request_bytes: bytes) -> None:
    with socket.create_connection(("127.0.0.1", shop.ports["storefront"]), timeout=5) as connection:
        connection.sendall(request_bytes)
        answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answer
    assert b"urn:shop:problem:malformed-request" in answer


def test_work_whose_deadline_has_passed_is_not_begun(shop: ProcessShop) -> None:
    before = len(shop.audit("payments"))
    body = {"order_id": f"o-{key()}", "amount_cents": 5}
    reply = shop.ask("payments", "POST", "/captures", body, key=key(), headers={"Deadline-Ms": "0"})
    assert (reply.status, reply.problem, reply.json()["definite"]) == (504, "deadline-exceeded", True)
    assert len(shop.audit("payments")) == before


def test_an_order_whose_mail_fails_is_refused_at_once_and_undone_later(shop: ProcessShop) -> None:
    before = on_hand(shop)
    with shop.stopped("email"):
        reply = place(shop)
        assert (reply.status, reply.problem, reply.json()["definite"]) == (503, "dependency-unavailable", True)
        subject = reply.json()["subject"]
    until_states(
        shop,
        subject,
        {
            "order": "rejected",
            "reservation": "released",
            "capture": "refunded",
            "shipment": "cancelled",
            "mail": "retracted",
        },
    )
    assert on_hand(shop) == before


def test_a_registration_that_fails_is_taken_back(shop: ProcessShop) -> None:
    body = {"name": "Ann", "email": "ann@shop.example"}
    assert shop.ask("storefront", "POST", "/accounts", body, key=key()).status == 201
    with shop.stopped("analytics"):
        reply = shop.ask("storefront", "POST", "/accounts", body, key=key())
        assert (reply.status, reply.problem) == (503, "dependency-unavailable")
    until_states(shop, reply.json()["subject"], {"user": "rejected", "mail": "retracted", "event": "removed"})


def test_orders_killed_in_mid_saga_undoes_what_it_finds_when_it_comes_back(shop: ProcessShop) -> None:
    peers = shop.settings("orders").peers
    patient = {name: replace(peer, timeout_ms=8000) for name, peer in peers.items()}
    shop.restart("orders", peers=patient)
    before = on_hand(shop)
    known = {r["id"] for r in shop.audit("orders")}

    def order() -> None:
        with suppress(OSError):
            shop.ask("orders", "POST", "/orders", ORDER, key=key(), headers={"Deadline-Ms": "9000"})

    with shop.stopped("payments"):
        victim = threading.Thread(target=order)
        victim.start()
        with patience(5, "no pending order was seen") as ticks:
            for _ in ticks:
                pending = [r for r in shop.audit("orders") if r["id"] not in known and r["state"] == "pending"]
                if pending and on_hand(shop) < before:
                    break
        shop.kill("orders")
        victim.join()
    shop.start("orders")
    with patience(12, "the order was not undone") as ticks:
        for _ in ticks:
            if shop.states(pending[0]["id"]).get("order") == "rejected":
                break
    # once more: services are read one after the other, and this one's end came after the first were read
    states = shop.states(pending[0]["id"])
    assert states["reservation"] == "released"
    assert states["capture"] in {"refunded", "void"}
    assert states["shipment"] == "cancelled"
    assert on_hand(shop) == before


def test_a_breaker_opens_keeps_calls_away_and_closes_again(shop: ProcessShop) -> None:
    gauge = 'shop_breaker_state{callee="payments"}'
    assert shop.metric("orders", gauge) == 0
    shop.kill("payments")
    for _ in range(4):
        place(shop)
    assert shop.metric("orders", gauge) == 2
    asked = shop.metric("orders", 'shop_calls_total{callee="payments",result="refused"}')
    assert place(shop).problem == "dependency-unavailable"
    assert shop.metric("orders", 'shop_calls_total{callee="payments",result="refused"}') == asked, "not even tried"
    assert shop.metric("storefront", 'shop_breaker_state{callee="orders"}') == 0
    assert shop.ask("storefront", "GET", "/products").status == 200
    shop.start("payments")
    with patience(10, "no order came through after payments was back") as ticks:
        for _ in ticks:
            if place(shop).status == 201:
                break
    assert shop.metric("orders", gauge) == 0


def test_browsing_survives_inventory_with_a_stale_copy(shop: ProcessShop) -> None:
    assert "warning" not in shop.ask("storefront", "GET", "/products").headers
    with patience(5, "the catalogue was not copied to the cache") as ticks:
        for _ in ticks:
            if shop.ask("cache", "GET", "/catalogue").status == 200:
                break
    shop.kill("inventory")
    reply = shop.ask("storefront", "GET", "/products")
    assert (reply.status, reply.json()["stale"]) == (200, True)
    assert reply.headers["warning"].startswith("110 ")
    assert len(reply.json()["_embedded"]["products"]) == 20


def test_a_locked_database_is_a_quick_refusal_and_no_death(shop: ProcessShop) -> None:
    holder = sqlite3.connect(shop.folder / "payments.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        body = {"order_id": f"o-{key()}", "amount_cents": 5}
        reply = shop.ask("payments", "POST", "/captures", body, key=key())
        assert (reply.status, reply.problem, reply.json()["definite"]) == (503, "database-unavailable", True)
        assert shop.ask("payments", "GET", "/live").status == 200
        assert shop.ask("payments", "GET", "/audit").status == 503
    finally:
        holder.execute("ROLLBACK")
        holder.close()
    with patience(10, "payments did not recover from the lock") as ticks:
        for _ in ticks:
            if place(shop).status == 201:
                break


def test_a_full_service_refuses_further_requests_but_not_probes(shop: ProcessShop) -> None:
    shop.restart("orders", max_in_flight=1)
    with shop.stopped("payments"):
        first = threading.Thread(target=lambda: place(shop))
        first.start()
        with patience(5, "the first order is not at work") as ticks:
            for _ in ticks:
                if shop.metric("orders", "shop_in_flight") == 1:
                    break
        reply = shop.ask("orders", "GET", "/orders/o-none")
        assert (reply.status, reply.problem) == (503, "overloaded")
        assert shop.ask("orders", "GET", "/ready").status == 200
        first.join()


def test_a_rolling_restart_under_load_loses_no_request(shop: ProcessShop) -> None:
    (port,) = free_ports(1)
    old = shop.pids["orders"]
    load = _Load([shop.ports["orders"]])
    load.start()
    successor = shop.launch(shop.settings("orders", listen=f"127.0.0.1:{port}"))
    shop.wait_ready("orders", port)
    load.ports.insert(0, port)  # what a wire does: new connections go to the successor
    os.kill(old, signal.SIGTERM)
    with patience(5, "the draining instance still says it is ready") as ticks:
        for _ in ticks:
            if shop.ask("orders", "GET", "/ready").status == 503:
                break
    assert shop.wait(old) == 0
    load.stop()
    shop.pids["orders"] = successor
    shop.kill("orders")
    shop.start("orders")
    assert load.lost == []
    assert load.answered > 20


class _Load:
    """Users with a kept-alive connection each, who reconnect only when told to.

    Lost is a request that got no answer, or was turned away by orders itself; that a service behind it was too slow on
    a busy machine is an answer.
    """

    def __init__(self, ports: list[int]) -> None:
        self.ports = ports
        self.lost: list[str] = []
        self.answered = 0
        self._over = threading.Event()
        self._users = [threading.Thread(target=self._use) for _ in range(4)]

    def start(self) -> None:
        for user in self._users:
            user.start()

    def stop(self) -> None:
        self._over.set()
        for user in self._users:
            user.join()

    def _use(self) -> None:
        connection = HTTPConnection("127.0.0.1", self.ports[0], timeout=10)
        while not self._over.is_set():
            try:
                body = json.dumps(ORDER)
                headers = {"Content-Type": "application/json", "Idempotency-Key": key()}
                connection.request("POST", "/orders", body=body, headers=headers)
                answer = connection.getresponse()
                said = answer.read()
                if answer.status != 201 and b"dependency-unavailable" not in said:
                    self.lost.append(f"{answer.status} {said!r}")
                self.answered += 1
                if answer.getheader("connection") == "close":
                    connection.close()
                    connection = HTTPConnection("127.0.0.1", self.ports[0], timeout=10)
                self._over.wait(0.02)  # a user's own pace: the services share two cores with everything else
            except OSError as error:
                self.lost.append(repr(error))
                return
        connection.close()


def test_without_timeout_a_caller_is_stuck_as_long_as_its_callee(shop: ProcessShop) -> None:
    shop.restart("orders", disabled=frozenset({"timeout"}))
    with shop.stopped("payments"), pytest.raises(TimeoutError):
        shop.ask("orders", "POST", "/orders", ORDER, key=key(), timeout_s=2.5)


def test_without_breaker_a_dead_callee_is_called_again_and_again(shop: ProcessShop) -> None:
    shop.restart("orders", disabled=frozenset({"breaker"}))
    assert shop.metric("orders", 'shop_breaker_state{callee="payments"}') is None
    shop.kill("payments")
    for _ in range(5):
        assert place(shop).status == 503
    refused = shop.metric("orders", 'shop_calls_total{callee="payments",result="refused"}')
    assert refused is not None
    assert refused >= 10


def test_without_fallback_browsing_dies_with_inventory(shop: ProcessShop) -> None:
    shop.restart("storefront", disabled=frozenset({"fallback"}))
    assert shop.ask("storefront", "GET", "/products").status == 200
    shop.kill("inventory")
    reply = shop.ask("storefront", "GET", "/products")
    assert (reply.status, reply.problem) == (503, "dependency-unavailable")


def test_without_idempotency_a_repeated_capture_takes_the_money_twice(shop: ProcessShop) -> None:
    shop.restart("payments", disabled=frozenset({"idempotency"}))
    order_id, order_key = f"o-{key()}", key()
    for _ in range(2):
        body = {"order_id": order_id, "amount_cents": 5}
        assert shop.ask("payments", "POST", "/captures", body, key=order_key).status == 201
    shop.ask("payments", "PUT", f"/refunds/{order_id}", key=order_key)
    states = [r["state"] for r in shop.audit("payments") if r["subject"] == order_id]
    assert sorted(states) == ["captured", "refunded"]


def test_without_compensation_a_failed_order_keeps_the_money(shop: ProcessShop) -> None:
    shop.restart("orders", disabled=frozenset({"compensation"}))
    shop.kill("email")
    reply = place(shop)
    assert reply.problem == "dependency-unavailable"
    states = shop.states(reply.json()["subject"])
    assert (states["order"], states["capture"], states["reservation"]) == ("rejected", "captured", "reserved")


def test_bad_settings_end_at_once_with_everything_that_is_wrong() -> None:
    env = {**os.environ, "SHOP_LISTEN": "nowhere", "SHOP_MAX_IN_FLIGHT": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "workloads.services", "orders"], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 254
    assert "SHOP_LISTEN" in done.stderr
    assert "SHOP_MAX_IN_FLIGHT" in done.stderr
    assert "SHOP_DATABASE_URL" in done.stderr


def test_a_taken_port_is_named(shop: ProcessShop) -> None:
    taken = Settings(service="storefront", listen=f"127.0.0.1:{shop.ports['storefront']}")
    assert shop.wait(shop.launch(taken)) == 255
    assert f"cannot listen on {taken.listen}" in shop.log("storefront")
