"""Does a service survive a node that is drained, and does its cluster know when it is ill?

A rollout and a drain take pods away on purpose: without a PodDisruptionBudget all at once. A pod without a readiness
probe gets calls before it can answer, one without a liveness probe hangs for ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from infra.policy.rows import UNKNOWN, Row, Said, Unjudged, Wrong, at, items, kubernetes, matches

PROBES = {
    "readinessProbe": "it gets calls before it can answer",
    "livenessProbe": "nobody notices that it hangs",
}


def probed(rows: Sequence[Row]) -> Iterator[Said]:
    """A readiness and a liveness probe for every container that takes calls, and in every Deployment for one at least.

    A container beside it that has no port is asked for none: nobody calls it. Init containers end, and are not asked.
    """
    for row in kubernetes(rows, "Deployment", "apps"):
        containers = items(at(row.inputs, "spec", "template", "spec", "containers"))
        if UNKNOWN in containers:
            yield Unjudged(row, "its containers are not known yet")
            continue
        called = [c for c in containers if at(c, "ports")] or containers[:1]
        for container in called:
            for probe, otherwise in PROBES.items():
                if at(container, probe) is None:
                    name = at(container, "name")
                    yield Wrong(row, f"container {name!r} has no {probe}: {otherwise}", f"add a {probe}")


def budgeted(rows: Sequence[Row]) -> Iterator[Said]:
    """A PodDisruptionBudget that takes the pods of every Deployment, and lets a node be drained."""
    budgets = list(kubernetes(rows, "PodDisruptionBudget", "policy"))
    for row in kubernetes(rows, "Deployment", "apps"):
        labels = at(row.inputs, "spec", "template", "metadata", "labels")
        answers = [_covers(b, row, labels) for b in budgets]
        if True in answers:
            continue
        if None in answers or labels is UNKNOWN:
            yield Unjudged(row, "whether a PodDisruptionBudget takes its pods is not known yet")
        else:
            yield Wrong(
                row,
                "no PodDisruptionBudget takes its pods: draining nodes may stop all of them at once",
                "add one in its namespace whose selector has its pods' labels",
            )
    for budget in budgets:
        if at(budget.inputs, "spec", "maxUnavailable") in (0, "0", "0%"):
            yield Wrong(budget, "it never lets a pod go: no node can be drained", "set maxUnavailable to 1 or more")


def _covers(budget: Row, deployment: Row, labels: object) -> bool | None:
    """None where it cannot be told."""
    if UNKNOWN in (budget.namespace, deployment.namespace):
        return None
    if budget.namespace != deployment.namespace:
        return False
    selector = at(budget.inputs, "spec", "selector")
    # policy/v1: an empty selector takes every pod of the namespace, a missing one takes none
    return False if selector is None else matches(selector, labels)
