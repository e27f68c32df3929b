"""What do `stages up` and `stages down` do on AWS? The plan, the checks before it, and the engine behind it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from infra.aws.automation import Engine
from infra.aws.fleet import Decided, Known, decide, effective, unreadable
from infra.aws.preflight import REGION, lacks, look
from infra.aws.rollout import Outcome, Report, Workspace, WorkspaceError, build, raze
from infra.aws.split import plan, standing
from infra.aws.stack_file import StackFileError, read
from infra.config import ConfigError, options
from stages.catalogue import STAGES
from stages.model import Stage

ROOT = "STAGES_PROJECT"
"""Environment variable: folder of Pulumi.yaml; default the checkout that this package is part of."""


class AwsTarget:
    """One checkout of the project, one backend, one account and region."""

    def __init__(self, environ: Mapping[str, str] = os.environ, workspace: Workspace | None = None) -> None:
        """`workspace` stands in for the engine in tests."""
        self._environ = environ
        self._root = Path(environ.get(ROOT) or Path(__file__).resolve().parents[2])
        self._workspace = workspace or Engine(self._root, environ.get("PULUMI_SECRETS_PROVIDER"))

    def problems(self, stage: Stage | None, name: str) -> list[str]:
        """Why the engine would fail for reasons that are known before it starts; [] if there are none.

        `stage`: the one to be deployed; None where only stacks that stand are to be destroyed.
        """
        shared, found = shared_config(self._stack_file(stage)) if stage else ({}, [])
        missing = lacks(look(self._root, shared, self._environ), self._root)
        found += missing
        if stage:
            try:
                # without the engine nobody knows what stands: then what the files say is all that is looked at
                decided, known = self._decided(stage, name, shared, ask=not missing)
            except WorkspaceError as error:
                return [*found, str(error)]
            found += [*decided.problems, *_refused(decided, known)]
        return found

    def planned(self, stage: Stage, name: str) -> Decided:
        """What `up` would tell every stack, and why; starts nothing. May raise WorkspaceError."""
        shared, _ = shared_config(self._stack_file(stage))
        return self._decided(stage, name, shared)[0]

    def up(self, stage: Stage, name: str, say: Callable[[str], None]) -> Report:
        """Bring every stack of the stage up; who fails is in the report. May raise WorkspaceError, before any."""
        decided = self.planned(stage, name)
        report = build(decided.plan, self._workspace, say)
        # what has not begun was not told anything
        begun = (*report.stacks(Outcome.DONE), *report.stacks(Outcome.FAILED))
        return replace(report, notes=decided.of(begun).lines)

    def down(self, name: str, say: Callable[[str], None]) -> Report | None:
        """Destroy what stands of a deployment, the backbone last; None if nothing does. May raise WorkspaceError."""
        there = standing(STAGES.values(), name, self._workspace.stacks())
        return raze(there, self._workspace, say) if there else None

    def _stack_file(self, stage: Stage) -> Path:
        return self._root / f"Pulumi.aws-{stage.name}.yaml"

    def _decided(
        self, stage: Stage, name: str, shared: Mapping[str, str], *, ask: bool = True
    ) -> tuple[Decided, dict[str, Known]]:
        whole = plan(stage, name, shared)
        there = self._workspace.stacks() if ask else frozenset()
        known = {part.stack: self._workspace.known(part.stack, stands=part.stack in there) for part in whole.parts}
        # the region that the user's other tools take: the program must not fall back to another one
        region = next((self._environ[key] for key in REGION if self._environ.get(key)), None)
        return decide(whole, known, region), known


def shared_config(path: Path) -> tuple[dict[str, str], list[str]]:
    """What a stage's stack file says to every stack of the stage, and what is wrong with it.

    A secret there is encrypted for one stack only: it is refused, never dropped in silence.
    """
    try:
        found = read(path)
    except StackFileError as error:
        return {}, [str(error)]
    return dict(found.own), [
        f"{path.name}: {key} is a secret of that stack; set it on each stack that needs it instead"
        for key in found.secrets
    ]


def _refused(decided: Decided, known: Mapping[str, Known]) -> list[str]:
    """What the program itself would refuse; said once where several stacks share it."""
    problems: dict[str, None] = {}
    for part in decided.plan.parts:
        if unread := unreadable(part, known[part.stack]):
            problems.update(dict.fromkeys(unread))
            continue
        try:
            options(effective(part, known[part.stack]), part.stack)
        except ConfigError as error:
            problems.update(dict.fromkeys(error.problems))
    return list(problems)
