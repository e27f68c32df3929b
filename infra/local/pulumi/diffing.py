"""What changes between a resource as it is and as it shall be: which property, and in place or by another one? (pure)

Also: what has somebody else changed since?
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.local.errors import Invalid
from infra.local.pulumi.kinds import IDENTITY, Kind

DRIFTED = frozenset({"exited", "missing", "down-by-fault", "paused"})
"""States that nobody asks for: `up` ends them."""


class Unknown:
    """A value that is known only once another resource exists."""

    def __repr__(self) -> str:
        return "(known after up)"


UNKNOWN = Unknown()


@dataclass(frozen=True, slots=True)
class Difference:
    """One property that differs."""

    path: str
    """'module', or 'env.STAGES_LISTEN'."""
    change: str
    """add, update or delete."""
    replace: bool = False
    is_input: bool = True
    """False: what the resource became by itself."""


def differences(kind: Kind, olds: Mapping[str, Any], news: Mapping[str, Any]) -> tuple[Difference, ...]:
    """From what is recorded of a resource to its new inputs, in the order of names; empty if nothing changes."""
    found: list[Difference] = []
    for key in sorted({*IDENTITY, *kind.inputs}):
        old, new = olds.get(key), news.get(key)
        replace = key in IDENTITY or key in kind.replaces
        # a resource that is replaced itself makes the inputs unknown that name it: then what names it goes with it
        replace = replace or (new is UNKNOWN and key in _NAMING)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            inner = [(f"{key}.{name}", old.get(name), new.get(name)) for name in sorted({*old, *new})]
        else:
            inner = [(key, old, new)]
        found += [_difference(path, before, after, replace) for path, before, after in inner if before != after]
    if olds.get("state") in DRIFTED:
        found.append(Difference("state", "update", is_input=False))
    return tuple(found)


def seen_inputs(kind: Kind, recorded: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """The recorded inputs, but where the cloud was asked for something else since: that.

    Inputs that are not whole are those of a resource that is being imported: it has what the cloud says.
    """
    try:
        known = kind.normal(recorded)
    except Invalid:
        return {**recorded, **{key: value for key, value in said.items() if value not in (None, [], {})}}
    changed = {key: value for key, value in said.items() if key in kind.inputs and value != known.get(key)}
    kept = {key: value for key, value in recorded.items() if key not in changed}
    return kept | {key: value for key, value in changed.items() if value is not None}


_NAMING = frozenset({"cluster", "database", "broker", "dead_letters", "topic", "queue"})
"""Inputs that name another resource."""


def _difference(path: str, old: object, new: object, replace: bool) -> Difference:
    change = "add" if old is None else "delete" if new is None else "update"
    return Difference(path, change, replace)
