"""Whose state is it? The stacks of a stage on AWS, in the order in which they may be built. (pure)

    mesh      shop-backbone  ->  shop-commerce | shop-fulfilment | shop-payments | shop-engagement
    others    shop

A mesh has a stack per system and one, the backbone, for what no system owns. Systems know the backbone and nothing of
each other: whoever updates one cannot touch the state of another. What is last up is first down.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

from infra.config import BACKBONE
from stages.model import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One stack: what it is called, what it is told, and what must stand before it."""

    stack: str
    """Name of the Pulumi stack, unique in its project."""
    system: str | None
    """'backbone', a system's name, or None for a stage whose state is not split."""
    config: tuple[tuple[str, str], ...]
    """What makes it this part: keys of the project, ascending, and their values. Set on every update."""
    fleet: tuple[tuple[str, str], ...]
    """What it shares with all others, ascending; set on every update, below what the stack says itself (fleet.py)."""
    needs: tuple[str, ...]
    """Stacks that have to be up as long as this one is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Stacks in an order that satisfies every need; none occurs before what it needs."""

    name: str
    parts: tuple[Part, ...]

    @property
    def building(self) -> tuple[Part, ...]:
        """In the order of `up`."""
        return self.parts

    @property
    def razing(self) -> tuple[Part, ...]:
        """In the order of `down`: each part with its needs turned round, so that nobody loses what it stands on."""
        return tuple(
            Part(
                stack=part.stack,
                system=part.system,
                config=part.config,
                fleet=part.fleet,
                needs=tuple(other.stack for other in self.parts if part.stack in other.needs),
            )
            for part in reversed(self.parts)
        )


def stack_of(name: str, system: str | None) -> str:
    """Name of the stack that holds a part of a deployment.

    >>> stack_of("shop", "payments")
    'shop-payments'
    """
    return f"{name}-{system}" if system else name


def plan(stage: Stage, name: str, fleet: Mapping[str, str]) -> Plan:
    """The stacks of a deployment, each with its configuration.

    `fleet` is what all of them share; keys that make a stack what it is (`stage`, `target`, `name`, `system`) are
    overruled.
    """
    systems = (BACKBONE, *(system.name for system in stage.systems)) if stage.mesh else (None,)
    return Plan(name=name, parts=tuple(_part(stage, name, system, fleet) for system in systems))


def standing(stages: Iterable[Stage], name: str, stacks: Container[str]) -> Plan | None:
    """The plan of a deployment from the stacks that there are, whichever stage it is; None if there is none of it."""
    for stage in stages:
        parts = tuple(part for part in plan(stage, name, {}).parts if part.stack in stacks)
        if parts:
            return Plan(name=name, parts=parts)
    return None


def _part(stage: Stage, name: str, system: str | None, fleet: Mapping[str, str]) -> Part:
    own = {"stage": stage.name, "target": "aws", "name": name, **({"system": system} if system else {})}
    return Part(
        stack=stack_of(name, system),
        system=system,
        config=tuple(sorted(own.items())),
        fleet=tuple(sorted((k, v) for k, v in fleet.items() if k not in (*own, "system"))),
        needs=(stack_of(name, BACKBONE),) if system not in (None, BACKBONE) else (),
    )
