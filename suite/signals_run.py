"""From a stage's deployment to what its run says of every edge: keep the files, then read them.

    <deployment>/traces/   --keep-->   <run>/traces/<stage>/   --documents-->   stages.<name>.{signals,breakers,traces}

A Witness keeps them before the deployment is taken away, which takes its traces along.
"""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from stages.blast_radius import Impact
from stages.history import Record
from stages.model import Stage
from suite.signals import signals_document, windows
from suite.signals_breakers import breakers_document
from suite.signals_clock import Offset, take
from suite.signals_lines import read
from suite.signals_messages import message_signals
from suite.traces import read_steps
from suite.traces_document import traces_document


class Witness:
    """What is needed of a deployment to say afterwards what its edges saw; made when it is up, ended before it goes."""

    def __init__(self, deployment: str, target: Path) -> None:
        """Takes the distance of the clocks.

        `deployment` is the directory of a deployment ('' where it has none), `target` where the run keeps its traces.
        """
        self._traces = Path(deployment) / "traces" if deployment else None
        self.directory = target
        self.offset = take()

    def end(self) -> None:
        """Keep the files, and look at the clocks once more."""
        if self._traces is not None:
            keep(self._traces, self.directory)
        self.offset = self.offset.until(take())

    def documents(self, stage: Stage, impacts: Mapping[str, Impact], records: Sequence[Record]) -> dict[str, Any]:
        """What verdict.json says of the stage, see `documents`; after `end`."""
        return documents(stage, impacts, self.directory, records, self.offset)


def keep(traces: Path, target: Path) -> None:
    """Copy the access logs, outlier events and spans of a deployment, compressed; what is missing is left out."""
    if not traces.is_dir():
        return
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(traces.glob("*.jsonl")):
        with suppress(OSError), path.open("rb") as source, gzip.open(target / f"{path.name}.gz", "wb", 3) as kept:
            shutil.copyfileobj(source, kept)


def documents(
    stage: Stage, impacts: Mapping[str, Impact], traces: Path, records: Sequence[Record], offset: Offset
) -> dict[str, Any]:
    """What verdict.json says of a stage with a mesh: its `signals`, `breakers` and `traces`. {} for any other stage.

    `impacts` is by name of the fault, `records` the stage's part of the history. Never raises for what the files hold.
    """
    if stage.mesh is None:
        return {}
    seen, steps, shown = read(traces), read_steps(traces), windows(records)
    return {
        "signals": signals_document(stage, seen, records, offset)
        | {"messages": message_signals(stage, steps, seen.lines, shown, offset)},
        "breakers": breakers_document(stage, impacts, seen, records, offset),
        "traces": traces_document(stage, steps, seen.lines, shown, offset),
    }
