"""What any Workspace has to do, and one that keeps its stacks in memory and fails where it is told to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from infra.aws.fleet import Known
from infra.aws.rollout import Workspace, WorkspaceError
from infra.aws.split import Part


@dataclass(slots=True)
class FakeWorkspace:
    """Stacks as their configuration; `fails` names those whose next updates break."""

    fails: set[str] = field(default_factory=set)
    there: dict[str, dict[str, str]] = field(default_factory=dict)
    """Stack -> configuration it was last brought up with."""
    own: dict[str, dict[str, str]] = field(default_factory=dict)
    """Stack -> what its owner set."""
    fleet: dict[str, dict[str, str]] = field(default_factory=dict)
    """Stack -> what its fleet said last; stays when the stack goes."""
    touched: list[tuple[str, str]] = field(default_factory=list)
    """('up' or 'down', stack), in order."""

    def stacks(self) -> frozenset[str]:
        return frozenset(self.there)

    def known(self, stack: str, *, stands: bool) -> Known:
        return Known(stands=stands, own=self.own.get(stack, {}), fleet=self.fleet.get(stack, {}))

    def up(self, part: Part, say: Callable[[str], None]) -> Mapping[str, str]:
        self.touched.append(("up", part.stack))
        if part.stack in self.fails:
            raise WorkspaceError(f"up failed; look at {part.stack}")
        self.fleet[part.stack] = dict(part.fleet)
        self.there[part.stack] = {**dict(part.fleet), **self.own.get(part.stack, {}), **dict(part.config)}
        return dict(self.there[part.stack])

    def down(self, part: Part, say: Callable[[str], None]) -> None:
        self.touched.append(("down", part.stack))
        if part.stack in self.fails:
            raise WorkspaceError(f"destroy failed; look at {part.stack}")
        self.there.pop(part.stack, None)


def check_workspace(
    make: Callable[[], Workspace],
    broken: Callable[[str], None],
    owner: Callable[[str, str, str | None], None],
    parts: tuple[Part, Part],
) -> None:
    """The contract, on two parts that need nothing and share at least two keys. Raise AssertionError.

    `broken(stack)` makes the next updates of that stack fail; '' lets all succeed again. `owner(stack, key, value)`
    sets a key of a stack as its owner does, None removes it. A program that serves here exports every key of its
    configuration, its own before its fleet's.
    """
    one, other = parts
    workspace = make()

    def say(_line: str) -> None:
        pass

    workspace.down(one, say)  # nothing there is nothing to do
    first = workspace.up(one, say)
    wanted = {**dict(one.fleet), **dict(one.config)}
    assert {key: first[key] for key in wanted} == wanted, "a new stack has the part's configuration"
    assert one.stack in workspace.stacks(), "what is up is known"
    assert workspace.known(one.stack, stands=True).fleet == dict(one.fleet), "what the fleet said is known"
    assert workspace.up(one, say) == first, "up of what is up changes nothing"

    kept, changed = sorted(dict(one.fleet))[:2]
    owner(one.stack, kept, "own")
    assert workspace.known(one.stack, stands=True).own[kept] == "own", "what its owner set is known"
    later = replace(one, fleet=tuple((key, f"{value}2") for key, value in one.fleet))
    second = workspace.up(later, say)
    assert second[kept] == "own", "what a stack's owner set is not overruled by the fleet"
    assert second[changed] == f"{first[changed]}2", "what the fleet says now reaches a stack that stands"
    owner(one.stack, kept, None)
    one = replace(one, fleet=tuple(item for item in one.fleet if item[0] != changed))
    third = workspace.up(one, say)
    assert third[kept] == first[kept], "without a word of its own a stack follows the fleet"
    assert not third.get(changed), "what the fleet says no more is gone"

    broken(other.stack)
    assert other.stack in _raised(lambda: workspace.up(other, say)), "a broken stack fails, and the failure names it"
    assert workspace.up(one, say) == third, "a failing stack leaves others alone"

    broken("")
    workspace.up(other, say)
    workspace.down(one, say)
    assert workspace.up(other, say), "one stack's end leaves others alone"
    workspace.down(other, say)
    workspace.down(other, say)
    assert not {one.stack, other.stack} & workspace.stacks(), "what is down is forgotten"


def _raised(act: Callable[[], object]) -> str:
    try:
        act()
    except WorkspaceError as error:
        return str(error)
    return ""
