"""One stage, from nothing to evidence: deploy -> warm up -> baseline -> faults -> drain -> audits -> take away.

Whatever happens on the way, faults are undone and a deployment of our own is taken away; what was
seen until then is kept, so that a run that broke off can still be read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from stages.check import Baseline, PolicyTry, Span
from stages.deployment import Deployment
from stages.history import Audit, Phase
from suite.ahead import Ahead
from suite.gathered import Gathered
from suite.observe import SECOND_NS, STOCK_LEAST, Observation, Observer, healthy_mix
from suite.plan import Plan, StagePlan
from suite.ports import Clock, Faults, Footprint, Letter, Load, SuiteError, Target
from suite.signals_run import Witness
from suite.store import Store

UNFINISHED = ("pending", "compensating")
"""States that an order or user only passes through."""


@dataclass(slots=True)
class StageResult:
    """What one stage's run yielded; whatever was not reached keeps its default."""

    plan: StagePlan
    gathered: Gathered = field(default_factory=Gathered)
    up_s: float | None = None
    footprint: Footprint | None = None
    baseline_span: Span | None = None
    cpu_s: tuple[float, float] | None = None
    """CPU time of all processes at the start and the end of the baseline."""
    policy: Sequence[PolicyTry] | None = None
    """Which calls between services worked, tried after the baseline; None where there is no mesh, or nobody tried."""
    policy_trouble: str = ""
    """Why nobody tried."""
    witness: Witness | None = None
    """What its sidecars wrote; None before it was up, or where there is no mesh."""
    mesh_status: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What the control planes said of themselves in the end, by cluster."""
    observations: list[Observation] = field(default_factory=list)
    audits: list[Audit] | None = None
    letters: list[Letter] | None = None
    """What lay in the dead-letter queues in the end."""
    run_id: str = ""
    drained_s: float | None = None
    residue: list[str] | None = None
    trouble: str = ""
    """Why the run broke off, '' if it did not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """Everything a stage's run acts through."""

    target: Target
    load: Callable[[], Load]
    """Makes the generator of one stage's run."""
    faults: Callable[[], Faults]
    """Makes the injector of one stage's run."""
    clock: Clock
    store: Store
    progress: Callable[[str], None]
    """Told in a few words what happens now."""
    owner_pid: int
    new_run_id: Callable[[], str]
    use: Deployment | None = None
    """A running deployment to judge instead of an own one; it is left running."""


def run_stage(
    plan: Plan, result: StageResult, tools: Tools, ahead: Ahead | None = None, following: StagePlan | None = None
) -> None:
    """Run the stage of a fresh `result` and fill it in, as far as the run gets.

    With `ahead`, a deployment that is on its way there is used, and that of the stage `following` begins once the
    load is over. Never raises SuiteError: trouble is part of the result. Interrupts pass, after cleaning up.
    """
    try:
        _run(plan, result.plan, tools, result, ahead, following)
    except SuiteError as error:
        result.trouble = str(error)
    finally:
        result.gathered.refresh()


def _run(
    plan: Plan,
    stage_plan: StagePlan,
    tools: Tools,
    result: StageResult,
    ahead: Ahead | None,
    following: StagePlan | None,
) -> None:
    with ExitStack() as undo:
        load = tools.load()  # it and the injector import for seconds, while the stage comes up
        undo.callback(load.close)
        faults = tools.faults()
        undo.callback(faults.close)
        deployment = _deploy(plan, stage_plan, tools, result, undo, ahead)
        if stage_plan.stage.mesh is not None:
            result.witness = Witness(deployment.directory, tools.store.traces / stage_plan.stage.name)
            undo.callback(result.witness.end)
        undo.callback(load.close)  # before the stage is taken away; above is for a stage that does not come up
        undo.callback(faults.close)
        _warm_up(plan, stage_plan, deployment, load, faults, tools, result)
        healthy = [_baseline(plan, deployment, load, tools, result)]
        _try_policy(stage_plan, deployment, load, tools, result)
        observer = Observer(
            plan=plan,
            stage_plan=stage_plan,
            deployment=deployment,
            gathered=result.gathered,
            load=load,
            faults=faults,
            clock=tools.clock,
            backlog=tools.target.backlog,
        )
        _break(stage_plan, observer, healthy, tools, result)
        load.phase("drain")
        load.stop()
        if ahead is not None and following is not None:
            tools.progress(f"{following.stage.name}: deploying meanwhile")
            run_id = tools.new_run_id()
            ahead.start(following.stage.name, f"verify-{run_id}", run_id, partial(_up, plan, following, tools))
        _drain(plan, deployment, tools, result)


def _deploy(
    plan: Plan, stage_plan: StagePlan, tools: Tools, result: StageResult, undo: ExitStack, ahead: Ahead | None
) -> Deployment:
    stage = stage_plan.stage
    if tools.use is not None:
        result.run_id = tools.new_run_id()
        undo.callback(_leave, tools.use.name, tools, result)
        return tools.use
    coming = ahead.take(stage.name) if ahead is not None else None
    result.run_id = coming.run_id if coming else tools.new_run_id()
    name = coming.name if coming else f"verify-{result.run_id}"
    tools.progress(f"{stage.name}: deploying")
    undo.callback(_take_away, name, tools, result)
    deployed = coming.future.result() if coming else _up(plan, stage_plan, tools, name, result.run_id)
    deployment, result.up_s = deployed
    undo.callback(tools.store.keep_logs, deployment.directory, stage.name)
    return deployment


