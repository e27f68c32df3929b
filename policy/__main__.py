"""`pulumi up --policy-pack policy`: the rules of `infra.policy`, asked by the engine.

    engine -- properties, some unknown --> rows --> rule --> what is wrong --> reported, and the update stops

Rules of one resource are asked before it is created, rules of a whole stack once all of it is known. What a preview
cannot judge is told by the policy `not-judged`, as advice. Nothing is decided here: PolicyPack serves until the engine
ends it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pulumi_policy import (
    EnforcementLevel,
    Policy,
    PolicyPack,
    PolicyResource,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)
from pulumi_policy.proxy import UnknownValueError

# The rules need the standard library only, so the repository is on the path and not installed in this environment.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from infra.policy import RULES, UNKNOWN, Row, Rule, Scope, judge, plain


def known(value: Any) -> Any:
    """A copy without the engine's proxies, which raise when something unknown is touched."""
    if isinstance(value, Mapping):
        return {key: _item(value, key) for key in value}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_item(value, number) for number in range(len(value))]
    return value


def _item(container: Any, key: Any) -> Any:
    try:
        return known(container[key])
    except UnknownValueError:
        return UNKNOWN


def row(resource: ResourceValidationArgs | PolicyResource) -> Row:
    """What a rule sees of a resource."""
    inputs = plain(known(resource.props))
    return Row(type=resource.resource_type, name=resource.name, inputs=inputs, urn=resource.urn)


def policy(rule: Rule) -> Policy:
    """A rule as the engine asks it."""

    def of_resource(args: ResourceValidationArgs, report: ReportViolation) -> None:
        _report(rule, [row(args)], report)

    def of_stack(args: StackValidationArgs, report: ReportViolation) -> None:
        _report(rule, [row(r) for r in args.resources], report)

    level = EnforcementLevel.MANDATORY
    if rule.scope is Scope.RESOURCE:
        return ResourceValidationPolicy(rule.name, rule.summary, of_resource, enforcement_level=level)
    return StackValidationPolicy(rule.name, rule.summary, of_stack, enforcement_level=level)


def _report(rule: Rule, rows: list[Row], report: ReportViolation) -> None:
    for finding in judge(rows, [rule]):
        if finding.judged:
            report(str(finding), finding.urn or None)


def not_judged(args: StackValidationArgs, report: ReportViolation) -> None:
    """What no rule could say anything about; an update asks again, with everything known."""
    for finding in judge([row(r) for r in args.resources]):
        if not finding.judged:
            report(str(finding), finding.urn or None)


PolicyPack(
    name="staged-decoupling",
    policies=[
        *(policy(rule) for rule in RULES),
        StackValidationPolicy(
            "not-judged",
            "What a preview does not know is judged by the update.",
            not_judged,
            enforcement_level=EnforcementLevel.ADVISORY,
        ),
    ],
)
