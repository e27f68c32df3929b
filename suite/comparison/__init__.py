"""What did the steps between the stages of a run change, why, and at which price? verdict.json's "comparison". Pure.

    verdict.json of each stage --+
    the stages' models ----------+-- compare --> blast radius side by side, what changed and why, the price paid
    each fault's impact ---------+

radius       how far do faults reach, over those that all stages have, and over the loss of a cluster
clusters     what lives in each cluster, and does its loss leave everything else alone
operations   what do users wait for, how long, and when is the rest done
faults       fault by fault: better, worse, the same, or not decided; and why a stage lacks one
price        what does a stage cost, and of how many parts does it consist
telling      the same in a few sentences
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from stages.blast_radius import Impact
from stages.check import Verdict, worst
from stages.diff import diff
from stages.model import Stage
from suite.comparison.clusters import ideal, lost_clusters, shared_parts
from suite.comparison.faults import compared_faults
from suite.comparison.operations import compared_operations
from suite.comparison.price import price
from suite.comparison.radius import Reach, compared_rows, falls, reach, why_falls
from suite.comparison.telling import bought, paid

__all__ = ["compare"]

Json = Mapping[str, Any]


def compare(
    documents: Mapping[str, Json], stages: Mapping[str, Stage], impacts: Mapping[str, Mapping[str, Impact]]
) -> dict[str, Any]:
    """The comparison of two stages or more.

    `documents`: the stages of verdict.json by name, in the order of the path. `stages`: at least their models.
    `impacts`: by stage, then by fault, what the fault takes from that stage's graph.
    `verdict` is valid where the blast radius strictly falls with every step for which that was predicted (a step for
    which it was not promises nothing), invalid where it surely does not, else unknown.
    Raise ValueError for less than two stages.
    """
    if len(documents) < 2:
        raise ValueError(f"a comparison needs two stages at least, not {len(documents)}: {', '.join(documents)}")
    models = {name: stages[name] for name in documents}
    shared = compared_rows(documents, models)
    radii = {name: reach(documents[name]["matrix"], shared, models[name]) for name in documents}
    operations = compared_operations(documents, models)
    faults = compared_faults(documents, models, impacts)
    prices = {name: price(documents[name], models[name]) for name in documents}
    steps = [_step(models[a], models[b], radii, shared, impacts) for a, b in pairwise(documents)]
    found: dict[str, Any] = {
        "stages": list(documents),
        "verdict": str(worst(Verdict(step["verdict"]) for step in steps)),
        "falls": _all([step["falls"] for step in steps]),
        "because": "; ".join(step["because"] for step in steps),
        "steps": steps,
        "blast_radius": {
            "faults": list(shared),
            "stages": {name: radii[name].document() for name in documents},
            "ideal": ideal(models.values()),
            "shared": {name: shared_parts(model) for name, model in models.items()},
        },
        "clusters": [row for name in documents for row in lost_clusters(documents[name], models[name])],
        "operations": operations,
        "faults": faults,
        "price": prices,
    }
    for step in steps:
        step["bought"] = bought(found, step)
        step["paid"] = paid(found, step)
    return found


def _step(
    before: Stage,
    after: Stage,
    radii: Mapping[str, Reach],
    shared: tuple[str, ...],
    impacts: Mapping[str, Mapping[str, Impact]],
) -> dict[str, Any]:
    """One step: what the later stage says it changes, what that is in parts, and whether faults reach less far."""
    mine, theirs = impacts.get(before.name, {}), impacts.get(after.name, {})
    pairs = {fault: (mine[fault], theirs[fault]) for fault in shared if fault in mine and fault in theirs}
    changed = diff(before, after, pairs)
    measured = falls(radii[before.name], radii[after.name]) if shared else None
    foreseen = radii[after.name].predicted < radii[before.name].predicted
    promised = {True: Verdict.VALID, False: Verdict.INVALID, None: Verdict.UNKNOWN}[measured]
    verdict = promised if foreseen or not shared else Verdict.VALID
    return {
        "before": before.name,
        "after": after.name,
        "change": after.change,
        "reason": after.reason,
        "sentences": diff(before, after).sentences(),
        "predicted_changes": [asdict(mode) for mode in changed.failure_modes],
        "verdict": str(verdict),
        "falls": measured,
        "predicted_to_fall": foreseen,
        "because": why_falls(before.name, after.name, radii, shared, measured, foreseen),
    }


def _all(found: list[bool | None]) -> bool | None:
    """True if all are, False if one is, else None."""
    return False if False in found else None if None in found else True
