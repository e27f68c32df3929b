"""A fault stays as long as its lease is renewed; whoever holds one learns when it was lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from chaos.dry import DryRun
from chaos.faults import Kill
from chaos.lease import RENEW_S, TTL_S, CloudError, Lease, LeaseLost, LeaseState, State


class Clock:
    """Time that passes only while somebody sleeps; `meanwhile` is called at each sleep."""

    def __init__(self) -> None:
        self.now = 100.0
        self.meanwhile: Callable[[], None] = lambda: None

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 0.001)
        self.meanwhile()


class Cloud:
    """Says of every lease what it is told to say, and remembers what it was asked."""

    def __init__(self, state: State = State.ON) -> None:
        self.state = state
        self.asked: list[str] = []

    def live(self, deployment):
        raise NotImplementedError

    def put(self, deployment, lease, fault, ttl_s):
        return self._say("put", lease)

    def renew(self, deployment, lease, ttl_s):
        return self._say("renew", lease)

    def look(self, deployment, lease):
        return self._say("look", lease)

    def end(self, deployment, lease):
        return self._say("end", lease)

    def _say(self, what: str, lease: str) -> LeaseState:
        self.asked.append(what)
        return LeaseState(lease=lease, state=self.state, evidence={"seen": "so"})


def lease(cloud) -> Lease:
    return Lease(cloud=cloud, deployment="shop", name="payments-killed-17")


def test_a_lease_is_renewed_each_second_while_the_fault_is_held() -> None:
    cloud, clock = Cloud(), Clock()
    kept = lease(cloud).keep(10, None, clock=clock, sleep=clock.sleep)
    assert kept.ended_by == "seconds"
    assert kept.held_s == pytest.approx(10, abs=0.2)
    assert kept.renewals == cloud.asked.count("renew") == pytest.approx(10 / RENEW_S, abs=1)


def test_four_renewals_may_be_missed_before_a_lease_runs_out() -> None:
    assert 4 * RENEW_S < TTL_S <= 10


def test_a_hold_ends_as_soon_as_the_file_exists(tmp_path: Path) -> None:
    until, clock = tmp_path / "enough", Clock()
    clock.meanwhile = lambda: until.touch() if clock.now > 102 else None
    kept = lease(Cloud()).keep(60, until, clock=clock, sleep=clock.sleep)
    assert (kept.ended_by, round(kept.held_s)) == ("until", 2)


def test_a_hold_of_no_time_ends_at_once() -> None:
    clock = Clock()
    assert lease(Cloud()).keep(0, None, clock=clock, sleep=clock.sleep).held_s == 0


@pytest.mark.parametrize("state", [State.EXPIRED, State.UNDONE, State.NONE, State.FAILED])
def test_a_fault_that_went_off_while_it_was_held_is_not_held_on_to(state: State) -> None:
    cloud, clock = Cloud(), Clock()
    clock.meanwhile = lambda: setattr(cloud, "state", state if clock.now > 103 else State.ON)
    with pytest.raises(LeaseLost, match=f"is {state}: the fault did not stay on"):
        lease(cloud).keep(10, None, clock=clock, sleep=clock.sleep)


def test_a_cloud_that_cannot_be_asked_for_a_while_does_not_end_a_hold_one_that_stays_away_does() -> None:
    class Away(Cloud):
        def renew(self, deployment, lease, ttl_s):
            if 102 < clock.now < back:
                raise CloudError("nobody answers", definite=True)
            return super().renew(deployment, lease, ttl_s)

    back, clock = 105.0, Clock()
    assert lease(Away()).keep(10, None, clock=clock, sleep=clock.sleep).ended_by == "seconds"
    back, clock = 1000.0, Clock()
    with pytest.raises(CloudError, match="nobody answers"):
        lease(Away()).keep(60, None, clock=clock, sleep=clock.sleep)
    assert clock.now - 102 < TTL_S + 2 * RENEW_S


@pytest.mark.parametrize("state", [State.FAILED, State.EXPIRED, State.UNDONE, State.NONE])
def test_a_fault_that_is_not_on_after_its_injection_is_an_error_that_leaves_open_what_happened(state: State) -> None:
    with pytest.raises(CloudError, match=f"kill of service payments is {state}") as caught:
        lease(Cloud(state)).take(Kill(service="payments"))
    assert caught.value.definite is False


@pytest.mark.parametrize("state", [State.ON, State.FAILED])
def test_a_fault_that_may_still_be_on_after_its_undo_is_an_error_that_says_what_to_do(state: State) -> None:
    with pytest.raises(CloudError, match="run `stages heal`"):
        lease(Cloud(state)).end()


def test_undoing_what_was_never_injected_is_fine() -> None:
    assert lease(Cloud(State.NONE)).end().state is State.NONE


def test_a_dry_run_asks_the_cloud_for_nothing_and_is_never_on() -> None:
    cloud, clock = Cloud(), Clock()
    dry = lease(DryRun(cloud))
    assert dry.take(Kill(service="payments")).state is State.DRY
    dry.keep(2, None, clock=clock, sleep=clock.sleep)
    assert dry.end().state is State.DRY
    assert cloud.asked == []
