"""Who keeps which contract: the composition root. Only this file and the command line know the concrete packages.

Everything is imported where it is needed: `stages --help` must not pay for a web client, nor `stages
show` for a load generator.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from stages.catalogue import STAGES
from stages.deployment import Deployment
from suite.plan import make_plan
from suite.ports import BadInput, Cloud, FaultPlan, Target
from suite.progress import Progress
from suite.stage_run import Tools
from suite.store import Store

if TYPE_CHECKING:
    from suite.verify import Parts
from suite.wishes import Wishes


def target() -> Target:
    """The embedded local target of this user."""
    from suite.adapters import LocalStages

    return LocalStages()


def cloud(name: str) -> Cloud:
    """A target that only deploys; BadInput for a name that is none."""
    if name != "aws":
        raise BadInput([f"no target {name!r}: there are local and aws (on k8s: `pulumi up`, see docs/targets/k8s.md)"])
    from suite.clouds import AwsStages

    return AwsStages()


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


@contextmanager
def verify_parts(
    wishes: Wishes, *, use: str | None, out: Path | None, console: Console, argv: Sequence[str]
) -> Iterator[Parts]:
    """Everything `suite.verify` needs, decided and checked; BadInput before anything is started."""
    from suite.adapters import LocustLoad, MonotonicClock, ToolkitFaults
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
