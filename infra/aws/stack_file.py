"""What does a stack's file say? Pulumi.<stack>.yaml as it is written: no engine, and no defaults of the project."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml  # type: ignore[import-untyped]  # its stubs are one more package for two calls

from infra.config import FLEET

FOREIGN = ("aws", "kubernetes", "pulumi")
"""Namespaces of providers and of the engine: none of the project's keys."""


class StackFileError(Exception):
    """The file is there and cannot be read; one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackFile:
    """Its configuration, keys without their namespace, every value as a text (lists as JSON)."""

    own: Mapping[str, str] = field(default_factory=dict)
    fleet: Mapping[str, str] = field(default_factory=dict)
    """What stands under `fleet`."""
    secrets: tuple[str, ...] = ()
    """Keys as written, whose values are encrypted; not in `own`."""


def read(path: Path) -> StackFile:
    """The file's content; an empty one if there is none. Raise StackFileError."""
    try:
        config = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("config") or {}
    except FileNotFoundError:
        return StackFile()
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError) as error:
        raise StackFileError(f"{path.name} cannot be read: {str(error).splitlines()[0]}") from error
    own: dict[str, str] = {}
    fleet: dict[str, str] = {}
    secrets = []
    for key, value in config.items():
        namespace, _, short = key.rpartition(":")
        if namespace in FOREIGN:
            continue
        if isinstance(value, dict) and "secure" in value:
            secrets.append(key)
        elif short == FLEET:
            fleet = {name: _text(v) for name, v in value.items()} if isinstance(value, dict) else {}
        else:
            own[short] = _text(value)
    return StackFile(own=own, fleet=fleet, secrets=tuple(secrets))


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
