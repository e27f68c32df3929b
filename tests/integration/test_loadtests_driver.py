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
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from loadtests.driver import LoadDied, LoadRefused, LocustDriver, WarmUp
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


def invocations(driver: LocustDriver, since_ns: int = 0) -> list[Invocation]:
    return [r for r in records(driver) if isinstance(r, Invocation) and r.intended_ns >= since_ns]


def until(what: str, true: Callable[[], bool], within_s: float = 15) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.02)


def offered(driver: LocustDriver, count: int) -> None:
    """Wait until the current phase has that many arrivals."""
    until(f"{count} arrivals", lambda: driver.stats().offered >= count)


@pytest.mark.slow
def test_a_run_records_every_arrival_in_phases_and_its_keys_are_unique(driver: LocustDriver, shop: RunningShop) -> None:
    started = driver.start(
        edge=shop.edge,
        run_id="r1",
        rate_per_s=100,
        mix=EQUAL,
        seed=SEED,
        warm_up=WarmUp(rate_per_s=40, seconds=1),
    )
    baseline_ns = driver.phase("baseline")
    offered(driver, 200)
    final = driver.stop()
    end_ns = driver.phase("end")
    found = records(driver)
    sent = [r for r in found if isinstance(r, Invocation)]
    assert [r for r in found if isinstance(r, Phase)][1:] == [
        Phase(name="baseline", at_ns=baseline_ns),
        Phase(name="end", at_ns=end_ns),
    ]
    stock = [r for r in sent if r.intended_ns < started.at_ns]
    assert {r.operation for r in stock[: started.stocked]} == {"place-order"}
    assert started.stocked > 0
    assert {r.operation for r in sent if r.intended_ns > baseline_ns} == set(EQUAL)
    assert all(r.outcome is Outcome.OK for r in sent)
    assert len({r.key for r in sent}) == len(sent)
    assert all(r.key.startswith("r1-") for r in sent)
    assert final.in_flight == 0
    assert final.offered <= final.answered + sum(final.unsent.values()) <= final.offered + 20  # some began before
    assert len(shop.truth()["received"]) == len(sent) + 2, "home, catalogue and what was recorded: nothing else"
    assert any(isinstance(r, Usage) for r in found)


@pytest.mark.slow
def test_a_hanging_shop_does_not_slow_the_arrivals_and_each_ends_unknown_after_the_timeout(
    driver: LocustDriver, shop: RunningShop
) -> None:
    begin(driver, shop, 100, stock_s=0.5)
    shop.manner("hang")
    hung_ns = driver.phase("fault:hang")
    offered(driver, 150)
    last_ns = time.monotonic_ns()
    assert driver.stop().in_flight == 0
    seen = invocations(driver, hung_ns)
    assert {(r.outcome, r.error) for r in seen} == {(Outcome.UNKNOWN, "timeout")}
    assert all(2900 < r.latency_ms < 4500 for r in seen)
    assert len(seen) / ((last_ns - hung_ns) / 1e9) == pytest.approx(100, rel=0.35), f"seed {SEED}"


@pytest.mark.slow
def test_an_arrival_that_finds_the_generator_full_is_recorded_as_unsent(tmp_path: Path, shop: RunningShop) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nulimit -n 160; exec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o700)
    with LocustDriver(tmp_path, python=str(python)) as driver:
        begin(driver, shop, 200, stock_s=0.2)
        shop.manner("hang")
        driver.phase("fault:hang")
        until("a full pool", lambda: driver.stats().unsent.get("pool full", 0) > 50)
        stats = driver.stats()
        assert stats.in_flight == 60, "160 open files, 100 of them kept for other things"
        final = driver.stop()
        unsent = [r for r in records(driver) if isinstance(r, Unsent) and r.reason == "pool full"]
        assert len(unsent) == final.unsent["pool full"]


