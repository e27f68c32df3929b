"""How does the suite drive load? Starts the load process and the heartbeats, commands them, and ends them.

    with LocustDriver(directory) as load:                      # processes start, Locust imports
        load.start(edge=deployment.edge, run_id="r1", rate_per_s=60, mix=EQUAL, seed=7, warm_up=WarmUp(seconds=2))
        mark_ns = load.phase("baseline")
        ...
        load.phase("fault:payments-killed")
        print(load.stats().lag_p99_ms)
        final = load.stop()                                    # no more arrivals, every answer recorded
    records = [load(line) for file in driver.histories ...]

No import of Locust here, nor of anything that patches the process. All children end with `close`, with the `with`
block, and when this process dies, however it dies. Safe to use from several threads.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from loadtests import heartbeat
from loadtests.child import Child, LoadDied, LoadError, LoadRefused, LoadSilent
from loadtests.commands import WarmUp

__all__ = [
    "LoadDied",
    "LoadError",
    "LoadRefused",
    "LoadSilent",
    "LoadStats",
    "LocustDriver",
    "OperationStats",
    "Started",
    "WarmUp",
]

BOOT_S = 30.0
"""Importing Locust takes 0.8 s on an idle machine, several on a busy one."""
REPLY_S = 10.0
"""Commands are obeyed within milliseconds; a stalled machine may take seconds."""
STOP_S = 20.0
"""The client timeout, and room for a stalled machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The measured load is running."""

    at_ns: int
    """CLOCK_MONOTONIC: the mix that was asked for drives from here on."""
    stocked: int
    """Orders that the warm-up placed successfully."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationStats:
    """Answers to one operation in the phase so far."""

    n: int
    """Requests that ended: ok + fail + unknown."""
    ok: int
    fail: int
    unknown: int
    degraded: int
    """Of the ok ones, answered by a fallback."""
    p50_ms: float | None
    """Latency from the intended start, over the latest 1,000 answers; None without any. So are the other two."""
    p95_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadStats:
    """What the generator did in the phase so far. For progress: verdicts read the history."""

    phase: str
    offered: int
    """Arrivals that came due: offered = answered + unsent + in flight, up to what began in the phase before."""
    answered: int
    unsent: Mapping[str, int]
    """Arrivals that were not sent, by reason: 'pool full' and 'no socket ...' are the generator's fault."""
    in_flight: int
    stock: int
    """Confirmed orders that can still be cancelled."""
    lag_p50_ms: float | None
    """How late requests were sent, milliseconds."""
    lag_p99_ms: float | None
    cpu_share: float
    """Of one core, in the last full second."""
    operations: Mapping[str, OperationStats]


class LocustDriver:
    """One run of load. Not reusable after `stop`."""

    def __init__(self, directory: Path, *, python: str = sys.executable) -> None:
        """Start the processes; `directory` must exist and takes histories and logs.

        Raises LoadDied or LoadSilent when the heartbeats do not come up. The load process goes on importing Locust
        while the caller does something else.
        """
        self._directory = directory
        self._children: list[Child] = []
        try:
            self._load = self._child("load process", [python, "-m", "loadtests.run"], "load.log")
            arguments = [python, "-m", "loadtests.heartbeat", "--directory", str(directory)]
            self._heartbeats = self._child("heartbeats", arguments, "heartbeats.log")
            self._cores: list[int] = self._heartbeats.first_reply(within_s=BOOT_S)["cores"]
        except BaseException:
            self.close()
            raise

    @property
    def pids(self) -> tuple[int, ...]:
        """The load process and the parent of the heartbeats: not of the system under test."""
        return tuple(child.pid for child in self._children)

    @property
    def histories(self) -> tuple[Path, ...]:
        """The history files of this run: the load's own and one per heartbeat. They exist once `start` returned."""
        stalls = (heartbeat.history_file(self._directory, core) for core in self._cores)
        return (self._directory / "load.jsonl", *stalls)

    def start(
        self,
        *,
        edge: str,
        run_id: str,
        rate_per_s: float,
        mix: Mapping[str, int],
        seed: int,
        warm_up: WarmUp | None = None,
    ) -> Started:
        """Warm up, then drive `mix` at `rate_per_s` until `stop`; returns when that has begun.

        `run_id` begins every idempotency key: use one that this deployment has never seen. The default warm-up waits
        for the shop and places no orders. Raises LoadRefused for bad arguments (all problems at once) and for a shop
        that is not ready in time, LoadDied, LoadSilent; orders of the warm-up may have been placed then.
        """
        warm_up = warm_up or WarmUp()
        command = {
            "cmd": "start",
            "edge": edge,
            "run_id": run_id,
            "rate": rate_per_s,
            "mix": dict(mix),
            "seed": seed,
            "history": str(self._directory / "load.jsonl"),
            "warm_up": {
                "ready_within_s": warm_up.ready_within_s,
                "rate": warm_up.rate_per_s,
                "seconds": warm_up.seconds,
            },
        }
        return Started(**self._ask(command, within_s=BOOT_S + warm_up.ready_within_s + warm_up.seconds))

    def mix(self, mix: Mapping[str, int]) -> None:
        """Drive another mix from the next arrival on."""
        self._ask({"cmd": "mix", "mix": dict(mix)})

    def rate(self, rate_per_s: float) -> None:
        """Drive at another total rate from the next arrival on."""
        self._ask({"cmd": "rate", "rate": rate_per_s})

    def phase(self, name: str) -> int:
        """Mark a phase in the history; returns its time, CLOCK_MONOTONIC nanoseconds."""
        at_ns: int = self._ask({"cmd": "phase", "name": name})["at_ns"]
        return at_ns

    def stats(self) -> LoadStats:
        """The figures of the phase so far."""
        return _stats(self._ask({"cmd": "stats"}))

    def outstanding(self) -> list[tuple[str, int]]:
        """(operation, intended start) of every arrival that is due and has no record yet, oldest first.

        All others are on file when this returns: read the history after it, and nothing falls between the two.
        """
        return [(name, at_ns) for name, at_ns in self._ask({"cmd": "outstanding"})["outstanding"]]

    def stop(self) -> LoadStats:
        """No more arrivals; wait for the answers still due (at most the client timeout) and record them.

        `phase` and `stats` still work afterwards.
        """
        return _stats(self._ask({"cmd": "stop"}, within_s=STOP_S))

    def check(self) -> None:
        """Raise LoadDied if the load process or a heartbeat has ended."""
        for child in self._children:
            child.check()

    def close(self) -> None:
        """End all children, at once. Idempotent. Records up to the last 0.1 s are on file without `stop`."""
        for child in self._children:
            child.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _child(self, name: str, arguments: list[str], log: str) -> Child:
        self._children.append(Child(name, arguments, self._directory / log))
        return self._children[-1]

    def _ask(self, command: Mapping[str, Any], *, within_s: float = REPLY_S) -> dict[str, Any]:
        self._heartbeats.check()
        return self._load.ask(command, within_s=within_s)


def _stats(reply: dict[str, Any]) -> LoadStats:
    figures = reply["stats"]
    operations = {name: OperationStats(**of) for name, of in figures.pop("operations").items()}
    return LoadStats(**figures, operations=operations)
