"""Who writes down what happens to a fault: a Chaos Toolkit control around every activity.

The intent is on disk before the act; if it cannot be written, or the act was refused, the method ends
there and the rollbacks are played. (An exception of any other kind is swallowed by Chaos Toolkit.)
"""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chaoslib.exceptions import InterruptExecution, InvalidControl

from chaos import steps, target
from chaos.guard import Refused
from stages.history import FaultEvent, FaultStep, dump

HISTORY = "faults.jsonl"
"""Name of the history in the deployment's directory, for those who ask for no other."""


def before_activity_control(
    context: Mapping[str, Any], configuration: Mapping[str, Any] | None = None, **_: Any
) -> None:
    """Called by Chaos Toolkit before each activity; raise InterruptExecution if an intent cannot be written."""
    told = steps.before(context)
    if told is None:
        return
    try:
        append(history_of(configuration or {}), told)
    except (OSError, Refused) as error:
        if told[1] is FaultStep.INTENT:
            raise InterruptExecution(f"{steps.REFUSAL}the intent cannot be written: {error}") from error


def after_activity_control(
    context: Mapping[str, Any],
    state: Mapping[str, Any] | None = None,
    configuration: Mapping[str, Any] | None = None,
    **_: Any,
) -> None:
    """Called by Chaos Toolkit after each activity; raise InterruptExecution if there is no fault to go on with."""
    told = steps.after(context, state)
    if told is None:
        return
    try:
        append(history_of(configuration or {}), told)
    finally:
        # Without a state the activity was cut short by an interrupt, which is on its way already.
        if state is not None and steps.func_of(context) != "undo" and steps.ends_the_method(told):
            raise InterruptExecution(f"{told[0]} is {told[1]}: {told[2]}")


def append(path: Path, told: steps.Told) -> None:
    """Write one FaultEvent with the present time, or raise OSError.

    It survives the death of this process. Not that of the machine, whose faults die with it: no fsync, which
    may wait for seconds on a busy disk.
    """
    fault, step, detail = told
    line = dump(FaultEvent(fault=fault, step=step, at_ns=time.monotonic_ns(), detail=detail)) + "\n"
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def history_of(configuration: Mapping[str, Any]) -> Path:
    """Where the events go: configuration `history`, else a file beside the deployment's record."""
    if given := configuration.get("history"):
        return Path(given)
    return target.find(str(configuration.get("deployment", "")), target.home(configuration)).with_name(HISTORY)


def validate_control(control: Mapping[str, Any]) -> None:
    """Called by `chaos validate`; this control takes no arguments."""
    if arguments := control.get("provider", {}).get("arguments"):
        raise InvalidControl(f"chaos.controls takes no arguments, got {json.dumps(arguments)}")
