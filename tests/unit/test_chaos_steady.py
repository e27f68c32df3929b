"""All operations are looked at, each until two answers agree; what is not steady is named."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from chaos import steady
from stages.blast_radius import Impact, predict
from stages.catalogue import ASYNC, SYNC
from workloads.client import Answer, NotReady, Request, Result, Trouble

Script = Callable[[str, int], Result]
"""What the n-th request of an operation (from 1) comes to."""

OK = Result(outcome="ok", status=200)


class Client:
    """A shopper whose results are scripted."""

    def __init__(self, script: Script = lambda operation, n: OK, not_ready: frozenset[str] = frozenset()) -> None:
        self.script, self.not_ready = script, not_ready
        self.asked: list[str] = []

    def start(self) -> list[Request]:
        return []

    def next(self, operation: str) -> Request | NotReady:
        if operation in self.not_ready:
            return NotReady(reason="no order to track")
        self.asked.append(operation)
        return Request(operation=operation, method="GET", path="/", headers={}, body=None, key="k")

    def take(self, request: Request, answer: Answer | Trouble) -> Result:
        return self.script(request.operation, self.asked.count(request.operation))


DONE = {"place-order": "confirmed", "cancel-order": "cancelled"}


def send(request: Request) -> Answer:
    """A shop that answers once all is done."""
    body = json.dumps({"state": DONE.get(request.operation, ""), "_links": {"self": {"href": "/orders/1"}}})
    return Answer(status=200, headers={}, body=body.encode())


class Patient:
    """A shop that accepts first; an order's state is the next of `states` at each look, the last one for ever."""

    def __init__(self, *states: str) -> None:
        self.states = list(states)
        self.looks = 0

    def __call__(self, request: Request) -> Answer:
        if request.path == "/orders/1":
            self.looks += 1
        return self.document(self.states.pop(0) if len(self.states) > 1 else self.states[0])

    def document(self, state: str) -> Answer:
        body = {"state": state, "_links": {"self": {"href": "/orders/1"}}}
        return Answer(status=202, headers={}, body=json.dumps(body).encode())


def look(client, stage=SYNC, send=send, tried=lambda _: None, **more):
    return steady.look(stage, steady.Looker(client=client, send=send, tried=tried), **more)


def test_a_shop_that_works_is_steady_after_two_looks_at_each_operation() -> None:
    client = Client()
    seen = look(client)
    assert {name: (s["effect"], s["tries"]) for name, s in seen.items()} == {
        o.name: ("unaffected", steady.ORDERS if o.name == "place-order" else 2) for o in SYNC.operations
    }
    assert steady.not_steady(SYNC, seen, {}) == []
    assert client.asked[0] == "place-order"


def test_one_bad_answer_is_put_down_to_the_machine_two_in_a_row_are_not() -> None:
    once = look(Client(lambda operation, n: OK if n != 1 else Result(outcome="unknown", error="timeout")))
    assert steady.not_steady(SYNC, once, {}) == []
    always = look(Client(lambda operation, n: Result(outcome="fail", error="refused") if operation == "browse" else OK))
    assert always["browse"]["tries"] == steady.TRIES_MAX
    [finding] = steady.not_steady(SYNC, always, {})
    assert finding.startswith("browse is failing, at most unaffected was expected (tries=5, slowest_ms=")
    assert finding.endswith("error=refused)")


def test_every_operation_is_looked_at_even_if_all_fail() -> None:
    seen = look(Client(lambda operation, n: Result(outcome="unknown", error="timeout")))
    assert len(steady.not_steady(SYNC, seen, {})) == len(SYNC.operations)


def test_a_stale_answer_is_degraded_and_fine_only_where_it_is_predicted() -> None:
    seen = look(Client(lambda operation, n: Result(outcome="ok", degraded=operation == "browse")))
    assert seen["browse"]["effect"] == "degraded"
    assert len(steady.not_steady(SYNC, seen, {})) == 1
    assert steady.not_steady(SYNC, seen, predict(SYNC, Impact(down=frozenset({"inventory"})))) == []


def test_an_operation_that_cannot_be_tried_is_neither_steady_nor_not() -> None:
    seen = look(Client(not_ready=frozenset({"track-order"})))
    assert seen["track-order"] == {"effect": None, "tries": 0, "error": "no order to track"}
    assert steady.not_steady(SYNC, seen, {}) == []


def test_an_answer_after_its_slo_is_failing() -> None:
    request = Request(operation="browse", method="GET", path="/", headers={}, body=None, key="k")
    late = steady.Try(request=request, result=OK, started_ns=0, ended_ns=501_000_000)
    assert (late.effect(500), late.effect(502)) == ("failing", "unaffected")


def test_operations_to_skip_are_not_asked_for_and_every_request_is_told() -> None:
    told: list[steady.Try] = []
    client = Client()
    seen = look(client, skip=frozenset({"place-order", "cancel-order"}), tried=told.append)
    assert set(seen) == {"browse", "register", "track-order", "insights"}
    assert [one.request.operation for one in told] == client.asked


def test_a_shop_that_cannot_even_be_entered_fails_in_every_operation() -> None:
    class Shut(Client):
        def start(self) -> list[Request]:
            return [Request(operation="home", method="GET", path="/", headers={}, body=None, key="k")]

        def take(self, request: Request, answer: Answer | Trouble) -> Result:
            return Result(outcome="fail", error="refused")

    seen = look(Shut())
    assert {s["effect"] for s in seen.values()} == {"failing"}
    assert "cannot be read: refused" in seen["browse"]["error"]


ALL_BUT_ORDERS = frozenset(o.name for o in ASYNC.operations) - {"place-order"}


def test_an_accepted_order_is_unaffected_once_its_state_says_that_it_is_confirmed() -> None:
    shop = Patient(*["pending"] * (steady.ORDERS + 2), "confirmed")
    seen = look(Client(), ASYNC, shop, skip=ALL_BUT_ORDERS)["place-order"]
    assert (seen["effect"], seen["state"]) == ("unaffected", "confirmed")
    assert shop.looks > 0


def test_an_order_that_is_rejected_after_all_is_failing() -> None:
    seen = look(Client(), ASYNC, Patient("pending", "rejected"), skip=ALL_BUT_ORDERS)
    assert seen["place-order"]["effect"] == "failing"
    assert "state=rejected" in steady.not_steady(ASYNC, seen, {})[0]


def test_where_a_delay_is_predicted_nobody_waits_for_it() -> None:
    shop = Patient("pending")
    seen = look(Client(), ASYNC, shop, skip=ALL_BUT_ORDERS, unfollowed=frozenset({"place-order"}))
    assert seen["place-order"]["effect"] == "unaffected"
    assert "state" not in seen["place-order"]
    assert shop.looks == 0


def test_the_answer_is_written_down_before_anybody_waits_for_its_completion() -> None:
    shop = Patient("pending", "pending", "confirmed")
    looks: list[int] = []
    one = steady.try_once(
        steady.Looker(client=Client(), send=shop, tried=lambda _: looks.append(shop.looks)), "place-order", 1000
    )
    assert looks == [0]
    assert shop.looks > 0
    assert one.followed is not None
    assert one.effect(1000) == "unaffected"


def test_one_request_of_something_that_cannot_be_asked_for_is_an_error_with_the_reason() -> None:
    with pytest.raises(RuntimeError, match="track-order: no order to track"):
        steady.try_once(steady.Looker(client=Client(not_ready=frozenset({"track-order"})), send=send), "track-order")
