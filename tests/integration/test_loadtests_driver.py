"""The load process under its driver, against a stand-in shop whose truth is known."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from loadtests.driver import LoadDied, LoadRefused, LoadStats, LocustDriver, Started, WarmUp
from loadtests.profiles import EQUAL
from loadtests.testing import RunningShop, running_shop
from stages import history
from stages.history import Invocation, Outcome, Phase, Record, Stall, Unsent, Usage

SEED = 7


@pytest.fixture
def shop() -> Iterator[RunningShop]:
    with running_shop(delay_ms=5) as running:
        yield running


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[LocustDriver]:
    with LocustDriver(tmp_path) as running:
        yield running


def begin(driver: LocustDriver, shop: RunningShop, rate_per_s: float = 60, *, stock_s: float = 0) -> None:
    driver.start(
        edge=shop.edge, run_id="r1", rate_per_s=rate_per_s, mix=EQUAL, seed=SEED, warm_up=WarmUp(seconds=stock_s)
    )


def records(driver: LocustDriver) -> list[Record]:
    found: list[Record] = []
    for file in driver.histories:
        with file.open() as lines:
            found += history.read(lines)
    return sorted(found, key=history.at)


def until(what: str, true: Callable[[], bool], within_s: float = 15) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.02)


def offered(driver: LocustDriver, count: int) -> None:
    """Wait until the current phase has that many arrivals."""
    until(f"{count} arrivals", lambda: driver.stats().offered >= count)


@dataclass(frozen=True, slots=True)
class Story:
    """One run in which the shop changed its manners from phase to phase."""

    started: Started
    marks_ns: Mapping[str, int]
    final: LoadStats
    records: list[Record]
    truth: Mapping[str, Any]
    """The shop's own, from before it was killed."""

    def sent(self, phase: str) -> list[Invocation]:
        """What was due in a phase, up to the guard band that follows it."""
        start_ns = self.marks_ns[phase]
        end_ns = min(at_ns for at_ns in self.marks_ns.values() if at_ns > start_ns)
        return [r for r in self.records if isinstance(r, Invocation) and start_ns <= r.intended_ns < end_ns]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    marks_ns: dict[str, int] = {}
    with running_shop(delay_ms=5) as shop, LocustDriver(tmp_path_factory.mktemp("story")) as driver:

        def enter(phase: str, change: Callable[[], object]) -> None:
            guard_ns = marks_ns[f"before {phase}"] = driver.phase("guard")
            # what was due before is answered in the shop's old manner
            until("old answers", lambda: all(due_ns > guard_ns for _, due_ns in driver.outstanding()))
            change()
            marks_ns[phase] = driver.phase(phase)

        stock = WarmUp(rate_per_s=40, seconds=1)
        started = driver.start(edge=shop.edge, run_id="r1", rate_per_s=100, mix=EQUAL, seed=SEED, warm_up=stock)
        enter("baseline", lambda: None)
        offered(driver, 150)
        for manner in ("reset", "close-first", "refuse-orders", "hang", "polite"):
            enter(manner, partial(shop.manner, manner))
            offered(driver, 100)
        enter("stalled", lambda: None)
        stall(driver)
        offered(driver, 80)
        enter("turned", lambda: (driver.mix({"browse": 1}), driver.rate(300)))
        offered(driver, 300)
        truth = shop.truth()
        enter("killed", partial(kill, shop.pid))
        offered(driver, 100)
        marks_ns["drain"] = driver.phase("drain")
        final = driver.stop()
        marks_ns["end"] = driver.phase("end")
        return Story(started, marks_ns, final, records(driver), truth)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    until(f"{pid} is dead", lambda: psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def stall(driver: LocustDriver) -> None:
    """Stop the load process and the heartbeat of one core for 0.4 s."""
    load, heartbeats = driver.pids
    stopped = (load, psutil.Process(heartbeats).children()[0].pid)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    threading.Event().wait(0.4)  # the stall itself, not a wait for something
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.slow
def test_the_warm_up_places_orders_and_nothing_else(story: Story) -> None:
    stock = [r for r in story.records if isinstance(r, Invocation) and r.ended_ns < story.started.at_ns]
    assert {(r.operation, r.outcome) for r in stock} == {("place-order", Outcome.OK)}
    assert story.started.stocked == len(stock) > 0


@pytest.mark.slow
def test_phases_are_marked_when_they_were_asked_for(story: Story) -> None:
    marks = [r.at_ns for r in story.records if isinstance(r, Phase) and r.name != "warm-up"]
    assert marks == list(story.marks_ns.values())


@pytest.mark.slow
def test_a_polite_shop_is_asked_for_every_operation_and_all_end_ok(story: Story) -> None:
    baseline = story.sent("baseline")
    assert {r.operation for r in baseline} == set(EQUAL)
    assert {r.outcome for r in baseline} == {Outcome.OK}


@pytest.mark.slow
def test_every_key_is_used_for_one_invocation_and_begins_with_the_run_id(story: Story) -> None:
    keys = [r.key for r in story.records if isinstance(r, Invocation)]
    assert len(set(keys)) == len(keys)
    assert all(key.startswith("r1-") for key in keys)


@pytest.mark.slow
def test_nothing_is_left_in_flight_after_a_stop_and_usage_was_noted(story: Story) -> None:
    assert story.final.in_flight == 0
    assert any(isinstance(r, Usage) and r.cpu_share > 0 for r in story.records)


@pytest.mark.slow
def test_a_broken_connection_is_unknown_and_the_request_was_sent_at_most_twice(story: Story) -> None:
    broken = story.sent("reset")
    assert {(r.outcome, r.error) for r in broken} == {(Outcome.UNKNOWN, "broken")}
    sends = Counter(line.rpartition(" ")[2] for line in story.truth["received"])
    assert {sends[r.key] for r in broken if r.operation in {"place-order", "register"}} == {2}


@pytest.mark.slow
def test_a_connection_closed_before_the_answer_is_resent_once_under_the_same_key(story: Story) -> None:
    writes = [r for r in story.sent("close-first") if r.operation in {"place-order", "register"}]
    sends = Counter(line.rpartition(" ")[2] for line in story.truth["received"])
    assert {(r.outcome, sends[r.key]) for r in writes} == {(Outcome.OK, 2)}
    assert all(r.key in story.truth["applied"] for r in writes)


@pytest.mark.slow
def test_a_definite_refusal_is_a_failure_that_surely_did_nothing(story: Story) -> None:
    orders = [r for r in story.sent("refuse-orders") if r.operation == "place-order"]
    assert {(r.outcome, r.status, r.error) for r in orders} == {(Outcome.FAIL, 409, "out-of-stock")}
    assert not any(r.key in story.truth["applied"] for r in orders)


@pytest.mark.slow
def test_a_hanging_shop_does_not_slow_the_arrivals_and_each_ends_unknown_after_the_timeout(story: Story) -> None:
    hung = story.sent("hang")
    span_s = (hung[-1].intended_ns - hung[0].intended_ns) / 1e9
    assert {(r.outcome, r.error) for r in hung} == {(Outcome.UNKNOWN, "timeout")}
    assert all(2900 < r.latency_ms < 9000 for r in hung)
    assert len(hung) / span_s == pytest.approx(100, rel=0.4), f"seed {SEED}"


@pytest.mark.slow
def test_a_stalled_generator_says_so_and_sends_late_but_loses_nothing(story: Story) -> None:
    long = {r.source for r in story.records if isinstance(r, Stall) and r.end_ns - r.start_ns > 300_000_000}
    late = [r for r in story.sent("stalled") if r.lag_ms > 100]
    assert {"generator", "core-0"} <= long
    assert len(late) > 5, "30 arrivals or so were due in the first 0.3 s"
    assert all(r.latency_ms >= r.lag_ms for r in late)


@pytest.mark.slow
def test_rate_and_mix_can_be_turned_while_the_load_runs(story: Story) -> None:
    turned = story.sent("turned")
    span_s = (turned[-1].intended_ns - turned[0].intended_ns) / 1e9
    assert {r.operation for r in turned} == {"browse"}
    assert len(turned) / span_s == pytest.approx(300, rel=0.25), f"seed {SEED}"


@pytest.mark.slow
def test_a_refused_connection_is_a_failure_that_surely_did_nothing(story: Story) -> None:
    assert {(r.outcome, r.error) for r in story.sent("killed")} == {(Outcome.FAIL, "refused")}


@pytest.mark.slow
def test_an_arrival_that_finds_the_generator_full_is_recorded_as_unsent(tmp_path: Path, shop: RunningShop) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nulimit -n 160; exec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o700)
    with LocustDriver(tmp_path, python=str(python)) as driver:
        begin(driver, shop, 200, stock_s=0.2)
        shop.manner("hang")
        start_ns = driver.phase("fault:hang")
        until("a full pool", lambda: driver.stats().unsent.get("pool full", 0) > 50)
        waiting = driver.outstanding()
        on_file = records(driver)
        assert len(waiting) == 60, "160 open files, 100 of them kept for other things"
        due = [at_ns for _, at_ns in waiting] + [r.intended_ns for r in on_file if isinstance(r, Unsent)]
        assert driver.stats().offered >= sum(at_ns > start_ns for at_ns in due) > 50
        final = driver.stop()
        unsent = [r for r in records(driver) if isinstance(r, Unsent) and r.reason == "pool full"]
        assert len(unsent) == final.unsent["pool full"]


