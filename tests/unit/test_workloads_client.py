"""The shopper: what it asks for, what it learns, how it judges."""

from __future__ import annotations

import json
import random

import pytest

from workloads.api.storefront import HOME, catalogue_document, order_document
from workloads.client import OPERATIONS, Answer, NotReady, Request, Shopper, Trouble

PRODUCTS = [{"id": "p-01", "name": "Lamp", "price_cents": 999, "available": 5}]


def answer(document: object, status: int = 200, **headers: str) -> Answer:
    kind = "application/problem+json" if status >= 400 else "application/prs.hal-forms+json"
    return Answer(status=status, headers={"content-type": kind, **headers}, body=json.dumps(document).encode())


def order(number: int, state: str = "confirmed") -> dict[str, object]:
    return order_document({"id": f"o-{number}", "state": state, "product": "p-01", "quantity": 1, "amount_cents": 999})


def ready(seed: int = 7) -> Shopper:
    shopper = Shopper(random.Random(seed), "run")
    documents = {"home": HOME, "catalogue": catalogue_document(PRODUCTS, stale=False)}
    while requests := shopper.start():
        for request in requests:
            shopper.take(request, answer(documents[request.operation]))
    return shopper


def ask(shopper: Shopper, operation: str) -> Request:
    request = shopper.next(operation)
    assert isinstance(request, Request), request
    return request


def place(shopper: Shopper, number: int) -> None:
    shopper.take(ask(shopper, "place-order"), answer(order(number), 201))


def test_the_only_url_it_knows_is_the_root() -> None:
    shopper = Shopper(random.Random(7), "run")
    assert [request.path for request in shopper.start()] == ["/"]
    moved = json.loads(json.dumps(HOME).replace("/products", "/moved/wares"))
    shopper.take(shopper.start()[0], answer(moved))
    assert [request.path for request in shopper.start()] == ["/moved/wares"]


def test_nothing_can_be_asked_for_before_home_and_catalogue_are_known() -> None:
    shopper = Shopper(random.Random(7), "run")
    assert all(isinstance(shopper.next(operation), NotReady) for operation in OPERATIONS)


def test_every_operation_can_be_asked_for_once_an_order_exists() -> None:
    shopper = ready()
    assert isinstance(shopper.next("track-order"), NotReady)
    assert isinstance(shopper.next("cancel-order"), NotReady)
    place(shopper, 1)
    asked = {operation: ask(shopper, operation) for operation in OPERATIONS}
    assert {name: (request.method, request.path) for name, request in asked.items()} == {
        "browse": ("GET", "/products"),
        "register": ("POST", "/accounts"),
        "place-order": ("POST", "/orders"),
        "track-order": ("GET", "/orders/o-1"),
        "cancel-order": ("PUT", "/orders/o-1/cancellation"),
        "insights": ("GET", "/insights"),
    }


def test_an_unknown_operation_is_an_error_of_the_caller() -> None:
    with pytest.raises(KeyError):
        ready().next("steal")


def test_keys_are_unique_and_travel_with_what_writes() -> None:
    shopper = ready()
    requests = [ask(shopper, operation) for operation in ("browse", "place-order", "register") for _ in range(5)]
    assert len({request.key for request in requests}) == 15
    assert all(request.key.startswith("run-") for request in requests)
    assert all(request.headers.get("Idempotency-Key", request.key) == request.key for request in requests)
    assert all("Idempotency-Key" in request.headers for request in requests[5:])


def test_equal_seeds_ask_equally_and_others_do_not() -> None:
    bodies = [[ask(shopper, "place-order").body for _ in range(9)] for shopper in map(ready, (7, 7, 8))]
    assert bodies[0] == bodies[1] != bodies[2]


def test_only_what_the_form_asks_for_is_sent() -> None:
    body = ask(ready(), "place-order").body
    assert body is not None
    sent = json.loads(body)
    assert set(sent) == {"product", "quantity", "email"}
    assert sent["product"] == "p-01"
    assert 1 <= sent["quantity"] <= 3


def test_a_stale_answer_is_ok_but_degraded() -> None:
    shopper = ready()
    result = shopper.take(ask(shopper, "browse"), answer({}, warning='110 - "Response is Stale"'))
    assert (result.outcome, result.degraded) == ("ok", True)


