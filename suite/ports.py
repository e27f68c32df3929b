"""What the pipeline needs from the outside, as contracts; `suite.bootstrap` says who keeps them.

Target   deploys a stage and takes it away
Load     drives users' operations, open loop
Faults   injects a fault, holds it, undoes it
Clock    tells and passes time
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # named only: whoever needs an error of ours does not wait for the model
    from stages.blast_radius import Impact
    from stages.check import Outstanding, PolicyTry
    from stages.deployment import Deployment
    from stages.history import Audit, DeadLetter
    from stages.model import Stage, Variant


class SuiteError(Exception):
    """Something outside did not do its part; the message says what, where, with which values, what to do."""


class BadInput(SuiteError):
    """What the user asked for cannot be done. Nothing was started. Exit status 254."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultPlan:
    """A fault of the catalogue as the pipeline sees it: a name, and what it takes from the graph."""

    name: str
    summary: str
    impact: Impact
    quick: bool
    """Whether it belongs to the few that `--quick` runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A dead letter with what only people want to know."""

    record: DeadLetter
    dead_letter_queue: str
    consumer: str
    since_utc: str
    """'2026-11-22T07:30:00Z', or '' if nobody said."""
    body: str
    """As it was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What a deployment costs."""

    processes: int
    memory_mb: float
    """Proportional set size of all its processes together, so that shared pages count once."""
    cpu_s: float
    """CPU time its living processes have used so far, seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """Work that was accepted and is not done yet."""

    outbox: int = 0
    """Messages that no broker has yet."""
    unfinished: int = 0
    """Orders and accounts that are not at their end."""
    queued: int = 0
    """Messages in queues, in somebody's hands or not; dead letters do not count."""

    @property
    def total(self) -> int:
        return self.outbox + self.unfinished + self.queued


@dataclass(frozen=True, slots=True, kw_only=True)
class Redriven:
    """What became of dead letters that were to be given another chance."""

    moved: int
    left: int
    """Still dead: not among those asked for, or the move failed."""