@pytest.mark.slow
def test_a_shop_that_is_not_ready_is_refused_with_its_last_answer(driver: LocustDriver, shop: RunningShop) -> None:
    shop.manner("unready")
    with pytest.raises(LoadRefused, match=r"within 0\.5 s.*GET http://127.0.0.1:\d+/: dependency-unavailable"):
        driver.start(
            edge=shop.edge,
            run_id="r1",
            rate_per_s=10,
            mix=EQUAL,
            seed=SEED,
            warm_up=WarmUp(ready_within_s=0.5),
        )


@pytest.mark.slow
def test_bad_arguments_are_refused_all_at_once_and_nothing_starts(driver: LocustDriver, tmp_path: Path) -> None:
    with pytest.raises(LoadRefused) as caught:
        driver.start(edge="nowhere", run_id="", rate_per_s=-1, mix={"steal": 1}, seed=SEED)
    for word in ("edge=", "run_id", "rate=-1", "'steal'"):
        assert word in str(caught.value)
    with pytest.raises(LoadRefused, match="came before 'start'"):
        driver.stats()
    assert not (tmp_path / "load.jsonl").exists()


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1], ids=["load", "heartbeats"])
def test_the_early_death_of_a_child_is_told_with_status_and_log(driver: LocustDriver, victim: int) -> None:
    kill(driver.pids[victim])
    with pytest.raises(LoadDied, match=r"exit status -9.*full log: .*\.log"):
        driver.stats()
    with pytest.raises(LoadDied):
        driver.check()