@pytest.mark.parametrize(
    ("status", "document", "outcome", "error"),
    [
        (409, {"type": "urn:shop:problem:out-of-stock", "definite": True}, "fail", "out-of-stock"),
        (503, {"type": "urn:shop:problem:dependency-unavailable", "definite": True}, "fail", "dependency-unavailable"),
        (503, {"type": "urn:shop:problem:completion-pending", "definite": False}, "unknown", "completion-pending"),
        (409, {"type": "urn:shop:problem:request-in-progress", "definite": False}, "unknown", "request-in-progress"),
        (500, {}, "unknown", "status-500"),
        (404, {}, "fail", "status-404"),
        (503, ["not an object"], "unknown", "status-503"),
    ],
)
def test_an_error_is_definite_only_if_the_shop_says_so_or_it_is_the_clients(
    status: int, document: object, outcome: str, error: str
) -> None:
    shopper = ready()
    result = shopper.take(ask(shopper, "place-order"), answer(document, status))
    assert (result.outcome, result.error, result.status) == (outcome, error, status)


@pytest.mark.parametrize(("definite", "outcome"), [(True, "fail"), (False, "unknown")])
def test_without_an_answer_the_transport_decides(definite: bool, outcome: str) -> None:
    shopper = ready()
    result = shopper.take(ask(shopper, "place-order"), Trouble(kind="timeout", definite=definite))
    assert (result.outcome, result.error, result.status) == (outcome, "timeout", None)


def test_a_success_that_cannot_be_read_is_unknown() -> None:
    shopper = ready()
    for body in (b"", b"[]", b"{}", b"\xff", b'{"id": "o-1"}'):
        result = shopper.take(ask(shopper, "place-order"), Answer(status=201, headers={}, body=body))
        assert (result.outcome, result.error) == ("unknown", "unreadable-answer")


def test_each_order_is_cancelled_once_fresh_ones_first() -> None:
    shopper = ready()
    for number in (1, 2, 3):
        place(shopper, number)
    first = ask(shopper, "cancel-order")
    shopper.take(first, Trouble(kind="timeout", definite=False))
    asked = [first]
    for _ in range(3):
        request = ask(shopper, "cancel-order")
        shopper.take(request, answer(order(0, "cancelled")))
        asked.append(request)
    paths = [request.path for request in asked]
    assert paths == [f"/orders/o-{n}/cancellation" for n in (1, 2, 3, 1)]
    assert isinstance(shopper.next("cancel-order"), NotReady)


def test_an_order_whose_cancellation_surely_failed_is_as_good_as_new() -> None:
    shopper = ready()
    for number in (1, 2):
        place(shopper, number)
    shopper.take(ask(shopper, "cancel-order"), Trouble(kind="timeout", definite=False))
    shopper.take(ask(shopper, "cancel-order"), answer({"definite": True}, 503))
    assert ask(shopper, "cancel-order").path == "/orders/o-2/cancellation"


def test_of_the_orders_in_doubt_the_latest_is_tried_first() -> None:
    shopper = ready()
    for number in (1, 2):
        place(shopper, number)
        shopper.take(ask(shopper, "cancel-order"), Trouble(kind="timeout", definite=False))
    assert ask(shopper, "cancel-order").path == "/orders/o-2/cancellation"


def test_an_order_that_cannot_be_cancelled_is_not_tried_again() -> None:
    shopper = ready()
    place(shopper, 1)
    shopper.take(ask(shopper, "cancel-order"), answer({"definite": True}, 409))
    assert isinstance(shopper.next("cancel-order"), NotReady)


def test_an_order_accepted_for_later_is_followed_and_cancelled_as_any_other() -> None:
    shopper = ready()
    placed = shopper.take(ask(shopper, "place-order"), answer(order(1, "pending"), 202))
    assert (placed.outcome, placed.subject, shopper.cancellable) == ("ok", "o-1", 1)
    assert ask(shopper, "track-order").path == "/orders/o-1"
    cancelled = shopper.take(ask(shopper, "cancel-order"), answer(order(1, "cancelling"), 202))
    assert (cancelled.outcome, cancelled.subject) == ("ok", "o-1")
    assert isinstance(shopper.next("cancel-order"), NotReady)


@pytest.mark.parametrize("state", ["compensating", "rejected", "cancelling", "cancelled"])
def test_an_order_that_offers_no_cancel_form_is_only_followed(state: str) -> None:
    shopper = ready()
    assert shopper.take(ask(shopper, "place-order"), answer(order(1, state), 202)).outcome == "ok"
    assert ask(shopper, "track-order").path == "/orders/o-1"
    assert isinstance(shopper.next("cancel-order"), NotReady)


def test_results_name_the_order_they_are_about() -> None:
    shopper = ready()
    assert shopper.take(ask(shopper, "place-order"), answer(order(5), 201)).subject == "o-5"
    failed = shopper.take(ask(shopper, "place-order"), answer({"definite": True, "subject": "o-6"}, 503))
    assert failed.subject == "o-6"
