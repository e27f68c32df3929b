"""`stages canary`: a second version of a service takes a share of its calls, until it is shown good or bad.

    listen -> [load] -> candidate gets its share -> settle -> look, look, ... -> promote or take away -> users' failures
                                                              `-- stages.check.canary

Undecided at the time limit is taken away too. Whatever goes wrong on the way, the candidate is gone at the end.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from rich.text import Text

from stages.catalogue import STAGES
from stages.check.canary import (
    MARGIN,
    Call,
    CanaryJudgement,
    Dealt,
    Decision,
    deal,
    judge_canary,
    limits_ms,
    users_spared,
)
from stages.check.counting import Censor
from stages.check.verdict import Check
from stages.deployment import Deployment
from stages.evidence import REFUTED, requests_for_isolation
from stages.mesh import CANARY, STABLE, sidecar_of
from stages.model import Stage
from suite.gathered import Gathered
from suite.observe import SECOND_NS, STOCK_LEAST, healthy_mix
from suite.plan import rate_problems, unknown
from suite.ports import BadInput, Clock, Load
from suite.show import Page, table
from suite.signals_lines import INGRESS, OUT, Line
from suite.wishes import DEFAULT_RATE

DEFECTS = {"good": "none", "slow": "slow", "failing": "failing"}
"""Candidates, and what is wrong with each on purpose."""

LISTEN_S = 2.0
"""So long it is listened whether somebody drives load already, ..."""
DRIVEN_PER_S = 2.0
"""... which is so if this many calls a second go to the service."""

WARM_UP_S = 2.0
SETTLE_S = 2.0
"""From the first call that met the candidate: connections, caches and all Envoys are as they will be."""
LOOK_S = 0.5
LOGGED_S = 1.5
"""Sidecars write their logs twice a second; a call that ended so long ago is there, even on a busy machine."""

PATIENCE = 3
"""The time limit is so many times as long as a candidate without any bad call takes, ..."""
LIMITS_S = (60.0, 900.0)
"""... and within these bounds."""

EXIT_OF = {"promoted": 0, "rolled back": 1, "undecided": 2}


class Candidates(Protocol):
    """Whoever can run a second version of a service. Every method raises SuiteError when that does not work."""

    def start(self, deployment: Deployment, service: str, share_percent: int, defect: str) -> None:
        """Start the candidate beside the stable version; from about now on it gets its share of the calls."""

    def promote(self, deployment: Deployment, service: str) -> None:
        """From now on the candidate's version is the only one; no request is lost on the way."""

    def take_away(self, deployment: Deployment, service: str) -> None:
        """Its calls go to the stable version again, it finishes what it has, and is gone. Idempotent."""


class Calls(Protocol):
    """Whoever hears of every call."""

    def new(self) -> Sequence[Line]:
        """What was logged since the last time, `start_ns` on the run's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryWishes:
    """What the user asked for."""

    service: str
    share_percent: int = 10
    candidate: str = "good"
    seconds: float | None = None
    """Time limit; None: what it takes."""
    rate: float = DEFAULT_RATE
    """Of the load that is driven if nobody else drives any, requests per second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryPlan:
    """What will be done."""

    deployment: Deployment
    stage: Stage
    service: str
    share_percent: int
    candidate: str
    seconds: float
    rate: float
    limits_ms: dict[str, int]
    """By channel to the service: from when on a call is bad."""
    mix: dict[str, int]
    """Of the load, if it has to be driven."""
    logged_after_s: float
    """So long after its start, every call is in its sidecar's log."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Sidecars whose logs say all: those of the callers, and where users come in."""
        callers = {c.caller for c in self.stage.channels if c.name in self.limits_ms}
        return tuple(sorted(sidecar_of(s) for s in callers | {o.entry for o in self.stage.operations}))


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryTools:
    """Everything a canary acts through."""

    candidates: Candidates
    calls: Callable[[CanaryPlan], Calls]
    load: Callable[[], Load]
    clock: Clock
    progress: Callable[[str], None]
    run_id: str
    seed: int = 7