@pytest.mark.slow
def test_a_heartbeat_that_dies_alone_is_noticed(driver: LocustDriver) -> None:
    child = psutil.Process(driver.pids[1]).children()[0]
    child.kill()
    until("the others end too", lambda: not psutil.Process(driver.pids[1]).children())
    with pytest.raises(LoadDied, match="heartbeat of core"):
        driver.check()


@pytest.mark.slow
def test_nothing_outlives_a_driver_that_is_killed(tmp_path: Path, shop: RunningShop) -> None:
    code = (
        "import sys, time; from pathlib import Path; from loadtests.driver import LocustDriver\n"
        "driver = LocustDriver(Path(sys.argv[1]))\n"
        "driver.start(edge=sys.argv[2], run_id='r1', rate_per_s=50, mix={'browse': 1}, seed=7)\n"
        "print(*driver.pids, flush=True); time.sleep(60)"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path), shop.edge]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        family = [psutil.Process(pid) for pid in pids]
        family += [child for process in family for child in process.children()]
        assert len(family) >= 3
        parent.kill()
    until("all children have ended", lambda: not any(process.is_running() for process in family), within_s=5)


@pytest.mark.slow
def test_closing_ends_all_children_also_in_the_middle_of_the_load(tmp_path: Path, shop: RunningShop) -> None:
    with LocustDriver(tmp_path) as driver:
        begin(driver, shop)
        family = [psutil.Process(pid) for pid in driver.pids]
        family += [child for process in family for child in process.children()]
    assert not any(process.is_running() for process in family)
    driver.close()
    with pytest.raises(LoadDied):
        driver.stats()
