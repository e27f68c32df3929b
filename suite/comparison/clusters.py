"""What lives in each cluster, does its loss leave everything else alone, and what do all clusters still share?

An operation lives where users enter it, and where the system is that answers for it. The loss of that cluster may
take it away; every other operation must be unaffected, or accepted in time and completed later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from stages.blast_radius import Effect
from stages.check import Verdict
from stages.model import Stage
from suite.comparison.operations import listed
from suite.comparison.radius import UNKNOWN, outages

LEFT_ALONE = (Effect.UNAFFECTED.value, Effect.DELAYED.value)


def ideal(stages: Iterable[Stage]) -> dict[str, Any] | None:
    """1/N for the N clusters of the most separated stage; None where no stage has more than one."""
    most = max((len(stage.clusters) for stage in stages), default=0)
    return {"clusters": most, "share": round(1 / most, 4)} if most > 1 else None


def shared_parts(stage: Stage) -> list[str]:
    """What more than one cluster of a stage leans on: why its radius stays above the ideal. [] for a single cluster."""
    return [part.name for part in stage.shared] if len(stage.clusters) > 1 else []


def lives_in(stage: Stage, cluster: str) -> list[str]:
    """The operations that live in a cluster, in the stage's order."""
    answered = {name for system in stage.systems if system.cluster == cluster for name in system.objectives}
    return [o.name for o in stage.operations if stage.cluster_of(o.entry) == cluster or o.name in answered]


def lost_clusters(document: Mapping[str, Any], stage: Stage) -> list[dict[str, Any]]:
    """One entry per cluster of a stage that has several and that was lost in its run."""
    if len(stage.clusters) < 2:
        return []
    rows: dict[str, dict[str, Mapping[str, Any]]] = {}
    for cell in document["matrix"]:
        rows.setdefault(cell["fault"], {})[cell["operation"]] = cell
    return [_lost(stage, fault, cluster, rows[fault]) for fault, cluster in outages(stage).items() if fault in rows]


def _lost(stage: Stage, fault: str, cluster: str, row: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    living = lives_in(stage, cluster)
    others = {o.name: row[o.name] for o in stage.operations if o.name not in living and o.name in row}
    touched = [name for name, cell in others.items() if cell["measured"] not in (*LEFT_ALONE, UNKNOWN)]
    open_ = [name for name, cell in others.items() if cell["measured"] == UNKNOWN and not _bounded(cell)]
    contained = False if touched else None if open_ else True
    return {
        "stage": stage.name,
        "cluster": cluster,
        "fault": fault,
        "lives_there": living,
        "others": {name: cell["measured"] for name, cell in others.items()},
        "contained": contained,
        "because": _because(cluster, living, others, touched, open_),
    }


def _bounded(cell: Mapping[str, Any]) -> bool:
    """Not decided, but surely not worse than a prediction that would be fine."""
    return bool(cell["verdict"] == Verdict.VALID and cell["predicted"] in LEFT_ALONE)


def _because(
    cluster: str, living: list[str], others: Mapping[str, Mapping[str, Any]], touched: list[str], open_: list[str]
) -> str:
    home = f"{listed(living)} {'lives' if len(living) == 1 else 'live'} there" if living else "no operation lives there"
    if touched:
        told = ", ".join(f"{name} ({others[name]['measured']})" for name in touched)
        return f"the loss of {cluster} reaches beyond what lives there: {told}; {home}"
    if open_:
        return f"whether the loss of {cluster} leaves {listed(open_)} alone was not decided; {home}"
    if not others:
        return f"every operation lives in {cluster}"
    parts = [
        f"{listed(names)} {effect}"
        for effect in LEFT_ALONE
        if (names := [name for name, cell in others.items() if _as(cell) == effect])
    ]
    return f"the loss of {cluster} leaves {' and '.join(parts)}; {home}"


def _as(cell: Mapping[str, Any]) -> str:
    """What a cell that was bounded only is called after: its prediction."""
    return str(cell["predicted"] if cell["measured"] == UNKNOWN else cell["measured"])
