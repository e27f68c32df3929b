"""What `list`, `show`, `diff` and `status` print: the model as JSON and as tables, from the same content."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from stages.blast_radius import Effect, Prediction, blast_radius, predict
from stages.catalogue import STAGES, VARIANTS
from stages.diff import diff
from stages.governance import Governed, governed
from stages.messaging import Messaging, messaging
from stages.model import Kind, Stage
from suite.governed import governed_document
from suite.ports import FaultPlan, Target

Catalogue = Mapping[str, Sequence[FaultPlan]]


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of the command line."""

    content: Mapping[str, Any]
    """What --json prints."""
    text: tuple[RenderableType, ...]
    """What people see, top to bottom."""


def stages(target: Target) -> Page:
    """Every stage, the step it takes, and whether it can run here."""
    rows: list[dict[str, Any]] = [
        {
            "name": stage.name,
            "title": stage.title,
            "change": stage.change,
            "reason": stage.reason,
            "runs_here": not (why := target.cannot(stage)),
            "because": why,
        }
        for stage in STAGES.values()
    ]
    printed = table("stage", "change", "why", "runs here")
    for row in rows:
        printed.add_row(
            row["name"], row["change"], row["reason"], "yes" if row["runs_here"] else "\n".join(row["because"])
        )
    return Page({"stages": rows}, (printed,))


def faults(catalogue: Catalogue) -> Page:
    """Every fault of every stage."""
    content = {
        name: [{"name": f.name, "summary": f.summary, "quick": f.quick} for f in plans]
        for name, plans in catalogue.items()
    }
    text: list[RenderableType] = []
    for name, plans in catalogue.items():
        printed = table("fault", "what it does", "quick", title=name)
        for f in plans:
            printed.add_row(f.name, f.summary, "yes" if f.quick else "")
        text.append(printed)
    return Page({"faults": content}, tuple(text))


def variants() -> Page:
    """Every deliberately broken shop, and what catches it."""
    printed = table("variant", "stage", "what is broken", "exposed by", "turns invalid")
    for v in VARIANTS.values():
        printed.add_row(v.name, v.stage, v.summary, v.exposed_by, v.breaks)
    return Page({"variants": [asdict(v) for v in VARIANTS.values()]}, (printed,))


def stage(chosen: Stage, plans: Sequence[FaultPlan]) -> Page:
    """One stage in full."""
    predictions = {f.name: predict(chosen, f.impact) for f in plans}
    needed = messaging(chosen)
    content = {
        **asdict(chosen),
        "messaging": asdict(needed),
        "governance": [governed_document(g) for g in governed(chosen)],
        "predictions": {
            fault: {op: {"effect": str(p.effect), "because": p.because} for op, p in row.items()}
            for fault, row in predictions.items()
        },
    }
    systems = table("system", "owner", "cluster", "services", title=f"{chosen.name}: {chosen.title}")
    for system in chosen.systems:
        names = ", ".join(s.name for s in chosen.services if s.system == system.name)
        systems.add_row(system.name, system.owner or "-", system.cluster, names)
    operations = table("operation", "what a user does", "latency", "good", "later")
    for o in chosen.operations:
        later = ", ".join(f"{c.name} within {c.within_ms} ms" for c in o.completions)
        operations.add_row(o.name, o.summary, f"{o.latency_slo_ms} ms", f"{o.slo_share:.0%}", later)
    channels = table("channel", "kind", "over", "operations", "timeout", "tries", "falls back to")
    for c in chosen.channels:
        waits = f"{c.timeout_ms} ms" if c.kind is Kind.CALL else "-"
        channels.add_row(c.name, c.kind, c.transport, ", ".join(c.operations), waits, str(c.attempts), c.fallback or "")
    gaps = table("promise it cannot keep", "when", "because")
    for g in chosen.gaps:
        gaps.add_row(f"{g.effect} of {g.operation}", f"{g.crash_of} dies in mid-request", g.reason)
    text: list[RenderableType] = [chosen.change + ", because: " + chosen.reason, systems]
    if owners := governed(chosen):
        text.append(_governance(owners))
    text += [operations, channels]
    if needed.queues:
        text.append(_queues(needed))
    if chosen.gaps:
        text.append(gaps)
    return Page(content, (*text, *matrix(chosen, predictions)))


