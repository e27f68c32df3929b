"""What is never deployed, whoever wrote the program? Rules over the resources of a stack, and what they say. (pure)

    rows of a stack --> RULES --> findings: rule, resource, what is wrong, what to do

The same functions run in tests, over what programs would create, and in `pulumi up --policy-pack policy`, before
anything is created where one resource is enough. Only the standard library is needed, since a policy pack has an
environment of its own.

A new rule is a function from rows to `Wrong` and `Unjudged`, a line in RULES, and a good and a broken row set in
tests/unit/test_policy.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from infra.policy.encryption import encrypted
from infra.policy.exposure import closed_buckets, private_stores
from infra.policy.mesh import bounded_edges, strict_mtls
from infra.policy.permissions import narrow_permissions
from infra.policy.queues import dead_letter_queues
from infra.policy.rows import UNKNOWN, Finding, Row, Said, Wrong, plain, rows
from infra.policy.tags import owned
from infra.policy.workloads import budgeted, probed

__all__ = ["RULES", "UNKNOWN", "Finding", "Row", "Rule", "Scope", "judge", "plain", "rows"]


class Scope(StrEnum):
    """What a rule has to see at once."""

    RESOURCE = "resource"
    """One resource by itself: judged before it is created."""
    STACK = "stack"
    """All of them: judged once all are known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule, under the name that users see."""

    name: str
    summary: str
    scope: Scope
    check: Callable[[Sequence[Row]], Iterator[Said]]

    def findings(self, all_rows: Sequence[Row]) -> Iterator[Finding]:
        """What the rule has to say about rows, none of it if all is well."""
        for said in self.check(all_rows):
            wrong = isinstance(said, Wrong)
            yield Finding(
                rule=self.name,
                type=said.row.type,
                resource=said.row.name,
                wrong=said.what if isinstance(said, Wrong) else said.because,
                remedy=said.remedy if isinstance(said, Wrong) else "",
                judged=wrong,
                urn=said.row.urn,
            )


RULES = (
    Rule(
        name="encrypted-at-rest",
        summary="What keeps data is encrypted at rest, by a setting of its own.",
        scope=Scope.RESOURCE,
        check=encrypted,
    ),
    Rule(
        name="no-public-data",
        summary="No database, broker, queue or bucket is open to everybody.",
        scope=Scope.RESOURCE,
        check=private_stores,
    ),
    Rule(
        name="closed-buckets",
        summary="Every bucket is encrypted and blocks public access.",
        scope=Scope.STACK,
        check=closed_buckets,
    ),
    Rule(
        name="no-wildcard-permissions",
        summary="No identity may do everything, or something to everything.",
        scope=Scope.RESOURCE,
        check=narrow_permissions,
    ),
    Rule(
        name="dead-letter-queues",
        summary="Every queue has a place for what nobody can handle.",
        scope=Scope.STACK,
        check=dead_letter_queues,
    ),
    Rule(
        name="owner-and-stage",
        summary="Everything that takes tags says whose it is and of which stage.",
        scope=Scope.RESOURCE,
        check=owned,
    ),
    Rule(
        name="probes",
        summary="Every container of a Deployment that takes calls has a readiness and a liveness probe.",
        scope=Scope.RESOURCE,
        check=probed,
    ),
    Rule(
        name="disruption-budgets",
        summary="Every Deployment keeps pods while nodes are drained.",
        scope=Scope.STACK,
        check=budgeted,
    ),
    Rule(
        name="strict-mtls",
        summary="Where a mesh is, nothing is taken in plaintext.",
        scope=Scope.STACK,
        check=strict_mtls,
    ),
    Rule(
        name="bounded-edges",
        summary="Where a mesh is, every call to another system has outlier detection and a timeout.",
        scope=Scope.STACK,
        check=bounded_edges,
    ),
)
"""In the order in which a reader asks."""


def judge(all_rows: Iterable[Row], rules: Sequence[Rule] = RULES) -> tuple[Finding, ...]:
    """Every finding of every rule; those with `judged=False` say what could not be judged, and refuse nothing."""
    seen = tuple(all_rows)
    return tuple(finding for rule in rules for finding in rule.findings(seen))
