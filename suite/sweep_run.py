"""`stages sweep distance` from wishes to files: puts the parts together, runs every stage, writes what came of it.

sweep.json  sweep.html  history.jsonl  environment.json  logs/     in runs/sweep-<utc>-<seed>/, or where --out says
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType

from stages.catalogue import STAGES
from stages.history import Phase, Record, merged
from suite.bootstrap import choose_deployment, new_run_id, target
from suite.environment import describe
from suite.progress import Progress
from suite.publish import STAGE_MARK
from suite.report import distance as page
from suite.show import table
from suite.store import RUNS, Store
from suite.sweep import SweepResult, SweepTools, sweep_stage
from suite.sweep_document import decided, sweep_document
from suite.sweep_plan import SweepPlan, make_sweep
from suite.wishes import SweepWishes

FILES = ("sweep.json", "sweep.html", "history.jsonl", "environment.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepParts:
    """One sweep, ready to start."""

    plan: SweepPlan
    tools: SweepTools
    started: datetime
    command: tuple[str, ...]
    """As the user typed it, for the report."""


@contextmanager
def sweep_parts(
    wishes: SweepWishes, *, use: str | None, out: Path | None, console: Console, argv: Sequence[str]
) -> Iterator[SweepParts]:
    """Everything a sweep needs, decided and checked; BadInput before anything is started."""
    from suite.adapters import LocustLoad, MonotonicClock
    from suite.sweep_wires import LeasedDistance

    local = target()
    deployment = choose_deployment(local, use) if use is not None else None
    cannot = {} if deployment else {name: local.cannot(stage) for name, stage in STAGES.items()}
    busy = local.active_faults(deployment.name) if deployment else []
    plan = make_sweep(wishes, cannot=cannot, use=deployment, busy=busy)
    now = datetime.now(UTC)
    store = Store.create(out or RUNS / f"sweep-{now:%Y%m%dT%H%M%SZ}-{plan.seed}", now=now, seed=plan.seed)
    for name in FILES:
        (store.directory / name).unlink(missing_ok=True)
    numbers = iter(range(1, 1000))
    with Progress(console) as progress:
        tools = SweepTools(
            target=local,
            load=lambda: LocustLoad(store.parts / f"load-{next(numbers)}"),
            distance=LeasedDistance,
            clock=MonotonicClock(),
            store=store,
            progress=progress.say,
            owner_pid=os.getpid(),
            new_run_id=new_run_id,
            decided=decided,
            use=deployment,
        )
        yield SweepParts(plan=plan, tools=tools, started=now, command=("stages", *argv))


def sweep(parts: SweepParts) -> dict[str, Any]:
    """Run the plan, write all files of the sweep, return sweep.json's object.

    An interrupt passes through after the wires are as before and our deployment is gone; what was seen is written.
    """
    store = parts.tools.store
    environment = describe()
    store.write_json("environment.json", environment)
    results: list[SweepResult] = []
    marks: list[Record] = []
    try:
        for stage_sweep in parts.plan.stages:
            marks.append(Phase(name=f"{STAGE_MARK}{stage_sweep.stage.name}", at_ns=parts.tools.clock.now_ns()))
            results.append(SweepResult(plan=stage_sweep))
            sweep_stage(parts.plan, results[-1], parts.tools)
    finally:
        store.write_history(merged(marks, *((*r.gathered.records(), *r.audits) for r in results)))
        store.keep_generator_logs()
        store.finish()
    parts.tools.progress("judging")
    document = sweep_document(
        parts.plan,
        results,
        started=parts.started,
        duration_s=(datetime.now(UTC) - parts.started).total_seconds(),
        command=parts.command,
        environment=environment,
    )
    store.write_json("sweep.json", document)
    store.write_text("sweep.html", page.render(document))
    return document


def summary(document: Mapping[str, Any]) -> list[RenderableType]:
    """The table for people: measured and predicted round trips of each stage's operations, then what is not valid."""
    lines: list[RenderableType] = []
    for name, stage in document["stages"].items():
        rows = table("operation", *(f"{ms} ms" for ms in document["delays_ms"]), "round trips", "predicted", "verdict")
        rows.title = f"{name}: median latency by one-way distance between systems"
        for operation, found in stage["operations"].items():
            rows.add_row(
                operation, *_medians(document, found), _slope(found), str(found["predicted"]), found["verdict"]
            )
        for completion, found in stage["completions"].items():
            rows.add_row(f"{completion} (completion)", *_medians(document, found), _slope(found), "-", "-")
        lines.append(rows)
        lines += [f"{name}: {stage['trouble']}"] if stage["trouble"] else []
        judged = [*stage["operations"].items(), *((check["name"], check) for check in stage["checks"])]
        lines += [f"{name} {what}: {row['because']}" for what, row in judged if row["verdict"] != "valid"]
    return [*lines, f"{document['verdict']}: {document['because']}"]


def _medians(document: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    there = {distance: p50_ms for distance, p50_ms, _ in found["points"]}
    return [f"{there[ms]:.0f} ms" if ms in there else "-" for ms in document["delays_ms"]]


def _slope(found: Mapping[str, Any]) -> str:
    return "-" if found["slope"] is None else f"{found['slope']:.2f} ({found['low']:.2f} to {found['high']:.2f})"
