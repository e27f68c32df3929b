"""How is a plan of stacks carried out, and what stands when one of them fails? Knows nothing of Pulumi.

A part that fails is left as its engine left it. Parts that need it are not begun; all others are done as if nothing
had happened, for they share no state with it. Doing the plan again goes on where it stopped: `up` of a stack that is
up changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from infra.aws.fleet import Known
from infra.aws.split import Part, Plan


class WorkspaceError(Exception):
    """A stack could not be brought to where it should be; one sentence with the remedy, details below it."""


class Workspace(Protocol):
    """What carries out one stack; every method raises WorkspaceError and touches no other stack."""

    def stacks(self) -> frozenset[str]:
        """Names of all stacks of the project that there are."""

    def known(self, stack: str, *, stands: bool) -> Known:
        """What a stack's own settings say, whether it stands or not; nothing where there are none."""

    def up(self, part: Part, say: Callable[[str], None]) -> Mapping[str, str]:
        """Create or update the stack with the part's configuration and its fleet's; its plain outputs.

        What the stack's owner set is left as it is, but for keys of the part's configuration.
        """

    def down(self, part: Part, say: Callable[[str], None]) -> None:
        """Destroy everything in the stack and forget it; nothing to do where there is none."""


class Outcome(StrEnum):
    """What became of one part."""

    DONE = "done"
    FAILED = "failed"
    NOT_BEGUN = "not begun"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """One part, after all."""

    stack: str
    outcome: Outcome
    reason: str = ""
    """Why it failed, or what it would have needed; '' where it is done."""
    outputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What became of every part of a plan, in the order in which they were to be done."""

    finished: tuple[Finished, ...]
    notes: tuple[str, ...] = ()
    """What else there is to know, a line each."""

    @property
    def ok(self) -> bool:
        return all(f.outcome is Outcome.DONE for f in self.finished)

    def stacks(self, outcome: Outcome) -> tuple[str, ...]:
        return tuple(f.stack for f in self.finished if f.outcome is outcome)

    @property
    def summary(self) -> str:
        """'done: shop-backbone; failed: shop-payments; not begun: none', a line for each not done, the notes."""
        heads = "; ".join(f"{outcome.value}: {', '.join(self.stacks(outcome)) or 'none'}" for outcome in Outcome)
        return "\n".join([heads, *(f"{f.stack}: {f.reason}" for f in self.finished if f.reason), *self.notes])


def build(plan: Plan, workspace: Workspace, say: Callable[[str], None]) -> Report:
    """Bring every stack of a plan up; never raises WorkspaceError."""
    return Report(finished=_carry_out(plan.building, lambda part: workspace.up(part, say), say))


def raze(plan: Plan, workspace: Workspace, say: Callable[[str], None]) -> Report:
    """Take every stack of a plan down; a stack on which one stands that could not be destroyed stays."""

    def down(part: Part) -> Mapping[str, str]:
        workspace.down(part, say)
        return {}

    return Report(finished=_carry_out(plan.razing, down, say))


def _carry_out(
    parts: tuple[Part, ...], act: Callable[[Part], Mapping[str, str]], say: Callable[[str], None]
) -> tuple[Finished, ...]:
    finished: list[Finished] = []
    for part in parts:
        missing = [f.stack for f in finished if f.stack in part.needs and f.outcome is not Outcome.DONE]
        if missing:
            reason = f"needs {', '.join(missing)} first"
            finished.append(Finished(stack=part.stack, outcome=Outcome.NOT_BEGUN, reason=reason))
            continue
        say(part.stack)
        try:
            outputs = act(part)
        except WorkspaceError as error:
            finished.append(Finished(stack=part.stack, outcome=Outcome.FAILED, reason=str(error)))
        else:
            finished.append(Finished(stack=part.stack, outcome=Outcome.DONE, outputs=outputs))
    return tuple(finished)
