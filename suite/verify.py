"""The main job: every stage of a plan run one after the other, judged, written down.

deploy -> warm up -> baseline -> [fault -> observe -> undo -> recover] ... -> drain -> check -> report
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from stages.history import Phase, Record, merged
from suite.ahead import Ahead
from suite.environment import describe
from suite.plan import Plan
from suite.publish import STAGE_MARK, publish
from suite.stage_run import StageResult, Tools, run_stage
from suite.store import Store
from suite.verdict import run_document


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """One `stages verify`, ready to start."""

    plan: Plan
    tools: Tools
    store: Store
    started: datetime
    command: tuple[str, ...]
    """As the user typed it, for the report."""


def verify(parts: Parts) -> dict[str, Any]:
    """Run the plan, write all files of the run, return verdict.json's object.

    An interrupt passes through after healing and teardown; what was seen until then is written.
    """
    environment = describe()
    parts.store.write_json("environment.json", environment)
    results: list[StageResult] = []
    marks: list[Record] = []
    ahead = Ahead()
    try:
        for stage_plan, following in zip(parts.plan.stages, (*parts.plan.stages[1:], None), strict=True):
            marks.append(Phase(name=f"{STAGE_MARK}{stage_plan.stage.name}", at_ns=parts.tools.clock.now_ns()))
            results.append(StageResult(plan=stage_plan))
            run_stage(parts.plan, results[-1], parts.tools, ahead, following)
    finally:
        ahead.close(parts.tools.target.down)
        history = merged(
            marks,
            *(
                (*r.gathered.records(), *(r.audits or ()), *(letter.record for letter in r.letters or ()))
                for r in results
            ),
        )
        parts.store.write_history(history)
        parts.store.keep_generator_logs()
        parts.store.finish()
    parts.tools.progress("judging")
    document = run_document(
        parts.plan,
        results,
        started=parts.started,
        duration_s=(datetime.now(UTC) - parts.started).total_seconds(),
        command=parts.command,
        environment=environment,
    )
    publish(parts.store, document, history)
    return document
