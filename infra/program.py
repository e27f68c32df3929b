"""Which resources does a stack have? Configuration -> Options -> Stage -> what the target renders.

Renderers are imported when their target is asked for: the local one must not pay for the SDKs of a cloud.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import pulumi
from pulumi.runtime import config

from infra.config import ConfigError, Options, options
from stages.catalogue import STAGES
from stages.model import Stage

RENDERERS = {"local": "infra.local.pulumi.resources", "k8s": "infra.k8s.program", "aws": "infra.aws.program"}
"""By target, the module whose `deploy(options, stage)` registers everything and returns the stack's outputs."""

SECRETS = ("broker_url", "database_url")
"""Keys whose values must be encrypted: they may hold a password."""


def main() -> None:
    """The program. Raise pulumi.RunError, which the engine shows as it is, for a configuration that cannot be used."""
    raw = raw_config(pulumi.get_project())
    try:
        found = options(raw, pulumi.get_stack())
    except ConfigError as error:
        raise pulumi.RunError(_said(error.problems)) from None
    if problems := open_secrets(raw, pulumi.get_project()):
        raise pulumi.RunError(_said(problems))
    for name, value in deploy(found, STAGES[found.stage]).items():
        pulumi.export(name, value)


def deploy(found: Options, stage: Stage) -> Mapping[str, Any]:
    """Register everything on the target; returns the stack's outputs."""
    outputs: Mapping[str, Any] = import_module(RENDERERS[found.target]).deploy(found, stage)
    return outputs


def raw_config(project: str) -> dict[str, object]:
    """Every key of this project that the stack sets, without the project's name."""
    everything = {**config.get_config_env(), **config.CONFIG.get()}
    prefix = f"{project}:"
    return {key.removeprefix(prefix): value for key, value in everything.items() if key.startswith(prefix)}


def open_secrets(raw: Mapping[str, object], project: str) -> tuple[str, ...]:
    """What should be encrypted and is not."""
    return tuple(
        f"{key} must be encrypted; `pulumi config set --secret {key} ...`"
        for key in SECRETS
        if raw.get(key) and not config.is_config_secret(f"{project}:{key}")
    )


def _said(problems: tuple[str, ...]) -> str:
    """One line per problem."""
    if len(problems) == 1:
        return f"configuration: {problems[0]}"
    return "\n".join(["configuration:", *(f"  {problem}" for problem in problems)])