@dataclass(slots=True)
class Watched:
    """What was seen of one canary."""

    lines: list[Line] = field(default_factory=list)
    gathered: Gathered = field(default_factory=Gathered)
    driven: bool = False
    """By us."""
    begin_ns: int = 0
    """When the candidate was ordered: users' failures count from here ..."""
    over_ns: int = 0
    """... to here, when it was alone or gone."""
    start_ns: int | None = None
    """Calls count from here; None: none met the candidate."""


def make_canary(wishes: CanaryWishes, deployment: Deployment, *, busy: Sequence[str] = ()) -> CanaryPlan:
    """Check the wishes against what runs; BadInput with all problems. `busy`: faults that are on."""
    stage = STAGES[deployment.stage]
    limits = limits_ms(stage, wishes.service)
    problems = [] if not busy else [f"{deployment.name} is under {', '.join(busy)}: say 'stages heal' first"]
    if stage.mesh is None:
        problems.append(f"stage {stage.name!r} has no mesh that could share out calls: say 'stages up mesh'")
    elif wishes.service not in (names := [s.name for s in stage.services]):
        problems.append(unknown("service", wishes.service, names, "stages show mesh"))
    elif not limits:
        able = [s for s in names if limits_ms(stage, s)]
        problems.append(f"nobody calls {wishes.service!r} through the mesh; a canary can be of {', '.join(able)}")
    if not 1 <= wishes.share_percent <= 99:
        problems.append(f"--share {wishes.share_percent} is not from 1 to 99 percent")
    if wishes.candidate not in DEFECTS:
        problems.append(f"--candidate {wishes.candidate!r} is not one of {', '.join(DEFECTS)}")
    if wishes.seconds is not None and not 5 <= wishes.seconds <= 3600:
        problems.append(f"--seconds {wishes.seconds:g} is outside 5 to 3600")
    problems += rate_problems(wishes.rate)
    if problems:
        raise BadInput(problems)
    channels = [c for c in stage.channels if c.name in limits]
    weights = healthy_mix(stage)
    return CanaryPlan(
        deployment=deployment,
        stage=stage,
        service=wishes.service,
        share_percent=wishes.share_percent,
        candidate=wishes.candidate,
        seconds=wishes.seconds if wishes.seconds is not None else _patience_s(wishes),
        rate=wishes.rate,
        limits_ms=limits,
        mix={name: weights[name] for c in channels for name in c.operations},
        logged_after_s=max(c.reaction_ms for c in channels) / 1000 + LOGGED_S,
    )


def _patience_s(wishes: CanaryWishes) -> float:
    needed = requests_for_isolation(MARGIN) * 100 / wishes.share_percent
    low, high = LIMITS_S
    return min(high, max(low, PATIENCE * needed / wishes.rate))


def run_canary(plan: CanaryPlan, tools: CanaryTools) -> Page:
    """Run one canary to its end and say what came of it. The candidate is gone, or the only version, when this ends."""
    watched = Watched()
    calls = tools.calls(plan)
    with ExitStack() as undo:
        load = _load_if_nobody_does(plan, tools, calls, watched, undo)
        tools.progress(f"starting {plan.service} {CANARY} ({plan.candidate}) for {plan.share_percent} % of its calls")
        watched.begin_ns = tools.clock.now_ns()
        undo.callback(tools.candidates.take_away, plan.deployment, plan.service)
        tools.candidates.start(plan.deployment, plan.service, plan.share_percent, DEFECTS[plan.candidate])
        judgement = _watch(plan, tools, calls, watched)
        promoted = judgement.decision is Decision.PROMOTE
        tools.progress(f"{'promoting' if promoted else 'taking away'} {plan.service} {CANARY}: {judgement.because}")
        if promoted:
            tools.candidates.promote(plan.deployment, plan.service)
        else:
            tools.candidates.take_away(plan.deployment, plan.service)
        watched.over_ns = tools.clock.now_ns()
        tools.clock.sleep(plan.logged_after_s)
        if load is not None:
            load.stop()
        watched.lines += calls.new()
    return _page(plan, watched, judgement)


