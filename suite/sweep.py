"""The sweep: how does latency grow with distance? Each stage, one distance after the other, under steady load.

deploy -> warm up -> [every wire between systems so long -> settle -> block -> answers] ... -> drain -> audits -> gone
                     `----------- round after round, until it is decided ------------'

A block's requests are all answered before the distance changes: each was under way at one distance only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Protocol

from stages.check import Span, sends_messages
from stages.deployment import Deployment
from stages.history import Audit, Phase
from suite.gathered import Gathered
from suite.observe import SECOND_NS, STOCK_LEAST, healthy_mix
from suite.ports import Clock, Load, SuiteError, Target
from suite.store import Store
from suite.sweep_plan import StageSweep, SweepPlan

RENEW_S = 1.0
"""Between two renewals of the leases that hold the distance."""

ANSWERS_S = 5.0
"""A request that has no answer by then has met its client's timeout, or never will."""

LOOK_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretched:
    """What the wires say about the distance they are held at."""

    pieces: int
    """Pieces of requests and answers that rested on the wires so far."""
    mean_ms: float | None
    """How long each rested on average; None without any."""


class Distance(Protocol):
    """Whoever can move systems apart. Every method raises SuiteError when that does not work."""

    def stretch(self, deployment: Deployment, wires: Sequence[str], one_way_ms: int) -> None:
        """From now on these wires, and no others, delay everything by so much each way, until `renew` stays away.

        0 ms goes the same way through the wires as any other delay, so that only the distance differs.
        """

    def renew(self) -> None:
        """Keep it so for some seconds more; SuiteError if it was not so all the time."""

    def seen(self) -> Stretched:
        """What has rested on the wires since they were stretched."""

    def close(self) -> None:
        """All wires as they were. Idempotent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweptBlock:
    """One stretch of time at one distance."""

    one_way_ms: int
    span: Span
    """Requests due in it count."""
    held_until_ns: int
    """The distance was the same until then, and all requests of the span were answered."""
    stretched: Stretched

    def holds(self, intended_ns: int) -> bool:
        """Whether a request due then counts for this block."""
        return self.span.start_ns <= intended_ns < self.span.end_ns


@dataclass(slots=True)
class SweepResult:
    """What one stage's sweep yielded; whatever was not reached keeps its default."""

    plan: StageSweep
    gathered: Gathered = field(default_factory=Gathered)
    blocks: list[SweptBlock] = field(default_factory=list)
    rounds: int = 0
    """Rounds that were finished."""
    audits: list[Audit] = field(default_factory=list)
    run_id: str = ""
    variant: str | None = None
    residue: list[str] | None = None
    trouble: str = ""
    """Why the sweep broke off, '' if it did not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepTools:
    """Everything a sweep acts through."""

    target: Target
    load: Callable[[], Load]
    """Makes the generator of one stage's sweep."""
    distance: Callable[[], Distance]
    clock: Clock
    store: Store
    progress: Callable[[str], None]
    owner_pid: int
    new_run_id: Callable[[], str]
    decided: Callable[[SweepResult], bool]
    """Whether the blocks so far say enough."""
    use: Deployment | None = None
    """A running deployment to measure instead of an own one; it is left running."""


def sweep_stage(plan: SweepPlan, result: SweepResult, tools: SweepTools) -> None:
    """Run the sweep of a fresh `result` and fill it in, as far as it gets.

    Never raises SuiteError: trouble is part of the result. Interrupts pass, after cleaning up.
    """
    try:
        _run(plan, result, tools)
    except SuiteError as error:
        result.trouble = str(error)
    finally:
        result.gathered.refresh()


def _run(plan: SweepPlan, result: SweepResult, tools: SweepTools) -> None:
    with ExitStack() as undo:
        deployment = _deploy(result, tools, undo)
        load = tools.load()
        undo.callback(load.close)
        distance = tools.distance()
        undo.callback(distance.close)
        _warm_up(plan, deployment, load, distance, tools, result)
        for order_ms in result.plan.rounds_ms:
            if result.rounds >= plan.timings.rounds and tools.decided(result):
                break
            for one_way_ms in order_ms:
                result.blocks.append(_block(plan, deployment, one_way_ms, load, distance, tools, result))
            result.rounds += 1
            result.gathered.refresh()
        distance.close()
        _drain(plan, deployment, load, tools, result)