class Target(Protocol):
    """Where stages run. Every method raises SuiteError when the target does not do as asked."""

    def cannot(self, stage: Stage) -> list[str]:
        """Why this target cannot deploy the stage here and now; empty when it can. Starts nothing."""

    def up(
        self,
        stage: Stage,
        *,
        name: str,
        run_id: str,
        variant: Variant | None,
        owner_pid: int | None,
        progress: Callable[[str], None],
    ) -> Deployment:
        """Deploy, or repair a deployment of that name and stage; return at the first good user request.

        `run_id` tags a new deployment; one that runs already keeps its own.
        With `owner_pid` the target tears the deployment down by itself when that process dies.
        On failure nothing of a new deployment is left.
        """

    def get(self, name: str) -> Deployment:
        """The record of a running deployment; SuiteError names those there are."""

    def names(self) -> list[str]:
        """Names of all deployments, sorted."""

    def down(self, name: str) -> None:
        """Take a deployment away. Idempotent; afterwards no process, port, file or fault of it is left."""

    def audits(self, deployment: Deployment) -> Iterable[Audit]:
        """Every effect in every service's own database."""

    def backlog(self, deployment: Deployment) -> Backlog:
        """What is under way right now; all zero for a stage without messages that is at rest."""

    def dead_letters(self, name: str) -> list[Letter]:
        """What lies in the dead-letter queues, oldest first; it stays there."""

    def redrive(self, name: str, queue: str | None, ids: Sequence[str] | None) -> Redriven:
        """Move dead letters back to the queue they came from (all queues, all letters if None).

        A letter is deleted only after it was sent, so one that was moved when this fails may come twice.
        """

    def footprint(self, deployment: Deployment) -> Footprint:
        """What it costs right now."""

    def drift(self, deployment: Deployment) -> list[str]:
        """A sentence for each thing that is not as it was deployed (a service that died, say)."""

    def policy(self, deployment: Deployment) -> Sequence[PolicyTry]:
        """Try every call between two services with every credential; [] where there is no mesh.

        Takes seconds; users' requests may go on meanwhile.
        """

    def mesh_status(self, deployment: Deployment) -> Mapping[str, Mapping[str, Any]]:
        """What each control plane says of itself, by cluster; {} where there is no mesh. JSON values, no secrets."""

    def active_faults(self, name: str) -> list[str]:
        """The faults that are on right now."""

    def log(self, name: str, service: str, lines: int) -> list[str]:
        """The last lines a service wrote, oldest first."""

    def residue(self, name: str) -> list[str]:
        """After `down`: a sentence for each thing of that deployment that is still there."""

    def heal(self, name: str | None = None) -> tuple[list[str], list[str]]:
        """Undo every fault (of one deployment, or of all): names healed, names that could not be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """What became of the stacks of a deployment, each with a state of its own."""

    ok: bool
    summary: str
    """Which are done, failed and not begun, and why."""
    stacks: Mapping[str, Mapping[str, Any]]
    """Name -> 'outcome', 'reason' and plain 'outputs'; in the order in which they were to be done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What a deployment of stacks would do; nothing has been started."""

    summary: str
    """The stacks in their order, and which keys of which come, go and stay as their owners set them."""
    stacks: Mapping[str, Mapping[str, Any]]
    """Name -> 'needs' and, by key, 'settings': what is decided and why; in the order in which they are to be done."""


class Cloud(Protocol):
    """Where stages are deployed and taken away, and nothing else: no verdict is asked of it here.

    Every method raises SuiteError when it cannot even begin.
    """

    def cannot(self, stage: Stage | None, name: str) -> list[str]:
        """Why the stage (None: whatever stands under the name) cannot be worked on from here; starts nothing."""

    def planned(self, stage: Stage, *, name: str) -> Planned:
        """What `up` would do with which stack, and why; starts nothing."""

    def up(self, stage: Stage, *, name: str, progress: Callable[[str], None]) -> Rollout:
        """Build or update every stack; one that fails touches no other."""

    def down(self, name: str, *, progress: Callable[[str], None]) -> Rollout | None:
        """Destroy them in reverse; None if there is nothing of that name."""


class Load(Protocol):
    """The load generator, a process of its own. Writes Invocation, Unsent, Usage, Stall records to its files."""

    def start(
        self, deployment: Deployment, *, run_id: str, rate: float, seed: int, mix: Mapping[str, int]
    ) -> list[Path]:
        """Discover the shop and begin the mix; return the history files it writes.

        Keys of operations begin with '<run_id>-'.
        """

    def mix(self, mix: Mapping[str, int]) -> None:
        """Another mix from now on, at the same total rate."""

    def restock(self, orders: int) -> None:
        """Place orders, and nothing else, until so many can be cancelled; at once if there are enough.

        Marks the phase 'restock' if it takes any time. Gives up after a while: what is then missing shows as Unsent.
        """

    def phase(self, name: str) -> None:
        """Mark that the run enters a phase."""

    def outstanding(self) -> list[Outstanding]:
        """Requests that were sent and have no answer yet; everything else due by now is in the history files."""

    def stop(self) -> None:
        """Send nothing more, wait for what is in flight, flush."""

    def close(self) -> None:
        """End every process of the generator, whatever state it is in. Idempotent."""


class Faults(Protocol):
    """The fault injector, a process of its own. Writes FaultEvent records to its history file."""

    def begin(self, fault: str, deployment: Deployment, *, hold_s: float) -> None:
        """Inject in the background and hold for at most `hold_s` seconds or until `release`."""

    def release(self) -> None:
        """Enough was seen: undo now."""

    def finished(self) -> str | None:
        """None while the fault is being handled; afterwards what went wrong, '' if nothing did."""

    def history(self) -> Path:
        """The file with its FaultEvent records."""

    def close(self) -> None:
        """Undo what is on and end the process. Idempotent."""


class Clock(Protocol):
    """CLOCK_MONOTONIC, or a fake."""

    def now_ns(self) -> int:
        """Nanoseconds."""

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