def _load_if_nobody_does(
    plan: CanaryPlan, tools: CanaryTools, calls: Calls, watched: Watched, undo: ExitStack
) -> Load | None:
    tools.progress("listening for load")
    began_ns = tools.clock.now_ns()
    tools.clock.sleep(LISTEN_S)
    heard = [line for line in _out(plan, calls.new()) if line.start_ns >= began_ns]  # logs come late
    if len(heard) >= DRIVEN_PER_S * LISTEN_S:
        return None
    tools.progress(f"nobody drives load: {plan.rate:g} requests/s of {', '.join(plan.mix)}")
    watched.driven = True
    load = tools.load()
    undo.callback(load.close)
    watched.gathered.follow(
        load.start(plan.deployment, run_id=tools.run_id, rate=plan.rate, seed=tools.seed, mix=plan.mix)
    )
    if "cancel-order" in plan.mix:
        load.restock(STOCK_LEAST)
    load.phase("canary")
    tools.clock.sleep(WARM_UP_S)
    calls.new()
    return load


def _watch(plan: CanaryPlan, tools: CanaryTools, calls: Calls, watched: Watched) -> CanaryJudgement:
    tools.progress(f"watching for {plan.seconds:g} s at most")
    deadline_ns = tools.clock.now_ns() + int(plan.seconds * SECOND_NS)
    while True:
        watched.lines += calls.new()
        watched.gathered.refresh()
        if watched.start_ns is None:
            watched.start_ns = _first_met(plan, watched)
        now_ns = tools.clock.now_ns()
        judgement = _judge(plan, watched, now_ns)
        if judgement.decision is not Decision.UNDECIDED or now_ns >= deadline_ns:
            return judgement
        tools.clock.sleep(LOOK_S)


def _first_met(plan: CanaryPlan, watched: Watched) -> int | None:
    """When this candidate, and none before it, was met for the first time, and what has to settle has settled."""
    out = _out(plan, watched.lines)
    met = [line.start_ns for line in out if line.version == CANARY and line.start_ns >= watched.begin_ns]
    return min(met) + int(SETTLE_S * SECOND_NS) if met else None


def _judge(plan: CanaryPlan, watched: Watched, now_ns: int) -> CanaryJudgement:
    """By the calls that began long enough ago to be logged, whatever became of them."""
    start_ns = now_ns if watched.start_ns is None else watched.start_ns
    until_ns = now_ns - int(plan.logged_after_s * SECOND_NS)
    dealt = _dealt(plan, watched, start_ns, until_ns, censor=Censor(watched.gathered.stalls))
    watched_s = max(0.0, (until_ns - start_ns) / SECOND_NS)
    return judge_canary(dealt, wished=plan.share_percent / 100, watched_s=watched_s)


def _dealt(plan: CanaryPlan, watched: Watched, start_ns: int, until_ns: int, *, censor: Censor) -> Dealt:
    within = [x for x in _out(plan, watched.lines) if start_ns <= x.start_ns < until_ns]
    kept = [x for x in within if not censor.hides(x.start_ns, plan.limits_ms[x.edge])]
    return deal(map(_call, kept), plan.limits_ms, censored=len(within) - len(kept))


def _out(plan: CanaryPlan, lines: Sequence[Line]) -> list[Line]:
    return [line for line in lines if line.side == OUT and line.edge in plan.limits_ms]


def _call(line: Line) -> Call:
    return Call(edge=line.edge, version=line.version, status=line.status, duration_ms=line.duration_ms)


