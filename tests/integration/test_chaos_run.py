"""The chaos process runs what it is told, proves it, and leaves no fault on, however it ends."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chaos.catalogue import faults_of
from chaos.driver import ChaosDriver, ChaosDriverError
from chaos.lease import TTL_S
from chaos.testing import FakeCloud, serving
from stages.catalogue import ASYNC, MESH, SYNC
from stages.history import FaultStep

LEASE_END_S = 10.0
"""No fault may outlive its runner by more."""

ALL_STEPS = [FaultStep.INTENT, FaultStep.INJECTED, FaultStep.SEEN, FaultStep.UNDOING, FaultStep.UNDONE]


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeCloud]:
    with tempfile.TemporaryDirectory(prefix="r-") as home, serving(Path(home)) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def fake_async() -> Iterator[FakeCloud]:
    with tempfile.TemporaryDirectory(prefix="a-") as home, serving(Path(home), stage="async") as cloud:
        yield cloud


@pytest.fixture(scope="module")
def fake_mesh() -> Iterator[FakeCloud]:
    with tempfile.TemporaryDirectory(prefix="m-") as home, serving(Path(home), stage="mesh") as cloud:
        yield cloud


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChaosDriver]:
    """One chaos process for all that end well: its start takes a second."""
    with ChaosDriver(errors=tmp_path_factory.mktemp("chaos") / "errors.log") as driver:
        yield driver


@pytest.fixture
def doomed(tmp_path: Path) -> Iterator[ChaosDriver]:
    """A chaos process of one's own, to be ended."""
    with ChaosDriver(errors=tmp_path / "errors.log") as driver:
        yield driver


def begin(driver: ChaosDriver, fake: FakeCloud, tmp_path: Path, fault: str = "payments-killed", **more) -> None:
    driver.run(fault, deployment=fake.record, history=tmp_path / "chaos.jsonl", **{"hold_s": 30, **more})


def eventually(check: Callable[[], object], within_s: float, why: str) -> None:
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline, f"not within {within_s} s: {why}"
        time.sleep(0.02)


def until_seen(driver: ChaosDriver) -> list[FaultStep]:
    steps: list[FaultStep] = []

    def seen() -> bool:
        steps.extend(event.step for event in driver.events())
        return FaultStep.SEEN in steps

    eventually(seen, 20, "the fault is seen to bite")
    return steps


def test_a_fault_is_injected_seen_held_until_enough_and_undone(shared, fake, tmp_path) -> None:
    begin(shared, fake, tmp_path, until=tmp_path / "enough")
    steps = until_seen(shared)
    assert shared.poll() is None
    [lease] = fake.on()
    assert lease.startswith(f"payments-killed-{shared.pid}-")
    (tmp_path / "enough").touch()
    answer = shared.wait(10)
    assert (answer.outcome, answer.bit, answer.undone, answer.problems) == ("injected", True, True, ())
    assert "refuses connections" in answer.seen_by
    assert fake.on() == []
    assert [*steps, *(event.step for event in shared.events())] == ALL_STEPS
    assert json.loads(Path(answer.journal or "").read_text())["status"] == "completed"


def test_a_hold_that_is_over_ends_by_itself(shared, fake, tmp_path) -> None:
    begin(shared, fake, tmp_path, "orders-email-reset", hold_s=0.3)
    assert shared.wait(10).bit
    times = {event.step: event.at_ns for event in shared.events()}
    assert list(times) == ALL_STEPS
    assert (times[FaultStep.UNDOING] - times[FaultStep.SEEN]) / 1e9 >= 0.3
    assert fake.on() == []


@pytest.mark.parametrize(
    "fault", sorted({f.name for f in faults_of(ASYNC)} - {f.name for f in faults_of(SYNC)}), ids=str
)
def test_a_fault_of_messages_is_injected_seen_and_undone(shared, fake_async, tmp_path, fault) -> None:
    begin(shared, fake_async, tmp_path, fault, hold_s=0.1)
    answer = shared.wait(20)
    assert (answer.outcome, answer.bit, answer.undone, answer.problems) == ("injected", True, True, ())
    assert [event.step for event in shared.events()] == ALL_STEPS
    assert fake_async.on() == []


OF_MESH = sorted({f.name for f in faults_of(MESH)} - {f.name for f in faults_of(ASYNC)})


@pytest.mark.parametrize("fault", OF_MESH)
def test_a_fault_of_the_mesh_is_injected_seen_and_undone(shared, fake_mesh, tmp_path, fault) -> None:
    begin(shared, fake_mesh, tmp_path, fault, hold_s=0.1)
    answer = shared.wait(20)
    assert (answer.outcome, answer.bit, answer.undone, answer.problems) == ("injected", True, True, ())
    assert [event.step for event in shared.events()] == ALL_STEPS
    assert fake_mesh.on() == []


def test_a_fault_of_messages_is_refused_where_there_are_none(shared, fake, tmp_path) -> None:
    begin(shared, fake, tmp_path, "broker-outage")
    answer = shared.wait(10)
    assert answer.outcome == "refused"
    assert "stage 'sync' has no fault 'broker-outage'" in " | ".join(answer.problems)


