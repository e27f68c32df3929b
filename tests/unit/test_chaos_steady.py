"""All operations are looked at, each until two answers agree; what is not steady is named."""

from __future__ import annotations

from collections.abc import Callable

from chaos import steady
from stages.blast_radius import Impact, predict
from stages.catalogue import SYNC
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


def send(request: Request) -> Answer:
    return Answer(status=200, headers={}, body=b"")


def look(client, **more):
    return steady.look(SYNC, client, send, **more)


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
