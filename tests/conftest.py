"""What all tests share: a user with a home of their own, and a witness of how the machine itself fared.

Tests of real processes judge what happened within seconds. Where the machine stood still meanwhile (a busy host, a
stolen core), a failure says nothing about the code: such a test is run again with fresh fixtures, at most twice. On a
machine that kept going, three tests of a run may fail once; whatever fails again, or is the fourth, stands. Only where
the suite itself says each time that the machine left it undecided, and the witness agrees, is the test skipped. The
summary names every test that was run again, with what it had said: nothing that was seen is lost.

`tests.parts` says what `make test` runs beside what, `tests.drawing` which cases of long families are played.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from suite.testing.judged import Undecided
from suite.testing.user import User, wait_until
from tests.drawing import Case, commit, family_of, left_out
from tests.machine import STALL_S, Machine

TIMED = {"contract", "integration", "e2e", "broken"}
"""Folders whose tests depend on real time."""

AGAIN = 2

ONCE_MAX = 3
"""Tests of a process that may fail once although no core stood still: 0.15 s does not see every way to be slow."""

SAID_MAX = 1500
"""Characters of a failure that the summary keeps; its end says what was wrong."""


MACHINE = pytest.StashKey[Machine]()
SEED = pytest.StashKey[str]()
UNDECIDED = pytest.StashKey[list[str]]()
"""What the tries of a test said that raised Undecided."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--whole", action="store_true", help="play every case, not only those drawn for this commit")
    parser.addoption("--draw", metavar="SEED", help="draw cases by this seed instead of the commit")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[MACHINE] = Machine()
    config.stash[SEED] = config.getoption("--draw") or commit(config.rootpath)


def pytest_report_header(config: pytest.Config) -> str:
    return "draw: every case" if config.getoption("--whole") else f"draw: {config.stash[SEED]} (--whole for every case)"


@pytest.hookimpl(trylast=True)  # what -k or a node id did not name is no longer there
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip the cases that are not drawn."""
    if config.getoption("--whole"):
        return
    cases = [case for item in items if (case := _case(item)) is not None]
    out = left_out(cases, config.stash[SEED])
    reason = f"not drawn by seed {config.stash[SEED]}; --whole plays every case"
    for item in items:
        if item.nodeid in out:
            item.add_marker(pytest.mark.skip(reason=reason))


def _case(item: pytest.Item) -> Case | None:
    mark = item.get_closest_marker("drawn")
    if mark is None or not isinstance(item, pytest.Function):
        return None
    test = item.nodeid.partition("[")[0]
    family = family_of(test, item.callspec.params, **mark.kwargs)
    return Case(name=item.nodeid, family=family, count=mark.args[0])


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[MACHINE].stop()


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a timed test; once more where the machine stood still while it failed."""
    if not TIMED & set(item.path.relative_to(item.config.rootpath).parts):
        return None
    machine = item.config.stash[MACHINE]
    machine.start()
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    undecided = item.stash[UNDECIDED] = []
    for left in reversed(range(AGAIN + 1)):
        if machine.fixtures_of != item.path:
            machine.fixtures_of, machine.fixtures_ns = item.path, time.monotonic_ns()
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        if not any(report.failed for report in reports):
            break
        stall_s = machine.stood_still_s(machine.fixtures_ns)
        if not left:
            if len(undecided) > AGAIN and stall_s >= STALL_S:
                _skip(item, reports)
            break
        if stall_s >= STALL_S:
            why = f"the machine stood still for {stall_s:.2f} s"
        elif item.nodeid in machine.once or len(machine.once) == ONCE_MAX:
            break
        else:
            machine.once.append(item.nodeid)
            why = "failed once, without a stall"
        said = "\n".join(report.longreprtext for report in reports if report.failed)
        machine.again.append(f"{item.nodeid}: {why}\n{said[-SAID_MAX:]}")
        item.session._setupstate.teardown_exact(None)
        machine.fixtures_of = None
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    if UNDECIDED in item.stash and call.excinfo is not None and call.excinfo.errisinstance(Undecided):
        item.stash[UNDECIDED].append(str(call.excinfo.value))
    return (yield)


def _skip(item: pytest.Item, reports: Sequence[pytest.TestReport]) -> None:
    """Make a skip, which is counted and named, of what was left undecided each time."""
    path, line, _ = item.location
    for report in reports:
        if report.failed and report.when == "call":
            report.outcome = "skipped"
            why = f"Skipped: the machine left it undecided {AGAIN + 1} times: {item.stash[UNDECIDED][-1]}"
            report.longrepr = (path, line or 0, why)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process of several hands what it ran again to the one that sums up."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["again"] = session.config.stash[MACHINE].again


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    node.config.stash[MACHINE].again.extend(getattr(node, "workeroutput", {}).get("again", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    again = config.stash[MACHINE].again
    if again:
        terminalreporter.section(f"{len(again)} run again")
        for line in again:
            terminalreporter.line(line)


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    """Each test gets a user with a home of their own; whatever is left running fails the test and is ended."""
    made = User(home=tmp_path / "home", directory=tmp_path)
    yield made
    try:
        if made.home.is_dir():
            made.run("down", "--all")
        wait_until(lambda: not made.processes(), 10, lambda: f"still running: {made.processes()}")
    finally:
        made.end_all()
