"""What does a resource to be deployed look like, before anything is? (pure)

Plain records, compared by equality in tests. What is known only once something is deployed (a wire's address, a
database's URL) is a `Ref`, alone or between texts in a `Joined`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Ref:
    """An output of another resource: `Ref("wire", "orders-payments", "listen")`."""

    kind: str
    """deployment, cluster, database, queue, topic, port, wire or service."""
    name: str
    attribute: str

    @property
    def token(self) -> str:
        """How it is written inside a text until it is resolved."""
        return f"${{{self.kind}:{self.name}:{self.attribute}}}"


_TOKEN = re.compile(r"\$\{([a-z]+):([^:}]*):([a-z_]+)\}")


@dataclass(frozen=True, slots=True)
class Joined:
    """Texts and references, one after the other."""

    parts: tuple[str | Ref, ...]


Value = str | Ref | Joined


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One resource: PUT with these inputs has it, whatever was before."""

    kind: str
    name: str
    inputs: Mapping[str, object]
    """Plain JSON values."""
    env: Mapping[str, Value] = field(default_factory=dict)
    """Environment of a service, empty for everything else."""
    args: tuple[Value, ...] = ()
    """Its arguments, if they hold references; else they are among the inputs."""
    after: frozenset[tuple[str, str]] = frozenset()
    """(kind, name) of what has to be there before, although nothing here refers to it."""

    @property
    def needs(self) -> frozenset[tuple[str, str]]:
        """(kind, name) of every resource that must exist before, besides the deployment."""
        found = {(ref.kind, ref.name) for value in (*self.env.values(), *self.args) for ref in refs(value)}
        found |= {(kind, str(self.inputs[key])) for key, kind in NAMING.get(self.kind, ()) if self.inputs.get(key)}
        return frozenset((found | self.after) - {("deployment", "")})


NAMING: Mapping[str, tuple[tuple[str, str], ...]] = {
    "service": (("cluster", "cluster"), ("database", "database")),
    "queue": (("broker", "broker"), ("dead_letters", "queue")),
    "topic": (("broker", "broker"),),
    "subscription": (("topic", "topic"), ("queue", "queue")),
}
"""Inputs that name another resource, and of which kind it is."""


def wire(name: str, caller: str, callee: str) -> Resource:
    return Resource(kind="wire", name=name, inputs={"caller": caller, "callee": callee})


def value_of(text: str) -> Value:
    """A text with tokens as texts and references."""
    pieces: list[str | Ref] = []
    end = 0
    for match in _TOKEN.finditer(text):
        pieces += [text[end : match.start()], Ref(*match.groups())]
        end = match.end()
    found = tuple(piece for piece in (*pieces, text[end:]) if piece != "")
    if len(found) == 1:
        return found[0]
    return Joined(found) if found else ""


def parts(value: Value) -> tuple[str | Ref, ...]:
    """A value's texts and references, one after the other."""
    return value.parts if isinstance(value, Joined) else (value,)


def refs(value: Value) -> tuple[Ref, ...]:
    """The references in a value."""
    return tuple(part for part in parts(value) if isinstance(part, Ref))


def resolve(value: Value, outputs: Mapping[tuple[str, str], Mapping[str, object]]) -> str:
    """The text, given what the resources said after they were created. Raise KeyError for an unknown one."""
    return "".join(
        str(outputs[part.kind, part.name][part.attribute]) if isinstance(part, Ref) else part for part in parts(value)
    )
