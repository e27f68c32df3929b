"""A step in a few sentences: what it bought, and what was paid for it. Every figure is a measured one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from suite.comparison.operations import CHANGED_RATIO, listed
from suite.report.words import count, milliseconds

Json = Mapping[str, Any]

_RESOURCES = (
    ("processes", 0, "processes"),
    ("memory_mb", 0, "MB"),
    ("cpu_cores", 2, "cores busy"),
    ("cpu_ms_per_order", 1, "ms of CPU per order"),
)
"""Figures of the price, with the digits they are told with."""

_THINGS = {"dead_letter_queues": "dead-letter queue", "control_planes": "control plane"}

NOTABLE = 0.005
"""Shares closer than this are the same when written with two decimals."""


def bought(found: Json, step: Json) -> list[str]:
    """What got better from one stage to the next, the most important first; [] if nothing did."""
    before, after = step["before"], step["after"]
    return [
        *([step["because"]] if step["falls"] else []),
        *_failing(found["blast_radius"]["stages"], before, after),
        *_contained(found["clusters"], step),
        *_accepted(found["operations"], step, "faster"),
        *_completed(found["operations"], before, after, later=False),
        *_gaps(found["price"], before, after, "closed"),
    ]


def paid(found: Json, step: Json) -> list[str]:
    """What got worse, or came on top; [] if nothing did."""
    before, after = step["before"], step["after"]
    return [
        *([step["because"]] if not step["falls"] else []),
        *_reaching(found["clusters"], step),
        *_worse(found["faults"], step),
        *_accepted(found["operations"], step, "slower"),
        *_new_faults(found["faults"], before, after),
        *_completed(found["operations"], before, after, later=True),
        *_resources(found["price"], before, after),
        *_parts(found["price"], before, after),
        *_still_shared(found["blast_radius"], before, after),
        *_gaps(found["price"], after, before, "open"),
    ]


def _failing(radii: Json, before: str, after: str) -> Iterator[str]:
    """Only where the undecided cells cannot turn it round."""
    was, now = radii[before]["failing"], radii[after]["failing"]
    if now["high"] + NOTABLE < was["low"]:
        yield f"outright failing are {now['low']:.2f} of all cells, before {was['low']:.2f}"
    waited = radii[after]["effects"]["delayed"]
    if waited > radii[before]["effects"]["delayed"] + NOTABLE:
        yield f"{waited:.2f} are delayed: accepted in time, completed once the fault is over"


def _contained(clusters: list[Json], step: Json) -> Iterator[str]:
    """The losses of clusters that leave alone whatever does not live there."""
    mine = [row for row in clusters if row["stage"] == step["after"]]
    kept = [row["cluster"] for row in mine if row["contained"] and row["others"]]
    if kept:
        left = "unaffected or delayed whatever does not live there"
        yield f"the loss of {listed(kept)}{' each' if len(kept) > 1 else ''} leaves {left}"


def _reaching(clusters: list[Json], step: Json) -> Iterator[str]:
    for row in clusters:
        if row["stage"] == step["after"] and row["contained"] is False:
            yield row["because"]


def _still_shared(radius: Json, before: str, after: str) -> Iterator[str]:
    """Why the radius is not the ideal: said once, at the step that separates."""
    parts, ideal = radius["shared"][after], radius["ideal"]
    if parts and not radius["shared"][before] and ideal:
        yield (
            f"ideal for {ideal['clusters']} clusters would be {ideal['share']:.2f}, against "
            f"{radius['stages'][after]['measured']:.2f}: they still share {listed(parts)}"
        )


def _accepted(operations: list[Json], step: Json, change: str) -> Iterator[str]:
    for operation in operations:
        taken = [s for s in operation["steps"] if (s["before"], s["after"]) == (step["before"], step["after"])]
        if not taken or taken[0]["change"] != change:
            continue
        was, now = (operation["stages"][step[key]]["accepted_p99_ms"] for key in ("before", "after"))
        why = f": {taken[0]['because']}" if taken[0]["because"] else ""
        yield (
            f"answers to {operation['operation']} come within {milliseconds(now)} at p99, "
            f"before within {milliseconds(was)}{why}"
        )


def _completed(operations: list[Json], before: str, after: str, *, later: bool) -> Iterator[str]:
    said = []
    for operation in operations:
        stages = operation["stages"]
        if before not in stages or after not in stages:
            continue
        for name, now in stages[after]["completions"].items():
            was = stages[before]["completions"].get(name, {}).get("p50_ms")
            if was and now["p50_ms"] and _moved(was, now["p50_ms"], later):
                said.append(f"{name} {milliseconds(now['p50_ms'])} (before {milliseconds(was)})")
    if said:
        yield f"what was accepted is complete {'later' if later else 'sooner'}, at p50: {', '.join(said)}"


def _moved(was: float, now: float, later: bool) -> bool:
    return now >= was * CHANGED_RATIO if later else was >= now * CHANGED_RATIO


def _worse(faults: list[Json], step: Json) -> Iterator[str]:
    for fault in faults:
        names = [
            o["operation"]
            for o in fault["operations"]
            for s in o["steps"]
            if (s["before"], s["after"], s["change"]) == (step["before"], step["after"], "worse")
        ]
        if names:
            yield f"{fault['fault']} is worse for {listed(names)}"


def _new_faults(faults: list[Json], before: str, after: str) -> Iterator[str]:
    """Those that the earlier stage has no target for, by what they were seen to do."""
    effects: dict[str, list[str]] = {}
    for fault in faults:
        if before not in fault["missing"] or after in fault["missing"]:
            continue
        told = "; ".join(
            f"{listed(names)} {effect}"
            for effect in ("failing", "delayed", "degraded")
            if (names := _at(fault, after, effect))
        )
        if told:
            effects.setdefault(told, []).append(fault["fault"])
    if effects:
        yield f"new: {'; '.join(f'{listed(names)} ({told})' for told, names in effects.items())}"


def _at(fault: Json, stage: str, effect: str) -> list[str]:
    """The operations that a fault was measured to have that effect on."""
    return [o["operation"] for o in fault["operations"] if o["stages"].get(stage, {}).get("measured") == effect]


def _resources(prices: Json, before: str, after: str) -> Iterator[str]:
    more = []
    for key, digits, unit in _RESOURCES:
        was, now = prices[before][key], prices[after][key]
        if was is not None and now is not None and round(now, digits) > round(was, digits):
            more.append(f"{now:.{digits}f} {unit} (before {was:.{digits}f})")
    if more:
        yield ", ".join(more)


def _parts(prices: Json, before: str, after: str) -> Iterator[str]:
    was, now = prices[before]["parts"], prices[after]["parts"]
    kinds = ("services", "queues", "topics", "dead_letter_queues", "clusters", "sidecars", "gateways", "control_planes")
    more = [
        count(now[kind] - was[kind], _THINGS.get(kind, kind.removesuffix("s")))
        for kind in kinds
        if now[kind] > was[kind]
    ]
    new = [part for part in now["shared"] if part not in was["shared"]]
    # a cluster's gateway is counted with the others, and said again where it is shared
    shared = [f"a {part} that all share" for part in new if not part.endswith("-gateway")]
    if more or shared:
        yield f"on top come {listed([*more, *shared])}"


def _gaps(prices: Json, before: str, after: str, verb: str) -> Iterator[str]:
    """The gaps that the first has and the second has not."""
    names = [g for g in prices[before]["parts"]["gaps"] if g not in prices[after]["parts"]["gaps"]]
    if names:
        yield f"{'gaps' if len(names) > 1 else 'gap'} {verb}: {', '.join(names)}"
