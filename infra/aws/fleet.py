"""Whose word counts for a key of a stack: the fleet's, or the stack's own? (pure)

    Pulumi.aws-mesh.yaml          image: shop:2                what the fleet says, to every stack
    Pulumi.shop-payments.yaml     image: shop:1                what payments says, and what counts there
                                  fleet: {image: shop:2, ...}  what the fleet said last; written by `stages up` alone

The two never mix, so nothing has to be guessed: a key that stands by itself was set by the stack's owner, even if
its value is the fleet's of today, and a release can be held back. Without the key the stack follows the fleet.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from infra.aws.split import Part, Plan
from infra.config import REGION

REGION_KEY = "region"

ENCRYPTED = "(encrypted)"
"""Stands for a value that a stack's owner keeps as a secret; it is never read here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a stack says before anything is done."""

    stands: bool = False
    """Whether there is such a stack; settings of one that was destroyed stay."""
    own: Mapping[str, str] = field(default_factory=dict)
    """Keys in its own file, without `fleet`."""
    fleet: Mapping[str, str] = field(default_factory=dict)
    """What the fleet said last."""


class Act(StrEnum):
    """What becomes of one key of one stack."""

    SET = "set"
    """The fleet's value comes, or another one than before."""
    REMOVED = "removed"
    """The fleet says nothing of it any more; the project's default counts."""
    KEPT = "kept"
    """The stack's own value counts, whatever the fleet says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One key of one stack, and why it has the value that it has."""

    stack: str
    key: str
    act: Act
    before: str | None
    """The fleet's last value for that stack; None if it had none."""
    fleet: str | None
    """The fleet's value now; None if it has none."""
    own: str | None = None
    """The stack's own value, where it has one."""

    @property
    def told(self) -> bool:
        """Whether a reader has to know: not where a stack's own value is the fleet's, too."""
        return self.act is not Act.KEPT or self.own != self.fleet


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A plan with what each stack is told, the decisions behind it, and what forbids it."""

    plan: Plan
    decisions: tuple[Decision, ...]
    """In the order of the plan, then of keys; values that stay as they were are left out."""
    problems: tuple[str, ...]

    def of(self, stacks: Container[str]) -> Decided:
        """The same with the decisions about these stacks only."""
        return replace(self, decisions=tuple(d for d in self.decisions if d.stack in stacks))

    @property
    def lines(self) -> tuple[str, ...]:
        """A line for each change, with all stacks that it concerns; then what is kept, each with its way back."""
        told = [d for d in self.decisions if d.told]
        changes: dict[str, list[str]] = {}
        for decision in told:
            if decision.act is not Act.KEPT:
                changes.setdefault(_change(decision), []).append(decision.stack)
        return (
            *(f"{what}: {', '.join(stacks)}" for what, stacks in changes.items()),
            *(_kept(d) for d in told if d.act is Act.KEPT),
        )


def decide(planned: Plan, known: Mapping[str, Known], region: str | None) -> Decided:
    """What every stack is told, and why.

    `known` by stack; one that is missing is new. `region` is the user's, for a deployment that has no other: one that
    stands stays where it is, whatever the user's environment says. `planned.parts` bear what the fleet says.
    """
    place = _place(planned, known)
    parts: list[Part] = []
    decisions: list[Decision] = []
    problems: list[str] = []
    for part in planned.parts:
        here = known.get(part.stack, Known())
        fleet = dict(part.fleet)
        if REGION_KEY not in fleet and (inherited := place or here.fleet.get(REGION_KEY) or region):
            fleet[REGION_KEY] = inherited
        problems += _moves(part.stack, place, here.own.get(REGION_KEY) or fleet.get(REGION_KEY))
        parts.append(replace(part, fleet=tuple(sorted(fleet.items()))))
        decisions += _decisions(part, here, fleet)
    return Decided(
        plan=replace(planned, parts=tuple(parts)),
        decisions=tuple(decisions),
        problems=tuple(problems),
    )


def unreadable(part: Part, known: Known) -> list[str]:
    """What is wrong with a stack that keeps as a secret what has to be checked before anything runs.

    Nothing that the project reads on AWS is one: the engine makes and keeps the secrets there.
    """
    return [
        f"Pulumi.{part.stack}.yaml: {key} is encrypted, so it cannot be checked before anything runs; it is no secret: "
        f"`pulumi config set --stack {part.stack} --plaintext {key} VALUE`"
        for key, value in sorted(known.own.items())
        if value == ENCRYPTED
    ]


def effective(part: Part, known: Known) -> dict[str, object]:
    """The configuration that the stack will have, keys without their project."""
    return {"fleet": dict(part.fleet), **known.own, **dict(part.config)}


def _decisions(part: Part, known: Known, fleet: Mapping[str, str]) -> Iterable[Decision]:
    fixed = dict(part.config)
    for key in sorted(fleet.keys() | known.fleet.keys()):
        before, now, own = known.fleet.get(key), fleet.get(key), known.own.get(key)
        if key in fixed:
            continue
        if own is not None:
            if now is not None:
                yield Decision(stack=part.stack, key=key, act=Act.KEPT, before=before, fleet=now, own=own)
        elif now is None:
            yield Decision(stack=part.stack, key=key, act=Act.REMOVED, before=before, fleet=None)
        elif now != before:
            yield Decision(stack=part.stack, key=key, act=Act.SET, before=before, fleet=now)


def _place(planned: Plan, known: Mapping[str, Known]) -> str | None:
    """The region of what stands of the deployment; None if nothing does."""
    for part in planned.parts:
        here = known.get(part.stack, Known())
        if here.stands:
            return here.own.get(REGION_KEY) or here.fleet.get(REGION_KEY) or REGION
    return None


def _moves(stack: str, place: str | None, wanted: str | None) -> list[str]:
    """Everything in a stack of another region would be replaced, data and all."""
    if place is None or wanted in (None, place):
        return []
    said = f"region is {wanted!r} for {stack}, but the deployment stands in {place}: it does not move"
    return [f"{said}; set it back, or take the deployment down first"]


def _change(decision: Decision) -> str:
    if decision.act is Act.REMOVED:
        return f"{decision.key} loses {decision.before} of the fleet, the default counts"
    if decision.before is None:
        return f"{decision.key} becomes {decision.fleet}"
    return f"{decision.key} becomes {decision.fleet} (was {decision.before})"


def _kept(decision: Decision) -> str:
    return (
        f"{decision.stack} keeps {decision.key} {decision.own} of its own, the fleet's is {decision.fleet}; "
        f"`pulumi config rm {decision.key} -s {decision.stack}` lets it follow"
    )
