"""The ports of the pipeline kept by the packages below: each adapter translates types and errors, nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from chaos.driver import ChaosDriver, ChaosDriverError
from infra.local.errors import CloudError, Conflict, Invalid, NotFound
from infra.local.target import LocalTarget
from infra.naming import deployment_problems
from loadtests.driver import LoadError, LocustDriver
from stages.check import Outstanding, PolicyTry
from stages.deployment import Deployment
from stages.history import Audit, DeadLetter
from stages.model import Stage, Variant
from suite.ports import Backlog, BadInput, Footprint, Letter, Redriven, SuiteError

STOCK_RATE_PER_S = 25.0
"""Orders placed per second while the stock is put by: no more work per second than the default load is."""

RESTOCK_S = 15.0
"""A shop that has not confirmed the orders by then is not well, which the baseline will tell better."""

_AUDIT_FIELDS = tuple(f.name for f in fields(Audit))


class LocalStages:
    """The Target port on the embedded local target of this user."""

    def __init__(self) -> None:
        with _translated():
            self._local = LocalTarget()

    def cannot(self, stage: Stage) -> list[str]:
        return [*self._local.problems(), *(self._local.mesh_problems() if stage.mesh else ())]

    def up(
        self,
        stage: Stage,
        *,
        name: str,
        run_id: str,
        variant: Variant | None,
        owner_pid: int | None,
        progress: Callable[[str], None],
    ) -> Deployment:
        _known(name)
        new = name not in self.names()
        if not new:
            run_id = self.get(name).run_id  # what runs keeps its tag; `up` repairs it, or changes nothing
        try:
            with _translated():
                return self._local.up(
                    stage,
                    name=name,
                    run_id=run_id,
                    variant=variant.name if variant else None,
                    owner_pid=owner_pid,
                    on_progress=progress,
                )
        except BaseException:
            if new:
                self.down(name)
            raise

    def get(self, name: str) -> Deployment:
        _known(name)
        with _translated():
            return self._local.get(name)

    def names(self) -> list[str]:
        with _translated():
            return sorted(entry["name"] for entry in self._local.list())

    def down(self, name: str) -> None:
        _known(name)
        with _translated():
            self._local.down(name)

    def audits(self, deployment: Deployment) -> Iterable[Audit]:
        with _translated():
            for raw in self._local.audits(deployment):
                yield Audit(**{name: raw[name] for name in _AUDIT_FIELDS if name in raw})

    def backlog(self, deployment: Deployment) -> Backlog:
        with _translated():
            return Backlog(**self._local.backlog(deployment.name))

    def dead_letters(self, name: str) -> list[Letter]:
        with _translated():
            return [_letter(raw) for raw in self._local.dead_letters(name)]

    def redrive(self, name: str, queue: str | None, ids: Sequence[str] | None) -> Redriven:
        with _translated():
            return Redriven(**self._local.redrive(name, queue, ids))

    def footprint(self, deployment: Deployment) -> Footprint:
        used = self._local.usage(deployment)
        return Footprint(processes=int(used["processes"]), memory_mb=used["memory_mb"], cpu_s=used["cpu_s"])

    def drift(self, deployment: Deployment) -> list[str]:
        with _translated():
            found = self._local.resources(deployment.name)
        return [
            f"{r['kind']} {r['name']} is {r['state']}"
            for r in found
            if r.get("state") in ("exited", "paused", "down-by-fault", "failed", "down")
        ]

    def policy(self, deployment: Deployment) -> Sequence[PolicyTry]:
        with _translated():
            return self._local.policy(deployment)

    def mesh_status(self, deployment: Deployment) -> Mapping[str, Mapping[str, Any]]:
        with _translated():
            return self._local.mesh_status(deployment.name)

    def active_faults(self, name: str) -> list[str]:
        with _translated():
            return [str(f["lease"]) for f in self._local.faults() if f["deployment"] == name]

    def log(self, name: str, service: str, lines: int) -> list[str]:
        with _translated():
            return list(self._local.logs(name, service, lines))

    def residue(self, name: str) -> list[str]:
        with _translated():
            return list(self._local.residue(name))

    def heal(self, name: str | None = None) -> tuple[list[str], list[str]]:
        with _translated():
            found = self._local.heal(name)
        return list(found["healed"]), list(found["left"])


def _letter(raw: Mapping[str, Any]) -> Letter:
    """What the local target tells of a dead letter, in the suite's records."""
    record = DeadLetter(
        queue=raw["queue"],
        id=raw["id"],
        reason=raw["reason"],
        detail=raw["detail"],
        at_ns=raw["died_ns"],
        receives=raw["receives"],
        type=raw["type"],
        key=raw["key"],
        subject=raw["subject"],
    )
    return Letter(
        record=record,
        dead_letter_queue=raw["dead_letter_queue"],
        consumer=raw["consumer"],
        since_utc=raw["since_utc"],
        body=raw["body"],
    )


