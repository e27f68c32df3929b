"""Which step in the life of a fault is an activity of an experiment? Pure: activities in, history records out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from stages.history import FaultStep

Told = tuple[str, FaultStep, str]
"""Fault, step, detail."""

REFUSAL = "not injecting: "
"""How a guard's refusal reads, in a journal as in an exception."""


def fault_of(activity: Mapping[str, Any]) -> str:
    """The name of the fault that an activity is about; '' for one of somebody else's."""
    return str(activity.get("provider", {}).get("arguments", {}).get("name", ""))


def func_of(activity: Mapping[str, Any]) -> str:
    """'inject', 'fault_bites', ... ; '' for an activity that is not of this package."""
    provider = activity.get("provider", {})
    return str(provider.get("func", "")) if str(provider.get("module", "")).startswith("chaos.") else ""


def before(activity: Mapping[str, Any]) -> Told | None:
    """What has to be written before an activity runs."""
    name = fault_of(activity)
    match func_of(activity):
        case "inject":
            fault = activity["provider"]["arguments"].get("fault")
            return name, FaultStep.INTENT, json.dumps(fault, sort_keys=True)
        case "undo":
            return name, FaultStep.UNDOING, ""
    return None


def after(activity: Mapping[str, Any], run: Mapping[str, Any] | None) -> Told | None:
    """What an activity's end means; `run` is its journal entry, None if it was interrupted."""
    name, func = fault_of(activity), func_of(activity)
    succeeded = run is not None and run.get("status") == "succeeded"
    output = (run or {}).get("output") or {}
    match func:
        case "inject" if succeeded and output.get("state") == "dry":
            return name, FaultStep.REFUSED, f"dry run: {output.get('evidence')}"
        case "inject" if succeeded:
            return name, FaultStep.INJECTED, json.dumps(output.get("evidence"), sort_keys=True)
        case "inject" if REFUSAL in (why := what_failed(run)):
            return name, FaultStep.REFUSED, why[why.index(REFUSAL) + len(REFUSAL) :]
        case "fault_bites" if succeeded and output.get("bit"):
            return name, FaultStep.SEEN, str(output.get("seen_by", ""))
        case "fault_bites" if succeeded:
            return name, FaultStep.FAILED, f"it did not bite: {output.get('seen_by')}"
        case "undo" if succeeded:
            return name, FaultStep.UNDONE, str(output.get("state", ""))
        case "inject" | "fault_bites" | "hold" | "undo" if not succeeded:
            return name, FaultStep.FAILED, f"{func}: {what_failed(run)}"
    return None


def ends_the_method(told: Told | None) -> bool:
    """Whether nothing that the method still has to do makes sense: there is no fault to hold."""
    return told is not None and told[1] in {FaultStep.REFUSED, FaultStep.FAILED}


def what_failed(run: Mapping[str, Any] | None) -> str:
    """The last line of an activity's exception, without the names of the classes that carried it.

    >>> what_failed({"exception": ["chaoslib.exceptions.ActivityFailed: chaos.guard.Refused: not injecting: no\\n"]})
    'not injecting: no'
    """
    lines = "".join((run or {}).get("exception") or ["interrupted"]).strip().splitlines()
    words = lines[-1].split(": ")
    while len(words) > 1 and " " not in words[0] and "." in words[0]:
        words.pop(0)
    return ": ".join(words)
