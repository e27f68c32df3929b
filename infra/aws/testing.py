"""What any Workspace has to do, and one that keeps its stacks in memory and fails where it is told to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from infra.aws.rollout import Workspace, WorkspaceError
from infra.aws.split import Part


@dataclass(slots=True)
class FakeWorkspace:
    """Stacks as their configuration; `fails` names those whose next updates break."""

    fails: set[str] = field(default_factory=set)
    there: dict[str, dict[str, str]] = field(default_factory=dict)
    """Stack -> configuration it was last brought up with."""
    touched: list[tuple[str, str]] = field(default_factory=list)
    """('up' or 'down', stack), in order."""

    def stacks(self) -> frozenset[str]:
        return frozenset(self.there)

    def up(self, part: Part, say: Callable[[str], None]) -> Mapping[str, str]:
        self.touched.append(("up", part.stack))
        if part.stack in self.fails:
            raise WorkspaceError(f"up failed; look at {part.stack}")
        kept = self.there.get(part.stack, {})
        self.there[part.stack] = {**dict(part.defaults), **kept, **dict(part.config)}
        return dict(self.there[part.stack])

    def down(self, part: Part, say: Callable[[str], None]) -> None:
        self.touched.append(("down", part.stack))
        if part.stack in self.fails:
            raise WorkspaceError(f"destroy failed; look at {part.stack}")
        self.there.pop(part.stack, None)


def check_workspace(make: Callable[[], Workspace], broken: Callable[[str], None], parts: tuple[Part, Part]) -> None:
    """The contract, on two parts that need nothing. Raise AssertionError.

    `broken(stack)` makes the next updates of that stack fail; '' lets all succeed again. A program that serves here
    exports every key of its configuration.
    """
    one, other = parts
    workspace = make()

    def say(_line: str) -> None:
        pass

    workspace.down(one, say)  # nothing there is nothing to do
    first = workspace.up(one, say)
    wanted = {**dict(one.defaults), **dict(one.config)}
    assert {key: first[key] for key in wanted} == wanted, "a new stack has the part's configuration"
    assert one.stack in workspace.stacks(), "what is up is known"
    assert workspace.up(one, say) == first, "up of what is up changes nothing"
    changed = Part(
        stack=one.stack,
        system=one.system,
        config=one.config,
        defaults=tuple((key, f"{value}2") for key, value in one.defaults),
        needs=(),
    )
    assert workspace.up(changed, say) == first, "what a stack has chosen is not overruled by defaults"

    broken(other.stack)
    assert other.stack in _raised(lambda: workspace.up(other, say)), "a broken stack fails, and the failure names it"
    assert workspace.up(one, say) == first, "a failing stack leaves others alone"

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
