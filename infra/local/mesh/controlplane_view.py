"""What does the local cloud tell a control plane of its cluster? view.json as a record. (pure)"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FORMAT = 1

Versions = Mapping[str, str]
"""Address by version: {'v1': '127.0.0.1:20011'}."""


@dataclass(frozen=True, slots=True)
class Part:
    """A sidecar or gateway that exists, dead or alive."""

    role: str
    """'sidecar' or 'gateway'."""
    of: str | None
    """The service it stands beside; None for a gateway."""
    version: str
    ports: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Affliction:
    """What a fault wants the control plane to do wrong for as long as it is in the view."""

    kind: str
    target: str
    """A service, or a part, by kind."""


@dataclass(frozen=True, slots=True)
class View:
    """The cluster as the local cloud sees it."""

    instances: Mapping[str, Versions] = field(default_factory=dict)
    """Applications that run."""
    sidecars: Mapping[str, Versions] = field(default_factory=dict)
    """Where their sidecars take calls in, also while one is dead."""
    parts: Mapping[str, Part] = field(default_factory=dict)
    routes: Mapping[str, Versions] = field(default_factory=dict)
    """By channel: the wire that leads to a version of its callee."""
    broker_routes: Mapping[str, str] = field(default_factory=dict)
    registry: str | None = None
    splits: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """By callee: percent of the calls per version; what is left goes to the stable one."""
    variant: frozenset[str] = frozenset()
    """Words of what this deployment leaves out on purpose."""
    afflictions: Mapping[str, Affliction] = field(default_factory=dict)
    """By lease."""

    @classmethod
    def from_json(cls, text: str) -> View:
        """Raise ValueError for anything that is not a view of this format."""
        try:
            raw: dict[str, Any] = json.loads(text)
            if raw["format"] != FORMAT:
                raise ValueError(f"format {raw['format']!r}, this control plane reads {FORMAT}")
            return cls(
                instances=raw["instances"],
                sidecars=raw["sidecars"],
                parts={name: _part(part) for name, part in raw["parts"].items()},
                routes=raw["routes"],
                broker_routes=raw["broker_routes"],
                registry=raw["registry"],
                splits=raw["splits"],
                variant=frozenset(raw["variant"]),
                afflictions={
                    lease: Affliction(a["kind"], a.get("service", "")) for lease, a in raw["afflictions"].items()
                },
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a view: {error!r}") from error

    def afflicted(self, kind: str) -> frozenset[str]:
        """What afflictions of a kind are aimed at."""
        return frozenset(a.target for a in self.afflictions.values() if a.kind == kind)


def _part(raw: Mapping[str, Any]) -> Part:
    ports = {name: int(port) for name, port in raw["ports"].items()}
    return Part(role=raw["role"], of=raw.get("of"), version=raw.get("version", "v1"), ports=ports)
