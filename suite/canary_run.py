"""`stages canary` from wishes to an answer: who keeps which of its contracts."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from infra.local.errors import CloudError
from infra.local.promotion import promote
from infra.local.target import LocalTarget
from stages.deployment import Deployment
from suite.adapters import LocustLoad, MonotonicClock
from suite.bootstrap import choose_deployment, new_run_id, target
from suite.canary import CanaryPlan, CanaryTools, CanaryWishes, make_canary, run_canary
from suite.canary_calls import AccessLogs
from suite.ports import SuiteError
from suite.progress import Progress
from suite.show import Page
from suite.signals_clock import take


class LocalCandidates:
    """Candidates of the embedded local target."""

    def __init__(self) -> None:
        with _asked():
            self._local = LocalTarget()

    def start(self, deployment: Deployment, service: str, share_percent: int, defect: str) -> None:
        with _asked():
            self._local.canary(deployment.name, service, share_percent, defect)

    def promote(self, deployment: Deployment, service: str) -> None:
        with _asked():
            promote(self._local, deployment.name, service)

    def take_away(self, deployment: Deployment, service: str) -> None:
        with _asked():
            self._local.canary(deployment.name, service, None)


def canary(wishes: CanaryWishes, *, use: str | None, console: Console) -> Page:
    """Run one canary on a running deployment; BadInput before anything is started."""
    local = target()
    deployment = choose_deployment(local, use)
    plan = make_canary(wishes, deployment, busy=local.active_faults(deployment.name))
    with tempfile.TemporaryDirectory(prefix="stages-canary-") as directory, Progress(console) as progress:
        tools = CanaryTools(
            candidates=LocalCandidates(),
            calls=_access_logs,
            load=lambda: LocustLoad(Path(directory)),
            clock=MonotonicClock(),
            progress=progress.say,
            run_id=new_run_id(),
        )
        return run_canary(plan, tools)


def _access_logs(plan: CanaryPlan) -> AccessLogs:
    return AccessLogs(Path(plan.deployment.directory) / "traces", plan.parts, take())


@contextmanager
def _asked() -> Iterator[None]:
    """Errors of the local cloud in the pipeline's words."""
    try:
        yield
    except CloudError as error:
        raise SuiteError(f"the candidate: {error}") from error