def _deploy(result: SweepResult, tools: SweepTools, undo: ExitStack) -> Deployment:
    stage, result.run_id = result.plan.stage, tools.new_run_id()
    if tools.use is not None:
        result.variant = tools.use.variant
        undo.callback(_leave, tools.use.name, tools, result)
        return tools.use
    name = f"sweep-{result.run_id}"
    tools.progress(f"{stage.name}: deploying")
    undo.callback(_take_away, name, tools, result)
    deployment = tools.target.up(
        stage,
        name=name,
        run_id=result.run_id,
        variant=None,
        owner_pid=tools.owner_pid,
        progress=lambda text: tools.progress(f"{stage.name}: {text}"),
    )
    undo.callback(tools.store.keep_logs, deployment.directory, stage.name)
    return deployment


def _leave(name: str, tools: SweepTools, result: SweepResult) -> None:
    """A deployment of somebody else's goes on running, no wire of it any longer than before."""
    result.residue = [f"fault {fault} is still on" for fault in tools.target.active_faults(name)]


def _take_away(name: str, tools: SweepTools, result: SweepResult) -> None:
    tools.progress(f"{result.plan.stage.name}: taking it away")
    tools.target.down(name)
    result.residue = tools.target.residue(name)


def _warm_up(
    plan: SweepPlan, deployment: Deployment, load: Load, distance: Distance, tools: SweepTools, result: SweepResult
) -> None:
    """Load at the longest distance: what only distance needs, such as more connections, is there from then on."""
    tools.progress(f"{result.plan.stage.name}: warming up")
    files = load.start(
        deployment, run_id=result.run_id, rate=plan.rate, seed=plan.seed, mix=healthy_mix(result.plan.stage)
    )
    result.gathered.follow(files)
    load.restock(STOCK_LEAST)
    load.phase("warm-up")
    distance.stretch(deployment, result.plan.wires, max(plan.delays_ms))
    _hold(plan.timings.warm_up_s, distance, tools.clock)


def _block(
    plan: SweepPlan,
    deployment: Deployment,
    one_way_ms: int,
    load: Load,
    distance: Distance,
    tools: SweepTools,
    result: SweepResult,
) -> SweptBlock:
    number = len(result.blocks) + 1
    tools.progress(f"{result.plan.stage.name}: {one_way_ms} ms one way, round {result.rounds + 1}, block {number}")
    load.phase("settle")
    distance.stretch(deployment, result.plan.wires, one_way_ms)
    _hold(plan.timings.settle_s, distance, tools.clock)
    load.phase(f"distance:{one_way_ms}:{number}")
    start_ns = tools.clock.now_ns()
    _hold(plan.timings.block_s, distance, tools.clock)
    span = Span(start_ns=start_ns, end_ns=tools.clock.now_ns())
    if sends_messages(result.plan.stage):
        _hold(plan.timings.linger_s, distance, tools.clock)
    _wait_for_answers(span, load, distance, tools.clock)
    return SweptBlock(one_way_ms=one_way_ms, span=span, held_until_ns=tools.clock.now_ns(), stretched=distance.seen())


def _hold(seconds: float, distance: Distance, clock: Clock) -> None:
    """Let time pass at one distance."""
    end_ns = clock.now_ns() + int(seconds * SECOND_NS)
    while (left_s := (end_ns - clock.now_ns()) / SECOND_NS) > 0:
        clock.sleep(min(RENEW_S, left_s))
        distance.renew()


def _wait_for_answers(span: Span, load: Load, distance: Distance, clock: Clock) -> None:
    deadline_ns = clock.now_ns() + int(ANSWERS_S * SECOND_NS)
    while clock.now_ns() < deadline_ns and any(o.intended_ns < span.end_ns for o in load.outstanding()):
        _hold(LOOK_S, distance, clock)


def _drain(plan: SweepPlan, deployment: Deployment, load: Load, tools: SweepTools, result: SweepResult) -> None:
    """Stop the load, let accepted orders end, then read what the services recorded."""
    tools.progress(f"{result.plan.stage.name}: draining")
    load.phase("end")
    load.stop()
    deadline_ns = tools.clock.now_ns() + int(plan.timings.drain_s * SECOND_NS)
    while tools.target.backlog(deployment).total and tools.clock.now_ns() < deadline_ns:
        tools.clock.sleep(0.5)
    result.audits = list(tools.target.audits(deployment))
    result.gathered.add(Phase(name="end", at_ns=tools.clock.now_ns()))
