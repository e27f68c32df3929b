"""The Cloud port kept by infra: translates types and errors, nothing else."""

from __future__ import annotations

from collections.abc import Callable

from infra.aws.fleet import Decided
from infra.aws.rollout import Report, WorkspaceError
from infra.aws.target import AwsTarget
from infra.naming import deployment_problems
from stages.model import Stage
from suite.ports import Planned, Rollout, SuiteError


class AwsStages:
    """Stacks of the Pulumi engine on AWS."""

    def __init__(self, aws: AwsTarget | None = None) -> None:
        self._aws = aws or AwsTarget()

    def cannot(self, stage: Stage | None, name: str) -> list[str]:
        return [*deployment_problems(name), *self._aws.problems(stage, name)]

    def planned(self, stage: Stage, *, name: str) -> Planned:
        try:
            return _planned(self._aws.planned(stage, name))
        except WorkspaceError as error:
            raise SuiteError(str(error)) from error

    def up(self, stage: Stage, *, name: str, progress: Callable[[str], None]) -> Rollout:
        try:
            return _rollout(self._aws.up(stage, name, progress))
        except WorkspaceError as error:
            raise SuiteError(str(error)) from error

    def down(self, name: str, *, progress: Callable[[str], None]) -> Rollout | None:
        try:
            report = self._aws.down(name, progress)
        except WorkspaceError as error:
            raise SuiteError(str(error)) from error
        return _rollout(report) if report else None


def _rollout(report: Report) -> Rollout:
    return Rollout(
        ok=report.ok,
        summary=report.summary,
        stacks={
            f.stack: {"outcome": f.outcome.value, "reason": f.reason, "outputs": dict(f.outputs)}
            for f in report.finished
        },
    )


def _planned(decided: Decided) -> Planned:
    order = " -> ".join(part.stack for part in decided.plan.parts)
    return Planned(
        summary="\n".join([f"in this order: {order}", *(decided.lines or ["no key changes"])]),
        stacks={
            part.stack: {
                "needs": list(part.needs),
                "settings": {
                    d.key: {"act": d.act.value, "before": d.before, "fleet": d.fleet, "own": d.own}
                    for d in decided.decisions
                    if d.stack == part.stack
                },
            }
            for part in decided.plan.parts
        },
    )