@pytest.mark.parametrize(
    ("fault", "change", "said"),
    [
        ("payments-exploded", {}, "stage 'sync' has no fault 'payments-exploded'; it has accounts-killed"),
        ("payments-killed", {"deployment": Path("/nowhere/deployment.json")}, "cannot be read"),
        ("payments-killed", {"history": Path("/proc/nowhere/chaos.jsonl")}, "the intent cannot be written"),
        ("payments-killed", {"dry_run": "1"}, ""),
    ],
)
def test_what_is_not_to_be_injected_is_refused_quickly_and_nothing_is_asked_of_the_cloud(
    shared, fake, tmp_path, fault, change, said
) -> None:
    fake.asked.clear()
    shared.run(fault, **{"deployment": fake.record, "history": tmp_path / "chaos.jsonl", "hold_s": 30.0, **change})
    answer = shared.wait(10)
    assert (answer.outcome, answer.bit, answer.undone) == ("refused", False, True)
    assert said in " | ".join(answer.problems)
    assert [method for method, path in fake.asked if method == "PUT"] == []


def test_a_place_that_is_broken_already_is_refused_and_the_other_fault_stays(shared, fake, tmp_path) -> None:
    from chaos.client import LocalCloud
    from chaos.faults import Pause

    with LocalCloud(str(fake.control)) as cloud:
        cloud.put("shop", "theirs", Pause(service="payments"), 30)
        begin(shared, fake, tmp_path)
        answer = shared.wait(10)
        assert answer.outcome == "refused"
        assert "lease 'theirs' is already on payments" in " | ".join(answer.problems)
        assert [event.step for event in shared.events()][:2] == [FaultStep.INTENT, FaultStep.REFUSED]
        assert fake.on() == ["theirs"]
        cloud.end("shop", "theirs")


def test_a_hypothesis_that_is_not_met_keeps_the_fault_from_being_injected(shared, fake, tmp_path) -> None:
    fake.asked.clear()
    begin(shared, fake, tmp_path, hypothesis=True)  # the toys are no shop: nothing is steady
    answer = shared.wait(20)
    assert (answer.outcome, answer.bit) == ("failed", False)
    assert "before the method: browse is failing" in " | ".join(answer.problems)
    assert "PUT" not in [method for method, _ in fake.asked]


def test_a_fault_that_went_off_in_mid_hold_is_reported(shared, fake, tmp_path) -> None:
    begin(shared, fake, tmp_path)
    until_seen(shared)
    fake.expire(fake.on()[0])
    answer = shared.wait(10)
    assert (answer.outcome, answer.bit, answer.undone) == ("injected", True, True)
    assert "is expired: the fault did not stay on" in " | ".join(answer.problems)
    assert shared.events()[0].step is FaultStep.FAILED


def test_a_malformed_command_is_answered_and_the_process_goes_on(shared, fake, tmp_path) -> None:
    shared.run(
        "payments-killed",
        deployment=fake.record,
        history=tmp_path / "chaos.jsonl",
        hold_s="long",  # type: ignore[arg-type]
    )
    assert "could not convert string to float" in " | ".join(shared.wait(10).problems)
    assert shared.pid is not None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_a_signal_undoes_the_fault_before_the_process_ends(doomed, fake, tmp_path, number) -> None:
    begin(doomed, fake, tmp_path)
    until_seen(doomed)
    os.kill(doomed.pid, number)
    answer = doomed.wait(10)
    assert (answer.outcome, answer.bit, answer.undone) == ("injected", True, True)
    eventually(lambda: doomed.pid is None, 5, "the process ends")
    assert fake.on() == []
    assert {held.state for held in fake.leases.values()} <= {"undone", "expired"}
    assert [event.step for event in doomed.events()] == [FaultStep.FAILED, FaultStep.UNDOING, FaultStep.UNDONE]


def test_the_end_of_its_driver_undoes_the_fault_before_the_process_ends(doomed, fake, tmp_path) -> None:
    begin(doomed, fake, tmp_path)
    until_seen(doomed)
    start = time.monotonic()
    doomed.close()
    assert time.monotonic() - start < TTL_S, "it was undone, not waited for"
    assert fake.on() == []


def test_after_a_kill_of_the_runner_the_lease_undoes_the_fault(doomed, fake, tmp_path) -> None:
    begin(doomed, fake, tmp_path)
    until_seen(doomed)
    lease = fake.on()[0]
    os.kill(doomed.pid, signal.SIGKILL)
    killed = time.monotonic()
    eventually(lambda: fake.leases[lease].state == "expired", LEASE_END_S, "the lease ends")
    assert time.monotonic() - killed <= TTL_S + 1
    with pytest.raises(ChaosDriverError, match="ended with -9"):
        doomed.wait(5)


def test_a_signal_while_nothing_runs_ends_the_process(doomed) -> None:
    doomed.run("payments-killed", deployment=Path("/nowhere/x.json"), history=Path("/nowhere/h"), hold_s=1)
    doomed.wait(20)
    os.kill(doomed.pid, signal.SIGTERM)
    eventually(lambda: doomed.pid is None, 5, "the process ends")


def test_the_driver_does_not_import_chaos_toolkit() -> None:
    import subprocess
    import sys

    code = "import chaos.driver, sys; sys.exit('chaoslib' in sys.modules or 'httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
