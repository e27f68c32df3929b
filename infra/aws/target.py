"""What do `stages up` and `stages down` do on AWS? The plan, the checks before it, and the engine behind it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml  # type: ignore[import-untyped]  # its stubs are one more package for two calls

from infra.aws.automation import Engine
from infra.aws.preflight import lacks, look
from infra.aws.rollout import Report, Workspace, build, raze
from infra.aws.split import Plan, plan, standing
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
        found += lacks(look(self._root, shared, self._environ), self._root)
        if stage:
            found += _refused(plan(stage, name, self._defaults(shared)))
        return found

    def up(self, stage: Stage, name: str, say: Callable[[str], None]) -> Report:
        """Bring every stack of the stage up; those that fail are in the report. Raise WorkspaceError never."""
        shared, _ = shared_config(self._stack_file(stage))
        return build(plan(stage, name, self._defaults(shared)), self._workspace, say)

    def down(self, name: str, say: Callable[[str], None]) -> Report | None:
        """Destroy what stands of a deployment, the backbone last; None if nothing does. May raise WorkspaceError."""
        there = standing(STAGES.values(), name, self._workspace.stacks())
        return raze(there, self._workspace, say) if there else None

    def _stack_file(self, stage: Stage) -> Path:
        return self._root / f"Pulumi.aws-{stage.name}.yaml"

    def _defaults(self, shared: Mapping[str, str]) -> dict[str, str]:
        """With the region that the user's other tools take: the program must not fall back to another one."""
        region = self._environ.get("AWS_REGION") or self._environ.get("AWS_DEFAULT_REGION")
        return {**({"region": region} if region else {}), **shared}


def shared_config(path: Path) -> tuple[dict[str, str], list[str]]:
    """What every stack of a stage begins with, from the stage's stack file, and what is wrong with it.

    A secret there is encrypted for one stack only: it is refused, never dropped in silence.
    """
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except FileNotFoundError:
        return {}, []
    except (OSError, yaml.YAMLError) as error:
        return {}, [f"{path.name} cannot be read: {str(error).splitlines()[0]}"]
    found: dict[str, str] = {}
    problems = []
    for key, value in (content.get("config") or {}).items():
        namespace, _, short = key.rpartition(":")
        if isinstance(value, dict) and "secure" in value:
            problems.append(f"{path.name}: {key} is a secret of that stack; set it on each stack that needs it instead")
        elif namespace != "aws":
            found[short] = json.dumps(value) if isinstance(value, dict | list) else str(value)
    return found, problems


def _refused(planned: Plan) -> list[str]:
    problems: dict[str, None] = {}
    for part in planned.parts:
        try:
            options({**dict(part.defaults), **dict(part.config)}, part.stack)
        except ConfigError as error:
            problems.update(dict.fromkeys(error.problems))
    return list(problems)
