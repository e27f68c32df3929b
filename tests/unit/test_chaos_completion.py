"""An accepted order is followed by its own link, until it is done, can no longer be done, or is late."""

from __future__ import annotations

import json

import pytest

from chaos.completion import Followed, follow, within_ms
from stages.blast_radius import Effect
from stages.catalogue import ASYNC, COMPLETION_MS
from workloads.client import Answer, Request, Trouble


def document(state: str, status: int = 200) -> Answer:
    body = {"state": state, "_links": {"self": {"href": "/orders/7"}}}
    return Answer(status=status, headers={}, body=json.dumps(body).encode())


class Shop:
    """Answers each look with the next of `answers`, the last one for ever; time passes while one sleeps."""

    def __init__(self, *answers: Answer | Trouble) -> None:
        self.answers = list(answers)
        self.asked: list[Request] = []
        self.now_ms = 0.0

    def send(self, request: Request) -> Answer | Trouble:
        self.asked.append(request)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def sleep(self, seconds: float) -> None:
        self.now_ms += 1000 * seconds

    def follow(self, answer: Answer, operation: str = "place-order", limit_ms: float = 1000) -> Followed:
        return follow(
            operation,
            answer,
            self.send,
            started_ns=0,
            limit_ms=limit_ms,
            clock_ns=lambda: int(self.now_ms * 1e6),
            sleep=self.sleep,
        )


def test_an_answer_that_says_it_is_done_is_not_followed() -> None:
    shop = Shop(document("confirmed"))
    assert shop.follow(document("confirmed", 201)) == Followed(state="confirmed", after_ms=0, effect=Effect.UNAFFECTED)
    assert shop.asked == []


def test_an_accepted_order_is_looked_at_by_its_own_link_until_it_is_confirmed() -> None:
    shop = Shop(document("pending"), document("pending"), document("confirmed"))
    found = shop.follow(document("pending", 202))
    assert (found.state, found.effect) == ("confirmed", Effect.UNAFFECTED)
    assert {(r.method, r.path, r.operation) for r in shop.asked} == {("GET", "/orders/7", "track-order")}
    assert found.after_ms == shop.now_ms == 150


def test_an_order_that_is_not_done_in_time_is_delayed_and_no_longer_waited_for() -> None:
    found = Shop(document("pending")).follow(document("pending", 202), limit_ms=300)
    assert (found.state, found.effect) == ("pending", Effect.DELAYED)
    assert 300 < found.after_ms < 400


@pytest.mark.parametrize("state", ["rejected", "cancelled"])
def test_an_order_that_will_never_be_confirmed_is_failing_at_once(state: str) -> None:
    found = Shop(document("pending"), document(state)).follow(document("pending", 202))
    assert (found.state, found.effect) == (state, Effect.FAILING)


def test_a_cancellation_is_done_when_the_order_is_cancelled() -> None:
    shop = Shop(document("cancelling"), document("cancelled"))
    found = shop.follow(document("cancelling", 202), "cancel-order")
    assert (found.state, found.effect) == ("cancelled", Effect.UNAFFECTED)


@pytest.mark.parametrize(
    "noise", [Trouble(kind="timeout", definite=False), Answer(status=503, headers={}, body=b"{}"), document("x", 500)]
)
def test_a_look_that_fails_says_nothing_about_the_order(noise: Answer | Trouble) -> None:
    assert Shop(noise, document("confirmed")).follow(document("pending", 202)).effect is Effect.UNAFFECTED
    assert Shop(noise).follow(document("pending", 202)).state == "pending"


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"state": "pending"}'])
def test_a_document_without_a_link_or_a_state_ends_as_late_not_as_an_error(body: bytes) -> None:
    shop = Shop(Answer(status=200, headers={}, body=b"{}"))
    assert shop.follow(Answer(status=202, headers={}, body=body), limit_ms=100).effect is Effect.DELAYED


def test_users_see_the_completion_of_orders_and_of_their_cancellation_only() -> None:
    seen = {o.name: within_ms(o) for o in ASYNC.operations}
    assert {name: limit for name, limit in seen.items() if limit} == {
        "place-order": COMPLETION_MS,
        "cancel-order": COMPLETION_MS,
    }
