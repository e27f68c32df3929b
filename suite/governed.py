"""How are owners, error budgets and the measured policy written in verdict.json? Pure.

`governed_schema.json` is the contract.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stages.check import PolicyCell, PolicyTry, policy_as_modelled, policy_cells
from stages.governance import Budget, Governed, Objective
from stages.model import Stage


def governed_document(found: Governed) -> dict[str, Any]:
    """A system, its owner and what the owner answers for; budgets only where a run was seen."""
    budgets = {b.objective.name: b for b in found.budgets}
    return {
        "system": found.system,
        "owner": found.owner,
        "cluster": found.cluster,
        "network": found.network,
        "services": list(found.services),
        "objectives": [_objective(o, budgets.get(o.name)) for o in found.objectives],
    }


def _objective(objective: Objective, budget: Budget | None) -> dict[str, Any]:
    return {
        "name": objective.name,
        "operation": objective.operation,
        "kind": "completion" if objective.completion else "answer",
        "within_ms": objective.within_ms,
        "share": objective.share,
        "budget": _budget(budget) if budget is not None else None,
    }


def _budget(budget: Budget) -> dict[str, Any]:
    return {
        "n": budget.n,
        "bad": budget.bad,
        "allowed": round(budget.allowed, 2),
        "spent": None if budget.spent is None else round(budget.spent, 4),
        "by_fault": [{"fault": s.fault, "n": s.n, "bad": s.bad} for s in budget.by_fault],
    }


def policy_document(stage: Stage, tries: Sequence[PolicyTry] | None, why_not: str) -> dict[str, Any] | None:
    """The measured matrix beside the model's; None for a stage without a mesh."""
    if stage.mesh is None:
        return None
    judged = policy_as_modelled(stage, tries, why_not)
    return {
        "verdict": str(judged.verdict),
        "because": judged.because,
        "services": [s.name for s in stage.services],
        "cells": [_cell(c) for c in policy_cells(stage, tries or ())],
    }


def _cell(cell: PolicyCell) -> dict[str, Any]:
    return {
        "caller": cell.caller,
        "callee": cell.callee,
        "credential": str(cell.credential),
        "shown": cell.shown,
        "expected": "allowed" if cell.expected else "denied",
        "measured": {True: "allowed", False: "denied", None: "unknown"}[cell.measured],
        "verdict": str(cell.verdict),
        "answer": cell.answer,
    }
