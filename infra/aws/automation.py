"""How does a stack of the plan meet the real engine? The Workspace of `rollout` on Pulumi's Automation API.

Each call is one run of the CLI on one stack: its lock, its checkpoint and its history are that stack's alone.
`pulumi` is imported here, inside the functions: whoever only plans does not pay for it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from infra.aws.fleet import ENCRYPTED, Known
from infra.aws.rollout import WorkspaceError
from infra.aws.split import Part
from infra.aws.stack_file import StackFileError, read
from infra.config import FLEET

if TYPE_CHECKING:
    from pulumi.automation import Stack

LINES = 12
"""Of the engine's own words that a failure repeats."""


class Engine:
    """One checkout of the project with the `pulumi` on PATH."""

    def __init__(self, root: Path, secrets_provider: str | None = None) -> None:
        """`secrets_provider`: 'awskms://alias/...' for new stacks; None: the backend's own way."""
        self._root = root
        self._secrets_provider = secrets_provider

    def stacks(self) -> frozenset[str]:
        from pulumi.automation import LocalWorkspace, errors

        try:
            return frozenset(found.name for found in LocalWorkspace(work_dir=str(self._root)).list_stacks())
        except (errors.CommandError, OSError, subprocess.CalledProcessError) as error:
            raise WorkspaceError(f"the stacks cannot be listed: {_last(error)[0]}") from error

    def known(self, stack: str, *, stands: bool) -> Known:
        try:
            found = read(self._root / f"Pulumi.{stack}.yaml")
        except StackFileError as error:
            raise WorkspaceError(str(error)) from error
        own = {**found.own, **{key.rpartition(":")[2]: ENCRYPTED for key in found.secrets}}
        return Known(stands=stands, own=own, fleet=found.fleet)

    def up(self, part: Part, say: Callable[[str], None]) -> Mapping[str, str]:
        from pulumi.automation import errors

        try:
            stack = self._stack(part, create=True)
            assert stack is not None
            self._configure(stack, part)
            outputs = stack.up(on_output=_telling(part, say), color="never", show_secrets=False).outputs
        except errors.CommandError as error:
            raise WorkspaceError(_failure("up", part, error)) from error
        return {name: str(output.value) for name, output in outputs.items() if not output.secret}

    def down(self, part: Part, say: Callable[[str], None]) -> None:
        from pulumi.automation import errors

        try:
            stack = self._stack(part, create=False)
            if stack is None:
                return
            stack.destroy(on_output=_telling(part, say), color="never", show_secrets=False)
            # its settings stay: whoever deploys it again means the same image and domain
            stack.workspace.remove_stack(part.stack, preserve_config=True)
        except errors.CommandError as error:
            raise WorkspaceError(_failure("destroy", part, error)) from error

    def _stack(self, part: Part, *, create: bool) -> Stack | None:
        from pulumi.automation import LocalWorkspaceOptions, create_or_select_stack, errors, select_stack

        opts = LocalWorkspaceOptions(secrets_provider=self._secrets_provider)
        if create:
            return create_or_select_stack(part.stack, work_dir=str(self._root), opts=opts)
        try:
            return select_stack(part.stack, work_dir=str(self._root), opts=opts)
        except errors.StackNotFoundError:
            return None

    def _configure(self, stack: Stack, part: Part) -> None:
        """Set what makes it this part and what its fleet says, which are keys of their own; leave all others alone."""
        from pulumi.automation import ConfigValue

        stack.set_all_config({key: ConfigValue(value) for key, value in part.config})
        # the file as it is now, not as it was planned with: it is set from there to where it should be
        before, now = self.known(part.stack, stands=True).fleet, dict(part.fleet)
        if gone := sorted(before.keys() - now.keys()):
            stack.remove_all_config([f"{FLEET}.{key}" for key in gone], path=True)
        if new := {key: value for key, value in now.items() if before.get(key) != value}:
            stack.set_all_config({f"{FLEET}.{key}": ConfigValue(value) for key, value in new.items()}, path=True)


def _telling(part: Part, say: Callable[[str], None]) -> Callable[[str], None]:
    def tell(line: str) -> None:
        if line.strip():
            say(f"{part.stack}: {line.strip()}")

    return tell


def _failure(what: str, part: Part, error: Exception) -> str:
    """The first line says what to do, the rest what the engine said last."""
    remedy = f"`pulumi {what} -s {part.stack}` says more; `pulumi cancel -s {part.stack}` if it is locked by a dead run"
    return "\n".join([f"{what} failed; {remedy}", *(f"    {line}" for line in _last(error))])


def _last(error: Exception) -> list[str]:
    """What went wrong in the engine's words: its diagnostics, or else the end of what it said."""
    said = [line.rstrip() for line in str(error).splitlines()]
    starts = [n for n, line in enumerate(said) if line.strip() == "Diagnostics:"]
    if starts:
        rest = said[starts[-1] + 1 :]
        ends = [n for n, line in enumerate(rest) if line.strip() in ("Outputs:", "Resources:")]
        return [line for line in rest[: ends[0] if ends else None] if line][:LINES]
    return [line for line in said if line and line not in ("code: 255", "stdout:", "stderr:")][-LINES:] or ["nothing"]