def _governance(owners: Sequence[Governed]) -> RenderableType:
    """Who answers for what; the budget of a run is this share of its requests."""
    printed = table("system", "owner", "cluster", "network", "answers for", "within", "good", "error budget")
    for g in owners:
        for n, o in enumerate(g.objectives):
            who = (g.system, g.owner or "-", g.cluster, g.network) if n == 0 else ("", "", "", "")
            what = f"{o.name} (of {o.operation})" if o.completion else o.name
            budget = f"{1000 * (1 - o.share):.3g} of 1,000 requests"
            printed.add_row(*who, what, f"{o.within_ms} ms", f"{100 * o.share:g}%", budget)
    return printed


def _queues(needed: Messaging) -> RenderableType:
    """Who reads which queue, and what feeds it."""
    printed = table("queue", "read by", "fed by", "hidden for", "dead after", "dead letters")
    for q in needed.queues:
        fed = [f"{s.topic} ({', '.join(s.messages)})" for s in needed.subscriptions if s.queue == q.name]
        hidden, dead = f"{q.visibility_timeout_s} s", f"{q.max_receives} deliveries"
        printed.add_row(q.name, q.consumer, "\n".join(fed) or "whoever sends", hidden, dead, q.dead_letters)
    return printed


SYMBOLS = {Effect.UNAFFECTED: ".", Effect.DEGRADED: "o", Effect.DELAYED: "~", Effect.FAILING: "X"}


def matrix(chosen: Stage, predictions: Mapping[str, Mapping[str, Prediction]]) -> tuple[RenderableType, ...]:
    """The predicted class of every fault and operation, and the blast radius that follows."""
    printed = table("predicted", *(o.name for o in chosen.operations))
    for fault, row in predictions.items():
        printed.add_row(fault, *(SYMBOLS[row[o.name].effect] for o in chosen.operations))
    legend = "  ".join(f"{symbol} {effect}" for effect, symbol in SYMBOLS.items())
    radius = blast_radius(chosen, predictions)
    return (
        printed,
        f"{legend}\npredicted blast radius: {radius:.2f}; a cell's reason: 'stages show {chosen.name} --json'",
    )


def difference(before: Stage, after: Stage, catalogue: Catalogue) -> Page:
    """What the step from one stage to another changes, with the faults that both know."""
    shared = {f.name: f for f in catalogue[before.name]}
    impacts = {f.name: (shared[f.name].impact, f.impact) for f in catalogue[after.name] if f.name in shared}
    found = diff(before, after, impacts)
    return Page(asdict(found), tuple(found.sentences()))


def status(target: Target, names: Iterable[str]) -> Page:
    """What each deployment runs and what it costs."""
    rows: list[dict[str, Any]] = []
    printed = table("deployment", "stage", "edge", "processes", "memory", "not as wanted", "faults on")
    for name in names:
        deployment = target.get(name)
        footprint = target.footprint(deployment)
        drift, active = target.drift(deployment), target.active_faults(name)
        rows.append(
            {
                "name": name,
                "stage": deployment.stage,
                "variant": deployment.variant,
                "edge": deployment.edge,
                "services": {s: asdict(i) for s, i in deployment.services.items()},
                "footprint": asdict(footprint),
                "drift": drift,
                "faults": active,
            }
        )
        printed.add_row(
            name,
            deployment.stage + (f" ({deployment.variant})" if deployment.variant else ""),
            deployment.edge,
            str(footprint.processes),
            f"{footprint.memory_mb:.0f} MB",
            "\n".join(drift) or "-",
            "\n".join(active) or "-",
        )
    return Page({"deployments": rows}, (printed if rows else "nothing is running",))


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table in the style of all of ours."""
    made = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, column in enumerate(columns):
        made.add_column(column, overflow="fold", no_wrap=number == 0)  # the first column is a name to copy
    return made
