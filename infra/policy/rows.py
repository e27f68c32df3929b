"""What does a rule see of a stack, and what does it answer? (pure, standard library only)

A row is one resource as the engine has it: type token, name, inputs with camelCase keys. Values may be unknown (a
preview does not know what a resource will answer) or secret. A rule never fails on either: a secret is read, and what
depends on something unknown is `Unjudged`, said with the reason, instead of passed or refused by a guess.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol


class _Unknown:
    def __repr__(self) -> str:
        return "<unknown>"


UNKNOWN: Final = _Unknown()
"""A value that nobody has yet."""

_SIGNATURE = "4dabf18193072939515e22adb298388d"
_SECRET = "1b47061264138c4ac30d75fd1eb44270"
_OUTPUT = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
_UNKNOWN_TEXTS = frozenset(
    {
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",
        "04da6b54-80e4-46f7-96ec-b56ff0331ba9",
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",
        "030794c1-ac77-496b-92df-f27374a8bd58",
        "e48ece36-62e2-4504-bad9-02848725956a",
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",
    }
)
"""How the engine writes unknown values of each type, and marks secrets and outputs
(pulumi/sdk/go/common/resource/plugin/rpc.go and resource/properties.go)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One resource."""

    type: str
    """Such as 'aws:sqs/queue:Queue' or 'kubernetes:apps/v1:Deployment'."""
    name: str
    """The Pulumi name, as users see it in `pulumi up`."""
    inputs: Mapping[str, Any]
    """Plain: no secret wrappers, UNKNOWN for what is not known."""
    urn: str = ""
    """Where the engine wants a finding shown; '' outside of it."""

    @property
    def kind(self) -> str:
        """The last part of the type: 'Queue'."""
        return self.type.rpartition(":")[2]

    @property
    def namespace(self) -> Any:
        """Of a Kubernetes object; 'default' where none is said."""
        said = at(self.inputs, "metadata", "namespace")
        return "default" if said is None else said


class Recorded(Protocol):
    """What a recorder of a program under mocks gives."""

    @property
    def type(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def inputs(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Wrong:
    """A rule is broken."""

    row: Row
    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Unjudged:
    """A rule cannot say yet."""

    row: Row
    because: str


Said = Wrong | Unjudged


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a user is told: where, what is wrong, what to do."""

    rule: str
    type: str
    resource: str
    wrong: str
    remedy: str
    """'' where nothing is wrong, but something could not be judged."""
    judged: bool = True
    """False: `wrong` says what is not known yet, and nothing is refused for it."""
    urn: str = ""

    def __str__(self) -> str:
        if not self.judged:
            return f"{self.rule}: {self.type} {self.resource!r} is not judged: {self.wrong}"
        return f"{self.rule}: {self.type} {self.resource!r}: {self.wrong}; {self.remedy}"


def rows(recorded: Iterable[Recorded]) -> tuple[Row, ...]:
    """Rows of a program's record, made plain."""
    return tuple(Row(type=r.type, name=r.name, inputs=_mapping(plain(r.inputs))) for r in recorded)


def plain(value: Any) -> Any:
    """A value without wrappers: secrets opened, what is unknown as UNKNOWN.

    >>> plain({"size": "04da6b54-80e4-46f7-96ec-b56ff0331ba9", "names": ("a",)})
    {'size': <unknown>, 'names': ['a']}
    """
    if isinstance(value, str):
        return UNKNOWN if any(text in value for text in _UNKNOWN_TEXTS) else value
    if isinstance(value, Mapping):
        signature = value.get(_SIGNATURE)
        if signature in (_SECRET, _OUTPUT):
            return plain(value["value"]) if "value" in value else UNKNOWN
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return UNKNOWN  # an asset, or a type of the engine's that stands for something not there yet


def at(value: Any, *path: str | int) -> Any:
    """What is found under a path: None if nothing is, UNKNOWN if a part of the way is unknown.

    >>> at({"a": [{"b": 1}]}, "a", 0, "b"), at({"a": 3}, "a", "b"), at({"a": UNKNOWN}, "a", "b")
    (1, None, <unknown>)
    """
    for step in path:
        if value is UNKNOWN:
            return UNKNOWN
        if isinstance(step, str) and isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(step, int) and isinstance(value, list) and -len(value) <= step < len(value):
            value = value[step]
        else:
            return None
    return value


def items(value: Any) -> list[Any]:
    """The items of a list; of anything else but None, the thing alone; UNKNOWN stays an item."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def document(value: Any) -> Any:
    """A JSON document, given as text or as a structure; UNKNOWN if it cannot be read yet."""
    if not isinstance(value, str):
        return value
    try:
        return plain(json.loads(value))
    except ValueError:
        return UNKNOWN


def unknown_in(value: Any) -> bool:
    """Whether anything in it is unknown."""
    if isinstance(value, Mapping):
        return any(unknown_in(item) for item in value.values())
    if isinstance(value, list):
        return any(unknown_in(item) for item in value)
    return value is UNKNOWN


def of_type(all_rows: Iterable[Row], *types: str) -> Iterator[Row]:
    return (row for row in all_rows if row.type in types)


def kubernetes(all_rows: Iterable[Row], kind: str, group: str = "") -> Iterator[Row]:
    """Kubernetes objects of a kind, whatever the version of their API.

    A custom object's type token is 'kubernetes:<group>/<version>:<Kind>', as of those that Kubernetes brings.
    """
    for row in all_rows:
        provider, _, rest = row.type.partition(":")
        api, _, its_kind = rest.partition(":")
        if provider == "kubernetes" and its_kind == kind and (not group or api.partition("/")[0] == group):
            yield row


def matches(selector: Any, labels: Any) -> bool | None:
    """Whether a label selector takes labels: None if that is not known; an empty selector takes everything.

    Only `matchLabels`, or the labels themselves: `matchExpressions` make it None, that is, not judged.
    """
    if at(selector, "matchExpressions"):
        return None
    wanted = at(selector, "matchLabels") if isinstance(selector, Mapping) and "matchLabels" in selector else selector
    if wanted is UNKNOWN or labels is UNKNOWN:
        return None
    pairs = [(value, at(labels, key)) for key, value in _mapping(wanted).items()]
    if any(wants is not UNKNOWN and has is not UNKNOWN and wants != has for wants, has in pairs):
        return False
    return None if any(UNKNOWN in pair for pair in pairs) else True


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
