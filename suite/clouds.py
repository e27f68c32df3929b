"""The Cloud port kept by infra: translates types and errors, nothing else."""

from __future__ import annotations

from collections.abc import Callable

from infra.aws.rollout import Report, WorkspaceError
from infra.aws.target import AwsTarget
from infra.naming import deployment_problems
from stages.model import Stage
from suite.ports import Rollout, SuiteError


class AwsStages:
    """Stacks of the Pulumi engine on AWS."""

    def __init__(self, aws: AwsTarget | None = None) -> None:
        self._aws = aws or AwsTarget()

    def cannot(self, stage: Stage | None, name: str) -> list[str]:
        return [*deployment_problems(name), *self._aws.problems(stage, name)]

    def up(self, stage: Stage, *, name: str, progress: Callable[[str], None]) -> Rollout:
        return _rollout(self._aws.up(stage, name, progress))

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
