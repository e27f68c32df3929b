"""Timeouts, retries and breakers around a call."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from workloads import deadline, problems
from workloads.ports import CallFailed, CallRefused
from workloads.problems import ProblemError
from workloads.resilience import OPENS_AFTER, STATES, AttemptFailed, Breaker, Guard
from workloads.settings import Peer, Settings
from workloads.telemetry import Telemetry

Attempt = Callable[[float | None], Awaitable[str]]


def script(*steps: Exception | str) -> tuple[Attempt, list[float | None]]:
    """An attempt that goes through some steps, and the time limits it was given; the last step repeats."""
    limits: list[float | None] = []

    async def attempt(limit_s: float | None) -> str:
        step = steps[min(len(limits), len(steps) - 1)]
        limits.append(limit_s)
        if isinstance(step, Exception):
            raise step
        return step

    return attempt, limits


def broken(reason: str = "broken", *, definite: bool = False, counts: bool = True, again: bool = True) -> AttemptFailed:
    return AttemptFailed(reason, definite=definite, counts=counts, again=again)


def guard(breaker: Breaker | None = None, *, attempts: int = 2, timeout_ms: int | None = 300) -> Guard:
    peer = Peer(url="http://x", attempts=attempts, timeout_ms=timeout_ms)
    return Guard("payments", peer, breaker, rng=random.Random(7), backoff_s=0.001)


def breaker(half_opens_after_s: float = 60, opens_after: int = OPENS_AFTER) -> tuple[Breaker, list[str]]:
    states: list[str] = []
    return Breaker("payments", lambda _callee, state: states.append(state), opens_after, half_opens_after_s), states


async def fails(job: Awaitable[object]) -> CallFailed:
    with pytest.raises(CallFailed) as caught:
        await job
    return caught.value


async def test_what_succeeds_is_not_repeated() -> None:
    attempt, limits = script("ok")
    assert await guard().run(attempt, repeatable=True) == "ok"
    assert limits == [0.3]


async def test_what_fails_is_repeated_as_often_as_the_peer_says() -> None:
    attempt, limits = script(broken(), "ok")
    assert await guard().run(attempt, repeatable=True) == "ok"
    attempt, limits = script(broken())
    await fails(guard(attempts=3).run(attempt, repeatable=True))
    assert len(limits) == 3


async def test_what_would_do_harm_twice_is_not_repeated() -> None:
    attempt, limits = script(broken())
    await fails(guard().run(attempt, repeatable=False))
    assert len(limits) == 1


async def test_what_is_not_worth_it_is_not_repeated() -> None:
    attempt, limits = script(broken(again=False))
    await fails(guard().run(attempt, repeatable=True))
    assert len(limits) == 1


async def test_a_refusal_is_an_answer_and_not_repeated() -> None:
    refusal = CallRefused("payments", ProblemError(problems.OUT_OF_STOCK, "none"), definite=True)
    attempt, limits = script(refusal)
    with pytest.raises(CallRefused) as caught:
        await guard().run(attempt, repeatable=True)
    assert caught.value.definite
    assert len(limits) == 1


async def test_a_refusal_after_an_attempt_in_doubt_is_not_definite() -> None:
    refusal = CallRefused("payments", ProblemError(problems.OUT_OF_STOCK, "none"), definite=True)
    attempt, _ = script(broken(definite=False), refusal)
    with pytest.raises(CallRefused) as caught:
        await guard().run(attempt, repeatable=True)
    assert not caught.value.definite


@pytest.mark.parametrize(("first", "second"), [(True, True), (True, False), (False, True), (False, False)])
async def test_a_call_is_definite_only_if_every_attempt_was(first: bool, second: bool) -> None:
    attempt, _ = script(broken(definite=first), broken(definite=second))
    error = await fails(guard().run(attempt, repeatable=True))
    assert error.definite == (first and second)
    assert error.kind is (problems.DEPENDENCY_UNAVAILABLE if first and second else problems.OUTCOME_UNKNOWN)


async def test_an_attempt_may_take_the_shorter_of_timeout_and_deadline() -> None:
    attempt, limits = script("ok")
    with deadline.within(0.1):
        await guard().run(attempt, repeatable=True)
    with deadline.within(9):
        await guard().run(attempt, repeatable=True)
    with deadline.within(None):
        await guard(timeout_ms=None).run(attempt, repeatable=True)
    assert limits[0] is not None
    assert 0.05 < limits[0] <= 0.1
    assert limits[1:] == [0.3, None]


async def test_nothing_is_sent_after_the_deadline() -> None:
    attempt, limits = script("ok")
    with deadline.within(-0.001):
        error = await fails(guard().run(attempt, repeatable=True))
    assert (error.reason, error.definite, limits) == ("deadline", True, [])


async def test_nothing_is_repeated_when_the_deadline_leaves_no_time_for_it() -> None:
    attempt, limits = script(broken())
    with deadline.within(0.0001):
        await fails(guard().run(attempt, repeatable=True))
    assert len(limits) <= 1


async def test_a_breaker_opens_after_consecutive_failures_and_then_nothing_is_sent() -> None:
    held, states = breaker()
    attempt, limits = script(broken())
    for _ in range(OPENS_AFTER):
        assert held.state == "closed"
        await fails(guard(held, attempts=1).run(attempt, repeatable=True))
    error = await fails(guard(held).run(attempt, repeatable=True))
    assert (held.state, states, len(limits)) == ("opened", ["opened"], OPENS_AFTER)
    assert (error.reason, error.definite) == ("breaker-open", True)


async def test_a_success_in_between_starts_the_count_again() -> None:
    held, _ = breaker(opens_after=3)
    attempt, _ = script(broken(), broken(), "ok", broken(), broken(), "ok")
    for _ in range(3):
        await asyncio.gather(guard(held).run(attempt, repeatable=True), return_exceptions=True)
    assert held.state == "closed"


async def test_what_says_that_the_callee_lives_does_not_count() -> None:
    held, _ = breaker(opens_after=2)
    attempt, _ = script(broken(counts=False))
    for _ in range(5):
        await fails(guard(held).run(attempt, repeatable=True))
    assert held.state == "closed"


async def test_a_caller_in_a_hurry_does_not_open_the_breaker() -> None:
    held, _ = breaker(opens_after=1)
    attempt, _ = script(broken("timeout"))
    with deadline.within(0.1):
        await fails(guard(held, attempts=1).run(attempt, repeatable=True))
    assert held.state == "closed"
    attempt, _ = script(broken("timeout"))
    await fails(guard(held, attempts=1).run(attempt, repeatable=True))
    assert held.state == "opened"


async def test_an_open_breaker_lets_one_call_try_and_closes_when_it_succeeds() -> None:
    held, states = breaker(half_opens_after_s=0, opens_after=1)
    attempt, _ = script(broken(), "ok")
    await fails(guard(held, attempts=1).run(attempt, repeatable=True))
    assert await guard(held).run(attempt, repeatable=True) == "ok"
    assert states == ["opened", "half-opened", "closed"]


async def test_a_trial_that_fails_is_not_repeated() -> None:
    held, states = breaker(half_opens_after_s=0, opens_after=1)
    attempt, limits = script(broken())
    await fails(guard(held, attempts=1).run(attempt, repeatable=True))
    await fails(guard(held, attempts=5).run(attempt, repeatable=True))
    assert len(limits) == 2
    assert states == ["opened", "half-opened", "opened"]


async def test_while_one_call_tries_the_others_are_kept_away() -> None:
    held, _ = breaker(half_opens_after_s=0, opens_after=1)
    attempt, _ = script(broken())
    await fails(guard(held, attempts=1).run(attempt, repeatable=True))
    answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    trial = asyncio.ensure_future(guard(held).run(lambda _limit_s: answer, repeatable=True))
    await asyncio.sleep(0)
    error = await fails(guard(held).run(attempt, repeatable=True))
    assert error.reason == "breaker-open"
    answer.set_result("ok")
    assert await trial == "ok"
    assert held.state == "closed"


async def test_the_late_failure_of_a_call_from_before_does_not_reopen_a_closed_breaker() -> None:
    held, states = breaker(half_opens_after_s=0, opens_after=1)
    late: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    old = asyncio.ensure_future(guard(held, attempts=1).run(lambda _limit_s: late, repeatable=True))
    await asyncio.sleep(0)
    attempt, _ = script(broken(), "ok")
    await fails(guard(held, attempts=1).run(attempt, repeatable=True))
    await guard(held).run(attempt, repeatable=True)
    late.set_exception(broken())
    await fails(old)
    assert states == ["opened", "half-opened", "closed"]


def test_the_gauge_knows_every_state() -> None:
    telemetry = Telemetry(Settings(service="orders"))
    telemetry.breaker_exists("payments")
    assert b'shop_breaker_state{callee="payments"} 0.0' in telemetry.exposition()
    for state, value in STATES.items():
        telemetry.breaker("payments", state)
        assert f'shop_breaker_state{{callee="payments"}} {value}.0'.encode() in telemetry.exposition()
    telemetry.close()
