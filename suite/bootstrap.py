"""Who keeps which contract: the composition root. Only this file and the command line know the concrete packages.

Everything is imported where it is needed: `stages --help` must not pay for a web client, nor `stages
show` for a load generator.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from stages.catalogue import STAGES
from stages.check import Outstanding
from stages.deployment import Deployment
from suite.plan import Wishes, make_plan
from suite.ports import BadInput, FaultPlan, SuiteError, Target
from suite.progress import Progress
from suite.stage_run import Tools
from suite.store import Store

if TYPE_CHECKING:
    from chaos.driver import ChaosDriver
    from loadtests.driver import LocustDriver
    from suite.verify import Parts

STOCK_RATE_PER_S = 40.0
"""Orders placed per second while the stock is put by: under the default load's work per second."""


def target() -> Target:
    """The embedded local target of this user."""
    from infra.local.target import LocalTarget

    from infra.local.home import home

    return LocalTarget(home())


def new_run_id() -> str:
    """Tags all that belongs to one run; no two runs share one."""
    return secrets.token_hex(4)


def fault_catalogue() -> Mapping[str, Sequence[FaultPlan]]:
    """The faults of every stage, as the pipeline sees them."""
    from chaos.catalogue import faults_of

    return {
        stage.name: tuple(
            FaultPlan(name=f.name, summary=f.summary, impact=f.fault.impact(stage), quick=f.quick)
            for f in faults_of(stage)
        )
        for stage in STAGES.values()
    }


def choose_deployment(local: Target, name: str | None) -> Deployment:
    """The named deployment, or the only one there is; BadInput otherwise."""
    there = local.names()
    if name is None and len(there) == 1:
        return local.get(there[0])
    if name is None:
        raise BadInput(
            [
                f"which deployment? {', '.join(there)} are running: say --use NAME"
                if there
                else "nothing is running: say 'stages up sync' first"
            ]
        )
    if name not in there:
        raise BadInput([f"no deployment {name!r}: {', '.join(there) or 'nothing'} is running"])
    return local.get(name)


class MonotonicClock:
    """CLOCK_MONOTONIC, the clock of every history."""

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class LocustLoad:
    """The Load port on Locust's process."""

    def __init__(self, directory: Path) -> None:
        from loadtests.driver import LocustDriver

        directory.mkdir(parents=True, exist_ok=True)
        self._driver: LocustDriver = LocustDriver(directory)

    def start(
        self, deployment: Deployment, *, run_id: str, rate: float, seed: int, mix: Mapping[str, int], stock: int
    ) -> list[Path]:
        from loadtests.driver import LoadError, WarmUp

        warm_up = WarmUp(rate_per_s=STOCK_RATE_PER_S, seconds=stock / STOCK_RATE_PER_S)
        try:
            self._driver.start(
                edge=deployment.edge, run_id=run_id, rate_per_s=rate, mix=mix, seed=seed, warm_up=warm_up
            )
        except LoadError as error:
            raise SuiteError(f"no load: {error}") from error
        return list(self._driver.histories)

    def phase(self, name: str) -> None:
        self._driver.phase(name)

    def outstanding(self) -> list[Outstanding]:
        return [Outstanding(operation=o, intended_ns=at_ns) for o, at_ns in self._driver.outstanding()]

    def stop(self) -> None:
        self._driver.stop()

    def close(self) -> None:
        self._driver.close()


class ToolkitFaults:
    """The Faults port on Chaos Toolkit's process."""

    def __init__(self, directory: Path) -> None:
        from chaos.driver import ChaosDriver

        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._driver: ChaosDriver = ChaosDriver(errors=directory / "chaos.log")
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
        from chaos.driver import ChaosDriverError

        try:
            answer = self._driver.poll()
        except ChaosDriverError as error:
            raise SuiteError(str(error)) from error
        return None if answer is None else "; ".join(answer.problems)

    def history(self) -> Path:
        return self._directory / "faults.jsonl"

    def close(self) -> None:
        self._driver.close()


@contextmanager
def verify_parts(
    wishes: Wishes, *, use: str | None, out: Path | None, console: Console, argv: Sequence[str]
) -> Iterator[Parts]:
    """Everything `suite.verify` needs, decided and checked; BadInput before anything is started."""
    from suite.verify import Parts

    local = target()
    deployment = choose_deployment(local, use) if use is not None else None
    cannot = {} if deployment else {name: local.cannot(stage) for name, stage in STAGES.items()}
    plan = make_plan(wishes, catalogue=fault_catalogue(), cannot=cannot, use=deployment)
    now = datetime.now(UTC)
    store = Store.create(out, now=now, seed=plan.seed)
    numbers = iter(range(1, 1000))
    with Progress(console) as progress:
        tools = Tools(
            target=local,
            load=lambda: LocustLoad(store.parts / f"load-{next(numbers)}"),
            faults=lambda: ToolkitFaults(store.parts / f"faults-{next(numbers)}"),
            clock=MonotonicClock(),
            store=store,
            progress=progress.say,
            owner_pid=os.getpid(),
            new_run_id=new_run_id,
            use=deployment,
        )
        yield Parts(plan=plan, tools=tools, store=store, started=now, command=("stages", *argv))