@pytest.mark.slow
def test_a_broken_connection_is_unknown_and_sent_at_most_twice(driver: LocustDriver, shop: RunningShop) -> None:
    begin(driver, shop, 100, stock_s=0.2)
    before = len(shop.truth()["received"])
    shop.manner("reset")
    reset_ns = driver.phase("fault:reset")
    offered(driver, 50)
    driver.stop()
    seen = invocations(driver, reset_ns)
    assert {(r.outcome, r.error) for r in seen} == {(Outcome.UNKNOWN, "broken")}
    sends = Counter(shop.truth()["received"][before:])
    assert max(Counter(line for line in sends.elements() if not line.endswith("None")).values()) == 2


@pytest.mark.slow
def test_a_connection_closed_before_the_answer_is_resent_once_under_the_same_key(
    driver: LocustDriver, shop: RunningShop
) -> None:
    begin(driver, shop, 60, stock_s=0.2)
    shop.manner("close-first")
    closing_ns = driver.phase("fault:close")
    offered(driver, 60)
    driver.stop()
    writes = [r for r in invocations(driver, closing_ns) if r.operation in {"place-order", "register"}]
    truth = shop.truth()
    assert {r.outcome for r in writes} == {Outcome.OK}
    assert all(sum(line.endswith(f" {r.key}") for line in truth["received"]) == 2 for r in writes)
    assert all(r.key in truth["applied"] for r in writes)


@pytest.mark.slow
def test_a_refused_connection_and_a_refused_order_surely_did_nothing(driver: LocustDriver, shop: RunningShop) -> None:
    begin(driver, shop, 60, stock_s=0.2)
    shop.manner("refuse-orders")
    refusing_ns = driver.phase("fault:refuse-orders")
    offered(driver, 60)
    os.kill(shop.pid, signal.SIGKILL)
    until("the shop is gone", lambda: psutil.Process(shop.pid).status() == psutil.STATUS_ZOMBIE)
    killed_ns = driver.phase("fault:kill")
    offered(driver, 60)
    driver.stop()
    refused = [r for r in invocations(driver, refusing_ns) if r.operation == "place-order" and r.status == 409]
    assert {(r.outcome, r.error) for r in refused} == {(Outcome.FAIL, "out-of-stock")}
    gone = invocations(driver, killed_ns + 100_000_000)
    assert {(r.outcome, r.error) for r in gone} == {(Outcome.FAIL, "refused")}


@pytest.mark.slow
def test_rate_and_mix_can_be_turned_while_the_load_runs(driver: LocustDriver, shop: RunningShop) -> None:
    begin(driver, shop, 0.01)
    driver.mix({"browse": 1})
    driver.rate(200)
    browsing_ns = driver.phase("browsing")
    offered(driver, 200)
    took_s = (time.monotonic_ns() - browsing_ns) / 1e9
    assert took_s == pytest.approx(1.0, rel=0.5), f"seed {SEED}"
    driver.stop()
    assert {r.operation for r in invocations(driver, browsing_ns)} == {"browse"}


@pytest.mark.slow
def test_a_stalled_generator_says_so_and_sends_late_but_loses_nothing(driver: LocustDriver, shop: RunningShop) -> None:
    begin(driver, shop, 100)
    load, heartbeats = driver.pids
    core_0 = psutil.Process(heartbeats).children()[0].pid
    stalled_ns = driver.phase("stalled")
    offered(driver, 10)
    for pid in (load, core_0):
        os.kill(pid, signal.SIGSTOP)
    threading.Event().wait(0.4)  # the stall itself, not a wait for something
    for pid in (load, core_0):
        os.kill(pid, signal.SIGCONT)
    offered(driver, 80)
    final = driver.stop()
    found = records(driver)
    long = {r.source for r in found if isinstance(r, Stall) and r.end_ns - r.start_ns > 300_000_000}
    assert long == {"generator", "core-0"}
    late = [r for r in invocations(driver, stalled_ns) if r.lag_ms > 100]
    assert len(late) > 10, "30 arrivals or so were due in the first 0.3 s"
    assert all(r.latency_ms >= r.lag_ms for r in late)
    assert final.offered <= final.answered + sum(final.unsent.values())


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
    os.kill(driver.pids[victim], signal.SIGKILL)
    until("it is dead", lambda: psutil.Process(driver.pids[victim]).status() == psutil.STATUS_ZOMBIE)
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