def _up(plan: Plan, stage_plan: StagePlan, tools: Tools, name: str, run_id: str) -> tuple[Deployment, float]:
    """Deploy an own deployment; its record, and how long that took, seconds."""
    started_ns = tools.clock.now_ns()
    deployment = tools.target.up(
        stage_plan.stage,
        name=name,
        run_id=run_id,
        variant=plan.variant,
        owner_pid=tools.owner_pid,
        progress=lambda text: tools.progress(f"{stage_plan.stage.name}: {text}"),
    )
    return deployment, (tools.clock.now_ns() - started_ns) / SECOND_NS


def _leave(name: str, tools: Tools, result: StageResult) -> None:
    """A deployment of somebody else's goes on running, without any fault of ours."""
    _, left = tools.target.heal(name)
    result.residue = [f"fault {fault} is still on" for fault in left]


def _take_away(name: str, tools: Tools, result: StageResult) -> None:
    tools.progress(f"{result.plan.stage.name}: taking it away")
    tools.target.down(name)
    result.residue = tools.target.residue(name)


def _warm_up(
    plan: Plan,
    stage_plan: StagePlan,
    deployment: Deployment,
    load: Load,
    faults: Faults,
    tools: Tools,
    result: StageResult,
) -> None:
    tools.progress(f"{stage_plan.stage.name}: warming up")
    files = load.start(
        deployment,
        run_id=result.run_id,
        rate=plan.rate,
        seed=plan.seed,
        mix=healthy_mix(stage_plan.stage),
    )
    load.restock(STOCK_LEAST)
    result.gathered.follow([*files, faults.history()])
    tools.clock.sleep(plan.timings.warm_up_s)


def _baseline(plan: Plan, deployment: Deployment, load: Load, tools: Tools, result: StageResult) -> Span:
    tools.progress(f"{result.plan.stage.name}: baseline, {plan.timings.baseline_s:g} s without any fault")
    before = tools.target.footprint(deployment)
    load.phase("baseline")
    start_ns = tools.clock.now_ns()
    tools.clock.sleep(plan.timings.baseline_s)
    span = Span(start_ns=start_ns, end_ns=tools.clock.now_ns())
    result.footprint = tools.target.footprint(deployment)
    result.cpu_s = before.cpu_s, result.footprint.cpu_s
    result.baseline_span = span
    return span


def _try_policy(stage_plan: StagePlan, deployment: Deployment, load: Load, tools: Tools, result: StageResult) -> None:
    """Who may call whom, in a stage with a mesh; a try that cannot be made leaves that unknown and nothing else."""
    if stage_plan.stage.mesh is None:
        return
    tools.progress(f"{stage_plan.stage.name}: trying which calls work, with every credential")
    load.phase("policy")
    try:
        result.policy = tools.target.policy(deployment)
    except SuiteError as error:
        result.policy_trouble = str(error)


def _break(stage_plan: StagePlan, observer: Observer, healthy: list[Span], tools: Tools, result: StageResult) -> None:
    for number, fault in enumerate(stage_plan.faults, start=1):
        tools.progress(f"{stage_plan.stage.name}: fault {number} of {len(stage_plan.faults)}, {fault.name}")
        result.gathered.refresh()
        observation = observer.observe(fault, baseline_of(stage_plan, healthy, result.gathered))
        result.observations.append(observation)
        if observation.recovered_s is None:
            tools.progress(f"{stage_plan.stage.name}: not recovered from {fault.name}; no further fault")
            return
        now_ns = tools.clock.now_ns()
        if now_ns > observation.over_ns:
            healthy.append(Span(start_ns=observation.over_ns, end_ns=now_ns))


def baseline_of(stage_plan: StagePlan, healthy: Sequence[Span], gathered: Gathered) -> Baseline:
    """All the time that the shop was well, as one control."""
    return Baseline.of(stage_plan.stage, gathered.invocations, healthy, stalls=gathered.stalls, unsent=gathered.unsent)


def _drain(plan: Plan, deployment: Deployment, tools: Tools, result: StageResult) -> None:
    """Without load, give every accepted order the time to end, then read what the services recorded."""
    tools.progress(f"{result.plan.stage.name}: draining")
    start_ns = tools.clock.now_ns()
    deadline_ns = start_ns + int(plan.timings.drain_s * SECOND_NS)
    while _unfinished(tools.target, deployment) and tools.clock.now_ns() < deadline_ns:
        tools.clock.sleep(0.5)
    now_ns = tools.clock.now_ns()
    # Services are read one after the other: only once nothing moves any more do their books belong together.
    audits = list(tools.target.audits(deployment))
    result.audits = audits
    result.letters = list(tools.target.dead_letters(deployment.name))
    result.mesh_status = _mesh_status(result.plan, tools.target, deployment)
    result.drained_s = (now_ns - start_ns) / SECOND_NS
    result.gathered.refresh()
    result.gathered.add(Phase(name="end", at_ns=now_ns))


def _mesh_status(stage_plan: StagePlan, target: Target, deployment: Deployment) -> Mapping[str, Mapping[str, Any]]:
    """For people only: no verdict rests on it, so none is lost with it."""
    if stage_plan.stage.mesh is None:
        return {}
    try:
        return target.mesh_status(deployment)
    except SuiteError:
        return {}


def _unfinished(target: Target, deployment: Deployment) -> bool:
    """Whether anything is still under way; the audits, which cost more, are read only once the backlog is gone."""
    return target.backlog(deployment).total > 0 or any(a.state in UNFINISHED for a in target.audits(deployment))