def _users(plan: CanaryPlan, watched: Watched) -> Check:
    """Users' requests that came while the candidate was there, and all calls of that time."""
    came = [x for x in watched.lines if x.side == INGRESS and watched.begin_ns <= x.start_ns < watched.over_ns]
    ended_ns = watched.over_ns + int(plan.logged_after_s * SECOND_NS)
    dealt = _dealt(plan, watched, watched.begin_ns, ended_ns, censor=Censor(()))
    return users_spared(dealt, users=len(came), failed=sum(not x.good for x in came))


def _page(plan: CanaryPlan, watched: Watched, judgement: CanaryJudgement) -> Page:
    outcome = {Decision.PROMOTE: "promoted", Decision.ROLL_BACK: "rolled back"}.get(judgement.decision, "undecided")
    users = _users(plan, watched)
    share, dealt = judgement.share, judgement.dealt
    versions = {
        name: {**asdict(seen), **_latency(plan, watched, name)}
        for name, seen in ((STABLE, dealt.stable), (CANARY, dealt.candidate))
    }
    content: dict[str, Any] = {
        "outcome": outcome,
        "because": judgement.because,
        "deployment": plan.deployment.name,
        "service": plan.service,
        "candidate": plan.candidate,
        "limits_ms": plan.limits_ms,
        "seconds": round((watched.over_ns - watched.begin_ns) / SECOND_NS, 1),
        "load": {"driven_by_us": watched.driven, "rate": plan.rate if watched.driven else None},
        "share": {**asdict(share), "verdict": str(share.verdict)},
        "versions": versions,
        "lost": dealt.lost.n,
        "censored": dealt.censored,
        "evidence": {
            "worse": judgement.e_worse,
            "not_worse_by_margin": judgement.e_close,
            "margin": MARGIN,
            "needed": REFUTED,
        },
        "users": {"verdict": str(users.verdict), "because": users.because, **users.evidence},
    }
    return Page(content, _printed(content))


def _latency(plan: CanaryPlan, watched: Watched, version: str) -> dict[str, float | None]:
    start_ns = watched.start_ns or watched.over_ns
    took = [x.duration_ms for x in _out(plan, watched.lines) if x.version == version and x.start_ns >= start_ns]
    if len(took) < 2:
        return {"p50_ms": None, "p90_ms": None}
    tenths = statistics.quantiles(took, n=10)
    return {"p50_ms": round(tenths[4], 1), "p90_ms": round(tenths[8], 1)}


def _printed(content: dict[str, Any]) -> tuple[Any, ...]:
    rows = table("version", "calls", "bad", "of them failed", "p50", "p90")
    rows.title = f"{content['service']}: calls, bad if they fail or take longer than {_limits(content['limits_ms'])}"
    for name, seen in content["versions"].items():
        figures = (f"{v:.1f} ms" if v is not None else "-" for v in (seen["p50_ms"], seen["p90_ms"]))
        rows.add_row(name, str(seen["n"]), str(seen["bad"]), str(seen["broken"]), *figures)
    share, evidence, users = content["share"], content["evidence"], content["users"]
    measured = "-" if share["measured"] is None else f"{share['measured']:.1%}"
    bounds = f"{share['low']:.1%} to {share['high']:.1%} at 99 %"
    return (
        rows,
        Text(f"share     {measured} of the calls, {share['wished']:.0%} wished; {bounds}: {share['verdict']}"),
        Text(
            f"evidence  {evidence['worse']:.3g} that it is worse, {evidence['not_worse_by_margin']:.3g} that it is not "
            f"worse by {evidence['margin']:.0%}; {evidence['needed']:g} is enough"
        ),
        Text(f"users     {users['because']}: {users['verdict']}"),
        Text(f"{content['outcome']} after {content['seconds']:g} s: {content['because']}"),
    )


def _limits(limits: dict[str, int]) -> str:
    return ", ".join(f"{ms} ms ({name})" for name, ms in limits.items())
