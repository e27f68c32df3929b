"""Which resources does a stack on AWS have? Stage and options in, everything registered, the stack's outputs out.

Stages sync and async are `infra.aws.one_cluster`, stage mesh is `infra.aws.mesh_program`.
"""

from __future__ import annotations

from importlib import import_module

import pulumi

from infra.aws.naming import deployment_name_problems
from infra.config import Options
from stages.model import Stage

MESH = "infra.aws.mesh_program"
"""Imported only where it is needed: it brings Helm's part of the SDK along."""


def deploy(options: Options, stage: Stage) -> dict[str, pulumi.Input[object]]:
    """Register everything; returns the stack's outputs. Raise pulumi.RunError for a name that AWS refuses."""
    if problems := deployment_name_problems(options):
        raise pulumi.RunError("\n".join(f"configuration: {problem}" for problem in problems))
    if stage.mesh:
        outputs: dict[str, pulumi.Input[object]] = import_module(MESH).deploy(options, stage)
        return outputs
    from infra.aws.one_cluster import OneCluster

    return OneCluster(options, stage).outputs()