def _known(name: str) -> None:
    """No name that cannot be one reaches the local cloud's paths."""
    if problems := deployment_problems(name):
        raise BadInput(problems)


@contextmanager
def _translated() -> Iterator[None]:
    """Errors of the local cloud in the pipeline's words."""
    try:
        yield
    except (Conflict, Invalid, NotFound) as error:
        raise BadInput(error.problems or [str(error)]) from error
    except CloudError as error:
        raise SuiteError(str(error)) from error


@contextmanager
def _no_load() -> Iterator[None]:
    """Errors of the load generator in the pipeline's words."""
    try:
        yield
    except LoadError as error:
        raise SuiteError(f"no load: {error}") from error


class MonotonicClock:
    """CLOCK_MONOTONIC, the clock of every history."""

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class LocustLoad:
    """The Load port on Locust's process."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._rate = 0.0
        self._mix: Mapping[str, int] = {}
        with _no_load():
            self._driver = LocustDriver(directory)

    def start(
        self, deployment: Deployment, *, run_id: str, rate: float, seed: int, mix: Mapping[str, int]
    ) -> list[Path]:
        self._rate, self._mix = rate, mix
        with _no_load():
            self._driver.start(edge=deployment.edge, run_id=run_id, rate_per_s=rate, mix=mix, seed=seed)
        return list(self._driver.histories)

    def mix(self, mix: Mapping[str, int]) -> None:
        self._mix = mix
        with _no_load():
            self._driver.mix(mix)

    def restock(self, orders: int) -> None:
        with _no_load():
            if self._driver.stats().stock >= orders:
                return
            self._driver.phase("restock")
            self._driver.rate(STOCK_RATE_PER_S)
            self._driver.mix({"place-order": 1})
            deadline = time.monotonic() + RESTOCK_S
            while self._driver.stats().stock < orders and time.monotonic() < deadline:
                time.sleep(0.1)
            self._driver.mix(self._mix)
            self._driver.rate(self._rate)

    def phase(self, name: str) -> None:
        with _no_load():
            self._driver.phase(name)

    def outstanding(self) -> list[Outstanding]:
        with _no_load():
            return [Outstanding(operation=o, intended_ns=at_ns) for o, at_ns in self._driver.outstanding()]

    def stop(self) -> None:
        with _no_load():
            self._driver.stop()

    def close(self) -> None:
        self._driver.close()


class ToolkitFaults:
    """The Faults port on Chaos Toolkit's process."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._driver = ChaosDriver(errors=directory / "chaos.log")
        self._driver.start()
        self._enough = directory / "enough"

    def begin(self, fault: str, deployment: Deployment, *, hold_s: float) -> None:
        self._enough.unlink(missing_ok=True)
        self._driver.run(
            fault,
            deployment=Path(deployment.directory) / "deployment.json",
            history=self.history(),
            until=self._enough,
            hold_s=hold_s,
        )

    def release(self) -> None:
        self._enough.touch()

    def finished(self) -> str | None:
        try:
            answer = self._driver.poll()
        except ChaosDriverError as error:
            raise SuiteError(str(error)) from error
        return None if answer is None else "; ".join(answer.problems)

    def history(self) -> Path:
        return self._directory / "faults.jsonl"

    def close(self) -> None:
        self._driver.close()
