"""The process that holds one fault on a process or a database, and ends it when the lease runs out.

    python -m infra.local.holder LEASE.json

The lease file says what to hold and until when; a renewal replaces it. What is seen goes to
LEASE.status.json. SIGTERM, or the end of the lease, undoes the fault: also when the daemon is dead.

Kinds: pause, broker-outage, registry-outage (SIGSTOP), cluster-freeze (SIGSTOP of all processes that carry a cluster's
tag), cpu-starve (SIGSTOP most of each period), database-locked (an EXCLUSIVE SQLite lock, which in journal_mode=DELETE
blocks readers and writers), database-slow (the same, part of the time).
"""

from __future__ import annotations

import json
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.local.home import read_json, write_atomically
from infra.local.processes import ProcessId, alive, send, stat_of, state_of, tagged
from infra.naming import TAG_CLUSTER

LOOK_S = 0.1
"""How often the lease is read again."""

BUSY_S = 1.0
"""How long one attempt at the lock waits for those who hold it."""


class Over(Exception):
    """The fault is to end now: told so, expired, or its target is gone."""


@dataclass(slots=True)
class Status:
    """What the holder has seen; a JSON object for the daemon."""

    state: str = "starting"
    """starting, on or over."""
    reason: str = ""
    seen: dict[str, Any] = field(default_factory=dict)


class Holder:
    """Holds one fault."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._status_path = status_path(path)
        self._status = Status()
        self._lease: dict[str, Any] = read_json(path) or {}

    def run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # taken in `_rest`, between two acts
        try:
            fault = self._lease["fault"]
            match fault["kind"]:
                case "pause" | "broker-outage" | "registry-outage":
                    self._pause()
                case "cluster-freeze":
                    self._freeze()
                case "cpu-starve":
                    self._starve(fault["share"], fault["period_ms"] / 1000)
                case "database-locked":
                    self._lock()
                case "database-slow":
                    self._slow(fault["hold_ms"] / 1000, fault["every_ms"] / 1000)
        except Over as over:
            self._tell("over", str(over))
        except Exception as error:
            self._tell("over", f"{type(error).__name__}: {error}")
            raise

    def _pause(self) -> None:
        with self._stopping() as process:
            self._signal(process, signal.SIGSTOP)
            self._until_stopped(process)
            while True:
                self._tell("on", pid=process.pid, process_state=state_of(process))
                self._rest(3600)

    def _freeze(self) -> None:
        tags = {**self._lease["tags"], TAG_CLUSTER: self._lease["target"]["cluster"]}
        try:
            while running := [member for member in tagged(tags) if state_of(member) != "T"]:
                for member in running:  # the oldest first: that is the host, and then nobody forks any more
                    send(member, signal.SIGSTOP, tags)
                self._rest(0.002)
            if not (members := tagged(tags)):
                raise Over("nobody is there")
            while True:
                self._tell("on", pids=[member.pid for member in members])
                self._rest(3600)
        finally:
            for member in tagged(tags):
                send(member, signal.SIGCONT, tags)

    def _starve(self, share: float, period_s: float) -> None:
        with self._stopping() as process:
            began, used = time.monotonic(), _cpu_s(process)
            periods = 0
            while True:
                self._signal(process, signal.SIGSTOP)
                if not periods:
                    self._until_stopped(process)
                periods += 1
                passed = time.monotonic() - began
                self._tell(
                    "on",
                    pid=process.pid,
                    periods=periods,
                    process_state=state_of(process),
                    cpu_share=round((_cpu_s(process) - used) / passed, 4) if passed > period_s else None,
                )
                self._rest(period_s * (1 - share))
                self._signal(process, signal.SIGCONT)
                self._rest(period_s * share)

    def _lock(self) -> None:
        with self._locked():
            self._tell("on", lock_held=True, holds=1)
            while True:
                self._rest(3600)

    def _slow(self, hold_s: float, every_s: float) -> None:
        holds = 0
        while True:
            began = time.monotonic()
            with self._locked():
                holds += 1
                self._tell("on", lock_held=True, holds=holds, held_ms=round(holds * hold_s * 1000))
                self._rest(hold_s)
            self._rest(max(0.0, began + every_s - time.monotonic()))

    @contextmanager
    def _stopping(self) -> Iterator[ProcessId]:
        process = ProcessId(**self._lease["target"])
        try:
            yield process
        finally:
            send(process, signal.SIGCONT, self._lease["tags"])

    @contextmanager
    def _locked(self) -> Iterator[None]:
        connection = sqlite3.connect(self._lease["target"]["path"], timeout=BUSY_S, isolation_level=None)
        try:
            while True:
                try:
                    connection.execute("BEGIN EXCLUSIVE")
                    break
                except sqlite3.OperationalError as error:
                    if "locked" not in str(error):
                        raise
                    self._rest(0.002)
            yield
        finally:
            connection.close()

    def _signal(self, process: ProcessId, number: signal.Signals) -> None:
        if not send(process, number, self._lease["tags"]):
            raise Over("its target is gone")

    def _until_stopped(self, process: ProcessId) -> None:
        while (state := state_of(process)) != "T":
            if state is None:
                raise Over("its target is gone")
            self._rest(0.002)

    def _rest(self, seconds: float) -> None:
        """Wait; raise Over if the fault is to end meanwhile."""
        until = time.monotonic() + seconds
        while True:
            left = min(until, float(self._lease["expires_s"])) - time.monotonic()
            if signal.sigtimedwait({signal.SIGTERM}, max(0.0, min(left, LOOK_S))) is not None:
                raise Over("told to end")
            target = self._lease["target"]
            if "pid" in target and not alive(ProcessId(**target)):
                raise Over("its target is gone")
            now = time.monotonic()
            if now >= until and now < float(self._lease["expires_s"]):
                return
            self._lease = read_json(self._path) or {**self._lease, "expires_s": 0.0}
            if now >= float(self._lease["expires_s"]):
                raise Over("expired")

    def _tell(self, state: str, reason: str = "", **seen: Any) -> None:
        self._status.state, self._status.reason = state, reason
        self._status.seen.update(seen)
        if self._path.exists():  # a deployment that is gone keeps no files
            write_atomically(
                self._status_path, json.dumps({"state": state, "reason": reason, "seen": self._status.seen})
            )


def status_path(lease: Path) -> Path:
    """Where the holder of a lease file writes what it sees."""
    return lease.with_suffix(".status.json")


def _cpu_s(process: ProcessId) -> float:
    seen = stat_of(process.pid)
    return seen.cpu_ticks / 100 if seen else 0.0


if __name__ == "__main__":
    Holder(Path(sys.argv[1])).run()
